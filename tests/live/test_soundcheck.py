"""The walk of each control on each port, and the list of what is there: on virtual time, over twins."""

from __future__ import annotations

import itertools
import sys
import threading
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from choreo_cli.errors import UnavailableError, UsageError
from choreo_cli.live import inventory
from choreo_cli.live.clock import VirtualClock
from choreo_cli.live.guards import Guards
from choreo_cli.live.keeper import Keeper
from choreo_cli.live.loopback import LoopbackPort, NullPort
from choreo_cli.live.port import Outgoing
from choreo_cli.live.soundcheck import Soundcheck
from formats.control_map import DEFAULT
from formats.packets import CONTROLS


def check(ports: list[Any], **options: Any) -> tuple[Soundcheck, VirtualClock]:
    clock = VirtualClock(10**9)
    for port in ports:
        port.open()
    return Soundcheck(ports, Guards(DEFAULT), clock, **options), clock


def walked(port: LoopbackPort, name: str) -> list[float]:
    k = CONTROLS.index(name)
    return [float(out.unit[k]) for out in port.sent if out.send[k]]


def test_each_control_goes_0_1_0_on_each_port_no_faster_than_the_guards_allow() -> None:
    ports = [LoopbackPort("loop:a"), LoopbackPort("loop:b", quantum=1 / 127)]
    told = check(ports)[0].run()
    assert [(d.port, d.control) for d in told] == [(p.name, c) for c in CONTROLS for p in ports]
    assert all(d.ok for d in told), [d.line() for d in told]
    for port in ports:
        near = port.quantum + 1e-3
        for k, (name, control) in enumerate(zip(CONTROLS, DEFAULT.controls, strict=True)):
            units = walked(port, name)
            top = units.index(max(units))
            assert min(units[:top]) <= near and max(units) >= 1 - near and min(units[top:]) <= near
            assert np.all(np.diff(units[units.index(min(units[:top])) : top]) > 0), "one rise, no wobble"
            sent = [(o.t_us, float(o.values[k])) for o in port.sent if o.send[k]]
            speed = [abs(b - a) / ((t - s) / 1e6) for (s, a), (t, b) in itertools.pairwise(sent) if t > s]
            assert max(speed) <= control.rate_per_s * 1.001
        assert all(out.send.sum() == 1 for out in port.sent), "one control at a time, or the report could not tell"
    coarse, fine = (next(d for d in told if d.port == n and d.control == "density") for n in ("loop:b", "loop:a"))
    assert 0 < coarse.handed <= fine.handed and coarse.acked == coarse.handed
    assert coarse.verdict == f"{coarse.handed} of {coarse.handed} heard back"


def test_solo_sends_nothing_else_and_goes_on_until_it_is_stopped() -> None:
    port = LoopbackPort()
    sound, clock = check([port], solo="density")
    stop = threading.Event()
    rounds = []

    class Counted(VirtualClock):
        def wait_until(self, deadline_ns: int) -> None:
            super().wait_until(deadline_ns)
            rounds.append(deadline_ns)
            if len(port.sent) > 2000:
                stop.set()

    clock = Counted(0)
    sound = Soundcheck([port], Guards(DEFAULT), clock, solo="density")
    told = sound.run(stop, rounds=0)
    assert len(port.sent) > 2000
    assert {tuple(np.flatnonzero(out.send)) for out in port.sent} == {(1,)}
    assert [d.control for d in told] == ["density"]
    with pytest.raises(
        UsageError, match="no control 'volume': one of: tempo_scale, density, tension, brightness, fx_send"
    ):
        check([port], solo="volume")


class Deaf(LoopbackPort):
    """Takes everything, hears every second."""

    def facts(self) -> dict[str, Any]:
        facts = super().facts()
        return facts | {"acked": facts["messages"] // 2}


class Refusing(NullPort):
    def facts(self) -> dict[str, Any]:
        facts = super().facts()
        return facts | {"refused": facts["messages"]}


class Empty(NullPort):
    def send(self, out: Outgoing) -> int:
        return 0

    def facts(self) -> dict[str, Any]:
        return {"clients": 0}


@pytest.mark.parametrize(
    ("port", "ok", "verdict"),
    [(NullPort(), True, "handed over (no answer in this protocol)"), (Deaf(), False, "heard back"),
     (Refusing(), False, "refused or dropped"), (Empty(), False, "nobody is connected")],
)  # fmt: skip
def test_what_did_not_arrive_is_told(port: Any, ok: bool, verdict: str) -> None:
    (told,) = check([port], solo="fx_send")[0].run()
    assert told.ok is ok and told.verdict.endswith(verdict)
    assert told.line() == f"{port.name}  fx_send  {told.verdict}"


def test_a_device_that_goes_during_the_check_is_told_and_the_others_go_on() -> None:
    lost, good = LoopbackPort("midi:gone"), LoopbackPort("loop:good")
    clock = VirtualClock()
    keepers = [Keeper(p, clock, threaded=False) for p in (lost, good)]
    for keeper in keepers:
        keeper.open()
    lost.lost = True
    told = Soundcheck(keepers, Guards(DEFAULT), clock).run()
    assert {d.port: d.ok for d in told} == {"midi:gone": False, "loop:good": True}
    assert {d.verdict for d in told if d.port == "midi:gone"} == {"the device is gone"}


def test_an_early_stop_tells_how_far_it_came() -> None:
    stop = threading.Event()
    port = LoopbackPort()

    class Stops(VirtualClock):
        def wait_until(self, deadline_ns: int) -> None:
            super().wait_until(deadline_ns)
            if deadline_ns > 500_000_000:
                stop.set()

    port.open()
    told = Soundcheck([port], Guards(DEFAULT), Stops()).run(stop)
    assert [d.control for d in told] == ["tempo_scale"]
    assert not told[0].ok and told[0].verdict.startswith("only ")


def test_a_virtual_port_is_asked_to_listen() -> None:
    class Listening(LoopbackPort):
        heard = 0

        def listen(self) -> bool:
            self.heard += 1
            return True

    plain, kept = Listening("midi:virtual:a"), Listening("midi:virtual:b")
    clock = VirtualClock()
    plain.open()
    keeper = Keeper(kept, clock, threaded=False)
    keeper.open()
    Soundcheck([plain, keeper], Guards(DEFAULT), clock, solo="density").run()
    assert (plain.heard, kept.heard) == (1, 1)


def test_inventory_tells_what_is_there_and_what_could_not_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rtmidi", None)
    sounds = ModuleType("sounddevice")
    sounds.query_devices = lambda: [  # type: ignore[attr-defined]
        {"name": "Built-in Microphone", "max_input_channels": 1}, {"name": "Speakers", "max_input_channels": 0},
    ]  # fmt: skip
    monkeypatch.setitem(sys.modules, "sounddevice", sounds)
    monkeypatch.setitem(sys.modules, "jack", None)
    asked = []

    def osc(seconds: float) -> list[str]:
        asked.append(seconds)
        return ["/gyrosc/gyro fff 50.0/s"]

    def broken(seconds: float) -> list[str]:
        raise UnavailableError("port 9000 is taken", hint="stop the other program")

    found = inventory.take({"osc 57120": osc, "lsl": lambda seconds: [], "osc 9000": broken}, seconds=0.01)
    assert asked == [0.01]
    assert found.audio == ["portaudio:Built-in Microphone"]
    assert found.sensors == {"osc 57120": ["/gyrosc/gyro fff 50.0/s"], "lsl": []}
    assert sorted(found.remarks) == [
        "MIDI needs python-rtmidi, which is not installed: pip install 'choreo[live]'",
        "osc 9000: port 9000 is taken: stop the other program",
    ]
    text = "\n".join(found.lines())
    assert "--source 'portaudio:Built-in Microphone'" in text
    assert "sensors heard in 0.01 s (osc 57120, lsl)\n  --source /gyrosc/gyro fff 50.0/s\n" in text
    assert "sensors heard in 0 s\n  none" in "\n".join(inventory.Inventory().lines())
    assert set(found.to_dict()) == {"midi", "audio", "sensors", "remarks"}


def test_inventory_lists_midi_by_backend_in_the_words_of_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from choreo_cli.live.midi_backend import MidiName

    names = [MidiName("core", "out", "IAC Driver Bus 1"), MidiName("core", "in", "Faders")]
    monkeypatch.setattr(inventory, "list_ports", lambda: names)
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    monkeypatch.setitem(sys.modules, "jack", None)
    found = inventory.take(seconds=0.0)
    assert "  --out 'midi:IAC Driver Bus 1'  (core)" in found.lines()
    assert "  'midi:Faders' or 'midi-clock:Faders'  (core)" in found.lines()
    assert found.to_dict()["midi"][1] == {"api": "core", "direction": "in", "name": "Faders"}
