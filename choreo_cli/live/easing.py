"""How a control moves to its goal: first-order low-pass, ramp or s-curve, each by the time that really passed.

An easing is asked for the next value and told what was really sent (`took`), because clamp and speed limit come after
it: the next step goes on from where the instrument stands, not from where it would have been.
"""

from __future__ import annotations

import math
from typing import Protocol

from formats.control_map import Control


class Easing(Protocol):
    """One control on its way. Values are in the units of the control, times in seconds."""

    def step(self, value: float, goal: float, dt: float) -> float:
        """The value `dt` seconds after it was `value`, never past `goal` when it moves towards it."""
        ...

    def took(self, value: float, moved: float, dt: float, limited: bool) -> None:
        """What was sent: `value`, after a move of `moved` in `dt`; `limited` when it is not what `step` gave."""
        ...

    def rest(self) -> None:
        """Forget speed and goal: the next step begins anew from standstill."""
        ...


class Direct:
    """`none`: the goal at once; the speed limit alone decides."""

    def step(self, value: float, goal: float, dt: float) -> float:
        """See `Easing`."""
        return goal if dt > 0 else value

    def took(self, value: float, moved: float, dt: float, limited: bool) -> None:
        """See `Easing`."""

    def rest(self) -> None:
        """See `Easing`."""


class Exponential(Direct):
    """`exp`: alpha = 1 - exp(-dt / tau), so that two steps of 10 ms are one of 20 ms.

    Args:
        tau: Time constant in seconds, above 0.
    """

    def __init__(self, tau: float) -> None:
        self.tau = tau

    def step(self, value: float, goal: float, dt: float) -> float:
        """See `Easing`."""
        return value - (goal - value) * math.expm1(-dt / self.tau)


class Ramp(Direct):
    """`linear`: a straight line that arrives `span` seconds after the goal last changed.

    Args:
        span: Length in seconds, above 0.
    """

    def __init__(self, span: float) -> None:
        self.span = span
        self._goal = math.nan
        self._left = 0.0

    def step(self, value: float, goal: float, dt: float) -> float:
        """See `Easing`."""
        if goal != self._goal:
            self._goal, self._left = goal, self.span
        if dt >= self._left:
            self._left = 0.0
            return goal if dt > 0 else value
        part = dt / self._left
        self._left -= dt
        return value + (goal - value) * part

    def rest(self) -> None:
        """See `Easing`."""
        self._goal = math.nan


class SCurve(Direct):
    """`scurve`: a cubic from the present value AND slope to rest at the goal.

    From standstill it is the smoothstep 3u^2 - 2u^3. A cubic Hermite segment is monotone when its first slope is at
    most 3 times its mean slope and has its sign (Fritsch and Carlson 1980): a faster approach gets a shorter segment,
    so that it never runs past the goal. It lasts at least 1.5 |way| / rate, its steepest place being 1.5 times the
    mean: the curve keeps its form under the speed limit.

    Args:
        span: Length in seconds, above 0.
        rate: Fastest change per second.
    """

    def __init__(self, span: float, rate: float) -> None:
        self.span, self.rate = span, rate
        self.slope = 0.0
        self._goal = math.nan
        self._left = 0.0

    def step(self, value: float, goal: float, dt: float) -> float:
        """See `Easing`."""
        way = goal - value
        if goal != self._goal:
            self._goal = goal
            self._anchor(way, self.span)
        if dt >= self._left:
            self.slope = self._left = 0.0
            return goal if dt > 0 else value
        whole, u = self._left, dt / self._left
        start = self.slope * whole
        self._left -= dt
        rest = 1.0 - u
        self.slope = (start * rest * (1.0 - 3.0 * u) + 6.0 * way * u * rest) / whole
        return value + start * u * rest * rest + way * u * u * (3.0 - 2.0 * u)

    def _anchor(self, way: float, least: float) -> None:
        """Choose the length of the segment over `way` that begins now with the present slope."""
        span = max(least, 1.5 * abs(way) / self.rate)
        if self.slope * way > 0:
            span = min(span, 3.0 * way / self.slope)
        self._left = span if way or self.slope else 0.0

    def took(self, value: float, moved: float, dt: float, limited: bool) -> None:
        """See `Easing`."""
        if limited and dt > 0 and math.isfinite(self._goal):
            self.slope = moved / dt
            self._anchor(self._goal - value, self._left)

    def rest(self) -> None:
        """See `Easing`."""
        self.slope = self._left = 0.0
        self._goal = math.nan


def easing_of(control: Control) -> Easing:
    """The easing a control map asks for; one of 0 ms is `none`."""
    seconds = control.ease.ms / 1000.0
    if control.ease.kind == "none" or seconds < 1e-6:
        return Direct()
    if control.ease.kind == "exp":
        return Exponential(seconds)
    return Ramp(seconds) if control.ease.kind == "linear" else SCurve(seconds, control.rate_per_s)
