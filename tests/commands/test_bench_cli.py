"""`choreo bench data`: its rows, its manifest, its verdicts; never how fast this machine is today."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from choreo_cli.errors import UsageError
from choreo_cli.report import bench_table
from commands.bench import SUITES, chosen, covers, help_lines, rows_of
from formats import manifest
from formats.columns import METRIC
from formats.metrics import entry, validate

TOP = Path(__file__).resolve().parents[2]
ROWS = list(rows_of("data"))


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, bytes, bytes]:
    """Everything once, at small sizes: exit code, stdout, stderr."""
    home = tmp_path_factory.mktemp("bench")
    done = subprocess.run(
        [sys.executable, "-m", "choreo_cli", "bench", "data", "--quick", "--json", "-o", str(home / "data.json")],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(TOP), "XDG_CACHE_HOME": str(home / "cache")},
        timeout=280,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr.decode()
    assert (home / "data.json").read_bytes() == done.stdout
    return done.returncode, done.stdout, done.stderr


def test_every_row_is_there_once_and_whole(quick: tuple[int, bytes, bytes]) -> None:
    found = manifest.decode(quick[1])
    assert found.schema == "choreo.metrics/1"
    names = [e["name"] for e in found.entries]
    assert names == sorted(set(names))
    assert [n for n in names if n.count(".") == 1] == sorted([*ROWS, "data.load"])
    assert [n for n in names if n.count(".") > 1] == sorted(
        ".".join(["data.start_help", *(line or ["choreo"])]) for line in help_lines()
    )
    for e in found.entries:
        assert tuple(e) == METRIC.names
        validate(e)
        assert (e["value"] is None) <= (e["why"] is not None), e
        assert e["params"] or e["value"] is None, e


def test_the_record_says_that_bytes_vary_and_sizes_are_small(quick: tuple[int, bytes, bytes]) -> None:
    made_by = manifest.decode(quick[1]).created_by
    assert made_by["command"] == "bench data" and made_by["deterministic"] is False
    assert made_by["params"] == {"install": False, "only": [], "quick": True}


def test_what_stands_on_figures_that_do_not_depend_on_the_clock(quick: tuple[int, bytes, bytes]) -> None:
    found = {e["name"]: e for e in manifest.decode(quick[1]).entries}
    assert found["data.start_modules"]["value"] == 0 and found["data.start_modules"]["params"]["most_modules"] > 50
    assert found["data.install_size"]["pass"] is True and found["data.install_size"]["params"]["torch"] is False
    assert found["data.audio_mel_error"]["value"] <= 1e-5
    assert found["data.memory"]["n"] >= 600 and found["data.memory"]["params"]["pairs"] >= 1
    assert found["data.end_to_end"]["params"]["pairs"] == 1
    worst = found["data.start_help"]
    assert worst["value"] == max(e["value"] for n, e in found.items() if n.startswith("data.start_help."))
    assert worst["goal"]["value"] == pytest.approx(1.3 * worst["baseline"]["value"])


def test_the_exit_code_is_the_verdict_and_a_missed_goal_is_said(quick: tuple[int, bytes, bytes]) -> None:
    code, out, err = quick
    missed = [e["name"] for e in manifest.decode(out).entries if e["pass"] is False]
    assert code == (1 if missed else 0)
    for name in missed:
        assert f"choreo bench data: {name} misses its goal" in err.decode()
    assert "data.install_time is not judged: makes two virtual environments" in err.decode()


def test_only_measures_what_is_asked(choreo: Any) -> None:
    done = choreo("bench", "data", "--quick", "--only", "data.install_size")
    assert done.returncode == 0, done.stderr
    assert [e["name"] for e in manifest.decode(done.stdout).entries] == ["data.install_size", "data.load"]
    shown = choreo("bench", "data", "--quick", "--only", "data.install_size", "--table").stdout.decode()
    assert shown.splitlines()[0].split()[:3] == ["row", "value", "goal"] and "data.install_size" in shown


def test_a_missed_goal_exits_1(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from choreo_cli.metrics import bench_install
    from commands.bench import bench

    monkeypatch.setattr(bench_install, "SIZE_GOAL_MB", 1.0)
    kept: dict[str, Any] = {"quiet": True, "out": tmp_path / "m.json"}
    assert bench("data", only=["data.install_size"], **kept) == 1
    assert json.loads((tmp_path / "m.json").read_bytes())["entries"][0]["pass"] is False
    monkeypatch.setattr(bench_install, "SIZE_GOAL_MB", 1e6)
    assert bench("data", only=["data.install_size"], **kept) == 0


def test_a_measurement_that_fails_is_said_and_the_others_are_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from choreo_cli.metrics import bench_start
    from choreo_cli.metrics.process import Program, measure
    from commands.bench import bench

    def broken(**_: Any) -> list[dict[str, Any]]:
        measure(Program(["false"]))
        return []

    monkeypatch.setattr(bench_start, "bench", broken)
    code = bench("data", only=["data.start_help", "data.install_size"], quick=True, out=tmp_path / "m.json")
    found = {e["name"]: e for e in manifest.decode((tmp_path / "m.json").read_bytes()).entries}
    assert code == 3 and found["data.install_size"]["pass"] is True
    assert found["data.start_help"]["why"] == "failed: `false` ended with 1: run it alone"
    assert "data.start_help is not judged: failed: `false` ended with 1" in capsys.readouterr().err


def test_list_names_the_rows_and_runs_nothing(choreo: Any) -> None:
    done = choreo("bench", "data", "--list", timeout=10)
    assert done.returncode == 0 and [line.split()[0] for line in done.stdout.decode().splitlines()] == ROWS


def test_unknown_row_is_one_line_with_the_nearest(choreo: Any) -> None:
    done = choreo("bench", "data", "--only", "data.fed")
    assert done.returncode == 2
    assert done.stderr == b"choreo bench data: --only 'data.fed' names no row: did you mean: data.feed?\n"


def test_names_cover_rows_above_and_below() -> None:
    assert covers("data", "data.feed") and covers("data.feed", "data.feed")
    assert covers("data.start_help.pair", "data.start_help")
    assert not covers("data.feed", "data.feed_torch") and not covers("dat", "data.feed")
    assert chosen(["data.feed", "data.feed"]) == ["data.feed"]
    with pytest.raises(UsageError, match="--list"):
        chosen(["nothing like it"])


def test_every_suite_of_a_package_is_on_the_list() -> None:
    files = {".".join(p.with_suffix("").relative_to(TOP).parts) for p in (TOP / "choreo_cli").rglob("bench*.py")}
    parts = {"report.bench_table", "generate.bench_network", "generate.bench_turns"}  # have no rows of their own
    assert files - {f"choreo_cli.{p}" for p in parts} == set(SUITES)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (100_000, "100 000"), (0.070275, "0.0703"), (1234.6, "1 235"), (3.2e-7, "3.2e-07"), (12.0, "12")],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert bench_table.number(value) == text


def test_rows_show_what_was_not_judged() -> None:
    met = entry("a", 1.0, "s", "lower", baseline=("peer", 3.0), floor=("least", 0.5), goal=("<=", 2.0))
    missed = entry("b", 3.0, "s", "lower", goal=("<=", 2.0))
    absent = entry("c", None, "s", "lower", goal=("<=", 2.0), why="peer is not installed")
    shown = bench_table.rows([met, missed, absent])
    assert shown[0] == ("a", "1 s", "<= 2", "yes", "3 peer", "3x", "0.5 least")
    assert [r[3] for r in shown] == ["yes", "NO", "-"]
    assert bench_table.remarks([met, missed, absent]) == [
        "b misses its goal: 3, needs <= 2 s",
        "c is not judged: peer is not installed",
    ]
