"""Sound as a source: a file equals the offline inputs; devices queue, name what is missing, and give beats."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from choreo_cli.audio.decode import decode
from choreo_cli.audio.features import DEFAULT, extract
from choreo_cli.audio.inputs import audio_inputs
from choreo_cli.audio.render import render_track, wav_bytes
from choreo_cli.errors import UnavailableError, UsageError
from choreo_cli.live.assemble import Assembler
from choreo_cli.live.audio_in import BLOCKS, AudioFile, JackIn, PortAudioIn
from choreo_cli.live.audio_in import audio_inputs as input_names
from choreo_cli.live.clock import MonotonicClock, VirtualClock
from choreo_cli.live.lsl import LslSource, list_streams
from choreo_cli.live.sample import Sample
from choreo_cli.live.transport import Transport

STEP = 20_000
RATE = DEFAULT.rate


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("song") / "song.wav"
    y = render_track(np.arange(0.3, 14.0, 0.5), 0.8, 14.0, np.random.default_rng(0), rate=RATE)
    path.write_bytes(wav_bytes(y, rate=RATE))
    return path


def test_a_file_gives_the_offline_inputs_late_by_the_stated_latency(song: Path) -> None:
    source = AudioFile(song)
    source.open(VirtualClock(), 0)
    made = Assembler.of([source])
    features = extract(decode(song, rate=RATE).samples)
    values, k = [], 0
    while not source.ended:
        for sample in source.poll(k * STEP * 1000):
            made.take(sample)
        frame = made.frame(k * STEP)
        values.append(frame.values[8:10].copy())
        assert frame.mask[2] or k < 6
        k += 1
    # Each frame holds the newest offline frame that could be known: 3 or 4 frames of 20 ms ago.
    got = np.array(values[6:])
    offline = np.stack(audio_inputs(features, np.arange(k) * STEP)[:2], axis=1)
    lag = [offline[6 - d : len(offline) - d] for d in (3, 4)]
    near = np.minimum(*(np.abs(np.nan_to_num(got) - np.nan_to_num(part)).max(axis=1) for part in lag))
    assert near.max() < 1e-5 and np.ptp(got[:, 0]) > 0.05


def test_beats_of_a_file_lead_a_transport(song: Path) -> None:
    source = AudioFile(song, beats=True, near_bpm=118.0)
    assert source.kinds == ("audio", "beat")
    transport = Transport(bpm=118.0, leader="audio")
    made = Assembler.of([source], transport=transport)
    source.open(VirtualClock(), 0)
    for k in range(13 * 50):
        for sample in source.poll(k * STEP * 1000):
            made.take(sample)
        made.frame(k * STEP)
    assert transport.bpm == pytest.approx(120.0, rel=2e-3)
    off_s = ((transport.phase(13_000_000)[0] - (13.0 - 0.3) / 0.5 + 0.5) % 1 - 0.5) * 0.5
    assert abs(off_s) < 0.005
    assert source.facts()["beat_estimates"] >= 8
    source.close()


def test_in_real_time_beats_are_found_on_a_thread_of_their_own(song: Path) -> None:
    source = AudioFile(song, beats=True)
    clock = MonotonicClock(speed=200.0)
    source.open(clock, clock.now_ns())
    found: list[Sample] = []
    for _ in range(400):
        found += [s for s in source.poll(clock.now_ns()) if s.kind == "beat"]
        if source.ended and source.facts()["beat_estimates"]:
            break
        time.sleep(0.005)
    assert source.facts()["beat_estimates"] >= 1
    assert "beats" in {t.name for t in threading.enumerate()}
    source.close()
    source.close()
    assert "beats" not in {t.name for t in threading.enumerate()}


class Cards:
    """What the tests need of PortAudio's Python module."""

    class PortAudioError(Exception):
        pass

    def __init__(self, *names: str) -> None:
        self.names = names
        self.stream: Any = None

    def query_devices(self, number: int | None = None, kind: str | None = None) -> Any:
        listed = [
            {"name": n, "max_input_channels": 2 if "in" in n else 0, "default_samplerate": 48_000.0} for n in self.names
        ]
        return listed if kind is None else listed[(number or 0) % len(listed)]

    def InputStream(self, **options: Any) -> Any:
        if options["device"] == 99:
            raise self.PortAudioError("Invalid device")
        self.stream = SimpleNamespace(**options, start=lambda: None, close=lambda: None)
        return self.stream


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch) -> Cards:
    made = Cards("mic in", "line in", "speakers out")
    monkeypatch.setitem(sys.modules, "sounddevice", made)
    return made


def test_blocks_of_a_device_are_queued_and_the_newest_win(cards: Cards) -> None:
    source, clock = PortAudioIn("line"), VirtualClock(5_000_000_000)
    source.open(clock, 5_000_000_000)
    assert source.audio_hz == 48_000 and cards.stream.device == 1 and cards.stream.blocksize == 256
    for k in range(BLOCKS + 10):
        clock.wait_until(5_000_000_000 + (k + 1) * 5_333_333)
        cards.stream.callback(np.full((256, 1), k / 100, np.float32), 256, None, None)
    (sample,) = source.poll(clock.now_ns())
    assert source.facts() == {"samples": BLOCKS * 256, "drops": 10, "lost": False}
    assert sample.values.shape == (BLOCKS * 256,) and sample.values[0] == np.float32(0.10)
    assert abs(sample.t_us - 10 * 5333.333) < 3 and sample.t_arrival_ns == clock.now_ns()
    assert list(source.poll(clock.now_ns())) == [] and not source.ended
    source.close()


def test_the_device_may_change_its_buffer_under_us(cards: Cards) -> None:
    source, clock = PortAudioIn(None), VirtualClock()
    source.open(clock, 0)
    buffer = np.zeros((256, 1), np.float32)
    cards.stream.callback(buffer, 256, None, None)
    buffer[:] = 9.0
    assert source.poll(0)[0].values.max() == 0.0


@pytest.mark.parametrize(
    ("device", "kind", "message"),
    [
        ("in", UsageError, "audio input in is ambiguous: one of mic in, line in"),
        ("out", UnavailableError, "no audio input out: found mic in, line in"),
        ("99", UnavailableError, "no sound from portaudio:99: Invalid device: inputs: mic in, line in"),
    ],
)
def test_a_sound_card_that_is_not_there_is_refused_with_what_is(
    cards: Cards, device: str, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind) as caught:
        PortAudioIn(device).open(VirtualClock(), 0)
    assert str(caught.value) == message
    assert input_names() == ["portaudio:mic in", "portaudio:line in"]


@pytest.mark.parametrize(("module", "make"), [("jack", JackIn), ("sounddevice", PortAudioIn)])
def test_without_the_extra_the_install_line_is_named(monkeypatch: pytest.MonkeyPatch, module: str, make: Any) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UnavailableError, match=r"pip install 'choreo\[audio\]'"):
        make(None).open(VirtualClock(), 0)


def test_without_pylsl_the_install_line_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pylsl", None)
    with pytest.raises(UnavailableError, match=r"pip install 'choreo\[lsl\]'"):
        LslSource("x")


@pytest.mark.live
def test_jack_hears_what_another_client_plays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jack = pytest.importorskip("jack", reason="JACK-Client is not installed", exc_type=Exception)
    from jack_server import JackServer

    server = JackServer(tmp_path)
    for key, value in server.env.items():
        monkeypatch.setenv(key, value)
    server.start()
    try:
        player = jack.Client("player", no_start_server=True, servername=server.name)
        out = player.outports.register("out")
        at = [0]

        def play(frames: int) -> None:
            t = at[0] + np.arange(frames)
            out.get_array()[:] = 0.25 * np.sin(2 * np.pi * 480 * t / 48_000)
            at[0] += frames

        player.set_process_callback(play)
        player.activate()
        source, clock = JackIn("player:out"), MonotonicClock()
        source.open(clock, clock.now_ns())
        made = Assembler.of([source])
        energies = []
        for _ in range(60):
            time.sleep(0.02)
            for sample in source.poll(clock.now_ns()):
                made.take(sample)
            now = clock.now_ns() - source._start_ns
            energies.append(float(made.frame(now // 1000).values[8]))
        source.close()
        player.close()
        assert source.audio_hz == 48_000
        assert np.nanmedian(energies[20:]) == pytest.approx(1 + 20 * np.log10(0.25 / np.sqrt(2)) / 60, abs=0.01)
        with pytest.raises(UnavailableError, match="no JACK port nobody: found "):
            JackIn("nobody").open(clock, 0)
    finally:
        server.stop()


LSL_SETTINGS = "[multicast]\nResolveScope = machine\n[ports]\nIPv6 = disable\n"


@pytest.mark.live
def test_an_lsl_stream_arrives_whole_and_in_order(tmp_path: Path) -> None:
    """In a process of its own: liblsl reads its settings once, when it is loaded."""
    pytest.importorskip("pylsl", reason="pylsl is not installed", exc_type=Exception)
    import subprocess

    settings, script = tmp_path / "lsl.cfg", tmp_path / "hear.py"
    settings.write_text(LSL_SETTINGS)
    script.write_text(LSL_SCRIPT)
    top = Path(__file__).resolve().parents[2]
    env = {**os.environ, "LSLAPICFG": str(settings), "PYTHONPATH": str(top)}
    done = subprocess.run([sys.executable, str(script)], env=env, capture_output=True, text=True, timeout=60)
    if done.returncode == 77:
        pytest.skip(f"no LSL here: {done.stdout.strip()}")
    assert done.returncode == 0, done.stderr[-2000:]


LSL_SCRIPT = """
import sys, time
import numpy as np, pylsl
from choreo_cli.errors import DataError, UnavailableError
from choreo_cli.live.clock import MonotonicClock
from choreo_cli.live.lsl import LslSource, list_streams

def outlet(name, kind, channels, unit=None):
    info = pylsl.StreamInfo(name, kind, channels, 50, "float32", name)
    rows = info.desc().append_child("channels")
    for k in range(channels if unit else 0):
        row = rows.append_child("channel")
        row.append_child_value("label", "acc_" + "xyz"[k])
        row.append_child_value("unit", unit)
    return pylsl.StreamOutlet(info)

body, swing, odd, guess = (outlet("t-body", "Choreo", 11), outlet("t-swing", "Accelerometer", 3, "g"),
                           outlet("t-odd", "EEG", 4), outlet("t-guess", "Accelerometer", 3))
try:
    heard = LslSource("t-body", 5.0)
except UnavailableError as e:
    print(e); sys.exit(77)
assert any("lsl:t-body (Choreo, 11 channels, 50 Hz)" in x for x in list_streams())
shaken, clock = LslSource("t-swing"), MonotonicClock()
assert heard.kinds == ("inputs",) and shaken.kinds == ("accel",)
for name, why in (("t-odd", "is of type EEG with 4 channels"), ("t-guess", "its unit is none")):
    try:
        LslSource(name); sys.exit("not refused")
    except DataError as e:
        assert why in str(e), e
start = clock.now_ns()
heard.open(clock, start); shaken.open(clock, start)
deadline = time.monotonic() + 10
while not (body.have_consumers() and swing.have_consumers()) and time.monotonic() < deadline:
    time.sleep(0.02)
got, swings = [], []
for k in range(50):
    body.push_sample([k / 100] * 11); swing.push_sample([0, 0, 1])
    time.sleep(0.02)
    got += heard.poll(clock.now_ns()); swings += shaken.poll(clock.now_ns())
time.sleep(0.3)
got += heard.poll(clock.now_ns())
assert [round(float(s.values[0]) * 100) for s in got] == list(range(50)), len(got)
assert all(s.t_sensor_us is not None and s.t_us <= (s.t_arrival_ns - start) // 1000 for s in got)
assert all(b.t_us > a.t_us for a, b in zip(got, got[1:]))
assert abs(float(swings[0].values[2]) - 9.80665) < 1e-4
heard.close(); shaken.close()
"""


def test_the_list_of_streams_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    info = SimpleNamespace(name=lambda: "b", type=lambda: "HR", channel_count=lambda: 1, nominal_srate=lambda: 0.0)
    monkeypatch.setitem(sys.modules, "pylsl", SimpleNamespace(resolve_streams=lambda wait: [info]))
    assert list_streams() == ["lsl:b (HR, 1 channels, 0 Hz)"]
