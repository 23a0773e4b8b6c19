"""`choreo train flow` as a user starts it: in two processes, stopped by a signal, killed, and started again."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from launching import TWO, dances, finished, kill, start, wait_for, weights  # noqa: E402

from choreo_cli.generate.model_files import open_model  # noqa: E402

SMALL = ("audio=false", "frames=16", "batch=8", "warmup=4", "structure_clips=2", "val_windows=8", "steps_used=2")


@pytest.fixture(scope="module")
def motions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of short procedural dances."""
    return dances(tmp_path_factory.mktemp("motions"), frames=80)


def words_of(motions: Path, out: Path, *changes: str) -> list[str]:
    sets = [w for c in (*SMALL, *changes) for w in ("--set", c)]
    return ["train", "flow", str(motions), *sets, "-o", str(out), "-q"]


def test_two_processes_train_by_the_same_command(motions: Path, tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    done: dict[str, Any] = json.loads(finished(start(words_of(motions, tmp_path, "steps=4"), TWO)))
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
    finished(start(words_of(motions, tmp_path / "whole", *changes), launcher))
    torn = tmp_path / "torn"
    for steps in (2, 7, 15):
        child = start(words_of(motions, torn, *changes), launcher)
        try:
            wait_for(child, torn, steps)
        finally:
            kill(child)
        assert list((torn / "state").glob("*.json")) and not (torn / "run.json").exists()
    finished(start(words_of(motions, torn, *changes), launcher))
    assert weights(torn) == weights(tmp_path / "whole")
    assert (torn / "log.jsonl").read_bytes() == (tmp_path / "whole" / "log.jsonl").read_bytes()


@pytest.mark.slow
def test_a_signal_keeps_a_state_to_go_on_from(motions: Path, tmp_path: Path) -> None:
    finished(start(words_of(motions, tmp_path / "whole", "epochs=12")))
    child = start(words_of(motions, tmp_path / "torn", "epochs=12"))
    wait_for(child, tmp_path / "torn", 3)
    child.send_signal(signal.SIGTERM)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 143, err
    assert len(list((tmp_path / "torn" / "state").glob("*.json"))) == 1
    moved = tmp_path / "another machine"
    (tmp_path / "torn").rename(moved)
    finished(start(words_of(motions, moved, "epochs=12")))
    assert weights(moved) == weights(tmp_path / "whole")
