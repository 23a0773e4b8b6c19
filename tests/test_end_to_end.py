"""The whole chain, by the commands a person types: synth, train M1, train M3, the loop, evaluate, report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from formats.manifest import decode

pytest.importorskip("torch")
TOP = Path(__file__).resolve().parents[1]
Choreo = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.mark.slow
def test_from_nothing_to_a_judged_performance(choreo: Choreo, tmp_path: Path) -> None:
    def done(*words: object, codes: tuple[int, ...] = (0,), input: bytes = b"") -> bytes:
        ended = choreo(*words, input=input)
        assert ended.returncode in codes, (words, ended.stderr)
        return ended.stdout

    shape = ("--sessions", 4, "--minutes", 0.5, "--bpm", "92,120", "--frames-only")
    sessions = done("synth", "sessions", *shape, "-o", "sessions", "-q")
    rps = done("train", "rps", "-", "--epochs", 2, "-q", "-o", "rps", input=sessions)
    mapper = done("train", "mapper", "-", "--epochs", 2, "--set", "steps=60", "-q", "-o", "mapper", input=rps)
    assert decode(mapper, source="mapper").entries[0]["parents"][0]["sha256"]
    played = done(
        "run-live", "--checkpoint", "mapper", "--source", "sessions", "--session", "session-0003", "--speed", "max",
        "--out", "loop:", "-o", "played",
    )  # fmt: skip
    entry = decode(played, source="played").entries[0]
    assert entry["n_frames"] == pytest.approx(1500, abs=60) and entry["synthetic"] is True
    done("check", "sessions", "rps", "mapper", "played")
    groove = done("evaluate", "groove", "-", "--no-gate", "--draws", 99, "-o", "groove.json", input=played)
    assert groove == b""
    figures = json.loads((tmp_path / "groove.json").read_bytes())["entries"]
    assert {e["name"] for e in figures} >= {"groove.phase_coherence", "groove.energy_correlation"}
    done("report", "mapper", "played", "groove.json", "played/metrics.json", "-o", "report", "-q", codes=(1, 3))
    page = (tmp_path / "report" / "report.md").read_text()
    block = page.split("```sh\n", 1)[1].split("```", 1)[0]
    assert block.count("choreo run-live") == 1 and "--against" not in block
    again(block, tmp_path / "again")


def again(block: str, folder: Path) -> None:
    """Run the report's block in an empty folder: every digest has to come out the same."""
    folder.mkdir()
    tools = folder.parent / "bin"
    tools.mkdir()
    (tools / "choreo").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m choreo_cli "$@"\n')
    (tools / "choreo").chmod(0o755)
    env = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "PYTHONPATH": str(TOP), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(["/bin/sh", "-c", block], cwd=folder, env=env, capture_output=True, timeout=240)
    assert ended.returncode == 0, (ended.stdout, ended.stderr, block)
