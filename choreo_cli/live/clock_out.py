"""MIDI clock out: 24 pulses to a beat on every port that has them, at their own times and not on the ticks of the loop.

A receiver counts pulses, so a pulse is never left out and never sent twice: they are numbered by the position in beats,
and what is late is made up for at once. A receiver that cannot be in step (it was away, our own leader jumped) is told
the position (MIDI song position, in sixteenths) and continues there.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from typing import Any

from choreo_cli.live.clock import Clock
from choreo_cli.live.keeper import Keeper
from choreo_cli.live.midi import CONTINUE, START, STOP
from choreo_cli.live.port import Outgoing
from choreo_cli.live.transport import PPQN, Transport

SLICE_US = 10_000
"""The longest wait: after a change of tempo the next pulse is at most so far from its time."""
PATIENCE_S = 0.05
"""The loop is inside a port for far less; a driver that hangs must not hold the other ports' clocks up for longer."""
PER_SIXTEENTH = PPQN // 4
NOISE = 1e-6
"""In pulses: rounding noise below one is not before it."""


class ClockOut:
    """The transport as MIDI clock. START at the beginning, STOP at the end and whenever the transport stands.

    A panic silences the instruments and does not stop the clock: the receivers stay in time for what comes after it.
    Before a follower has heard its leader there is no beat and no clock.

    Args:
        transport: Whose beat.
        keepers: All ports; those without `pulse` are left out.
        clock: Of the session.
        threaded: Send from a thread of its own, on absolute deadlines; False sends from `tick`, in virtual time.
    """

    def __init__(self, transport: Transport, keepers: Sequence[Keeper], clock: Clock, *, threaded: bool = True) -> None:
        self._transport, self._clock, self._threaded = transport, clock, threaded
        self._receivers = [_Receiver(k) for k in keepers if hasattr(k.port, "pulse")]
        self._start_ns = self._origin_us = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def ports(self) -> tuple[str, ...]:
        """Names of the ports that get the clock."""
        return tuple(r.keeper.name for r in self._receivers)

    def begin(self, start_ns: int, origin_us: int) -> None:
        """Start at the clock's reading `start_ns`, which is session time `origin_us`."""
        self._start_ns, self._origin_us = start_ns, origin_us
        if self._threaded and self._receivers:
            self._thread = threading.Thread(target=self._run, name="midi clock", daemon=True)
            self._thread.start()

    def tick(self, t_us: int, _out: Outgoing | None) -> None:
        """Send what is due, unless the thread does."""
        if self._thread is None:
            self.step(t_us)

    def step(self, t_us: int) -> None:
        """Send every pulse up to a session time; never raises."""
        transport = self._transport
        beat = transport.beat_at(t_us)
        going = transport.running and transport.locked
        for receiver in self._receivers:
            receiver.advance(beat) if going else receiver.halt()

    def end(self) -> None:
        """STOP, and no pulse after it; may be called twice."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(2.0)
        for receiver in self._receivers:
            receiver.halt()

    def facts(self) -> dict[str, Any]:
        """Pulses by port, and how often its position had to be told."""
        return {r.keeper.name: {"pulses": r.pulses, "placed": r.placed} for r in self._receivers}

    def _run(self) -> None:
        self._clock.wait_until(self._start_ns)
        while not self._stop.is_set():
            now_us = self._origin_us + (self._clock.now_ns() - self._start_ns) // 1000
            self.step(now_us)
            due_us = min((self._due_us(r, now_us) for r in self._receivers), default=now_us + SLICE_US)
            self._clock.wait_until(self._start_ns + (due_us - self._origin_us) * 1000)

    def _due_us(self, receiver: _Receiver, now_us: int) -> int:
        at = math.nan if receiver.next is None else self._transport.time_of(receiver.next / PPQN)
        # Just after its time: at it, rounding could say that it is not due yet, and the wait would be spent again.
        return now_us + SLICE_US if math.isnan(at) else min(max(math.ceil(at), now_us + 1), now_us + SLICE_US)


class _Receiver:
    """One port, and the number of the pulse it gets next; None while it stands, or does not know where we are."""

    def __init__(self, keeper: Keeper) -> None:
        self.keeper = keeper
        self.next: int | None = None
        self.pulses = self.placed = 0

    def advance(self, beat: float) -> None:
        """Send every pulse that a position has reached."""
        reached = math.floor(beat * PPQN + NOISE)
        if self.next is not None and not -PPQN <= reached - self.next <= 4 * PPQN:
            self.halt()
        if self.next is None and not self._place(reached):
            return
        assert self.next is not None
        count = reached - self.next + 1
        if count > 0:
            if self.keeper.pass_on(lambda port: port.pulse(count), PATIENCE_S):
                self.next += count
                self.pulses += count
            else:
                self.next = None

    def _place(self, reached: int) -> bool:
        """Start the receiver at a sixteenth: the first one, the one that has just begun, or the next."""
        sixteenth, past = divmod(reached, PER_SIXTEENTH)
        # Whoever begins wakes a little after the beginning: what it is late for is made up for.
        sixteenth = max(0, sixteenth + (past > 1 and sixteenth > 0))

        def start(port: Any) -> None:
            if sixteenth == 0:
                port.transport(START)
            else:
                port.transport(STOP)
                port.song_position(sixteenth)
                port.transport(CONTINUE)

        if not self.keeper.pass_on(start, PATIENCE_S):
            return False
        self.next = sixteenth * PER_SIXTEENTH
        self.placed += 1
        return True

    def halt(self) -> None:
        """Stop the receiver when it runs."""
        if self.next is not None:
            self.next = None
            self.keeper.pass_on(lambda port: port.transport(STOP), PATIENCE_S)
