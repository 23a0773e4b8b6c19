"""MIDI over a fake of the library: bytes, names, losses, faders and clock; the real one is `test_real_midi_jack`."""

from __future__ import annotations

import math
import os
import random
import subprocess
import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from choreo_cli.errors import ConfigError, ExitCode, UnavailableError, UsageError
from choreo_cli.live import midi_backend
from choreo_cli.live.clock import VirtualClock
from choreo_cli.live.keeper import LOST, OK, Keeper
from choreo_cli.live.midi import START, MidiPort
from choreo_cli.live.midi_backend import list_ports, pick, quiet
from choreo_cli.live.midi_in import ROOM, MidiClockIn, MidiInbox, MidiTargets
from choreo_cli.live.midi_link import MidiLink
from choreo_cli.live.port import Cue, Outgoing, PortLost
from formats.control_map import DEFAULT, loads
from formats.control_map import dump as dump_map

SECOND = 1_000_000_000


class Wire:
    """The system behind the fake library: who is there, who is connected, what was sent."""

    def __init__(self) -> None:
        self.outs = {1: ["Synth A:in 20:0", "Synth B:in 24:0"], 2: []}
        self.ins = {1: ["Faders:out 28:0"], 2: []}
        self.down: set[int] = set()  # backends without a device file or a server
        self.alive = 0
        self.made = 0
        self.sent: list[list[int]] = []
        self.broken = False
        self.appear_after = 0
        self.asked = 0

    def names(self, direction: str, api: int) -> list[str]:
        self.asked += 1
        if self.asked <= self.appear_after:
            return []
        return list((self.outs if direction == "out" else self.ins)[api])


def fake_library(wire: Wire) -> ModuleType:
    module = ModuleType("rtmidi")

    class Client:
        direction = ""

        def __init__(self, rtapi: int, name: str) -> None:
            if rtapi in wire.down:
                os.write(2, b"ALSA lib seq_hw.c: open /dev/snd/seq failed\n")
                raise OSError("error creating ALSA sequencer client object")
            self.api, self.name, self.port, self.virtual, self.callback, self.deleted = (
                rtapi,
                name,
                None,
                None,
                None,
                False,
            )
            self.ignored: dict[str, bool] = {}
            wire.alive += 1
            wire.made += 1

        def get_ports(self) -> list[str]:
            assert not self.deleted
            return wire.names(self.direction, self.api)

        def open_port(self, index: int, name: str) -> None:
            assert self.port is None, "a port is closed before another is opened"
            self.port = wire.names(self.direction, self.api)[index]

        def open_virtual_port(self, name: str) -> None:
            self.virtual = name

        def close_port(self) -> None:
            self.port = None

        def delete(self) -> None:
            assert not self.deleted
            self.deleted = True
            wire.alive -= 1

        def send_message(self, message: Any) -> None:
            assert not self.deleted and (self.port or self.virtual)
            if wire.broken:
                raise OSError("device gone")
            wire.sent.append(list(message))

        def ignore_types(self, **kinds: bool) -> None:
            self.ignored = kinds

        def set_callback(self, callback: Any) -> None:
            self.callback = callback

    module.MidiOut = type("MidiOut", (Client,), {"direction": "out"})
    module.MidiIn = type("MidiIn", (Client,), {"direction": "in"})
    module.get_compiled_api = lambda: [1, 2, 9]
    module.get_api_name = {1: "alsa", 2: "jack", 9: "dummy"}.__getitem__
    return module


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    made = Wire()
    monkeypatch.setitem(sys.modules, "rtmidi", fake_library(made))
    monkeypatch.setattr("choreo_cli.live.midi_link.MidiLink.open.__defaults__", (0.0,))
    return made


def outgoing(units: list[float], send: list[bool] | None = None, t_us: int = 0) -> Outgoing:
    unit = np.array(units, np.float32)
    return Outgoing(0, t_us, unit, unit, np.array(send or [True] * 5), False)


def test_values_are_control_changes_in_the_order_and_numbers_of_the_map(wire: Wire) -> None:
    port = MidiPort("Synth A", DEFAULT, channel=3)
    port.open()
    assert port.send(outgoing([0.0, 0.25, 0.5, 1.0, 0.75])) == 5
    assert wire.sent == [[0xB3, 20, 0], [0xB3, 21, 32], [0xB3, 22, 64], [0xB3, 23, 127], [0xB3, 24, 95]]
    wire.sent.clear()
    assert port.send(outgoing([0.1] * 5, [False, True, False, False, True])) == 2
    assert [m[1] for m in wire.sent] == [21, 24]
    assert port.facts()["messages"] == 7 and port.facts()["bytes"] == 21
    port.close()
    assert wire.alive == 0


@given(st.floats(allow_nan=True, allow_infinity=True, width=32))
def test_no_value_whatever_leaves_the_seven_bits(value: float) -> None:
    made = Wire()
    sys.modules["rtmidi"], before = fake_library(made), sys.modules.get("rtmidi")
    try:
        port = MidiPort("Synth A", DEFAULT)
        port.open()
        count = port.send(outgoing([value] * 5))
    finally:
        if before is None:
            del sys.modules["rtmidi"]
        else:
            sys.modules["rtmidi"] = before
    assert count == (5 if math.isfinite(value) else 0)
    assert port.facts()["refused"] == 5 - count
    assert all(0 <= b <= 127 for message in made.sent for b in message[1:])


def test_fourteen_bits_are_two_messages_upper_first(wire: Wire) -> None:
    port = MidiPort("Synth A", DEFAULT, bits=14)
    port.open()
    port.send(outgoing([0.0, 1.0, 0.5, 1 / 16383, 0.25]))
    pairs = [(a, b) for a, b in zip(wire.sent[::2], wire.sent[1::2], strict=True)]
    assert [(a[1], b[1]) for a, b in pairs] == [(cc, cc + 32) for cc in (20, 21, 22, 23, 24)]
    assert [a[2] << 7 | b[2] for a, b in pairs] == [0, 16383, 8192, 1, 4096]
    high = loads(dump_map(DEFAULT).replace("cc: 22", "cc: 74"))
    with pytest.raises(ConfigError, match=r"tension\.cc 74 cannot carry 14 bits"):
        MidiPort("Synth A", high, bits=14)


def test_an_edited_map_changes_the_numbers(wire: Wire) -> None:
    port = MidiPort("Synth A", DEFAULT)
    port.open()
    port.remap(loads(dump_map(DEFAULT).replace("cc: 20", "cc: 74")))
    port.send(outgoing([1.0] * 5, [True, False, False, False, False]))
    assert wire.sent == [[0xB0, 74, 127]]


def test_cues_are_notes_that_end_and_silence_ends_them_all(wire: Wire) -> None:
    port = MidiPort("Synth A", DEFAULT, channel=1, gestures=("kick", "clap"))
    port.open()
    port.cue(Cue("gesture", "clap", 0, 0.5))
    port.cue(Cue("plan", "drop", 0, -0.25, beat=16))
    port.cue(Cue("gesture", "new one", 0, 0.0))
    assert wire.sent == [[0x91, 37, 64], [0x91, 84, 32], [0x91, 38, 1]]
    wire.sent.clear()
    port.send(outgoing([0.0] * 5, [False] * 5, t_us=99_999))
    assert wire.sent == []
    port.send(outgoing([0.0] * 5, [False] * 5, t_us=100_000))
    assert sorted(wire.sent) == [[0x81, 37, 0], [0x81, 38, 0], [0x81, 84, 0]]
    wire.sent.clear()
    port.cue(Cue("gesture", "kick", 200_000, 1.0))
    port.cue(Cue("gesture", "kick", 210_000, 1.0))
    port.silence()
    port.silence()
    on_off = [[0x91, 36, 127], [0x81, 36, 0], [0x91, 36, 127], [0x81, 36, 0]]
    assert wire.sent == [*on_off, [0xB1, 123, 0], [0xB1, 121, 0], [0xB1, 123, 0], [0xB1, 121, 0]]


def test_clock_and_start(wire: Wire) -> None:
    port = MidiPort("Synth A", DEFAULT)
    port.open()
    port.transport(START)
    assert port.pulse(2) == 2
    assert wire.sent == [[0xFA], [0xF8], [0xF8]]


def test_names_exact_then_part_then_without_alsa_numbers() -> None:
    names = ["IAC Bus 1", "IAC Bus 10", "Fluid:in 128:0"]
    assert pick("IAC Bus 1", names) == 0
    assert pick("10", names) == 1
    assert pick("fluid", names) == 2
    assert pick("Fluid:in 130:0", names) == 2
    assert pick("nothing", names) is None
    with pytest.raises(UsageError) as caught:
        pick("IAC", names)
    assert str(caught.value) == "MIDI port 'IAC' could be 2 ports: name one of: 'IAC Bus 1', 'IAC Bus 10'"
    assert caught.value.code == ExitCode.USAGE


def test_absent_lists_what_is_there_and_leaks_nothing(wire: Wire) -> None:
    with pytest.raises(UnavailableError) as caught:
        MidiPort("Bass", DEFAULT).open()
    assert str(caught.value) == ("MIDI port 'Bass' is not there: ports found: 'Synth A:in 20:0', 'Synth B:in 24:0'")
    assert caught.value.code == ExitCode.UNAVAILABLE
    with pytest.raises(UsageError, match="could be 2 ports"):
        MidiPort("Synth", DEFAULT).open()
    assert wire.alive == 0


def test_a_port_that_shows_late_is_waited_for(wire: Wire) -> None:
    wire.appear_after = 6
    link = MidiLink("Synth B", "out")
    link.open(patience_s=30.0)
    assert link.device == "Synth B:in 24:0" and wire.alive == 1


def test_no_backend_answers_and_stderr_stays_clean(wire: Wire, capfd: pytest.CaptureFixture[str]) -> None:
    wire.down = {1, 2}
    assert list_ports() == []
    for virtual in (False, True):
        with pytest.raises(UnavailableError, match="no MIDI system answers here"):
            MidiPort("x", DEFAULT, virtual).open()
    assert capfd.readouterr().err == ""
    os.write(2, b"still there")
    assert capfd.readouterr().err == "still there"


def test_quiet_with_stderr_closed_at_start() -> None:
    code = "import os; os.close(2)\nfrom choreo_cli.live.midi_backend import quiet\nwith quiet(): print('in')\nprint('out')"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, timeout=60, check=True)
    assert done.stdout == "in\nout\n"
    with pytest.raises(ZeroDivisionError), quiet():
        raise ZeroDivisionError


def test_library_missing_names_the_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rtmidi", None)
    for call in (list_ports, MidiPort("x", DEFAULT).open):
        with pytest.raises(UnavailableError) as caught:
            call()
        assert str(caught.value) == "MIDI needs python-rtmidi, which is not installed: pip install 'choreo[live]'"


def test_list_names_directions_and_backends_and_leaks_nothing(wire: Wire) -> None:
    wire.down = {2}
    assert [(p.api, p.direction, p.name) for p in list_ports()] == [
        ("alsa", "out", "Synth A:in 20:0"), ("alsa", "out", "Synth B:in 24:0"), ("alsa", "in", "Faders:out 28:0"),
    ]  # fmt: skip
    assert wire.alive == 0
    with pytest.raises(UsageError, match="no MIDI backend 'winmm' here: one of: alsa, jack"):
        list_ports("winmm")


@pytest.mark.parametrize("bad", [{"channel": 16}, {"channel": -1}, {"bits": 8}])
def test_bad_options(bad: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        MidiPort("x", DEFAULT, **bad)


def test_fifty_unpluggings_use_one_client(wire: Wire) -> None:
    """A device that is unplugged takes no error with it: only the list of ports tells. No handle is lost over it."""
    clock = VirtualClock()
    keeper = Keeper(MidiPort("Synth A", DEFAULT), clock, threaded=False)
    keeper.open()
    rng = random.Random(1)
    made = wire.made
    for k in range(50):
        keeper.send(outgoing([k / 50] * 5))
        wire.outs[1].remove(next(n for n in wire.outs[1] if n.startswith("Synth A")))
        gone = clock.now_ns()
        while keeper.state != LOST:
            clock.jump(20_000_000)
            keeper.step()
        assert clock.now_ns() - gone < 2 * SECOND
        for _ in range(rng.randrange(200)):
            clock.jump(20_000_000)
            keeper.step()
            keeper.send(outgoing([k / 50] * 5, [True, False, False, False, False]))
        # Back behind another number and at another place in the list.
        wire.outs[1].insert(rng.randrange(2), f"Synth A:in {30 + k}:0")
        back = clock.now_ns()
        wire.sent.clear()
        while keeper.state == LOST:
            clock.jump(20_000_000)
            keeper.step()
        assert clock.now_ns() - back < 3 * SECOND
        assert wire.sent == [[0xB0, cc, round(np.float32(k / 50).item() * 127)] for cc in (20, 21, 22, 23, 24)]
        clock.jump(SECOND)
        keeper.step()
        assert keeper.state == OK
    assert wire.made == made and wire.alive == 1
    assert keeper.facts()["kept"]["losses"] == 50
    keeper.close()
    assert wire.sent[-2:] == [[0xB0, 123, 0], [0xB0, 121, 0]] and wire.alive == 0


def test_an_error_of_the_driver_is_a_loss(wire: Wire) -> None:
    port = MidiPort("Synth A", DEFAULT)
    with pytest.raises(PortLost, match="midi:Synth A is gone"):
        port.send(outgoing([0.5] * 5))
    port.open()
    wire.broken = True
    with pytest.raises(PortLost, match="device gone"):
        port.send(outgoing([0.5] * 5))
    port.silence()
    assert port.facts()["losses"] == 3


class Inbox(MidiInbox):
    """One that is fed by the test."""

    def open(self, clock: VirtualClock) -> None:
        self._clock = clock

    def feed(self, *messages: list[int]) -> None:
        for message in messages:
            self._heard((message, 0.0), None)


def test_faders_become_targets(wire: Wire) -> None:
    inbox = Inbox("x")
    clock = VirtualClock(5 * SECOND)
    source = MidiTargets("x", DEFAULT, channel=0, inbox=inbox)
    source.open(clock, 4 * SECOND)
    assert list(source.poll(clock.now_ns())) == []
    inbox.feed([0xB0, 21, 127], [0x90, 60, 100], [0xB0, 99, 5], [0xB1, 24, 9])
    clock.jump(1000)
    inbox.feed([0xB0, 21, 64])
    clock.jump(SECOND)
    (sample,) = source.poll(clock.now_ns())
    assert (sample.kind, sample.t_us, sample.t_arrival_ns) == ("target", 1_000_001, 5 * SECOND + 1000)
    assert sample.values.dtype == np.float32
    np.testing.assert_array_equal(sample.values, np.array([np.nan, 64 / 127, np.nan, np.nan, np.nan], np.float32))
    inbox.feed([0xB0, 24, 0])
    (later,) = source.poll(clock.now_ns())
    assert later.values[4] == 0 and later.values[1] == np.float32(64 / 127)
    assert sample.values[4] != 0, "samples do not share their values"
    assert source.facts()["others"] == 2 and source.facts()["samples"] == 2


def test_the_queue_is_bounded_and_the_newest_wins() -> None:
    inbox = Inbox("x")
    source = MidiTargets("x", DEFAULT, inbox=inbox)
    source.open(VirtualClock(), 0)
    for k in range(ROOM + 100):
        inbox.feed([0xB0, 20, k % 128])
    assert inbox.dropped == 100
    (sample,) = source.poll(0)
    assert sample.values[0] == np.float32(((ROOM + 99) % 128) / 127)


def test_faders_are_heard_again_after_a_loss_on_the_same_client(wire: Wire) -> None:
    inbox = MidiInbox("Faders", watched=False)
    source = MidiTargets("Faders", DEFAULT, inbox=inbox)
    source.open(VirtualClock(), 0)
    assert source.said() == ["midi:Faders: hears Faders:out 28:0"]
    link = inbox._link
    wire.ins[1] = []
    assert not link.present()
    with pytest.raises(UnavailableError):
        link.reopen()
    wire.ins[1] = ["Other:out 29:0", "Faders:out 31:0"]
    link.reopen()
    assert link.present() and inbox.device == "Faders:out 31:0" and wire.made == wire.alive + 1
    source.close()
    source.close()
    assert wire.alive == 0


def test_clock_in_gives_position_and_tempo_of_the_other_transport() -> None:
    inbox, told = Inbox("x", timing=True), []
    source = MidiClockIn("x", on_transport=lambda *what: told.append(what), inbox=inbox)
    clock, rng = VirtualClock(), random.Random(2)
    source.open(clock, 0)
    begun, pulse = 0, SECOND * 60 / 124 / 24

    def play(pulses: int) -> list[Any]:
        nonlocal begun
        for k in range(pulses):
            clock.wait_until(round(begun + k * pulse) + rng.randrange(1_000_000))
            inbox.feed([0xF8])
        begun += round(pulses * pulse)
        return list(source.poll(clock.now_ns()))

    inbox.feed([0xFA], [0xFE], [0xF8])
    assert list(source.poll(0)) == [], "one pulse has no tempo"
    begun = round(pulse)
    (sample,) = play(96)
    assert sample.kind == "beat" and sample.t_us == clock.now_ns() // 1000
    assert sample.values.tolist() == [pytest.approx(4.0, abs=0.05), pytest.approx(124, abs=0.5)]
    inbox.feed([0xFC])
    assert play(48) == [], "pulses of a transport that stands move nothing"
    inbox.feed([0xF2, 0x10, 0x01], [0xFB])  # 144 sixteenths: beat 36
    (again,) = play(25)
    assert again.values[0] == pytest.approx(37.0, abs=0.05)
    assert [what for what, _ in told] == ["start", "stop", "position", "continue"]
    assert source.facts()["pulses"] == 170


def test_clock_in_hears_timing_and_faders_do_not(wire: Wire) -> None:
    for inbox, ignored in (
        (MidiInbox("Faders", timing=True, watched=False), False),
        (MidiInbox("Faders", watched=False), True),
    ):
        inbox.open(VirtualClock())
        assert inbox._link.client.ignored["timing"] is ignored
        inbox.close()
    with pytest.raises(UsageError, match="no port is named"):
        MidiClockIn("")


def test_start_up_imports_no_midi_library() -> None:
    code = "import sys, choreo_cli.live.midi, choreo_cli.live.ports, choreo_cli.live.keeper\nprint('rtmidi' in sys.modules, 'mido' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["False", "False"]
    assert midi_backend.INSTALL == "pip install 'choreo[live]'"
