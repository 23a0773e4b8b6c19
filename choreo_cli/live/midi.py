"""MIDI out: controls as control changes, gestures and plans as notes, the beat as clock.

The bytes are those of the MIDI 1.0 Detailed Specification (1996): control change `B0+ch cc value`, note on `90+ch`,
note off `80+ch`, clock `F8 FA FB FC`; a 14-bit value is the pair of controllers cc (upper 7 bits) and cc + 32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from choreo_cli.errors import ConfigError, UnavailableError, UsageError
from choreo_cli.live.midi_link import MidiLink
from choreo_cli.live.port import Cue, Outgoing, PortLost
from choreo_cli.reflex.planner import EVENTS
from formats.control_map import ControlMap
from formats.packets import CONTROLS

CONTROL_CHANGE, NOTE_ON, NOTE_OFF = 0xB0, 0x90, 0x80
ALL_NOTES_OFF, RESET_CONTROLLERS = 123, 121
CLOCK, START, CONTINUE, STOP = 0xF8, 0xFA, 0xFB, 0xFC
SONG_POSITION = 0xF2
FINE = 32
"""From the controller of the upper seven bits to that of the lower seven."""
GESTURE_NOTE, PLAN_NOTE = 36, 84
NOTE_US = 100_000
"""Least length of a cue's note, in session time; it ends with the first message after that."""


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
        self._link = MidiLink(name, "out", virtual, api)
        self._channel, self._bits = channel, bits
        self._ccs = controllers(control_map, bits)
        self._notes = {("gesture", g): note + k for k, g in enumerate(gestures)}
        self._notes |= {("plan", event): PLAN_NOTE + k for k, event in enumerate(EVENTS)}
        self._first_note = note
        self._sounding: dict[int, int] = {}
        self._echo: MidiLink | None = None
        self._messages = self._bytes = self._refused = self._losses = 0
        self._acked: int | None = None

    def open(self) -> None:
        """Connect, waiting a second for a receiver that has just been started. Raises as `MidiLink.open`."""
        self._link.open()

    def present(self) -> bool:
        """Whether the receiver is still there: for a keeper's thread, not for the loop."""
        return self._link.present()

    def reopen(self) -> None:
        """Connect again after a loss; one attempt. Raises as `MidiLink.reopen`."""
        self._sounding.clear()
        self._link.reopen()

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

    def song_position(self, sixteenths: int) -> None:
        """Say where the next CONTINUE goes on: 14 bits, so it begins anew after 1024 bars. Raises PortLost."""
        place = sixteenths & 0x3FFF
        self._write((SONG_POSITION, place & 0x7F, place >> 7))

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
        if self._link.dead:
            self._losses += 1
            raise PortLost(f"{self.name} is gone")
        try:
            self._link.client.send_message(message)
        except (OSError, RuntimeError, ValueError) as e:
            self._losses += 1
            raise PortLost(f"{self.name}: {e}") from None
        self._messages += 1
        self._bytes += len(message)

    def listen(self) -> bool:
        """Hear our own virtual port, so that `facts` can tell what arrived (`acked`); False where that cannot be."""
        if not self._link.virtual or self._link.dead or self._echo is not None:
            return self._echo is not None
        echo = MidiLink(self._link.name, "in", api=self._link.api, prepare=self._hear)
        try:
            echo.open()
        except (UnavailableError, UsageError):
            return False
        self._acked, self._echo = 0, echo
        return True

    def _hear(self, client: Any) -> None:
        client.ignore_types(sysex=True, timing=False, active_sense=True)
        client.set_callback(self._heard)

    def _heard(self, _event: object, _data: object) -> None:
        self._acked = (self._acked or 0) + 1

    def facts(self) -> dict[str, Any]:
        """See `Port`; `acked` is None unless `listen` hears a virtual port."""
        return {
            "device": self._link.device,
            "api": self._link.api,
            "bits": self._bits,
            "channel": self._channel + 1,
            "messages": self._messages,
            "bytes": self._bytes,
            "refused": self._refused,
            "losses": self._losses,
            "acked": self._acked,
        }

    def close(self) -> None:
        """See `Port`."""
        for link in (self._echo, self._link):
            if link is not None:
                link.close()
        self._echo = None
