"""`train lookahead` from end to end: the run it reads, a small training, the files, and the gate over three seeds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from choreo_cli.dataset.frameset import read_frames
from choreo_cli.errors import DataError, NoInputError, UsageError
from choreo_cli.reflex.from_run import open_inputs, parent_rps, with_splits
from choreo_cli.training.recipe import Job
from formats.errors import FormatError
from formats.manifest import Manifest, Root, decode, encode
from tests.reflex.lookahead_cases import Files, random_rps, synthetic_set


def write_run(folder: Path, entries: list[dict[str, Any]], data: Path, extra: tuple[Root, ...] = ()) -> Manifest:
    """A `run.json` and what a reader of it gets."""
    roots = [Root("out", str(folder), True), Root("data", str(data)), *extra]
    made_by = {"run_id": "0" * 12, "command": "train"}
    file = folder / "run.json"
    file.write_bytes(encode(Manifest("choreo.run/1", made_by, entries, roots)))
    return decode(file.read_bytes(), source=str(file), file=file)


def run_entry(recipe: str, seed: int, path: str, data: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "id": f"{recipe}{seed}", "recipe": recipe, "seed": seed, "path": path, "state": "done", "steps": 1,
        "epochs": 1.0, "parameters": 1, "device": "cpu", "config": {}, "data": data, "parents": [], "files": {},
        "metrics": [], "synthetic": True, **more,
    }  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic_set(tmp_path_factory.mktemp("lookahead") / "data", sessions=4, minutes=1, seed=5)


@pytest.fixture(scope="module")
def rps(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A summary of two seeds of M1, trained with a split that is not the default one."""
    top, frames = tmp_path_factory.mktemp("rps"), read_frames(data)
    for seed in (0, 1):
        random_rps(top / f"seed-{seed}", frames, seed)
    ids = [s.session_id for s in frames.sessions]
    stated = {**frames.record("data"), "sessions": {"train": ids[1:3], "val": [ids[3]], "test": [ids[0]]}}
    write_run(top, [run_entry("rps", seed, f"seed-{seed}", stated) for seed in (0, 1)], data)
    return top


def manifest_of(folder: Path) -> Manifest:
    return decode((folder / "run.json").read_bytes(), file=folder / "run.json")


def job(source: Path | None = None, manifest: Manifest | None = None, **options: Any) -> Job:
    return Job(source, manifest, None, options.pop("seed", 1), options, options.pop("roots", {}))


def test_a_run_gives_the_rps_of_its_seed_and_the_frames_with_its_splits(rps: Path, data: Path) -> None:
    found = open_inputs(job(manifest=manifest_of(rps)))
    ids = [s.session_id for s in found.frames.sessions]
    assert found.data["sessions"] == {"train": ids[1:3], "val": [ids[3]], "test": [ids[0]]}
    assert found.parents == [
        {"role": "rps", "run_id": "rps1", "sha256": found.rps.sha256, "root": "rps", "path": "seed-1"}
    ]
    assert found.roots == {"data": data, "rps": rps}
    assert [i["role"] for i in found.inputs] == ["frames", "rps"] and found.notes == []
    other = open_inputs(job(manifest=manifest_of(rps), seed=7))
    assert other.notes == ["no rps of seed 7: took the one of seed 0"]
    # Piped: the manifest has no file, its roots say where everything lies.
    piped = replace(manifest_of(rps), file=None)
    assert open_inputs(job(manifest=piped)).rps.sha256 == found.rps.sha256


def test_data_with_the_option_rps_keeps_the_splits_of_that_run(rps: Path, data: Path, tmp_path: Path) -> None:
    found = open_inputs(job(data, rps=rps))
    assert found.data["sessions"] == open_inputs(job(manifest=manifest_of(rps))).data["sessions"]
    bare = open_inputs(job(data, rps=rps / "seed-0"))
    assert bare.notes == ["the rps has no run.json: its data is unknown"] and bare.parents[0]["path"] == "."
    other = open_inputs(job(data, rps=rps, split="loso", fold=1))
    held = [s.session_id for s in other.frames.of(("val", "test"))]
    seen = found.data["sessions"]["train"]
    assert other.notes == [f"{s} is held out here, and the rps was trained on it" for s in held if s in seen] != []
    assert other.data["leaks"] == other.notes


def test_what_is_not_there_is_named_in_one_line(rps: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "vacant").mkdir()
    with pytest.raises(NoInputError, match=r"^nothing in .*vacant: give a run of choreo train rps$"):
        open_inputs(job(tmp_path / "vacant"))
    with pytest.raises(UsageError, match=r"^these frames come without a trained rps: give --rps RUN"):
        open_inputs(job(data))
    with pytest.raises(NoInputError, match=r"no run folder .*nowhere"):
        open_inputs(job(data, rps=tmp_path / "nowhere"))
    moved = write_run(tmp_path, manifest_of(rps).entries, tmp_path / "gone")
    with pytest.raises(NoInputError, match=r"nothing at .*seed-1"):
        open_inputs(job(manifest=moved))
    for seed in (0, 1):
        random_rps(tmp_path / f"seed-{seed}", read_frames(data), seed)
    with pytest.raises(NoInputError, match=r"no folder .*gone: say where it lies: --root data=DIR$"):
        open_inputs(job(manifest=moved))
    assert open_inputs(replace(job(manifest=moved), roots={"data": str(data)})).frames.folder == data
    (tmp_path / "empty").mkdir()
    with pytest.raises(NoInputError, match=r"nothing at .*sessions.json: say where it lies: --root data=DIR$"):
        open_inputs(replace(job(manifest=moved), roots={"data": str(tmp_path / "empty")}))
    other = synthetic_set(tmp_path / "other", sessions=2, minutes=0.5, seed=9)
    with pytest.raises(FormatError, match="not the frames that the rps was trained on: changed since"):
        open_inputs(replace(job(manifest=moved), roots={"data": str(other)}))
    mapper = write_run(tmp_path, [run_entry("mapper", 0, ".", {})], data)
    with pytest.raises(UsageError, match=r"^the run is mapper, need rps: give a run of choreo train rps$"):
        open_inputs(job(manifest=mapper))


def test_a_session_that_the_run_does_not_name_takes_part_in_nothing(data: Path) -> None:
    frames = read_frames(data)
    name = frames.sessions[0].session_id
    assert [s.split for s in with_splits(frames, {"train": [name]}).sessions] == ["train", "none", "none", "none"]


def small(seed: int = 0, **more: Any) -> Any:
    from choreo_cli.reflex.lookahead_recipe_torch import Config

    return Config(**{"epochs": 4, "batch": 8, "channels": 16, "chunk": 64, "hop": 32, **more})


def test_a_small_training_beats_every_baseline_and_writes_what_it_is(rps: Path, data: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from choreo_cli.reflex.lookahead import Lookahead
    from choreo_cli.reflex.lookahead_recipe_torch import open_recipe, score
    from choreo_cli.training.loop import fit

    recipe = open_recipe(replace(job(manifest=manifest_of(rps), seed=0), config=small()))
    losses = []
    fitted = fit(
        recipe, tmp_path, identity="x", seed=0, resume=False,
        log=lambda r: losses.append(r["loss"]) if r["kind"] == "validation" else None,
    )  # fmt: skip
    assert losses[-1] < losses[0] and fitted.state == "done"
    finished = recipe.finish(fitted.model, Files(tmp_path))
    assert finished.notes == []
    by_name = {e["name"]: e for e in finished.metrics}
    assert by_name["lookahead.skill"]["pass"] and by_name["lookahead.skill"]["value"] > 0.05
    model = Lookahead.read(tmp_path)
    assert model.facts["sessions"] == recipe.data["sessions"]
    card = json.loads((tmp_path / "model.json").read_bytes())
    assert set(card["files"]) == {"model.safetensors", "model.onnx", "model.npz"}
    # The reading of motion energy is good enough to plan by.
    z, energy = recipe.train.latents(0), recipe.train.energy(0)
    assert np.corrcoef(model.activity(z), energy)[0, 1] > 0.8
    # Judged again as a finished run: M1 is found through the record, and must still be that M1.
    parents = recipe.parents
    write_run(tmp_path, [run_entry("lookahead", 0, ".", recipe.data, parents=parents)], data, (Root("rps", str(rps)),))
    again = {e["name"]: e for e in score(tmp_path, recipe.found.frames)}
    assert again["lookahead.skill"]["value"] == pytest.approx(by_name["lookahead.skill"]["value"], abs=1e-9)
    gone = Root("rps", str(tmp_path / "gone"))
    write_run(tmp_path, [run_entry("lookahead", 0, ".", recipe.data, parents=parents)], data, (gone,))
    with pytest.raises(NoInputError, match="gone") as missing:
        score(tmp_path, recipe.found.frames)
    assert "--root rps=DIR" in str(missing.value.hint)
    assert score(tmp_path, recipe.found.frames, {"rps": str(rps)})[0]["name"] == finished.metrics[0]["name"]
    changed = [{**parents[0], "path": "seed-1"}]
    write_run(tmp_path, [run_entry("lookahead", 0, ".", recipe.data, parents=changed)], data, (Root("rps", str(rps)),))
    with pytest.raises(FormatError, match="not the rps that this run was trained with"):
        parent_rps(tmp_path)


def test_items_follow_from_seed_epoch_and_number_alone(rps: Path) -> None:
    torch = pytest.importorskip("torch")
    from choreo_cli.reflex.lookahead_recipe_torch import open_recipe

    wanted = replace(job(manifest=manifest_of(rps), seed=3), config=small(noise=0.1))
    a, b = open_recipe(wanted), open_recipe(wanted)
    items = np.array([5, 1, 8])
    one, two = a.batch(items, 2), b.batch(items[::-1].copy(), 2)
    for name in one:
        assert torch.equal(one[name], two[name].flip(0))
    assert not torch.equal(one["x"], a.batch(items, 3)["x"])
    assert one["x"].shape == (3, 126 + 64, 107) and one["target"].shape == (3, 64, 8, 104)


def test_a_target_is_the_latent_that_many_ticks_ahead(rps: Path) -> None:
    pytest.importorskip("torch")
    from choreo_cli.reflex.lookahead import HORIZONS
    from choreo_cli.reflex.lookahead_recipe_torch import open_recipe

    recipe = open_recipe(replace(job(manifest=manifest_of(rps), seed=3), config=small()))
    made = recipe.batch(np.array([4]), 0)
    seen = made["x"][0, 126:, :104].numpy()
    for k, h in enumerate(HORIZONS[:-1]):
        assert np.array_equal(made["target"][0, : 64 - h, k].numpy(), seen[h:])


def test_sessions_too_short_to_learn_from_end_in_one_line(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from choreo_cli.reflex.lookahead_recipe_torch import open_recipe

    short = synthetic_set(tmp_path / "short", sessions=3, minutes=0.1, seed=1)
    rps = random_rps(tmp_path / "rps", read_frames(short))
    with pytest.raises(DataError, match=r"^no session can be used: session-0000: its longest stretch has 9.2 beats"):
        open_recipe(replace(job(short, rps=rps), config=small()))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_gate_over_three_seeds_and_three_tempi(tmp_path: Path) -> None:
    """M1 trained, M4 trained, judged on six sessions of another seed: every horizon beats every baseline."""
    pytest.importorskip("torch")
    from choreo_cli.reflex import lookahead_recipe_torch, rps_recipe_torch
    from choreo_cli.reflex.lookahead import Lookahead
    from choreo_cli.reflex.lookahead_score import judge
    from choreo_cli.reflex.lookahead_ticks import bar_activity
    from choreo_cli.reflex.planner_score import score_planner
    from choreo_cli.reflex.rps import Rps
    from choreo_cli.training.loop import fit

    train = synthetic_set(tmp_path / "train", sessions=6, minutes=3, seed=0)
    held = read_frames(synthetic_set(tmp_path / "held", sessions=6, minutes=3, seed=100))
    for seed in range(3):
        first, second = tmp_path / f"rps-{seed}", tmp_path / f"ahead-{seed}"
        m1 = rps_recipe_torch.open_recipe(Job(train, None, rps_recipe_torch.Config(), seed))
        m1.finish(fit(m1, first, identity="a", seed=seed).model, Files(first))
        config = lookahead_recipe_torch.Config()
        m4 = lookahead_recipe_torch.open_recipe(Job(train, None, config, seed, {"rps": first}))
        m4.finish(fit(m4, second, identity="b", seed=seed).model, Files(second))
        model, rps = Lookahead.read(second), Rps.read(first)
        found = {e["name"]: e for e in judge(model, rps, held, ("train", "val", "test"))}
        skills = [e for name, e in found.items() if name.startswith("lookahead.skill")]
        assert len(skills) == 9 and all(e["pass"] and e["ci"][0] > 0 for e in skills)
        assert found["lookahead.skill"]["value"] > 0.15 and found["lookahead.skill"]["params"]["sessions"] == 6
        past, _ = score_planner(None, held)
        ahead, spam = score_planner(None, held, ahead=lambda s, m=model, r=rps: bar_activity(m, r, held, s))
        assert ahead["pass"] and spam["pass"]
        assert ahead["params"]["exact"] > past["params"]["exact"] + 0.2
