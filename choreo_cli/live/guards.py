"""The last thing before a port: what the model said becomes values that an instrument can be trusted with.

No other module makes an `Outgoing`, and a port takes nothing else. In this order: a value that is not finite (or out
of range, when the map says hold) keeps the last valid one and after `hold_s` the control goes to neutral; optional
median of 3; 0..1 mapped to min..max; easing; clamp; speed limit by the time that really passed.

The speed limit has the last word, over everything: freezing, neutral, a reloaded map. What is sent is float32, rounded
so that neither a bound nor the limit is broken by rounding: bounds are the float32 inside min..max, a step is rounded
towards the value before it.

A reloaded map takes over from the value that stands. A value outside its new range is not cut: that would be the jump
the speed limit forbids. It goes to the nearer bound at the full new rate, not eased, even while frozen, and never out
again. `unit` goes over to the new range at the same speed, so a CC does not jump either.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from choreo_cli.live.easing import easing_of
from choreo_cli.live.port import Outgoing
from formats.control_map import Control, ControlMap
from formats.packets import CONTROLS

F32 = NDArray[np.float32]

LONGEST_S = 1.0
"""After a longer stall the easing starts over and the speed limit counts this much: nothing leaps after a hang."""
COUNTS = ("ticks", "not_finite", "out_of_range", "to_neutral", "limited", "stalls", "no_time", "reloads")
_N = len(CONTROLS)


class Guards:
    """State of the five controls between ticks. They start at neutral.

    Args:
        control_map: Ranges, easing, limits.
        step_us: Nominal time between ticks; taken for the first one, which has none before it.
        median: Take the median of the last three valid outputs of the model: one tick of delay against spikes.
    """

    def __init__(self, control_map: ControlMap, step_us: int = 20_000, *, median: bool = False) -> None:
        self._step_s = step_us / 1e6
        self._median = median
        self._valid = [math.nan] * _N
        self._held_s = [0.0] * _N
        self._holding = [False] * _N
        self._past: list[list[float]] = [[] for _ in range(_N)]
        self._catching = [False] * _N
        self._all = np.ones(_N, bool)
        self._all.setflags(write=False)
        self._count = dict.fromkeys(COUNTS, 0)
        self._take(control_map)
        self._easing = [easing_of(c) for c in control_map.controls]
        self._at = list(self._neutral)
        self._sent = np.array(self._neutral, np.float32)
        self._unit = np.array([self._to_unit(i, v) for i, v in enumerate(self._neutral)], np.float32)

    @property
    def map(self) -> ControlMap:
        """The map in force."""
        return self._map

    @property
    def counts(self) -> dict[str, int]:
        """How often what happened: `ticks`; of single controls `not_finite`, `out_of_range`, `to_neutral` (a hold
        that ran out) and `limited` (the speed limit was reached); `stalls`, ticks with `no_time`, `reloads`."""
        return dict(self._count)

    @property
    def holding(self) -> tuple[str, ...]:
        """Controls for which the model gave nothing usable at the last tick."""
        return tuple(name for name, holds in zip(CONTROLS, self._holding, strict=True) if holds)

    def reload(self, control_map: ControlMap) -> None:
        """Take another map in mid-flight; see the head of this module."""
        before = self._map.controls
        self._take(control_map)
        for i, (old, new) in enumerate(zip(before, control_map.controls, strict=True)):
            if (old.ease, old.rate_per_s) != (new.ease, new.rate_per_s):
                self._easing[i] = easing_of(new)
            if (old.min, old.max) != (new.min, new.max):
                self._catching[i] = True
        self._count["reloads"] += 1

    def release(
        self,
        y: F32 | Sequence[float],
        dt_s: float,
        seq: int,
        t_us: int,
        *,
        frozen: bool = False,
        neutral: bool = False,
        beat: float | None = None,
        bpm: float | None = None,
    ) -> Outgoing:
        """One tick: the model's output in, what may be sent out.

        Args:
            y: (5,) output of the model, 0..1, NaN where it has none.
            dt_s: Seconds since the call before this one, by the loop's clock. 0 or less moves nothing.
            seq: Number of the output tick.
            t_us: Session time of the frame.
            frozen: Hold what is sent.
            neutral: Go to neutral instead of following the model.
            beat: Position of the transport.
            bpm: Its tempo.
        """
        values = y.tolist() if isinstance(y, np.ndarray) else list(y)
        if len(values) != _N:
            raise ValueError(f"{len(values)} controls, not {_N}")
        dt = self._elapsed(dt_s)
        for i in range(_N):
            goal = self._neutral[i] if self._hold(i, values[i], dt) else self._to_value(i, self._valid[i])
            if neutral:
                goal = self._neutral[i]
            self._move(i, goal, dt, frozen)
        self._count["ticks"] += 1
        sent, unit = self._sent.copy(), self._unit.copy()
        sent.setflags(write=False)
        unit.setflags(write=False)
        return Outgoing(seq, t_us, sent, unit, self._all, frozen or neutral or any(self._holding), beat, bpm)

    def _take(self, control_map: ControlMap) -> None:
        self._map = control_map
        bounds = [_inside(c) for c in control_map.controls]
        self._lo: list[float] = [lo for lo, _, _ in bounds]
        self._hi: list[float] = [hi for _, hi, _ in bounds]
        self._neutral: list[float] = [at for _, _, at in bounds]
        self._rate = [float(c.rate_per_s) for c in control_map.controls]
        self._min = [float(c.min) for c in control_map.controls]
        self._span = [float(c.max) - float(c.min) for c in control_map.controls]
        self._hold_range = control_map.clamp.out_of_range == "hold"
        self._not_finite_neutral = control_map.clamp.not_finite == "neutral"
        self._hold_s = control_map.clamp.hold_s - 1e-9

    def _elapsed(self, dt_s: float) -> float:
        """Seconds that count, and what a tick out of time does to the rest of the state."""
        if self._count["ticks"] == 0 and not dt_s > 0:
            return self._step_s
        if not dt_s > 0:
            self._count["no_time"] += 1
            return 0.0
        if dt_s <= LONGEST_S:
            return dt_s
        self._count["stalls"] += 1
        for i in range(_N):
            self._easing[i].rest()
            self._past[i].clear()
        return LONGEST_S

    def _hold(self, i: int, y: float, dt: float) -> bool:
        """Take the model's word when it is one; whether control `i` goes to neutral instead of following it."""
        finite = math.isfinite(y)
        if finite and 0.0 <= y <= 1.0:
            return self._follow(i, y)
        self._count["out_of_range" if finite else "not_finite"] += 1
        if finite and not self._hold_range:
            return self._follow(i, min(max(y, 0.0), 1.0))
        self._holding[i] = True
        self._past[i].clear()
        before = self._held_s[i]
        self._held_s[i] = before + dt
        if not finite and self._not_finite_neutral:
            return True
        over = self._held_s[i] >= self._hold_s
        self._count["to_neutral"] += over and before < self._hold_s
        return over or math.isnan(self._valid[i])

    def _follow(self, i: int, y: float) -> bool:
        self._holding[i] = False
        self._held_s[i] = 0.0
        if self._median:
            past = self._past[i]
            past.append(y)
            if len(past) > 3:
                past.pop(0)
            y = sorted(past)[1] if len(past) == 3 else y
        self._valid[i] = y
        return False

    def _move(self, i: int, goal: float, dt: float, frozen: bool) -> None:
        """Easing, clamp, speed limit and rounding of one control."""
        at, lo, hi = self._at[i], self._lo[i], self._hi[i]
        limit, easing = self._rate[i] * dt, self._easing[i]
        if not lo <= at <= hi:
            easing.rest()
            want = lo if at < lo else hi
        elif frozen:
            easing.rest()
            want = at = float(self._sent[i])
        else:
            want = min(max(easing.step(at, goal, dt), lo), hi)
        limited = abs(want - at) > limit
        reached = at + math.copysign(limit, want - at) if limited else want
        easing.took(reached, reached - at, dt, limited)
        self._count["limited"] += limited
        self._at[i] = reached
        value = self._round(i, reached, limit)
        unit = self._to_unit(i, value)
        if self._catching[i]:
            before, most = float(self._unit[i]), limit / self._span[i]
            self._catching[i] = abs(unit - before) > most
            unit = min(max(unit, before - most), before + most)
        self._unit[i] = unit

    def _round(self, i: int, value: float, limit: float) -> float:
        """Write the float32 nearest `value` that is at most `limit` from the one sent before; give it back."""
        before = float(self._sent[i])
        self._sent[i] = min(max(value, before - limit), before + limit)
        while abs(float(self._sent[i]) - before) > limit:
            self._sent[i] = np.nextafter(self._sent[i], np.float32(before))
        return float(self._sent[i])

    def _to_value(self, i: int, y: float) -> float:
        return min(max(self._min[i] + y * self._span[i], self._lo[i]), self._hi[i])

    def _to_unit(self, i: int, value: float) -> float:
        # The bounds are the ends, though their float32 may lie a little inside: a fader reaches 0 and 127.
        if value <= self._lo[i]:
            return 0.0
        return 1.0 if value >= self._hi[i] else min(max((value - self._min[i]) / self._span[i], 0.0), 1.0)


def _inside(control: Control) -> tuple[float, float, float]:
    """Least and greatest float32 within min..max, and the one nearest neutral.

    A range too narrow to hold a float32 becomes the one nearest neutral: the only case in which a bound is passed, by
    less than float32 can tell.
    """
    lo, hi = np.float32(control.min), np.float32(control.max)
    if float(lo) < control.min:
        lo = np.nextafter(lo, np.float32(np.inf))
    if float(hi) > control.max:
        hi = np.nextafter(hi, np.float32(-np.inf))
    at = float(np.float32(control.neutral))
    if lo > hi:
        return at, at, at
    return float(lo), float(hi), min(max(at, float(lo)), float(hi))
