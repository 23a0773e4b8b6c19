"""Heart rate on the frame clock: value, causal slope, mask and age."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from choreo_cli.motion.resample import bracket, lerp

MAX_GAP_US = 5_000_000
SLOPE_US = 4_000_000
BOUNDS = (30.0, 220.0)
SLOPE_BOUND = 10.0

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


class HeartInputs(NamedTuple):
    """Heart columns of the frames table, each (T,).

    Args:
        hr: beats/min, NaN = null.
        hr_slope: (beats/min)/s over the last 4 s, NaN = null.
        m_hr: The heart rate is measured (interpolated over at most 5 s).
        age_us: Time since the last real sample, -1 before the first.
        saturated: Slopes cut at the bound of 10.
    """

    hr: F32
    hr_slope: F32
    m_hr: NDArray[np.bool_]
    age_us: NDArray[np.int64]
    saturated: int


def heart_inputs(t_us: ArrayLike, series_t_us: ArrayLike, series_hr: ArrayLike) -> HeartInputs:
    """Interpolate heart rate onto the frames and fit its slope over the last 4 s.

    A value outside 30..220 is a sentinel and counts as missing. The slope at t is the least-squares slope of the
    real samples in (t - 4 s, t]; at least two samples and 1.5 s between the outermost are needed. Only samples
    at or before t enter it, so that a live loop can reproduce it.

    Args:
        t_us: (T,) int64 frame times on the music clock.
        series_t_us: (S,) int64 strictly increasing sample times on the same clock.
        series_hr: (S,) beats/min.
    """
    t = np.asarray(t_us, np.int64)
    value = np.asarray(series_hr, np.float64)
    good = np.isfinite(value) & (value >= BOUNDS[0]) & (value <= BOUNDS[1])
    ts, value = np.asarray(series_t_us, np.int64)[good], value[good]
    nothing = np.full(len(t), np.nan, np.float32)
    if len(ts) == 0:
        return HeartInputs(nothing, nothing.copy(), np.zeros(len(t), bool), np.full(len(t), -1, np.int64), 0)
    join = bracket(ts, t)
    hr = lerp(join, value)
    ok = join.inside & ((join.gap <= MAX_GAP_US) | (join.weight == 0.0) | (join.weight == 1.0))
    last = np.searchsorted(ts, t, side="right") - 1
    age = np.where(last >= 0, t - ts[np.maximum(last, 0)], -1)
    slope = trailing_slope(ts, value, t)
    over = np.abs(slope) > SLOPE_BOUND
    cut: F32 = np.where(ok, np.clip(slope, -SLOPE_BOUND, SLOPE_BOUND), np.nan).astype(np.float32)
    return HeartInputs(
        np.where(ok, hr, np.nan).astype(np.float32), cut, ok, age.astype(np.int64), int((over & ok).sum())
    )


def trailing_slope(
    ts_us: NDArray[np.int64], value: NDArray[np.float64], t_us: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Least-squares slope per second of the samples in (t - 4 s, t] for each t; NaN with too few.

    Computed once per set of samples (it changes only when a sample enters or leaves), relative to the newest
    sample, so that neither the future nor hours of history touch the last digit.
    """
    b = np.searchsorted(ts_us, t_us, side="right")
    a = np.searchsorted(ts_us, t_us - SLOPE_US, side="right")
    new = np.concatenate([[True], (np.diff(a) != 0) | (np.diff(b) != 0)])[: len(t_us)]
    first, end = a[new], b[new]
    count = end - first
    newest = np.maximum(end - 1, 0)
    sums = np.zeros((5, len(first)))
    for k in range(int(count.max(initial=0))):
        i = np.minimum(first + k, len(ts_us) - 1)
        there = k < count
        s = np.where(there, (ts_us[i] - ts_us[newest]) / 1e6, 0.0)
        v = np.where(there, value[i] - value[newest], 0.0)
        sums += np.stack([there, s, v, s * s, s * v])
    n, sx, sy, sxx, sxy = sums
    span = np.where(count > 0, ts_us[newest] - ts_us[np.minimum(first, len(ts_us) - 1)], 0)
    ok = (n >= 2) & (span >= 1_500_000)
    slope = np.where(ok, (n * sxy - sx * sy) / np.where(ok, n * sxx - sx * sx, 1.0), np.nan)
    return slope[np.cumsum(new) - 1] if len(slope) else np.full(len(t_us), np.nan)
