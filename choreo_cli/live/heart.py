"""Heart rate while it is measured: the last real value is held, its slope is that of the offline extraction.

Offline, `motion.heart.heart_inputs` draws a line to the NEXT sample, which comes up to 5 s later. A loop that does
not wait cannot: at each frame it gives the last real value, for at most 5 s. That is the one input that differs
(by up to the step between two readings); the slope looks back only and is equal to the last bit, and so is the mask
but for the 5 s after a sensor went silent, where the loop still holds and the recording has nothing to draw to.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from choreo_cli.motion.heart import BOUNDS, MAX_GAP_US, SLOPE_BOUND, SLOPE_US, trailing_slope

NAN = float("nan")


class HeartStream:
    """Readings in, (hr, hr_slope) at any later time out."""

    def __init__(self) -> None:
        self._samples: deque[tuple[int, float]] = deque()
        self._key: tuple[int, int] = (-1, -1)
        self._slope = NAN
        self.refused = 0

    def push(self, t_us: int, bpm: float) -> None:
        """Take a reading; a sentinel (outside 30..220) or one not later than the last is counted and dropped."""
        late = bool(self._samples) and t_us <= self._samples[-1][0]
        if late or not BOUNDS[0] <= bpm <= BOUNDS[1]:
            self.refused += 1
            return
        self._samples.append((t_us, float(bpm)))
        while len(self._samples) > 1 and self._samples[1][0] <= t_us - SLOPE_US - MAX_GAP_US:
            self._samples.popleft()

    def at(self, t_us: int) -> tuple[float, float, int]:
        """Heart rate, its slope per second, and the age of the reading in microseconds (-1 before the first).

        Both are NaN when no reading is younger than 5 s; the slope also with fewer than two readings or 1.5 s in the
        last 4 s.
        """
        known = [s for s in self._samples if s[0] <= t_us]
        if not known:
            return NAN, NAN, -1
        age = t_us - known[-1][0]
        if age > MAX_GAP_US:
            return NAN, NAN, age
        inside = [s for s in known if s[0] > t_us - SLOPE_US]
        key = (inside[0][0], inside[-1][0]) if inside else (-1, -1)
        if key != self._key:
            self._key, self._slope = key, _slope(inside, t_us)
        return known[-1][1], self._slope, age


def _slope(samples: list[tuple[int, float]], t_us: int) -> float:
    times = np.array([s[0] for s in samples], np.int64)
    values = np.array([s[1] for s in samples], np.float64)
    found = float(trailing_slope(times, values, np.array([t_us], np.int64))[0]) if len(samples) else NAN
    return min(max(found, -SLOPE_BOUND), SLOPE_BOUND) if found == found else NAN
