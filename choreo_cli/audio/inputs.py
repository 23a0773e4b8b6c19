"""The two audio inputs of the model at any time grid, from our features or from somebody else's."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from choreo_cli.audio.features import Features
from choreo_cli.audio.filterbank import F32, F64, mel_edges
from formats.foreign.features_npz import FeatureArchive

I64 = NDArray[np.int64]
Mask = NDArray[np.bool_]

FLOOR_DB = -60.0
LOW_HZ, HIGH_HZ = 200.0, 8_000.0
_LOUD_DB = -12.0  # where the 95th percentile of a level known only relatively is put


def energy_input(rms: F32 | F64) -> F64:
    """Map RMS level (1 = full scale) to 0..1: -60 dB and below is 0, 0 dB and above is 1."""
    with np.errstate(divide="ignore"):
        return np.clip(20.0 * np.log10(np.asarray(rms, np.float64)) / -FLOOR_DB + 1.0, 0.0, 1.0)


def brightness_input(centroid_hz: F32 | F64, energy: F64) -> F64:
    """Map spectral centroid to 0..1, logarithmically over 200..8000 Hz; NaN where `energy` is 0."""
    hz = np.maximum(np.asarray(centroid_hz, np.float64), 1e-3)
    bright = np.clip(np.log(hz / LOW_HZ) / np.log(HIGH_HZ / LOW_HZ), 0.0, 1.0)
    return np.where(energy > 0, bright, np.nan)


def audio_inputs(features: Features, t_us: I64) -> tuple[F32, F32, Mask]:
    """Sample audio_energy and audio_brightness of our features.

    Args:
        t_us: (N,) int64 times on the music clock.

    Returns:
        (energy, brightness, mask): (N,) float32 in 0..1, NaN outside the recording (brightness also in silence), and
        (N,) bool, True inside it.
    """
    energy = energy_input(features.rms)
    bright = brightness_input(features.centroid, energy)
    frame_us = features.params.hop * 1e6 / features.params.rate
    return _sample(t_us, energy, bright, frame_us, features.duration_us)


def archive_inputs(archive: FeatureArchive, t_us: I64) -> tuple[F32, F32, Mask, tuple[str, ...]]:
    """Sample both inputs of a feature archive; what it lacks is estimated from its mel spectrum, and said.

    Returns:
        (energy, brightness, mask, assumptions); without level, brightness and mel the mask is False everywhere.
    """
    said: list[str] = []
    n, nothing = archive.n_frames, np.full(archive.n_frames, np.nan)
    mel = archive.mel
    energy, bright = nothing, nothing
    if archive.rms is not None:
        energy = energy_input(archive.rms)
    elif mel is not None:
        energy = energy_input(_fit(mel_rms(mel, archive.sr, archive.n_fft, relative=archive.mel_relative), n))
        level = f"its loud parts taken as {_LOUD_DB:.0f} dB" if archive.mel_relative else f"n_fft {archive.n_fft} taken"
        said.append(f"audio_energy is estimated from the mel spectrum, {level}")
    audible = np.where(np.isfinite(energy), energy, 1.0)
    if archive.centroid is not None:
        bright = brightness_input(archive.centroid, _fit(audible, archive.centroid.size))
    elif mel is not None:
        bright = brightness_input(mel_centroid(mel, archive.sr), _fit(audible, mel.shape[1]))
        said.append("audio_brightness is estimated from the mel spectrum")
    frame_us = archive.hop * 1e6 / archive.sr
    e, b, mask = _sample(t_us, _fit(energy, n), _fit(bright, n), frame_us, archive.duration_us)
    return e, b, mask & np.isfinite(e), tuple(said)


def mel_rms(mel: F32, rate: int, n_fft: int, *, relative: bool = False) -> F64:
    """Estimate RMS level from Slaney mel power.

    Triangles of unit area times half their base add up to 1 at every frequency, so that sum over bands is the power
    of all bins; by Parseval, and 3/8 for the power of a Hann window, it is 3/16 n_fft^2 rms^2.

    Args:
        mel: (M, T) power over 0..rate/2.
        relative: The level is unknown; the 95th percentile is put at -12 dB.
    """
    edges = mel_edges(rate, mel.shape[0])
    power = ((edges[2:] - edges[:-2]) / 2.0) @ np.maximum(mel.astype(np.float64), 0.0)
    rms = np.sqrt(power * 16.0 / 3.0) / n_fft
    if relative and rms.size and np.nanmax(rms) > 0:
        rms *= 10 ** (_LOUD_DB / 20) / max(float(np.nanpercentile(rms, 95)), 1e-12)
    return np.asarray(rms)


def mel_centroid(mel: F32, rate: int) -> F64:
    """Estimate the magnitude-weighted centroid in Hz: each band as wide as its triangle, flat inside."""
    edges = mel_edges(rate, mel.shape[0])
    weight = np.sqrt(np.maximum(mel.astype(np.float64), 0.0)) * ((edges[2:] - edges[:-2]) / 2.0)[:, None]
    total = weight.sum(axis=0)
    centroid: F64 = np.divide(edges[1:-1] @ weight, total, out=np.full(total.size, np.nan), where=total > 0)
    return centroid


def _fit(values: F64, n: int) -> F64:
    """Bring a row to n frames: archives whose arrays differ by a frame or two are common."""
    return values[:n] if values.size >= n else np.pad(values, (0, n - values.size), constant_values=np.nan)


def _sample(t_us: I64, energy: F64, bright: F64, frame_us: float, duration_us: int) -> tuple[F32, F32, Mask]:
    t = np.asarray(t_us, np.int64)
    mask = (t >= 0) & (t <= duration_us) & (energy.size > 0)
    if energy.size == 0:
        nothing = np.full(t.size, np.nan, np.float32)
        return nothing, nothing.copy(), mask
    at = np.arange(energy.size) * frame_us
    e, b = np.interp(t, at, energy), np.interp(t, at, bright)
    return np.where(mask, e, np.nan).astype(np.float32), np.where(mask, b, np.nan).astype(np.float32), mask
