"""One fused pass over the samples: mel, chroma, MFCC, onset, level and brightness on one frame grid."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from choreo_cli.audio.filterbank import F32, chroma_bank, dct_ii, mel_bank
from choreo_cli.errors import DataError

EXTRACTOR = "choreo-audio"
VERSION = "1"
BLOCK = 128  # frames: window, spectrum and power of a block stay in the second-level cache
FINE = 64  # samples per value of `energy`
_BANDS = 8  # slices of the spectrum; a mel filter is multiplied only with the slices it reaches
_FLOOR = np.float32(1e-10)
_TOP_DB = np.float32(80.0)


@dataclass(frozen=True, slots=True)
class Params:
    """What a feature depends on besides the samples; frame k is centred at k * hop / rate seconds."""

    rate: int = 22_050
    hop: int = 512
    n_fft: int = 2_048
    n_mels: int = 128
    n_mfcc: int = 20
    n_chroma: int = 12

    @property
    def digest(self) -> str:
        """First 16 hex digits of sha256 over extractor, version and parameters: the cache key of every result."""
        text = json.dumps([EXTRACTOR, VERSION, asdict(self)], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


DEFAULT = Params()


@dataclass(frozen=True, slots=True)
class Features:
    """Features of one recording; T = 1 + samples // hop frames, frame k at k * hop / rate seconds.

    Args:
        mel: (n_mels, T) float32 power, Slaney filters.
        chroma: (12, T) float32, each frame over its largest value, tuning fixed at A = 440 Hz; silence is 0.
        mfcc: (n_mfcc, T) float32, orthonormal DCT-II of the mel spectrum in dB (80 dB range).
        onset: (T,) float32 dB, mean rise of the mel bands, moved by n_fft/2 to the attack.
        rms: (T,) float32, 1 = full scale.
        centroid: (T,) float32 Hz, magnitude-weighted mean frequency; NaN in digital silence.
        energy: (N // 64,) float32, energy of the first difference in stretches of 64 samples (2.9 ms).
        duration_us: Length of the samples, microseconds.
        params: How they were computed.
    """

    mel: F32
    chroma: F32
    mfcc: F32
    onset: F32
    rms: F32
    centroid: F32
    energy: F32
    duration_us: int
    params: Params = DEFAULT

    @property
    def times_s(self) -> NDArray[np.float64]:
        """(T,) float64 seconds: the centre of each frame."""
        return np.arange(self.onset.size, dtype=np.float64) * (self.params.hop / self.params.rate)


@dataclass(frozen=True, slots=True)
class _Plan:
    window: F32
    bands: tuple[tuple[slice, slice, F32], ...]
    chroma: F32
    moments: F32
    dct: F32


@lru_cache(maxsize=4)
def _plan(p: Params) -> _Plan:
    n_bins = p.n_fft // 2 + 1
    mel = mel_bank(p.rate, p.n_fft, p.n_mels)
    # Narrow slices where the filters are dense (low bins), wide ones above: equal numbers of filters each.
    centres = mel.argmax(axis=0)
    cuts = sorted({0, n_bins, *(int(centres[i]) for i in np.linspace(0, p.n_mels - 1, _BANDS + 1).astype(int)[1:-1])})
    bands = []
    for a, b in pairwise(cuts):
        used = np.flatnonzero(mel[a:b].any(axis=0))
        columns = slice(int(used[0]), int(used[-1]) + 1)
        bands.append((slice(a, b), columns, np.ascontiguousarray(mel[a:b, columns])))
    hz = np.fft.rfftfreq(p.n_fft, 1.0 / p.rate)
    return _Plan(
        window=np.asarray(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(p.n_fft) / p.n_fft), np.float32),
        bands=tuple(bands),
        chroma=chroma_bank(p.rate, p.n_fft, p.n_chroma),
        moments=np.stack([hz, np.ones(n_bins)], axis=1).astype(np.float32),
        dct=dct_ii(p.n_mels, p.n_mfcc),
    )


def extract(samples: F32, params: Params = DEFAULT, *, block: int = BLOCK) -> Features:
    """Compute all features of one recording in two cache-blocked passes.

    Args:
        samples: (N,) float32 mono at `params.rate`; values above 1 are kept.
        block: Frames per block; the result does not depend on it beyond rounding.

    Raises:
        DataError: no samples, not mono, or not finite.
    """
    y = np.ascontiguousarray(samples, np.float32)
    if y.ndim != 1 or y.size == 0:
        raise DataError(f"audio features need one channel of samples, got shape {y.shape}")
    plan, n = _plan(params), 1 + y.size // params.hop
    mel = np.empty((n, params.n_mels), np.float32)
    chroma = np.empty((n, params.n_chroma), np.float32)
    moments = np.empty((n, 2), np.float32)
    rms = np.empty(n, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # rms shows below what was not finite
        _spectral_pass(y, params, plan, block, mel, chroma, moments, rms)
    if not np.isfinite(rms).all():
        raise DataError("audio samples are not finite", hint="decode the file again, or repair it")
    onset, mfcc = _log_pass(mel, plan, block, params)
    peak = chroma.max(axis=1, keepdims=True)
    np.divide(chroma, peak, out=chroma, where=peak > np.finfo(np.float32).tiny)
    centroid = np.full(n, np.nan, np.float32)
    np.divide(moments[:, 0], moments[:, 1], out=centroid, where=moments[:, 1] > 0)
    duration_us = (y.size * 1_000_000 + params.rate // 2) // params.rate
    return Features(mel.T, chroma.T, mfcc.T, onset, rms, centroid, _difference_energy(y), duration_us, params)


def _spectral_pass(y: F32, p: Params, plan: _Plan, block: int, mel: F32, chroma: F32, moments: F32, rms: F32) -> None:
    """Fill mel, chroma, moments and rms block by block: window, FFT, magnitude, power, filter banks."""
    from scipy.fft import rfft

    n, half, per_frame = mel.shape[0], p.n_fft // 2, p.n_fft // p.hop
    framed = np.empty((block, p.n_fft), np.float32)
    magnitude = np.empty((block, half + 1), np.float32)
    power = np.empty_like(magnitude)
    for k in range(0, n, block):
        m = min(block, n - k)
        part = _padded(y, k * p.hop - half, (m - 1) * p.hop + p.n_fft)
        np.multiply(sliding_window_view(part, p.n_fft)[:: p.hop], plan.window, out=framed[:m])
        np.abs(rfft(framed[:m], axis=1), out=magnitude[:m])
        np.square(magnitude[:m], out=power[:m])
        rows = mel[k : k + m]
        rows[:] = 0.0
        for bins, columns, weights in plan.bands:
            rows[:, columns] += power[:m, bins] @ weights
        np.matmul(power[:m], plan.chroma, out=chroma[k : k + m])
        np.matmul(magnitude[:m], plan.moments, out=moments[k : k + m])
        hops = part.reshape(-1, p.hop)
        energy = np.einsum("ij,ij->i", hops, hops)
        rms[k : k + m] = np.sqrt(sliding_window_view(energy, per_frame).sum(axis=1) / np.float32(p.n_fft))


def _difference_energy(y: F32) -> F32:
    """Sum squared first differences over stretches of 64 samples; the difference lifts attacks above sustained bass."""
    count, chunk = y.size // FINE, 512 * FINE
    out = np.empty(count, np.float32)
    difference = np.empty(chunk, np.float32)
    for a in range(0, count * FINE, chunk):
        b = min(a + chunk, count * FINE)
        difference[0] = y[a] - y[max(a - 1, 0)]
        np.subtract(y[a + 1 : b], y[a : b - 1], out=difference[1 : b - a])
        rows = difference[: b - a].reshape(-1, FINE)
        np.einsum("ij,ij->i", rows, rows, out=out[a // FINE : a // FINE + rows.shape[0]])
    return out


def _padded(y: F32, start: int, length: int) -> F32:
    """Return y[start : start + length] with zeros where it reaches outside."""
    a, b = max(start, 0), min(start + length, y.size)
    if b - a == length:
        return y[a:b]
    out = np.zeros(length, np.float32)
    out[a - start : b - start] = y[a:b]
    return out


def _log_pass(mel: F32, plan: _Plan, block: int, p: Params) -> tuple[F32, F32]:
    """Return onset (T,) and MFCC (T, n_mfcc) from mel power (T, n_mels): dB with an 80 dB range, rise, DCT-II."""
    n = mel.shape[0]
    mfcc = np.empty((n, p.n_mfcc), np.float32)
    onset = np.zeros(n, np.float32)
    floor = np.float32(10.0) * np.log10(np.maximum(mel.max(), _FLOOR)) - _TOP_DB
    delay = p.n_fft // (2 * p.hop)  # a rise seen at frame k belongs to the far half of its window
    last: F32 | None = None
    for k in range(0, n, block):
        db = np.log10(np.maximum(mel[k : k + block], _FLOOR))
        db *= np.float32(10.0)
        np.maximum(db, floor, out=db)
        np.matmul(db, plan.dct, out=mfcc[k : k + block])
        rise = np.zeros(db.shape[0], np.float32)
        np.maximum(np.diff(db, axis=0), 0.0).mean(axis=1, out=rise[1:])
        if last is not None:
            rise[0] = np.maximum(db[0] - last, 0.0).mean()
        last = db[-1].copy()
        a = k + delay
        if a < n:
            onset[a : a + rise.size] = rise[: n - a]
    return onset, mfcc
