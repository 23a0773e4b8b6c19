"""Where the music stands in beats, and who says so.

While it runs, beat = beat0 + (t - t0) * bpm / 60. Every change sets a new (t0, beat0) at the present place, so the past
is never scaled. One leader moves the clock, nobody else: `choreo` (our own tempo), `tap`, or one that is followed
(`midi-clock`, `osc`, `audio`). A follower comes nearer by running at most 2 % faster or slower than the leader's tempo;
it jumps only at the first word after a start or a stop. A leader that is more than half a bar away has jumped itself
(a loop in a DAW): its bar lines are followed then, not its count.

The control tempo_scale is sent like every other control. It moves this clock only through `scale`, and only while
choreo leads: a clock that follows somebody must not follow the dancer as well.
"""

from __future__ import annotations

import math
from collections import deque
from statistics import median

LEADERS = ("choreo", "midi-clock", "osc", "audio", "tap", "recording")
FOLLOWED = ("midi-clock", "osc", "audio", "recording")
MIN_BPM, MAX_BPM = 20.0, 400.0
SLEW = 0.02
"""Share of the tempo by which a follower may run faster or slower to come into phase."""
PPQN = 24
_US_PER_MIN = 6e7
# A phase is handed on as float32, in which anything nearer to 1 would be 1: a place on the next beat.
_LAST_PHASE = 1.0 - 2.0**-24


class Transport:
    """The clock of beats. Session times in microseconds; a new one runs from beat 0 at time 0.

    Args:
        bpm: Tempo in beats/min.
        leader: Who moves it, one of `LEADERS`.
        beats_per_bar: Beats in a bar, for a leader that jumps.

    Raises:
        ValueError: no such leader, or a tempo outside 20..400.
    """

    def __init__(self, bpm: float = 120.0, leader: str = "choreo", beats_per_bar: int = 4) -> None:
        if leader not in LEADERS:
            raise ValueError(f"{leader!r} leads nothing (known: {', '.join(LEADERS)})")
        if not MIN_BPM <= bpm <= MAX_BPM:
            raise ValueError(f"{bpm:g} beats/min is outside {MIN_BPM:g} to {MAX_BPM:g}")
        self.leader = leader
        self.beats_per_bar = beats_per_bar
        self.running = True
        self.refused = 0
        self._bpm = self._base = float(bpm)
        # (t0, beat0, way left into phase), set at once: the thread that sends MIDI clock reads it at any moment.
        self._from: tuple[int, float, float] = (0, 0.0, 0.0)
        self._present = self._asked = 0
        self._locked = False
        self._taps = Taps()

    @property
    def bpm(self) -> float:
        """Tempo in beats/min, without what a follower adds to come into phase; kept while stopped."""
        return self._bpm

    @property
    def locked(self) -> bool:
        """A follower has heard its leader since the last start or stop; a leader always is."""
        return self._locked or self.leader not in FOLLOWED

    def beat_at(self, t_us: int) -> float:
        """Position in beats at a session time, also a coming one; where it stands while stopped."""
        self._asked = max(self._asked, t_us)
        return self._beat(t_us)

    def phase(self, t_us: int) -> tuple[float, int]:
        """Place inside the beat, 0 to below 1 also as float32, and the number of the beat.

        Asked for the present, frame after frame: no later word moves what was said, unless it is a jump.
        """
        self._present = max(self._present, t_us)
        beat = self.beat_at(t_us)
        index = math.floor(beat)
        return min(beat - index, _LAST_PHASE), index

    def time_of(self, beat: float) -> float:
        """Session time in us at which a beat is reached, by what is known now; NaN while stopped."""
        if not self.running:
            return math.nan
        t0, beat0, off = self._from
        way, rate = beat - beat0, self._bpm / _US_PER_MIN
        turn = abs(off) / (SLEW * rate)
        if way < 0 or turn == 0:
            return t0 + way / rate
        gain = rate * (1.0 + math.copysign(SLEW, off))
        return t0 + (way / gain if way <= gain * turn else turn + (way - gain * turn) / rate)

    def set_tempo(self, bpm: float, t_us: int) -> bool:
        """Go on from here at another tempo; False, and nothing moves, when somebody else leads or it makes no sense."""
        if self.leader in FOLLOWED or not MIN_BPM <= bpm <= MAX_BPM:
            return self._refuse()
        self._anchor(t_us)
        self._bpm = self._base = float(bpm)
        return True

    def scale(self, factor: float, t_us: int) -> bool:
        """Run at `factor` times the tempo that was set; only while choreo leads, see the head of this module."""
        if self.leader != "choreo" or not MIN_BPM <= self._base * factor <= MAX_BPM:
            return self._refuse()
        self._anchor(t_us)
        self._bpm = self._base * factor
        return True

    def tap(self, t_us: int) -> bool:
        """Take a tap: from the third on it sets tempo and puts the beat there. False when somebody else leads.

        The beat goes to the nearest whole one at once: a tap is a person's word, and the number of the beat never
        goes back by it.
        """
        if self.leader in FOLLOWED:
            return self._refuse()
        bpm = self._taps.tap(t_us)
        if bpm is not None and MIN_BPM <= bpm <= MAX_BPM:
            self._place(t_us, math.floor(self._beat(t_us) + 0.5))
            self._bpm = self._base = bpm
        return True

    def follow(self, beat: float, bpm: float, t_us: int, *, whole: bool = True) -> bool:
        """Hear where the leader stands; False, and nothing moves, when nobody is followed or it makes no sense.

        Args:
            beat: Its position, NaN = only its tempo is known.
            bpm: Its tempo in beats/min, NaN = only its position is known.
            t_us: When it stood there.
            whole: Its beats are counted as ours are; False follows the place inside the beat only.
        """
        tempo = bpm if not math.isnan(bpm) else self._bpm
        if self.leader not in FOLLOWED or not MIN_BPM <= tempo <= MAX_BPM or math.isinf(beat):
            return self._refuse()
        if not self.running:
            self._bpm = self._base = tempo
            return True
        now = self._anchor(t_us)
        self._bpm = self._base = tempo
        if math.isnan(beat):
            return True
        t0, beat0, _ = self._from
        off = beat + (now - t_us) * tempo / _US_PER_MIN - beat0
        if not self._locked:
            self._place(now, beat0 + (off if whole else _nearest(off, 1)))
            self._locked = True
        elif whole:
            self._from = t0, beat0, off if abs(off) <= self.beats_per_bar / 2 else _nearest(off, self.beats_per_bar)
        else:
            self._from = t0, beat0, _nearest(off, 1)
        return True

    def stop(self, t_us: int | None = None) -> None:
        """Stand still where it is at `t_us`, without it at the newest time that was asked for."""
        if self.running:
            at = self._asked if t_us is None else t_us
            self._place(at, self._beat(at))
        self.running = False
        self._locked = False
        self._taps.clear()

    def start(self, t_us: int, beat: float | None = 0.0) -> None:
        """Run from `beat` at `t_us`; None goes on from where it stands, as MIDI's continue does."""
        self._place(t_us, self._beat(t_us) if beat is None else beat)
        self.running = True
        self._locked = False

    def locate(self, beat: float) -> bool:
        """Move to a position while stopped; False while it runs."""
        if self.running or not math.isfinite(beat):
            return self._refuse()
        self._place(self._from[0], beat)
        return True

    def _refuse(self) -> bool:
        self.refused += 1
        return False

    def _beat(self, t_us: float) -> float:
        t0, beat0, off = self._from
        if not self.running:
            return beat0
        passed = t_us - t0
        plain = beat0 + passed * self._bpm / _US_PER_MIN
        if passed <= 0 or not off:
            return plain
        return plain + math.copysign(min(abs(off), passed * SLEW * self._bpm / _US_PER_MIN), off)

    def _place(self, t_us: int, beat: float, off: float = 0.0) -> None:
        self._from = t_us, beat, off

    def _anchor(self, t_us: int) -> int:
        """Set the origin at the present place, keeping what is left of the way into phase; the time it is set at.

        A word about the past (`t_us` before what was said last) counts from the present: nothing said is unsaid.
        """
        t0, _, off = self._from
        now = max(t_us, t0, self._present)
        if self.running:
            done = (now - t0) * SLEW * self._bpm / _US_PER_MIN
            self._place(now, self._beat(now), math.copysign(max(0.0, abs(off) - done), off))
        return now


def _nearest(off: float, unit: int) -> float:
    """The way to the nearest place that is a multiple of `unit` beats away from one `off` beats away."""
    return off - unit * math.floor(off / unit + 0.5)


class Taps:
    """Tempo from taps: the median of the last intervals, without those that cannot be meant."""

    KEPT = 8
    LONGEST_US = 3_000_000
    SPREAD = 0.3

    def __init__(self) -> None:
        self._intervals: deque[int] = deque(maxlen=self.KEPT)
        self._last: int | None = None
        self._odd = 0

    def clear(self) -> None:
        """Forget all taps."""
        self._intervals.clear()
        self._last, self._odd = None, 0

    def tap(self, t_us: int) -> float | None:
        """Take a tap; beats/min when it belongs to at least two others, None when it is dropped or too early to say.

        A second touch within 60 / 400 s is no tap. A pause of 3 s begins anew. An interval more than 30 % off the
        median is dropped, and two of them in a row are a new tempo.
        """
        if self._last is None or t_us - self._last > self.LONGEST_US or t_us < self._last:
            self.clear()
            self._last = t_us
            return None
        interval = t_us - self._last
        if interval < _US_PER_MIN / MAX_BPM:
            return None
        self._last = t_us
        middle = median(self._intervals) if self._intervals else interval
        if abs(interval - middle) > self.SPREAD * middle:
            self._odd += 1
            if self._odd < 2:
                return None
            self._intervals.clear()
        self._odd = 0
        self._intervals.append(interval)
        return _US_PER_MIN / median(self._intervals) if len(self._intervals) >= 2 else None


def clock_ticks(transport: Transport, from_us: int, to_us: int) -> list[int]:
    """Session times (us) of the MIDI clock pulses, 24 to a beat, in [from_us, to_us); none while stopped.

    They are counted from the position in beats, never added up: after hours they still lie on it. Calls that follow
    each other (`to_us` is the next `from_us`) give every pulse once. After a jump the count begins at the new place.
    """
    if not transport.running or to_us <= from_us:
        return []
    first, stop = _pulse(transport.beat_at(from_us)), _pulse(transport.beat_at(to_us))
    return [min(max(round(transport.time_of(k / PPQN)), from_us), to_us - 1) for k in range(first, stop)]


def _pulse(beat: float) -> int:
    """Number of the first pulse at or after a position; rounding noise below one is not after it."""
    return math.ceil(beat * PPQN - 1e-6)
