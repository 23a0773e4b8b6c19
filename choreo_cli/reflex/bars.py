"""The beat as a ruler: ticks of a sixteenth of a beat, beats and bars, from the phase column alone.

Lags and horizons that are stated in beats become whole numbers of ticks, whatever the tempo does. Offline and frame by
frame give the same ticks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

TICKS = 16
"""Ticks per beat. Tick j lies at beat (j + 1/2) / TICKS: never on phase 0 or .5, where an input wraps."""
BEATS_PER_BAR = 4
MIN_ADVANCE, MAX_ADVANCE = 0.004, 0.25
"""Cycles that a beat may advance in one frame; outside, the phase has stopped or jumped."""
KEEP_RATE = 0.95
"""Share of the old estimate that the smoothed beat rate keeps per frame."""


@dataclass(frozen=True, slots=True)
class Ticks:
    """Ticks of one unbroken stretch of beats.

    Args:
        row: (K,) the frame nearest each tick, as a row of the array the phase came from.
        index: (K,) number of the tick, consecutive; `index % TICKS` is its place in the beat.
        rate: (K,) beats per second.
    """

    row: I64
    index: I64
    rate: F32

    def __len__(self) -> int:
        return len(self.row)

    def slice(self, start: int, stop: int) -> Ticks:
        return Ticks(self.row[start:stop], self.index[start:stop], self.rate[start:stop])


def ticks_of(phase: ArrayLike, step_us: int, first_row: int = 0) -> list[Ticks]:
    """Ticks of every stretch in which the phase is known and runs on.

    Args:
        phase: (N,) beat phase of consecutive frames, NaN = unknown.
        step_us: Time between frames.
        first_row: Row number of the first frame.
    """
    p = np.asarray(phase, np.float64)
    advance = np.mod(np.diff(p), 1.0)
    with np.errstate(invalid="ignore"):
        runs_on = (advance >= MIN_ADVANCE) & (advance <= MAX_ADVANCE)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], runs_on, [False]]).astype(np.int8)))
    return [
        _stretch(p[a : b + 1], advance[a:b], step_us, first_row + int(a))
        for a, b in zip(edges[::2], edges[1::2], strict=True)
    ]


def _stretch(p: F64, advance: F64, step_us: int, first_row: int) -> Ticks:
    from scipy.signal import lfilter

    beat = p + np.concatenate([[0], np.cumsum(p[1:] < p[:-1])])
    index = np.arange(_ticks_before(beat[0]), _ticks_before(beat[-1]), dtype=np.int64)
    at = (index + 0.5) / TICKS
    after = np.searchsorted(beat, at, side="left")
    nearer = at - beat[after - 1] < beat[after] - at
    gain = 1.0 - KEEP_RATE
    smooth, _ = lfilter([gain], [1.0, -KEEP_RATE], advance, zi=[KEEP_RATE * advance[0]])
    rate = (smooth * (1e6 / step_us))[after - 1]
    return Ticks(first_row + after - nearer, index, rate.astype(np.float32))


def _ticks_before(beat: float) -> int:
    """How many ticks from tick 0 lie at or before a beat position."""
    return math.floor(beat * TICKS - 0.5) + 1


class Ticker:
    """Ticks as frames arrive; one frame in, the ticks it completes out. O(1) time and memory.

    Args:
        step_us: Time between frames.
    """

    def __init__(self, step_us: int) -> None:
        self.step_us = step_us
        self.reset()

    def reset(self) -> None:
        """Forget the beat: what follows is a new stretch."""
        self._phase = math.nan
        self._beat = 0.0
        self._wraps = 0
        self._advance = math.nan

    def step(self, phase: float) -> tuple[list[tuple[int, bool]], float, bool]:
        """Take one frame.

        Returns:
            (number of the tick, whether the PREVIOUS frame is the nearer one) of each tick that this frame completes;
            the smoothed beats per second, NaN while unknown; whether a stretch was broken here.
        """
        advance = (phase - self._phase) % 1.0
        if not MIN_ADVANCE <= advance <= MAX_ADVANCE:
            broken = math.isfinite(self._phase)
            self.reset()
            if math.isfinite(phase):
                self._phase = self._beat = phase
            return [], math.nan, broken
        self._wraps += phase < self._phase
        before, self._beat = self._beat, self._wraps + phase
        self._phase = phase
        old = advance if math.isnan(self._advance) else self._advance
        self._advance = KEEP_RATE * old + (1.0 - KEEP_RATE) * advance
        found = []
        for j in range(_ticks_before(before), _ticks_before(self._beat)):
            at = (j + 0.5) / TICKS
            found.append((j, at - before < self._beat - at))
        return found, self._advance * 1e6 / self.step_us, False


def beat_numbers(phase: ArrayLike, step_us: int) -> I64:
    """(N,) number of the beat each frame lies in, from 0 at the first known one, -1 before it and where it is unknown.

    Counted by wraps; across a gap or a jump it goes on by the last beat rate, so that bars keep their place.
    """
    out = np.full(len(np.asarray(phase)), -1, np.int64)
    beat, last, rate = math.nan, -1, math.nan
    for i, now in enumerate(np.asarray(phase, np.float64).tolist()):
        if not math.isfinite(now):
            continue
        if math.isnan(beat):
            beat = now
        else:
            gap = i - last
            expect = beat + (gap * rate if math.isfinite(rate) else gap * MIN_ADVANCE)
            whole = now + round(expect - now) if gap > 1 or math.isfinite(rate) else now + (now < beat % 1.0)
            if gap == 1 and MIN_ADVANCE <= whole - beat <= MAX_ADVANCE:
                rate = whole - beat
            beat = whole
        last = i
        out[i] = max(0, math.floor(beat))
    return out
