"""Phase coherence of a control: where its peaks lie inside the beat."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import DataError
from choreo_cli.metrics.beat_grid import BeatGrid
from choreo_cli.metrics.circular import Circular, describe, histogram
from choreo_cli.metrics.surrogates import DRAWS, stretched

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

MIN_PEAKS = 16
FLAT = 1e-6


@dataclass(frozen=True, slots=True)
class Picking:
    """How peaks are picked; part of every result.

    Args:
        prominence: Least prominence, of the control's range.
        distance: Least distance, beats. From 0.6 on equal pulses at 0 and .5 would look locked.
        relative: Least prominence, of the largest within `reach` beats: a second pulse inside the beat counts only
            when it is no mere echo of the main one. 0 keeps every peak.
        reach: Beats, either way.
    """

    prominence: float = 0.05
    distance: float = 0.35
    relative: float = 0.5
    reach: float = 1.0


@dataclass(frozen=True, slots=True)
class Peaks:
    """Peaks of a control.

    Args:
        t_s: (n,) times, between frames by a parabola through the three samples around each.
        every_s: (m,) the same without the `relative` rule.
        span: Range of the control.
    """

    t_s: F64
    every_s: F64
    span: float


def pick_peaks(t_s: F64, y: F64, period_s: float, picking: Picking = Picking()) -> Peaks:
    """Peaks of `y`, stretch by stretch of unbroken frames.

    Args:
        t_s: (N,) times on a clock of equal steps, with gaps.
        y: (N,) the control, NaN where there is none.
        period_s: Beat period.
        picking: Thresholds.

    Raises:
        DataError: shapes differ, times do not increase, or the period is not positive.
    """
    if t_s.shape != y.shape or t_s.ndim != 1 or (np.diff(t_s) <= 0).any() or not period_s > 0:
        raise DataError("peaks need increasing times, one value each, and a beat period above 0")
    live = np.flatnonzero(np.isfinite(y))
    none = np.empty(0)
    if len(live) < 3:
        return Peaks(none, none, 0.0)
    t, y = t_s[live], y[live]
    span = float(np.ptp(y))
    if span < FLAT:
        return Peaks(none, none, span)
    step = float(np.median(np.diff(t)))
    cuts = np.flatnonzero(np.diff(t) > 1.5 * step) + 1
    found = [
        _peaks_of(a, b, step, span, period_s, picking)
        for a, b in zip(np.split(t, cuts), np.split(y, cuts), strict=True)
    ]
    at, height = (np.concatenate([f[k] for f in found]) for k in range(2))
    return Peaks(at[_stands_out(at, height, period_s, picking)], at, span)


def _peaks_of(t: F64, y: F64, step: float, span: float, period_s: float, picking: Picking) -> tuple[F64, F64]:
    """(times, prominences) in one unbroken stretch."""
    from scipy.signal import find_peaks

    far = max(1.0, picking.distance * period_s / step)
    i, facts = find_peaks(y, prominence=picking.prominence * span, distance=far)
    before, at, after = y[i - 1], y[i], y[i + 1]
    bend = before - 2 * at + after
    with np.errstate(invalid="ignore", divide="ignore"):
        shift = np.where(bend < 0, 0.5 * (before - after) / bend, 0.0)
    return t[i] + np.clip(shift, -0.5, 0.5) * step, facts["prominences"]


def _stands_out(at: F64, height: F64, period_s: float, picking: Picking) -> NDArray[np.bool_]:
    """Which peaks reach `relative` of the most prominent one within `reach` beats."""
    reach = picking.reach * period_s
    lo, hi = np.searchsorted(at, at - reach), np.searchsorted(at, at + reach, side="right")
    top = np.array([height[a:b].max() for a, b in zip(lo, hi, strict=True)])
    return np.asarray(height >= picking.relative * top, bool) if len(at) else np.empty(0, bool)


@dataclass(frozen=True, slots=True)
class PhaseLock:
    """Phase coherence of one session; `stats` is None with too few peaks.

    Args:
        stats: Circular statistics of the kept peaks.
        every: The same of every peak, without the `relative` rule.
        phases: (n,) cycles.
        index: (n,) beat of each peak.
        t_s: (n,) their times.
        null_phase: (draws, n) phases of the stretched surrogates, NaN outside the beats.
        null_index: (draws, n) their beats, -1 outside.
        period_s: Beat period.
        status: `ok`, `degenerate` (a constant control) or `insufficient`.
        why: A sentence when it is not `ok`.
    """

    stats: Circular | None
    every: Circular | None
    phases: F64
    index: I64
    t_s: F64
    null_phase: F64
    null_index: I64
    period_s: float
    status: str = "ok"
    why: str | None = None
    picking: Picking = field(default_factory=Picking)

    @property
    def resultant(self) -> complex:
        return complex(np.exp(2j * np.pi * self.phases).mean())

    @property
    def score(self) -> float:
        """max(0, v): 1 = every peak on the beat, 0 = chance or off the beat."""
        return max(0.0, self.stats.v) if self.stats else 0.0

    @property
    def null_v(self) -> F64:
        """(draws,) v of the surrogates; 0 where nothing of one lies inside the beats."""
        inside = np.isfinite(self.null_phase)
        total = np.where(inside, np.cos(2 * np.pi * np.where(inside, self.null_phase, 0.0)), 0.0).sum(axis=1)
        return np.asarray(total / np.maximum(inside.sum(axis=1), 1))

    def facts(self) -> dict[str, Any]:
        """What a report needs, JSON values."""
        base: dict[str, Any] = {"picking": asdict(self.picking), "period_ms": _r(self.period_s * 1e3, 3)}
        if self.stats is None:
            return base
        s, a = self.stats, self.every or self.stats
        late = None if s.mean_phase is None else _r(s.mean_phase * self.period_s * 1e3, 3)
        return base | {
            "R": s.R, "v": s.v, "R_2nd": s.R_2nd, "R2_unbiased": s.R2_unbiased, "mean_phase": s.mean_phase,
            "mean_phase_ms": late, "circular_std_rad": s.std, "kappa": s.kappa, "rayleigh_p": s.rayleigh_p,
            "all_peaks": {"n": a.n, "v": a.v, "R_2nd": a.R_2nd}, "histogram": histogram(self.phases),
        }  # fmt: skip


def _r(value: float, digits: int) -> float:
    return round(float(value), digits)


def phase_lock(
    t_s: F64,
    y: F64,
    grid: BeatGrid,
    rng: np.random.Generator,
    *,
    draws: int = DRAWS,
    picking: Picking = Picking(),
) -> PhaseLock:
    """Pick the peaks of a control, place them in the beats, and stretch them `draws` times.

    Args:
        t_s: (N,) times of the control.
        y: (N,) the control, NaN where there is none.
        grid: Beats.
        rng: Draws of the surrogates.
        draws: Surrogates.
        picking: How peaks are picked.
    """
    period = grid.period_s
    peaks = pick_peaks(t_s, y, period, picking)
    phases, index = grid.phase(peaks.t_s)
    inside = np.isfinite(phases)
    at, phases, index = peaks.t_s[inside], phases[inside], index[inside]
    every = grid.phase(peaks.every_s)[0]
    every = every[np.isfinite(every)]
    empty = np.empty((0, 0))
    if len(at) < MIN_PEAKS:
        flat = peaks.span < FLAT
        why = "the control is constant" if flat else f"{len(at)} peaks inside the beats, need {MIN_PEAKS}"
        status = "degenerate" if flat else "insufficient"
        return PhaseLock(None, None, phases, index, at, empty, empty.astype(np.int64), period, status, why, picking)
    null_phase, null_index = grid.phase(stretched(at, period, draws, rng))
    return PhaseLock(
        describe(phases), describe(every), phases, index, at, null_phase, null_index, period, picking=picking
    )
