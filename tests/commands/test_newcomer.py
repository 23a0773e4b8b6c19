"""What a newcomer tripped over: each of these was wrong once, tried by hand with the real program."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from choreo_cli.sessions.pair_report import Report
from formats.atomic import write_bytes
from formats.foreign.plain import classify

Run = Callable[..., subprocess.CompletedProcess[bytes]]
SYNTH = ("synth", "sessions", "--sessions", "1", "--minutes", "0.2", "-q", "-o")


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One short session and its inventory."""
    folder = tmp_path_factory.mktemp("disk")
    env = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
    for args in ((*SYNTH, "rec"), ("discover", "rec", "-q", "-o", "inv.json")):
        done = subprocess.run(
            [sys.executable, "-m", "choreo_cli", *args], cwd=folder, env=env, capture_output=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
    return folder


def test_output_into_a_pipe_leaves_it_a_pipe(tmp_path: Path) -> None:
    """`-o /dev/null` as root took the device away from the whole machine: a rename replaced it."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()), daemon=True)
    reader.start()
    write_bytes(pipe, b"whole")
    reader.join(5)
    assert got == [b"whole"]
    assert pipe.is_fifo() and os.listdir(tmp_path) == ["pipe"]


def test_closed_stdout_is_no_bug_of_ours(disk: Path) -> None:
    line = f"exec {sys.executable} -m choreo_cli discover rec -q >&-"
    done = subprocess.run(["/bin/sh", "-c", line], cwd=disk, stderr=subprocess.PIPE, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")


def test_moved_recordings_are_said_before_any_work(disk: Path, choreo: Run, tmp_path: Path) -> None:
    gone = choreo("pair", disk / "inv.json", "-o", tmp_path / "out", "--root", f"r0={tmp_path}/nowhere")
    assert gone.returncode == 66
    assert (
        gone.stderr.decode()
        == f"choreo pair: root r0: no folder {tmp_path}/nowhere: say where it lies: --root r0=DIR\n"
    )
    assert not (tmp_path / "out").exists()


def test_unknown_track_is_refused_by_name(disk: Path, choreo: Run, tmp_path: Path) -> None:
    """It left the dataset with exit 0 and without a word on stderr."""
    by_hand = tmp_path / "ov.csv"
    by_hand.write_text("session,track,offset_s\nsession-0000,music/nosuch.wav,-1\n")
    done = choreo("pair", disk / "inv.json", "-o", tmp_path / "out", "--overrides", by_hand)
    assert done.returncode == 65
    assert b"no track 'music/nosuch.wav'" in done.stderr and b"did you mean: music/track-0000.wav?" in done.stderr
    done = choreo("pair", disk / "inv.json", "-o", tmp_path / "out", "--track", "nosuch")
    assert done.returncode == 2 and done.stderr.count(b"\n") == 1
    assert b"--track no track 'nosuch': did you mean" in done.stderr


def test_track_by_its_file_name(disk: Path, choreo: Run, tmp_path: Path) -> None:
    done = choreo("pair", disk / "inv.json", "-o", tmp_path / "out", "--track", "track-0000.wav", "--table", "-q")
    assert done.returncode == 0, done.stderr
    assert b"music/track-0000.wav" in done.stdout
    text = (tmp_path / "out" / "report.md").read_text()
    assert "{" not in text and "['" not in text, "a person reads this, not a Python interpreter"


def test_table_beside_a_file(disk: Path, choreo: Run, tmp_path: Path) -> None:
    """`--table` promises a table even in a pipe; `-o` made it silent."""
    done = choreo("discover", disk / "rec", "-q", "--table", "-o", tmp_path / "i.json")
    assert done.stdout.startswith(b"kind") and done.stdout.rstrip().endswith(b"i.json")
    assert (tmp_path / "i.json").read_bytes().startswith(b'{"schema":"choreo.inventory/1"')


def test_array_is_not_called_damaged(tmp_path: Path) -> None:
    """The arrays of our own packs made `discover` over a dataset exit 3."""
    np.save(tmp_path / "x.npy", np.zeros(3))
    data = (tmp_path / "x.npy").read_bytes()
    assert classify(data, "x.npy", len(data)) == ("plain", "NumPy array, not a recording", None)
    assert classify(b"garbage\0", "x.npy", 8)[2] is not None


def test_report_has_words_for_every_value() -> None:
    text = Report(split={"pairs": {"train": 2}, "empty": ["val", "test"], "notes": ["a", "b"]}).to_markdown().decode()
    assert "- pairs: train 2\n- empty: val; test\n- notes: a; b\n" in text


def test_sound_beside_a_body_is_explained(disk: Path, choreo: Run, tmp_path: Path) -> None:
    """`found 1 audio ...; missing: no audio file` contradicted itself."""
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "dance.jsonl").write_bytes((disk / "rec/session-0000/poses.jsonl").read_bytes())
    (tmp_path / "d" / "dance.wav").write_bytes((disk / "rec/music/track-0000.wav").read_bytes()[:200_044])
    found = choreo("discover", tmp_path / "d", "-q")
    done = choreo("pair", "-o", tmp_path / "out", input=found.stdout)
    assert done.returncode == 1 and done.stderr.count(b"\n") == 1
    assert b"dance.wav lies beside a body" in done.stderr and b"no audio file" not in done.stderr
    assert "`dance.wav`: taken for what the microphone" in (tmp_path / "out" / "report.md").read_text()
