"""MIDI in: a performer's faders to learn from, and the clock of somebody else's transport to follow."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from choreo_cli.errors import ChoreoError, UsageError
from choreo_cli.live.clock import Clock
from choreo_cli.live.midi import CLOCK, CONTINUE, CONTROL_CHANGE, SONG_POSITION, START, STOP
from choreo_cli.live.midi_clock import MidiClockEstimator
from choreo_cli.live.midi_link import MidiLink
from choreo_cli.live.sample import Body, Sample
from formats.control_map import ControlMap
from formats.packets import CONTROLS

ROOM = 4096
"""Messages that may wait for a poll; when more come, the oldest go: the newest position of a fader counts."""
WATCH_S = 1.0
Heard = tuple[int, tuple[int, ...]]


class MidiInbox:
    """What arrives at one MIDI port, in a bounded queue; a device that went is connected again.

    Args:
        name: Port to hear, exactly or a part of it; of a virtual port, how it is called.
        virtual: Make a port that others connect to.
        api: MIDI backend, None for whichever knows the name.
        timing: Hear clock ticks, too.
        watched: Look for the device once a second on a thread of its own.
    """

    def __init__(
        self, name: str, virtual: bool = False, api: str | None = None, *, timing: bool = False, watched: bool = True
    ) -> None:
        self._link = MidiLink(name, "in", virtual, api, self._prepare)
        self._timing, self._watched = timing, watched
        self._queue: deque[Heard] = deque()
        self._clock: Clock | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.messages = self.dropped = self.losses = 0

    def open(self, clock: Clock) -> None:
        """Begin to hear. Raises as `MidiLink.open`."""
        self._clock = clock
        self._link.open()
        if self._watched:
            self._thread = threading.Thread(target=self._keep, name="midi in", daemon=True)
            self._thread.start()

    def _prepare(self, client: Any) -> None:
        # The library leaves clock ticks out unless it is told not to.
        client.ignore_types(sysex=True, timing=not self._timing, active_sense=True)
        client.set_callback(self._heard)

    def _heard(self, event: tuple[Sequence[int], float], _data: object) -> None:
        if self._clock is None:
            return
        self.messages += 1
        self._queue.append((self._clock.now_ns(), tuple(event[0])))
        while len(self._queue) > ROOM:
            self._queue.popleft()
            self.dropped += 1

    def take(self) -> list[Heard]:
        """Everything that has arrived: (clock reading in ns, bytes) in order."""
        return [self._queue.popleft() for _ in range(len(self._queue))]

    def _keep(self) -> None:
        lost = False
        while not self._stop.wait(WATCH_S):
            try:
                if not self._link.present():
                    self.losses += not lost
                    lost = True
                    self._link.reopen()
                lost = False
            except (ChoreoError, OSError, RuntimeError):
                continue  # not back yet

    @property
    def device(self) -> str:
        """Full name of the port that is heard."""
        return self._link.device

    def facts(self) -> dict[str, Any]:
        """Counters."""
        return {"device": self.device, "messages": self.messages, "drops": self.dropped, "losses": self.losses}

    def close(self) -> None:
        """Stop hearing; may be called twice."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(3.0)
            self._thread = None
        self._link.close()


class _MidiSource:
    """What the two sources share: an inbox, and session time for what comes out of it."""

    kinds: tuple[str, ...] = ()
    body: Body | None = None
    audio_hz: int | None = None
    origin_us = 0

    def __init__(self, name: str, inbox: MidiInbox) -> None:
        self.name, self._inbox = name, inbox
        self._start_ns = 0
        self._samples = 0

    def open(self, clock: Clock, start_ns: int) -> None:
        """See `Source`."""
        self._start_ns = start_ns
        self._inbox.open(clock)

    @property
    def ended(self) -> bool:
        """See `Source`: a device never ends."""
        return False

    def said(self) -> list[str]:
        """See `Source`."""
        device = self._inbox.device
        return [f"{self.name}: hears {device}" if device else f"{self.name}: heard from the start on"]

    def facts(self) -> dict[str, Any]:
        """See `Source`."""
        return self._inbox.facts() | {"samples": self._samples}

    def close(self) -> None:
        """See `Source`."""
        self._inbox.close()

    def _t_us(self, at_ns: int) -> int:
        return self.origin_us + (at_ns - self._start_ns) // 1000


class MidiTargets(_MidiSource):
    """A performer's faders: the control changes of the map become `target` samples, the newest position of each.

    Args:
        name: Port of the faders.
        control_map: Which control change is which control.
        virtual: Make a port that the faders connect to.
        channel: Hear this channel only, 0..15; None hears all.
        api: MIDI backend, None for whichever knows the name.
        inbox: Where to hear instead of a port of that name.
    """

    kinds: tuple[str, ...] = ("target",)

    def __init__(
        self,
        name: str,
        control_map: ControlMap,
        virtual: bool = False,
        channel: int | None = None,
        api: str | None = None,
        *,
        inbox: MidiInbox | None = None,
    ) -> None:
        super().__init__(f"midi:{name}", inbox or MidiInbox(name, virtual, api))
        self._index = {control.cc: k for k, control in enumerate(control_map.controls)}
        self._channel = channel
        self._at = np.full(len(CONTROLS), np.nan, np.float32)
        self._others = 0

    def poll(self, now_ns: int) -> Sequence[Sample]:
        """See `Source`: one sample when anything moved, at the time of the last move."""
        moved_ns = None
        for at_ns, message in self._inbox.take():
            if self._take(message):
                moved_ns = at_ns
        if moved_ns is None:
            return ()
        self._samples += 1
        return (Sample("target", self._t_us(moved_ns), moved_ns, self._at.copy()),)

    def _take(self, message: tuple[int, ...]) -> bool:
        if len(message) != 3 or message[0] & 0xF0 != CONTROL_CHANGE:
            return False
        channel, cc, value = message[0] & 0x0F, message[1], message[2]
        k = self._index.get(cc)
        if k is None or value > 127 or (self._channel is not None and channel != self._channel):
            self._others += 1
            return False
        self._at[k] = value / 127
        return True

    def facts(self) -> dict[str, Any]:
        """See `Source`; `others` are control changes that no control has."""
        return super().facts() | {"others": self._others}


class MidiClockIn(_MidiSource):
    """Somebody else's transport: MIDI clock becomes `beat` samples, position and tempo at the newest pulse.

    Nothing is said until 24 pulses lie on a line, nor while the other transport stands; see `MidiClockEstimator`.

    Args:
        name: Port of the clock.
        estimator: Takes pulses and commands, gives position and tempo; None makes one.
        on_transport: Told of `start`, `continue`, `stop` and `position` with the session time; the estimator knows
            already.
        api: MIDI backend, None for whichever knows the name.
        virtual: Make a port that the clock connects to.
        inbox: Where to hear instead of a port of that name.
    """

    kinds: tuple[str, ...] = ("beat",)

    def __init__(
        self,
        name: str,
        estimator: MidiClockEstimator | None = None,
        on_transport: Callable[[str, int], None] | None = None,
        *,
        api: str | None = None,
        virtual: bool = False,
        inbox: MidiInbox | None = None,
    ) -> None:
        if not name:
            raise UsageError("source midi-clock: no port is named", hint="midi-clock:PORT, see run-live --list")
        super().__init__(f"midi-clock:{name}", inbox or MidiInbox(name, virtual, api, timing=True))
        self.estimator = estimator or MidiClockEstimator()
        self._on_transport = on_transport
        self._pulses = 0

    def said(self) -> list[str]:
        """See `Source`."""
        leads = "; it leads the beat (--leader choreo: our own tempo)" if self._on_transport is not None else ""
        return [line + leads for line in super().said()]

    def poll(self, now_ns: int) -> Sequence[Sample]:
        """See `Source`: one sample for the newest pulse, when there was one."""
        newest_ns = None
        for at_ns, message in self._inbox.take():
            if message[:1] == (CLOCK,):
                self.estimator.tick(self._t_us(at_ns))
                self._pulses += 1
                newest_ns = at_ns
            else:
                self._command(message, self._t_us(at_ns))
        found = None if newest_ns is None else self.estimator.estimate(self._t_us(newest_ns))
        if newest_ns is None or found is None:
            return ()
        self._samples += 1
        return (Sample("beat", self._t_us(newest_ns), newest_ns, np.array(found, np.float64)),)

    def _command(self, message: tuple[int, ...], t_us: int) -> None:
        status = message[0] if message else 0
        if status == SONG_POSITION and len(message) == 3:
            self.estimator.song_position(message[1] | message[2] << 7)
            if self._on_transport is not None:
                self._on_transport("position", t_us)
            return
        commands = {START: "start", CONTINUE: "continue", STOP: "stop"}
        if status not in commands:
            return
        {START: self.estimator.start, CONTINUE: self.estimator.resume, STOP: self.estimator.stop}[status]()
        if self._on_transport is not None:
            self._on_transport(commands[status], t_us)

    def facts(self) -> dict[str, Any]:
        """See `Source`; `lost` are pulses that the estimator missed."""
        return super().facts() | {"pulses": self._pulses, "lost": self.estimator.lost, "bpm": self.estimator.bpm}
