"""`choreo distill` as a user starts it: named and piped, in two processes, killed, moved, and given what does not fit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from launching import TOP, TWO, dances, finished, kill, start, wait_for, weights  # noqa: E402

from choreo_cli import app  # noqa: E402
from choreo_cli.errors import ChoreoError, ExitCode  # noqa: E402
from choreo_cli.generate.open_model import open_sampler  # noqa: E402
from choreo_cli.motion.choreo25 import encode  # noqa: E402
from choreo_cli.motion.dancer import choreograph, poses, write_score  # noqa: E402
from formats import motion_npz  # noqa: E402
from formats.errors import FormatError  # noqa: E402

SMALL = ("batch=8", "warmup=2", "structure_clips=2", "val_windows=6", "checkpoint_s=0.001")
METHODS = {"consistency": (), "regression": ("pairs=24",), "shortcut": ()}


@pytest.fixture(scope="module")
def motions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of short procedural dances without music."""
    return dances(tmp_path_factory.mktemp("motions"), frames=60)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory, motions: Path) -> Path:
    """A run of `choreo train flow` that was hardly trained."""
    out = tmp_path_factory.mktemp("teacher") / "flow"
    sets = [w for c in ("audio=false", "frames=16", "steps=2", *SMALL) for w in ("--set", c)]
    assert app.run(["train", "flow", str(motions), *sets, "-o", str(out), "-q"]) == 0
    return out


def words_of(teacher: Path, out: Path, method: str, *changes: str) -> list[str]:
    sets = [w for c in (*SMALL, *METHODS[method], *changes) for w in ("--set", c)]
    return ["distill", str(teacher), "--method", method, *sets, "-o", str(out), "-q"]


@pytest.mark.parametrize("method", METHODS)
def test_a_run_becomes_a_student_of_one_two_and_four_steps(
    teacher: Path, tmp_path: Path, method: str, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    words = words_of(teacher, tmp_path / "student", method, "steps=2")
    assert app.run(words) == 0
    doc = json.loads(capsysbinary.readouterr().out)
    entry, made_by = doc["entries"][0], doc["created_by"]
    assert entry["recipe"] == "distilled" and made_by["command"] == f"distill {method}"
    assert [p["role"] for p in entry["parents"]] == ["teacher"] and entry["data"]["windows"]["train"] > 0
    assert {i["role"] for i in made_by["inputs"]} == {"teacher", "motions"}
    assert any(name.startswith("pairs/") for name in entry["files"]) is (method == "regression")
    sampler = open_sampler(tmp_path / "student")
    for steps in (1, 2, 4):
        drawn = sampler.sample(None, clips=2, steps=steps)
        assert np.isfinite(drawn).all() and drawn.shape == (2, 16, 25) and sampler.nfe == sampler.rows == steps
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "student").rglob("*") if p.is_file() and p.name[0] != "."}
    assert app.run(words) == 0 and json.loads(capsysbinary.readouterr().out) == doc
    assert before == {p: p.stat().st_mtime_ns for p in before}


def test_a_piped_run_and_named_motions_make_the_same_student(teacher: Path, motions: Path, tmp_path: Path) -> None:
    assert app.run(words_of(teacher, tmp_path / "named", "consistency", "steps=1")) == 0
    again = words_of(teacher / "model.json", tmp_path / "again", "consistency", "steps=1")
    assert app.run([*again[:2], str(motions), *again[2:]]) == 0
    piped = words_of(Path("-"), tmp_path / "piped", "consistency", "steps=1")
    child = subprocess.run(
        [sys.executable, "-m", "choreo_cli", *piped], input=(teacher / "run.json").read_bytes(), capture_output=True,
        env={**os.environ, "PYTHONPATH": str(TOP)}, timeout=120, check=False,
    )  # fmt: skip
    assert child.returncode == 0, child.stderr
    assert weights(tmp_path / "named") == weights(tmp_path / "piped") == weights(tmp_path / "again")


def test_of_a_teacher_of_several_seeds_the_one_of_the_same_seed_is_taken(motions: Path, tmp_path: Path) -> None:
    sets = [w for c in ("audio=false", "frames=16", "steps=1", *SMALL) for w in ("--set", c)]
    assert app.run(["train", "flow", str(motions), *sets, "--seeds", "0,1", "-o", str(tmp_path / "flow"), "-q"]) == 0
    words = words_of(tmp_path / "flow", tmp_path / "small", "consistency", "steps=1")
    assert app.run([*words, "--seeds", "0,1"]) == 0
    summary = json.loads((tmp_path / "small" / "run.json").read_bytes())
    assert [e["parents"][0]["path"] for e in summary["entries"]] == ["seed-0", "seed-1"]
    hashes = [e["parents"][0]["sha256"] for e in summary["entries"]]
    assert len(set(hashes)) == 2
    assert app.run([*words_of(tmp_path / "flow", tmp_path / "other", "consistency", "steps=1"), "--seed", "7"]) == 0
    entry = json.loads((tmp_path / "other" / "run.json").read_bytes())["entries"][0]
    assert entry["parents"][0]["path"] == "seed-0"
    assert entry["data"]["notes"][0] == "no teacher of seed 7: took the one of seed 0"


def said(words: list[str]) -> tuple[int, str]:
    """Exit code and sentence of what is refused."""
    with pytest.raises((ChoreoError, FormatError)) as e:
        app.run(words)
    return int(getattr(e.value, "code", ExitCode.DATA)), str(e.value)


def test_what_does_not_fit_is_one_line_and_leaves_nothing(teacher: Path, motions: Path, tmp_path: Path) -> None:
    student = tmp_path / "student"
    assert app.run(words_of(teacher, student, "shortcut", "steps=1")) == 0
    alone = tmp_path / "alone"
    alone.mkdir()
    for name in ("model.json", "model.safetensors"):
        (alone / name).write_bytes((teacher / name).read_bytes())
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "model.json").write_bytes((teacher / "model.json").read_bytes())
    torn = bytearray(weights(teacher))
    torn[-5] ^= 1
    (damaged / "model.safetensors").write_bytes(torn)
    lost = tmp_path / "lost"
    lost.mkdir()
    for p in teacher.iterdir():
        if p.is_file() and p.name[0] != ".":
            (lost / p.name).write_bytes(p.read_bytes())
    out = tmp_path / "out"
    tails: dict[str, tuple[list[str], int, str]] = {
        "student": ([str(student)], 2, "the run is distilled, need flow or ddim"),
        "bare": ([str(alone)], 2, "does not say what it was trained on: name the motions after it"),
        "damaged": ([str(damaged), str(motions)], 65, "not the weights that model.json names"),
        "nothing": ([str(tmp_path / "none")], 66, "no file or folder"),
        "method": ([str(teacher), "--method", "magic"], 2, "no method 'magic'"),
        "setting": ([str(teacher), "--method", "shortcut", "--set", "points=3"], 2, "points: no such setting"),
        "ladder": ([str(teacher), "--method", "shortcut", "--set", "ladder=48"], 2, "ladder=48"),
        "motions": ([str(motions), "--method", "shortcut"], 65, "no checkpoint here"),
        "moved": ([str(lost), "--root", f"data={tmp_path / 'gone'}"], 66, "--root data=DIR"),
        "short": ([str(teacher), str(_still(tmp_path))], 65, "no clip has 16 frames"),
    }
    for name, (tail, code, sentence) in tails.items():
        found = said(["distill", *tail, "-o", str(out), "-q"])
        assert found[0] == code and sentence in found[1] and "\n" not in found[1], (name, found)
        assert not out.exists(), name


def _still(folder: Path) -> Path:
    place = folder / "short"
    place.mkdir()
    rng = np.random.default_rng(0)
    joints = poses(choreograph(write_score(np.arange(0.0, 4, 0.5), 0.7, rng), rng, height_m=1.7), np.arange(9) / 30 + 1)
    motion_npz.write(place / "d.npz", encode(joints, 30.0))
    return place


def test_music_that_is_missing_or_of_another_width_is_one_line(motions: Path, tmp_path: Path) -> None:
    from test_generate_open import model

    out = tmp_path / "out"
    listens = model(tmp_path / "listens", audio_features=["a", "b", "c", "d"])
    code, text = said(["distill", str(listens), str(motions), "-o", str(out), "-q"])
    assert code == 65 and "no clip has music" in text and "\n" not in text
    with_music = tmp_path / "with-music"
    with_music.mkdir()
    for p in sorted(motions.glob("d?.npz")):
        (with_music / p.name).write_bytes(p.read_bytes())
        np.save(with_music / f"{p.stem}.music.npy", np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32))
    code, text = said(["distill", str(listens), str(with_music), "-o", str(out), "-q"])
    assert code == 65 and "3 audio features a frame, the teacher listens to 4" in text and not out.exists()


def test_a_dry_run_says_what_and_writes_nothing(
    teacher: Path, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert app.run([*words_of(teacher, tmp_path / "x", "regression", "epochs=2"), "--dry-run"]) == 0
    found = json.loads(capsysbinary.readouterr().out)
    assert found["items"] == 24 and found["steps"] == 6 and found["recipe"] == "distilled"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_two_processes_distil_by_the_same_command(teacher: Path, tmp_path: Path) -> None:
    """They make the teacher's samples together, too."""
    pytest.importorskip("accelerate")
    words = words_of(teacher, tmp_path / "two", "regression", "steps=3", "pairs=520")
    done: dict[str, Any] = json.loads(finished(start(words, TWO)))
    entry = done["entries"][0]
    assert entry["state"] == "done" and entry["steps"] == 3 and done["created_by"]["params"]["processes"] == 2
    assert app.run(words_of(teacher, tmp_path / "one", "regression", "steps=1", "pairs=520")) == 0
    names = [f"pairs-{k:06d}.parquet" for k in range(3)]
    for name in names:
        assert (tmp_path / "one" / "pairs" / name).read_bytes() == (tmp_path / "two" / "pairs" / name).read_bytes()
    assert open_sampler(tmp_path / "two").sample(None, clips=1).shape == (1, 16, 25)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("launcher", [(), TWO], ids=["one", "two"])
def test_killed_at_any_step_it_goes_on_to_the_same_bits(
    teacher: Path, tmp_path: Path, launcher: tuple[str, ...], method: str
) -> None:
    changes = ("epochs=40",)
    finished(start(words_of(teacher, tmp_path / "whole", method, *changes), launcher))
    torn = tmp_path / "torn"
    for steps in (2, 7, 15):
        child = start(words_of(teacher, torn, method, *changes), launcher)
        try:
            wait_for(child, torn, steps)
        finally:
            kill(child)
        assert list((torn / "state").glob("*.json")) and not (torn / "run.json").exists()
    finished(start(words_of(teacher, torn, method, *changes), launcher))
    assert weights(torn) == weights(tmp_path / "whole")
    assert (torn / "log.jsonl").read_bytes() == (tmp_path / "whole" / "log.jsonl").read_bytes()


@pytest.mark.slow
def test_killed_and_stopped_while_samples_are_made_it_goes_on_with_the_next(teacher: Path, tmp_path: Path) -> None:
    words = words_of(teacher, tmp_path / "torn", "regression", "pairs=8192", "steps=1", "val_windows=2")
    place = tmp_path / "torn" / "pairs"
    begun: dict[str, int] = {}
    for name in ("SIGKILL", "SIGTERM"):
        child, deadline = start(words), time.monotonic() + 120
        try:
            while len(list(place.glob("pairs-*"))) < len(begun) + 2:
                assert time.monotonic() < deadline and child.poll() is None
                time.sleep(0.005)
        finally:
            child.send_signal(getattr(signal, name))
            child.communicate(timeout=60)
        assert child.returncode == (-9 if name == "SIGKILL" else 143)
        whole = sorted(place.glob("pairs-*"))
        assert (
            begun.keys() <= {p.name for p in whole} and len(whole) < 32 and not (tmp_path / "torn" / "state").exists()
        )
        assert all((place / n).stat().st_mtime_ns == when for n, when in begun.items())
        begun = {p.name: p.stat().st_mtime_ns for p in whole}
    assert app.run(words) == 0
    assert all((place / n).stat().st_mtime_ns == when for n, when in begun.items())
    assert not list(place.glob(".*.tmp")) and len(list(place.glob("pairs-*"))) == 32


@pytest.mark.slow
def test_stopped_by_a_signal_and_moved_it_goes_on_elsewhere(teacher: Path, motions: Path, tmp_path: Path) -> None:
    """Run, teacher and motions lie at other paths then; another number of processes is another, recorded run."""
    words = words_of(teacher, tmp_path / "torn", "consistency", "epochs=40")
    finished(start(words_of(teacher, tmp_path / "whole", "consistency", "epochs=40")))
    child = start(words)
    wait_for(child, tmp_path / "torn", 3)
    child.send_signal(signal.SIGTERM)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 143, err
    there = tmp_path / "another machine"
    there.mkdir()
    (tmp_path / "torn").rename(there / "student")
    for name, source in (("flow", teacher), ("motions", motions)):
        (there / name).mkdir()
        for p in source.iterdir():
            if p.is_file():
                (there / name / p.name).write_bytes(p.read_bytes())
    moved = words_of(there / "flow", there / "student", "consistency", "epochs=40")
    finished(start([*moved, "--root", f"data={there / 'motions'}"]))
    assert weights(there / "student") == weights(tmp_path / "whole")


@pytest.mark.slow
def test_what_two_processes_began_one_goes_on_with_and_records_it(teacher: Path, tmp_path: Path) -> None:
    words = words_of(teacher, tmp_path / "torn", "shortcut", "epochs=40")
    child = start(words, TWO)
    wait_for(child, tmp_path / "torn", 3)
    child.send_signal(signal.SIGTERM)
    child.communicate(timeout=60)
    done = start([w for w in words if w != "-q"])
    out, err = done.communicate(timeout=240)
    assert done.returncode == 0, err
    assert "2 processes began what 1 go on with at step" in err
    (first, two), (then, one) = json.loads(out)["entries"][0]["data"]["processes"]
    assert (first, two, one) == (0, 2, 1) and then >= 3
