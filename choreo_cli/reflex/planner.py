"""M7, the bar planner: rules that turn activity into musical events, on bar lines only. No learning, no torch.

At every bar line it compares the bar that ended with the plateau it believes in (a mean of at most 8 bars, in log
activity, so that it needs no scale). With a look-ahead it also judges the bar that comes and announces it; how far it
believes the look-ahead follows from the errors it made so far. Without one it decides from the past alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

EVENTS = ("drop", "break", "build", "energy_up", "energy_down", "fill")
"""`drop`: a big step up; `break`: a big step down; `build`: a rise over three bars without a step; `energy_up` and
`energy_down`: a step; `fill`: the last beat of a bar stood out, the level did not change."""

FLOOR = 0.02
"""Activity (0..1) that counts as nothing: ratios below it are noise."""


@dataclass(frozen=True, slots=True)
class Rules:
    """When the planner speaks. Steps are differences of log(activity + FLOOR): 0.18 is 20 %.

    Args:
        beats_per_bar: Beats in a bar.
        step: Least step that is an event.
        big: A step that is a drop or a break.
        fill: How far the last beat's accent stands out, in log.
        noise: Steps below this many times the mean bar-to-bar change are no event...
        cap: ...which never asks for more than this many times `step`.
        refractory_bars: Bars without an event after one.
        plateau_bars: Bars a plateau is the mean of.
        least: Share of frames of every beat that must be measured for its bar to count.
    """

    beats_per_bar: int = 4
    step: float = 0.18
    big: float = 0.6
    fill: float = 0.9
    noise: float = 3.0
    cap: float = 3.0
    refractory_bars: int = 1
    plateau_bars: int = 8
    least: float = 0.5

    def __post_init__(self) -> None:
        if self.beats_per_bar < 1 or self.refractory_bars < 1 or self.plateau_bars < 1:
            raise ValueError("beats per bar, refractory and plateau need at least 1")


@dataclass(frozen=True, slots=True)
class Event:
    """One event, at the first frame of a bar.

    Args:
        kind: One of `EVENTS`.
        beat: Number of the beat that begins the bar.
        strength: Size of the step in log activity, signed; of a fill, how far it stood out.
        announced: It is about the bar that begins (by the look-ahead), not about the one that ended.
    """

    kind: str
    beat: int
    strength: float
    announced: bool


class Planner:
    """Frames in, at most one event per bar out. O(1) time and memory; the same frames give the same events.

    Args:
        rules: When it speaks.
    """

    def __init__(self, rules: Rules | None = None) -> None:
        self.rules = rules or Rules()
        self.reset()

    def reset(self) -> None:
        """Forget everything: as if new."""
        self._beat = -1
        self._rest = 0
        self._plateau = self._level = self._guess = math.nan
        self._bars = 0
        self._change = self.rules.step / self.rules.noise
        self._rises: tuple[float, float] = (0.0, 0.0)
        self._bias = self._miss = math.nan
        self._open()

    def _open(self) -> None:
        """Begin to listen; a bar counts from its first beat on."""
        self._activity: list[float] = []
        self._accent: list[float] = []
        self._whole = False
        self._early: tuple[Event, float] | None = None
        self._start_beat()

    def _start_beat(self) -> None:
        self._sum = self._accents = 0.0
        self._frames = self._measured = self._accented = 0

    def step(self, beat: int, activity: float, accent: float = math.nan, ahead: float | None = None) -> Event | None:
        """Take one frame.

        Args:
            beat: Number of the beat the frame lies in, negative = unknown; beat 0 begins a bar.
            activity: How much the body does, 0..1 (the control `density`, or `motion_energy`), NaN = unknown.
            accent: How hard it does it, 0..1 (`fx_send` or `jerk`), NaN = unknown.
            ahead: Mean activity of the coming bar as the look-ahead sees it, on any scale proportional to activity;
                used on bar lines only, None or NaN = no look-ahead.

        Returns:
            An event when this frame is the first of a bar and there is one, else None.
        """
        event = None
        if beat < 0 or (self._beat >= 0 and beat not in (self._beat, self._beat + 1)):
            self._open()
            self._guess = math.nan
        elif self._beat >= 0 and beat == self._beat + 1:
            self._end_beat()
            if beat % self.rules.beats_per_bar == 0:
                event = self._bar_line(beat, ahead)
                self._activity.clear()
                self._accent.clear()
                self._whole = True
        self._beat = beat if beat >= 0 else -1
        self._frames += 1
        if math.isfinite(activity):
            self._sum += min(max(activity, 0.0), 1.0)
            self._measured += 1
        if math.isfinite(accent):
            self._accents += min(max(accent, 0.0), 1.0)
            self._accented += 1
        return event

    def announce(self, ahead: float | None) -> Event | None:
        """Say already in the last beat of a bar what the look-ahead sees in the next one; `step` will not repeat it.

        The bar so far stands for the whole one. It is as binding as a word on the bar line: the plateau and the bars
        without an event follow from it there.

        Args:
            ahead: As in `step`.

        Returns:
            An announced event of the coming bar line, at most one for each; None off the last beat.
        """
        rules, line = self.rules, self._beat + 1
        last = self._beat >= 0 and line % rules.beats_per_bar == 0 and len(self._activity) == rules.beats_per_bar - 1
        if not last or self._early is not None or self._rest or not self._measured or ahead is None:
            return None
        level = _log((sum(self._activity) + self._sum / self._measured) / rules.beats_per_bar)
        coming = _log(ahead) - self._bias
        if not math.isfinite(level + self._plateau) or abs(level - self._plateau) >= self.threshold:
            return None  # the past says something itself, on the bar line
        step = self._announcement(level, coming)
        if not step:
            return None
        event = Event(self._kind(step, coming, sudden=True), line, step, announced=True)
        self._early = event, coming
        return event

    def _end_beat(self) -> None:
        if self._whole:
            enough = self._measured > 0 and self._measured >= self.rules.least * self._frames
            self._activity.append(self._sum / self._measured if enough else math.nan)
            self._accent.append(self._accents / self._accented if self._accented else math.nan)
        self._start_beat()

    def _bar_line(self, beat: int, ahead: float | None) -> Event | None:
        """Judge the bar that ended and, with a look-ahead, the one that begins."""
        if len(self._activity) != self.rules.beats_per_bar:
            self._guess = math.nan
            return None
        level = _log(sum(self._activity) / len(self._activity))
        self._learn_trust(level)
        early, self._early = self._early, None
        guess = _log(ahead) if ahead is not None else math.nan
        event = None
        if early is not None and early[0].beat == beat:
            self._speak(beat, early[0].kind, early[0].strength, early[1], announced=True)
        else:
            event = self._judge(beat, level, guess - self._bias if math.isfinite(self._bias) else math.nan)
        self._guess = guess
        if math.isfinite(level):
            self._rises = (self._rises[1], level - self._level if math.isfinite(self._level) else 0.0)
            self._level = level
        return event

    def _judge(self, beat: int, level: float, coming: float) -> Event | None:
        if not math.isfinite(level):
            self._rest = max(0, self._rest - 1)
            return None
        if self._rest or not math.isfinite(self._plateau):
            self._rest = max(0, self._rest - 1)
            self._settle(level)
            return None
        step = level - self._plateau
        if abs(step) >= self.threshold:
            return self._speak(beat, self._kind(step, level), step, level, announced=False)
        ahead = self._announcement(level, coming)
        if ahead:
            return self._speak(beat, self._kind(ahead, coming, sudden=True), ahead, coming, announced=True)
        self._change += 0.1 * (abs(step) - self._change)
        self._bars = min(self._bars + 1, self.rules.plateau_bars)
        self._plateau += step / self._bars
        out = self._fill()
        if out:
            self._rest = self.rules.refractory_bars
            return Event("fill", beat, out, announced=False)
        return None

    @property
    def threshold(self) -> float:
        """The least step that is an event now: `Rules.step`, more where bars differ much anyway."""
        rules = self.rules
        return min(max(rules.step, rules.noise * self._change), rules.cap * rules.step)

    def _settle(self, level: float) -> None:
        self._plateau, self._bars = level, 1

    def _speak(self, beat: int, kind: str, step: float, level: float, *, announced: bool) -> Event:
        self._settle(level)
        self._rest = self.rules.refractory_bars
        return Event(kind, beat, step, announced)

    def _kind(self, step: float, level: float, sudden: bool = False) -> str:
        if step < 0:
            return "break" if step <= -self.rules.big else "energy_down"
        rises = (*self._rises, level - self._level if math.isfinite(self._level) else 0.0)
        if not sudden and min(rises) > 0 and max(rises) < 0.6 * sum(rises):
            return "build"
        return "drop" if step >= self.rules.big else "energy_up"

    def _learn_trust(self, level: float) -> None:
        """What the look-ahead said of this bar, against what came: its scale, and how far off it is."""
        if not (math.isfinite(level) and math.isfinite(self._guess)):
            return
        off = self._guess - level
        if not math.isfinite(self._bias):
            self._bias, self._miss = off, self.rules.step
            return
        self._miss += 0.1 * (abs(off - self._bias) - self._miss)
        self._bias += 0.1 * (off - self._bias)

    def _announcement(self, level: float, coming: float) -> float:
        """The step that the coming bar makes from the plateau, 0 when it is not surely one."""
        if not math.isfinite(coming):
            return 0.0
        step = coming - self._plateau
        # Half the step must lie ahead: a plateau that is off is no news of the coming bar.
        if abs(step) < max(self.threshold, 2 * self._miss) or (coming - level) * step < 0.5 * step * step:
            return 0.0
        return step

    def _fill(self) -> float:
        """How far the accent of the last beat stands out above the others, 0 when it does not."""
        rest = self._accent[:-1]
        if not rest or not all(math.isfinite(v) for v in self._accent):
            return 0.0
        out = _log(self._accent[-1]) - _log(max(rest))
        return out if out >= self.rules.fill else 0.0


def _log(value: float) -> float:
    return math.log(max(value, 0.0) + FLOOR) if math.isfinite(value) else math.nan
