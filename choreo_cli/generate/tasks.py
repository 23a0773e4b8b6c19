"""Tasks by mask: which channels of which frames are given. GEN knows nothing, PREDICT a start, INBETWEEN the rest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import UsageError
from choreo_cli.generate.config import GROUPS, PREDICT_FRAMES, ROOT_GROUP, TASKS

F32 = NDArray[np.float32]
LONGEST_START = 24
LONGEST_END = 16
MOST_KEYFRAMES = 6


def gen_mask(frames: int) -> F32:
    """(T, 7) zeros: nothing is given."""
    return np.zeros((frames, len(GROUPS)), np.float32)


def predict_mask(frames: int, prefix: int = PREDICT_FRAMES) -> F32:
    """(T, 7): the first frames are given.

    Raises:
        UsageError: no frames of a prefix, or none left to predict.
    """
    if not 1 <= prefix < frames:
        raise UsageError(f"a prefix of {prefix} of {frames} frames", hint=f"1 to {frames - 1}")
    mask = gen_mask(frames)
    mask[:prefix] = 1.0
    return mask


def inbetween_mask(frames: int, given: Sequence[int], *, root: bool = True) -> F32:
    """(T, 7): some frames are given.

    Args:
        frames: T.
        given: Frame numbers.
        root: Their speeds and height too; a pose alone has none.

    Raises:
        UsageError: no frames, or one outside the window.
    """
    rows = sorted({int(k) for k in given})
    if not rows or rows[0] < 0 or rows[-1] >= frames:
        raise UsageError(f"keyframes {rows} of a window of {frames}", hint=f"numbers from 0 to {frames - 1}")
    mask = gen_mask(frames)
    mask[rows] = 1.0
    if not root:
        mask[:, ROOT_GROUP] = 0.0
    return mask


def draw_tasks(
    rng: np.random.Generator, rows: int, frames: int, inbetween: float, predict: float
) -> tuple[F32, F32, NDArray[np.bool_]]:
    """Draw a task for each row of a batch.

    PREDICT gives 16 frames half of the time, else 4 to 24. INBETWEEN gives 1 to 16 frames at both ends, or 2 to 6
    single frames, every second time without the root. Windows shorter than 64 frames give proportionally less.

    Args:
        rng: Source of every draw; a row takes the same number of draws whatever it becomes.
        rows: B.
        frames: T.
        inbetween, predict: Shares; the rest is GEN.

    Returns:
        Masks (B, T, 7), one-hot tasks (B, 6), and which rows know nothing (B,).
    """
    masks, tasks = np.zeros((rows, frames, len(GROUPS)), np.float32), np.zeros((rows, len(TASKS)), np.float32)
    draws = rng.random((rows, 5 + MOST_KEYFRAMES))
    for k, u in enumerate(draws):
        name = "INBETWEEN" if u[0] < inbetween else "PREDICT" if u[0] < inbetween + predict else "GEN"
        tasks[k, TASKS.index(name)] = 1.0
        if name == "PREDICT":
            masks[k, : _start(u, frames)] = 1.0
        elif name == "INBETWEEN":
            masks[k] = _between(u, frames)
    return masks, tasks, np.asarray(~masks.any((1, 2)), bool)


def _start(u: NDArray[np.float64], frames: int) -> int:
    usual = PREDICT_FRAMES if u[1] < 0.5 else 4 + int(u[2] * (LONGEST_START - 3))
    return max(1, min(usual * frames // 64 if frames < 64 else usual, frames - 1))


def _between(u: NDArray[np.float64], frames: int) -> F32:
    if u[1] < 0.5:
        most = max(1, min(LONGEST_END, frames // 4))
        first, last = 1 + int(u[2] * most), 1 + int(u[3] * most)
        return inbetween_mask(frames, [*range(first), *range(frames - last, frames)])
    count = 2 + int(u[2] * (MOST_KEYFRAMES - 1))
    return inbetween_mask(frames, (u[5 : 5 + count] * frames).astype(int).tolist(), root=bool(u[3] < 0.5))
