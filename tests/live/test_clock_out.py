"""MIDI clock out: every pulse once, at its time, for hours; started, stopped and put in place as MIDI asks for it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loop_material import Script, Told, dance, made, rows_of

from choreo_cli.errors import UsageError
from choreo_cli.live import opening
from choreo_cli.live import performance as live
from choreo_cli.live.clock import MonotonicClock, VirtualClock
from choreo_cli.live.clock_out import ClockOut
from choreo_cli.live.keeper import LOST, Keeper
from choreo_cli.live.loopback import LoopbackPort
from choreo_cli.live.midi import CONTINUE, START, STOP, MidiPort
from choreo_cli.live.port import PortLost
from choreo_cli.live.show import Show, Tempo
from choreo_cli.live.transport import Transport
from formats.control_map import DEFAULT

STEP = 20_000
HOUR_US = 3_600_000_000


class Instrument(LoopbackPort):
    """A receiver that counts as a sequencer does: pulses move it while it runs."""

    def __init__(self, name: str = "midi:fake") -> None:
        super().__init__(name)
        self.words: list[tuple[str, int]] = []
        self.at = 0  # pulses from the beginning
        self.runs = False
        self.counted = 0
        self.open()

    def pulse(self, count: int = 1) -> int:
        self._check()
        self.counted += count
        if self.runs:
            self.at += count
        return count

    def transport(self, status: int) -> None:
        self._check()
        self.words.append(({START: "start", CONTINUE: "continue", STOP: "stop"}[status], self.at))
        self.runs = status != STOP
        if status == START:
            self.at = 0

    def song_position(self, sixteenths: int) -> None:
        self._check()
        assert not self.runs, "a position is only heard while it stands"
        self.at = sixteenths * 6
        self.words.append(("position", self.at))


def sent_by(transport: Transport, *ports: Any) -> tuple[ClockOut, list[Keeper]]:
    clock = VirtualClock()
    keepers = [Keeper(p, clock, threaded=False) for p in ports]
    out = ClockOut(transport, keepers, clock, threaded=False)
    out.begin(0, 0)
    return out, keepers


@pytest.mark.parametrize("bpm", [120.0, 92.7, 173.3])
def test_an_hour_has_every_pulse_and_no_drift(bpm: float) -> None:
    transport, synth = Transport(bpm), Instrument()
    out, _ = sent_by(transport, synth)
    for t_us in range(0, HOUR_US + 1, STEP):
        out.tick(t_us, None)
        if t_us % 600_000_000 == 0:  # position of the receiver: the next pulse; never off, whatever the hour
            assert synth.at == int(t_us * bpm / 60e6 * 24 + 1e-6) + 1
    assert synth.counted == int(60 * bpm * 24 + 1e-6) + 1
    assert synth.words == [("start", 0)]
    out.end()
    out.end()
    assert [w for w, _ in synth.words] == ["start", "stop"]


def test_tempo_changes_leave_no_pulse_out_and_send_none_twice() -> None:
    transport, synth, rng = Transport(120), Instrument(), np.random.default_rng(4)
    out, _ = sent_by(transport, synth)
    before = 0
    for t_us in range(0, 600_000_000, STEP):
        if rng.random() < 0.3:
            transport.scale(float(rng.uniform(0.8, 1.25)), t_us)
        out.tick(t_us, None)
        assert synth.at == int(transport.beat_at(t_us) * 24 + 1e-6) + 1
        assert 0 <= synth.at - before <= 2, "at most 150 beats/min: 60 pulses a second"
        before = synth.at
    assert synth.words == [("start", 0)]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(
            st.integers(1, 60_000), st.sampled_from(["go", "tempo", "stop", "start", "continue", "locate", "lose", "back"]),
            st.floats(0, 1),
        ),
        min_size=5, max_size=80,
    )
)  # fmt: skip
def test_a_receiver_that_runs_is_where_the_transport_is(steps: list[tuple[int, str, float]]) -> None:
    transport, synth = Transport(120), Instrument()
    out, (keeper,) = sent_by(transport, synth)
    t_us = 0
    for wait, what, how in steps:
        t_us += wait
        if what == "tempo":
            transport.set_tempo(40 + 200 * how, t_us)
        elif what == "stop":
            transport.stop(t_us)
        elif what in ("start", "continue"):
            transport.start(t_us, 0.0 if what == "start" else None)
        elif what == "locate":
            transport.locate(64 * how)
        elif what == "lose":
            synth.lost = True
        elif what == "back" and keeper.state == LOST:
            synth.lost, synth.runs, synth.at = False, False, 0  # a fresh device
            keeper._due_ns = 0
            keeper.step()
        out.tick(t_us, None)
        if synth.lost:
            continue
        assert synth.runs == transport.running
        reached = transport.beat_at(t_us) * 24
        # Put in place at the next sixteenth, it waits there; after a start from within the first beat it waits, too.
        assert not synth.runs or reached - 1e-3 < synth.at <= max(reached + 6, 24) + 1e-3


def test_a_follower_gives_a_clock_only_once_it_has_heard_its_leader() -> None:
    transport, synth = Transport(120, "midi-clock"), Instrument()
    out, _ = sent_by(transport, synth)
    for t_us in range(0, 1_000_000, STEP):
        out.tick(t_us, None)
    assert synth.words == [] and synth.counted == 0
    transport.follow(8.1, 100.0, 1_000_000)
    for t_us in range(1_000_000, 3_000_001, STEP):
        out.tick(t_us, None)
    assert [w for w, _ in synth.words] == ["stop", "position", "continue"]
    assert synth.words[1] == ("position", 33 * 6), "beat 8.1: the next sixteenth is 8.25"
    assert synth.at == int((8.1 + 2 * 100 / 60) * 24) + 1
    transport.stop(3_000_000)
    out.tick(3_020_000, None)
    transport.start(3_100_000)
    transport.follow(0.0, 100.0, 3_100_000)
    out.tick(3_100_000, None)
    assert [w for w, _ in synth.words[3:]] == ["stop", "start"] and synth.at == 1


@pytest.mark.parametrize(("late_us", "pulses"), [(0, 1), (300, 1), (90_000, 5)])
def test_a_thread_that_wakes_late_begins_with_start_all_the_same(late_us: int, pulses: int) -> None:
    synth = Instrument()
    out, _ = sent_by(Transport(120), synth)
    out.step(late_us)
    assert synth.words == [("start", 0)] and synth.at == pulses


def test_a_leader_that_jumps_takes_the_receiver_along() -> None:
    transport, synth = Transport(120, "osc"), Instrument()
    out, _ = sent_by(transport, synth)
    transport.follow(40.0, 120.0, 0)
    out.tick(0, None)
    out.tick(500_000, None)
    assert synth.at == 41 * 24 + 1
    transport.start(500_000)  # between two looks: no stop was seen
    transport.follow(0.0, 120.0, 500_000)
    out.tick(520_000, None)
    assert [w for w, _ in synth.words[-2:]] == ["stop", "start"] and synth.at == 1
    out.tick(1_000_000, None)
    assert synth.at == 25


def test_a_port_that_was_away_is_put_in_place_and_the_others_go_on() -> None:
    transport, first, second = Transport(120), Instrument("midi:a"), Instrument("midi:b")
    out, (lost, _) = sent_by(transport, first, second)
    for t_us in range(0, 2_000_001, STEP):
        out.tick(t_us, None)
        if t_us == 1_000_000:
            first.lost = True
        if t_us == 1_500_000:
            assert lost.state == LOST and first.at == 49
            first.lost, first.runs, first.at = False, False, 0
            lost._due_ns = 0
            lost.step()
    assert first.at == second.at == 97
    assert second.words == [("start", 0)]
    assert [w for w, _ in first.words] == ["start", "stop", "position", "continue"]
    assert out.facts() == {"midi:a": {"pulses": 49 + 25, "placed": 2}, "midi:b": {"pulses": 97, "placed": 1}}


def test_ports_without_a_clock_are_left_out() -> None:
    out, _ = sent_by(Transport(120), LoopbackPort(), Instrument("midi:x"))
    assert out.ports == ("midi:x",)


# ---------------------------------------------------------------------------------------------- with the loop


def playing(monkeypatch: pytest.MonkeyPatch, port: Any, seconds: float, tempo: Tempo) -> live.Performance:
    frames = dance(round(seconds * 50))
    frames[:, 10] = np.nan
    monkeypatch.setattr(opening, "open_source", lambda spec, **_: [Script(rows_of(frames))])
    monkeypatch.setattr(opening, "open_ports", lambda *_, **__: [port])
    told: Any = Told()
    return live.Performance(Show(source="x", transport=tempo, engine="numpy"), live.Around(speed=0), told)


def test_in_virtual_time_the_loop_counts_the_pulses_and_starts_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    synth = Instrument()
    performance = playing(monkeypatch, synth, 30, Tempo(126, send_clock=True))
    names: set[str] = set()
    performance.loop.on_frame = lambda frame, beat: names.update(t.name for t in threading.enumerate())
    performance.loop.panic()
    summary = performance.play()
    assert "midi clock" not in names
    last = summary.last_us
    assert synth.counted == int(last * 126 / 60e6 * 24) + 1
    assert [w for w, _ in synth.words] == ["start", "stop"], "a panic does not stop it, the end does"
    assert synth.silenced >= 2 and not synth.is_open


def test_without_send_clock_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    synth = Instrument()
    playing(monkeypatch, synth, 1, Tempo(126)).play()
    assert synth.words == [] and synth.counted == 0 and len(synth.sent) > 10


def test_a_clock_for_nobody_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError) as caught:
        playing(monkeypatch, LoopbackPort(), 1, Tempo(send_clock=True))
    assert "--out midi:NAME" in str(caught.value.hint)


def test_the_clock_has_a_thread_of_its_own_in_real_time_and_leaves_none() -> None:
    synth = Instrument()
    clock = MonotonicClock(50.0)
    transport = Transport(120)
    keeper = Keeper(synth, clock, threaded=False)
    out = ClockOut(transport, [keeper], clock)
    begun = clock.now_ns() + 1_000_000_000
    out.begin(begun, 0)
    assert any(t.name == "midi clock" for t in threading.enumerate())
    out.tick(0, None)
    clock.wait_until(begun + 10_000_000_000)  # 10 s of session, 0.2 s of ours
    out.end()
    assert not any(t.name == "midi clock" for t in threading.enumerate())
    assert synth.counted > 200 and [synth.words[0][0], synth.words[-1][0]] == ["start", "stop"]
    before = synth.counted
    out.tick(60_000_000, None)
    assert synth.counted == before, "no pulse after the end"


def test_an_end_before_the_beginning_is_one() -> None:
    synth = Instrument()
    out, _ = sent_by(Transport(120), synth)
    out.end()
    assert synth.words == []


def test_a_loop_that_is_sending_does_not_lose_the_pulse_nor_the_pulse_its_values() -> None:
    """Whoever is inside the port for the length of a message is waited for."""
    synth = Instrument()
    inside, leave = threading.Event(), threading.Event()

    def slow(count: int = 1) -> int:
        inside.set()
        assert leave.wait(10)
        return count

    synth.pulse = slow  # type: ignore[method-assign]
    keeper = Keeper(synth, VirtualClock(), threaded=False)
    clock = threading.Thread(target=lambda: keeper.pass_on(lambda port: port.pulse(1), 5.0))
    clock.start()
    assert inside.wait(10)
    assert not keeper.pass_on(lambda port: port.transport(START), 0.0), "a driver that hangs holds nobody up"
    leave.set()
    clock.join(10)
    assert keeper.pass_on(lambda port: port.transport(START), 0.0) and synth.words == [("start", 0)]


def test_the_bytes_of_a_place() -> None:
    sent: list[tuple[int, ...]] = []
    port = MidiPort("x", DEFAULT)
    port._write = sent.append  # type: ignore[method-assign]
    port.song_position(144)
    port.song_position(0x3FFF + 1 + 5)
    assert sent == [(0xF2, 0x10, 0x01), (0xF2, 5, 0)]


def test_a_port_that_throws_is_lost_and_nothing_is_raised() -> None:
    class Broken(Instrument):
        def pulse(self, count: int = 1) -> int:
            raise PortLost("gone")

    out, (keeper,) = sent_by(Transport(120), Broken())
    out.tick(0, None)
    out.tick(STEP, None)
    assert keeper.state == LOST


def test_companions_end_whatever_one_of_them_does() -> None:
    ended: list[str] = []

    class One:
        def tick(self, t_us: int, out: Any) -> None: ...

        def end(self) -> None:
            ended.append("one")
            raise RuntimeError

    class Two(One):
        def end(self) -> None:
            ended.append("two")

    loop, port, _ = made([Script(rows_of(dance(20)))])
    companions: Sequence[Any] = [One(), Two()]
    loop.companions.extend(companions)
    loop.run()
    assert ended == ["one", "two"] and port.silenced
