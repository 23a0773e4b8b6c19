"""MIDI out: controls as control changes, gestures and plans as notes, the beat as clock.

The bytes are those of the MIDI 1.0 Detailed Specification (1996): control change `B0+ch cc value`, note on `90+ch`,
note off `80+ch`, clock `F8 FA FB FC`; a 14-bit value is the pair of controllers cc (upper 7 bits) and cc + 32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from choreo_cli.errors import ConfigError, UnavailableError, UsageError
from choreo_cli.live.jack_watch import JackWatch
from choreo_cli.live.midi_backend import (
    CLIENT,
    Found,
    absent,
    bury_client,
    drop_client,
    look_up,
    offer,
    pick,
)
from choreo_cli.live.port import Cue, Outgoing, PortLost
from choreo_cli.reflex.planner import EVENTS
from formats.control_map import ControlMap
from formats.packets import CONTROLS

CONTROL_CHANGE, NOTE_ON, NOTE_OFF = 0xB0, 0x90, 0x80
ALL_NOTES_OFF, RESET_CONTROLLERS = 123, 121
CLOCK, START, CONTINUE, STOP = 0xF8, 0xFA, 0xFB, 0xFC
FINE = 32
"""From the controller of the upper seven bits to that of the lower seven."""
GESTURE_NOTE, PLAN_NOTE = 36, 84
NOTE_US = 100_000
"""Least length of a cue's note, in session time; it ends with the first message after that."""
PATIENCE_S = 1.0


def controllers(control_map: ControlMap, bits: int) -> tuple[int, ...]:
    """The five control change numbers, in model order.

    Raises:
        ConfigError: with 14 bits, a number has no partner 32 above it, or the partner is another control's.
    """
    ccs = tuple(control.cc for control in control_map.controls)
    if bits == 14:
        for name, cc in zip(CONTROLS, ccs, strict=True):
            if cc >= FINE:
                raise ConfigError(f"{name}.cc {cc} cannot carry 14 bits", hint="only 0 to 31 have a partner")
    return ccs


class MidiPort:
    """One MIDI receiver: a device or program by name, or a virtual port of ours that others connect to.

    Args:
        name: The receiver's port, exactly or a part of it; of a virtual port, how it is called.
        control_map: Control change numbers.
        virtual: Make a port instead of connecting to one (macOS and JACK).
        channel: 0..15.
        api: `core`, `alsa` or `jack`; None takes the first that knows the name.
        bits: 7, or 14 for pairs of control changes; the value is read from 0..1 of the control's range.
        gestures: Names of the gestures in the order of their notes; others follow in the order they are seen.
        note: Note of the first gesture.

    Raises:
        UsageError: channel or bits are none. ConfigError: a number cannot carry 14 bits.
    """

    def __init__(
        self,
        name: str,
        control_map: ControlMap,
        virtual: bool = False,
        channel: int = 0,
        api: str | None = None,
        bits: int = 7,
        *,
        gestures: Sequence[str] = (),
        note: int = GESTURE_NOTE,
    ) -> None:
        if not 0 <= channel <= 15:
            raise UsageError(f"MIDI channel {channel + 1} is not within 1 to 16")
        if bits not in (7, 14):
            raise UsageError(f"MIDI values have 7 or 14 bits, not {bits}")
        self.name = f"midi:virtual:{name}" if virtual else f"midi:{name}"
        self.quantum = 1.0 / ((1 << bits) - 1)
        self.device = ""
        self._wanted, self._virtual, self._channel, self._api, self._bits = name, virtual, channel, api, bits
        self._ccs = controllers(control_map, bits)
        self._notes = {("gesture", g): note + k for k, g in enumerate(gestures)}
        self._notes |= {("plan", event): PLAN_NOTE + k for k, event in enumerate(EVENTS)}
        self._first_note = note
        self._sounding: dict[int, int] = {}
        self._out: Any = None
        self._watch: JackWatch | None = None
        self._echo: Any = None
        self._messages = self._bytes = self._refused = self._losses = 0
        self._acked: int | None = None

    def open(self) -> None:
        """Connect, waiting a second for a receiver that has just been started.

        Raises:
            UnavailableError: python-rtmidi missing, or the port is not there (the ports that are, are listed).
            UsageError: the name could be several ports; they are listed.
        """
        if self._out is None:
            self._connect(PATIENCE_S)

    def _connect(self, patience_s: float) -> None:
        if self._virtual:
            found = offer(self._wanted, "out", self._api)
        else:
            found = look_up(self._wanted, "out", self._api, patience_s)
        self._take(found)

    def _take(self, found: Found) -> None:
        if found.index >= 0:
            try:
                # A port name, not a client name: the latter would make a virtual port that nobody reads.
                found.client.open_port(found.index, name="out")
            except (OSError, RuntimeError) as e:
                drop_client(found.client)
                raise UnavailableError(f"{self.name}: {e}") from None
        self._out, self._api, self.device = found.client, found.api, found.name
        if found.api == "jack":
            self._watch = self._watch or JackWatch()
            self._watch.open()

    def present(self) -> bool:
        """Whether the receiver is still there. Asks the system: for a keeper's thread, not for the loop."""
        if self._out is None or (self._watch is not None and self._watch.dead):
            return False
        if self._virtual:
            return True
        if self._watch is not None and self._watch.usable:
            return self._watch.connected(self.device, CLIENT)
        return self.device in self._out.get_ports()

    def reopen(self) -> None:
        """Connect again after a loss, on the same client while its server lives; one attempt, no waiting.

        Raises:
            UnavailableError: not back yet.
        """
        if self._watch is not None and self._watch.dead:
            if self._out is not None:
                bury_client(self._out)
                self._out = None
            if not self._watch.open():
                raise absent(self._wanted, (), False)
        if self._out is None:
            self._connect(0.0)
            return
        ports = self._out.get_ports()
        index = None if self._virtual else pick(self._wanted, ports)
        if index is None and not self._virtual:
            raise absent(self._wanted, ports, True)
        if index is not None:
            client, self._out = self._out, None
            client.close_port()
            self._take(Found(client, self._api or "", index, ports[index]))

    def remap(self, control_map: ControlMap) -> None:
        """Take the control change numbers of an edited map. Raises ConfigError and keeps the old ones."""
        self._ccs = controllers(control_map, self._bits)

    def send(self, out: Outgoing) -> int:
        """See `Port`: one control change for each value marked in `out.send`, two with 14 bits."""
        before = self._messages
        self._end_notes(out.t_us)
        status = CONTROL_CHANGE | self._channel
        for cc, unit, wanted in zip(self._ccs, out.unit.tolist(), out.send.tolist(), strict=True):
            if not wanted:
                continue
            if not math.isfinite(unit):  # the guards let none through; a synth must never get one as 127
                self._refused += 1
                continue
            level = min(max(unit, 0.0), 1.0)
            if self._bits == 7:
                self._write((status, cc, round(level * 127)))
            else:
                fine = round(level * 16383)
                self._write((status, cc, fine >> 7))
                self._write((status, cc + FINE, fine & 0x7F))
        return self._messages - before

    def cue(self, cue: Cue) -> int:
        """See `Port`: a note, with the strength as its velocity."""
        before = self._messages
        self._end_notes(cue.t_us)
        note = self.note_of(cue)
        if note in self._sounding:
            self._write((NOTE_OFF | self._channel, note, 0))
        strength = abs(cue.strength) if math.isfinite(cue.strength) else 1.0
        self._write((NOTE_ON | self._channel, note, max(1, round(min(strength, 1.0) * 127))))
        self._sounding[note] = cue.t_us + NOTE_US
        return self._messages - before

    def note_of(self, cue: Cue) -> int:
        """The note that stands for this gesture or plan."""
        key = (cue.kind, cue.name)
        if key not in self._notes:
            seen = sum(kind == "gesture" for kind, _ in self._notes)
            self._notes[key] = min(self._first_note + seen, PLAN_NOTE - 1)
        return self._notes[key]

    def _end_notes(self, t_us: int) -> None:
        if self._sounding:
            for note in [n for n, end in self._sounding.items() if t_us >= end]:
                del self._sounding[note]
                self._write((NOTE_OFF | self._channel, note, 0))

    def pulse(self, count: int = 1) -> int:
        """Send `count` ticks of MIDI clock, 24 to a beat; messages sent. Raises PortLost."""
        for _ in range(count):
            self._write((CLOCK,))
        return count

    def transport(self, status: int) -> None:
        """Send `START`, `CONTINUE` or `STOP`. Raises PortLost."""
        self._write((status,))

    def silence(self) -> None:
        """Notes of ours off, all notes off (123) and controllers reset (121) on the channel; never raises."""
        try:
            for note in self._sounding:
                self._write((NOTE_OFF | self._channel, note, 0))
            for controller in (ALL_NOTES_OFF, RESET_CONTROLLERS):
                self._write((CONTROL_CHANGE | self._channel, controller, 0))
        except PortLost:
            pass
        self._sounding.clear()

    def _write(self, message: tuple[int, ...]) -> None:
        if self._out is None or (self._watch is not None and self._watch.dead):
            self._losses += 1
            raise PortLost(f"{self.name} is gone")
        try:
            self._out.send_message(message)
        except (OSError, RuntimeError, ValueError) as e:
            self._losses += 1
            raise PortLost(f"{self.name}: {e}") from None
        self._messages += 1
        self._bytes += len(message)

    def listen(self) -> bool:
        """Hear our own virtual port, so that `facts` can tell what arrived (`acked`); False where that cannot be."""
        if not self._virtual or self._out is None or self._echo is not None:
            return self._echo is not None
        try:
            found = look_up(self._wanted, "in", self._api, PATIENCE_S)
        except (UnavailableError, UsageError):
            return False
        self._acked, self._echo = 0, found.client
        found.client.ignore_types(sysex=True, timing=False, active_sense=True)
        found.client.set_callback(self._heard)
        found.client.open_port(found.index, name="echo")
        return True

    def _heard(self, _event: object, _data: object) -> None:
        self._acked = (self._acked or 0) + 1

    def facts(self) -> dict[str, Any]:
        """See `Port`; `acked` is None unless `listen` hears a virtual port."""
        return {
            "device": self.device,
            "api": self._api,
            "bits": self._bits,
            "channel": self._channel + 1,
            "messages": self._messages,
            "bytes": self._bytes,
            "refused": self._refused,
            "losses": self._losses,
            "acked": self._acked,
        }

    def close(self) -> None:
        """See `Port`. A client whose JACK server died is left alone."""
        dead = self._watch is not None and self._watch.dead
        for client in (self._echo, self._out):
            if client is not None:
                (bury_client if dead else drop_client)(client)
        self._echo = self._out = None
        if self._watch is not None:
            self._watch.close()
            self._watch = None
