"""Specifications of ports: every form is made, every other is refused with the forms named."""

from __future__ import annotations

import pytest

from choreo_cli.errors import ExitCode, UsageError
from choreo_cli.live.loopback import LoopbackPort, NullPort
from choreo_cli.live.midi import MidiPort
from choreo_cli.live.ports import FORMS, open_ports
from formats.control_map import DEFAULT


def test_forms_without_a_network() -> None:
    made = open_ports(["midi:IAC Driver Bus 1", "midi:virtual:stage", "midi:fluid:midi_00", "loop:", "null:"], DEFAULT)
    assert [p.name for p in made] == [
        "midi:IAC Driver Bus 1",
        "midi:virtual:stage",
        "midi:fluid:midi_00",
        "loop:",
        "null:",
    ]
    assert [type(p) for p in made] == [MidiPort, MidiPort, MidiPort, LoopbackPort, NullPort]
    assert made[0].quantum == 1 / 127
    assert open_ports(["midi:a"], DEFAULT, bits=14)[0].quantum == 1 / 16383


@pytest.mark.parametrize("spec", ["osc:57120", "osc:127.0.0.1:57120", "osc:[::1]:57120", "osc:sc.local:57120"])
def test_osc_forms(spec: str) -> None:
    pytest.importorskip("choreo_cli.live.osc_port")
    (port,) = open_ports([spec], DEFAULT, "choreo")
    assert port.name.startswith("osc:") and port.name.endswith(":57120")


@pytest.mark.parametrize("spec", ["ws:", "ws:0", "ws:8123"])
def test_websocket_forms(spec: str) -> None:
    pytest.importorskip("choreo_cli.live.websocket")
    (port,) = open_ports([spec], DEFAULT)
    assert port.name.startswith("ws:")


@pytest.mark.parametrize(
    "spec",
    ["", "midi", "midi:", "midi:virtual:", "midi: ", "osc:", "osc:host:", "osc::9000", "osc:0", "osc:65536", "osc:9e3",
     "osc:٣٣٣٣", "osc:::1:9000", "osc:-1", "ws:x", "ws:70000", "loop:x", "null:1", "tcp:9000", "file.wav", "Midi:a"],
)  # fmt: skip
def test_everything_else_is_refused_with_the_forms(spec: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_ports([spec], DEFAULT)
    assert caught.value.code == ExitCode.USAGE
    assert str(caught.value).startswith(f"--out {spec}: ") and str(caught.value).endswith(f"write {FORMS}")
    assert "\n" not in str(caught.value)


def test_the_same_receiver_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="--out midi:a is there twice"):
        open_ports(["midi:a", "loop:", "midi:a"], DEFAULT)
