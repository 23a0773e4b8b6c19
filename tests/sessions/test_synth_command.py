"""`choreo synth sessions` as a program: bytes, codes, sentences."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from formats.manifest import decode

Run = Callable[..., CompletedProcess[bytes]]
SHORT = ("synth", "sessions", "--minutes", "0.1", "--scratch-snr", "5")


def digests(folder: Path) -> dict[str, str]:
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name not in ("sessions.run.json", ".choreo.lock")
    }


def test_stdout_is_the_manifest_and_the_manifest_is_last(choreo: Run, tmp_path: Path) -> None:
    done = choreo(*SHORT, "--sessions", 2, "-o", "out")
    assert (done.returncode, done.stderr) == (0, b"")
    data = (tmp_path / "out/sessions.json").read_bytes()
    assert done.stdout == data
    entries = decode(data).entries
    assert [e["session_id"] for e in entries] == ["session-0000", "session-0001"]
    found = digests(tmp_path / "out")
    for e in entries:
        assert all(found[name] == sha for name, sha in e["files"].items())
    again = choreo(*SHORT, "--sessions", 2, "-o", "out")
    assert again.stdout == data


def test_bytes_do_not_depend_on_the_surroundings(choreo: Run, tmp_path: Path) -> None:
    for name, env in {
        "a": {"PYTHONHASHSEED": "1", "TZ": "UTC", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        "b": {"PYTHONHASHSEED": "77", "TZ": "Pacific/Auckland", "OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"},
    }.items():
        assert choreo(*SHORT, "--sessions", 1, "-o", "out", env=env).returncode == 0
        (tmp_path / "out").rename(tmp_path / name)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")


def test_more_sessions_leave_the_first_five_alone(choreo: Run, tmp_path: Path) -> None:
    for n in (5, 6):
        assert choreo("synth", "sessions", "--minutes", "0.1", "--sessions", n, "-o", str(n)).returncode == 0
    five, six = digests(tmp_path / "5"), digests(tmp_path / "6")
    assert sorted(n for n in five if five[n] != six[n]) == ["music/playlist.json", "sessions.json"]
    old, new = (decode((tmp_path / str(n) / "sessions.json").read_bytes()).entries for n in (5, 6))
    assert new[:5] == old


def test_fewer_sessions_leave_no_stale_recording(choreo: Run, tmp_path: Path) -> None:
    for n in (3, 1):
        assert choreo("synth", "sessions", "--minutes", "0.1", "--sessions", n, "-o", "out").returncode == 0
    left = {name.split("/")[0] for name in digests(tmp_path / "out") if "/" in name}
    assert left == {"music", "session-0000"}


def test_partners_are_named(choreo: Run, tmp_path: Path) -> None:
    done = choreo("synth", "sessions", "--minutes", "0.1", "--sessions", 2, "--decoupled", "--frames-only", "-o", "out")
    assert done.returncode == 0
    for i in range(2):
        meta = json.loads((tmp_path / f"out/session-{i:04d}/meta.json").read_text())
        assert meta["decoupled"] is True and meta["synthetic"] is True
        assert meta["partners"][0]["name"] == f"session-{i:04d}-partner"
        assert 0.03 <= abs(meta["partners"][0]["bpm"] / meta["bpm"] - 1) <= 0.1
        assert len(meta["bounds"]) == 11 and meta["sections"] and "gestures" in meta
    assert not (tmp_path / "out/music").exists()


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (("-o", "x", "--bpm", "fast"), "--bpm 'fast' is not a list of numbers: separate them by commas"),
        (("-o", "x", "--dropout", "mot"), "--dropout 'mot' is not MODALITY=FRACTION, once each"),
        (("-o", "x", "--sessions", "0"), "--sessions 0 is outside 1..10000"),
        (("-o", "x", "--bpm", "nan"), "--bpm nan is outside 40..240"),
    ],
)
def test_bad_arguments(choreo: Run, args: tuple[str, ...], sentence: str, tmp_path: Path) -> None:
    done = choreo("synth", "sessions", *args)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.decode().rstrip("\n").endswith(f": {sentence}") and done.stderr.count(b"\n") == 1
    assert not (tmp_path / "x").exists()


def test_the_output_folder_is_required(choreo: Run) -> None:
    done = choreo("synth", "sessions")
    assert done.returncode == 2 and b"--out" in done.stderr
