"""Each control from 0 to 1 and back on each port, through the guards, and what became of the messages."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import UsageError
from choreo_cli.live.clock import SECOND_NS, Clock
from choreo_cli.live.guards import Guards
from choreo_cli.live.keeper import LOST, Keeper
from choreo_cli.live.port import Outgoing, Port
from choreo_cli.live.throttle import Throttle
from formats.control_map import Control
from formats.packets import CONTROLS

RAMP_S = 1.0
"""From 0 to 1, unless the guards are slower."""
DWELL_S = 0.3
"""Rest at each end, so that it can be heard."""
SETTLE_S = 0.2
"""After a control's walk: time for the last answers to come back."""
LONGEST_LEG_S = 20.0
NEAR = 1e-3
"""So close a value counts as arrived, and the port's quantum counts as the whole way."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of one control at one port.

    Args:
        port: Name of the port.
        control: Name of the control.
        asked: Times that the port was given the control's value.
        handed: Messages that the port passed on.
        lowest: Least value that was given, 0..1 of the control's range.
        highest: Greatest value that was given.
        refused: Messages refused or dropped.
        acked: Messages that were heard back; None when this kind of port cannot know.
        clients: Who is connected to the port; None when this kind of port cannot know.
        lost: The device was away at the end.
        quantum: Least change the port sends.
    """

    port: str
    control: str
    asked: int
    handed: int
    lowest: float
    highest: float
    refused: int
    acked: int | None
    clients: int | None
    lost: bool
    quantum: float = NEAR

    @property
    def whole(self) -> bool:
        """The control was given over its whole range."""
        near = self.quantum + NEAR
        return self.asked > 0 and self.lowest <= near and self.highest >= 1 - near

    @property
    def ok(self) -> bool:
        """Nothing speaks against delivery: handed over whole, not refused, and heard where that can be known."""
        heard = self.acked is None or self.acked >= self.handed
        return self.whole and self.handed > 0 and not self.refused and not self.lost and heard

    @property
    def verdict(self) -> str:
        """In a few words, the reason first when it did not arrive."""
        if self.lost:
            return "the device is gone"
        if self.clients == 0:
            return "nobody is connected"
        if self.refused:
            return f"{self.refused} refused or dropped"
        if not self.whole:
            return f"only {self.lowest:.2f} to {self.highest:.2f} was sent"
        if self.acked is not None:
            return f"{self.acked} of {self.handed} heard back"
        return "nothing passed on" if not self.handed else f"{self.handed} handed over (no answer in this protocol)"

    def line(self) -> str:
        """One line for a person."""
        return f"{self.port}  {self.control}  {self.verdict}"


@dataclass(slots=True)
class _Counting:
    """One port during the walk of one control."""

    port: Port
    throttle: Throttle
    before: dict[str, Any]
    asked: int = 0
    handed: int = 0
    lowest: float = 1.0
    highest: float = 0.0

    def give(self, out: Outgoing, k: int, now_ns: int) -> None:
        """Send the one control when it is due."""
        due = self.throttle.due(out, now_ns)
        if due is None or not due.send[k]:
            return
        only = np.zeros(len(CONTROLS), np.bool_)
        only[k] = True
        self.handed += self.port.send(replace(due, send=only))
        self.asked += 1
        unit = float(out.unit[k])
        self.lowest, self.highest = min(self.lowest, unit), max(self.highest, unit)

    def told(self, control: str) -> Delivery:
        """The result, from the port's counters before and now."""
        now = self.port.facts()

        def more(key: str) -> int:
            return int(now.get(key) or 0) - int(self.before.get(key) or 0)

        acked = None if now.get("acked") is None else more("acked")
        return Delivery(
            self.port.name,
            control,
            self.asked,
            self.handed,
            self.lowest,
            self.highest,
            more("refused") + more("dropped"),
            acked,
            now.get("clients"),
            now.get("state") == LOST,
            self.port.quantum,
        )


class Soundcheck:
    """The walk over all controls, or over one again and again for a DAW that learns which is which.

    Args:
        ports: Open ports, best in their keepers.
        guards: They decide how fast a control may move, as in a performance.
        clock: What is waited on.
        solo: Walk this control only.
        step_us: Time between ticks.

    Raises:
        UsageError: no control is called `solo`.
    """

    def __init__(
        self, ports: Sequence[Port], guards: Guards, clock: Clock, *, solo: str | None = None, step_us: int = 20_000
    ) -> None:
        if solo is not None and solo not in CONTROLS:
            raise UsageError(f"no control {solo!r}", hint=f"one of: {', '.join(CONTROLS)}")
        self.names = (solo,) if solo else CONTROLS
        self._ports, self._guards, self._clock, self._step_ns = ports, guards, clock, step_us * 1000
        self._rest = [_unit(c, c.neutral) for c in guards.map.controls]
        self._seq = 0
        self._at = 0.0
        self._start_ns = self._last_ns = self._due_ns = clock.now_ns()

    def run(self, stop: threading.Event | None = None, rounds: int = 1) -> list[Delivery]:
        """Walk; one result for each control and port, of the last round.

        Args:
            stop: Set to end the walk early; the control under way is told of as far as it came.
            rounds: How often, 0 = until `stop`.
        """
        stop = stop or threading.Event()
        for port in self._ports:
            listen = getattr(port.port if isinstance(port, Keeper) else port, "listen", None)
            if listen is not None:
                listen()
        told: list[Delivery] = []
        done = 0
        while not stop.is_set() and (rounds == 0 or done < rounds):
            told = [delivery for name in self.names if not stop.is_set() for delivery in self._walk(name, stop)]
            done += 1
        return told

    def _walk(self, name: str, stop: threading.Event) -> list[Delivery]:
        k = CONTROLS.index(name)
        period = self._guards.map.throttle_ms
        counting = [
            _Counting(p, Throttle(period, p.quantum, origin_ns=self._clock.now_ns()), p.facts()) for p in self._ports
        ]
        self._at = self._rest[k]
        for goal in (0.0, 1.0, 0.0, self._rest[k]):
            self._leg(k, goal, counting, stop)
        self._clock.wait_until(self._clock.now_ns() + round(SETTLE_S * SECOND_NS))
        return [c.told(name) for c in counting]

    def _leg(self, k: int, goal: float, counting: Sequence[_Counting], stop: threading.Event) -> None:
        """Go to a value and rest there."""
        y = np.array(self._rest, np.float32)
        y[k] = self._at
        control = self._guards.map.controls[k]
        patience = (control.max - control.min) / control.rate_per_s + 10 * control.ease.ms / 1000 + RAMP_S + 1.0
        end_ns = self._clock.now_ns() + round(min(patience, LONGEST_LEG_S) * SECOND_NS)
        arrived = False
        stride = self._step_ns / SECOND_NS / RAMP_S
        while not stop.is_set() and self._clock.now_ns() < end_ns:
            self._at += min(max(goal - self._at, -stride), stride)
            y[k] = self._at
            out = self._tick(y)
            for each in counting:
                each.give(out, k, self._clock.now_ns())
            if not arrived and abs(float(out.unit[k]) - goal) <= NEAR / 2:
                arrived, end_ns = True, self._clock.now_ns() + round(DWELL_S * SECOND_NS)

    def _tick(self, y: NDArray[np.float32]) -> Outgoing:
        self._due_ns = max(self._due_ns + self._step_ns, self._clock.now_ns())
        self._clock.wait_until(self._due_ns)
        now = self._clock.now_ns()
        dt_s, self._last_ns = (now - self._last_ns) / SECOND_NS, now
        self._seq += 1
        return self._guards.release(y, dt_s, self._seq - 1, (now - self._start_ns) // 1000)


def _unit(control: Control, value: float) -> float:
    return (value - control.min) / (control.max - control.min)
