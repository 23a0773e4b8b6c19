"""What the three ways of distilling are set with; each is a frozen struct as `--set` and `--config` take it."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from choreo_cli.generate.config import DanceConfig, Weight, check_shares
from choreo_cli.generate.guidance import MOST_WEIGHT
from choreo_cli.training.config import Count, Positive, Rate, Share

METHODS: dict[str, tuple[str, str]] = {
    "consistency": (
        "choreo_cli.generate.consistency_recipe_torch", "every point of the teacher's way leads to its end",
    ),
    "regression": (
        "choreo_cli.generate.regression_recipe_torch", "stored pairs of noise and what the teacher makes of it",
    ),
    "shortcut": (
        "choreo_cli.generate.shortcut_recipe_torch", "one step of a size does what two of half the size do",
    ),
}  # fmt: skip
"""Method -> module and one line."""
STEPS = (1, 2, 4)  # what a student is judged at
LADDER = (2, 4, 8, 16, 32, 64, 128)


class DistillConfig(DanceConfig, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the three methods share. The size is the student's; frames, rate and audio features are the teacher's.

    Args:
        start: `teacher`: begin with its weights where the sizes agree; `fresh`: never.
        guidance: Weight of the music that is built in, 0 for the teacher's own.
        teacher_steps: Steps of the teacher's samples that are learned or compared with, 0 for its own.
        steps_used: What the checkpoint is sampled with unless it is said otherwise; 1, 2 and 4 are learned.
        stride: Frames between windows.
        mirror: Use the mirror image of every window too.
        inbetween, predict: Shares of the batch that are given frames and fill the rest; what is left is GEN.
        drop_audio: How often the music is withheld, so that the student can dance without it too.
        position, velocity, contact: Weights of the structure terms, as in `choreo train flow`.
        structure_clips: Clips of a batch that are decoded for the structure terms, 0 for all.
        val_windows: Held-out windows on which the student is compared with its teacher, at most.
    """

    epochs: Positive = 20
    lr: Rate = 1e-3
    warmup: Count = 50
    ema: Share = 0.99
    start: Literal["teacher", "fresh"] = "teacher"
    guidance: Annotated[float, Meta(ge=0, le=MOST_WEIGHT)] = 0.0
    teacher_steps: Annotated[int, Meta(ge=0, le=1000)] = 0
    steps_used: Annotated[int, Meta(ge=1, le=128)] = 1
    stride: Positive = 16
    mirror: bool = True
    inbetween: Share = 0.2
    predict: Share = 0.2
    drop_audio: Share = 0.1
    position: Weight = 50.0
    velocity: Weight = 1.0
    contact: Weight = 1.0
    structure_clips: Count = 16
    val_windows: Positive = 64

    def __post_init__(self) -> None:
        check_shares(inbetween=self.inbetween, predict=self.predict)


class ConsistencyConfig(DistillConfig, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of consistency distillation.

    Args:
        points: Points of the teacher's way between noise and data; one step of the teacher leads from each to the next.
            0 takes as many as its samples have steps, at most 10: on procedural dances 4 for a flow of 4 steps brought
            one step from .110 to .062 in 80 batches of 16, where 10 needed 250 batches of 32 for .073.
        huber: Where the pseudo-Huber distance turns from square to straight.
        target: Decay of the moving average that gives the targets; 0 takes the student as it is.
        anchored: Share of each batch that starts from pure noise, which is where one step is taken from.
    """

    points: Annotated[int, Meta(ge=0, le=1000)] = 0
    huber: Annotated[float, Meta(gt=0, le=100)] = 0.5
    target: Annotated[float, Meta(ge=0, lt=1)] = 0.95
    anchored: Share = 0.25


class RegressionConfig(DistillConfig, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of regression on the teacher's samples.

    Args:
        pairs: Samples of the teacher that are stored, 13 KB each at 64 frames.
        own: Share of the later points that are mixed from what the student itself made of the noise.
        noise_share: Share of each batch at pure noise; the rest is at the points of 2 and 4 steps.
    """

    pairs: Annotated[int, Meta(ge=1, le=10_000_000)] = 8192
    own: Share = 0.5
    noise_share: Share = 0.5


class ShortcutConfig(DistillConfig, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of shortcut distillation.

    Args:
        ladder: The smallest step is one over this; a power of two.
        bootstrap: Share of each batch that learns a step from two of half its size; the rest learns the teacher.
        target: Decay of the moving average that takes the two half steps; 0 takes the student as it is.
    """

    ladder: Literal[2, 4, 8, 16, 32, 64, 128] = 128
    bootstrap: Share = 0.125
    target: Annotated[float, Meta(ge=0, lt=1)] = 0.95


CONFIGS: dict[str, type[msgspec.Struct]] = {
    "consistency": ConsistencyConfig, "regression": RegressionConfig, "shortcut": ShortcutConfig,
}  # fmt: skip
