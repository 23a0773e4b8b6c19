"""A dance while it is made: each window continues the last frames of the one before, and is handed on at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.dataset.motions_stats import SWIVELS, wrapped
from choreo_cli.errors import UsageError
from choreo_cli.generate.conditioning import channel_mask
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
    fade: int | None = None,
    finish: Finish | None = None,
    **how: Any,
) -> Iterator[F32]:
    """Yield a dance piece by piece; a piece is drawn when it is asked for, and needs no later one.

    A window is given the last frames that were handed on. Its own first frames are faded in over the last ones that
    the window before it had drawn: those are held back until then.

    Args:
        sampler: A model that has learned PREDICT.
        audio: (T, A) raw features, or None for `frames` frames without music.
        row: Numbers that the noise follows from; window k adds its number.
        frames: T without music.
        known, mask: (T, 25), (T, 7) frames that are given.
        prefix: Frames of the last window that the next one is given; a quarter of a window unless it is said otherwise.
        fade: Frames that a window holds back for the next one; an eighth of it unless it is said otherwise.
        finish: What is done to a window before it is handed on and continued.
        how: `steps`, `solver`, `cfg` of `Sampler.dance`.

    Yields:
        (n, 25) float32 raw channels: the first window, then what each next one adds.

    Raises:
        UsageError: a prefix and a fade that leave nothing to add, or no frames. What `Sampler.dance` raises.
    """
    window = sampler.frames
    prefix = max(1, PREDICT_FRAMES * window // FRAMES) if prefix is None else prefix
    fade = window // 8 if fade is None else fade
    if prefix < 1 or fade < 0 or prefix + fade >= window:
        raise UsageError(f"a prefix of {prefix} and a fade of {fade} frames in windows of {window}")
    total = len(audio) if audio is not None else int(frames or 0)
    if total < 1:
        raise UsageError(f"a dance of {total} frames", hint="at least one is needed")
    done, tail, held, number = 0, np.empty((0, CHANNELS), np.float32), np.empty((0, CHANNELS), np.float32), 0
    while done < total:
        start = done - len(tail)
        span = slice(start, min(start + window, total))
        n, fixed = span.stop - start, len(tail)
        values, flags = _given(known, mask, span, n, tail)
        asked: dict[str, Any] = {"known": values, "mask": flags} if flags.any() else {}
        task = guess_task(flags[None]) if flags.any() else "gen"
        music = None if audio is None else np.asarray(audio)[span]
        made = sampler.dance(
            music, [(*row, number)], frames=n, task="inbetween" if task == "complete" else task, **asked, **how
        )[0]
        given = channel_mask(flags)
        faded = slice(fixed, fixed + len(held))
        made[faded] = np.where(given[faded], made[faded], _mixed(held, made[faded]))
        if finish is not None:
            made = finish(made, given)
        last = n if span.stop == total else n - fade
        yield made[fixed:last]
        tail, held, number = made[max(0, last - prefix) : last], made[last:], number + 1
        done = start + last


def _mixed(before: F32, after: F32) -> F32:
    """Frames (N, 25) that go from what one window drew to what the next one does; swivels the shorter way."""
    s = (np.arange(len(before), dtype=np.float32)[:, None] + 1) / (len(before) + 1)
    away = after - before
    away[:, SWIVELS] = wrapped(away[:, SWIVELS])
    out = before + s * s * (3 - 2 * s) * away
    out[:, SWIVELS] = wrapped(out[:, SWIVELS])
    return np.asarray(out, np.float32)


def _given(known: NDArray[Any] | None, mask: NDArray[Any] | None, span: slice, n: int, tail: F32) -> tuple[F32, F32]:
    """Known values and mask columns of a window: those of the dance, and the frames it begins with."""
    values, flags = np.zeros((n, CHANNELS), np.float32), np.zeros((n, len(GROUPS)), np.float32)
    if known is not None and mask is not None:
        values[:], flags[:] = known[span], mask[span]
    values[: len(tail)], flags[: len(tail)] = tail, 1.0
    return values, flags
