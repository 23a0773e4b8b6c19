"""Put samples of one clock onto the 50 Hz frame clock, and count what is real.

Times are integer microseconds on the music clock. A value between two samples is interpolated linearly only
where the samples are close enough; everything else is NaN and masked, never filled.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from choreo_cli.errors import DataError

STEP_US = 20_000
MAX_PERIODS = 1.5
MAX_GAP_US = 190_000
MIN_POSE_FPS = 8.0
SPLIT_PERIODS = 5.0

Bool = NDArray[np.bool_]
I64 = NDArray[np.int64]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Grid:
    """Frame times: `n` integer multiples of `step_us` from `start_us`."""

    start_us: int
    n: int
    step_us: int = STEP_US

    @classmethod
    def covering(cls, first_us: int, last_us: int, step_us: int = STEP_US) -> Grid:
        """Hold every multiple of `step_us` inside [first_us, last_us]."""
        start = -(-int(first_us) // step_us)
        return cls(start * step_us, max(0, int(last_us) // step_us - start + 1), step_us)

    @property
    def t_us(self) -> I64:
        """(n,) int64 frame times."""
        return self.start_us + self.step_us * np.arange(self.n, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Bracket:
    """Where each output time lies between two source samples; one join serves every column.

    Args:
        left: (N,) index of the sample at or before the time, clamped into [0, n_source - 2].
        weight: (N,) float64 position between the two samples, clamped into [0, 1].
        inside: (N,) the time lies within the source's first and last sample.
        gap: (N,) distance of the two samples, in the unit of the times.
        n_source: Number of source samples.
    """

    left: NDArray[np.intp]
    weight: F64
    inside: Bool
    gap: NDArray[np.int64] | F64
    n_source: int


@dataclass(frozen=True, slots=True)
class Resampled:
    """Values on the frame clock.

    Args:
        values: (N, C) float32, NaN where nothing real is near.
        valid: (N,) the frame is interpolated between two real neighbours.
        real_fraction: Native samples inside the window over frames emitted (may exceed 1).
        max_gap_us: Longest distance between neighbouring native samples inside the window, edges included.
    """

    values: F32
    valid: Bool
    real_fraction: float
    max_gap_us: int


def uniform_step(t: ArrayLike) -> int:
    """Return the step of exactly equidistant integer times, else 0."""
    times = np.asarray(t)
    if times.dtype.kind != "i" or len(times) < 2:
        return 0
    step = int(times[1] - times[0])
    if step <= 0 or int(times[-1] - times[0]) != step * (len(times) - 1):
        return 0
    return step if bool(np.all(np.diff(times) == step)) else 0


def bracket(t_source: ArrayLike, t_out: ArrayLike) -> Bracket:
    """Find the source samples around each output time.

    Args:
        t_source: (S,) strictly increasing times, integers or floats.
        t_out: (N,) times in the same unit, any order.

    Raises:
        DataError: The source times do not increase.
    """
    source, out = np.asarray(t_source), np.asarray(t_out)
    n = len(source)
    if n == 0:
        zero = np.zeros(len(out), np.intp)
        return Bracket(zero, np.zeros(len(out)), np.zeros(len(out), bool), np.zeros(len(out)), 0)
    steps = np.diff(source)
    if n > 1 and not bool((steps > 0).all()):
        raise DataError("times of a stream do not increase", hint="sort it and drop duplicates first")
    left = np.clip(_last_at_or_before(source, out), 0, max(n - 2, 0))
    gap = steps[left] if n > 1 else np.zeros(len(out), source.dtype)
    weight = out - source[left]
    weight = np.clip(weight / gap, 0.0, 1.0) if n > 1 else np.zeros(len(out))
    inside = (out >= source[0]) & (out <= source[-1])
    return Bracket(left, weight, inside, gap, n)


def _last_at_or_before(source: NDArray[np.generic], out: NDArray[np.generic]) -> NDArray[np.intp]:
    """Index of the last source time <= each output time; linear time where either side is equidistant."""
    if source.dtype.kind == "i" and out.dtype.kind == "i":
        if step := uniform_step(source):
            return np.asarray((out - source[0]) // step, np.intp)
        if (step := uniform_step(out)) and len(source) > 64:
            # Count the sources that fall at or before each output: a histogram and its running sum.
            first = np.clip(-((out[0] - source) // step), 0, len(out))
            return np.cumsum(np.bincount(first, minlength=len(out) + 1)[: len(out)]) - 1
    return np.asarray(np.searchsorted(source, out, side="right") - 1)


def lerp(join: Bracket, values: ArrayLike) -> NDArray[np.floating]:
    """Interpolate columns linearly; beyond the ends the end value is held (mask with `inside`).

    Args:
        join: From `bracket`.
        values: (S,) or (S, ...) samples; float64 is computed in float64, anything else in float32.
    """
    v = np.asarray(values)
    if v.dtype != np.float64:
        v = v.astype(np.float32, copy=False)
    if join.n_source == 0:
        return np.full((len(join.left), *v.shape[1:]), np.nan, v.dtype)
    w = join.weight.astype(v.dtype, copy=False).reshape((-1,) + (1,) * (v.ndim - 1))
    if join.n_source == 1:
        return np.repeat(v[:1], len(join.left), axis=0)
    low, out = np.take(v, join.left, axis=0), np.take(v, join.left + 1, axis=0)
    out -= low
    out *= w
    out += low
    # An exact hit keeps its value even beside a NaN neighbour: 0 * NaN is NaN.
    exact = np.flatnonzero(join.weight == 0.0)
    out[exact] = low[exact]
    end = np.flatnonzero(join.weight == 1.0)
    out[end] = v[join.left[end] + 1]
    return out


def nearest(t_source: ArrayLike, t_out: ArrayLike) -> NDArray[np.intp]:
    """Index of the source sample nearest to each time; a tie goes to the earlier one. For flags and indices."""
    source, out = np.asarray(t_source), np.asarray(t_out)
    join = bracket(source, out)
    if join.n_source < 2:
        return join.left
    right = join.left + 1
    return np.where(source[right] - out < out - source[join.left], right, join.left)


def native_period_us(t_us: ArrayLike) -> float:
    """Median distance of neighbouring samples, microseconds; infinite below two samples."""
    t = np.asarray(t_us)
    return float(np.median(np.diff(t))) if len(t) > 1 else float("inf")


def longest_gap_us(t_us: ArrayLike, first_us: int, last_us: int) -> int:
    """Longest stretch of [first_us, last_us] without a sample."""
    t = np.asarray(t_us, np.int64)
    t = t[(t >= first_us) & (t <= last_us)]
    return int(np.diff(np.concatenate([[first_us], t, [last_us]])).max(initial=0))


def resample(
    t_us: ArrayLike, values: ArrayLike, grid: Grid, *, max_gap_us: float | None = None, min_fps: float = 0.0
) -> Resampled:
    """Interpolate a stream onto the frame clock between close neighbours only.

    Args:
        t_us: (S,) int64 strictly increasing times on the music clock.
        values: (S, C) samples; a NaN sample is a missing one.
        grid: The frame clock.
        max_gap_us: Widest pair of neighbours to interpolate between; default min(1.5 native periods, 190 ms).
        min_fps: A slower stream is never interpolated (8 for poses): every frame is masked.
    """
    t = np.asarray(t_us, np.int64)
    v = np.asarray(values, np.float32)
    v = v.reshape(len(t), v.shape[1] if v.ndim > 1 else 1)
    out_t = grid.t_us
    period = native_period_us(t)
    limit = min(MAX_PERIODS * period, MAX_GAP_US) if max_gap_us is None else max_gap_us
    inside = (t >= grid.start_us) & (t < grid.start_us + grid.n * grid.step_us)
    fraction = float(inside.sum() / grid.n) if grid.n else 0.0
    gap = longest_gap_us(t, grid.start_us, grid.start_us + max(grid.n - 1, 0) * grid.step_us)
    if period <= 0 or 1e6 / period < min_fps or len(t) < 2:
        empty = np.full((grid.n, v.shape[1]), np.nan, np.float32)
        return Resampled(empty, np.zeros(grid.n, bool), fraction, gap)
    join = bracket(t, out_t)
    out = lerp(join, v)
    near = join.inside & ((join.gap <= limit) | (join.weight == 0.0) | (join.weight == 1.0))
    # A row is real when one of its columns is; the common case (no NaN at all) is seen in one sum.
    if not np.isfinite(out.sum()):
        near &= ~np.isnan(out).all(axis=1)
    out[~near] = np.nan
    return Resampled(out, near, fraction, gap)


def resample_pose(t_us: ArrayLike, xyz: ArrayLike, grid: Grid) -> Resampled:
    """Put a pose stream onto the frame clock: low-passed when faster, masked when slower than 8 fps.

    Args:
        t_us: (S,) int64 times on the music clock.
        xyz: (S, J, D) float32 positions, NaN = missing.
        grid: The frame clock.

    Returns:
        `values` of shape (N, J * D).
    """
    t = np.asarray(t_us, np.int64)
    v = np.asarray(xyz, np.float32).reshape(len(t), -1)
    period = native_period_us(t)
    if np.isfinite(period) and period > 0:
        v = trailing_mean(t, v, round(grid.step_us / period))
    return resample(t, v, grid, min_fps=MIN_POSE_FPS)


def trailing_mean(t_us: I64, values: F32, n: int) -> F32:
    """Average each sample with the `n - 1` before it: the causal low-pass before down-sampling.

    A box as long as one output step has its first zero at the output rate. Samples across a gap wider than
    1.5 native periods are not averaged. `n <= 1` returns the input.
    """
    if n <= 1 or len(t_us) < 2:
        return values
    near = MAX_PERIODS * native_period_us(t_us)
    total, count = values.copy(), np.ones(len(t_us), np.float32)
    joined = np.ones(len(t_us), bool)
    step_ok = np.concatenate([[False], np.diff(t_us) <= near])
    for back in range(1, n):
        joined[back:] &= step_ok[1 : len(t_us) - back + 1]
        joined[:back] = False
        total[joined] += values[np.flatnonzero(joined) - back]
        count += joined
    return total / count[:, None]


def lowpass(values: ArrayLike, rate_in: float, rate_out: float) -> NDArray[np.floating]:
    """Remove what a lower rate cannot carry (zero phase, offline): a Hamming-windowed sinc.

    NaN samples are left out of the average and stay NaN. The cut-off is 0.45 of the lower rate
    (Smith, "The Scientist and Engineer's Guide to DSP", ch. 16).

    Args:
        values: (S,) or (S, C) equidistant samples.
        rate_in: Their rate, Hz.
        rate_out: The rate they will be sampled at, Hz; not lower than `rate_in` returns the input.
    """
    from scipy.signal import fftconvolve

    v = np.asarray(values)
    if rate_out >= rate_in or len(v) < 3:
        return v
    cut = 0.45 * rate_out / rate_in
    half = int(np.ceil(2.0 / cut))
    k = np.arange(-half, half + 1)
    kernel = (2 * cut * np.sinc(2 * cut * k) * np.hamming(2 * half + 1)).reshape((-1,) + (1,) * (v.ndim - 1))
    there = np.isfinite(v)
    total = fftconvolve(np.where(there, v, 0.0), kernel, mode="same", axes=0)
    weight = fftconvolve(there.astype(np.float64), kernel, mode="same", axes=0)
    return np.where(there, total / np.where(np.abs(weight) > 1e-3, weight, 1.0), np.nan).astype(v.dtype)


def segments(t_us: ArrayLike, periods: float = SPLIT_PERIODS) -> list[tuple[int, int]]:
    """Cut a stream at gaps wider than `periods` median periods; half-open index ranges."""
    t = np.asarray(t_us, np.int64)
    if len(t) == 0:
        return []
    cuts = np.flatnonzero(np.diff(t) > periods * native_period_us(t)) + 1 if len(t) > 1 else np.empty(0, int)
    edges = [0, *cuts.tolist(), len(t)]
    return list(pairwise(edges))


def phase_at(beats: ArrayLike, t: ArrayLike) -> tuple[F64, NDArray[np.int32]]:
    """Position inside the beat: phase in [0, 1) and beat index; NaN and -1 outside the beats.

    phase = (t - b_i) / (b_{i+1} - b_i), i = searchsorted(beats, t, right) - 1. Same unit for both arguments; times of
    any shape.
    """
    b, at = np.asarray(beats), np.asarray(t)
    if len(b) < 2:
        return np.full(at.shape, np.nan), np.full(at.shape, -1, np.int32)
    i = np.searchsorted(b, at, side="right") - 1
    ok = (i >= 0) & (i < len(b) - 1)
    j = np.where(ok, i, 0)
    phase = (at - b[j]) / (b[j + 1] - b[j])
    # A float quotient may round up to 1 just before the next beat.
    phase = np.minimum(phase, np.nextafter(1.0, 0.0))
    return np.where(ok, phase, np.nan), np.where(ok, i, -1).astype(np.int32)
