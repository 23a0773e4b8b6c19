"""The six motion inputs while the body moves: native samples in, frames of the 50 Hz clock out."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import ArrayLike, NDArray

from choreo_cli.errors import DataError
from choreo_cli.motion.features import Scale, normalise
from choreo_cli.motion.measures import Measured, Measures
from choreo_cli.motion.resample import MAX_GAP_US, MAX_PERIODS, MIN_POSE_FPS, STEP_US

F32 = NDArray[np.float32]
PERIODS = 64  # intervals that the native period is the median of
FIRST_PERIODS = 8  # before so many are known the samples wait: the rules about gaps need the period
OWN_SCALE_FRAMES = 1500  # 30 s
OWN_SCALE_LEAST = 100
OWN_SCALE_EVERY = 50


class MotionStream:
    """Streaming form of `resample_pose` and `MotionFeatures`: the frame at g leaves when a sample at or after g came.

    With the native period given, every frame equals that of `extract_pose(t, xyz, ..., scale=scale)` over the same
    samples; without one it is the median of the last 64 intervals, which decides the same wherever a stream keeps
    its rate. Frames inside a gap are not emitted (offline they are null).

    Args:
        scale: What energy, jerk, sway and bounce are divided by; None takes it from the last 30 s of this stream
            itself, renewed once a second, and says so in `own_scale`.
        joints: Joint names; empty for a signal that is a speed already (one value a sample).
        dims: 2 or 3 (1 without joints).
        up: `+y`, `-y` or `+z`.
        period_us: Distance of the native samples.
    """

    def __init__(
        self,
        scale: Scale | None,
        joints: tuple[str, ...],
        dims: int = 3,
        up: str = "+y",
        *,
        period_us: float | None = None,
    ) -> None:
        import scipy.fft  # noqa: F401 - motion_freq needs it at the first full window, and importing takes 0.1 s

        self.own_scale = scale is None
        self.scale = scale
        self.measures = Measures(joints, dims, up)
        self.shape = (max(1, len(joints)), dims)
        self._declared = period_us
        self._steps: deque[int] = deque(maxlen=PERIODS)
        self._recent: list[tuple[int, F32]] = []
        self._last_us: int | None = None
        self._before: tuple[int, F32] | None = None
        self._waiting: list[tuple[int, F32]] = []
        self._period = float("nan") if period_us is None else period_us
        self._history = np.full((OWN_SCALE_FRAMES, 2), np.nan, np.float32)
        self._poses: deque[F32] = deque(maxlen=60)
        self._frames = 0
        self.late = 0

    @property
    def period_us(self) -> float:
        """Distance of the native samples as it is known now, NaN before that."""
        return self._period

    def push(self, t_us: int, xyz: ArrayLike) -> list[tuple[int, F32]]:
        """Take a sample.

        Args:
            t_us: When; a sample that is not later than the last is dropped and counted in `late`.
            xyz: (J, D) positions, NaN = missing.

        Returns:
            (frame time, (6,) float32 in the order of `features.NAMES`) of every frame that is known now.

        Raises:
            DataError: the shape is another than the declared one.
        """
        value = np.asarray(xyz, np.float32)
        if value.shape != self.shape:
            raise DataError(f"a pose of shape {value.shape}, expected {self.shape}")
        if self._last_us is not None and t_us <= self._last_us:
            self.late += 1
            return []
        if self._declared is None and self._last_us is not None:
            self._steps.append(t_us - self._last_us)
            if len(self._steps) >= FIRST_PERIODS:
                self._period = _median(sorted(self._steps))
        self._last_us = t_us
        self._waiting.append((t_us, value))
        if not self._period > 0:
            return []
        waiting, self._waiting = self._waiting, []
        return [frame for t, v in waiting for frame in self._next(t, v)]

    def _next(self, t_us: int, value: F32) -> list[tuple[int, F32]]:
        value = self._low_passed(t_us, value)
        before, self._before = self._before, (t_us, value)
        if 1e6 / self._period < MIN_POSE_FPS:
            return []
        if before is None:
            return [self._frame(t_us, value)] if t_us % STEP_US == 0 else []
        return self._between(*before, t_us, value)

    def _low_passed(self, t_us: int, value: F32) -> F32:
        """`trailing_mean` for one sample more: the mean with the samples before it that lie within one frame."""
        n = round(STEP_US / self._period)
        kept = self._recent
        kept.append((t_us, value))
        if n <= 1:
            del kept[:-1]
            return value
        del kept[:-n]
        near = MAX_PERIODS * self._period
        total, count, at = value.copy(), 1, t_us
        for back_us, back in reversed(kept[:-1]):
            if at - back_us > near:
                break
            total += back
            count, at = count + 1, back_us
        return np.asarray(total / np.float32(count), np.float32)

    def _between(self, t0: int, v0: F32, t1: int, v1: F32) -> list[tuple[int, F32]]:
        gap = t1 - t0
        if gap > min(MAX_PERIODS * self._period, MAX_GAP_US):
            return [self._frame(t1, v1)] if t1 % STEP_US == 0 else []
        found = []
        for g in range((t0 // STEP_US + 1) * STEP_US, t1 + 1, STEP_US):
            if g == t1:
                found.append(self._frame(g, v1))
            else:
                found.append(self._frame(g, (v1 - v0) * np.float32((g - t0) / gap) + v0))
        return found

    def _frame(self, t_us: int, xyz: F32) -> tuple[int, F32]:
        measured = self.measures.process(np.array([t_us], np.int64), xyz[None])
        if self.own_scale:
            self._learn(measured, xyz)
        if self.scale is None:
            return t_us, np.full(6, np.nan, np.float32)
        return t_us, normalise(measured, self.scale)[0]

    def _learn(self, measured: Measured, xyz: F32) -> None:
        """Renew the scale from this stream's own last 30 s."""
        self._history[self._frames % OWN_SCALE_FRAMES] = measured.speed[0], measured.jerk[0]
        self._frames += 1
        if self._frames % OWN_SCALE_EVERY:
            return
        self._poses.append(xyz)
        real = self._history[np.isfinite(self._history).all(axis=1)]
        if len(real) < OWN_SCALE_LEAST:
            return
        self.scale = Scale(float(np.percentile(real[:, 0], 95)), float(np.percentile(real[:, 1], 99)), self._height())

    def _height(self) -> float:
        from choreo_cli.motion.speed import body_height

        joints = self.measures.joints
        up = ("-" if self.measures.up[1] < 0 else "+") + "xyz"[self.measures.up[0]]
        return body_height(np.stack(list(self._poses)), joints, up)[0] if joints else float("nan")


class Steady:
    """Times of a sensor that is stamped only when its packets arrive: a network's jitter is taken out.

    Over Wi-Fi packets of a steady sensor come late, early and in bursts. Taken at their word, half of the intervals
    are gaps, and a gap forgets the motion. Each sample is put one mean period after the last, moved by a tenth of how
    far its arrival is off; a pause of more than `PAUSE_PERIODS` periods or 0.25 s is believed. A packet that was lost
    looks like one that is late: for that one interval the body seems up to twice as fast.
    """

    GAIN = 0.1
    PAUSE_PERIODS = 5
    PAUSE_US = 250_000

    def __init__(self) -> None:
        self._arrivals: deque[int] = deque(maxlen=PERIODS + 1)
        self._last_us: int | None = None

    def at(self, t_us: int) -> int:
        """The time of a sample that arrived at `t_us`; increases with every sample."""
        arrivals, last = self._arrivals, self._last_us
        known = len(arrivals) > FIRST_PERIODS
        period = (arrivals[-1] - arrivals[0]) / (len(arrivals) - 1) if known else 0.0
        found = t_us
        if last is not None and known:
            off = t_us - last - period
            if abs(off) > max(self.PAUSE_PERIODS * period, self.PAUSE_US):
                arrivals.clear()
            else:
                found = round(last + period + self.GAIN * off)
        arrivals.append(t_us)
        self._last_us = found if last is None else max(found, last + 1)
        return self._last_us


def _median(ordered: list[int]) -> float:
    """Of sorted numbers; twenty times as fast as numpy for a few."""
    half = len(ordered) // 2
    return float(ordered[half]) if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
