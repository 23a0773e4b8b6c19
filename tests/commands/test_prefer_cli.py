"""`choreo prefer` as it is used: a person at a terminal, a rule without one, and everything that is not there."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pexpect
import pytest
from conftest import TOP, Run

from choreo_cli.reflex.preferences import read_answers

ASK = r"A or B\?[^)]*\) "


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import subprocess

    folder = tmp_path_factory.mktemp("prefer") / "set"
    line = f"synth sessions --frames-only --sessions 4 --minutes 1 --bpm 92,140 -o {folder}"
    subprocess.run(
        [sys.executable, "-m", "choreo_cli", *line.split()], check=True, capture_output=True, cwd=TOP, timeout=60
    )
    return folder


def spawn(tmp_path: Path, *words: object, before: str = "") -> Any:
    """The program on a pseudo-terminal of its own."""
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(TOP), "LC_ALL": "C.UTF-8"}
    command = [sys.executable, "-m", "choreo_cli", "prefer", *map(str, words)]
    if before:
        command = ["/bin/sh", "-c", f"{before} | exec {' '.join(command)}"]
    return pexpect.spawn(
        command[0], command[1:], cwd=str(tmp_path), env=env, timeout=40, encoding="utf-8", dimensions=(24, 200)
    )


def ended(child: Any) -> int:
    child.expect(pexpect.EOF)
    child.wait()  # close() hurries a child that is still tidying up: it sends SIGHUP
    code = int(child.exitstatus if child.exitstatus is not None else 128 + child.signalstatus)
    print(f"ended with {code}: {child.before}")  # pytest shows it when the code is not the one awaited
    return code


def test_a_person_answers_goes_away_and_goes_on(sessions: Path, tmp_path: Path) -> None:
    file = tmp_path / "p.parquet"
    child = spawn(tmp_path, sessions, "-o", file, "--pairs", 6, "--rater", "ann")
    for k, key in enumerate(("a", "b", "s", "x", "k")):
        child.expect(ASK)
        shown = child.before
        assert key == "k" or f"pair-{k + 1:04d}.png" in shown
        assert key == "k" or ("A |" in shown and "B |" in shown)
        child.sendline(key)
    child.expect(ASK)
    child.sendline("q")
    assert ended(child) == 0 and "go on with the same command" in child.before
    rows, sources = read_answers(file)
    want = [("left", r) for r in rows[:1]] + [("right", r) for r in rows[1:2]]
    for side, r in want:
        assert (r["choice"] == r["shown_first"]) is (side == "left")
    assert [r["choice"] for r in rows[2:]] == ["same", "skip"], "x is no answer, and is asked again"
    assert all(r["rater"] == "ann" and r["seconds"] > 0 and r["synthetic"] for r in rows)
    assert Path(next(iter(sources.values()))["path"]) == sessions / "sessions.json"
    assert (tmp_path / "p-plots" / "pair-0001.png").read_bytes().startswith(b"\x89PNG")

    child = spawn(tmp_path, sessions, "-o", file, "--pairs", 6, "--rater", "ann")
    child.expect(ASK)
    assert "Question 5 of 6" in child.before
    child.sendline("b")
    child.expect(ASK)
    child.sendline("a")
    assert ended(child) == 0
    after, _ = read_answers(file)
    assert after[:4] == rows and len(after) == 6 and len({r["pair_id"] for r in after}) == 6


def test_ctrl_c_keeps_every_earlier_answer(sessions: Path, tmp_path: Path) -> None:
    file = tmp_path / "p.parquet"
    child = spawn(tmp_path, sessions, "-o", file)
    for key in ("a", "b"):
        child.expect(ASK)
        child.sendline(key)
    child.expect(ASK)
    child.sendintr()
    assert ended(child) == 130
    assert len(read_answers(file)[0]) == 2 and not list(tmp_path.glob(".*.tmp"))


def test_the_end_of_the_input_ends_the_questions(sessions: Path, tmp_path: Path) -> None:
    child = spawn(tmp_path, sessions, "-o", tmp_path / "p.parquet")
    child.expect(ASK)
    child.sendline("a")
    child.expect(ASK)
    child.sendeof()
    assert ended(child) == 0 and len(read_answers(tmp_path / "p.parquet")[0]) == 1


def test_sessions_from_a_pipe_are_rated_at_the_terminal(sessions: Path, tmp_path: Path) -> None:
    child = spawn(tmp_path, "-", "-o", "p.parquet", "--plots", "pictures", before=f"cat {sessions}/sessions.json")
    child.expect(ASK)
    assert "pictures/pair-0001.png" in child.before
    child.sendline("b")
    child.expect(ASK)
    child.sendline("q")
    assert ended(child) == 0 and len(read_answers(tmp_path / "p.parquet")[0]) == 1


def test_without_a_terminal_nothing_is_asked(choreo: Run, sessions: Path, tmp_path: Path) -> None:
    done = choreo("prefer", sessions, "-o", tmp_path / "p.parquet")
    assert done.returncode == 2 and done.stdout == b"" and not (tmp_path / "p.parquet").exists()
    assert done.stderr.decode() == (
        "choreo prefer: questions need a terminal: run it in one, or let a rule answer: --rater-rule groove\n"
    )


def test_a_rule_answers_openly_and_only_once(choreo: Run, sessions: Path, tmp_path: Path) -> None:
    words = ("prefer", sessions, "-o", "p.parquet", "--rater-rule", "groove")
    done = choreo(*words, "--pairs", 20)
    told = json.loads(done.stdout)
    assert done.returncode == 0 and told["answers"] == 20 and told["rater"] == "rule:groove"
    rows, _ = read_answers(tmp_path / "p.parquet")
    assert all(r["synthetic"] and r["seconds"] is None for r in rows)
    before = (tmp_path / "p.parquet").read_bytes()
    assert choreo(*words, "--pairs", 20).returncode == 0 and (tmp_path / "p.parquet").read_bytes() == before
    more = choreo(*words, "--pairs", 24)
    assert json.loads(more.stdout)["answers"] == 24 and read_answers(tmp_path / "p.parquet")[0][:20] == rows
    assert choreo("check", "p.parquet").returncode == 0
    shown = choreo(*words, "--pairs", 24, "--table").stdout.decode()
    assert shown.splitlines()[1].split() == ["rule:groove", "24", "24", "24"]


@pytest.mark.parametrize(
    "words,code,says",
    [
        (["nothing", "--rater-rule", "groove"], 66, "no file or folder nothing"),
        (["{set}", "--rater-rule", "loud"], 2, "no rater rule 'loud': there is groove"),
        (["{set}", "--rater-rule", "groove", "--noise", "0.7"], 2, "--noise 0.7 is outside 0..0.5"),
        (["{set}", "--rater-rule", "groove", "--clip-s", "0.2"], 2, "--clip-s 0.2 is outside 1..60"),
        (["{set}", "--rater-rule", "groove", "--pairs", "5000"], 2, "questions can be asked"),
        (["{set}", "--rater-rule", "groove", "--rater", ""], 2, "--rater needs 1 to 64"),
        (["{set}", "--rater-rule", "groove", "-o", "none/p.parquet"], 73, "make the folder none first"),
        (["{set}", "--rater-rule", "groove", "-o", "{set}/session-0000/frames.parquet"], 65, "need choreo.preferences/1"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(
    choreo: Run, sessions: Path, tmp_path: Path, words: list[str], code: int, says: str
) -> None:
    done = choreo("prefer", "-o", "p.parquet", *(w.format(set=sessions) for w in words))
    text = done.stderr.decode()
    assert done.returncode == code and says in text and len(text.splitlines()) == 1, text
    assert not (tmp_path / "p.parquet").exists()
