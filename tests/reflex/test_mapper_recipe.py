"""The mapper recipe: items, targets and files on small sessions, with a random M1; and input nobody wishes for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
torch.set_num_threads(1)

from choreo_cli.errors import ConfigError, DataError, NoInputError, UsageError  # noqa: E402
from choreo_cli.reflex import mapper_recipe_torch as lane  # noqa: E402
from choreo_cli.reflex import rps as m1  # noqa: E402
from choreo_cli.reflex.mapper import Mapper  # noqa: E402
from choreo_cli.reflex.mapper_data import Items, evenly  # noqa: E402
from choreo_cli.reflex.mapper_mix import ROWS, mixed, stretched  # noqa: E402
from choreo_cli.reflex.teacher import beat_rate, teach  # noqa: E402
from choreo_cli.training.recipe import Job  # noqa: E402
from formats import checkpoint  # noqa: E402
from formats.atomic import write_bytes  # noqa: E402
from formats.columns import CONTROL_NAMES, CONTROLS, FRAMES, INPUTS, LATENTS, MASKS  # noqa: E402
from formats.tables import read_metadata, read_table, validate, write_table  # noqa: E402

STEP = 20_000
PHASE = [c.name for c in INPUTS].index("beat_phase")


def columns(name: str, n: int, bpm: float, seed: int) -> dict[str, Any]:
    rng, t = np.random.default_rng(seed), 0.02 * np.arange(n)
    beat = t * bpm / 60

    def slow(mean: float, spread: float) -> np.ndarray:
        return mean + spread * np.sin(rng.uniform(0.2, 0.6) * t + rng.uniform(0, 6))

    phase = np.mod(beat, 1)
    pulse = np.exp(-0.5 * (np.minimum(phase, 1 - phase) / 0.1) ** 2)
    values = {
        "motion_energy": slow(0.3, 0.2) * (0.3 + pulse), "motion_freq": bpm / 60 * slow(1.0, 0.1),
        "jerk": 0.03 + pulse**4 * slow(0.5, 0.3), "hip_sway": slow(0, 0.4), "hip_bounce": slow(0, 0.4),
        "symmetry": slow(0.8, 0.15), "hr": slow(110, 20), "hr_slope": slow(0, 1.5), "audio_energy": slow(0.5, 0.2),
        "audio_brightness": slow(0.5, 0.2), "beat_phase": np.minimum(phase, 0.99999),
    }  # fmt: skip
    return {
        "session_id": [name] * n,
        "t_us": STEP * np.arange(n, dtype=np.int64),
        **{k: v.astype(np.float32) for k, v in values.items()},
        "beat_idx": beat.astype(np.int32),
        **{m: np.ones(n, bool) for m in MASKS},
        "synthetic": np.ones(n, bool),
    }


def frames_file(folder: Path, *sessions: dict[str, Any]) -> Path:
    parts = {k: [s[k] for s in sessions] for k in sessions[0]}
    whole = {
        k: [name for part in v for name in part] if k == "session_id" else np.concatenate(v) for k, v in parts.items()
    }
    write_table(folder / "frames.parquet", FRAMES, whole)
    return folder / "frames.parquet"


@pytest.fixture(scope="module")
def rps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng = tmp_path_factory.mktemp("rps"), np.random.default_rng(0)
    a = {k: (rng.standard_normal(s) / np.sqrt(s[-1])).astype(np.float32) for k, s in m1.shapes().items()}
    a["input.mean"] = np.array([0.2, 2, 0.1, 0, 0, 0.8, 110, 0, 0.5, 0.5, 0], np.float32)
    a["input.std"] = np.array([0.2, 0.4, 0.2, 0.3, 0.3, 0.1, 15, 1, 0.2, 0.2, 0.3], np.float32)
    a["normalizer.count"] = np.array([1000], np.int64)
    a["normalizer.mean"], a["normalizer.square"] = np.zeros(104), np.full(104, 1000.0)
    for name, data in checkpoint.encode(checkpoint.Checkpoint("rps", m1.arch(), a)).items():
        write_bytes(folder / name, data)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sessions = [columns(f"s{k}", 1700, bpm, k) for k, bpm in enumerate((92, 120, 140))]
    return frames_file(tmp_path_factory.mktemp("data"), *sessions)


class Files:
    """Where a run puts its files."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.created_by, self.files = folder, {"run_id": "test"}, dict[str, tuple[str, str]]()

    def target(self, relative: str) -> Path:
        (self.folder / relative).parent.mkdir(parents=True, exist_ok=True)
        return self.folder / relative

    def add(self, role: str, relative: str, sha256: str) -> None:
        self.files[relative] = (role, sha256)

    def write(self, role: str, relative: str, data: bytes) -> None:
        self.add(role, relative, write_bytes(self.target(relative), data))


def opened(source: Path, rps: Path, seed: int = 0, options: dict[str, Any] | None = None, **config: Any) -> Any:
    return lane.open_recipe(Job(source, None, lane.Config(**config), seed, {"rps": str(rps), **(options or {})}))


def fitted(recipe: Any, steps: int = 20) -> Any:
    torch.manual_seed(0)
    model = recipe.model()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    order = np.random.default_rng(0)
    for _ in range(steps):
        batch = recipe.batch(order.integers(0, recipe.n_items, recipe.config.batch), 0)
        loss, _ = recipe.loss(model, batch, torch.Generator())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert torch.isfinite(loss)
    return model


def test_items_cross_nothing() -> None:
    runs = np.array([[0, 100], [100, 132], [140, 300], [300, 301]])
    items = Items(runs, 33, 4)
    assert len(items) == (100 - 33) // 4 + 1 + 0 + (160 - 33) // 4 + 1 + 0
    starts = items.starts(np.arange(len(items)))
    inside = [any(a <= s and s + 33 <= b for a, b in runs) for s in starts]
    assert all(inside) and len(set(starts.tolist())) == len(items)
    assert {0, 140} <= set(starts.tolist()) and (np.diff(starts[:17]) == 4).all()


def test_evenly_spread() -> None:
    assert evenly(5, 10).tolist() == [0, 1, 2, 3, 4] and evenly(0, 10).tolist() == []
    many = evenly(180_000_000, 1000)
    assert len(many) == 1000 and many[-1] < 180_000_000 and set(np.diff(many)) == {180_000}


@pytest.mark.parametrize("mode", ["window", "stream"])
def test_batches_from_memory_and_from_disk_are_the_same(data: Path, rps: Path, mode: str) -> None:
    kept, mapped = (opened(data, rps, mode=mode, cache_mb=mb) for mb in (64, 0))
    assert kept.n_items == mapped.n_items
    chosen = np.arange(0, kept.n_items, max(1, kept.n_items // 40))
    a, b = kept.batch(chosen, 0), mapped.batch(chosen, 0)
    for key in a:
        torch.testing.assert_close(a[key], b[key], atol=1e-5, rtol=0, equal_nan=True)
    again = kept.batch(chosen, 3)
    assert all(torch.equal(torch.nan_to_num(a[k]), torch.nan_to_num(again[k])) for k in a)


def test_a_window_item_is_frames_and_their_targets(data: Path, rps: Path) -> None:
    recipe = opened(data, rps, mix=0, stride=1, normalizer=False, margin=0.1, window=32)
    batch = recipe.batch(np.array([0, 7]), 0)
    assert batch["z"].shape == (2, 33, 104) and batch["y"].shape == (2, 13, 5)
    frames, train = recipe.frames, recipe.frames.of("train")[0]
    rows = slice(train.row_start + 7, train.row_start + 7 + 33)
    np.testing.assert_allclose(batch["z"][1], recipe.rps.latents(frames.x[rows], frames.mask[rows]), atol=1e-5)
    y = teach(frames.x[train.slice], frames.mask[train.slice], frames.t_us[train.slice])
    np.testing.assert_allclose(batch["y"][1], np.clip(y[7 + 20 : 7 + 33], 0.1, 0.9), atol=1e-6)
    np.testing.assert_array_equal(batch["phase"][1], frames.x[rows, PHASE][20:])


def test_a_stream_item_settles_first_and_some_begin_afresh(data: Path, rps: Path) -> None:
    recipe = opened(data, rps, mix=0, mode="stream", chunk=100, settle=30)
    batch = recipe.batch(np.arange(16), 0)
    assert batch["z"].shape == (16, 100, 104) and batch["y"].shape == (16, 70, 5)
    assert np.flatnonzero(batch["carry"] == 0).tolist() == [0, 8] and recipe.config.batch == 16
    with pytest.raises(ConfigError, match="settle=99 leaves nothing of chunk=100"):
        opened(data, rps, mode="stream", chunk=100, settle=99)


def test_mixed_sessions_keep_the_rule(data: Path, rps: Path) -> None:
    frames = opened(data, rps).frames
    made = mixed(frames, frames.runs("train"), 3, seed=4)
    assert made is not None and len(made.x) == 3 * ROWS and {s.split for s in made.sessions} == {"train"}
    np.testing.assert_array_equal(made.x, mixed(frames, frames.runs("train"), 3, seed=4).x)
    assert not np.array_equal(made.x, mixed(frames, frames.runs("train"), 3, seed=5).x)
    for k, c in enumerate(INPUTS):
        assert made.x[:, k].min() >= c.lo and made.x[:, k].max() <= c.hi and made.x[:, PHASE].max() < 1
    seen = set(frames.x[frames.of("train")[0].slice, 0].tolist())
    assert set(made.x[:, 0].tolist()) <= seen
    assert mixed(frames, np.array([[0, ROWS - 1]]), 4, 0) is None and mixed(frames, frames.runs("train"), 0, 0) is None


def test_a_stretched_phase_has_the_stretched_tempo() -> None:
    t_us = STEP * np.arange(400, dtype=np.int64)
    phase = np.mod(t_us * 2e-6, 1).astype(np.float32)
    phase[100:110] = np.nan
    out = stretched(phase, 1.25)
    assert np.isnan(out[100:110]).all() and np.isfinite(out[110:]).all()
    assert beat_rate(out, np.ones(400, bool), t_us)[-1] == pytest.approx(2.5, abs=1e-4)


@pytest.mark.parametrize("mode", ["window", "stream"])
def test_a_run_writes_what_it_says(data: Path, rps: Path, mode: str, tmp_path: Path) -> None:
    recipe = opened(data, rps, options={"mode": mode, "controls": str(tmp_path / "all")}, batch=16)
    assert recipe.config.mode == mode and recipe.validate(recipe.model())["loss"] > 0
    model = fitted(recipe)
    files = Files(tmp_path / "run")
    done = recipe.finish(model, files)
    assert {m["name"] for m in done.metrics} >= {f"mapper.r2.{c}" for c in CONTROL_NAMES} | {"mapper.loss_ratio"}
    held = sorted(s.session_id for s in recipe.frames.of(("val", "test")))
    assert [f for f in sorted(files.files) if f.startswith("controls/")] == [
        f"controls/{s}_controls.parquet" for s in held
    ]
    assert list(files.files)[-1 - len(held)] == "model.json"
    assert len(list((tmp_path / "all").glob("*_controls.parquet"))) == 3
    mapper = Mapper.read(tmp_path / "run")
    assert mapper.mode == mode and mapper.rps_sha256 == recipe.rps.sha256
    file = tmp_path / "run" / f"controls/{held[0]}_controls.parquet"
    table = read_table(file, CONTROLS)
    validate(CONTROLS, table, file)
    assert read_metadata(file)["choreo.model.mapper"] == mapper.sha256
    assert recipe.parents[0]["sha256"] == recipe.rps.sha256 and set(recipe.roots) == {"data", "rps"}


def test_equal_work_has_equal_bytes(data: Path, rps: Path, tmp_path: Path) -> None:
    found = []
    for name in ("a", "b"):
        recipe, files = opened(data, rps, batch=16), Files(tmp_path / name)
        recipe.finish(fitted(recipe, 3), files)
        found.append(dict(files.files))
    assert found[0] == found[1]


@pytest.mark.parametrize("mode", ["window", "stream"])
def test_a_training_stopped_twice_has_the_weights_of_a_whole_one(
    data: Path, rps: Path, tmp_path: Path, mode: str
) -> None:
    from choreo_cli.training.loop import fit

    sizes = {"chunk": 48, "settle": 24, "batch": 64} if mode == "stream" else {"window": 24}

    def run(folder: Path, steps: int = 10**6) -> Any:
        asked = iter(range(steps))
        recipe = opened(data, rps, mode=mode, stride=8, mix=1, min_steps=0, epochs=2, steps=14, **sizes)
        return fit(recipe, folder, identity="same", seed=0, stop=lambda: next(asked, None) is None)

    whole, torn = run(tmp_path / "whole"), run(tmp_path / "torn", 4)
    assert torn.state == "stopped" and run(tmp_path / "torn", 6).state == "stopped"
    again = run(tmp_path / "torn")
    assert (again.state, again.steps) == ("done", whole.steps) and whole.steps > 10
    expected, found = whole.model.state_dict(), again.model.state_dict()
    assert [k for k in expected if not torch.equal(expected[k], found[k])] == []


def test_learn_by_example(data: Path, rps: Path, tmp_path: Path) -> None:
    lines = [f"{0.1 * k:.1f},{0.5 + 0.4 * np.sin(k / 9):.4f}" for k in range(300)]
    (tmp_path / "f.csv").write_text("t_s,density\n" + "\n".join(lines) + "\n")
    options = {"targets": str(tmp_path / "f.csv")}
    with pytest.raises(UsageError, match="targets_session"):
        opened(data, rps, options=options)
    recipe = opened(data, rps, options=options, targets_session="s1", batch=16)
    assert recipe.data["targets"] == {**dict.fromkeys(CONTROL_NAMES, "rule"), "density": "example"}
    assert recipe.inputs[-1]["role"] == "targets" and recipe.data["within_session"]
    assert recipe.config.epochs * -(-recipe.n_items // 16) >= recipe.config.min_steps
    done = recipe.finish(fitted(recipe, 10), Files(tmp_path / "run"))
    r2 = next(m for m in done.metrics if m["name"] == "mapper.r2.density")
    assert r2["params"]["split"].startswith("within-session") and r2["params"]["sessions"] == ["s1"]
    assert any("last 20 %" in n for n in done.notes)
    assert Mapper.read(tmp_path / "run").facts["sources"]["density"] == "example"


@pytest.mark.slow
def test_a_mapping_of_ones_own_is_learned_from_half_a_minute(data: Path, rps: Path, tmp_path: Path) -> None:
    """density = 1 - symmetry, recorded on s1, is followed on s2: another session, another tempo."""
    from choreo_cli.reflex.mapper_score import r2
    from choreo_cli.reflex.timelines import controls_of
    from choreo_cli.training.loop import fit

    frames = opened(data, rps).frames
    symmetry = [c.name for c in INPUTS].index("symmetry")
    moved = frames.x[frames.sessions[1].slice, symmetry]
    rows = [f"{0.02 * k:.2f},{2 * (1 - v):.4f}" for k, v in enumerate(moved)]
    (tmp_path / "f.csv").write_text("t_s,density\n" + "\n".join(rows) + "\n")
    recipe = opened(data, rps, options={"targets": str(tmp_path / "f.csv")}, targets_session="s1", min_steps=300)
    fitted_model = fit(recipe, tmp_path, identity="x", seed=0).model
    recipe.finish(fitted_model, Files(tmp_path / "run"))
    made, _ = controls_of(recipe.rps, Mapper.read(tmp_path / "run"), frames, frames.sessions[2])
    score = r2(made[100:, 1], 2 * (1 - frames.x[frames.sessions[2].slice, symmetry][100:]))
    assert score is not None and score > 0.5


def test_nan_stretches_and_a_missing_modality_train_and_are_written(rps: Path, tmp_path: Path) -> None:
    sessions = [columns(f"s{k}", 900, 120, k) for k in range(3)]
    for s in sessions:
        s["hr"][:] = s["hr_slope"][:] = np.nan  # nobody wore a strap
        s["m_hr"][:] = False
        for name in ("motion_energy", "motion_freq", "jerk", "hip_sway", "hip_bounce", "symmetry"):
            s[name][200:300] = np.nan
        s["m_mot"][200:300] = False
        for m, names in (("m_aud", ("audio_energy", "audio_brightness")), ("m_ctx", ("beat_phase",))):
            s[m][240:260] = False
            for name in names:
                s[name][240:260] = np.nan
    recipe = opened(frames_file(tmp_path, *sessions), rps, batch=16)
    files = Files(tmp_path / "run")
    done = recipe.finish(fitted(recipe, 5), files)
    tension = next(m for m in done.metrics if m["name"] == "mapper.r2.tension")
    assert tension["value"] is None and tension["status"] == "insufficient"
    file = next((tmp_path / "run/controls").iterdir())
    table = read_table(file, CONTROLS)
    held = table.column("held").to_numpy(zero_copy_only=False)
    assert np.flatnonzero(held).tolist() == list(range(240, 260))
    density = table.column("density").to_numpy()
    assert (density[240:260] == density[239]).all()


def test_sessions_of_one_frame_are_refused_in_one_line(rps: Path, tmp_path: Path) -> None:
    source = frames_file(tmp_path, *[columns(f"s{k}", 1, 120, k) for k in range(3)])
    with pytest.raises(DataError) as e:
        opened(source, rps)
    assert str(e.value).startswith("no unbroken stretch of 51 frames") and "\n" not in str(e.value)


def test_what_is_missing_is_named(data: Path, rps: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--rps RUN"):
        lane.open_recipe(Job(data, None, lane.Config(), 0))
    with pytest.raises(NoInputError, match="no run folder"):
        opened(data, tmp_path / "none")
    with pytest.raises(NoInputError, match="no recorded controls"):
        opened(data, rps, options={"targets": str(tmp_path / "none.mid")})
    with pytest.raises(UsageError, match="no mode 'both'"):
        opened(data, rps, options={"mode": "both"})


def test_latents_on_disk(data: Path, rps: Path, tmp_path: Path) -> None:
    from choreo_cli.reflex.timelines import file_name, write_latents

    recipe = opened(data, rps)
    session = recipe.frames.sessions[1]
    file = tmp_path / file_name(session.session_id, "latent")
    write_latents(file, recipe.rps, recipe.frames, session)
    table = read_table(file, LATENTS)
    validate(LATENTS, table, file)
    assert file.name == "s1_latent.parquet" and table.num_rows == session.rows
    x, mask = recipe.frames.x[session.slice], recipe.frames.mask[session.slice]
    np.testing.assert_allclose(table.column("z_hr_03").to_numpy(), recipe.rps.latents(x, mask)[:, 67], atol=1e-6)
