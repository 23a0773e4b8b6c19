"""Host-side inputs of the network: time features, masks over channels, the task, and what an absent condition is."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from choreo_cli.errors import UsageError
from choreo_cli.generate.config import CHANNELS, EXTRA_GUIDANCE, EXTRA_STEP, EXTRA_WIDTH, GROUPS, TASKS

F32 = NDArray[np.float32]
THETA = 1e4
TIME_SCALE = 1000.0
GUIDANCE_UNIT = 4.0


def time_features(t: ArrayLike, width: int) -> F32:
    """Sines and cosines of 1000 t over width / 2 frequencies from 1 to 1e-4: (B,) -> (B, width), float32."""
    half = width // 2
    rate = np.exp(-math.log(THETA) * np.arange(half) / half)
    angle = TIME_SCALE * np.atleast_1d(np.asarray(t, np.float64))[:, None] * rate
    return np.concatenate([np.cos(angle), np.sin(angle)], -1).astype(np.float32)


def channel_mask(mask: NDArray[Any]) -> NDArray[np.bool_]:
    """Mask columns (..., 7) as one flag a channel (..., 25)."""
    out = np.zeros((*mask.shape[:-1], CHANNELS), bool)
    for k, (_, part) in enumerate(GROUPS):
        out[..., part] = mask[..., k : k + 1] > 0.5
    return out


def task_vector(task: str, rows: int) -> F32:
    """One-hot (rows, 6) of a task. Raises UsageError for an unknown one."""
    name = task.upper()
    if name not in TASKS:
        raise UsageError(f"no task {task!r}", hint=f"choose from {', '.join(t.lower() for t in TASKS)}")
    return np.repeat(np.eye(len(TASKS), dtype=np.float32)[TASKS.index(name)][None], rows, 0)


def extra_vector(rows: int, *, guidance: float | None = None, step: float | None = None) -> F32:
    """(rows, 32): guidance weight over 4 and step size for models that were trained with them, else zeros."""
    out = np.zeros((rows, EXTRA_WIDTH), np.float32)
    out[:, EXTRA_GUIDANCE] = 0.0 if guidance is None else guidance / GUIDANCE_UNIT
    out[:, EXTRA_STEP] = 0.0 if step is None else step
    return out
