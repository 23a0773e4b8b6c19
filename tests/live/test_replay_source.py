"""Recordings as sources: identical to their rows, every file by its content, packets from files and pipes."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from choreo_cli.dataset.frameset import read_frames
from choreo_cli.errors import ChoreoError, NoInputError, UsageError
from choreo_cli.live import replay
from choreo_cli.live.assemble import Assembler
from choreo_cli.live.clock import MonotonicClock, VirtualClock
from choreo_cli.live.demo_source import demo, examples
from choreo_cli.live.packet_source import PacketPipe, is_packet_lines
from choreo_cli.live.sample import Sample, Source
from choreo_cli.live.sources import align, open_source
from choreo_cli.live.transport import Transport
from choreo_cli.motion.features import extract_pose
from choreo_cli.motion.resample import Grid
from formats.errors import FormatError
from formats.foreign import registry
from formats.foreign.source import Source as File

TOP = Path(__file__).resolve().parents[2]
DATA = TOP / "examples" / "data"
STEP = 20_000


def synth(folder: Path, *options: str) -> Path:
    argv = [sys.executable, "-m", "choreo_cli", "synth", "sessions", "-o", str(folder), "--frames-only", "-q", *options]
    subprocess.run(argv, check=True, cwd=TOP, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    drops = [f"--dropout={m}=0.15" for m in ("mot", "hr", "aud", "ctx")]
    return synth(tmp_path_factory.mktemp("s") / "out", "--sessions=2", "--minutes=0.5", "--nan-bursts=30", *drops)


def play(source: Source, made: Assembler | None = None, ticks: int = 10**6) -> tuple[list[Sample], list[Any]]:
    """Everything the source gives at 50 Hz of virtual time, and the frames made of it (copied)."""
    source.open(VirtualClock(), 0)
    samples: list[Sample] = []
    frames: list[Any] = []
    for k in range(ticks):
        found = source.poll(k * STEP * 1000)
        samples += found
        if made is not None:
            for sample in found:
                made.take(sample)
            frame = made.frame(source.origin_us + k * STEP)
            frames.append((frame.t_us, frame.values.copy(), frame.mask.copy()))
        if source.ended:
            break
    source.close()
    return samples, frames


@pytest.mark.parametrize("session", ["session-0000", "session-0001"])
def test_frames_are_the_rows_of_the_file_values_and_masks(sessions: Path, session: str) -> None:
    found = read_frames(sessions)
    rows = next(s for s in found.sessions if s.session_id == session).slice
    (source,) = open_source(str(sessions), session=session)
    samples, frames = play(source, Assembler.of([source], transport=Transport()))
    given = [s for s in samples if s.kind == "inputs"]
    np.testing.assert_array_equal([s.t_us for s in given], found.t_us[rows])
    np.testing.assert_array_equal(np.stack([s.values for s in given]), found.x[rows])
    np.testing.assert_array_equal([f[0] for f in frames], found.t_us[rows])
    np.testing.assert_array_equal(np.stack([f[1] for f in frames]), found.x[rows])
    np.testing.assert_array_equal(np.stack([f[2] for f in frames]), found.mask[rows])
    assert 0.02 < (~found.mask[rows]).mean() < 0.6
    assert [s.t_us for s in samples] == sorted(s.t_us for s in samples)


def test_a_late_loop_gets_every_row_once_and_keeps_the_newest(sessions: Path) -> None:
    source = replay.frames(sessions, "session-0000")
    source.open(VirtualClock(), 0)
    sizes = [len([s for s in source.poll(k * 170_000_000) if s.kind == "inputs"]) for k in range(400)]
    assert sum(sizes) == len(read_frames(sessions).x) // 2 and sizes[1] in (8, 9) and source.ended
    assert source.poll(10**15) == []


def test_repeats_go_on_in_time_and_in_beats(sessions: Path) -> None:
    once = replay.frames(sessions, "session-0001")
    thrice = replay.frames(sessions, "session-0001", repeats=3)
    n = len([s for s in play(once)[0] if s.kind == "inputs"])
    samples, _ = play(thrice)
    t = [s.t_us for s in samples if s.kind == "inputs"]
    assert len(t) == 3 * n and np.all(np.diff(t) == STEP) and t[-1] == thrice.end_us
    assert len([s for s in samples if s.kind == "beat"]) == 3 * len([s for s in play(replay.frames(sessions, "session-0001"))[0] if s.kind == "beat"])  # fmt: skip


def test_the_beats_of_a_recording_lead_a_transport_that_follows() -> None:
    rps, mapper, source = demo()
    assert (rps / "model.json").is_file() and (mapper / "model.json").is_file()
    transport = Transport(bpm=100.0, leader="osc")
    made = Assembler.of([source], transport=transport)
    _, frames = play(source, made)
    assert transport.bpm == pytest.approx(112.0, abs=0.1)
    off = np.array([v[10] - transport.phase(t)[0] for t, v, _ in frames[-1:]])
    assert np.abs((off + 0.5) % 1 - 0.5).max() < 0.01


def test_sessions_are_chosen_by_name_and_the_others_said(sessions: Path) -> None:
    first = replay.frames(sessions)
    assert any("session-0000" in line and "synthetic" in line for line in first.said())
    assert any("--session session-0001" in line for line in first.said())
    with pytest.raises(UsageError, match="has no session nobody: choose from session-0000, session-0001"):
        replay.frames(sessions, "nobody")


def test_the_mask_of_the_file_wins_over_its_values() -> None:
    x = np.full((3, 11), 0.5, np.float32)
    x[:, 6] = 80
    x[2, 9] = np.nan  # silence: the file says that it is measured
    masks = np.ones((3, 4), bool)
    masks[1] = [False, True, False, False]
    source = replay.Replay("x", "inputs", np.arange(3) * STEP, x, whole=True, masks=masks)
    _, frames = play(source, Assembler.of([source]))
    np.testing.assert_array_equal([v for _, v, _ in frames], x)
    np.testing.assert_array_equal([m for _, _, m in frames], masks)


@pytest.mark.parametrize(
    ("file", "kind"),
    [("frames.parquet", "inputs"), ("packets.jsonl", "inputs"), ("poses.jsonl", "pose"), ("poses.parquet", "pose"),
     ("poses.csv", "pose"), ("dance.bvh", "pose"), ("mediapipe.csv", "pose"), ("mediapipe.json", "pose"),
     ("coco.json", "pose"), ("arkit.json", "pose"), ("heart_rate.csv", "hr"), ("heart_rate.jsonl", "hr"),
     ("garmin.csv", "hr"), ("garmin_acc.csv", "accel"), ("empatica/ACC.csv", "accel"), ("empatica/HR.csv", "hr"),
     ("music.flac", "audio"), ("music.wav", "audio"), ("pairs.json", "inputs")],
)  # fmt: skip
def test_every_recording_is_played_to_its_end(file: str, kind: str) -> None:
    (source,) = open_source(str(DATA / file))
    assert source.kinds[0] == kind and source.origin_us % STEP == 0
    made = Assembler.of([source])
    samples, _ = play(source, made)
    given = [s for s in samples if s.kind == kind]
    assert source.ended and given and made.counts == {}
    t = [s.t_us for s in given]
    assert t == sorted(set(t)) and (kind == "pose") == (source.body is not None)
    assert len(source.said()[0]) > 20 and file in source.said()[0]


def test_poses_played_give_the_frames_of_the_offline_extraction() -> None:
    path = DATA / "poses.jsonl"
    file = File.of(path)
    stream: Any = registry.recognise(file.head, file.name, file.size).read(file)  # type: ignore[misc]
    grid = Grid.covering(int(stream.t_us[0]), int(stream.t_us[-1]))
    offline = extract_pose(stream.t_us, stream.xyz, stream.joints, grid, up=stream.up, units=stream.units)
    (source,) = open_source(str(path))
    made = Assembler.of([source], offline.scale)
    seen: dict[int, np.ndarray] = {}
    source.open(VirtualClock(), 0)
    for k in range(10_000):
        for sample in source.poll(k * 1_000_000):  # a millisecond: every sample alone
            for t, row in made._motion.push(sample.t_us, sample.values):
                seen[t] = row
        if source.ended:
            break
    assert list(seen) == grid.t_us.tolist()
    np.testing.assert_array_equal(np.stack(list(seen.values())), offline.values)
    assert np.isfinite(offline.values[-1, 0])


def test_accelerations_without_a_unit_are_refused(tmp_path: Path) -> None:
    from choreo_cli.live.pose_source import acceleration_factor

    assert acceleration_factor("g", tmp_path) == np.float32(9.80665)
    with pytest.raises(FormatError, match="acceleration in no unit, need m/s"):
        acceleration_factor("", tmp_path)


@pytest.mark.parametrize(
    ("spec", "kind", "message"),
    [
        ("nowhere.parquet", NoInputError, "no source nowhere.parquet: a source is FILE"),
        ("osc:", UsageError, "nothing is not a port: osc:PORT or osc:PORT:PRESET"),
        ("osc:99999", UsageError, "99999 is not a port"),
        ("lsl:", UsageError, "no stream is named: lsl:NAME"),
        ("audio:", UsageError, "no file is named: audio:FILE"),
        ("audio:nowhere.wav", NoInputError, "no sound file nowhere.wav"),
        ("-", UsageError, "nothing is on stdin"),
        (str(DATA / "playlist.json"), UsageError, "cannot be played: need frames, poses, heart rate, sound"),
        (str(DATA / "status.json"), UsageError, "cannot be played"),
    ],
)
def test_a_source_that_is_none_is_refused_in_one_line(spec: str, kind: type[ChoreoError], message: str) -> None:
    with pytest.raises(kind) as caught:
        open_source(spec)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_several_recordings_keep_their_distances_on_one_clock(sessions: Path) -> None:
    frames, heart = replay.frames(sessions, "session-0000"), open_source(str(DATA / "heart_rate.csv"))[0]
    pipe = PacketPipe(io.BytesIO(b""))
    assert frames.origin_us != heart.origin_us
    origin = align([frames, heart, pipe])
    assert origin == 0 and {s.origin_us for s in (frames, heart, pipe)} == {0}
    first = read_frames(sessions).t_us[0]
    frames.open(VirtualClock(), 0)
    assert frames.poll((int(first) - 1) * 1000) == []
    assert frames.poll(int(first) * 1000)[0].t_us == first


def line(t_us: int, energy: float = 0.5, mask: int = 1) -> bytes:
    values = [energy, 2.0, 0.1, *[None] * 8]
    return json.dumps({"t_us": t_us, "t_arrival_us": t_us, "values": values, "mask": mask}).encode() + b"\n"


def test_plain_lines_of_packets_are_a_recording_too(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_bytes(b"".join(line(7_000_000 + k * STEP, k / 100) for k in range(50)))
    assert is_packet_lines(path.read_bytes()[:200]) and not is_packet_lines((DATA / "poses.jsonl").read_bytes()[:400])
    (source,) = open_source(str(path))
    samples, frames = play(source, Assembler.of([source]))
    assert source.origin_us == 7_000_000
    np.testing.assert_array_equal([s.values[0] for s in samples], (np.arange(50) / 100).astype(np.float32))
    assert all(m.tolist() == [True, False, False, False] for _, _, m in frames)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (line(0) + line(0), "times do not increase"),
        (line(0) + b'{"t_us": 20000}\n', "line 2"),
        (line(0) + line(20_000)[:-10], "line 2"),
        (b'{"schema":"choreo.packets/1"}\n{"kind"', "cut or damaged"),
        (line(0, 7.0), "outside 0 to 1"),
    ],
)
def test_a_damaged_packet_file_names_its_line(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "p.jsonl"
    path.write_bytes(data)
    with pytest.raises(FormatError) as caught:
        open_source(str(path))
    assert message in str(caught.value).replace("row", "line").replace(f"{path}:", "line ")


def test_a_recording_in_a_pipe_is_paced_by_its_stamps_in_virtual_time() -> None:
    data = b"".join(line(5_000_000 + k * STEP, k / 5000) for k in range(5000))  # more than the queue holds
    pipe = PacketPipe(io.BytesIO(data + b"not json\n\n"))
    made = Assembler.of([pipe])
    samples, frames = play(pipe, made)
    assert [s.t_us for s in samples] == [k * STEP for k in range(5000)]
    assert [s.t_sensor_us for s in samples[:2]] == [5_000_000, 5_020_000]
    assert len(frames) in (5000, 5001) and all(m[0] for _, _, m in frames[:5000])
    assert pipe.facts() | {"first_refused": ""} == {
        "samples": 5000, "drops": 0, "refused": 1, "late": 0, "first_refused": "",
    }  # fmt: skip


class Handed:
    """A stream whose lines are handed over one by one."""

    def __init__(self) -> None:
        self.read_fd, self.write_fd = os.pipe()
        self.stream = os.fdopen(self.read_fd, "rb")

    def say(self, data: bytes) -> None:
        os.write(self.write_fd, data)


class Settable(MonotonicClock):
    """Counts as real time, and stands still."""

    def __init__(self) -> None:
        super().__init__()
        self.at = 0

    def now_ns(self) -> int:
        return self.at


def wait_for(condition: Any) -> None:
    gate = threading.Event()
    for _ in range(500):
        if condition():
            return
        gate.wait(0.01)
    raise AssertionError("it never came")


def test_a_sensor_in_a_pipe_is_due_when_it_comes_and_its_clock_may_run_ahead() -> None:
    handed, clock = Handed(), Settable()
    pipe = PacketPipe(handed.stream)
    pipe.open(clock, 0)
    got: list[Sample] = []

    def step(at_ms: int, data: bytes) -> None:
        clock.at = at_ms * 1_000_000
        before = len(pipe._queue)
        handed.say(data)
        wait_for(lambda: len(pipe._queue) > before)
        got.extend(pipe.poll(clock.at))

    step(1000, line(50_000_000))
    step(1020, line(50_020_000))
    step(3000, line(52_000_000))  # more than a second of real time: it is a sensor
    step(3020, line(52_050_000))  # 30 ms ahead of us: measured now
    step(3040, line(52_069_000))  # and its clock is believed from there on
    step(9000, line(53_000_000))  # five seconds behind: it stood still
    assert [s.t_us for s in got] == [1_000_000, 1_020_000, 3_000_000, 3_020_000, 3_039_000, 9_000_000]
    assert pipe.poll(clock.at) == [] and not pipe.ended
    os.close(handed.write_fd)
    wait_for(lambda: pipe.ended)
    pipe.close()
    pipe.close()


def test_a_live_pipe_drops_the_oldest_when_the_loop_stands_still() -> None:
    from choreo_cli.live.packet_source import QUEUE

    handed, clock = Handed(), Settable()
    pipe = PacketPipe(handed.stream)
    pipe.open(clock, 0)
    pipe._recording = False
    data = [line(k * 1000) for k in range(QUEUE + 500)]
    for a in range(0, len(data), 100):
        handed.say(b"".join(data[a : a + 100]))
    wait_for(lambda: pipe.facts()["drops"] == 500)
    assert len(pipe._queue) == QUEUE
    os.close(handed.write_fd)
    pipe.close()


def test_the_demo_is_what_its_readme_says(tmp_path: Path) -> None:
    folder = examples() / "live"
    command = next(x for x in (folder / "README.md").read_text().splitlines() if x.startswith("    choreo synth"))
    made = synth(tmp_path / "again", *(w for w in command.split()[3:] if w not in ("-o", "demo", "--frames-only")))
    again, kept = made / "session-0000" / "frames.parquet", folder / "demo_frames.parquet"
    assert hashlib.sha256(again.read_bytes()).digest() == hashlib.sha256(kept.read_bytes()).digest()
    assert kept.stat().st_size < 200_000
    source = demo()[2]
    assert source.name == "demo" and (source.end_us - source.origin_us) / 1e6 <= 60


def test_what_the_demo_needs_is_named_in_the_wheel() -> None:
    import tomllib

    shared = tomllib.loads((TOP / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"][
        "shared-data"
    ]
    for at in shared:
        assert (TOP / at).exists(), at
    assert shared["examples/checkpoints"] == "share/choreo/checkpoints"
    assert shared["examples/live/demo_frames.parquet"] == "share/choreo/live/demo_frames.parquet"
