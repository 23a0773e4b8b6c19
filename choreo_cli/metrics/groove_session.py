"""The three groove metrics of one session, with their null distributions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.metrics import drift, energy
from choreo_cli.metrics.phase import PhaseLock, phase_lock
from choreo_cli.metrics.surrogates import DRAWS, p_value
from choreo_cli.metrics.tracks import Track

F64 = NDArray[np.float64]

SAME_TEMPO = 0.005
MIN_SHIFTS = 99  # a null with fewer draws cannot reach p = .01
_POINTS = 60


@dataclass(frozen=True, slots=True)
class SessionGroove:
    """One session's results.

    Args:
        track: What was judged.
        lock: Phase coherence.
        drift: None when there is too little.
        drift_why: Then why.
        drift_null: (draws,) stability of the stretched surrogates.
        energy: Energy correlation.
        observed: The correlation as the nulls measure it, around the ends.
        shifts: Null of the correlation by circular shifts; empty when the session is too short.
        beats: Null by whole beats, of the session's own control and of others' at the same tempo.
        others: How many other sessions are in it.
    """

    track: Track
    lock: PhaseLock
    drift: drift.Drift | None
    drift_why: str | None
    drift_null: F64
    energy: energy.Energy
    observed: float
    shifts: F64
    beats: F64
    others: int

    @property
    def energy_p(self) -> float | None:
        """The larger p of the nulls that are long enough to speak."""
        found = [p_value(null, self.observed) for null in (self.shifts, self.beats) if len(null) >= MIN_SHIFTS]
        return None if self.energy.r is None or not found else max(found)

    def drift_points(self) -> list[list[float]]:
        """[time s, deviation ms] of at most 60 peaks, for a picture."""
        if self.drift is None:
            return []
        k = -(-len(self.drift.t_s) // _POINTS)
        pairs = zip(self.drift.t_s[::k], self.drift.d_s[::k], strict=True)
        return [[round(float(t), 3), round(float(d) * 1e3, 3)] for t, d in pairs]

    def energy_facts(self) -> dict[str, Any]:
        e = self.energy
        return {
            "lag_ms": None if e.lag_s is None else round(e.lag_s * 1e3, 6),
            "r0": e.r0,
            "lags_ms": [round(float(k) * 1e3, 6) for k in e.lags_s],
            "curve": [float(r) if np.isfinite(r) else None for r in e.curve],
            "n_effective": e.n_effective,
            "nulls": {
                name: {"n": len(null), "p": p_value(null, self.observed), "level95": float(np.quantile(null, 0.95))}
                for name, null in (("shift", self.shifts), ("whole_beats", self.beats))
                if len(null) and e.r is not None
            },
            "other_sessions": self.others,
        }


def judge(track: Track, others: Sequence[Track], rng: np.random.Generator, draws: int = DRAWS) -> SessionGroove:
    """All three metrics of one session.

    Args:
        track: The session.
        others: Every other session of the same evaluation; those within 0.5 % of its tempo serve as a null.
        rng: Draws.
        draws: Draws of each null.
    """
    lock = phase_lock(track.t_s, track.density, track.beats, rng, draws=draws)
    moved, why, null = _drift(track, lock)
    found = energy.correlate(track.energy, track.follower, track.rate_hz)
    curve = energy.searched(track.energy, track.follower, track.rate_hz)
    shifts = energy.shift_null(curve, track.rate_hz, draws, rng)
    own = energy.beat_null(curve, track.rate_hz, track.beats.period_s)
    same = [o for o in others if abs(o.beats.period_s / track.beats.period_s - 1) <= SAME_TEMPO]
    beats = np.concatenate([own, *(_borrowed(track, o) for o in same)])
    if found.degenerate or found.n < energy.MIN_SECONDS * track.rate_hz:
        shifts = beats = np.empty(0)
    return SessionGroove(track, lock, moved, why, null, found, float(curve[0]), shifts, beats, len(same))


def _drift(track: Track, lock: PhaseLock) -> tuple[drift.Drift | None, str | None, F64]:
    none = np.empty(0)
    if lock.stats is None:
        return None, lock.why, none
    moved = drift.measure(lock.t_s, lock.phases, lock.index, lock.period_s, track.beats.count)
    if moved is None:
        return None, f"{track.beats.count} beats, need {drift.MIN_BEATS} and three windows with peaks", none
    first = int(lock.index.min())
    return moved, None, drift.stability(lock.null_phase, lock.null_index, first, int(lock.index.max()) - first + 1)


def _borrowed(track: Track, other: Track) -> F64:
    """Null from another session's control, its beats laid on this one's."""
    late = (other.beats.beats_s[0] - other.start_s) - (track.beats.beats_s[0] - track.start_s)
    curve = energy.searched(track.energy, other.follower, track.rate_hz)
    return energy.beat_null(curve, track.rate_hz, track.beats.period_s, float(late))
