"""Causal measures of a moving body on the 50 Hz frame clock, in the units of the pose.

Every row depends on that row and earlier ones only, through windows of fixed length, so a live loop that pushes
one frame at a time and an offline pass over hours give the same numbers. A gap forgets everything.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from choreo_cli.errors import DataError
from choreo_cli.motion.resample import MAX_PERIODS, STEP_US
from choreo_cli.motion.speed import mean_present, norms, up_axis

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

DT_S = STEP_US / 1e6
VELOCITY_FRAMES = 4  # slope over 60 ms: 30 ms late, noise 0.22 m/s for 1 cm
JERK_STRIDE = 2  # third difference over 120 ms: at 20 ms spacing 1 cm of pose noise hides a dancer tenfold
BACK = 3 * JERK_STRIDE
TRAIL = 100  # 2 s: the high-pass of sway and bounce
RATE_WINDOW = 200  # 4 s: motion_freq
RATE_EVERY = 10  # motion_freq is renewed five times a second, on absolute frame numbers
RATE_LAGS = (6, 100)  # 8.3 .. 0.5 Hz
RATE_MIN = 100  # two seconds must be there
VOICED = 0.35
CHUNK = 8192

LATENCY_US = {"motion_energy": 30_000, "jerk": 60_000}
PELVIS = ("pelvis", "hips", "root", "mid_hip", "hip_center")


@dataclass(frozen=True, slots=True)
class Measured:
    """Measures per frame, all (T,) float32, NaN = not measurable.

    Args:
        speed: Mean joint speed, units/s (or the quantity of motion itself).
        jerk: Mean norm of the third difference, units/s^3.
        rate: Dominant rate of `speed`, Hz, held while unvoiced.
        sway: Lateral pelvis displacement from its 2 s mean, units, subject's left positive.
        bounce: Vertical pelvis displacement from its 2 s mean, units, up positive.
        left: Mean speed of the left joints, units/s.
        right: Mean speed of the right joints, units/s.
    """

    speed: F32
    jerk: F32
    rate: F32
    sway: F32
    bounce: F32
    left: F32
    right: F32


class Measures:
    """Measure a stream frame by frame or in blocks; the blocking changes nothing.

    Args:
        joints: Names of the J joints; empty for a quantity-of-motion signal (J = D = 1).
        dims: D, 2 or 3.
        up: `+y`, `-y` or `+z`.
    """

    def __init__(self, joints: tuple[str, ...], dims: int, up: str = "+y") -> None:
        where = {name: i for i, name in enumerate(joints)}
        self.joints, self.dims, self.up = joints, dims, up_axis(up)
        self._left = np.array([i for name, i in where.items() if name.startswith("l_")], int)
        self._right = np.array([i for name, i in where.items() if name.startswith("r_")], int)
        self._hips = (where["l_hip"], where["r_hip"]) if {"l_hip", "r_hip"} <= where.keys() else None
        self._pelvis = next((where[name] for name in PELVIS if name in where), None)
        self.reset()

    @property
    def has_pelvis(self) -> bool:
        return self._pelvis is not None or self._hips is not None

    @property
    def has_hips(self) -> bool:
        return self._hips is not None

    def reset(self) -> None:
        """Forget the past."""
        n = max(1, len(self.joints))
        self._xyz = np.full((BACK, n, self.dims), np.nan, np.float32)
        self._trail = np.zeros((TRAIL - 1, 2 * self.dims + 2), np.float64)
        self._speed = np.zeros((RATE_WINDOW - 1, 2), np.float32)
        self._rate = np.float32(np.nan)
        self._last_us: int | None = None

    def process(self, t_us: I64, xyz: F32) -> Measured:
        """Measure a block that continues the stream.

        Args:
            t_us: (T,) frame times, 20 ms apart; a step above 30 ms or a frame without any joint is a gap.
            xyz: (T, J, D) float32.

        Raises:
            DataError: Times do not increase, or the shape is not the declared one.
        """
        t, x = np.asarray(t_us, np.int64), np.asarray(xyz, np.float32)
        shape = (len(t), max(1, len(self.joints)), self.dims)
        if x.shape != shape:
            raise DataError(f"motion frames have shape {x.shape}, expected {shape}")
        before = np.concatenate([[t[0] - STEP_US if self._last_us is None else self._last_us], t[:-1]]) if len(t) else t
        steps = t - before
        if (steps <= 0).any():
            raise DataError("motion frame times do not increase", hint="sort them and drop duplicates")
        empty = np.asarray(np.isnan(x[..., 0]).all(axis=1))
        fresh = np.asarray((steps > MAX_PERIODS * STEP_US) | empty)
        cuts = np.flatnonzero(fresh | np.concatenate([[False], empty[:-1]])) if len(t) else np.empty(0, int)
        edges = sorted({0, *cuts.tolist(), *range(0, len(t), CHUNK), len(t)})
        out = np.full((7, len(t)), np.nan, np.float32)
        for a, b in pairwise(edges):
            if fresh[a]:
                self.reset()
            if not empty[a]:
                out[:, a:b] = self._run(t[a:b], x[a:b])
        if len(t):
            self._last_us = int(t[-1])
        return Measured(*out)

    def _run(self, t: I64, block: F32) -> F32:
        """Measure consecutive frames; `self` holds what came before them."""
        x = np.concatenate([self._xyz, block])
        self._xyz = x[-BACK:].copy()
        out = np.full((7, len(t)), np.nan, np.float32)
        if self.joints:
            out[0], out[1], out[5], out[6] = self._joint_speeds(x, len(t))
            if self.has_pelvis:
                out[3], out[4] = self._pelvis_motion(block)
        else:
            q, s = x[:, 0, 0], JERK_STRIDE
            out[0] = block[:, 0, 0]
            # Quantity of motion is a speed already: its second difference stands for jerk.
            out[1] = np.abs(q[BACK:] - 2 * q[BACK - s : -s] + q[BACK - 2 * s : -2 * s]) / np.float32((s * DT_S) ** 2)
        out[2] = self._dominant_rate(t, out[0])
        return out

    def _joint_speeds(self, x: F32, n: int) -> tuple[F32, F32, F32, F32]:
        def at(back: int) -> F32:
            return x[BACK - back : BACK - back + n]

        slope = (np.float32(1.5) * (at(0) - at(3)) + np.float32(0.5) * (at(1) - at(2))) / np.float32(5 * DT_S)
        speeds = norms(np.asarray(slope, np.float32))
        s = JERK_STRIDE
        third = (at(0) - at(3 * s)) - np.float32(3) * (at(s) - at(2 * s))
        jerk = mean_present(norms(np.asarray(third, np.float32))) / np.float32((s * DT_S) ** 3)
        nothing = np.full(n, np.nan, np.float32)
        # Columns picked from a single row are added in another order than those of a block: so never a single row.
        rows = speeds if n > 1 else np.repeat(speeds, 2, axis=0)
        left = mean_present(rows[:, self._left])[:n] if len(self._left) else nothing
        right = mean_present(rows[:, self._right])[:n] if len(self._right) else nothing
        return mean_present(speeds), jerk, left, right

    def _pelvis_motion(self, block: F32) -> tuple[F32, F32]:
        """Displacement of the pelvis from its mean over the last 2 s, along the hips and along up."""
        d = self.dims
        axis, sign = self.up
        pelvis = block[:, self._pelvis] if self._pelvis is not None else block[:, list(self._hips or ())].mean(axis=1)
        hips = block[:, self._hips[0]] - block[:, self._hips[1]] if self._hips else np.zeros_like(pelvis)
        rows = np.zeros((len(block), 2 * d + 2), np.float64)
        for columns, flag, values in ((slice(0, d), 2 * d, pelvis), (slice(d, 2 * d), 2 * d + 1, hips)):
            there = np.asarray(np.isfinite(values).all(axis=1))
            rows[:, columns] = np.where(there[:, None], values, 0.0)
            rows[:, flag] = there
        joined = np.concatenate([self._trail, rows])
        self._trail = joined[-(TRAIL - 1) :].copy()
        sums = trailing_sum(joined, TRAIL)[TRAIL - 1 :]
        mean = sums[:, :d] / np.maximum(sums[:, 2 * d], 1)[:, None]
        moved = pelvis - mean
        across = sums[:, d : 2 * d]
        flat = [k for k in range(d) if k != axis]
        length = np.sqrt((across[:, flat] ** 2).sum(axis=1))
        if self._hips is None:
            sway = moved[:, flat[0]]
        else:
            sway = (moved[:, flat] * across[:, flat]).sum(axis=1) / np.where(length > 0, length, np.nan)
        return sway.astype(np.float32), (sign * moved[:, axis]).astype(np.float32)

    def _dominant_rate(self, t: I64, speed: F32) -> F32:
        there = np.isfinite(speed)
        rows = np.stack([np.where(there, speed, np.float32(0)), there.astype(np.float32)], axis=1)
        joined = np.concatenate([self._speed, rows])
        self._speed = joined[-(RATE_WINDOW - 1) :].copy()
        due = np.flatnonzero((t // STEP_US) % RATE_EVERY == 0)
        windows = sliding_window_view(joined, RATE_WINDOW, axis=0)
        rates = np.full(len(t) + 1, np.nan, np.float32)
        rates[0] = self._rate
        rates[due + 1] = dominant_rate(windows[due, 0], windows[due, 1])
        held = np.maximum.accumulate(np.where(np.isfinite(rates), np.arange(len(rates)), 0))
        out = rates[held][1:]
        self._rate = out[-1]
        return out


def trailing_sum(values: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """Sum over the last `n` rows (the rows before the first count as 0).

    Adds powers of two of rows: the order of the additions does not depend on where a block starts, so blocks
    of any size agree in the last bit.
    """
    total, power, offset, size = np.zeros_like(values), values, 0, 1
    while n:
        if n & 1:
            total[offset:] += power[: len(values) - offset] if offset else power
            offset += size
        n >>= 1
        if n:
            doubled = power.copy()
            doubled[size:] += power[:-size] if size < len(power) else power[:0]
            power, size = doubled, 2 * size
    return total


def dominant_rate(windows: F32, there: F32) -> F32:
    """Find the repetition rate of each window by autocorrelation; NaN where nothing repeats.

    The first peak of the normalised autocorrelation that reaches 85 % of the highest one is taken, so that a
    beat is not reported at half its rate.

    Args:
        windows: (W, 200) samples at 50 Hz, 0 where missing.
        there: (W, 200) 1 where present.
    """
    from scipy.fft import irfft, next_fast_len, rfft

    low, high = RATE_LAGS
    out = np.full(len(windows), np.nan, np.float32)
    n_fft = next_fast_len(windows.shape[1] + high + 1, real=True)
    for a in range(0, len(windows), 2048):
        w, m = windows[a : a + 2048], there[a : a + 2048]
        count = m.sum(axis=1)
        usable = count >= RATE_MIN
        if not usable.any():
            continue
        x = (w - (w.sum(axis=1) / np.maximum(count, 1))[:, None]) * m
        power = np.abs(rfft(x, n_fft, axis=1)) ** 2
        acf = irfft(power, n_fft, axis=1)[:, : high + 2]
        if m.all():
            pairs = np.broadcast_to(m.shape[1] - np.arange(high + 2, dtype=np.float32), acf.shape)
        else:
            pairs = np.rint(irfft(np.abs(rfft(m, n_fft, axis=1)) ** 2, n_fft, axis=1)[:, : high + 2])
        energy = acf[:, :1] / np.maximum(pairs[:, :1], 1)
        r = np.where(pairs >= RATE_MIN // 2, acf / np.maximum(pairs, 1) / np.where(energy > 0, energy, np.inf), -1.0)
        out[a : a + 2048] = np.where(usable, _first_peak(r, low, high), np.nan)
    return out


def _first_peak(r: F32, low: int, high: int) -> F32:
    mid = r[:, low : high + 1]
    peak = (mid >= r[:, low - 1 : high]) & (mid > r[:, low + 1 : high + 2])
    score = np.where(peak, mid, -1.0)
    best = score.max(axis=1)
    first = np.argmax(score >= 0.85 * best[:, None], axis=1) + low
    rows = np.arange(len(r))
    before, at, after = r[rows, first - 1], r[rows, first], r[rows, first + 1]
    bend = before - 2 * at + after
    shift = np.where(bend < 0, 0.5 * (before - after) / np.where(bend < 0, bend, 1.0), 0.0)
    rate = 1.0 / (DT_S * (first + np.clip(shift, -0.5, 0.5)))
    return np.where(best >= VOICED, np.minimum(rate, 8.0), np.nan).astype(np.float32)
