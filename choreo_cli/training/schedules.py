"""Functions of the step: the learning rate, and which steps are written down."""

from __future__ import annotations

import math
from collections.abc import Callable

from choreo_cli.training.config import TrainConfig

RECORDS = 2000
FLOOR = 0.1


def learning_rate(config: TrainConfig, total: int) -> Callable[[int], float]:
    """Rate of step 0, 1...: rises in equal parts over `warmup` steps, then stays, or falls to a tenth along a cosine.

    The cosine is that of Loshchilov and Hutter, "SGDR", ICLR 2017, without restarts; it ends on the last step.
    """
    rise, fall = config.warmup, max(1, total - 1 - config.warmup)

    def rate(step: int) -> float:
        up = min(1.0, (step + 1) / (rise + 1))
        along = min(1.0, max(0, step - rise) / fall) if config.decay else 0.0
        return config.lr * up * (FLOOR + (1 - FLOOR) * (1 + math.cos(math.pi * along)) / 2)

    return rate


def is_logged(total: int) -> Callable[[int], bool]:
    """Whether a finished step (1, 2...) is written to the log: the first, the last, and at most 2000 between."""
    every = -(-total // RECORDS)
    return lambda step: step % every == 0 or step in (1, total)
