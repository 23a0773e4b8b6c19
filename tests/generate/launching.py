"""The program as a user starts it, in processes that tests wait for and kill; and short dances for it to learn."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from choreo_cli.motion.choreo25 import encode
from choreo_cli.motion.dancer import choreograph, poses, write_score
from formats import motion_npz

TOP = Path(__file__).resolve().parents[2]
TWO = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone")


def dances(folder: Path, frames: int) -> Path:
    """Fill a folder with short procedural dances without music."""
    for k in range(4):
        rng = np.random.default_rng((5, k))
        score = write_score(np.arange(0.0, 8, 60 / rng.uniform(90, 140)), rng.uniform(0.5, 1.0), rng)
        joints = poses(choreograph(score, rng, height_m=1.7), np.arange(frames) / 30 + 1.0)
        motion_npz.write(folder / f"d{k}.npz", encode(joints, 30.0))
    return folder


def start(words: list[str], launcher: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    kept = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    env = {**kept, "PYTHONPATH": str(TOP), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *launcher, "-m", "choreo_cli", *words], env=env, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


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


def wait_for(child: subprocess.Popen[str], out: Path, steps: int) -> None:
    deadline, log = time.monotonic() + 180, out / "log.jsonl"
    while not log.exists() or log.read_text().count('"kind":"step"') < steps:
        assert time.monotonic() < deadline and child.poll() is None
        time.sleep(0.01)


def weights(out: Path) -> bytes:
    return (out / "model.safetensors").read_bytes()
