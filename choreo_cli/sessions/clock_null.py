"""Null model of the motion clock: time-stretch surrogates, and the decision that follows from them.

Circularly shifted motion is still locked to the beat, so it is no null for music; motion stretched by 2 to 8 %
runs at another tempo and is one. The same estimator runs on every surrogate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from choreo_cli.sessions.clock_estimate import LIMITS, Limits

F32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Null:
    """Peaks of the surrogates.

    Args:
        peaks: (draws,) highest correlation of each surrogate in the window.
        p: (1 + count(peaks >= peak)) / (1 + draws).
        z: (peak - mean(peaks)) / std(peaks).
    """

    peaks: F32
    p: float
    z: float

    @property
    def line95(self) -> float:
        return float(np.percentile(self.peaks, 95))


def stretch(values: F32, factors: NDArray[np.float64]) -> F32:
    """Play a signal faster by each factor about its middle, wrapping round at the ends; (draws, n) float32."""
    n = len(values)
    middle = (n - 1) / 2
    at = (np.arange(n)[None, :] - middle) * factors[:, None] + middle
    low = np.floor(at)
    weight = (at - low).astype(np.float32)
    index = low.astype(np.int64) % n
    first = values[index]
    return first + weight * (values[(index + 1) % n] - first)


def factors(draws: int, seed: int, limits: Limits = LIMITS) -> NDArray[np.float64]:
    """Stretch factors: 2 to 8 % faster or slower, seeded."""
    rng = np.random.default_rng([seed, draws])
    size = rng.uniform(*limits.stretch, draws)
    return 1.0 + np.where(rng.random(draws) < 0.5, -size, size)


def surrogate_null(motion: F32, music: F32, peak: float, lags: int, seed: int, limits: Limits = LIMITS) -> Null:
    """Compare a peak with those of stretched motion.

    Args:
        motion: (n,) z-scored impact, 0 where missing.
        music: (n + lags - 1,) z-scored onset; lag k correlates motion with music[k : k + n].
        peak: The peak of the motion as it is, on the same grid.
        lags: Number of lags in the search window.
    """
    from scipy.fft import irfft, next_fast_len, rfft

    n_fft = next_fast_len(len(music), real=True)
    spectrum = rfft(music, n_fft)
    weight = max(1.0, float(np.count_nonzero(motion)))
    drawn = stretch(motion, factors(limits.draws, seed, limits))
    peaks = np.empty(limits.draws, np.float32)
    for a in range(0, limits.draws, 16):
        part = np.conj(rfft(drawn[a : a + 16], n_fft, axis=1))
        peaks[a : a + 16] = irfft(part * spectrum, n_fft, axis=1)[:, :lags].max(axis=1) / weight
    spread = float(peaks.std(ddof=1))
    z = (peak - float(peaks.mean())) / spread if spread > 0 else 0.0
    return Null(peaks, float(1 + np.count_nonzero(peaks >= peak)) / (1 + limits.draws), z)


@dataclass(frozen=True, slots=True)
class Facts:
    """What the decision is made from; times in microseconds."""

    p: float
    z: float
    second_ratio: float
    from_centre_us: float
    window_us: float
    prior_half_us: float | None
    beat_us: float
    refusals: tuple[str, ...]
    tempo_matches: bool | None


def decide(facts: Facts, limits: Limits = LIMITS) -> tuple[str, tuple[str, ...]]:
    """Return `yes`, `mod_beat` or `no`, with reasons from the closed list.

    `yes` needs p and z against the surrogates, no second peak of comparable height inside the prior, and a peak
    off the edge of the window. A prior wider than half a beat each way cannot choose the beat: `mod_beat`.
    """
    refusals = list(facts.refusals)
    if facts.prior_half_us is None and "no_clock" not in refusals:
        refusals.append("no_clock")
    if refusals:
        return "no", tuple(refusals)
    # Movement that repeats at another tempo than the music's has to be much surer of itself.
    least_z = limits.z_against_tempo if facts.tempo_matches is False else limits.z
    if facts.p > limits.p or facts.z < least_z:
        # Periodic movement at a tempo the music does not have belongs to another track.
        return "no", ("wrong_track",) if facts.tempo_matches is False else ("no_synchrony",)
    assert facts.prior_half_us is not None
    wide = facts.prior_half_us > 0.5 * facts.beat_us
    if not wide and facts.window_us - abs(facts.from_centre_us) <= limits.edge_us:
        return "no", ("edge",)
    if wide or facts.second_ratio > limits.second_ratio:
        return "mod_beat", ()
    return "yes", ()
