"""The reflex lane from end to end on recordings of people: the same commands, and what can be concluded from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from choreo_cli.errors import ExitCode


@pytest.mark.slow
def test_recordings_go_the_same_way_and_the_report_says_what_they_cannot_show(
    choreo: Any, shared: Path, tmp_path: Path
) -> None:
    pytest.importorskip("torch")
    found = choreo("discover", shared / "data", "-q").stdout
    assert choreo("pair", "-", "-q", "-o", "dataset", input=found).returncode == ExitCode.PARTIAL
    assert choreo("train", "rps", "dataset", "-q", "--set", "steps=20", "-o", "rps").returncode == 0
    short = ("--set", "steps=20", "--set", "min_steps=0")
    assert choreo("train", "mapper", "rps", "-q", *short, "-o", "mapper").returncode == 0
    judged = choreo("evaluate", "groove", "mapper", "-q", "--no-gate", "-o", "groove.json")
    assert judged.returncode == 0, judged.stderr
    done = choreo("report", "rps", "mapper", "groove.json", "-q", "-o", "report")
    assert done.returncode == ExitCode.PARTIAL, done.stderr
    report = json.loads(done.stdout)
    assert report["decision"]["word"] == "INCOMPLETE"
    assert "Every session here was recorded; 0 of them are held out." in report["decision"]["scope"]
    evidence = {e["what"]: e for e in report["evidence"]}
    assert evidence["real recordings"]["there"] and not evidence["held-out sessions"]["there"]
    assert "no session is held out" in evidence["drift stability"]["text"]
    figures = [e for e in json.loads((tmp_path / "groove.json").read_bytes())["entries"] if e["goal"]]
    assert len(figures) == 4 and {e["pass"] for e in figures} == {None}
