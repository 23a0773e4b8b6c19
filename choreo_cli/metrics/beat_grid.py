"""Beats as times, and the phase of any time inside its beat, across gaps."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import DataError
from choreo_cli.motion.resample import phase_at

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

_BRIDGE_S = 4.0  # a gap up to this long is bridged when the beats behind it fit the tempo before it
_FIT = 0.1  # cycles


@dataclass(frozen=True, slots=True)
class BeatGrid:
    """Beats in unbroken stretches.

    Args:
        beats_s: (B,) times, strictly increasing.
        breaks: (B,) whether a stretch ends at this beat: no phase is known between it and the next.
    """

    beats_s: F64
    breaks: Bool

    @property
    def period_s(self) -> float:
        """Median beat interval inside the stretches. Raises DataError when no two beats belong together."""
        steps = np.diff(self.beats_s)[~self.breaks[:-1]]
        if not len(steps):
            raise DataError("no beats: the beat phase is missing or constant")
        return float(np.median(steps))

    @property
    def count(self) -> int:
        """Whole beats."""
        return int((~self.breaks[:-1]).sum()) if len(self.breaks) else 0

    def phase(self, t_s: F64) -> tuple[F64, I64]:
        """Phase in cycles and index of the beat at each time; NaN and -1 outside the beats and inside gaps.

        Works on arrays of any shape; the rule is that of `motion.resample.phase_at`.
        """
        phase, found = phase_at(self.beats_s, t_s)
        index = found.astype(np.int64)
        lost = (index >= 0) & self.breaks[np.maximum(index, 0)]
        return np.where(lost, np.nan, phase), np.where(lost, -1, index)


def grid_of(beats_s: F64) -> BeatGrid:
    """Annotated beats as one stretch.

    Raises:
        DataError: fewer than two beats, or they do not increase.
    """
    beats = np.asarray(beats_s, np.float64)
    if beats.ndim != 1 or len(beats) < 2 or not np.isfinite(beats).all() or (np.diff(beats) <= 0).any():
        raise DataError("beats must be at least two increasing times")
    breaks = np.zeros(len(beats), bool)
    breaks[-1] = True
    return BeatGrid(beats, breaks)


def beats_from_phase(t_s: F64, phase: F64) -> BeatGrid:
    """Beats of a `beat_phase` column: where the unwrapped phase passes whole cycles, linearly between frames.

    The beat before a stretch's first frame and the one after its last are extrapolated, so that every frame lies in a
    beat. Gaps of up to 4 s are bridged when the phase behind them fits the tempo before them within a tenth of a beat.

    Args:
        t_s: (N,) times, increasing.
        phase: (N,) cycles in [0, 1), NaN where it is not known.

    Raises:
        DataError: no stretch holds a whole beat.
    """
    live = np.flatnonzero(np.isfinite(phase))
    beats: list[F64] = []
    for t, turns in _stretches(np.asarray(t_s, np.float64)[live], np.asarray(phase, np.float64)[live]):
        whole = np.arange(np.floor(turns[0]), np.ceil(turns[-1] + 1e-9) + 1)
        at = np.interp(whole, turns, t)
        head, tail = _slope(t[:50], turns[:50]), _slope(t[-50:], turns[-50:])
        at = np.where(whole < turns[0], t[0] + (whole - turns[0]) / head, at)
        at = np.where(whole > turns[-1], t[-1] + (whole - turns[-1]) / tail, at)
        if beats:
            at = at[at > beats[-1][-1] + 1e-6]
        if len(at) > 1:
            beats.append(at)
    if not beats:
        raise DataError("no beats: the beat phase is missing or constant")
    return BeatGrid(np.concatenate(beats), np.concatenate([np.arange(len(b)) == len(b) - 1 for b in beats]))


def _slope(t: F64, turns: F64) -> float:
    return float((turns[-1] - turns[0]) / (t[-1] - t[0]))


def _stretches(t: F64, phase: F64) -> Iterator[tuple[F64, F64]]:
    """(times, unwrapped phase) of each stretch that turns at least once."""
    if len(t) < 3:
        return
    step = float(np.median(np.diff(t)))
    gain = np.diff(phase) % 1.0
    gap = np.diff(t) > 1.5 * step
    usual = gain[~gap]
    rate = float(np.median(usual[usual > 0])) / step if (usual > 0).any() else 0.0
    # Across a gap the whole turns are those that the tempo foretells.
    turns = np.round(np.diff(t) * rate - gain)
    misfit = np.abs(np.diff(t) * rate - gain - turns)
    gain = np.where(gap, gain + np.maximum(turns, 0), gain)
    # Frames that advance by over half a beat, or backwards, are no beat phase.
    broken = np.where(gap, (np.diff(t) > _BRIDGE_S) | (misfit > _FIT), gain > 0.5)
    edges = [0, *(np.flatnonzero(broken) + 1).tolist(), len(t)]
    for a, b in itertools.pairwise(edges):
        unwrapped = phase[a] + np.concatenate([[0.0], np.cumsum(gain[a : b - 1])])
        if b - a > 2 and unwrapped[-1] - unwrapped[0] >= 1:
            yield t[a:b], unwrapped
