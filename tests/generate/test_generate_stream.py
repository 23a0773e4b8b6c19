"""Frames of a dance while it is made: as JSON Lines, and as OSC to a real receiver on the loopback."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from choreo_cli.live.osc import Message, decode
from choreo_cli.live.osc_pose import PoseReader, body_of
from choreo_cli.motion.choreo25 import decode_channels
from commands import generate_stream
from formats.motion_npz import Skeleton
from tests.generate.conftest import Run, one_line
from tests.generate.small_dancer import write_model, write_music

pytest.importorskip("torch")


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("stream")
    return write_model(folder / "flow"), write_music(folder / "song.wav")


def lines_of(data: bytes) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]:
    head, *rows, end = (json.loads(line) for line in data.splitlines())
    return head, rows, end


def test_lines_are_a_body_again(run: Run, stage: tuple[Path, Path], tmp_path: Path) -> None:
    done = run(*stage, "--stream", "-", "--seconds", 2, "-q")
    assert done.code == 0 and done.err == ""
    head, rows, end = lines_of(done.out)
    assert (head["schema"], head["layout"], head["fps"]) == ("choreo.rows/1", "choreo25", 30.0)
    assert end == {"end": True, "n": 60} and [r["t_us"] for r in rows] == [round(k * 1e6 / 30) for k in range(60)]
    x = np.array([r["channels"] for r in rows], np.float32)
    joints = decode_channels(x, Skeleton.of_vector(np.array(head["skeleton"])), head["fps"])
    down = x[:, 4:6] >= 0.5
    speed = np.linalg.norm(np.diff(joints[:, (7, 8)][..., (0, 2)], axis=0), axis=-1) * 30
    assert speed[down[1:] & down[:-1]].max(initial=0.0) <= 1e-3  # feet are held across windows, nothing is taken back
    assert run(*stage, "--stream", tmp_path / "rows.jsonl", "--seconds", 2, "-q").out == b""
    assert (tmp_path / "rows.jsonl").read_bytes() == done.out


def test_the_first_frames_leave_before_the_last_are_drawn(
    run: Run,
    stage: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from choreo_cli.generate.sampling import Sampler

    drawn: list[int] = []
    sent: list[int] = []
    own = Sampler.dance

    def counted(self: Sampler, *args: Any, **how: Any) -> Any:
        drawn.append(len(sent))
        return own(self, *args, **how)

    @contextmanager
    def sink(to: str, header: Any, frames: int) -> Iterator[Any]:
        yield lambda rows, n: sent.append(n)

    monkeypatch.setattr(Sampler, "dance", counted)
    monkeypatch.setattr(generate_stream, "_lines", sink)
    assert run(*stage, "--stream", "-", "--seconds", 2, "-q").code == 0
    assert sent == list(range(60))
    assert drawn == [0, 14, 24, 34, 44, 54]  # every window is drawn when those before it have left


class Receiver:
    """A UDP socket of its own that keeps what it hears until the dance ends."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(60)
        self.port = self.socket.getsockname()[1]
        self.heard: list[Message] = []
        self.thread = threading.Thread(target=self._listen)
        self.thread.start()

    def _listen(self) -> None:
        while not self.heard or self.heard[-1].address != "/choreo/motion/end":
            self.heard += decode(self.socket.recv(8192))

    def done(self) -> list[Message]:
        self.thread.join(60)
        self.socket.close()
        return self.heard


def test_a_receiver_gets_every_frame_as_osc(run: Run, stage: tuple[Path, Path]) -> None:
    wanted = lines_of(run(*stage, "--stream", "-", "--seconds", 1, "-q").out)
    x = np.array([r["channels"] for r in wanted[1]], np.float32)
    joints = decode_channels(x, Skeleton.of_vector(np.array(wanted[0]["skeleton"])), 30.0)
    receiver = Receiver()
    assert run(*stage, "--stream", f"osc:{receiver.port}", "--pace", "made", "--seconds", 1, "-q").code == 0
    heard = receiver.done()
    assert heard[0] == Message("/choreo/motion/start", (30.0, pytest.approx(1.7)))
    assert heard[-1] == Message("/choreo/motion/end", (30,))
    motion = [m.args for m in heard if m.address == "/choreo/motion"]
    assert [m[0] for m in motion] == list(range(30)) and motion[15][1] == pytest.approx(0.5)
    assert np.array([m[2:] for m in motion], np.float32).tobytes() == x.tobytes()
    # run-live reads the poses as --source osc: --body canonical22
    reader = PoseReader(body_of("canonical22"))
    poses = np.array([reader.pose(m) for m in heard if m.address == "/choreo/pose"])
    np.testing.assert_allclose(poses, joints, atol=2e-3)


@pytest.mark.parametrize("there", [True, False])
def test_a_full_disk_leaves_no_part_of_a_dance(
    run: Run, stage: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    class Full(io.FileIO):
        def write(self, data: Any) -> int:
            if self.tell() > 2000:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(data)

    made: list[Full] = []
    monkeypatch.setattr(generate_stream, "_created", lambda path: made.append(Full(path, "w")) or made[-1])
    file = tmp_path / "rows.jsonl"
    if there:
        (tmp_path / "elsewhere").touch()
        file.symlink_to("elsewhere")
    done = run(*stage, "--stream", file, "--seconds", 1, "-q")
    one_line(done, 74, "nothing half-written is left")
    assert made[0].closed and file.is_symlink() is there, "a link is another's: what it leads to stays"
    assert [p.name for p in tmp_path.iterdir() if not there] == []


def test_a_dance_that_is_stopped_does_not_say_that_it_is_whole(
    run: Run, stage: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from choreo_cli.motion import capture_job

    line = capture_job.row_line

    def stopped(t_us: int, row: Any) -> bytes:
        if t_us == 400_000:
            signal.raise_signal(signal.SIGINT)
        return line(t_us, row)

    monkeypatch.setattr(capture_job, "row_line", stopped)
    assert run(*stage, "--stream", tmp_path / "rows.jsonl", "--seconds", 1).code == 130
    head, *rows = (json.loads(row) for row in (tmp_path / "rows.jsonl").read_bytes().splitlines())
    assert head["schema"] == "choreo.rows/1" and [r["t_us"] for r in rows][-1] == 400_000 and len(rows) == 13


def test_frames_keep_the_time_of_the_music(monkeypatch: pytest.MonkeyPatch) -> None:
    now, slept = [100.0], []

    def sleep(s: float) -> None:
        slept.append(s)
        now[0] += s

    monkeypatch.setattr(generate_stream.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(generate_stream.time, "sleep", sleep)
    wait = generate_stream._clock(10.0)
    wait(0)
    now[0] += 0.03
    wait(1)
    now[0] += 0.25  # a window took long: nothing is skipped, and the time is caught up with
    wait(2)
    wait(3)
    wait(4)
    np.testing.assert_allclose(slept, [0, 0.07, 0, 0, 0.05], atol=1e-9)


def test_nobody_listening_is_no_fault(run: Run, stage: tuple[Path, Path]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert run(*stage, "--stream", f"osc:{port}", "--pace", "made", "--seconds", 1, "-q").code == 0


def test_a_reader_that_has_enough_ends_it(stage: tuple[Path, Path]) -> None:
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    command = [sys.executable, "-m", "choreo_cli", "generate", *map(str, stage), "--stream", "-", "-q"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env) as made:
        assert made.stdout is not None and made.stderr is not None
        assert json.loads(made.stdout.readline())["schema"] == "choreo.rows/1"
        made.stdout.close()
        assert made.stderr.read() == b"" and made.wait(60) == 141


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (["--stream", "osc:"], 2, "--stream osc:: no port"),
        (["--stream", "osc:70000"], 2, "--stream osc:70000: no port"),
        (["--stream", "-", "--pace", "slow"], 2, "--pace 'slow'"),
        (["--stream", "-", "-o", "x"], 2, "--stream keeps nothing"),
        (["--stream", "-", "--overlap", 4], 2, "--stream goes on after each window"),
        (["--stream", "-", "--to", "bvh"], 2, "--stream sends frames, no bvh"),
        (["--stream", "-", "--clips", "2"], 2, "--stream sends one dance"),
        (["--stream", "none/rows.jsonl"], 73, "rows.jsonl"),
        ([], 2, "missing option '-o'"),
    ],
)
def test_a_stream_that_cannot_be_is_said(
    run: Run,
    stage: tuple[Path, Path],
    more: list[str],
    code: int,
    message: str,
) -> None:
    one_line(run(*stage, *more), code, message)
