"""Training the gesture detector: items, targets, a small fit, and the gate over three seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gesture_cases as cases
import numpy as np
import pytest

from choreo_cli.errors import UsageError

torch = pytest.importorskip("torch")

from choreo_cli.dataset.frameset import read_frames  # noqa: E402
from choreo_cli.reflex import gesture_recipe_torch as recipe  # noqa: E402
from choreo_cli.reflex.gesture import Gesture  # noqa: E402
from choreo_cli.training.recipe import Job  # noqa: E402


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cases.synthetic_set(tmp_path_factory.mktemp("gestures") / "set", sessions=6, minutes=1.5, seed=11)


def opened(folder: Path, seed: int = 0, options: dict[str, Any] | None = None, **config: Any) -> recipe.GestureRecipe:
    return recipe.open_recipe(Job(folder, None, recipe.Config(**config), seed, options or {}))


def test_items_cover_every_training_frame_once_and_cross_no_run(small: Path) -> None:
    r = opened(small, length=100)
    made = r.batch(np.arange(r.n_items), 0)
    assert int(made["weight"].sum()) == sum(s.rows for s in r.frames.of("train"))
    assert made["x"].shape == (r.n_items, r.shape.reach + 100, 15)
    first = np.flatnonzero(r.items[:, 0] == r.items[:, 1])
    assert not made["x"][first, : r.shape.reach].any(), "before a run there is nothing"


def test_targets_peak_where_the_stepper_would_speak_of_the_onset(small: Path) -> None:
    r = opened(small, length=100)
    target = r.batch(np.arange(r.n_items), 0)["target"].numpy()
    session = r.frames.of("train")[0]
    own = np.flatnonzero([s == session.session_id for s in r.session])
    rows = np.concatenate([target[k] for k in own])[: session.rows]
    for k, label in enumerate(r.shape.classes):
        for onset in r.labels.of(session.session_id, label).tolist():
            at = round((onset - int(r.frames.t_us[session.row_start])) / 20_000) + r.rules.delay
            if 0 <= at < session.rows:
                assert rows[at, k] > 0.97
    assert 0.002 < (rows > 0.5).mean() < 0.01


def test_batches_are_a_function_of_seed_epoch_and_item(small: Path) -> None:
    r, again = opened(small, seed=3), opened(small, seed=3)
    some = np.array([5, 0, 7])
    one, two = r.batch(some, 2)["x"], again.batch(np.array([7, 5]), 2)["x"]
    assert torch.equal(one[[2, 0]], two)
    assert not torch.equal(one, r.batch(some, 3)["x"]) and not torch.equal(
        one, opened(small, seed=4).batch(some, 2)["x"]
    )


def test_motion_is_never_hidden_as_a_whole(small: Path) -> None:
    r = opened(small, drop=1.0, drop_motion=0.0, length=100)
    x = r.batch(np.arange(4), 0)["x"].numpy()[:, r.shape.reach :]
    assert (x[..., 11] == 1).all() and not x[..., 12:].any() and not x[..., 6:11].any()
    assert np.ptp(x[..., 0]) > 1


def test_a_small_fit_finds_gestures_and_its_twins_agree(small: Path, tmp_path: Path) -> None:
    r = opened(small, epochs=16, width=16, batch=8)
    model = cases.fit_briefly(r)
    before = r.validate(r.model())["loss"]
    assert r.validate(model)["loss"] < before / 3
    files = cases.Files(tmp_path / "run")
    done = r.finish(model, files)
    assert files.written[-1] == "model.json" and {"model.onnx", "model.npz"} < set(files.written)
    by = {e["name"]: e for e in done.metrics}
    assert set(by) == {f"gesture_f1_{c}" for c in ("drop", "freeze", "jump", "lean", "reach", "worst")}
    easy = by["gesture_f1_jump"]
    assert easy["value"] > 0.8 and easy["chance"] < 0.2 and easy["params"]["tolerance_ms"] == 200
    read = Gesture.read(tmp_path / "run")
    assert read.facts["latency_ms"] == 760 and read.facts["threshold_from"] == "val"
    again = recipe.score(tmp_path / "run", r.frames)
    assert again == done.metrics, "judging the folder later says the same"


def test_other_frames_are_held_out_as_a_whole(small: Path, tmp_path: Path) -> None:
    r = opened(small, epochs=1, width=4)
    r.finish(cases.fit_briefly(r), cases.Files(tmp_path / "run"))
    other = read_frames(cases.synthetic_set(tmp_path / "other", sessions=2, minutes=0.5, seed=12))
    entries = recipe.score(tmp_path / "run", other)
    assert entries[0]["params"]["sessions"] == 2


def test_gestures_without_measured_motion_are_not_asked_for(small: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    r = opened(small, epochs=1, width=4)
    r.finish(cases.fit_briefly(r), cases.Files(tmp_path / "run"))
    x, mask = r.frames.x.copy(), r.frames.mask.copy()
    x[:, :6], mask[:, 0] = np.nan, False
    entries = recipe.score(tmp_path / "run", replace(r.frames, x=x, mask=mask))
    assert all(e["value"] is None and e["params"]["support"] == 0 for e in entries[:-1])
    assert sum(e["params"]["not_observable"] for e in entries[:-1]) > 5


def test_frames_without_labels_are_refused_in_one_line(small: Path, tmp_path: Path) -> None:
    import shutil

    folder = shutil.copytree(small, tmp_path / "bare")
    for meta in folder.glob("*/meta.json"):
        meta.unlink()
    with pytest.raises(UsageError, match=r"no labelled gestures: looked for .*labels.csv and .*meta.json"):
        opened(folder)
    rows = ["session,t_s,label", *(f"session-000{k},{t},wave" for k in range(6) for t in (3, 9, 15))]
    (tmp_path / "mine.csv").write_text("\n".join(rows))
    r = opened(folder, labels=str(tmp_path / "mine.csv"))
    assert r.shape.classes == ("wave",) and [i["role"] for i in r.inputs] == ["frames", "labels"]


@pytest.mark.slow
def test_gate_every_class_on_held_out_sessions_three_seeds(tmp_path: Path) -> None:
    train = cases.synthetic_set(tmp_path / "train", sessions=15, minutes=3, seed=1000)
    held = read_frames(cases.synthetic_set(tmp_path / "held", sessions=9, minutes=3, seed=2000))
    for seed in range(3):
        r = opened(train, seed, {"split": "hash"})
        r.finish(cases.fit_briefly(r), cases.Files(tmp_path / f"run{seed}"))
        for e in recipe.score(tmp_path / f"run{seed}", held):
            assert e["pass"] is True and e["value"] >= 0.85, (seed, e)
            assert e["name"] == "gesture_f1_worst" or (e["n"] >= 40 and e["chance"] < 0.05)
