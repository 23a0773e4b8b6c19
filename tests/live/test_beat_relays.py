"""The beat on its way between the parts: who leads, what a clock's start and stop do, what nobody may move."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from loop_material import Script, Told, dance, made, rows_of

from choreo_cli.errors import ConfigError, ExitCode, UsageError
from choreo_cli.live import opening
from choreo_cli.live import performance as live
from choreo_cli.live.clock import VirtualClock
from choreo_cli.live.loopback import LoopbackPort
from choreo_cli.live.midi_in import MidiClockIn, MidiInbox
from choreo_cli.live.osc_source import OscSource
from choreo_cli.live.port import Outgoing
from choreo_cli.live.relays import ClockRelay, FollowDancer, WithoutBeats, led_by
from choreo_cli.live.sample import Sample
from choreo_cli.live.show import Show, Tempo, checked, led, with_options
from choreo_cli.live.transport import Transport
from formats.columns import INPUTS
from formats.control_map import DEFAULT

SECOND = 1_000_000_000
FORMS = {"start": 0xFA, "continue": 0xFB, "stop": 0xFC, "pulse": 0xF8}


class Wire(MidiInbox):
    """An inbox without a device: messages with the time at which they arrive, given to the source when it polls."""

    def __init__(self, messages: Sequence[tuple[int, tuple[int, ...]]] = ()) -> None:
        super().__init__("wire", timing=True, watched=False)
        self._messages = list(messages)

    def open(self, clock: Any) -> None:
        self._clock = clock

    def take(self) -> list[tuple[int, tuple[int, ...]]]:
        now = self._clock.now_ns() if self._clock is not None else 0
        due = [m for m in self._messages if m[0] <= now]
        self._messages = self._messages[len(due) :]
        return due

    def close(self) -> None: ...


def pulses(bpm: float, first_ns: int, beats: float) -> list[tuple[int, tuple[int, ...]]]:
    """Pulses of a clock, the first at `first_ns`."""
    return [(first_ns + round(k * SECOND * 60 / bpm / 24), (0xF8,)) for k in range(round(beats * 24))]


def word(at_s: float, *message: int) -> tuple[int, tuple[int, ...]]:
    return (round(at_s * SECOND), message)


LEAD_NS = 100_000_000  # the loop's first tick comes so long after its start


def performance(
    monkeypatch: pytest.MonkeyPatch,
    sources: dict[str, Any],
    tempo: Tempo | None = None,
    out: Sequence[Any] = (),
) -> live.Performance:
    """A performance whose sources and ports are ours, in virtual time."""

    def opened(spec: str, **how: Any) -> list[Any]:
        made = sources[spec]
        return [made(how["relay"]) if callable(made) else made]

    monkeypatch.setattr(opening, "open_source", opened)
    monkeypatch.setattr(opening, "open_ports", lambda *_, **__: list(out))
    told: Any = Told()
    show = Show(source=list(sources), transport=tempo or Tempo(), engine="numpy", planner=True)
    return live.Performance(show, live.Around(speed=0), told)


def body(seconds: float) -> Script:
    frames = dance(round(seconds * 50))
    frames[:, 10] = np.nan  # no beat of its own: the transport's counts
    return Script(rows_of(frames), name="body")


def clock_in(messages: Sequence[tuple[int, tuple[int, ...]]]) -> Any:
    messages = sorted(((at + LEAD_NS, m) for at, m in messages), key=lambda m: m[0])
    return lambda relay: MidiClockIn(
        "wire", relay.estimator if relay else None, relay, inbox=Wire(messages)
    )  # fmt: skip


def beats_of(playing: live.Performance) -> list[tuple[int, float, float]]:
    """Time, position and tempo of every tick."""
    heard: list[tuple[int, float, float]] = []

    class Ear:
        def tick(self, t_us: int, out: Outgoing | None) -> None:
            heard.append((t_us, playing.transport.beat_at(t_us), playing.transport.bpm))

    playing.loop.companions.append(Ear())
    playing.play(until_us=20_000_000)
    return heard


# ---------------------------------------------------------------------------------------------- MIDI clock leads


def test_start_stop_position_and_continue_of_a_midi_clock_move_the_transport(monkeypatch: pytest.MonkeyPatch) -> None:
    messages = [
        word(2.0, 0xFA), *pulses(150, round(2.0 * SECOND), 20),  # beats 0 to 20, until 10 s
        word(10.0, 0xFC),
        word(11.0, 0xF2, 0x10, 0x01),  # 144 sixteenths: beat 36
        word(12.0, 0xFB), *pulses(150, round(12.0 * SECOND), 10),
    ]  # fmt: skip
    playing = performance(monkeypatch, {"body": body(16), "midi-clock:wire": clock_in(messages)})
    assert playing.transport.leader == "midi-clock"
    heard = {t: (beat, bpm) for t, beat, bpm in beats_of(playing)}
    assert heard[9_900_000][0] == pytest.approx((9.9 - 2.0) * 2.5, abs=0.02)
    assert heard[9_900_000][1] == pytest.approx(150, abs=0.1)
    assert heard[10_020_000][0] == heard[10_980_000][0] == pytest.approx(20, abs=0.05), "it stands"
    assert heard[11_500_000][0] == 36.0, "and is moved while it stands"
    assert heard[15_000_000][0] == pytest.approx(36 + 3 * 2.5, abs=0.02)
    told: Any = playing.events
    states = [facts["state"] for _, facts in told.of("source") if facts["source"] == "midi-clock"]
    assert states == ["transport start", "transport stop", "transport position", "transport continue"]


def test_continue_goes_on_where_it_stopped_and_start_begins_anew() -> None:
    transport = Transport(120, "midi-clock")
    relay = ClockRelay(transport)
    source = MidiClockIn("x", relay.estimator, relay, inbox=(inbox := Wire()))
    clock = VirtualClock()
    source.open(clock, 0)

    def hear(until_s: float, *messages: tuple[int, tuple[int, ...]]) -> None:
        inbox._messages += messages
        clock.wait_until(round(until_s * SECOND))
        for sample in source.poll(clock.now_ns()):
            transport.follow(float(sample.values[0]), float(sample.values[1]), sample.t_us)

    hear(4.99, word(0, 0xFA), *pulses(120, 0, 10))
    hear(5.0, word(5.0, 0xFC))
    stood = transport.beat_at(5_500_000)
    assert stood == pytest.approx(10, abs=1 / 24)
    hear(8.0, word(7.0, 0xFB), *pulses(120, 7 * SECOND, 2))
    assert transport.beat_at(8_000_000) == pytest.approx(12, abs=0.01)
    hear(9.0, word(8.2, 0xFC), word(8.4, 0xFA), word(8.5, 0xFC), word(8.6, 0xFB), *pulses(120, round(8.6 * SECOND), 1))
    assert transport.beat_at(9_100_000) == pytest.approx(1.0, abs=0.01), "a start without a pulse is a start"


def test_a_clock_leads_without_being_asked_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    sources = {"body": body(1), "midi-clock:wire": clock_in([])}
    playing = performance(monkeypatch, sources)
    assert playing.transport.leader == "midi-clock"
    (line,) = playing.sources[1].said()
    assert "leads the beat" in line and "--leader choreo" in line
    assert led(Show(source="midi-clock:x")).transport.leader == "midi-clock"
    assert led(Show(source=["demo", "audio:a.wav"])).transport.leader is None
    assert checked(with_options(Show(source="midi-clock:x"), {"leader": "tap"})).transport.leader == "tap"


def test_a_clock_beside_another_leader_is_ignored_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    messages = [word(1.0, 0xFA), *pulses(173, SECOND, 12), word(5.0, 0xFC)]
    playing = performance(
        monkeypatch, {"body": body(6), "midi-clock:wire": clock_in(messages)}, Tempo(100, leader="choreo")
    )
    (line,) = [s for s in playing.sources[1].said() if "not followed" in s]
    assert "choreo leads" in line and "leads the beat" not in playing.sources[1].said()[0]
    for t_us, beat, bpm in beats_of(playing):
        assert bpm == 100 and beat == pytest.approx(t_us * 100 / 60e6)
    assert playing.loop.summary.sources["midi-clock:wire"]["pulses"] == 12 * 24, "it was heard"


# ---------------------------------------------------------------------------------------------- OSC and others


def osc_beat(playing: Any, position: float, bpm: float) -> bytes:
    from choreo_cli.live.osc_encode import encode

    return encode("/choreo/beat", (position, bpm))


class OscScript(OscSource):
    """An OSC source without a socket: packets with the time of their arrival."""

    def __init__(self, packets: Sequence[tuple[int, bytes]], preset: str | None = None) -> None:
        super().__init__(port=9000, preset=preset)
        self._packets_due = list(packets)

    def open(self, clock: Any, start_ns: int) -> None:
        self._start_ns = start_ns

    def poll(self, now_ns: int) -> list[Sample]:
        while self._packets_due and self._start_ns + self._packets_due[0][0] <= now_ns:
            at, packet = self._packets_due.pop(0)
            self.handle(packet, self._start_ns + at)
        return super().poll(now_ns)

    @property
    def ended(self) -> bool:
        return not self._packets_due

    def close(self) -> None: ...


def osc_beats(bpm: float, seconds: int) -> list[tuple[int, bytes]]:
    return [(k * SECOND // 4, osc_beat(None, 32 + k / 4 * bpm / 60, bpm)) for k in range(1, 4 * seconds)]


def test_beats_by_osc_lead_when_osc_is_the_leader(monkeypatch: pytest.MonkeyPatch) -> None:
    sources = {"body": body(8), "osc:9000": OscScript(osc_beats(90, 8))}
    heard = beats_of(performance(monkeypatch, sources, Tempo(120, leader="osc")))
    at = {t: (beat, bpm) for t, beat, bpm in heard}
    assert at[7_000_000][0] == pytest.approx(32 + 7 * 1.5, abs=0.01) and at[7_000_000][1] == pytest.approx(90)


def test_beats_by_osc_are_refused_while_choreo_leads(monkeypatch: pytest.MonkeyPatch) -> None:
    playing = performance(monkeypatch, {"body": body(4), "osc:9000": OscScript(osc_beats(90, 4))}, Tempo(120))
    assert all(bpm == 120 for _, _, bpm in beats_of(playing))
    assert playing.transport.refused == 15


def test_beats_by_osc_are_left_out_while_a_clock_leads(monkeypatch: pytest.MonkeyPatch) -> None:
    sources = {
        "body": body(6), "osc:9000": OscScript(osc_beats(90, 6)),
        "midi-clock:wire": clock_in([word(0.5, 0xFA), *pulses(140, SECOND // 2, 12)]),
    }  # fmt: skip
    playing = performance(monkeypatch, sources)
    at = {t: (beat, bpm) for t, beat, bpm in beats_of(playing)}
    assert at[5_000_000][0] == pytest.approx(4.5 * 140 / 60, abs=0.02) and at[5_000_000][1] == pytest.approx(
        140, abs=0.1
    )
    assert playing.loop.summary.sources["osc:9000"]["samples"]["beat"] > 20, "they were heard and left out"


def source(*kinds: str) -> Any:
    made = Script([], name="x")
    made.kinds = kinds
    return made


def test_who_may_give_the_beat() -> None:
    osc, clock, sound, file = (
        source("inputs", "beat"),
        source("beat"),
        source("audio", "beat"),
        source("inputs", "beat"),
    )
    specs = ["osc:9000", "midi-clock:a", "jack:", "dance.jsonl"]

    def left_out(leader: str) -> list[str]:
        found = led_by([osc, clock, sound, file], specs, leader)
        assert all(f.kinds == tuple(k for k in s.kinds if k != "beat") for f, s in
                   zip(found, [osc, clock, sound, file], strict=True) if isinstance(f, WithoutBeats))  # fmt: skip
        return [spec for f, spec in zip(found, specs, strict=True) if isinstance(f, WithoutBeats)]

    assert left_out("choreo") == left_out("tap") == ["midi-clock:a"], "the transport itself refuses the others"
    assert left_out("osc") == ["midi-clock:a", "jack:", "dance.jsonl"]
    assert left_out("midi-clock") == ["osc:9000", "jack:", "dance.jsonl"]
    assert left_out("audio") == ["osc:9000", "midi-clock:a", "dance.jsonl"]


def test_a_wrapped_source_is_the_source_in_all_else() -> None:
    inner = Script([(0, 0, [1.0, 120.0])], "beat", name="midi-clock:x")
    inner.end_us = 5  # type: ignore[attr-defined]
    wrapped = WithoutBeats(inner, "choreo")
    wrapped.origin_us = 40
    assert (inner.origin_us, wrapped.origin_us, wrapped.name) == (40, 40, "midi-clock:x")
    assert hasattr(wrapped, "end_us") and not hasattr(wrapped, "period_us")
    wrapped.open(VirtualClock(), 0)
    assert wrapped.poll(SECOND) == [] and wrapped.facts() == {"samples": 1} and wrapped.kinds == ()


@pytest.mark.parametrize(
    ("show", "words"),
    [
        (Show(transport=Tempo(leader="midi-clock")), "--source midi-clock:PORT"),
        (Show(source="demo", transport=Tempo(leader="midi-clock")), "--source midi-clock:PORT"),
        (Show(source=["midi-clock:a", "midi-clock:b"]), "name the one that leads"),
        (Show(source="midi-clock:a", transport=Tempo(follow_dancer=True)), "leader: choreo"),
        (Show(transport=Tempo(leader="tap", follow_dancer=True)), "leader: choreo"),
    ],
)
def test_a_leader_without_its_source_names_what_to_add(show: Show, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        checked(show)
    assert words in str(caught.value.hint) and caught.value.code == ExitCode.USAGE


@pytest.mark.parametrize(("leader", "words"), [("osc", "osc:PORT"), ("audio", "audio:FILE")])
def test_a_leader_whose_beat_no_source_gives_is_refused(leader: str, words: str) -> None:
    with pytest.raises(UsageError, match=f"--leader {leader}") as caught:
        opening.sources_of(Show(source="demo", transport=Tempo(leader=leader)), live.Around(speed=0))  # type: ignore[arg-type]
    assert words in str(caught.value.hint)


def test_sound_gives_beats_only_when_it_leads(tmp_path: Path) -> None:
    import wave

    file = tmp_path / "a.wav"
    with wave.open(str(file), "wb") as out:
        out.setparams((1, 2, 22050, 0, "NONE", ""))
        out.writeframes(bytes(2 * 22050))
    show = Show(source=["demo", f"audio:{file}"], transport=Tempo(leader="audio"))
    body_source, sound = opening.sources_of(show, live.Around(speed=0))
    assert "beat" in sound.kinds and isinstance(body_source, WithoutBeats)
    _, sound = opening.sources_of(Show(source=show.source), live.Around(speed=0))
    assert sound.kinds == ("audio",)


# ---------------------------------------------------------------------------------------------- tempo_scale


def outgoing(scale: float) -> Outgoing:
    values = np.array([scale, 0.5, 0.5, 0.5, 0.5], np.float32)
    return Outgoing(0, 0, values, values, np.ones(5, bool), False)


@pytest.mark.parametrize("leader", ["choreo", "midi-clock", "osc", "audio", "tap"])
def test_only_our_own_clock_follows_the_dancer(leader: str) -> None:
    transport = Transport(120, leader)
    dancer = FollowDancer(transport)
    before = transport.beat_at(1_000_000)
    for k in range(51):
        dancer.tick(1_000_000 + k * 20_000, outgoing(1.25))
    went = transport.beat_at(2_000_000) - before
    assert went == pytest.approx(2.5 if leader == "choreo" else 2.0, abs=1e-6)


class Fast:
    """A model that always wants the greatest tempo_scale."""

    window, mapper_folder = 32, ""

    def reset(self) -> None: ...

    def step(self, x: Any, mask: Any) -> tuple[Any, Any]:
        return np.zeros(104, np.float32), np.array([1, 0.5, 0.5, 0.5, 0.5], np.float32)


@pytest.mark.parametrize("follows", [False, True])
def test_tempo_scale_moves_the_clock_only_when_the_show_says_so(monkeypatch: pytest.MonkeyPatch, follows: bool) -> None:
    playing = performance(monkeypatch, {"body": body(10)}, Tempo(100, follow_dancer=follows))
    playing.loop.model = Fast()
    heard = beats_of(playing)
    assert heard[-1][2] == pytest.approx(125 if follows else 100, rel=1e-3)
    steps = np.diff([beat for _, beat, _ in heard])
    assert steps.min() > 0.02 * 100 / 60 - 1e-9 and steps.max() < 0.02 * 125 / 60 + 1e-9, "no jump on the way"
    assert Tempo().follow_dancer is False


# ---------------------------------------------------------------------------------------------- ports and maps


class Vanishing(LoopbackPort):
    """Gone between two session times; noticed by sending."""

    def __init__(self, clock: list[VirtualClock], gone_s: tuple[float, float]) -> None:
        super().__init__("midi:fake")
        self._clock, self._gone = clock, gone_s
        self.opened: list[int] = []

    def look(self) -> None:
        now = (self._clock[0].now_ns() - LEAD_NS) / SECOND if self._clock else 0.0
        lost = self._gone[0] <= now < self._gone[1]
        self.is_open = self.is_open and not lost
        self.lost = lost

    def open(self) -> None:
        self.look()
        super().open()
        self.opened.append(self._clock[0].now_ns())

    def send(self, out: Outgoing) -> int:
        self.look()
        return super().send(out)


def test_a_port_that_is_lost_in_virtual_time_comes_back_in_virtual_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock: list[VirtualClock] = []
    port = Vanishing(clock, (3.0, 7.5))
    playing = performance(monkeypatch, {"body": body(12)}, out=[port])
    assert isinstance(playing.clock, VirtualClock)
    clock.append(playing.clock)
    began = time.monotonic()
    summary = playing.play()
    assert time.monotonic() - began < 60
    told: Any = playing.events
    states = [(round(t / 1e6, 1), facts["state"]) for t, facts in told.of("port")]
    assert [s for _, s in states] == ["lost", "recovered", "ok"]
    assert 2.9 <= states[0][0] <= 3.1 and 7.4 <= states[1][0] <= 8.6
    assert len(port.opened) == 2 and summary.missed == 0
    sent = [o.t_us for o in port.sent]
    hole = max(zip(np.diff(sent), sent, strict=False))
    assert hole[1] < 3_100_000 and hole[0] < 5_700_000, "it is sent to again within about a second"
    kept = summary.ports["midi:fake"]["kept"]
    assert kept["losses"] == kept["recoveries"] == 1 and kept["held"] > 200


class Numbered(LoopbackPort):
    """A port with numbers from the map; it refuses a number above its limit."""

    def __init__(self, name: str, limit: int) -> None:
        super().__init__(name)
        self.limit, self.map = limit, DEFAULT
        self.open()

    def remap(self, control_map: Any) -> None:
        if control_map.density.cc > self.limit:
            raise ConfigError(f"{self.name}: no cc {control_map.density.cc}")
        self.map = control_map


def with_cc(cc: int) -> Any:
    return msgspec.structs.replace(DEFAULT, density=msgspec.structs.replace(DEFAULT.density, cc=cc))


def test_a_map_that_one_port_refuses_is_taken_by_none() -> None:
    ports = [Numbered("a", 119), LoopbackPort("b"), Numbered("c", 31), Numbered("d", 119)]
    ports[1].open()
    loop, _, _ = made([Script(rows_of(dance(50)))], ports=ports)
    good, bad = with_cc(30), with_cc(40)
    maps = lambda: [p.map.density.cc for p in ports if isinstance(p, Numbered)]  # noqa: E731
    loop.reload_map(good)
    assert maps() == [30, 30, 30]
    with pytest.raises(ConfigError, match="c: no cc 40"):
        loop.reload_map(bad)
    assert maps() == [30, 30, 30], "the one before it has the newest map again, not the first"
    loop.run()
    assert loop.guards.map is good


def test_the_beat_phase_of_the_frames_is_the_transports(monkeypatch: pytest.MonkeyPatch) -> None:
    playing = performance(monkeypatch, {"body": body(2)}, Tempo(60))
    phases: list[tuple[int, float]] = []
    playing.loop.on_frame = lambda frame, beat: phases.append((frame.t_us, float(frame.values[10])))
    playing.play()
    assert INPUTS[10].name == "beat_phase"
    for t_us, phase in phases:
        assert phase == pytest.approx((t_us / 1e6) % 1.0, abs=1e-6)


def test_a_recording_that_begins_late_begins_on_beat_0(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    late = Script(rows_of(dance(50), start=100))
    late.origin_us = late.end_us = 2_000_000  # type: ignore[attr-defined]
    playing = performance(monkeypatch, {"late": late}, Tempo(120))
    late.open = lambda clock, start_ns: setattr(late, "_start_ns", start_ns - 2 * SECOND)  # type: ignore[method-assign]
    heard = beats_of(playing)
    assert heard[0][:2] == (2_000_000, 0.0)


@pytest.mark.parametrize(("tempo", "leads"), [(Tempo(), True), (Tempo(leader="choreo"), False), (Tempo(bpm=100), True)])
def test_a_recording_that_has_beats_leads_unless_somebody_else_was_asked_to(
    tmp_path: Path, tempo: Tempo, leads: bool
) -> None:
    from choreo_cli.sessions.synth import SynthOptions, write_sessions

    made = write_sessions(SynthOptions(sessions=1, minutes=0.2, bpm=(92.0,), material=False), tmp_path)
    frames = str(tmp_path / made.entries[0]["frames"])
    playing = live.Performance(Show(source=frames, transport=tempo), live.Around(speed=0), Told())
    beats: list[tuple[float, float]] = []
    playing.loop.on_frame = lambda frame, _: beats.append(
        (float(frame.values[10]), playing.transport.beat_at(frame.t_us))
    )
    playing.play()
    own = np.array([b for _, b in beats[100:]]) % 1
    given = np.array([p for p, _ in beats[100:]])
    apart = np.abs((own - given + 0.5) % 1 - 0.5)
    assert (playing.transport.bpm == pytest.approx(92, abs=0.5)) is leads
    assert bool(np.nanmax(apart) < 0.03) is leads, "bars and cues fall where the music of the recording has them"
