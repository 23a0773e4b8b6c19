"""Mel and chroma filter banks, built from their published formulas."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

# Slaney, Auditory Toolbox (Technical Report 1998-010, Interval): linear below 1 kHz, 27 bands per factor 6.4 above.
_HZ_PER_MEL = 200.0 / 3.0
_BREAK_HZ = 1000.0
_BREAK_MEL = _BREAK_HZ / _HZ_PER_MEL
_LOG_STEP = np.log(6.4) / 27.0


def hz_to_mel(hz: F64 | float) -> F64:
    """Map Hz to Slaney's mel scale."""
    f = np.asarray(hz, np.float64)
    return np.where(f < _BREAK_HZ, f / _HZ_PER_MEL, _BREAK_MEL + np.log(np.maximum(f, 1e-9) / _BREAK_HZ) / _LOG_STEP)


def mel_to_hz(mel: F64 | float) -> F64:
    """Map Slaney's mel scale to Hz."""
    m = np.asarray(mel, np.float64)
    return np.where(m < _BREAK_MEL, m * _HZ_PER_MEL, _BREAK_HZ * np.exp(_LOG_STEP * (m - _BREAK_MEL)))


def mel_edges(rate: int, n_mels: int) -> F64:
    """Return the (n_mels + 2,) corner frequencies in Hz, from 0 to rate/2; band m peaks at edges[m + 1]."""
    return mel_to_hz(np.linspace(0.0, float(hz_to_mel(rate / 2)), n_mels + 2))


def mel_bank(rate: int, n_fft: int, n_mels: int) -> F32:
    """Build triangular mel filters of unit area in Hz (Slaney's norm).

    Returns:
        (n_fft//2 + 1, n_mels) float32: power spectrum @ bank = mel power.
    """
    hz = np.fft.rfftfreq(n_fft, 1.0 / rate)[:, None]
    edges = mel_edges(rate, n_mels)
    low, peak, high = edges[:-2], edges[1:-1], edges[2:]
    triangle = np.minimum((hz - low) / (peak - low), (high - hz) / (high - peak))
    return np.ascontiguousarray(np.maximum(triangle, 0.0) * (2.0 / (high - low)), np.float32)


def chroma_bank(rate: int, n_fft: int, n_chroma: int = 12) -> F32:
    """Build Gaussian pitch-class filters (Ellis 2007, "Chroma feature analysis and synthesis").

    Each bin spreads over the pitch classes with a Gaussian of half its own width in semitones (at least half a
    semitone), every bin has unit Euclidean norm, and octaves are weighted by a Gaussian of 2 octaves around
    440/16 * 2^5 Hz. Tuning is A = 440 Hz; class 0 is C.

    Returns:
        (n_fft//2 + 1, n_chroma) float32: power spectrum @ bank = chroma power.
    """
    hz = np.arange(1, n_fft) * (rate / n_fft)
    pitch = n_chroma * np.log2(hz / (440.0 / 16.0))  # semitones above the lowest A
    pitch = np.concatenate(([pitch[0] - 1.5 * n_chroma], pitch))  # a stand-in for 0 Hz: far below, half an octave off
    width = np.concatenate((np.maximum(np.diff(pitch), 1.0), [1.0]))
    half = n_chroma / 2
    distance = (pitch[:, None] - np.arange(n_chroma) + half) % n_chroma - half
    bank = np.exp(-0.5 * (2.0 * distance / width[:, None]) ** 2)
    bank /= np.linalg.norm(bank, axis=1, keepdims=True)
    bank *= np.exp(-0.5 * ((pitch / n_chroma - 5.0) / 2.0) ** 2)[:, None]
    return np.ascontiguousarray(np.roll(bank, -3, axis=1)[: n_fft // 2 + 1], np.float32)


def dct_ii(n: int, keep: int) -> F32:
    """Build the orthonormal DCT-II: (n, keep) float32, x @ matrix = the first `keep` coefficients."""
    k = np.arange(keep)
    basis = np.cos(np.pi / n * np.outer(np.arange(n) + 0.5, k)) * np.sqrt(2.0 / n)
    basis[:, 0] /= np.sqrt(2.0)
    return np.ascontiguousarray(basis, np.float32)
