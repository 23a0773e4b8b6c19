"""Any I/O fault at any call, any kill at any time: the old file or the new one, never a part (rows 1-4)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from choreo_cli.report.verify_folder import Inspector
from tests.nightly import size

HERE = Path(__file__).resolve().parent
TOP = HERE.parent.parent


def _run(*args: object, timeout: float = 120) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, str(HERE / "faults.py"), *map(str, args)],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(TOP), "HOME": "/nonexistent"},
        capture_output=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return [json.loads(line) for line in done.stdout.splitlines()]


def _assert_old_or_new(result: dict[str, Any]) -> None:
    folder = Path(result["folder"])
    assert (folder / "bystander").read_bytes() == b"never touch me"
    if (folder / "out").exists():
        inspector = Inspector()
        inspector.path(folder / "out")
        assert all(v.ok for v in inspector.verdicts()), result
    assert result["again"] == 0, result


@pytest.mark.parametrize("error", ["EIO", "ENOSPC", "EACCES"])
@pytest.mark.parametrize("scenario", ["bytes", "table", "folder"])
def test_every_call_may_fail(scenario: str, error: str, tmp_path: Path) -> None:
    """Exit 73 or 74 with one line, no traceback, no temp file; the next run succeeds."""
    results = _run(scenario, tmp_path, error)
    assert len(results) > 5
    assert len(results[-1]["calls"]) < results[-1]["at"], "the last run must see fewer calls than N"
    for r in results[:-1]:
        assert r["text"] == "", r["text"]
        assert r["code"] in ((73,) if error == "EACCES" else (74,)) or "mkdir" in r["calls"], r
        assert r["stderr"].count("\n") == (1 if r["code"] else 0), r["stderr"]
        assert "Traceback" not in r["stderr"]
        assert r["temps"] == [], r
    for r in results:
        _assert_old_or_new(r)


@pytest.mark.parametrize("scenario", ["bytes", "table", "folder"])
def test_a_kill_at_every_call(scenario: str, tmp_path: Path) -> None:
    """SIGKILL instead of the N-th call: old or new, and the next run of a folder sweeps what is left."""
    results = _run(scenario, tmp_path, "KILL")
    assert sum(r["code"] == -9 for r in results) == len(results) - 1
    assert any(r["temps"] for r in results), "some kills must leave a temp file, or nothing was tested"
    for r in results:
        _assert_old_or_new(r)
        if scenario == "folder":
            assert r["left"] == [], r


def test_targets_are_whole_after_a_fault(tmp_path: Path) -> None:
    """Byte for byte: what lies there after fault N is what lay there before or what a clean run writes."""
    from faults import SCENARIOS, forked

    for error in ("EIO", "KILL"):
        for at in range(1, 7):
            folder = tmp_path / f"{error}{at}"
            folder.mkdir()
            (folder / "target").write_bytes(b"old")
            forked(lambda folder=folder: SCENARIOS["bytes"](folder), at, error)  # type: ignore[misc]
            assert (folder / "target").read_bytes() in (b"old", b"new content!" * 2000)


@pytest.mark.parametrize("scenario", ["bytes", "table"])
def test_durable_order(scenario: str, tmp_path: Path) -> None:
    """fsync of the file, then the rename, then fsync of the folder: what power loss needs."""
    calls = _run(scenario, tmp_path, "EIO")[-1]["calls"]
    assert calls[0] == "open"
    assert calls[-3:] == ["fsync", "replace", "fsync"]
    assert set(calls[1:-3]) == {"write"}


def _campaign(tmp_path: Path, kills: int) -> None:
    atomic = _run("atomic", tmp_path / "atomic", kills)[0]
    naive = _run("naive", tmp_path / "naive", kills)[0]
    print(f"atomic {atomic}, naive {naive}")
    assert atomic["torn"] == 0
    assert atomic["left"] == 0
    assert atomic["litter"] > 0, "some kill must leave a temp file, or the sweep was not tested"
    assert naive["torn"] >= 0.05 * kills


def test_kills_tear_nothing(tmp_path: Path) -> None:
    _campaign(tmp_path, 60)


@pytest.mark.slow
def test_kills_tear_nothing_long(tmp_path: Path) -> None:
    _campaign(tmp_path, size(1000))
