"""The part of a configuration that every recipe shares; a recipe's own struct extends it."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

Positive = Annotated[int, Meta(ge=1)]
Count = Annotated[int, Meta(ge=0)]
Rate = Annotated[float, Meta(gt=0, le=10)]
Share = Annotated[float, Meta(ge=0, le=1)]


class TrainConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a recipe is trained. Every field may be set with `--set name=value` or in `--config FILE`.

    Args:
        epochs: Passes over the training items.
        steps: Most optimiser steps, 0 for as many as the epochs take.
        batch: Items per step, over all processes.
        lr: Learning rate of Adam.
        warmup: Steps over which the rate rises from zero.
        decay: Whether the rate falls to a tenth along a cosine.
        clip: Largest gradient norm, 0 for none.
        weight_decay: Of AdamW (Loshchilov and Hutter, ICLR 2019), decoupled from the gradient; 0 for Adam.
        beta2: Decay of Adam's mean of squared gradients.
        ema: Decay of the moving average of the weights that is kept, 0 for none.
        patience: Validations without improvement before training ends early, 0 for never.
        validate_every: Epochs between validations.
        checkpoint_s: Seconds between checkpoints.
        checkpoint_epochs: Epochs after which there is one in any case, 0 for none.
        accumulate: Parts that a process takes its items of a step in, one after the other, to need less memory.
        bf16: Compute the network in bfloat16 (autocast); weights, moments and averages stay float32.
        threads: CPU threads of the network's arithmetic; results are bit-identical for one value.
    """

    epochs: Positive = 5
    steps: Count = 0
    batch: Positive = 256
    lr: Rate = 1e-3
    warmup: Count = 0
    decay: bool = False
    clip: Annotated[float, Meta(ge=0)] = 0.0
    weight_decay: Share = 0.0
    beta2: Annotated[float, Meta(ge=0, lt=1)] = 0.999
    ema: Share = 0.0
    patience: Count = 0
    validate_every: Positive = 1
    checkpoint_s: Annotated[float, Meta(gt=0)] = 60.0
    checkpoint_epochs: Count = 0
    accumulate: Positive = 1
    bf16: bool = False
    threads: Annotated[int, Meta(ge=1, le=256)] = 1
