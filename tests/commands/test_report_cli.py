"""`choreo report` as a shell sees it: files, stdout, pipes, exit codes, and a block that really makes it again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests" / "report"))

import run_material as material  # noqa: E402


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return material.run(tmp_path / "r", "rps", material.dataset(tmp_path / "data"), metrics=material.rps_metrics())


def test_stdout_is_the_file_and_the_exit_says_what_is_missing(choreo: Any, run: Path, tmp_path: Path) -> None:
    done = choreo("report", run, "-o", "out")
    assert done.returncode == 3 and done.stderr == b""
    assert sorted(p.name for p in (tmp_path / "out").iterdir() if p.name[0] != ".") == [
        "report.html", "report.json", "report.md",
    ]  # fmt: skip
    assert done.stdout == (tmp_path / "out" / "report.json").read_bytes()
    assert json.loads(done.stdout)["decision"]["word"] == "INCOMPLETE"
    assert choreo("report", run, "-o", "out", "--keep-going").returncode == 0
    assert choreo("check", "out").returncode == 0


def test_a_failed_gate_exits_1_and_a_table_says_it(choreo: Any, tmp_path: Path) -> None:
    bad = material.run(tmp_path / "bad", "rps", material.dataset(tmp_path / "data"), metrics=material.rps_metrics(2.0))
    done = choreo("report", bad, "-o", "out", "--table", "--keep-going")
    text = done.stdout.decode()
    assert done.returncode == 1 and text.startswith("✗ HOLD: 4 gates failed.")
    assert "rps.normalised_error.mot" in text and "MISSING real recordings: " in text
    assert text.endswith(f"read {Path('out') / 'report.html'}\n")


def test_a_pipe_equals_a_file_and_may_join_others(choreo: Any, run: Path, tmp_path: Path) -> None:
    document = (run / "run.json").read_bytes()
    alone = choreo("report", "-o", "a", input=document)
    assert (
        alone.stdout
        == choreo("report", run, "-o", "b").stdout
        == choreo("report", "-", "-o", "c", input=document).stdout
    )
    figures = material.figures(tmp_path / "g.json", "evaluate groove", material.groove(), [run / "run.json"])
    both = choreo("report", run, "-", "-o", "d", input=figures.read_bytes())
    assert {i["schema"] for i in json.loads(both.stdout)["created_by"]["inputs"]} == {
        "choreo.run/1",
        "choreo.metrics/1",
    }


def test_bytes_follow_from_the_inputs_alone(choreo: Any, run: Path, tmp_path: Path) -> None:
    for seed in "12":
        env = {"PYTHONHASHSEED": seed, "TZ": f"Etc/GMT+{seed}", "LC_ALL": "C" if seed == "1" else "C.UTF-8"}
        assert choreo("report", run, "-o", seed, "--figures", f"f{seed}", env=env).returncode == 3
    for one, two in (("1", "2"), ("f1", "f2")):
        names = {p.name for p in (tmp_path / one).iterdir()}
        assert names == {p.name for p in (tmp_path / two).iterdir()} and len(names) > 2
        assert all((tmp_path / one / n).read_bytes() == (tmp_path / two / n).read_bytes() for n in names)


def test_worse_exits_1_and_says_by_how_much(choreo: Any, tmp_path: Path) -> None:
    for name, value in (("a", 0.9), ("b", 0.6)):
        material.figures(tmp_path / f"{name}.json", "evaluate groove", material.groove(value), [])
    worse = choreo("report", "a.json", "b.json", "--fail-if-worse", "--table")
    assert worse.returncode == 1 and b"groove.phase_coherence" in worse.stdout and b"worse" in worse.stdout
    assert choreo("report", "b.json", "a.json", "--fail-if-worse").returncode == 0
    assert choreo("report", "a.json", "a.json", "--fail-if-worse").returncode == 0


@pytest.mark.parametrize(
    "argv,code,sentence",
    [
        (
            ["none", "-o", "x"],
            66,
            "choreo report: no file or folder none: name a run folder, a metrics.json or a dataset",
        ),
        (["r"], 2, "choreo report: missing option '-o' / '--out': see choreo report --help"),
        (["r", "--fail-if-worse"], 2, "choreo report: --fail-if-worse compares two inputs, got 1: choreo report A B"),
        (
            ["empty", "-o", "x"],
            66,
            "choreo report: empty holds none of run.json, metrics.json, pairs.json, sessions.json",
        ),
        (
            ["inventory.json", "-o", "x"],
            65,
            "choreo report: inventory.json is choreo.inventory/1, need choreo.run/1 or",
        ),
        (["cut.json", "-o", "x"], 65, "choreo report: the manifest"),
        (["r", "-o", "cut.json"], 73, "choreo report: cut.json is a file: name a folder"),
    ],
)
def test_errors_are_one_line(choreo: Any, run: Path, tmp_path: Path, argv: list[str], code: int, sentence: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "cut.json").write_bytes((run / "run.json").read_bytes()[:-30])
    (tmp_path / "inventory.json").write_bytes((TOP / "examples" / "data" / "inventory.json").read_bytes())
    done = choreo("report", *argv)
    lines = done.stderr.decode().splitlines()
    assert done.returncode == code and len(lines) == 1 and lines[0].startswith(sentence)
    assert not (tmp_path / "x").exists()


def test_a_report_holds_no_path_of_the_machine(choreo: Any, run: Path, tmp_path: Path) -> None:
    choreo("report", run, "-o", "out")
    for name in ("report.html", "report.md", "report.json"):
        assert str(tmp_path) not in (tmp_path / "out" / name).read_text()


def test_the_printed_block_makes_everything_again(choreo: Any, tmp_path: Path) -> None:
    """Row 35: from nothing but the report, in an empty folder, to equal digests; one wrong digest is noticed."""
    pytest.importorskip("torch")
    made = tmp_path / "made"
    made.mkdir()
    argv = ("--sessions", "3", "--minutes", "0.4", "--bpm", "92,120,140", "--frames-only", "--seed", "7", "-q")
    assert choreo("synth", "sessions", *argv, "-o", "data", cwd=made).returncode == 0
    trained = choreo("train", "rps", "data", "--epochs", "1", "--seeds", "0,1", "-q", "-o", "rps", cwd=made)
    assert trained.returncode == 0, trained.stderr
    report = json.loads(choreo("report", "-", "-o", "report", input=trained.stdout, cwd=made).stdout)
    script = report["reproduction"]["script"]
    assert [s["command"].split(" --")[0] for s in report["reproduction"]["steps"]] == [
        "choreo synth sessions", "choreo train rps step1",
    ]  # fmt: skip
    assert str(made) not in script and script.rstrip().splitlines()[-1] == "choreo check SHA256SUMS step1 step2"
    again = shell(script, tmp_path / "again")
    assert again.returncode == 0, again.stderr
    digest = next(iter(report["reproduction"]["steps"][1]["files"].values()))
    other = shell(script.replace(digest, digest[::-1]), tmp_path / "again")
    assert other.returncode == 1 and b"its sha256 differs from the one in SHA256SUMS" in other.stdout + other.stderr


def shell(script: str, folder: Path) -> subprocess.CompletedProcess[bytes]:
    """Run a block in a folder of its own, with this checkout's `choreo` on the path and nothing else of ours."""
    folder.mkdir(exist_ok=True)
    shim = folder.parent / "bin" / "choreo"
    shim.parent.mkdir(exist_ok=True)
    shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m choreo_cli "$@"\n')
    shim.chmod(0o755)
    env = {
        "PATH": f"{shim.parent}:{os.environ['PATH']}", "PYTHONPATH": str(TOP), "HOME": str(folder.parent),
        "XDG_CACHE_HOME": str(folder.parent / "cache"), "LC_ALL": "C.UTF-8",
    }  # fmt: skip
    return subprocess.run(["/bin/sh", "-c", script], cwd=folder, env=env, capture_output=True, timeout=250, check=False)
