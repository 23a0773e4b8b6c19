"""Pulse to onset: the arithmetic on made-up sound, the refusals, the file, and a synthesiser that really answers."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from choreo_cli.errors import DataError, NoInputError, UnavailableError, UsageError
from choreo_cli.live import calibrate_latency as cal
from choreo_cli.live.clock import VirtualClock
from choreo_cli.live.osc_port import OscPort
from choreo_cli.live.port import Cue, Outgoing
from formats.control_map import DEFAULT
from formats.packets import CONTROLS
from tests.live.jack_server import jack_server
from tests.live.receiver_bench import (
    RECEIVERS,
    free_port,
    jack_ports,
    need,
    process,
    udp_is_bound,
    wait_for,
)

RATE, PERIOD = 48_000, 256
MS = 1_000_000


class Room:
    """A receiver in virtual time: a tone while it is on, heard `delay_ms` later, over a floor of noise."""

    def __init__(self, clock: VirtualClock, delay_ms: float = 7.0, spread_ms: float = 0.0, noise: float = 1e-5) -> None:
        self.rate, self.period = RATE, PERIOD
        self.clock, self.delay_ms, self.spread_ms, self.noise = clock, delay_ms, spread_ms, noise
        self.events: list[tuple[int, bool]] = []
        self.drop: set[int] = set()
        self.extra_ns: list[int] = []
        self.rng = np.random.default_rng(3)

    def put(self, on: bool) -> None:
        self.events.append((self.clock.now_ns(), on))

    def start(self, seconds: float) -> None:
        self.begun, self.seconds = self.clock.now_ns(), seconds

    def stop(self) -> tuple[cal.F32, cal.I64]:
        blocks = int(self.seconds * RATE) // PERIOD
        audio = self.rng.normal(0, self.noise, blocks * PERIOD)
        level, edges = np.zeros(len(audio)), []
        for k, (at, on) in enumerate(self.events):
            late = self.delay_ms + (self.rng.uniform(0, self.spread_ms) if on else 0)
            edges.append((max(0, round((at - self.begun) / 1e9 * RATE + late / 1e3 * RATE)), on and k not in self.drop))
        for at, on in edges:
            level[at:] = float(on)
        for at_ns in self.extra_ns:
            at = round((at_ns - self.begun) / 1e9 * RATE)
            level[at : at + 480] = 1.0
        audio += level * 0.3 * np.cos(2 * np.pi * 110 * np.arange(len(audio)) / RATE)
        stamps = self.begun + np.arange(blocks, dtype=np.int64) * PERIOD * 1_000_000_000 // RATE
        return audio.astype(np.float32), stamps


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(5_000 * MS)


@pytest.mark.parametrize("delay_ms", [0.1, 2.8, 13.1, 120.0])
def test_the_delay_of_a_receiver_is_found_to_a_quarter_millisecond(clock: VirtualClock, delay_ms: float) -> None:
    room = Room(clock, delay_ms)
    found = cal.measure(room.put, room, "room", clock=clock)
    assert found.n == 60 and found.receiver == "room" and (found.period, found.rate) == (PERIOD, RATE)
    assert delay_ms - 0.05 <= found.min <= found.p50 <= found.p95 <= found.max <= delay_ms + 0.25


def test_percentiles_tell_a_receiver_that_jitters(clock: VirtualClock) -> None:
    room = Room(clock, 3.0, spread_ms=10.0)
    found = cal.measure(room.put, room, "room", n=200, clock=clock)
    assert found.n == 200
    assert 3 <= found.min < 4 and 6.5 < found.p50 < 9.5 and 12 < found.p95 < found.max <= 13.25


def test_a_receiver_that_sounded_before_the_first_pulse_is_no_onset(clock: VirtualClock) -> None:
    room = Room(clock, 5.0)
    room.extra_ns = [clock.now_ns() + 50 * MS]
    assert cal.measure(room.put, room, "room", clock=clock).n == 60


def test_a_pulse_that_is_not_heard_is_refused(clock: VirtualClock) -> None:
    room = Room(clock)
    room.drop = {21}
    with pytest.raises(DataError, match="60 pulses, 59 onsets"):
        cal.measure(room.put, room, "room", clock=clock)


def test_sound_of_something_else_is_refused(clock: VirtualClock) -> None:
    room = Room(clock)
    room.extra_ns = [clock.now_ns() + round(1.21e9)]
    with pytest.raises(DataError, match=r"60 pulses, 61 onsets.*something else sounds"):
        cal.measure(room.put, room, "room", clock=clock)


def test_silence_is_refused(clock: VirtualClock) -> None:
    room = Room(clock)
    room.drop = set(range(200))
    with pytest.raises(DataError, match="none of 60 pulses was heard"):
        cal.measure(room.put, room, "room", clock=clock)


def test_an_onset_before_its_pulse_is_refused(clock: VirtualClock) -> None:
    """The sign of the stamps: sound that answers before it is asked has been stamped by another clock."""
    room = Room(clock, delay_ms=-5.0)
    with pytest.raises(DataError, match=r"5\.\d ms before its pulse"):
        cal.measure(room.put, room, "room", clock=clock)


def test_a_receiver_slower_than_the_interval_is_refused() -> None:
    pulses = np.arange(60, dtype=np.int64) * 250 * MS
    with pytest.raises(DataError, match="onset 0 comes after the next pulse"):
        cal.latencies_ms(pulses, pulses + 260 * MS)


def test_a_tone_is_one_onset_and_not_one_for_each_period() -> None:
    t = np.arange(RATE) / RATE
    audio = (0.1 * np.sin(2 * np.pi * 60 * t) * (t > 0.25)).astype(np.float32)
    (at,) = cal.find_onsets(audio, RATE, 0.01)
    assert 0.25 * RATE < at < 0.253 * RATE
    assert cal.find_onsets(np.zeros(100, np.float32), RATE, 0.01).size == 0
    assert cal.find_onsets(np.ones(100, np.float32), RATE, 0.01).tolist() == [0]


def test_the_threshold_lies_over_the_noise_and_never_under_80_decibels() -> None:
    noise = np.random.default_rng(0).normal(0, 0.01, 10_000).astype(np.float32)
    assert cal.threshold_of(noise) > 3 * np.abs(noise).max()
    assert cal.threshold_of(np.zeros(10, np.float32)) == 1e-4
    assert cal.find_onsets(noise, RATE, cal.threshold_of(noise)).size == 0


def test_a_lost_block_moves_no_later_onset() -> None:
    """Stamps count, not positions: after an xrun the samples of a recording no longer tell the time."""
    stamps = np.array([0, 1, 2, 9, 10], np.int64) * PERIOD * 1_000_000_000 // RATE
    first, second = cal.onset_times_ns(np.array([300, 3 * PERIOD + 24], np.int64), stamps, PERIOD, RATE)
    assert first == pytest.approx(300 / RATE * 1e9, abs=100)
    assert second == pytest.approx((9 * PERIOD + 24) / RATE * 1e9, abs=100)


def test_intervals_are_jittered_and_the_same_for_the_same_seed() -> None:
    times = cal.pulse_times(80, 1)
    gaps = np.diff(times)
    assert len(times) == 80 and gaps.min() >= 0.25 and gaps.max() <= 0.3 and np.std(gaps) > 0.01
    assert np.array_equal(times, cal.pulse_times(80, 1)) and not np.array_equal(times, cal.pulse_times(80, 2))
    with pytest.raises(UsageError, match="at least 60"):
        cal.pulse_times(59)


OFFSET = cal.Offset(60, 2.8, 5.8, 1.1, 6.5, 256, 48_000, "midi:fluid")


def test_the_offset_file_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "offset.json"
    OFFSET.write(path)
    assert cal.Offset.read(path) == OFFSET and OFFSET.advance_us == 2800
    assert list(json.loads(path.read_text())) == [
        "schema", "n", "p50", "p95", "min", "max", "period", "rate", "receiver",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"schema": "choreo.offset/1"}', '{"schema": "choreo.metrics/1"}', "\udcff\x00", '{"n": NaN}'],
)
def test_another_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "offset.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError, match=r"offset\.json is not an offset file"):
        cal.Offset.read(path)


@pytest.mark.parametrize("change", [{"p50": -1.0}, {"n": 0}, {"p50": "2"}, {"more": 1}, {"schema": "choreo.offset/2"}])
def test_an_edited_file_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "offset.json"
    path.write_text(json.dumps({**OFFSET.to_dict(), **change}))
    with pytest.raises(DataError, match="is not an offset file"):
        cal.Offset.read(path)


def test_no_file_is_told_with_what_makes_one(tmp_path: Path) -> None:
    with pytest.raises(NoInputError, match="choreo calibrate latency -o FILE"):
        cal.Offset.read(tmp_path / "none.json")


class Kept:
    """A port that keeps what it was given."""

    name, quantum = "kept:", 1e-3

    def __init__(self) -> None:
        self.got: list[Outgoing] = []

    def send(self, out: Outgoing) -> int:
        self.got.append(out)
        return 5

    def cue(self, cue: Cue) -> int:
        return 0


@pytest.mark.parametrize("control", CONTROLS)
def test_the_switch_steps_one_control_at_once_and_leaves_the_others(control: str) -> None:
    port = Kept()
    put = cal.switch(port, control, DEFAULT)  # type: ignore[arg-type]
    for on in (False, True, False, True):
        put(on)
    at = CONTROLS.index(control)
    units = np.array([out.unit for out in port.got])
    assert units[:, at].tolist() == pytest.approx([0, 1, 0, 1], abs=1e-6)
    assert np.ptp(np.delete(units, at, axis=1), axis=0).max() == 0
    assert [out.seq for out in port.got] == [0, 1, 2, 3]


def test_the_switch_keeps_the_echo_away() -> None:
    """An echo outlasts the pulse, and the next onset would be none."""
    port = Kept()
    cal.switch(port, "density", DEFAULT)(True)  # type: ignore[arg-type]
    assert port.got[0].unit[CONTROLS.index("fx_send")] == 0


def test_the_switch_names_the_controls() -> None:
    with pytest.raises(UsageError, match="density"):
        cal.switch(Kept(), "loudness", DEFAULT)  # type: ignore[arg-type]


@pytest.mark.live
def test_without_a_server_listening_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("jack", reason="JACK-Client or libjack is not installed (pip install 'choreo[audio]')")
    monkeypatch.setenv("JACK_DEFAULT_SERVER", f"none-{os.getpid()}")
    with pytest.raises(UnavailableError, match="no JACK server answers"):
        cal.JackCapture(["x:y"])


@pytest.mark.live
@pytest.mark.timeout(90)
def test_osc_to_sound_of_puredata(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own patch with the usual 10 ms of buffer: more than that, and far from 50."""
    need("jackd", "pd")
    pytest.importorskip("jack", reason="JACK-Client or libjack is not installed (pip install 'choreo[audio]')")
    number, log = free_port(), tmp_path / "pd.log"
    with jack_server(tmp_path, RATE, PERIOD) as env:
        for key, value in env.items():
            monkeypatch.setenv(key, value)
        argv = ["pd", "-nogui", "-jack", "-audiobuf", "10", "-r", str(RATE), "-nomidi", "-stderr"]
        argv += ["-send", "pd dsp 1", "-send", f"choreo-listen {number}", str(RECEIVERS / "choreo.pd")]
        with process(argv, log, env):
            wait_for("Pure Data", lambda: udp_is_bound(number) and "pure_data:output_1" in jack_ports(env), 15, log)
            capture = cal.JackCapture(["pure_data:output_1"])
            port = OscPort("127.0.0.1", number)
            try:
                port.open()
                found = cal.measure_port(port, capture)
            finally:
                port.close()
                capture.close()
    print(f"Pure Data: {found.to_dict()}, xruns {capture.xruns}")
    assert found.n == 60 and 1 < found.min <= found.p50 < 40, found


SOUNDFONTS = ("/usr/share/sounds/sf2/TimGM6mb.sf2", "/usr/share/sounds/sf2/default-GM.sf2")


@pytest.mark.live
@pytest.mark.timeout(90)
def test_control_change_to_sound_of_fluidsynth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CC7 by our MIDI port over JACK to a synthesiser holding an organ note: its sound starts within milliseconds."""
    need("jackd", "fluidsynth")
    for module in ("jack", "rtmidi"):
        pytest.importorskip(module, reason=f"{module} is not installed (pip install 'choreo[live,audio]')")
    font = next((f for f in SOUNDFONTS if Path(f).exists()), None)
    if font is None:
        pytest.skip("no sound font (apt package timgm6mb-soundfont)")
    import msgspec

    from choreo_cli.live.midi import MidiPort

    played = tmp_path / "play.txt"
    played.write_text("prog 0 16\ncc 0 7 0\nnoteon 0 60 127\n")
    volume = msgspec.structs.replace(DEFAULT, density=msgspec.structs.replace(DEFAULT.density, cc=7))
    with jack_server(tmp_path, RATE, PERIOD) as env:
        for key, value in env.items():
            monkeypatch.setenv(key, value)
        settings = {
            "audio.jack.id": "fluid", "midi.jack.id": "fluid", "audio.jack.autoconnect": "0",
            "audio.jack.server": env["JACK_DEFAULT_SERVER"], "midi.jack.server": env["JACK_DEFAULT_SERVER"],
            "synth.sample-rate": str(RATE), "synth.reverb.active": "0", "synth.chorus.active": "0",
        }  # fmt: skip
        argv = ["fluidsynth", "-a", "jack", "-m", "jack", "-i", "-s", "-f", str(played)]
        argv += [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]
        log = tmp_path / "fluidsynth.log"
        with process([*argv, font], log, env):
            wait_for("fluidsynth", lambda: "fluid:left" in jack_ports(env), 15, log)
            capture = cal.JackCapture(["fluid:left"])
            port = MidiPort("fluid", volume, api="jack")
            try:
                port.open()
                found = cal.measure_port(port, capture, control_map=volume)
            finally:
                port.close()
                capture.close()
    found.write(tmp_path / "offset.json")
    print(f"fluidsynth: {found.to_dict()}, xruns {capture.xruns}")
    assert cal.Offset.read(tmp_path / "offset.json") == found
    assert found.n == 60 and found.min >= 0 and found.receiver == "midi:fluid"
    # Two periods of 5.3 ms are the floor of any path through JACK; a busy machine adds to p95, hardly to p50.
    assert found.p50 < 15, found
