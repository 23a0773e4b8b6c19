"""How a branch of the trajectory lab is trained: the settings of `choreo train video`, read without loading torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from choreo_cli.training.config import Count, Positive, Share, TrainConfig

READS = ("choreo.trajectories",)
Weight = Annotated[float, Meta(ge=0, le=1000)]


class VideoConfig(TrainConfig, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a branch is trained.

    Args:
        encoder: What sees: `moments` (branch 0), `i3d`, `slowfast`, `dualpath`, `strided`.
        width, grid: Of the encoder, 0 for its own; `grid` 1 is the global pool that forgets position.
        stem: Stride in the image of the first layer of `i3d` and `dualpath`; the other encoders have a stride of 2.
        compress: Heads read the reconstruction of an autoencoder.
        text: Draws features to the class's text embedding: `none`, `hash`, or the folder of a CLIP text model.
        camera: The forecast also reads the camera's K, R and t.
        looks: `plan` takes the 180 views of each curve, `free` new views from the continuous range of cameras.
        pool: With `moments`: views of each curve that are measured before training begins.
        smoothing: Label smoothing.
        forecast, shown, places, rebuild, align: Weights of the losses beside the cross entropy; `places` is where each
            frame's dot is in the image, and how large, for encoders that tell.
        beta: Where smooth L1 turns linear, world units.
        branch: Name of the branch, for reports.
    """

    epochs: Positive = 30
    batch: Positive = 16
    lr: Annotated[float, Meta(gt=0, le=10)] = 1e-3
    decay: bool = True
    weight_decay: Share = 0.01
    warmup: Annotated[int, Meta(ge=0)] = 60
    checkpoint_epochs: Count = 5
    encoder: Literal["moments", "i3d", "slowfast", "dualpath", "strided"] = "strided"
    width: Annotated[int, Meta(ge=0, le=512)] = 0
    grid: Annotated[int, Meta(ge=0, le=16)] = 0
    stem: Annotated[int, Meta(ge=1, le=4)] = 1
    compress: bool = False
    text: str = "none"
    camera: bool = False
    looks: Literal["plan", "free"] = "free"
    pool: Positive = 32
    smoothing: Annotated[float, Meta(ge=0, lt=1)] = 0.05
    forecast: Weight = 4.0
    shown: Weight = 1.0
    places: Weight = 1.0
    rebuild: Weight = 0.1
    align: Weight = 0.1
    beta: Annotated[float, Meta(gt=0, le=10)] = 0.1
    branch: str = ""


def changed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those of some settings that the recipe has, with another value."""
    usual = msgspec.to_builtins(VideoConfig())
    return {k: v for k, v in settings.items() if k in usual and v != usual[k]}
