"""`choreo status`: one line a run, JSON in a pipe, JSON Lines while it follows, and what the machine offers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from choreo_cli.errors import ExitCode
from formats import manifest
from formats import status as heartbeat
from formats.columns import STATUS

TOP = Path(__file__).resolve().parents[2]


def beat(folder: Path, state: str, age_s: float = 0.0, **more: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    at = int((time.time() - age_s) * 1e6)
    one = heartbeat.Status("train rps", state, 1, "epoch 2/5, loss 0.012", 40, 100, at, **more)
    heartbeat.write(folder / "status.json", one)


def test_a_pipe_gets_a_document_and_a_person_a_table(choreo: Any, tmp_path: Path) -> None:
    beat(tmp_path / "runs" / "rps", "running", 2, loss=0.012, eta_s=600.0)
    beat(tmp_path / "runs" / "old" / "seed-0", "done", 5000, loss=0.5)
    done = choreo("status", "runs")
    assert (done.returncode, done.stderr) == (0, b"")
    found = manifest.decode(done.stdout)
    assert found.schema == "choreo.status/1" and all(tuple(e) == STATUS.names for e in found.entries)
    assert [(e["path"], e["state"]) for e in found.entries] == [("old/seed-0", "done"), ("rps", "running")]
    assert 1 < found.entries[1]["age_s"] < 60
    shown = choreo("status", "runs", "--table").stdout.decode().splitlines()
    assert shown[0].split() == ["run", "state", "done", "loss", "age", "left", "step"]
    assert "rps" in shown[2] and "40 %" in shown[2] and "10 min" in shown[2] and "epoch 2/5" in shown[2]
    assert shown[-1] == "2 runs; --follow goes on looking"
    (tmp_path / "list.json").write_bytes(done.stdout)
    assert choreo("check", "list.json", "runs").returncode == 0


@pytest.mark.parametrize(("state", "age_s", "code"), [("failed", 1, 1), ("running", 300, 1), ("stopped", 9999, 0)])
def test_a_run_that_failed_or_is_stale_is_exit_1(
    choreo: Any, tmp_path: Path, state: str, age_s: float, code: int
) -> None:
    beat(tmp_path / "run", state, age_s)
    assert choreo("status", "run").returncode == code
    if state == "running":
        assert manifest.decode(choreo("status", "run").stdout).entries[0]["state"] == "stale"
        assert choreo("status", "run", "--stale-after", "1000").returncode == 0


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["."], ExitCode.NOINPUT, "no run under ."),
        (["nowhere"], ExitCode.NOINPUT, "no folder nowhere"),
        ([], ExitCode.USAGE, "a folder is needed"),
        (["--env", "."], ExitCode.USAGE, "--env looks at this machine"),
        ([".", "--stale-after", "nan"], ExitCode.USAGE, "nan is not a finite number"),
        ([".", "--follow", "--interval", "inf"], ExitCode.USAGE, "inf is not a finite number"),
    ],
)
def test_errors_have_their_code(choreo: Any, words: list[str], code: int, says: str) -> None:
    done = choreo("status", *words)
    assert done.returncode == code and says in done.stderr.decode() and done.stdout == b""
    assert done.stderr.count(b"\n") == 1


def following(tmp_path: Path) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", "choreo_cli", "status", "run", "--follow", "--interval", "0.1"]
    env = {**os.environ, "PYTHONPATH": str(TOP)}
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path, env=env)


def test_follow_ends_when_the_run_does(tmp_path: Path) -> None:
    beat(tmp_path / "run", "running")
    p = following(tmp_path)
    assert p.stdout is not None
    first = [json.loads(p.stdout.readline()) for _ in range(2)]
    assert first[0] == {"schema": "choreo.status/1"} and first[1]["state"] == "running"
    beat(tmp_path / "run", "done")
    out, err = p.communicate(timeout=30)
    rest = [json.loads(line) for line in out.splitlines()]
    assert (p.returncode, err) == (0, b"")
    assert [r.get("state") for r in rest] == ["done", None] and rest[-1] == {"end": True, "n": 2}


def test_follow_ends_with_ctrl_c(tmp_path: Path) -> None:
    beat(tmp_path / "run", "running")
    p = following(tmp_path)
    assert p.stdout is not None
    p.stdout.readline()
    p.send_signal(signal.SIGINT)
    p.communicate(timeout=30)
    assert p.returncode == ExitCode.INT


def test_the_surroundings_are_a_document(choreo: Any) -> None:
    pytest.importorskip("torch")
    done = choreo("status", "--env")
    found = json.loads(done.stdout)
    assert done.returncode == 0 and found["schema"] == "choreo.environment/1"
    assert found["auto"]["device"] in ("cpu", "cuda", "mps") and found["auto"]["reason"]
    shown = choreo("status", "--env", "--table").stdout.decode()
    assert f"{found['auto']['device']}: " in shown and "ONNX Runtime" in shown


def test_a_device_that_is_not_there_is_69(choreo: Any) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    done = choreo("status", "--env", "--device", "cuda")
    assert done.returncode == ExitCode.UNAVAILABLE
    assert done.stderr.startswith(b"choreo status: --device cuda: ") and b"pip install 'choreo[train]'" in done.stderr
    assert choreo("status", "--env", "--device", "cpu").returncode == 0
