"""The 200 Hz grid of the motion clock: envelopes on it, peaks between its samples."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from choreo_cli.motion.resample import MAX_GAP_US, bracket, lerp
from choreo_cli.sessions.clock_estimate import Envelope

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

STEP_US = 5_000
CLIP_Z = 5.0


def onto_grid(env: Envelope, t_us: NDArray[np.int64]) -> F32:
    """Sample an envelope at the grid times, z-scored, 0 where missing.

    Values beyond 5 standard deviations are cut: one tracking glitch must not outvote a hundred beats.
    """
    there = np.isfinite(env.value)
    if there.sum() < 2:
        return np.zeros(len(t_us), np.float32)
    t, v = env.t_us[there], env.value[there].astype(np.float64)
    join = bracket(t, t_us)
    out = lerp(join, v)
    ok = join.inside & (join.gap <= max(MAX_GAP_US, 1.5e6 / max(env.rate_hz, 1e-3)))
    if not ok.any():
        return np.zeros(len(t_us), np.float32)
    spread = out[ok].std()
    if not spread > 0:
        return np.zeros(len(t_us), np.float32)
    z = np.minimum((out - out[ok].mean()) / spread, CLIP_Z)
    z -= z[ok].mean()
    return np.where(ok, z / z[ok].std(), 0.0).astype(np.float32)


def parabolic(curve: F64, i: int) -> float:
    """Sub-sample position of a peak at index `i`, by the parabola through three points."""
    if i <= 0 or i >= len(curve) - 1:
        return float(i)
    a, b, c = curve[i - 1], curve[i], curve[i + 1]
    bend = a - 2 * b + c
    return i + (float(np.clip(0.5 * (a - c) / bend, -0.5, 0.5)) if bend < 0 else 0.0)
