"""The loop learns, keeps the right weights, stops when it should, and says where its time goes."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from training_toy import FULL, Toy, bits  # noqa: E402

from choreo_cli.errors import DataError, UsageError  # noqa: E402
from choreo_cli.training.config import TrainConfig  # noqa: E402
from choreo_cli.training.ema import MovingAverage  # noqa: E402
from choreo_cli.training.loop import Fitted, fit, plan_of  # noqa: E402
from choreo_cli.training.meter import BEAT_S, MINUTE_S, PARTS, Meter  # noqa: E402
from choreo_cli.training.schedules import is_logged, learning_rate  # noqa: E402


def run(recipe: Toy, folder: Path, **options: Any) -> tuple[Fitted, list[dict[str, Any]]]:
    records: list[dict[str, Any]] = []
    fitted = fit(recipe, folder, **{"identity": "toy", "seed": 0, "log": records.append, **options})
    return fitted, records


def of(kind: str, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [r for r in records if r["kind"] == kind]


def test_it_learns_and_leaves_all_as_it_was(tmp_path: Path) -> None:
    threads, rng = torch.get_num_threads(), torch.get_rng_state()
    fitted, records = run(Toy(epochs=30), tmp_path)
    steps = of("step", records)
    assert [s["step"] for s in steps] == list(range(1, 151)) and fitted.steps == 150
    assert steps[-1]["loss"] < 0.2 * steps[0]["loss"]
    assert set(steps[0]) == {"kind", "step", "epoch", "loss", "first", "second", "lr", "grad_norm"}
    assert steps[4]["epoch"] == 1 and fitted.epochs == 30 and fitted.state == "done" and not fitted.early
    assert fitted.parameters == 4 * 16 + 16 + 32 + 16 * 2 + 2 and not fitted.model.training
    assert torch.get_num_threads() == threads and not torch.are_deterministic_algorithms_enabled()
    assert torch.equal(torch.get_rng_state(), rng)
    assert [p.relative_to(tmp_path).parts[0] for p in tmp_path.rglob("*")] == ["state"] * 3


def test_one_seed_is_one_model_and_another_seed_another(tmp_path: Path) -> None:
    same = [run(Toy(epochs=2), tmp_path / name)[0] for name in "ab"]
    other = run(Toy(epochs=2), tmp_path / "c", seed=1)[0]
    assert bits(same[0].model) == bits(same[1].model) != bits(other.model)


def test_each_epoch_takes_every_item_once(tmp_path: Path) -> None:
    toy = Toy(items=150, epochs=3)
    run(toy, tmp_path)
    for epoch in range(3):
        taken = [i for e, items in toy.seen for i in items if e == epoch]
        assert sorted(taken) == list(range(150))
    assert toy.seen[0][1] != toy.seen[5][1]


def test_the_best_weights_are_kept_not_the_last(tmp_path: Path) -> None:
    class Worse(Toy):
        """Validation that says the third epoch was the best."""

        losses = iter((3.0, 2.0, 1.0, 5.0, 6.0))
        at_best: dict[str, bytes]

        def validate(self, model: Any) -> dict[str, float]:
            loss = next(self.losses)
            if loss == 1.0:
                self.at_best = bits(model)
            return {"loss": loss, "other": 2 * loss}

    toy = Worse(epochs=5)
    fitted, records = run(toy, tmp_path)
    assert bits(fitted.model) == toy.at_best and fitted.kept_step == 15
    assert fitted.kept == {"loss": 1.0, "other": 2.0}
    assert [v["best"] for v in of("validation", records)] == [True, True, True, False, False]


def test_patience_ends_early_and_counts_again_after_each_best(tmp_path: Path) -> None:
    class Scripted(Toy):
        losses = iter((5.0, 6.0, 4.0, 4.0, 4.5, math.nan, 1.0))

        def validate(self, model: Any) -> dict[str, float]:
            return {"loss": next(self.losses)}

    fitted, records = run(Scripted(epochs=50, patience=3), tmp_path)
    assert fitted.early and fitted.state == "done" and fitted.steps == 30 and fitted.kept == {"loss": 4.0}
    assert [v["loss"] for v in of("validation", records)] == [5.0, 6.0, 4.0, 4.0, 4.5, None]
    assert [n["message"] for n in of("note", records)] == ["ended early: 3 validations without improvement"]


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.97, 1.0])
def test_the_moving_average_is_its_formula(decay: float) -> None:
    model = torch.nn.BatchNorm1d(3)
    average = MovingAverage(model, decay)
    rng = np.random.default_rng(0)
    history = rng.standard_normal((25, 3)).astype(np.float32)
    for t, value in enumerate(history, 1):
        model.weight.data.copy_(torch.from_numpy(value))
        model.num_batches_tracked += 1
        average.update(model, t)
        ages = np.arange(t)[::-1]
        shares = np.full(t, 1 / t) if decay == 1 else (1 - decay) * decay**ages / (1 - decay**t)
        assert shares.sum() == pytest.approx(1)
        np.testing.assert_allclose(average.model.weight.numpy(), shares @ history[:t], atol=1e-6)
    assert int(average.model.num_batches_tracked) == 25
    assert not any(p.requires_grad for p in average.model.parameters())


def test_the_average_is_what_is_validated_and_kept(tmp_path: Path) -> None:
    class Followed(Toy):
        def __init__(self, **config: Any) -> None:
            super().__init__(**config)
            self.track: list[np.ndarray] = []
            self.judged: list[np.ndarray] = []

        def after_step(self, model: Any) -> None:
            super().after_step(model)
            self.track.append(model.layers[0].weight.detach().numpy().copy())

        def validate(self, model: Any) -> dict[str, float]:
            self.judged.append(model.layers[0].weight.numpy().copy())
            return {}

    toy = Followed(epochs=4, ema=0.9)
    fitted, records = run(toy, tmp_path)
    shares = 0.1 * 0.9 ** np.arange(20)[::-1] / (1 - 0.9**20)
    expected = np.tensordot(shares, np.stack(toy.track), 1)
    np.testing.assert_allclose(fitted.model.layers[0].weight.detach().numpy(), expected, atol=1e-6)
    np.testing.assert_array_equal(toy.judged[-1], fitted.model.layers[0].weight.detach().numpy())
    assert fitted.kept == {} and of("validation", records) == []


def test_without_validation_or_average_the_last_weights_are_kept(tmp_path: Path) -> None:
    class Blind(Toy):
        def validate(self, model: Any) -> dict[str, float]:
            return {}

        def after_step(self, model: Any) -> None:
            self.last = bits(model)

    toy = Blind(epochs=2)
    fitted, _ = run(toy, tmp_path)
    assert bits(fitted.model) == toy.last and fitted.kept_step == 10


def test_overfit_learns_a_few_items_by_heart(tmp_path: Path) -> None:
    toy = Toy(plain=True, epochs=120)
    fitted, records = run(toy, tmp_path, overfit=5)
    steps = of("step", records)
    assert steps[-1]["loss"] < 1e-3 * steps[0]["loss"] and fitted.steps == 600 and fitted.epochs == 600
    assert all(sorted(items) == [0, 1, 2, 3, 4] and epoch == 0 for epoch, items in toy.seen)
    assert of("validation", records) == [] and fitted.kept == {}


def test_a_loss_that_is_not_a_number_ends_with_its_step_and_parts(tmp_path: Path) -> None:
    class Broken(Toy):
        def batch(self, items: Any, epoch: int) -> dict[str, Any]:
            found = super().batch(items, epoch)
            if len(self.seen) == 8:
                found["y"] = found["y"] * torch.tensor([1.0, math.nan])
            return found

    with pytest.raises(DataError) as e:
        run(Broken(epochs=4, checkpoint_s=1e-9), tmp_path)
    text = str(e.value)
    assert text.startswith("the loss is nan at step 8 of 20 (first ") and ", second nan): lower lr" in text
    assert sorted(p.name for p in (tmp_path / "state").glob("*.json")) == ["step-000000006.json", "step-000000007.json"]
    fitted, records = run(Toy(epochs=4), tmp_path)
    assert records[0]["step"] == 7 and fitted.state == "done"


def test_weights_that_are_not_finite_are_never_saved(tmp_path: Path) -> None:
    class Exploding(Toy):
        def after_step(self, model: Any) -> None:
            if len(self.seen) == 3:
                model.layers[0].bias.fill_(math.inf)

    with pytest.raises(DataError, match=r"model\.layers\.0\.bias is not finite after step 3: lower lr"):
        run(Exploding(epochs=4, checkpoint_s=1e-9), tmp_path)
    assert max(p.name for p in (tmp_path / "state").glob("*")) == "step-000000002.safetensors"


def test_nothing_to_train_on_is_said_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="toy: no training items: give more measured sessions"):
        run(Toy(items=0), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_nothing_is_written_outside_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    away = tmp_path / "away"
    away.mkdir()
    monkeypatch.chdir(away)
    opened: list[str] = []
    real = os.open

    def watch(path: Any, flags: int, *rest: Any, **more: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            opened.append(str(path))
        return real(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", watch)
    run(Toy(epochs=2, checkpoint_s=1e-9), tmp_path / "run")
    assert len(opened) > 10 and all(p.startswith(str(tmp_path / "run" / "state")) for p in opened)
    assert list(away.iterdir()) == []


def test_the_learning_rate_rises_and_falls() -> None:
    flat = learning_rate(TrainConfig(lr=0.5), 10)
    assert [flat(s) for s in range(10)] == [0.5] * 10
    rate = learning_rate(TrainConfig(lr=1.0, warmup=4, decay=True), 105)
    assert [rate(s) for s in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rate(54) == pytest.approx(0.55) and rate(104) == pytest.approx(0.1)
    assert all(rate(s) > rate(s + 1) for s in range(4, 104))
    assert learning_rate(TrainConfig(lr=1.0, warmup=50, decay=True), 5)(4) == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize("total", [1, 7, 1999, 2000, 2001, 123_457])
def test_a_log_has_the_ends_and_no_more_than_its_share(total: int) -> None:
    logged = is_logged(total)
    steps = [s for s in range(1, total + 1) if logged(s)]
    assert steps[0] == 1 and steps[-1] == total and len(steps) <= 2002
    assert len(steps) >= min(total, 1000)


def test_time_is_given_to_parts_that_sum_to_one() -> None:
    now = [100.0]
    meter = Meter(10, 40, 5.0, clock=lambda: now[0])
    for part, seconds in (("data", 1.0), ("step", 7.0), ("validation", 1.0), ("checkpoint", 0.5), ("other", 0.5)):
        now[0] += seconds
        meter.lap(part, 64 if part == "data" else 0)
    record = meter.record(20, None)
    assert [record[f"share_{p}"] for p in PARTS] == pytest.approx([0.1, 0.7, 0.1, 0.05, 0.05])
    assert record["items_per_s"] == 6.4 and record["steps_per_s"] == 1 and record["eta_s"] == 20
    assert record["rss_bytes"] > 1e7 and meter.seconds == 15
    assert meter.is_beat_due() and not meter.is_beat_due()
    now[0] += MINUTE_S
    meter.lap("step")
    assert meter.is_minute_over() and meter.is_beat_due() and BEAT_S < MINUTE_S
    meter.record(20, None, restart=True)
    assert meter.record(20, None)["eta_s"] is None and not meter.is_minute_over()


def test_signs_of_life_come_during_steps_and_long_validations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("choreo_cli.training.meter.BEAT_S", 0.01)
    monkeypatch.setattr("choreo_cli.training.meter.MINUTE_S", 0.05)
    beats: list[dict[str, Any]] = []

    class Slow(Toy):
        during = 0

        def validate(self, model: Any) -> dict[str, float]:
            before = len(beats)
            for _ in range(10):
                self.pause_s = 0.01
                super().batch(np.arange(1), 0)
                super().validate(model)
            self.during += len(beats) - before
            return super().validate(model)

    toy = Slow(epochs=2, pause_s=0.005)
    _, records = run(toy, tmp_path, beat=beats.append)
    assert toy.during >= 10 and len(beats) > 25
    assert len(of("minute", records)) >= 2
    for record in [*beats, *of("minute", records)]:
        shares = [record[f"share_{p}"] for p in PARTS]
        assert (min(shares) >= 0 and sum(shares) == pytest.approx(1, abs=1e-6)) or record["seconds"] < 1e-6
        assert record["accelerator_bytes"] is None and record["steps"] == 10


def test_most_of_the_time_is_arithmetic(tmp_path: Path) -> None:
    class Wide(Toy):
        def model(self) -> Any:
            layers = [torch.nn.Linear(4, 128), torch.nn.ReLU(), torch.nn.Linear(128, 128), torch.nn.ReLU()]
            return torch.nn.Sequential(*layers, torch.nn.Linear(128, 128), torch.nn.ReLU(), torch.nn.Linear(128, 2))

        def after_step(self, model: Any) -> None:
            pass

    _, records = run(Wide(items=20_000, plain=True, batch=256, epochs=4), tmp_path)
    spent = {part: records[-1][f"share_{part}"] for part in ("step", "data", "other")}
    assert spent["step"] > 0.75 * sum(spent.values())  # 0.92 on an idle machine


def test_the_plan_is_known_before_the_run() -> None:
    plan = plan_of(Toy(items=150, epochs=30, validate_every=2))
    assert (plan.items, plan.per_epoch, plan.steps, plan.every) == (150, 5, 150, 10)
    assert [s for s in range(151) if plan.is_judged(s)] == list(range(10, 151, 10))
    assert plan_of(Toy(**FULL), 10_000).items == 150
    short = plan_of(Toy(items=150, epochs=30, steps=12))
    assert (short.steps, [s for s in range(13) if short.is_judged(s)]) == (12, [5, 10, 12])
    assert plan_of(Toy(items=150, epochs=2, steps=999)).steps == 10
    with pytest.raises(UsageError, match="--overfit -1"):
        plan_of(Toy(), -1)
