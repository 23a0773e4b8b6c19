"""Beat and tempo from MIDI clock: a line through the last pulses, 24 to a beat.

A single interval says little: at 120 beats/min it is 20.8 ms, and a busy machine delivers a pulse several ms late. A
line through n pulses of jitter s has a slope error of s * sqrt(12 / n^3). Pulses that come late bunch with the next
ones and none is lost by that; a pulse that did get lost leaves a hole, which is seen and counted.
"""

from __future__ import annotations

from itertools import pairwise
from statistics import median

from choreo_cli.live.transport import MAX_BPM, MIN_BPM, PPQN

LEAST = PPQN
"""Pulses a line needs."""
MOST = 4 * PPQN
_US_PER_MIN = 6e7
_SILENCE_US = 500_000
"""A longer pause between pulses belongs to no clock above 20 beats/min (125 ms): it was not running."""
_TURN = 6
"""Pulses in a row that must disagree with the line before it is given up."""
_OUTLIER = 3.0
"""Pulses further from the line than this many times the median distance do not count."""

Line = tuple[float, float]


class MidiClockEstimator:
    """Pulses, start, stop, continue and song position in; position and tempo out.

    As MIDI has it, the first pulse after start is beat 0, the first after continue is the song position. Pulses that
    come while stopped give the tempo and move nothing. Until the first start the first pulse ever counts as beat 0.

    `lost` counts pulses that never came, `restarts` lines that were given up for another tempo.
    """

    def __init__(self) -> None:
        self.running = True
        self.lost = 0
        self.restarts = 0
        self._number: list[int] = []
        self._time: list[float] = []
        self._offset = 0
        self._position = 0
        self._pending: int | None = 0
        self._line: Line | None = None
        self._bpm: float | None = None

    @property
    def bpm(self) -> float | None:
        """Tempo in beats/min; the last known one while a new line is being found, None before the first."""
        return self._bpm

    @property
    def position(self) -> float:
        """Where `resume` goes on, in beats: where it stopped, or the song position that was sent since."""
        return self._position / PPQN

    def start(self) -> None:
        """The next pulse is beat 0."""
        self._pending, self.running = 0, True

    def resume(self) -> None:
        """MIDI continue: the next pulse is where it stopped, or the song position."""
        self._pending, self.running = self._position, True

    def stop(self) -> None:
        """Pulses do not move the position from here on."""
        if self.running and self._pending is not None:
            self._position = self._pending
        elif self.running and self._number:
            self._position = self._number[-1] + 1 + self._offset
        self.running = False

    def song_position(self, sixteenths: int) -> None:
        """MIDI song position, 6 pulses each: where `resume` goes on."""
        self._position = sixteenths * (PPQN // 4)

    def tick(self, t_us: int) -> None:
        """Take a pulse that arrived at `t_us`."""
        starts = self.running and self._pending is not None
        if self._time and (starts or not 0 <= t_us - self._time[-1] <= _SILENCE_US):
            number = self._splice(t_us)
        else:
            number = self._number_of(t_us)
        self._number.append(number)
        self._time.append(float(t_us))
        del self._number[:-MOST], self._time[:-MOST]
        if starts and self._pending is not None:
            self._offset, self._pending = self._pending - number, None
        self._count_slower()
        self._fit()

    def estimate(self, t_us: int) -> tuple[float, float] | None:
        """Position in beats and tempo in beats/min at a time.

        Returns:
            None until 24 pulses lie on a line, and while stopped.
        """
        if self._line is None or self._bpm is None or not self.running or self._pending is not None:
            return None
        first, period = self._line
        return ((t_us - first) / period + self._offset) / PPQN, self._bpm

    def _splice(self, t_us: int) -> int:
        """The clock was set anew: what is known of its tempo is kept, its pulses are moved to end before this one."""
        period = self._period()
        if period is None:
            self._number, self._time, self._line = [], [], None
            return 0
        shift = t_us - period - self._time[-1]
        if self._line is not None:
            last = self._number[-1] + 1
            shift = t_us - (self._line[0] + last * period)
            self._line = (self._line[0] + shift, period)
        self._time = [t + shift for t in self._time]
        return self._number[-1] + 1

    def _number_of(self, t_us: int) -> int:
        """Number of the pulse that came now: the next one, or more when a whole period is missing."""
        if not self._number:
            return 0
        last = self._number[-1]
        if self._line is None:
            return last + 1
        first, period = self._line
        gap = round((t_us - first) / period) - last
        if gap <= 0 and self._close_hole(t_us):
            return last
        if t_us - self._time[-1] < 1.5 * period:
            gap = 1
        self.lost += max(0, gap - 1)
        return last + max(1, gap)

    def _find_holes(self) -> None:
        """Before the first line pulses were numbered as they came: find those that were lost among them.

        An interval twice the median is a loss, unless a short one follows: then the pulse between was only late.
        """
        steps = [b - a for a, b in pairwise(self._time)]
        usual = max(median(steps), 1.0)
        before = self._number[-1]
        for k, step in enumerate(steps):
            late = k + 1 < len(steps) and steps[k + 1] < 0.6 * usual
            gap = 1 if late else max(1, round(step / usual))
            self._number[k + 1] = self._number[k] + gap
        self.lost += self._number[-1] - before

    def _close_hole(self, t_us: int) -> bool:
        """Pulses came late and looked like later ones; none was lost. Number those after the hole one lower."""
        for k in range(len(self._number) - 1, 0, -1):
            if t_us - self._time[k] > _SILENCE_US:
                break
            if self._number[k] - self._number[k - 1] > 1:
                self._number[k:] = [n - 1 for n in self._number[k:]]
                self.lost -= 1
                return True
        return False

    def _period(self) -> float | None:
        """Microseconds a pulse as known now: of the line, or the median of what came so far."""
        if self._line is not None:
            return self._line[1]
        if len(self._number) < _TURN:
            return None
        steps = zip(self._number, self._number[1:], self._time, self._time[1:], strict=False)
        return median((t1 - t0) / (k1 - k0) for k0, k1, t0, t1 in steps) or None

    def _count_slower(self) -> None:
        """Holes in a row are no losses but a slower clock: its pulses count one by one, and the line is given up."""
        if len(self._number) <= _TURN:
            return
        tail = self._number[-_TURN - 1 :]
        holes = tail[-1] - tail[0] - _TURN
        if sum(b - a > 1 for a, b in pairwise(tail)) >= _TURN - 1:
            self.lost -= holes
            self._give_up(_TURN + 1)
            self._number = list(range(tail[0], tail[0] + _TURN + 1))

    def _give_up(self, keep: int) -> None:
        del self._number[:-keep], self._time[:-keep]
        self._line = None
        self.restarts += 1

    def _fit(self) -> None:
        """Lay the line; give it up when the newest pulses have all left it to one side."""
        if len(self._number) < LEAST:
            return
        if self._line is None:
            self._find_holes()
        line = _through(self._number, self._time)
        if line is None:
            return
        off = [abs(t - line[0] - k * line[1]) for k, t in zip(self._number, self._time, strict=True)]
        most = _OUTLIER * max(median(off), 0.01 * line[1])
        near = [(k, t) for k, t, d in zip(self._number, self._time, off, strict=True) if d <= most]
        if len(near) >= LEAST:
            line = _through([k for k, _ in near], [t for _, t in near]) or line
        first, period = line
        if not MIN_BPM <= _US_PER_MIN / (period * PPQN) <= MAX_BPM:
            return
        newest = zip(self._number[-_TURN:], self._time[-_TURN:], strict=True)
        left = [(t - first) / period - k for k, t in newest]
        if len(self._number) > LEAST and abs(sum(left)) > 0.5 * _TURN and (min(left) > 0 or max(left) < 0):
            self._give_up(_TURN)
            return
        self._line, self._bpm = (first, period), _US_PER_MIN / (period * PPQN)


def _through(numbers: list[int], times: list[float]) -> Line | None:
    """Least squares of time over number: time of number 0, and time per number; None when it does not rise."""
    n, k0, t0 = len(numbers), numbers[0], times[0]
    ks, ts = [k - k0 for k in numbers], [t - t0 for t in times]
    mean_k, mean_t = sum(ks) / n, sum(ts) / n
    over = sum((k - mean_k) * (t - mean_t) for k, t in zip(ks, ts, strict=True))
    period = over / sum((k - mean_k) ** 2 for k in ks)
    return (t0 + mean_t - period * (mean_k + k0), period) if period > 0 else None
