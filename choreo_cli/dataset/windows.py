"""Windows of pose dynamics as indices into a time-sorted row store, mapped to windows of audio features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from choreo_cli.errors import DataError, UsageError

STEP_US = 20_000
LENGTH = 64
STRIDE = 16
MIN_VALID = 0.5
_BLOCK = 1 << 20  # rows looked at in one go

I64 = NDArray[np.int64]
I32 = NDArray[np.int32]
F32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class AudioGrid:
    """Times of audio features: frame k lies at k * hop / sr seconds on the music clock, k < n_frames."""

    sr: int
    hop: int
    n_frames: int


def first_frame(t_us: ArrayLike, sr: ArrayLike, hop: ArrayLike, n_frames: ArrayLike) -> I64:
    """Index of the first audio frame at or after each time, clipped into [0, n_frames]; exact in integers."""
    t, rate = np.asarray(t_us, np.int64), np.asarray(sr, np.int64)
    period = np.asarray(hop, np.int64) * 1_000_000
    # k >= t * sr / (hop * 1e6). Whole multiples are split off first: t * sr may not fit 64 bits.
    whole, rest = np.divmod(t, period)
    return np.clip(whole * rate - (-rest * rate // period), 0, n_frames)


@dataclass(frozen=True, slots=True)
class Stretch:
    """Rows of one pair in the frame table, and the features of its music when there are any."""

    pair_id: str
    row_start: int
    rows: int
    audio: AudioGrid | None = None


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows as parallel columns; `pair` is an index into the stretches they were cut from."""

    pair: I32
    row_start: I64
    len: I32
    stride: I32
    audio_start: I64
    audio_len: I32
    valid_fraction: F32

    def __len__(self) -> int:
        return int(self.row_start.shape[0])

    def columns(self, pair_ids: Sequence[str], splits: Sequence[str]) -> dict[str, Any]:
        """Columns of `formats.columns.WINDOWS`.

        Args:
            pair_ids: Id of each stretch.
            splits: Split of each stretch.
        """
        import pyarrow as pa

        rest = {n: getattr(self, n) for n in Windows.__slots__ if n != "pair"}
        # Taken by code: no Python object and no wide text per window.
        code = pa.array(self.pair)
        ids, names = (pa.array(texts, pa.string()).take(code) for texts in (list(pair_ids), list(splits)))
        return {"pair_id": ids, **rest, "split": names}


def runs(t_us: ArrayLike, stretches: Sequence[Stretch], step_us: int = STEP_US) -> tuple[I64, I64, I32]:
    """Cut the rows of every stretch wherever the clock does not step by exactly `step_us`.

    Args:
        t_us: (N,) int64 time of each row of the frame table.
        stretches: Rows of each pair; they may not overlap.
        step_us: Step of the frame clock.

    Returns:
        First row (R,), row after the last (R,) and the stretch (R,) of every unbroken run, in row order.

    Raises:
        DataError: A stretch leaves the table, or two overlap.
    """
    t = np.asarray(t_us)
    order = sorted(range(len(stretches)), key=lambda k: (stretches[k].row_start, k))
    order = [k for k in order if stretches[k].rows > 0]
    if not order:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int32)
    first = np.array([stretches[k].row_start for k in order], np.int64)
    after = first + np.array([stretches[k].rows for k in order], np.int64)
    _check_inside(first, after, len(t), [stretches[k].pair_id for k in order])
    broken = _breaks(t, step_us)
    # A cut counts only inside a stretch; rows between stretches belong to nobody.
    owner = np.searchsorted(first, broken, side="right") - 1
    inner = (owner >= 0) & (broken > first[owner]) & (broken < after[owner])
    broken, owner = broken[inner], owner[inner]
    start = np.concatenate([first, broken])
    stop = np.concatenate([after, broken])
    code = np.concatenate([np.arange(len(first)), owner])
    return np.sort(start), np.sort(stop), np.asarray(order, np.int32)[code[np.argsort(start, kind="stable")]]


def _breaks(t_us: NDArray[Any], step_us: int) -> I64:
    """Rows whose time is not one step after the row before; in blocks, because the times may be a map of a big file."""
    found = [
        np.flatnonzero(np.diff(np.asarray(t_us[k : k + _BLOCK + 1], np.int64)) != step_us) + k + 1
        for k in range(0, max(0, len(t_us) - 1), _BLOCK)
    ]
    return np.concatenate(found) if found else np.empty(0, np.int64)


def _check_inside(first: I64, after: I64, n: int, ids: Sequence[str]) -> None:
    bad = np.flatnonzero((first < 0) | (after > n))
    if len(bad):
        raise DataError(f"rows of pair {ids[int(bad[0])]} leave the frame table of {n} rows")
    bad = np.flatnonzero(first[1:] < after[:-1])
    if len(bad):
        raise DataError(f"pairs {ids[int(bad[0])]} and {ids[int(bad[0]) + 1]} share rows of the frame table")


def cut(
    t_us: ArrayLike,
    m_mot: ArrayLike,
    stretches: Sequence[Stretch],
    *,
    length: int = LENGTH,
    stride: int = STRIDE,
    min_valid: float = MIN_VALID,
    step_us: int = STEP_US,
) -> Windows:
    """Cut windows that cross no gap and no segment end, in row order.

    Args:
        t_us: (N,) int64 time of each row on the music clock.
        m_mot: (N,) whether motion is measured in the row.
        stretches: Rows and audio of each pair.
        length: Rows per window.
        stride: Rows between the starts of neighbouring windows.
        min_valid: Smallest share of measured rows a window may have; it is recorded in any case.
        step_us: Step of the frame clock.

    Raises:
        UsageError: A length or stride below 1, or a share outside 0..1.
        DataError: Rows outside the table, or shared by two pairs.
    """
    if length < 1 or stride < 1 or not 0.0 <= min_valid <= 1.0:
        raise UsageError(f"no windows of {length} rows every {stride} with a share of {min_valid}")
    t, measured = np.asarray(t_us, np.int64), np.asarray(m_mot, bool)
    lo, hi, code = runs(t, stretches, step_us)
    count = np.maximum(0, (hi - lo - length) // stride + 1)
    which = np.repeat(np.arange(len(lo)), count)
    inside = np.arange(int(count.sum())) - np.repeat(np.cumsum(count) - count, count)
    start = lo[which] + stride * inside
    total = np.concatenate([[0], np.cumsum(measured, dtype=np.int64)])
    # Compared as a count: a share rounded to float32 could fall below the limit it meets.
    seen = total[start + length] - total[start]
    keep = seen >= np.ceil(min_valid * length - 1e-9)
    start, pair = start[keep], code[which[keep]] if len(code) else np.empty(0, np.int32)
    audio_start, audio_len = audio_windows(t[start], pair, stretches, length * step_us)
    n = len(start)
    return Windows(
        pair.astype(np.int32), start, np.full(n, length, np.int32), np.full(n, stride, np.int32),
        audio_start, audio_len, (seen[keep] / length).astype(np.float32),
    )  # fmt: skip


def audio_windows(
    t_first_us: ArrayLike, pair: ArrayLike, stretches: Sequence[Stretch], span_us: int
) -> tuple[I64, I32]:
    """Find the audio feature frames inside [t, t + span) of each window.

    Returns:
        First frame (-1 when the pair has no features or the window lies outside them) and number of frames.
    """
    t, which = np.asarray(t_first_us, np.int64), np.asarray(pair, np.intp)
    grids = [s.audio or AudioGrid(1, 1, 0) for s in stretches]
    sr, hop, frames = np.array([(g.sr, g.hop, g.n_frames) for g in grids], np.int64).reshape(-1, 3)[which].T
    first = first_frame(t, sr, hop, frames)
    n = (first_frame(t + span_us, sr, hop, frames) - first).astype(np.int32)
    return np.where(n > 0, first, -1), n
