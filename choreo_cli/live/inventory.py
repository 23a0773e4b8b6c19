"""What could be played with here: MIDI ports, audio inputs, sensors that are heard."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from choreo_cli.errors import ChoreoError
from choreo_cli.live.midi_backend import MidiName, list_ports, quiet

Learner = Callable[[float], Sequence[str]]
"""Listens for so many seconds and gives a line for each thing heard. Raises ChoreoError when it cannot listen."""
LISTEN_S = 3.0
USUAL = (6448, 8000, 9000, 50000)
"""Where senders send unless told otherwise: Wekinator's inputs, TouchOSC, Sensors2OSC, ZIG SIM."""


@dataclass(slots=True)
class Inventory:
    """What was found.

    Args:
        midi: Ports of other programs and devices.
        audio: Inputs as `--source` takes them: `portaudio:NAME`, `jack:NAME`.
        sensors: What was heard, by the name of who listened.
        remarks: What could not be looked at, and why.
        seconds: How long it was listened for sensors.
    """

    midi: list[MidiName] = field(default_factory=list)
    audio: list[str] = field(default_factory=list)
    sensors: dict[str, list[str]] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        midi = [{"api": p.api, "direction": p.direction, "name": p.name} for p in self.midi]
        return {"midi": midi, "audio": self.audio, "sensors": self.sensors, "remarks": self.remarks}

    def lines(self) -> list[str]:
        """For a person: everything in the form in which it is named on the command line."""
        outs = [f"  --out 'midi:{p.name}'  ({p.api})" for p in self.midi if p.direction == "out"]
        ins = [f"  'midi:{p.name}' or 'midi-clock:{p.name}'  ({p.api})" for p in self.midi if p.direction == "in"]
        parts = [
            ("MIDI ports to send to", outs),
            ("MIDI ports to hear (--record-targets; --source for a clock)", ins),
            ("audio inputs", [f"  --source '{name}'" for name in self.audio]),
            (self._sensors_title(), [f"  --source {line}" for heard in self.sensors.values() for line in heard]),
            ("not looked at", [f"  {remark}" for remark in self.remarks]),
        ]
        told = []
        for title, found in parts:
            if found or title != "not looked at":
                told += [title, *(found or ["  none"])]
        return told

    def _sensors_title(self) -> str:
        listened = ", ".join(self.sensors)
        return f"sensors heard in {self.seconds:g} s" + (f" ({listened})" if listened else "")


def sensors(host: str = "127.0.0.1", sources: Sequence[str] = ()) -> dict[str, Learner]:
    """Who can listen for sensors: OSC on the usual ports and on those that are named, LSL, Bluetooth.

    Args:
        host: Address of this machine for OSC.
        sources: What stands behind `--source`; the OSC ports in it are listened at, too.
    """
    from choreo_cli.live.ble import list_belts
    from choreo_cli.live.lsl import list_streams
    from choreo_cli.live.sources import osc_port

    named = [osc_port(s)[0] for s in sources if s.startswith("osc:")]
    found: dict[str, Learner] = {f"osc:{port}": partial(_osc, host, port) for port in dict.fromkeys((*named, *USUAL))}
    return {**found, "lsl": list_streams, "ble": list_belts}


def _osc(host: str, port: int, seconds: float) -> list[str]:
    """A line for each address that sends to a port."""
    from choreo_cli.live.osc_guess import preset_of
    from choreo_cli.live.osc_learn import listen, rows

    learner = listen(seconds, host, port)
    preset = preset_of(learner.heard)
    source = f"osc:{port}:{preset}" if preset else f"osc:{port}"
    lines = []
    for address, types, hz, ranges in rows(learner.heard):
        more = "" if len(ranges) <= 60 else " ..."
        lines.append(f"{source}  {address} {types[:16]} {hz and hz + ' Hz '}{ranges[:60]}{more}".rstrip())
    refused = sum(learner.decoder.refused.values())
    return [*lines, *([f"{source}  {refused} packets that are no OSC"] if refused else [])]


def take(learners: Mapping[str, Learner] | None = None, seconds: float = LISTEN_S) -> Inventory:
    """Look at everything; what is missing here is a remark, never a failure.

    Args:
        learners: Who listens for sensors, all at once: name -> listener.
        seconds: For how long.
    """
    found = Inventory(seconds=seconds)
    threads = [
        threading.Thread(target=_learn, args=(found, name, learner, seconds), daemon=True)
        for name, learner in (learners or {}).items()
    ]
    with quiet():  # liblsl and JACK speak on stderr
        for thread in threads:
            thread.start()
        for look in (_midi, _sound_cards, _jack):
            try:
                look(found)
            except ChoreoError as e:
                found.remarks.append(str(e))
        for thread in threads:
            thread.join(seconds + 5.0)
    found.sensors = {name: found.sensors[name] for name in learners or {} if name in found.sensors}
    return found


def _learn(found: Inventory, name: str, learner: Learner, seconds: float) -> None:
    try:
        found.sensors[name] = list(learner(seconds))
    except (ChoreoError, OSError) as e:
        found.remarks.append(f"{name}: {str(e).removeprefix(f'{name}: ')}")


def _midi(found: Inventory) -> None:
    found.midi = list_ports()


def _sound_cards(found: Inventory) -> None:
    from choreo_cli.live.audio_in import audio_inputs

    with quiet():
        found.audio += audio_inputs()


def _jack(found: Inventory) -> None:
    try:
        import jack
    except (ImportError, OSError):
        return  # whoever has JACK without its Python client is told so when a source asks for it
    with quiet():
        try:
            client = jack.Client("choreo-list", no_start_server=True)
        except jack.JackError:
            return
        with client:
            names = [port.name for port in client.get_ports(is_audio=True, is_output=True)]
    found.audio += [f"jack:{name}" for name in names]
