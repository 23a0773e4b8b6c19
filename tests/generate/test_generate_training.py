"""Flow and DDIM recipes in the one loop: they learn, go on after kill -9 to the same bits, and run as two processes."""

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

from dancing_windows import Windows, recipe  # noqa: E402
from generate_child import small_recipe, trained  # noqa: E402

from choreo_cli.generate import model_files  # noqa: E402
from choreo_cli.generate.config import MotionConfig  # noqa: E402
from choreo_cli.generate.diffusion_torch import DdimObjective  # noqa: E402
from choreo_cli.generate.flow_torch import FlowObjective, coupled  # noqa: E402
from choreo_cli.generate.structure_torch import structure_terms  # noqa: E402
from choreo_cli.training.loop import fit, plan_of  # noqa: E402

TOP = Path(__file__).resolve().parents[2]
CHILD = Path(__file__).with_name("generate_child.py")


def bits(model: Any) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in model.state_dict().items()}


# Objectives.


@pytest.mark.parametrize(
    "objective", [FlowObjective("v"), FlowObjective("x1"), DdimObjective("x0"), DdimObjective("eps")]
)
def test_the_true_answer_has_no_error_and_gives_the_data(objective: Any) -> None:
    g = torch.Generator().manual_seed(0)
    x1, x0 = torch.randn(2, 200, 6, 25, generator=g)
    t = objective.times(200, g)
    x = objective.noisy(x1, x0, t).float()
    answer = {"v": x1 - x0, "x1": x1, "x0": x1, "eps": x0}[objective.predict]
    assert objective.error(answer, x1, x0, t).max() < 1e-9
    signal = objective.signal(t)
    clear = signal > 0.05
    assert (objective.data(answer, x, t) - x1)[clear].abs().max() < 2e-4
    assert signal.min() >= 0 and signal.max() <= 1
    even = objective.stratified(50)
    assert (np.diff(even.numpy()) > 0).all() and even[0] >= 0 and even[-1] < 1 and abs(float(even.mean()) - 0.5) < 0.02


def test_both_flow_targets_are_judged_by_the_velocity() -> None:
    g = torch.Generator().manual_seed(0)
    x1, x0, guess = torch.randn(3, 50, 4, 25, generator=g)
    t = torch.rand(50, generator=g) * 0.9
    v = (guess - FlowObjective().noisy(x1, x0, t)) / (1 - t)[:, None, None]
    assert torch.allclose(
        FlowObjective("x1", 0.05).error(guess, x1, x0, t), FlowObjective("v").error(v, x1, x0, t), rtol=1e-3
    )
    near = torch.full((50,), 0.999)
    assert torch.allclose(FlowObjective("x1", 0.05).error(guess, x1, x0, near), (guess - x1).square() * 400)


def test_times_are_logit_normal() -> None:
    t = FlowObjective().times(20000, torch.Generator().manual_seed(0)).double()
    z = torch.log(t / (1 - t))
    assert abs(float(z.mean())) < 0.03 and abs(float(z.std()) - 1) < 0.03


def test_transport_in_a_batch_keeps_the_rows_that_are_told_something() -> None:
    g = torch.Generator().manual_seed(0)
    x0, x1 = torch.randn(2, 12, 3, 25, generator=g)
    labels = torch.tensor([-1] * 6 + list(range(6)))
    found = coupled(x0, x1, labels)
    assert torch.equal(found[6:], x0[6:])
    assert (found - x1)[:6].square().sum() <= (x0 - x1)[:6].square().sum()
    assert torch.equal(found[:6].sort(0).values, x0[:6].sort(0).values)


def test_structure_terms_mean_what_they_say() -> None:
    x = torch.from_numpy(Windows(2).x[:3])
    one = torch.ones(3)
    same = structure_terms(x, x, 30.0, one)
    assert same["position"] == 0 and same["velocity"] == 0 and same["contact"] >= 0
    higher = x.clone()
    higher[..., 2] += 0.1
    raised = structure_terms(higher, x, 30.0, one)
    assert float(raised["position"]) == pytest.approx(0.01 / 3, rel=0.1) and raised["velocity"] < 0.01
    sliding = x.clone()
    sliding[..., 0] += 1.0
    assert structure_terms(sliding, x, 30.0, one)["contact"] > same["contact"] + 0.3
    assert structure_terms(sliding, x, 30.0, 0 * one)["contact"] == 0
    moved = x.clone().requires_grad_()
    sum(structure_terms(moved, x + 0.01, 30.0, one).values()).backward()  # type: ignore[union-attr]
    assert moved.grad is not None and torch.isfinite(moved.grad).all()
    assert not moved.grad[..., 4:6].any()  # contacts are taken as given: standing less is no way out


# Training.


@pytest.mark.parametrize("kind", ["flow", "ddim"])
def test_the_loss_falls_by_half_on_eight_clips(tmp_path: Path, kind: str) -> None:
    more = {"learn": "v"} if kind == "flow" else {}
    made = recipe(
        kind, Windows(2, frames=16), batch=8, epochs=40, warmup=10, lr=2e-3, ema=0.9, structure_clips=2,
        drop_audio=0, drop_both=0, **more,
    )  # fmt: skip
    records: list[dict[str, Any]] = []
    fit(made, tmp_path, identity="x", seed=0, overfit=8, log=records.append)
    losses = [r["loss"] for r in records if r["kind"] == "step"]
    assert len(losses) == plan_of(made, 8).steps == 80
    assert np.mean(losses[-20:]) < 0.5 * np.mean(losses[:5]), (losses[:5], losses[-20:])


@pytest.mark.parametrize("change", [{}, {"coupling": "ot", "audio": False}, {"learn": "v"}, {"bf16": True}])
def test_conditions_are_drawn_apart_and_the_loss_is_finite(change: dict[str, Any]) -> None:
    made = recipe(
        "flow", Windows(3, frames=16, audio_width=0 if change.get("audio") is False else 5), batch=8, **change
    )
    model, heard = made.model(), []
    handle = model.register_forward_pre_hook(lambda _, given: heard.append([a.clone() for a in given]))
    batch = made.batch(np.arange(16), 0)
    for seed in range(40):
        value, parts = made.loss(model, batch, torch.Generator().manual_seed(seed))
        assert torch.isfinite(value) and set(parts) == {"error", "data", "position", "velocity", "contact"}
    handle.remove()
    audio = torch.cat([given[2] for given in heard])
    if audio.shape[-1]:
        assert float((~audio.flatten(1).any(1)).float().mean()) == pytest.approx(0.2, abs=0.05)
    masks = torch.cat([given[4] for given in heard])
    assert float(masks.flatten(1).any(1).float().mean()) == pytest.approx(0.4, abs=0.07)
    again = made.loss(model, batch, torch.Generator().manual_seed(39))[0]
    assert float(again.detach()) == float(value.detach())


def test_validation_is_the_same_every_time_and_needs_held_out_windows() -> None:
    made = recipe("flow", Windows(2, frames=16), val_windows=6)
    model = made.model()
    with torch.no_grad():
        assert made.validate(model) == made.validate(model) and made.validate(model)["loss"] > 0
        assert recipe("flow", Windows(1, frames=16, held_out=0)).validate(model) == {}


def test_impossible_shares_are_refused() -> None:
    with pytest.raises(ValueError, match="together are more than 1"):
        MotionConfig(inbetween=0.6, predict=0.6)
    with pytest.raises(ValueError, match="drop_audio"):
        MotionConfig(drop_audio=0.5, drop_text=0.5, drop_both=0.5)


class Folder:
    """The files of a run, written where they belong."""

    def __init__(self, path: Path) -> None:
        self.path, self.created_by = path, {"run_id": "0" * 12}

    def target(self, relative: str) -> Path:
        self.path.mkdir(parents=True, exist_ok=True)
        return self.path / relative

    def add(self, role: str, relative: str, sha256: str) -> None:
        """Nothing is recorded."""

    def write(self, role: str, relative: str, data: bytes) -> None:
        self.target(relative).write_bytes(data)


@pytest.mark.parametrize("kind", ["flow", "ddim"])
def test_a_checkpoint_samples_as_the_network_it_was_written_from(tmp_path: Path, kind: str) -> None:
    made = small_recipe(kind)
    net = made.model().eval()
    with torch.no_grad():
        for weight in net.parameters():
            weight.normal_(std=0.05, generator=torch.Generator().manual_seed(0))
    finished = made.finish(net, Folder(tmp_path / "run"))
    found = model_files.open_model(tmp_path / "run")
    assert found.recipe == kind and found.facts["defaults"]["steps"] == (4 if kind == "flow" else 50)
    ours = found.sampler()
    audio = made.source.audio[:2]
    theirs = model_files.sampler_from(model_files.torch_forward(net), made.shape, found.facts, made.source.stats)
    drawn = ours.sample(audio, seed=1, steps=3)
    assert drawn.tobytes() == theirs.sample(audio, seed=1, steps=3).tobytes()
    assert np.isfinite(drawn).all() and drawn.shape == (2, 16, 25)
    for name in ("mean", "std", "audio_mean", "audio_std"):
        assert np.array_equal(getattr(found.stats, name), getattr(made.source.stats, name))
    told = finished.metrics[0]
    assert told["name"] == "generation.distance_to_held_out" and told["params"]["validations"] == 0
    assert finished.notes[0].startswith("0 validations say nothing")


@pytest.mark.parametrize("change", [{"bf16": True}, {"weight_decay": 0.0}, {"beta2": 0.5}, {"accumulate": 1}])
def test_settings_of_the_loop_change_what_is_learned(tmp_path: Path, change: dict[str, Any]) -> None:
    base = {"steps": 3, "epochs": 2, "warmup": 0, "lr": 0.01, "weight_decay": 0.5, "clip": 0.0}
    one = trained(tmp_path / "one", "ddim", **base)
    other = trained(tmp_path / "other", "ddim", **{**base, **change})
    assert all(torch.isfinite(w).all() and w.dtype == torch.float32 for w in other.model.state_dict().values())
    assert bits(one.model) != bits(other.model)
    far = torch.cat(
        [(a - b).abs().flatten() for a, b in zip(one.model.parameters(), other.model.parameters(), strict=True)]
    )
    assert float(far.detach().mean()) < 0.02


def test_steps_in_parts_are_steps() -> None:
    from choreo_cli.training.accelerator import Crew
    from choreo_cli.training.gradients import backward

    class Line:
        """Without draws, so that parts can be compared with the whole."""

        def __init__(self, accumulate: int) -> None:
            self.config = MotionConfig(accumulate=accumulate)

        def batch(self, items: Any, epoch: int) -> Any:
            return {"x": torch.from_numpy(np.asarray(items, np.float32))[:, None]}

        def loss(self, model: Any, batch: Any, draws: Any) -> Any:
            found = (model(batch["x"]) - 1).square().mean()
            return found, {"half": found / 2}

    model, grads, told = torch.nn.Linear(1, 1), [], []
    for parts in (1, 2, 3, 7, 50):
        model.zero_grad()
        laps: list[tuple[Any, ...]] = []
        loss, named = backward(
            Line(parts), model, Crew(torch.device("cpu")), np.arange(7), 0, (1, 2), lambda *w, laps=laps: laps.append(w)
        )  # type: ignore[arg-type]
        assert float(named["half"].detach()) == pytest.approx(float(loss) / 2, rel=1e-5)
        assert sum(w[1] for w in laps if w[0] == "data") == 7 and len(laps) == 2 * min(parts, 7) - 1
        told.append(float(loss))
        grads.append(model.weight.grad.clone())
    assert told == pytest.approx([told[0]] * 5, rel=1e-5)
    assert all(torch.allclose(g, grads[0], rtol=1e-5) for g in grads)


# Runs that are killed; those of two processes are in test_generate_launch.


def environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    return {**kept, "PYTHONPATH": f"{TOP}:{CHILD.parent}", "OMP_NUM_THREADS": "1"}


def test_a_run_killed_at_random_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    config = {"checkpoint_s": 1e-3, "pause_s": 0.05}
    words = [sys.executable, str(CHILD), str(tmp_path / "torn"), str(log), "flow", json.dumps(config)]
    child = subprocess.Popen(words, env=environment())
    try:
        deadline = time.monotonic() + 120
        while not (log.exists() and log.read_text().count('"step", "step"') >= 3):
            assert time.monotonic() < deadline and child.poll() is None
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    finally:
        child.kill()
    starts: list[dict[str, Any]] = []
    found = trained(tmp_path / "torn", "flow", starts.append)
    expected = trained(tmp_path / "whole", "flow")
    begun = next(r for r in starts if r["kind"] == "start")
    assert 1 <= begun["step"] < begun["steps"]
    assert bits(found.model) == bits(expected.model) and found.kept == expected.kept
    last = [max((tmp_path / f / "state").glob("*.safetensors")) for f in ("torn", "whole")]
    assert last[0].read_bytes() == last[1].read_bytes()


# Ready configurations.


@pytest.mark.parametrize("kind", ["flow", "ddim"])
@pytest.mark.parametrize("name", [f"{s}-{n}" for s in ("tiny", "full") for n in ("smoke", "10", "100")])
def test_ready_configurations_serve_both_recipes_and_tell_their_cost(kind: str, name: str) -> None:
    from choreo_cli.config import load
    from choreo_cli.training import settings

    file = TOP / "examples" / "generation" / f"{name}.yaml"
    found = load(file, settings.lane(kind).Config)
    assert found.size == name.split("-")[0] and found.epochs == (100 if name.endswith("100") else 10)
    said = file.read_text()
    assert "# Time:" in said or "Computed" in said
    assert "# Memory" in said and f"{name}.yaml" in said
