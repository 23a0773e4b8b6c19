"""A microphone in a room: what a device that drifts records of the music it dances to."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

DRR_DB = -10.0
RT60_S = 0.8  # a dance studio: large and hard
RUMBLE_HZ = 500.0  # rooms and handling are loudest below this
HISS = 0.25  # amplitude of the white part beside the rumble


def room_response(rate: int, rng: np.random.Generator, *, drr_db: float = DRR_DB, rt60_s: float = RT60_S) -> F64:
    """A synthetic room: the direct sound at sample 0, then noise that decays by 60 dB in `rt60_s`.

    Args:
        rate: Samples per second.
        rng: Source of the reflections.
        drr_db: Energy of the direct sound over all that follows.
        rt60_s: Reverberation time.
    """
    n = int(rt60_s * rate)
    t = np.arange(n) / rate
    tail = rng.standard_normal(n) * 10 ** (-3 * t / rt60_s)
    tail[: int(0.005 * rate)] = 0.0  # the nearest wall is a metre away
    tail *= np.sqrt(10 ** (-drr_db / 10) / (tail**2).sum())
    tail[0] = 1.0
    return tail


def room_noise(n: int, rate: int, rng: np.random.Generator) -> F32:
    """(n,) noise of unit power: mostly rumble, some hiss."""
    rumble = _dull(rng.standard_normal(n, dtype=np.float32), RUMBLE_HZ, rate)
    rumble = rumble / np.sqrt(max(float((rumble**2).mean()), 1e-30))
    hiss = rng.standard_normal(n, dtype=np.float32)
    return np.asarray((rumble + HISS * hiss) / np.sqrt(1 + HISS**2), np.float32)


def _dull(x: NDArray[np.floating], corner_hz: float, rate: int) -> F64:
    """First-order low-pass."""
    from scipy.signal import lfilter

    keep = np.exp(-2 * np.pi * corner_hz / rate)
    return np.asarray(lfilter([1 - keep], [1.0, -keep], x), np.float64)


def resample_at(x: F32, position: F64) -> F32:
    """Values of `x` at fractional sample positions, by six-point Lagrange interpolation; silence outside.

    Args:
        x: (N,) samples.
        position: (M,) positions in samples.
    """
    base = np.floor(position).astype(np.int64)
    u = (position - base).astype(np.float32)
    padded = np.concatenate([np.zeros(3, np.float32), x, np.zeros(4, np.float32)])
    inside = (base >= -1) & (base <= len(x))
    at = np.clip(base, -1, len(x)) + 3
    out = np.zeros(len(position), np.float32)
    nodes = range(-2, 4)
    for k in nodes:
        weight = np.ones_like(u)
        for m in nodes:
            if m != k:
                weight *= (u - np.float32(m)) / np.float32(k - m)
        out += weight * padded[np.clip(at + k, 0, len(padded) - 1)]
    return np.where(inside, out, np.float32(0))


def record(
    master: F32, rate: int, offset_s: float, drift: float, length_s: float, snr_db: float, rng: np.random.Generator
) -> F32:
    """Record `master` in a room with a device of its own clock.

    Sample k of the recording is at t_device = k / rate and hears the music at (1 + drift) t_device + offset_s.

    Args:
        master: (N,) the music, its sample 0 at music time 0.
        rate: Nominal rate of both.
        offset_s: Music time of the recording's first sample.
        drift: Relative clock error, 1e-6 per ppm.
        length_s: Length by the device's clock.
        snr_db: Power of the reverberant music over that of the noise.
        rng: Source of room and noise.

    Returns:
        (M,) float32, peak 0.89.
    """
    from scipy.signal import oaconvolve

    room = room_response(rate, rng).astype(np.float32)
    wet = oaconvolve(master, room).astype(np.float32)
    n = round(length_s * rate)
    heard = resample_at(wet, ((1 + drift) * (np.arange(n) / rate) + offset_s) * rate)
    noise = room_noise(n, rate, rng)
    power = float((wet[: len(master)].astype(np.float64) ** 2).mean())
    scale = np.sqrt(power / 10 ** (snr_db / 10))
    heard += np.float32(scale) * noise
    return heard * np.float32(0.89 / max(float(np.abs(heard).max(initial=0.0)), 1e-9))
