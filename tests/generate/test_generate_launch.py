"""`choreo train flow` as a user starts it: in two processes, stopped by a signal, killed, and started again."""

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

from choreo_cli.generate.model_files import open_model  # noqa: E402
from choreo_cli.motion.choreo25 import encode  # noqa: E402
from choreo_cli.motion.dancer import choreograph, poses, write_score  # noqa: E402
from formats import motion_npz  # noqa: E402

TOP = Path(__file__).resolve().parents[2]
SMALL = ("audio=false", "frames=16", "batch=8", "warmup=4", "structure_clips=2", "val_windows=8", "steps_used=2")
TWO = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone")


@pytest.fixture(scope="module")
def motions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of short procedural dances."""
    folder = tmp_path_factory.mktemp("motions")
    for k in range(4):
        rng = np.random.default_rng((5, k))
        score = write_score(np.arange(0.0, 8, 60 / rng.uniform(90, 140)), rng.uniform(0.5, 1.0), rng)
        joints = poses(choreograph(score, rng, height_m=1.7), np.arange(80) / 30 + 1.0)
        motion_npz.write(folder / f"d{k}.npz", encode(joints, 30.0))
    return folder


def start(motions: Path, out: Path, *changes: str, launcher: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    sets = [w for c in (*SMALL, *changes) for w in ("--set", c)]
    words = [sys.executable, *launcher, "-m", "choreo_cli", "train", "flow", str(motions), *sets, "-o", str(out), "-q"]
    kept = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    env = {**kept, "PYTHONPATH": str(TOP), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        words, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def finished(child: subprocess.Popen[str]) -> str:
    out, err = child.communicate(timeout=240)
    assert child.returncode == 0, err[-3000:]
    return out


def kill(child: subprocess.Popen[str]) -> None:
    """End a launcher and its workers, which have sessions of their own; the launcher first, so that it stops none."""
    workers = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
    for pid in (child.pid, *map(int, workers)):
        os.kill(pid, signal.SIGKILL)
    child.communicate()


def steps_said(out: Path) -> int:
    log = out / "log.jsonl"
    return log.read_text().count('"kind":"step"') if log.exists() else 0


def wait_for(child: subprocess.Popen[str], out: Path, steps: int) -> None:
    deadline = time.monotonic() + 180
    while steps_said(out) < steps:
        assert time.monotonic() < deadline and child.poll() is None
        time.sleep(0.01)


def weights(out: Path) -> bytes:
    return (out / "model.safetensors").read_bytes()


def test_two_processes_train_by_the_same_command(motions: Path, tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    done: dict[str, Any] = json.loads(finished(start(motions, tmp_path, "steps=4", launcher=TWO)))
    entry = done["entries"][0]
    assert entry["state"] == "done" and entry["steps"] == 4 and done["created_by"]["params"]["processes"] == 2
    model = open_model(tmp_path)
    assert model.recipe == "flow" and np.isfinite(model.sampler().sample(None, clips=2, steps=1)).all()
    assert model.checkpoint.arrays["head.weight"].any()


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [(), TWO], ids=["one", "two"])
def test_killed_at_any_step_it_goes_on_to_the_same_bits(
    motions: Path, tmp_path: Path, launcher: tuple[str, ...]
) -> None:
    changes = ("epochs=12", "checkpoint_s=0.001")
    finished(start(motions, tmp_path / "whole", *changes, launcher=launcher))
    torn = tmp_path / "torn"
    for steps in (2, 7, 15):
        child = start(motions, torn, *changes, launcher=launcher)
        try:
            wait_for(child, torn, steps)
        finally:
            kill(child)
        assert list((torn / "state").glob("*.json")) and not (torn / "run.json").exists()
    finished(start(motions, torn, *changes, launcher=launcher))
    assert weights(torn) == weights(tmp_path / "whole")
    assert (torn / "log.jsonl").read_bytes() == (tmp_path / "whole" / "log.jsonl").read_bytes()


@pytest.mark.slow
def test_a_signal_keeps_a_state_to_go_on_from(motions: Path, tmp_path: Path) -> None:
    finished(start(motions, tmp_path / "whole", "epochs=12"))
    child = start(motions, tmp_path / "torn", "epochs=12")
    wait_for(child, tmp_path / "torn", 3)
    child.send_signal(signal.SIGTERM)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 143, err
    assert len(list((tmp_path / "torn" / "state").glob("*.json"))) == 1
    moved = tmp_path / "another machine"
    (tmp_path / "torn").rename(moved)
    finished(start(motions, moved, "epochs=12"))
    assert weights(moved) == weights(tmp_path / "whole")
