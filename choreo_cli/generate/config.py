"""What a motion network is made of, and how it is trained: sizes, widths of its inputs, settings of the recipes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from choreo_cli.training.config import Count, Positive, Rate, Share, TrainConfig

# A card comes from anywhere: no network of a million blocks is begun.
Bounded = Annotated[int, Meta(ge=1, le=4096)]
Weight = Annotated[float, Meta(ge=0)]

CHANNELS = 25
FRAMES = 64
FPS = 30.0
AUDIO_WIDTH = 35
TEXT_WIDTH = 384
# The conditioning vector beside time, text and task: two numbers for distilled models, the rest free (style).
EXTRA_WIDTH = 32
EXTRA_GUIDANCE = 0  # guidance weight that was baked in, over 4
EXTRA_STEP = 1  # step size, 0 for the velocity itself
# Order of the one-hot task; GEN, INBETWEEN and PREDICT are trained, the others have their place.
TASKS = ("GEN", "EDIT", "INBETWEEN", "STYLE", "PREDICT", "COMPLETE")
CONTACTS = slice(4, 6)
# Channels that a mask column covers, in the order of the columns.
GROUPS: tuple[tuple[str, slice], ...] = (
    ("root", slice(0, 4)), ("contacts", CONTACTS), ("torso", slice(6, 11)), ("left arm", slice(11, 15)),
    ("right arm", slice(15, 19)), ("left leg", slice(19, 22)), ("right leg", slice(22, 25)),
)  # fmt: skip
ROOT_GROUP = 0
PREDICT_FRAMES = 16
SOLVERS = ("euler", "midpoint", "heun2", "heun3", "rk4", "ab2")


@dataclass(frozen=True, slots=True)
class Size:
    """Explicit scalars of a network.

    Args:
        blocks: Transformer blocks.
        width: Numbers a token has.
        heads: Attention heads; width / heads is the width of one and must be even.
    """

    blocks: int
    width: int
    heads: int


TINY = Size(blocks=4, width=128, heads=4)
FULL = Size(blocks=8, width=256, heads=8)
SIZES: dict[str, Size] = {"tiny": TINY, "full": FULL}


class Shape(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything a network is built from; the `arch` of its checkpoint.

    Args:
        blocks, width, heads: See `Size`.
        frames: Frames of a window, the most it takes.
        audio_width: Audio features a frame, 0 or more; 0 listens to nothing.
        text_width: Numbers of a text.
        tasks: Width of the one-hot task.
        groups: Mask columns.
    """

    blocks: Bounded
    width: Bounded
    heads: Bounded
    frames: Bounded = FRAMES
    audio_width: Annotated[int, Meta(ge=0, le=4096)] = AUDIO_WIDTH
    text_width: Annotated[int, Meta(ge=0, le=4096)] = TEXT_WIDTH
    tasks: Bounded = len(TASKS)
    groups: Bounded = len(GROUPS)

    @property
    def size(self) -> Size:
        return Size(self.blocks, self.width, self.heads)


class DanceConfig(TrainConfig, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What training and distilling a motion network share.

    A run tells its settings in the order of the fields, and a base's fields come first: what stands further back in
    that order is a field of each subclass, of the same meaning.

    Args:
        batch: On 512 synthetic dances, Tiny, 27 minutes of one core: 32 with a rate of .002 end at a held-out error of
            .109, 64 with .001 at .131.
        size: `tiny` (4 blocks of 128) or `full` (8 of 256).
    """

    batch: Positive = 32
    decay: bool = True
    clip: Annotated[float, Meta(ge=0)] = 1.0
    beta2: Annotated[float, Meta(ge=0, lt=1)] = 0.99
    size: Literal["tiny", "full"] = "tiny"


def check_shares(**shares: float) -> None:
    """Raise ValueError, with their names, when shares of one whole are more than it."""
    *names, last = shares
    if math.fsum(shares.values()) > 1:  # a plain sum of tenths may round to more
        raise ValueError(f"{', '.join(names)} and {last} together are more than 1")


class MotionConfig(DanceConfig, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What both recipes of the motion network share.

    Args:
        frames: Frames of a window.
        stride: Frames between windows.
        fps: Frame rate the clips are brought to.
        audio: Listen to the music; without it dances are unconditional.
        mirror: Learn the mirror image of every window too, in half of the epochs.
        inbetween, predict: Shares of the batch that are given frames and fill the rest; what is left is GEN.
        drop_audio, drop_text, drop_both: How often a condition is withheld, so that guidance has something to compare.
        position, velocity, contact: Weights of the structure terms: joint positions (1/m^2), joint velocities
            (s^2/m^2) and ankle speed in contact (s^2/m^2). Against weights of 1, .05, .1 ankles slide a fifth less at
            the same jerk; twice these slide a tenth less again, and jerk grows by a third.
        structure_clips: Clips of a batch that are decoded for the structure terms, 0 for all.
        val_windows: Validation windows that are judged, at most.
    """

    lr: Rate = 2e-3
    warmup: Count = 200
    weight_decay: Share = 0.02
    ema: Share = 0.999
    frames: Annotated[int, Meta(ge=8, le=1024)] = FRAMES
    stride: Positive = 16
    fps: Annotated[float, Meta(gt=0, le=1000)] = FPS
    audio: bool = True
    mirror: bool = True
    inbetween: Share = 0.2
    predict: Share = 0.2
    drop_audio: Share = 0.1
    drop_text: Share = 0.1
    drop_both: Share = 0.1
    position: Weight = 50.0
    velocity: Weight = 1.0
    contact: Weight = 1.0
    structure_clips: Count = 16
    val_windows: Positive = 256

    def __post_init__(self) -> None:
        check_shares(inbetween=self.inbetween, predict=self.predict)
        check_shares(drop_audio=self.drop_audio, drop_text=self.drop_text, drop_both=self.drop_both)
