"""What leaves the loop, and the contract of a port."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
Bool = NDArray[np.bool_]


class PortLost(Exception):
    """The device behind a port went away; the keeper holds, reopens with backoff and resends everything."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """Guarded values on their way to a port. Only `live.guards` makes them: a port takes nothing else.

    Args:
        seq: Counts the output ticks of a run from 0.
        t_us: Session time of the frame they come from.
        values: (5,) float32 in the ranges of the control map.
        unit: (5,) float32, the same in 0..1 of those ranges.
        send: (5,) bool which of them this port sends now: changed by at least its quantum, or due for a refresh.
        held: They repeat the last valid ones.
        beat: Position of the transport in beats, None without one.
        bpm: Tempo of the transport, None without one.
    """

    seq: int
    t_us: int
    values: F32
    unit: F32
    send: Bool
    held: bool
    beat: float | None = None
    bpm: float | None = None


@dataclass(frozen=True, slots=True)
class Cue:
    """Something that happened at a moment: a gesture, or an event of the bar planner.

    Args:
        kind: `gesture` or `plan`.
        name: Which gesture, or one of `reflex.planner.EVENTS`.
        t_us: Session time it is about.
        strength: 0..1 score of a gesture; signed log step of a plan.
        beat: Beat of the bar line it belongs to, None for a gesture.
    """

    kind: str
    name: str
    t_us: int
    strength: float
    beat: int | None = None


class Port(Protocol):
    """One receiver. No method but `open` may block; `send` is called from the loop's thread."""

    name: str
    """As it was named on the command line: `midi:IAC Driver Bus 1`, `osc:127.0.0.1:57120`, `ws:8090`."""
    quantum: float
    """Least change in 0..1 that is worth a message: 1/127 for 7-bit MIDI, 1e-3 for OSC and WebSocket."""

    def open(self) -> None:
        """Connect. Raises UnavailableError naming what was found instead."""
        ...

    def send(self, out: Outgoing) -> int:
        """Hand the values marked in `out.send` to the receiver; messages sent. Raises PortLost."""
        ...

    def cue(self, cue: Cue) -> int:
        """Tell of an event; messages sent. Raises PortLost."""
        ...

    def silence(self) -> None:
        """Everything that sounds by us stops: all notes off. Called on panic and before close."""
        ...

    def facts(self) -> dict[str, Any]:
        """Counters: messages, bytes, losses, clients."""
        ...

    def close(self) -> None:
        """Give the device back; may be called twice."""
        ...
