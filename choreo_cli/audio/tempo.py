"""Tempo: which beat rates an onset envelope supports, and the robust line through a row of beats."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

LOW_BPM, HIGH_BPM = 40.0, 240.0
RATIOS = (0.5, 2 / 3, 1.0, 4 / 3, 1.5, 2.0)
_STEP = 0.0025  # of the tempo grid, natural log
_WINDOW_S = 16.0
_PAD = 8192
_PRIOR_BPM, _PRIOR_OCTAVES = 125.0, 0.5
_PAIRS_CAP = 600
_NEAR = 0.02


@dataclass(frozen=True, slots=True)
class OnsetSpectrum:
    """Rhythm of a whole recording: the mean local spectrum and autocorrelation of its onset envelope.

    Args:
        magnitude: (F,) float64 spectrum, largest value 1, on a grid of `df` Hz.
        correlation: (L,) float64 autocorrelation over lags in frames, 1 at lag 0.
        df: Hz per bin.
        fps: Frames per second of the envelope.
    """

    magnitude: F64
    correlation: F64
    df: float
    fps: float

    def scores(self, bpm: F64) -> F64:
        """Score each tempo in 0..1: it must be a spectral line AND a period of the envelope.

        A spectrum alone also answers to multiples of the beat rate, an autocorrelation alone to its fractions; their
        product leaves the beat (Peeters 2007, "Template-based estimation of time-varying tempo").
        """
        hz = np.asarray(bpm, np.float64) / 60.0
        line = np.interp(hz, np.arange(self.magnitude.size) * self.df, self.magnitude)
        lags = np.arange(self.correlation.size)
        period = self.fps / hz
        once, twice, four = (np.interp(m * period, lags, self.correlation, right=0.0) for m in (1, 2, 4))
        repeat = np.maximum(once, 0.0) * np.maximum(once + twice + four, 0.0) / 3.0
        return np.sqrt(line) * repeat


def onset_spectrum(onset: F64, fps: float) -> OnsetSpectrum:
    """Average the power spectra of 16 s stretches (half overlapping) of a detrended envelope.

    Args:
        onset: (T,) envelope with its slow part removed.
        fps: Its rate, Hz.
    """
    from scipy.fft import irfft, rfft

    size = min(onset.size, int(_WINDOW_S * fps))
    starts = range(0, onset.size - size + 1, max(size // 2, 1))
    window = np.hanning(size + 2)[1:-1]
    power = np.zeros(_PAD // 2 + 1)
    for a in starts:
        power += np.abs(rfft(onset[a : a + size] * window, _PAD)) ** 2
    # The window's own correlation is divided out, so long lags are not punished for being long.
    shape = irfft(np.abs(rfft(window, _PAD)) ** 2, _PAD)[:size]
    correlation = irfft(power, _PAD)[:size] / np.maximum(shape, 0.05 * shape[0])
    magnitude = np.sqrt(power)
    top = magnitude.max()
    return OnsetSpectrum(magnitude / top, correlation / correlation[0], fps / _PAD, fps)


def best_tempo(spectrum: OnsetSpectrum) -> float:
    """Return the best tempo in 40..240 BPM, with a mild log-normal preference around 125 BPM."""
    grid = np.exp(np.arange(np.log(LOW_BPM), np.log(HIGH_BPM) + _STEP, _STEP))
    prior = np.exp(-0.5 * (np.log2(grid / _PRIOR_BPM) / _PRIOR_OCTAVES) ** 2)
    return float(grid[np.argmax(spectrum.scores(grid) * prior)])


def candidates(spectrum: OnsetSpectrum, bpm: float) -> tuple[tuple[float, float], ...]:
    """Score {1/2, 2/3, 1, 4/3, 3/2, 2} x `bpm`; (bpm, score) in that order, the scores sum to 1."""
    tempi = bpm * np.array(RATIOS)
    # A recording that wanders has its peak a little beside the tempo of the line.
    near = np.linspace(1 - _NEAR, 1 + _NEAR, 9)
    score = spectrum.scores((tempi[:, None] * near).ravel()).reshape(-1, near.size).max(axis=1)
    total = score.sum()
    score = score / total if total > 0 else np.full(score.size, 1.0 / score.size)
    return tuple((float(t), float(s)) for t, s in zip(tempi, score, strict=True))


@dataclass(frozen=True, slots=True)
class LineFit:
    """Beats as a straight line: beat k at `start_s + k * period_s`.

    Args:
        bpm: 60 / period_s.
        residual_s: Robust spread of the beats around the line (1.4826 x median absolute deviation).
        index: (B,) int64 beat numbers; a gap counts the beats that are missing in it.
    """

    bpm: float
    period_s: float
    start_s: float
    residual_s: float
    index: NDArray[np.int64]


def fit_line(beats_s: F64) -> LineFit | None:
    """Fit beat time over beat number with the median of pairwise slopes (Theil 1950, Sen 1968).

    Returns:
        None for fewer than three beats.
    """
    t = np.asarray(beats_s, np.float64)
    if t.size < 3:
        return None
    steps = np.diff(t)
    index = np.concatenate([[0], np.cumsum(np.maximum(np.rint(steps / np.median(steps)), 1))]).astype(np.int64)
    pick = np.unique(np.linspace(0, t.size - 1, min(t.size, _PAIRS_CAP)).astype(int))
    # Pairs at least a third of the row apart: near pairs only carry the jitter of single beats.
    i, j = np.triu_indices(pick.size, max(pick.size // 3, 1))
    a, b = pick[i], pick[j]
    period = float(np.median((t[b] - t[a]) / (index[b] - index[a])))
    start = float(np.median(t - period * index))
    off = t - start - period * index
    residual = float(1.4826 * np.median(np.abs(off - np.median(off))))
    return LineFit(60.0 / period, period, start, residual, index)
