"""What could be played with here: MIDI ports, audio inputs, sensors that are heard."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from choreo_cli.errors import ChoreoError
from choreo_cli.live.midi_backend import MidiName, list_ports, quiet

Learner = Callable[[float], Sequence[str]]
"""Listens for so many seconds and gives a line for each thing heard. Raises ChoreoError when it cannot listen."""
LISTEN_S = 3.0


@dataclass(slots=True)
class Inventory:
    """What was found.

    Args:
        midi: Ports of other programs and devices.
        audio: Inputs as `--source` takes them: `portaudio:NAME`, `jack:NAME`.
        sensors: What was heard, by the name of who listened.
        remarks: What could not be looked at, and why.
    """

    midi: list[MidiName] = field(default_factory=list)
    audio: list[str] = field(default_factory=list)
    sensors: dict[str, list[str]] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

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
            *((f"sensors heard: {name}", [f"  {line}" for line in heard]) for name, heard in self.sensors.items()),
            ("not looked at", [f"  {remark}" for remark in self.remarks]),
        ]
        told = []
        for title, found in parts:
            if found or title != "not looked at":
                told += [title, *(found or ["  none"])]
        return told


def take(learners: Mapping[str, Learner] | None = None, seconds: float = LISTEN_S) -> Inventory:
    """Look at everything; what is missing here is a remark, never a failure.

    Args:
        learners: Who listens for sensors, all at once: name -> listener.
        seconds: For how long.
    """
    found = Inventory()
    threads = [
        threading.Thread(target=_learn, args=(found, name, learner, seconds), daemon=True)
        for name, learner in (learners or {}).items()
    ]
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
        found.remarks.append(f"{name}: {e}")


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
