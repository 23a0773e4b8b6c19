"""A dance while it is made: each window continues the last frames of the one before, and is handed on at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import UsageError
from choreo_cli.generate.config import CHANNELS, FRAMES, GROUPS, PREDICT_FRAMES
from choreo_cli.generate.given import guess_task
from choreo_cli.generate.sampling import Sampler

F32 = NDArray[np.float32]
Bool = NDArray[np.bool_]
# A window (W, 25) and which of its values must stay (W, 25) -> the window as it is handed on.
Finish = Callable[[F32, Bool], F32]


def chain(
    sampler: Sampler,
    audio: NDArray[Any] | None,
    row: tuple[int, ...],
    *,
    frames: int | None = None,
    known: NDArray[Any] | None = None,
    mask: NDArray[Any] | None = None,
    prefix: int | None = None,
    finish: Finish | None = None,
    **how: Any,
) -> Iterator[F32]:
    """Yield a dance piece by piece; a piece is drawn when it is asked for, and needs no later one.

    Args:
        sampler: A model that has learned PREDICT.
        audio: (T, A) raw features, or None for `frames` frames without music.
        row: Numbers that the noise follows from; window k adds its number.
        frames: T without music.
        known, mask: (T, 25), (T, 7) frames that are given.
        prefix: Frames of the last window that the next one is given; a quarter of a window unless it is said otherwise.
        finish: What is done to a window before it is handed on and continued.
        how: `steps`, `solver`, `cfg` of `Sampler.dance`.

    Yields:
        (n, 25) float32 raw channels: the first window, then what each next one adds.

    Raises:
        UsageError: a prefix that leaves nothing to add, or no frames. What `Sampler.dance` raises.
    """
    window = sampler.frames
    prefix = max(1, PREDICT_FRAMES * window // FRAMES) if prefix is None else prefix
    if not 1 <= prefix < window:
        raise UsageError(f"a prefix of {prefix} frames in windows of {window}", hint=f"1 to {window - 1}")
    total = len(audio) if audio is not None else int(frames or 0)
    if total < 1:
        raise UsageError(f"a dance of {total} frames", hint="at least one is needed")
    start, tail, number = 0, np.empty((0, CHANNELS), np.float32), 0
    while start + len(tail) < total:
        span = slice(start, min(start + window, total))
        n, fixed = span.stop - span.start, len(tail)
        values, flags = _given(known, mask, span, n, tail)
        asked: dict[str, Any] = {"known": values, "mask": flags} if flags.any() else {}
        task = guess_task(flags[None]) if flags.any() else "gen"
        music = None if audio is None else np.asarray(audio)[span]
        made = sampler.dance(
            music, [(*row, number)], frames=n, task="inbetween" if task == "complete" else task, **asked, **how
        )[0]
        if finish is not None:
            made = finish(made, _kept(flags))
        yield made[fixed:]
        start, tail, number = span.stop - min(prefix, n), made[-prefix:], number + 1


def _given(known: NDArray[Any] | None, mask: NDArray[Any] | None, span: slice, n: int, tail: F32) -> tuple[F32, F32]:
    """Known values and mask columns of a window: those of the dance, and the frames it begins with."""
    values, flags = np.zeros((n, CHANNELS), np.float32), np.zeros((n, len(GROUPS)), np.float32)
    if known is not None and mask is not None:
        values[:], flags[:] = known[span], mask[span]
    values[: len(tail)], flags[: len(tail)] = tail, 1.0
    return values, flags


def _kept(flags: F32) -> Bool:
    from choreo_cli.generate.conditioning import channel_mask

    return channel_mask(flags)
