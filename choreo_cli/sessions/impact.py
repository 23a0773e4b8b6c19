"""Impact envelope: how hard the body is braking, where a dancer lands on the beat.

Impact is the rectified deceleration of the mean joint speed. Speed itself is a poor clock: it peaks between the
beats and slips by half a beat (datalane.md section 4.2).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from choreo_cli.motion.resample import MAX_PERIODS, bracket, lerp, native_period_us
from choreo_cli.motion.speed import mean_present, norms, savgol_slope
from choreo_cli.sessions.clock_estimate import LIMITS, Envelope

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

FAST_FPS = 45.0
MAX_TAKE_US = 1_200_000_000  # 20 minutes from the middle of a longer take are enough for a clock


def window_half(rate_hz: float) -> int:
    """Half width of the Savitzky-Golay window: 5 frames below 45 fps, 9 above."""
    return 2 if rate_hz < FAST_FPS else 4


def uniform(t_us: I64, values: F32) -> tuple[I64, F32, float]:
    """Put a stream on its own nominal rate: filters need equal steps, phones do not give them.

    Returns:
        Times (microseconds), values (NaN in gaps wider than 1.5 periods) and the period in seconds.
    """
    period = native_period_us(t_us)
    steps = np.diff(t_us)
    if len(steps) and bool((np.abs(steps - period) <= 0.02 * period).all()):
        return t_us, values, period / 1e6
    n = int((t_us[-1] - t_us[0]) // period) + 1
    t = t_us[0] + np.rint(period * np.arange(n)).astype(np.int64)
    join = bracket(t_us, t)
    out = lerp(join, values).astype(np.float32)
    wide = (join.gap > MAX_PERIODS * period) & (join.weight > 0) & (join.weight < 1)
    out[wide] = np.nan
    return t, out, period / 1e6


def impact_of_pose(t_us: ArrayLike, xyz: ArrayLike) -> Envelope:
    """Impact envelope of a pose stream, on its own clock.

    Args:
        t_us: (T,) int64 strictly increasing device times.
        xyz: (T, J, D) positions in any unit, NaN = missing. Joints present in under half of the frames are left out.
    """
    t, x = middle(np.asarray(t_us, np.int64), np.asarray(xyz, np.float32))
    rate = 1e6 / native_period_us(t) if len(t) > 1 else 0.0
    if len(t) < 12:
        return Envelope(t, np.full(len(t), np.nan, np.float32), rate, f"pose:{rate:.4g}")
    seen = np.isfinite(x[..., 0]).mean(axis=0) >= 0.5
    x = x[:, seen] if seen.any() else x
    t, x, dt = uniform(t, x)
    half = window_half(rate)
    speed = mean_present(norms(savgol_slope(x, half, dt)))
    notes = _notes(x, speed, half, dt)
    fall, rise = _braking(speed, half, dt)
    return Envelope(t, fall, rate, f"pose:{round(rate, 1)}:sg{2 * half + 1}", notes, rise)


def impact_of_speed(t_us: ArrayLike, speed: ArrayLike) -> Envelope:
    """Impact envelope of a signal that is a speed already: quantity of motion.

    Args:
        t_us: (T,) int64 strictly increasing device times.
        speed: (T,) float32, NaN = missing.
    """
    t, v = middle(np.asarray(t_us, np.int64), np.asarray(speed, np.float32))
    rate = 1e6 / native_period_us(t) if len(t) > 1 else 0.0
    if len(t) < 12:
        return Envelope(t, np.full(len(t), np.nan, np.float32), rate, f"qom:{rate:.4g}")
    t, v, dt = uniform(t, v)
    half = window_half(rate)
    notes = ("still",) if not np.nanstd(v) > 0 else ()
    fall, rise = _braking(v, half, dt)
    return Envelope(t, fall, rate, f"qom:{round(rate, 1)}:sg{2 * half + 1}", notes, rise)


def _braking(speed: F32, half: int, dt: float) -> tuple[F32, F32]:
    """Rectified deceleration and rectified acceleration."""
    slope = savgol_slope(speed, half, dt)
    return np.maximum(-slope, np.float32(0)), np.maximum(slope, np.float32(0))


def middle(t_us: I64, values: F32) -> tuple[I64, F32]:
    """The 20 minutes in the middle of a longer take."""
    if len(t_us) < 2 or t_us[-1] - t_us[0] <= MAX_TAKE_US:
        return t_us, values
    start = t_us[0] + (t_us[-1] - t_us[0] - MAX_TAKE_US) // 2
    a, b = np.searchsorted(t_us, [start, start + MAX_TAKE_US])
    return t_us[a:b], values[a:b]


def _notes(xyz: F32, speed: F32, half: int, dt: float) -> tuple[str, ...]:
    """Say whether the body is still, or its movement drowned in noise.

    Still: half-second means of the joints stay within 1.2 % of the body's size. Noise: white pose noise of sigma s
    has third differences of s * sqrt(20), and fakes a speed of about s * sqrt(D) / (dt * sqrt(sum k^2)) behind the
    filter; it is too much when that is most of the measured speed.
    """
    if not np.isfinite(speed).any():
        return ()
    some = np.isfinite(xyz).any(axis=(1, 2))
    size = float(np.median(np.nanmax(xyz[some], axis=1) - np.nanmin(xyz[some], axis=1), axis=0).max())
    n = max(1, round(0.5 / dt))
    blocks = np.cumsum(np.nan_to_num(xyz, nan=0.0, copy=True), axis=0, dtype=np.float64)[::n]
    there = np.cumsum(np.isfinite(xyz), axis=0)[::n]
    means = np.diff(blocks, axis=0) / np.maximum(np.diff(there, axis=0), 1)
    means = np.where(np.diff(there, axis=0) > n // 2, means, np.nan)
    full = np.isfinite(means).sum(axis=0).min(axis=-1) >= 4
    moved = float(np.sqrt(np.nanvar(means[:, full], axis=0).sum(axis=-1)).mean()) if full.any() else float("nan")
    if moved < LIMITS.still_share * size or float(np.nanmax(speed)) == 0.0:
        return ("still",)
    third = np.diff(xyz[:4000], n=3, axis=0) ** 2
    if not np.isfinite(third).any():
        return ()
    noise = float(np.sqrt(np.nanmedian(third) / 0.455 / 20.0))
    faked = noise * float(np.sqrt(xyz.shape[2])) / (dt * np.sqrt(2.0 * sum(k * k for k in range(1, half + 1))))
    return ("low_snr",) if faked > LIMITS.noise_share * float(np.nanmean(speed)) else ()
