"""Drift: whether a control holds the music's tempo, and by how many parts per million it does not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import DataError

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

WINDOW = 32
HOP = 16
MIN_BEATS = 64
MIN_IN_WINDOW = 8
WITHIN_PPM = 200.0
_SEARCH = 0.12  # of the tempo: slopes looked for before unwrapping
_CLOSE = 0.25  # cycles from the line: a peak farther off belongs to the off-beat
_MOST = 2000


@dataclass(frozen=True, slots=True)
class Drift:
    """Drift of one session.

    Args:
        stability: |mean over windows of e^{i mu_w}|, mu_w the mean phase of a window of 32 beats; 1 = it never moves.
        mean_phase_rad: (W,) mu_w.
        R: (W,) resultant of each window.
        excursion: (max - min of the unwrapped mu_w) / 2 pi, cycles.
        ppm: Theil-Sen slope of the unwrapped deviations over the peaks' own times; positive = it falls behind.
        ppm_ci: Its 95 % interval.
        intercept_s: median d - slope median t.
        t_s: Times of the fitted peaks.
        d_s: Their unwrapped deviations.
    """

    stability: float
    mean_phase_rad: F64
    R: F64
    excursion: float
    ppm: float
    ppm_ci: tuple[float, float]
    intercept_s: float
    t_s: F64
    d_s: F64


def window_sums(phases: F64, index: I64, first: int, count: int) -> tuple[F64, F64, F64]:
    """Sums of cos and sin and counts of every window of 32 beats, hop 16, only whole windows.

    Args:
        phases: (D, n) cycles, NaN is skipped.
        index: (D, n) beat of each, -1 is skipped.
        first: Beat the first window starts at.
        count: Beats there are from it on.

    Returns:
        Three arrays (D, W).
    """
    bins = max(count // HOP, 0)
    where = (index - first) // HOP
    ok = np.isfinite(phases) & (index >= first) & (where < bins)
    row = np.broadcast_to(np.arange(len(phases))[:, None], phases.shape)
    flat = (row * max(bins, 1) + np.where(ok, where, 0))[ok]
    theta = 2 * np.pi * phases[ok]

    def add(weights: F64) -> F64:
        total = np.bincount(flat, weights, minlength=len(phases) * max(bins, 1)).reshape(len(phases), max(bins, 1))
        span = WINDOW // HOP
        return np.asarray(sum(total[:, k : total.shape[1] - span + 1 + k] for k in range(span)))

    return add(np.cos(theta)), add(np.sin(theta)), add(np.ones(len(theta)))


def stability(phases: F64, index: I64, first: int, count: int) -> F64:
    """(D,) stability of each row (see `Drift`); windows with fewer than 8 peaks do not count; 0 without any."""
    c, s, n = window_sums(phases, index, first, count)
    z = np.where(n >= MIN_IN_WINDOW, np.exp(1j * np.arctan2(s, c)), 0)
    return np.asarray(np.abs(z.sum(axis=1)) / np.maximum((n >= MIN_IN_WINDOW).sum(axis=1), 1))


def theil_sen(t_s: F64, d_s: F64) -> tuple[float, float, tuple[float, float]]:
    """(slope in ppm, intercept in s, 95 % interval in ppm) of deviations over time: the median of all pairwise slopes.

    Sen, JASA 63 (1968) 1379. Above 2000 points every k-th is taken.
    """
    from scipy.stats import theilslopes

    k = -(-len(t_s) // _MOST)
    slope, intercept, lo, hi = theilslopes(d_s[::k], t_s[::k], alpha=0.95)
    return float(slope) * 1e6, float(intercept), (float(lo) * 1e6, float(hi) * 1e6)


def unwrap(t_s: F64, phases: F64, period_s: float) -> tuple[F64, F64]:
    """Deviations from the beat in seconds, unwrapped about the straight line that holds most of the peaks.

    Unwrapping from peak to peak breaks where a peak lies off the beat. Here the slope (within 12 % of the tempo) that
    makes the phases most coherent is found first, and each deviation takes the branch nearest to that line; peaks
    farther than a quarter of a beat from it are left out.

    Returns:
        (times, deviations) of what was kept.
    """
    from scipy.fft import next_fast_len

    span = float(t_s[-1] - t_s[0])
    # The sum of e^{i theta} on a fine time grid; its spectrum is the coherence for every slope at once.
    rate = 4 * _SEARCH / period_s
    n = next_fast_len(int(8 * span * rate) + 8)
    cell = np.minimum(np.round((t_s - t_s[0]) * rate).astype(np.int64), n - 1)
    grid = np.zeros(n, np.complex128)
    np.add.at(grid, cell, np.exp(2j * np.pi * phases))
    hz = np.fft.fftfreq(n, 1 / rate)
    power = np.where(np.abs(hz) <= _SEARCH / period_s, np.abs(np.fft.fft(grid)), 0.0)
    slope = float(hz[int(np.argmax(power))])
    line = slope * (t_s - t_s[0])
    start = float(np.angle(np.exp(2j * np.pi * (phases - line)).sum())) / (2 * np.pi)
    off = (phases - line - start + 0.5) % 1.0 - 0.5
    kept = np.abs(off) <= _CLOSE
    return t_s[kept], ((line + start + off) * period_s)[kept]


def measure(t_s: F64, phases: F64, index: I64, period_s: float, beats: int) -> Drift | None:
    """Drift of the peaks of one session, None with fewer than 64 beats or three windows that hold enough peaks.

    Args:
        t_s: (n,) peak times.
        phases: (n,) their phases, cycles.
        index: (n,) their beats.
        period_s: Beat period.
        beats: Whole beats there are; windows start at the first that holds a peak.

    Raises:
        DataError: arrays of different lengths, or a period that is not positive.
    """
    if not (len(t_s) == len(phases) == len(index)) or not period_s > 0:
        raise DataError("drift needs a time, a phase and a beat for every peak, and a period above 0")
    if beats < MIN_BEATS or len(t_s) < 3:
        return None
    first = int(index.min())
    c, s, n = (x[0] for x in window_sums(phases[None], index[None], first, int(index.max()) - first + 1))
    held = n >= MIN_IN_WINDOW
    if int(held.sum()) < 3:
        return None
    mu, r = np.arctan2(s, c)[held], np.hypot(s, c)[held] / n[held]
    t, d = unwrap(t_s, phases, period_s)
    if len(t) < 3 or t[-1] <= t[0]:
        return None
    ppm, intercept, ci = theil_sen(t, d)
    turned = np.unwrap(mu)
    return Drift(
        float(abs(np.exp(1j * mu).mean())), mu, r, float(np.ptp(turned)) / (2 * np.pi), ppm, ci, intercept, t, d
    )
