"""Students in the one loop: they come nearer to their teacher, and a killed one goes on to the same bits."""

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

from dancing_windows import Windows  # noqa: E402
from distill_small import FRAMES, small_recipe, trained  # noqa: E402

from choreo_cli.generate.config import Size  # noqa: E402
from choreo_cli.generate.model_files import open_model  # noqa: E402
from choreo_cli.generate.open_model import open_sampler  # noqa: E402
from choreo_cli.training.loop import fit, plan_of  # noqa: E402

TOP = Path(__file__).resolve().parents[2]
CHILD = Path(__file__).with_name("distill_small.py")
METHODS = ("consistency", "regression", "shortcut")


def bits(model: Any) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in model.state_dict().items()}


class Folder:
    """The files of a run, written where they belong."""

    def __init__(self, path: Path) -> None:
        self.path, self.created_by = path, {"run_id": "0" * 12}
        self.roles: dict[str, str] = {}

    def target(self, relative: str) -> Path:
        self.path.mkdir(parents=True, exist_ok=True)
        return self.path / relative

    def add(self, role: str, relative: str, sha256: str) -> None:
        self.roles[relative] = role

    def write(self, role: str, relative: str, data: bytes) -> None:
        self.add(role, relative, "")
        self.target(relative).write_bytes(data)


@pytest.mark.parametrize("method", METHODS)
def test_a_student_comes_nearer_to_its_teacher(tmp_path: Path, method: str) -> None:
    """In one step, where its teacher in one step is what it begins with."""
    more = {"bootstrap": 0.5, "ladder": 4} if method == "shortcut" else {}
    made = small_recipe(
        method, epochs=100, steps=40, batch=12, accumulate=1, lr=3e-3, ema=0.9, validate_every=50,
        position=0, velocity=0, contact=0, **more,
    )  # fmt: skip
    assert made.prepare(tmp_path, "cpu", lambda: False, lambda *_: None)
    with torch.no_grad():
        before = made.validate(made.model())
    fitted = fit(made, tmp_path, identity="x", seed=0)
    assert fitted.steps == plan_of(made).steps == 40
    with torch.no_grad():
        after = made.validate(fitted.model)
    assert set(after) == {"loss", "steps_1", "steps_2", "steps_4"}
    assert after["steps_1"] < 0.7 * before["steps_1"] and after["loss"] < 0.7 * before["loss"], (before, after)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("process", ["flow", "ddim"])
def test_the_checkpoint_samples_as_the_student_does(tmp_path: Path, method: str, process: str) -> None:
    made = small_recipe(method, process=process, predict="x1" if process == "flow" else "x0")
    model: Any = made.model().eval()
    files = Folder(tmp_path / "run")
    if made.material is not None:
        made.prepare(tmp_path / "run", "cpu", lambda: False, lambda *_: None)
    finished = made.finish(model, files)
    assert [m["name"] for m in finished.metrics[:2]] == ["distill.steps_1.error", "distill.steps_1.diversity_ratio"]
    assert finished.notes[0].startswith("squared error against 4 guided steps of the teacher")
    pairs = {name for name, role in files.roles.items() if role == "pairs"}
    assert pairs == ({"pairs/pairs-000000.parquet"} if method == "regression" else set())
    found = open_model(tmp_path / "run")
    assert found.recipe == "distilled" and found.facts["guidance"] == 2.0 and found.facts["method"] == method
    sampler = open_sampler(tmp_path / "run")
    assert sampler.cfg is None and sampler.steps == 1 and sampler.sized is (method == "shortcut")
    assert made._judged is not None
    told, noise, _ = made._judged.parts[0]
    heard = made.source.batch(made._held_out()[:1], 0)
    sampler.process = Elsewhere(sampler.process, noise[:1].numpy())
    name = ("gen", "edit", "inbetween", "style", "predict", "complete")[int(told.task[0].argmax())]
    for steps in (1, 2, 4):
        with torch.no_grad():
            mine = model.sample(noise[:1], told.rows(torch.arange(1)), steps).numpy()
        drawn = sampler.sample(heard["audio"], known=heard["x"], mask=told.mask[:1].numpy(), task=name, steps=steps)
        assert sampler.rows == sampler.nfe == steps
        away = made.stats.normalise(drawn) - made.stats.normalise(made.stats.denormalise(mine))
        assert np.abs(away).max() < 2e-3 * max(1.0, float(np.abs(mine).max()))


class Elsewhere:
    """A process that begins at a given noise."""

    def __init__(self, inner: Any, noise: np.ndarray) -> None:
        self.inner, self.noise, self.name = inner, noise, inner.name

    def run(self, predict: Any, draw: Any, held: Any, steps: int, solver: str) -> Any:
        return self.inner.run(predict, lambda _: self.noise, held, steps, solver)


def test_a_full_teacher_has_a_tiny_student_that_begins_anew(tmp_path: Path) -> None:
    made = small_recipe("consistency", size=Size(3, 64, 2))
    assert made.teacher.net.size == Size(3, 64, 2) and made.shape.width == 32
    model: Any = made.model()
    assert not model.net.head.weight.any()
    fitted = fit(made, tmp_path, identity="x", seed=0)
    assert np.isfinite(made.validate(fitted.model)["loss"])


@pytest.mark.parametrize("method", METHODS)
def test_bf16_and_parts_change_a_student_and_its_dtype_stays(tmp_path: Path, method: str) -> None:
    one = trained(tmp_path / "one", method, epochs=1)
    other = trained(tmp_path / "other", method, epochs=1, bf16=True)
    assert all(torch.isfinite(w).all() and w.dtype == torch.float32 for w in other.model.state_dict().values())
    assert bits(one.model) != bits(other.model)


def environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    return {**kept, "PYTHONPATH": f"{TOP}:{CHILD.parent}", "OMP_NUM_THREADS": "1"}


def killed_in(folder: Path, log: Path, method: str, steps: int) -> None:
    """Train in a child that is killed once it has said so many steps."""
    config = {"checkpoint_s": 1e-3, "pause_s": 0.03}
    words = [sys.executable, str(CHILD), str(folder), str(log), method, json.dumps(config)]
    said = log.read_text().count('"step", "step"') if log.exists() else 0
    child = subprocess.Popen(words, env=environment())
    try:
        deadline = time.monotonic() + 120
        while not (log.exists() and log.read_text().count('"step", "step"') >= said + steps):
            assert time.monotonic() < deadline and child.poll() is None
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    finally:
        child.kill()


def same_bits(tmp_path: Path, method: str, kills: tuple[int, ...]) -> None:
    for steps in kills:
        killed_in(tmp_path / "torn", tmp_path / "log.jsonl", method, steps)
    starts: list[dict[str, Any]] = []
    found = trained(tmp_path / "torn", method, starts.append)
    expected = trained(tmp_path / "whole", method)
    begun = next(r for r in starts if r["kind"] == "start")
    assert 1 <= begun["step"] < begun["steps"]
    assert bits(found.model) == bits(expected.model) and found.kept == expected.kept
    last = [max((tmp_path / f / "state").glob("*.safetensors")) for f in ("torn", "whole")]
    assert last[0].read_bytes() == last[1].read_bytes()


def test_a_student_killed_at_random_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    same_bits(tmp_path, "consistency", (2,))


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", range(3))
def test_students_killed_often_go_on_to_the_same_bits(tmp_path: Path, method: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    same_bits(tmp_path, method, tuple(int(k) for k in rng.integers(1, 3, 3)))


def test_windows_without_held_out_ones_are_said(tmp_path: Path) -> None:
    made = small_recipe("consistency", Windows(1, frames=FRAMES, held_out=0))
    finished = made.finish(made.model(), Folder(tmp_path))
    assert made.validate(made.model()) == {} and finished.metrics == []
    assert finished.notes[0].startswith("no held-out windows")
