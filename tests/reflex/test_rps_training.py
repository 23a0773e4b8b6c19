"""`train rps` end to end: the checkpoint and its twins, what is said of it, and data that leave much to be wished for."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rps_cases as cases

from choreo_cli.errors import DataError, UsageError
from formats import checkpoint, sealed, tensors
from formats.errors import FormatError
from formats.tables import read_metadata

torch = pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

from choreo_cli.dataset.frameset import read_frames  # noqa: E402
from choreo_cli.export.parity import parity  # noqa: E402
from choreo_cli.reflex import rps_recipe_torch as lane  # noqa: E402
from choreo_cli.reflex.inputs import BLOCK_SLICES, MODES  # noqa: E402
from choreo_cli.reflex.prox import proxstep  # noqa: E402
from choreo_cli.reflex.rps import Rps, shapes  # noqa: E402
from choreo_cli.reflex.rps_losses_torch import latents_of  # noqa: E402
from choreo_cli.reflex.translators_torch import Translators  # noqa: E402

FILES = {"model.json", "model.npz", "model.onnx", "model.safetensors"}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cases.four_sessions(tmp_path_factory.mktemp("rps") / "frames.parquet")


@pytest.fixture(scope="module")
def run(source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Any, Any]:
    """Folder, recipe, trained network and what `finish` said."""
    folder = tmp_path_factory.mktemp("run")
    recipe = cases.opened(source, options={"latents": str(folder / "all")}, epochs=12)
    model = cases.fitted(recipe, folder)
    return folder, recipe, model, recipe.finish(model, cases.Folder(folder))


def by_name(entries: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {e["name"]: e for e in entries}


def written(tmp_path: Path, source: Path, **config: Any) -> tuple[Rps, Any]:
    recipe = cases.opened(source, **{"epochs": 1, **config})
    done = recipe.finish(cases.fitted(recipe, tmp_path), cases.Folder(tmp_path))
    return Rps.read(tmp_path), done


def test_a_run_has_its_files_and_the_card_names_them(run: Any) -> None:
    folder, recipe, _, _ = run
    card = checkpoint.read_card(folder)
    assert {f.name for f in folder.iterdir() if f.is_file()} >= FILES
    assert set(card["files"]) == FILES - {"model.json"}
    assert card["facts"]["own_block_hidden"] and card["facts"]["clamp"] == "stacked"
    assert card["facts"]["never_seen"] == [] and card["facts"]["normalizer_rows"] == recipe.n_items == 3000
    assert card["facts"]["spectral_norm"] <= 0.9 + 1e-6 and card["facts"]["lipschitz"] <= 0.98 + 1e-6
    for file in (folder / "all").iterdir():
        assert read_metadata(file)["choreo.model.rps"] == card["files"]["model.safetensors"], "the latents name M1"


def test_figures_on_data_whose_modalities_share_what_they_know(run: Any) -> None:
    found = by_name(run[3].metrics)
    for m in MODES:
        assert found[f"rps.normalised_error.{m}"]["value"] < 0.6, m
        assert found[f"rps.latent_alive.{m}"]["pass"], m
        r2, error = found[f"rps.missing.{m}.r2"]["value"], found[f"rps.normalised_error.{m}"]["value"]
        assert r2 == pytest.approx(1 - error, abs=1e-5), "hiding a modality is what training did"
    assert found["rps.raw_loss"]["pass"] and found["rps.prox_lipschitz"]["pass"]
    assert found["rps.prox_gain"]["value"] > 0.1
    assert found["rps.raw_loss"]["ci"] is None and "one held-out" in found["rps.raw_loss"]["params"]["interval"]


def test_the_three_forms_agree(run: Any, source: Path) -> None:
    folder, recipe, model, _ = run
    rps, frames = Rps.read(folder), read_frames(source)
    x, mask = frames.x[::7].copy(), frames.mask[::7].copy()
    rng = np.random.default_rng(0)
    x[rng.random(x.shape) < 0.1] = np.nan
    mask &= rng.random(mask.shape) < 0.7
    z = rps.latents(x, mask)
    want = latents_of(recipe.calibrated(model), rps.standard, x, mask, rps.alpha)
    np.testing.assert_allclose(z, want, rtol=0, atol=1e-5)
    feeds = {"x": x, "mask": mask.astype(np.float32)}
    onnx = (folder / "model.onnx").read_bytes()
    assert parity(onnx, feeds, {"z": z, "z_normalised": rps.normalizer.apply(z)}, 1e-4) <= 1e-4
    assert parity(onnx, feeds, z) <= 1e-5
    with np.load(folder / "model.npz") as arrays:
        kept = tensors.read(folder / "model.safetensors")[0]
        assert set(arrays) == set(kept) and all((arrays[k] == kept[k]).all() for k in kept)


def test_a_frame_at_a_time_is_the_batch(run: Any, source: Path) -> None:
    rps, frames = Rps.read(run[0]), read_frames(source)
    x, mask = frames.x[:60].copy(), frames.mask[:60].copy()
    x[3, 4] = np.nan
    mask[5:20, 0] = False
    mask[30] = False
    batch = rps.latents(x, mask)
    np.testing.assert_allclose([rps.step(a, b) for a, b in zip(x, mask, strict=True)], batch, rtol=0, atol=2e-6)
    assert np.isfinite(batch).all() and batch.dtype == np.float32


def test_latents_are_encode_fill_prox(run: Any, source: Path) -> None:
    rps, frames = Rps.read(run[0]), read_frames(source)
    x, mask = frames.x[:50].copy(), frames.mask[:50].copy()
    mask[:, 0] = False
    z, measured = rps.encode(x, mask)
    mot = BLOCK_SLICES["mot"]
    assert not measured[:, 0].any() and (z[:, mot] == 0).all()
    whole = rps.fill(z, measured)
    np.testing.assert_allclose(whole[:, mot], rps.translators(z)[:, mot], atol=1e-7)
    assert (whole[:, 64:] == z[:, 64:]).all()
    np.testing.assert_allclose(rps.latents(x, mask), proxstep(whole, rps.translators, 0.2), atol=1e-7)


def test_the_prox_map_of_a_trained_checkpoint_contracts(run: Any, source: Path) -> None:
    rps, frames = Rps.read(run[0]), read_frames(source)
    z = rps.fill(*rps.encode(frames.x[:200], frames.mask[:200]))
    residual = [np.linalg.norm(rps.translators(z) - z)]
    for _ in range(20):
        z = proxstep(z, rps.translators, rps.alpha)
        residual.append(np.linalg.norm(rps.translators(z) - z))
    steps = np.array(residual[1:]) / np.array(residual[:-1])
    assert (steps <= 0.98 + 1e-5).all() and residual[-1] < 0.75 * residual[0]


def test_the_normaliser_was_fitted_on_the_training_rows(run: Any, source: Path) -> None:
    rps, frames = Rps.read(run[0]), read_frames(source)
    rows = np.concatenate([np.arange(s.row_start, s.row_start + s.rows) for s in frames.of("train")])
    y = rps.normalizer.apply(rps.latents(frames.x[rows], frames.mask[rows]))
    assert np.abs(y.mean(axis=0)).max() < 0.02 and y.std(axis=0) == pytest.approx(np.ones(104), abs=0.02)
    with pytest.raises(DataError, match="frozen"):
        rps.normalizer.update(y)


def test_latents_have_their_nominal_scale_on_the_training_rows(run: Any, source: Path) -> None:
    rps, frames = Rps.read(run[0]), read_frames(source)
    rows = np.concatenate([np.arange(s.row_start, s.row_start + s.rows) for s in frames.of("train")])
    z, _ = rps.encode(frames.x[rows], frames.mask[rows])
    for part in BLOCK_SLICES.values():
        np.testing.assert_allclose(z[:, part].var(axis=0), 1 / (part.stop - part.start), rtol=1e-3)
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-5)


def test_latents_of_every_session_are_written(run: Any, source: Path) -> None:
    from formats.columns import LATENT_NAMES, LATENTS
    from formats.tables import read_table

    frames = read_frames(source)
    assert sorted(p.name for p in (run[0] / "all").iterdir()) == [f"s{k}_latent.parquet" for k in range(4)]
    table = read_table(run[0] / "all" / "s1_latent.parquet", LATENTS)
    z = np.stack([table.column(n).to_numpy() for n in LATENT_NAMES], axis=1)
    part = frames.sessions[1].slice
    np.testing.assert_allclose(z, Rps.read(run[0]).latents(frames.x[part], frames.mask[part]), atol=1e-6)


def test_equal_work_gives_equal_bytes(run: Any, tmp_path: Path) -> None:
    folder, recipe, model, _ = run
    recipe = replace(recipe, latents=None)
    recipe.finish(model, cases.Folder(tmp_path))
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes(), name


@pytest.mark.parametrize("form", ["hidden", "literal"])
def test_a_training_stopped_twice_has_the_weights_and_the_scale_of_a_whole_one(
    source: Path, tmp_path: Path, form: str
) -> None:
    from choreo_cli.training.loop import fit

    config = {"epochs": 2, "form": form, **({} if form == "literal" else {"ema": 0.9})}

    def run(folder: Path, steps: int = 10**6) -> Any:
        asked = iter(range(steps))
        recipe = cases.opened(source, **config)
        return fit(recipe, folder, identity="same", seed=0, stop=lambda: next(asked, None) is None)

    whole, torn = run(tmp_path / "whole"), run(tmp_path / "torn", 5)
    assert torn.state == "stopped" and run(tmp_path / "torn", 7).state == "stopped"
    again = run(tmp_path / "torn")
    assert (again.state, again.steps) == ("done", whole.steps) and whole.steps > 12
    expected, found = whole.model.state_dict(), again.model.state_dict()
    assert any("units" in name for name in expected) == (form == "hidden")
    assert [k for k in expected if not torch.equal(expected[k], found[k])] == []


def test_score_of_the_folder_is_what_finish_said(run: Any, source: Path) -> None:
    assert lane.score(run[0], read_frames(source)) == run[3].metrics


def test_several_held_out_sessions_have_an_interval(run: Any, source: Path) -> None:
    frames = read_frames(source)
    every = replace(frames, sessions=tuple(replace(s, split="test") for s in frames.sessions))
    for e in lane.score(run[0], every):
        if e["name"] != "rps.prox_lipschitz":
            assert e["params"]["sessions"] == 4 and e["ci"][0] <= e["value"] <= e["ci"][1], e["name"]


def test_batches_follow_from_seed_epoch_and_item(source: Path) -> None:
    recipe, other = cases.opened(source), cases.opened(source, seed=1)
    items = np.array([4, 2999, 17])
    first, again = recipe.batch(items, 3), recipe.batch(items[::-1].copy(), 3)
    assert all((first[k].flip(0) == again[k]).all() for k in first)
    many = np.arange(500)
    assert (recipe.batch(many, 0)["kept"] != recipe.batch(many, 1)["kept"]).any()
    assert (recipe.batch(many, 0)["kept"] != other.batch(many, 0)["kept"]).any()


def test_validation_names_the_loss_and_changes_nothing(source: Path) -> None:
    recipe = cases.opened(source)
    torch.manual_seed(0)
    model = recipe.model()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    found = recipe.validate(model)
    assert found == recipe.validate(model) and model.training
    assert {"loss", "raw", *(f"normalised_{m}" for m in MODES)} <= set(found)
    assert all((before[k] == v).all() for k, v in model.state_dict().items())


def test_the_literal_loss_collapses_and_the_figures_say_so(source: Path, tmp_path: Path) -> None:
    recipe = cases.opened(source, options={"form": "literal"}, epochs=20)
    assert recipe.config.form == "literal" and recipe.config.reconstruct == 0 and not recipe.config.decay
    done = recipe.finish(cases.fitted(recipe, tmp_path), cases.Folder(tmp_path))
    found = by_name(done.metrics)
    assert found["rps.raw_loss"]["value"] < 0.01 and found["rps.raw_loss"]["pass"]
    assert [found[f"rps.latent_alive.{m}"]["pass"] for m in MODES] == [False] * 4
    assert any("literal" in n for n in done.notes)
    assert checkpoint.read_card(tmp_path)["facts"]["own_block_hidden"] is False


def test_the_literal_form_is_literal(source: Path) -> None:
    recipe = cases.opened(source, options={"form": "literal"})
    net = recipe.model()
    translators = net.translators
    assert isinstance(translators, Translators)
    assert not translators.through and not translators.hide_own and translators.clamp == "block"
    assert not net.units and recipe.weights.literal
    # A translator beyond the limit is used as it is, and brought back by itself after the step.
    with torch.no_grad():
        translators.layers()[0].weight.mul_(5)
    raw = translators.stacked()[0].detach().clone()
    z = torch.eye(raw.shape[1])
    bias = torch.cat([layer.bias for layer in translators.layers()])
    assert torch.equal(translators(z), torch.nn.functional.linear(z, raw, bias))
    recipe.after_step(net)
    norms = [float(torch.linalg.matrix_norm(layer.weight.detach(), 2)) for layer in translators.layers()]
    assert norms[0] == pytest.approx(0.9) and max(norms) <= 0.9 + 1e-6
    assert float(torch.linalg.matrix_norm(translators.stacked()[0].detach(), 2)) > 0.9


@pytest.mark.parametrize("more", [{"lr": 0.01}, {"clamp": "stacked", "reconstruct": 1.0}, {"into_target": False}])
def test_what_the_literal_form_fixes_is_not_taken_silently(source: Path, more: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="the literal form has"):
        cases.opened(source, options={"form": "literal"}, **more)


def test_an_unknown_form_is_refused(source: Path) -> None:
    with pytest.raises(UsageError, match="no form 'other'"):
        cases.opened(source, options={"form": "other"})


def test_a_set_without_heart_rate(tmp_path: Path) -> None:
    made = {f"s{k}": cases.waves(600, k) for k in range(4)}
    for x, mask in made.values():
        x[:, 6:8], mask[:, 1] = np.nan, False
    rps, done = written(tmp_path / "run", cases.write_frames(tmp_path / "f.parquet", made))
    assert rps.facts["never_seen"] == ["hr"] and any("hr was never seen" in n for n in done.notes)
    found = by_name(done.metrics)
    for name in ("normalised_error.hr", "latent_alive.hr", "missing.hr.r2"):
        e = found[f"rps.{name}"]
        assert (e["value"], e["status"], e["pass"]) == (None, "insufficient", None) and "never seen" in e["why"]
    assert found["rps.normalised_error.mot"]["value"] is not None
    # A live heart rate is not let in: the block was trained on nothing.
    x, mask = cases.waves(20)
    z = rps.latents(x, mask)
    assert (z[:, BLOCK_SLICES["hr"]] == 0).all() and not rps.measured(x, mask)[:, 1].any()
    x[:, 6] = 180
    assert (rps.latents(x, mask) == z).all()


def test_a_constant_modality_is_degenerate(tmp_path: Path) -> None:
    made = {f"s{k}": cases.waves(600, k) for k in range(4)}
    made["s3"][0][:, 6], made["s3"][0][:, 7] = 100, 0
    _, done = written(tmp_path / "run", cases.write_frames(tmp_path / "f.parquet", made))
    e = by_name(done.metrics)["rps.normalised_error.hr"]
    assert (e["value"], e["status"]) == (None, "degenerate") and "constant" in e["why"]


def test_a_held_out_session_without_a_modality_is_insufficient(tmp_path: Path) -> None:
    made = {f"s{k}": cases.waves(600, k) for k in range(4)}
    made["s3"][0][:, 8:10], made["s3"][1][:, 2] = np.nan, False
    _, done = written(tmp_path / "run", cases.write_frames(tmp_path / "f.parquet", made))
    e = by_name(done.metrics)["rps.normalised_error.aud"]
    assert (e["value"], e["status"], e["n"]) == (None, "insufficient", 0)


def test_nan_stretches_and_one_frame_sessions(tmp_path: Path) -> None:
    made = {f"s{k}": cases.waves(600, k) for k in range(4)}
    made |= {f"t{k}": cases.waves(1, k) for k in range(3)}
    for k in range(3):
        made[f"s{k}"][0][100:200] = np.nan
        made[f"s{k}"][1][150:200] = False
        made[f"s{k}"][0][300:310, 3:6] = np.nan
    rps, done = written(tmp_path / "run", cases.write_frames(tmp_path / "f.parquet", made))
    assert all(np.isfinite(v) for e in done.metrics for v in [e["value"]] if v is not None)
    x, mask = made["s0"]
    assert np.isfinite(rps.latents(x, mask)).all()


def test_one_modality_alone_cannot_be_trained(tmp_path: Path) -> None:
    made = {f"s{k}": cases.waves(100, k) for k in range(3)}
    for _, mask in made.values():
        mask[:, 1:] = False
    with pytest.raises(DataError, match="only mot is measured"):
        cases.opened(cases.write_frames(tmp_path / "f.parquet", made))


def altered(run: Any, tmp_path: Path, change: Any) -> Path:
    """A copy of the run whose card was changed and sealed again."""
    folder = tmp_path / "other"
    shutil.copytree(run[0], folder, ignore=shutil.ignore_patterns("state", "all"))
    card = sealed.parse((folder / "model.json").read_bytes())
    change(card)
    (folder / "model.json").write_bytes(sealed.dumps(card))
    return folder


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.update(recipe="mapper"), "the model is mapper, need rps"),
        (lambda c: c["arch"]["blocks"].update(mot=32), "another architecture"),
        (lambda c: c["arch"]["modalities"].update(hr=["hr"]), "another architecture"),
        (lambda c: c["arch"].update(hidden=64), "another architecture"),
        (lambda c: c["arch"].update(hidden="wide"), "hidden width"),
        (lambda c: c["arch"].update(alpha=2), "prox step"),
        (lambda c: c["arch"].pop("blocks"), "another architecture"),
        (lambda c: c["facts"].update(never_seen=["eeg"]), "names no modality"),
    ],
)
def test_a_checkpoint_of_another_kind_is_refused_by_name(run: Any, tmp_path: Path, change: Any, words: str) -> None:
    with pytest.raises(FormatError, match=words):
        Rps.read(altered(run, tmp_path, change))


def test_damaged_weights_are_refused(run: Any, tmp_path: Path) -> None:
    folder = altered(run, tmp_path, lambda card: None)
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    for bad in (whole[:-1], whole[: len(whole) // 2], b"", whole[:-4] + b"\0\0\0\1"):
        weights.write_bytes(bad)
        with pytest.raises(FormatError, match="damaged or changed"):
            Rps.read(folder)
    weights.unlink()
    with pytest.raises(FormatError, match="missing from the checkpoint"):
        Rps.read(folder)
    with pytest.raises(FormatError, match="no checkpoint here"):
        Rps.read(tmp_path)


def test_truncated_weights_whose_hash_was_renewed_are_refused(run: Any, tmp_path: Path) -> None:
    import hashlib

    cut = (run[0] / "model.safetensors").read_bytes()[:-400]
    folder = altered(run, tmp_path, lambda c: c["files"].update({"model.safetensors": hashlib.sha256(cut).hexdigest()}))
    (folder / "model.safetensors").write_bytes(cut)
    with pytest.raises(FormatError):
        Rps.read(folder)


def test_twins_that_disagree_are_not_written(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = cases.opened(source, epochs=1)
    torch.manual_seed(0)
    monkeypatch.setattr(lane, "latents_of", lambda *a: latents_of(*a) + 1e-3)
    with pytest.raises(DataError, match=r"numpy and torch: they differ by 0\.001"):
        recipe.finish(recipe.model(), cases.Folder(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_the_twin_needs_no_torch(run: Any) -> None:
    import subprocess
    import sys

    code = (
        "import sys, numpy as np\nfrom pathlib import Path\nfrom choreo_cli.reflex.rps import Rps\n"
        f"r = Rps.read(Path({str(run[0])!r}))\n"
        "r.latents(np.zeros((3, 11), np.float32), np.ones((3, 4), bool))\nimport choreo_cli.reflex.rps_score\n"
        "assert not {'torch', 'onnx', 'onnxruntime'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, cwd=Path(__file__).resolve().parents[2])


def test_arrays_of_the_checkpoint_are_the_ones_of_the_table(run: Any) -> None:
    arrays = tensors.read(run[0] / "model.safetensors")[0]
    assert {k: v.shape for k, v in arrays.items()} == shapes()
    assert json.loads((run[0] / "model.json").read_text())["arch"]["hidden"] == 128


@pytest.mark.slow
def test_the_gates_on_synthetic_sessions_over_three_seeds(tmp_path: Path) -> None:
    """Sessions of the generator at 92, 120 and 140 BPM; six others are held out.

    Heart rate is the exception, measured and not passed: its slope looks back 4 s and its rate lags 3.5 s, and no
    function of one frame of it shares more than about 0.4 of its variance with any function of the other inputs.
    """
    from gesture_cases import synthetic_set

    train = synthetic_set(tmp_path / "train", sessions=6, minutes=3, seed=0)
    held = read_frames(synthetic_set(tmp_path / "held", sessions=6, minutes=3, seed=100))
    held = replace(held, sessions=tuple(replace(s, split="test") for s in held.sessions))
    for seed in range(3):
        folder = tmp_path / f"seed-{seed}"
        recipe = cases.opened(train, seed=seed)
        recipe.finish(cases.fitted(recipe, folder), cases.Folder(folder))
        found = by_name(lane.score(folder, held))
        failed = {name for name, e in found.items() if not e["pass"]}
        assert failed == {"rps.normalised_error.hr", "rps.missing.hr.r2"}
        assert found["rps.normalised_error.hr"]["value"] < 0.75
