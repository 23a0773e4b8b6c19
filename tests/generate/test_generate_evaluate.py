"""`choreo evaluate generation`: whole, killed, repeated, with stand-in dancers that deserve to pass or to fall."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from choreo_cli import app  # noqa: E402
from choreo_cli.errors import ChoreoError, DataError, UsageError  # noqa: E402
from choreo_cli.generate import evaluate_arms, evaluate_conditions, evaluate_job, evaluate_result  # noqa: E402
from choreo_cli.generate import evaluate_models as models  # noqa: E402
from choreo_cli.generate.config import Size  # noqa: E402
from choreo_cli.generate.dit_torch import build  # noqa: E402
from choreo_cli.generate.evaluate_tune import Tried, best_of  # noqa: E402
from choreo_cli.generate.guidance import Guidance  # noqa: E402
from choreo_cli.generate.model_files import defaults_record, encode_model, shape_of  # noqa: E402
from choreo_cli.metrics.run_inputs import Run  # noqa: E402
from formats.errors import FormatError  # noqa: E402
from formats.manifest import decode  # noqa: E402

FRAMES, CLIPS = 32, 8


@pytest.fixture(scope="module")
def top(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("evaluate")


@pytest.fixture(scope="module")
def motions(top: Path) -> Path:
    """Five synthetic dancers of four clips; one is the test, one the validation."""
    assert (
        app.run(["synth", "motions", "--clips", "20", "--seconds", "2.4", "--seed", "3", "-o", str(top / "set"), "-q"])
        == 0
    )
    return top / "set" / "motions.json"


def checkpoint(folder: Path, recipe: str, motions: Path, seed: int = 0, **facts: Any) -> Path:
    """A network of chance weights with a card: what it makes is nonsense of the right shape."""
    from choreo_cli.dataset.motions import MotionSet

    data = MotionSet.open(motions, frames=FRAMES, mirror=False)
    shape = shape_of(Size(1, 16, 2), FRAMES, data.audio_width)
    torch.manual_seed(seed)
    net = build(shape)
    for weight in net.parameters():
        torch.nn.init.normal_(weight, std=0.05)
    steps = {"flow": 4, "ddim": 50, "distilled": 1}[recipe]
    told = {
        "process": "ddim" if recipe == "ddim" else "flow", "predict": "x0" if recipe == "ddim" else "x1", "fps": 30.0,
        "defaults": defaults_record(steps, "euler", Guidance(2.0)), "seed": seed, "baked": recipe == "distilled",
        "trained_tasks": ["GEN", "INBETWEEN", "PREDICT"], **facts,
    }  # fmt: skip
    folder.mkdir(parents=True)
    for _, name, raw in encode_model(recipe, net, shape, told, data.stats, {}):
        (folder / name).write_bytes(raw)
    return folder


@pytest.fixture(scope="module")
def flow(top: Path, motions: Path) -> Path:
    return checkpoint(top / "flow", "flow", motions)


@pytest.fixture(scope="module")
def others(top: Path, motions: Path) -> dict[str, Path]:
    return {r: checkpoint(top / r, r, motions, 1) for r in ("ddim", "distilled")}


def entries(path: Path) -> dict[str, Any]:
    return {e["name"]: e for e in decode(path.read_bytes()).entries}


def words(flow: Path, motions: Path, out: Path, *more: str) -> list[str]:
    how = ("--clips", str(CLIPS), "--steps", "1,4", "--no-tune", "-q")
    return ["evaluate", "generation", str(flow), str(motions), *how, *more, "-o", str(out)]


@pytest.fixture(scope="module")
def evaluated(top: Path, flow: Path, others: dict[str, Path], motions: Path) -> tuple[Path, int, list[str]]:
    out = top / "out" / "eval.json"
    out.parent.mkdir()
    told = words(flow, motions, out, "--against-ddim", str(others["ddim"]), "--distilled", str(others["distilled"]),
                 "--against", str(flow), "--samples", str(top / "samples"))  # fmt: skip
    return out, app.run(told), told


def test_nonsense_fails_and_every_arm_and_gate_is_told(evaluated: tuple[Path, int, list[str]]) -> None:
    out, code, _ = evaluated
    found = entries(out)
    assert code == 1
    arms = {n.split(".")[-1] for n in found if n.startswith("generation.sanity.")}
    assert arms == {"held_out", "flow1", "flow4", "ddim50", "distilled1", "against"}
    assert found["generation.sane.flow4"]["pass"] is False and found["generation.sanity.held_out"]["value"] == 1
    assert found["generation.predict.known"]["pass"] is True and found["generation.inbetween.known"]["pass"] is True
    assert (
        found["generation.limits.flow4"]["pass"] is True and found["generation.feet.after_lock.flow4"]["pass"] is True
    )
    compute = found["generation.flow4_vs_ddim50.compute"]
    assert compute["pass"] is None and "8 clips a seed, the gate needs 256" in compute["why"]
    assert compute["value"] == pytest.approx(94 / 7, abs=2)
    assert found["generation.against.musicality"]["pass"] is True  # nobody is worse than himself
    assert found["generation.against.predict"]["pass"] is True and found["generation.against.inbetween"]["pass"] is True
    assert not any(n.split(".")[-1].startswith("against_") for n in found)
    assert found["generation.steps"]["value"] in (1, 4) and "90 % sane" in found["generation.steps"]["params"]["reason"]
    p = found["generation.sanity.flow4"]["params"]
    assert (
        p["conditions"] == 4 and p["beats"] == "annotated" and p["split"] == "test" and "windows" in p["interval_over"]
    )
    roles = {i["role"] for i in decode(out.read_bytes()).created_by["inputs"]}
    assert roles == {"motions", "run", "against-ddim", "distilled", "against"}


def test_samples_are_clips_that_other_commands_take(evaluated: Any, top: Path) -> None:
    manifest = decode((top / "samples" / "motions.json").read_bytes())
    assert {e["performer"] for e in manifest.entries} == {
        "held_out",
        "flow1",
        "flow4",
        "ddim50",
        "distilled1",
        "against",
    }
    assert app.run(["evaluate", "motion", str(top / "samples"), "--no-gate", "-q", "-o", str(top / "m.json")]) == 0
    assert app.run(["check", str(top / "samples" / "motions.json"), "-q"]) == 0


def test_a_second_run_draws_nothing_and_has_the_same_bytes(
    evaluated: tuple[Path, int, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, _, told = evaluated
    before = out.read_bytes()
    monkeypatch.setattr(evaluate_arms, "_drawn", lambda block: pytest.fail("drawn again"))
    assert app.run(told) == 1 and out.read_bytes() == before


def test_a_killed_run_goes_on_and_a_damaged_block_is_made_again(
    flow: Path, motions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn, real = [], evaluate_arms._drawn

    def draw(block: evaluate_arms.Block) -> Any:
        if len(drawn) == 3:
            raise MemoryError("the machine went away")
        drawn.append(block.key)
        return real(block)

    monkeypatch.setattr(evaluate_arms, "_drawn", draw)
    told = words(flow, motions, tmp_path / "e.json")
    with pytest.raises(MemoryError):
        app.run(told)
    assert not (tmp_path / "e.json").exists()
    kept = sorted((tmp_path / ".choreo-generated").rglob("*.npz"))
    assert len(kept) == 3
    kept[0].write_bytes(kept[0].read_bytes()[:-7])
    first = list(drawn)
    drawn.clear()
    monkeypatch.setattr(evaluate_arms, "_drawn", lambda block: (drawn.append(block.key), real(block))[1])
    assert app.run(told) == 1
    assert len(set(first) & set(drawn)) == 1 and len(drawn) == 3  # held out, 2 arms, 2 tasks less what was kept


def test_another_seed_or_model_shares_nothing_that_was_kept(flow: Path, motions: Path, top: Path) -> None:
    c = evaluate_conditions.Conditions(
        np.zeros((1, 8, 25), np.float32), np.zeros((1, 8, 0), np.float32), np.zeros((1, 58)), ("a",), ("a",), 30.0,
        (None,), (None,),
    )  # fmt: skip
    s = evaluate_arms.Setting(4)
    base = evaluate_arms.Block(flow, "m", s, 0, 0, c, None)
    seen = {base.key}
    for other in (("n", s, 0, 0), ("m", evaluate_arms.Setting(2), 0, 0), ("m", s, 1, 0), ("m", s, 0, 32)):
        seen.add(evaluate_arms.Block(flow, *other, c, None).key)
    louder = evaluate_conditions.Conditions(c.x + 1, c.audio, c.bodies, c.groups, c.names, 30.0, (None,), (None,))
    seen.add(evaluate_arms.Block(flow, "m", s, 0, 0, louder, None).key)
    assert len(seen) == 6 and evaluate_arms.Block(Path("moved"), "m", s, 0, 0, c, top).key == base.key


# Stand-ins: the sampler is replaced, everything behind it is real.


class Dancer:
    """A sampler that knows the held-out dances."""

    def __init__(self, conditions: evaluate_conditions.Conditions, how: str) -> None:
        self.real = {c.tobytes(): x for c, x in zip(conditions.audio, conditions.x, strict=True)}
        self.how, self.nfe, self.rows, self.frames = how, 4, 7, FRAMES

    def sample(self, audio: Any, *, known: Any, mask: Any, steps: int, first: int, **more: Any) -> Any:
        self.nfe, self.rows = steps, 2 * steps - 1
        x = np.stack([self.real[a.tobytes()] for a in audio]).copy()
        wave = 0.004 * np.sin(np.arange(x.shape[1]) / 3)[:, None]
        x[:, :, 6:14] += wave * np.random.default_rng((first, steps)).standard_normal((len(x), 1, 8))
        if self.how == "frozen":
            x = np.repeat(x[:, :1], x.shape[1], axis=1)
            x[:, :, [0, 1, 3]] = 0
        if self.how == "sliding":
            x[:, :, 0] += 1.5
        if mask is not None and self.how != "careless":
            x = np.where(np.asarray(mask).any(-1)[..., None], known, x)
        return x.astype(np.float32)


@pytest.fixture
def judged(flow: Path, motions: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    def one(how: str) -> dict[str, Any]:
        asked = evaluate_job.Asked(models.models_of([flow], {}), motions, {}, clips=CLIPS, steps=(1, 4), tune=False)
        stage = evaluate_job.prepare(asked)
        monkeypatch.setattr(evaluate_arms, "_sampler", lambda *_: Dancer(stage.whole, how))
        found = evaluate_result.evaluate(asked, lambda *_: None, lambda _: None)
        return {e["name"]: e for e in found.evaluation.entries}

    yield one


def test_a_dancer_that_knows_the_dances_passes_and_chooses_one_step(judged: Any) -> None:
    found = judged("true")
    failed = [n for n, e in found.items() if e["pass"] is False]
    assert not failed, failed
    assert found["generation.music.above_chance.flow4"]["pass"] and found["generation.predict.over_repeat_last"]["pass"]
    assert found["generation.steps"]["value"] == 1


@pytest.mark.parametrize(
    ("how", "falls"),
    [
        ("frozen", {"generation.sane.flow4", "generation.music.above_chance.flow4"}),
        ("sliding", {"generation.sane.flow4"}),
        ("careless", {"generation.predict.known", "generation.inbetween.known"}),
    ],
)
def test_broken_dancers_fall(judged: Any, how: str, falls: set[str]) -> None:
    found = judged(how)
    assert falls <= {n for n, e in found.items() if e["pass"] is False}
    if how == "careless":
        assert found["generation.sane.flow4"]["pass"] is True


# What is heard, tuned and refused.


def test_decoys_are_other_songs_and_one_song_has_none() -> None:
    from choreo_cli.metrics.motion_music import Music

    songs = [Music(str(k), np.arange(3.0) + k, False, None, "") for k in range(6)]
    found = evaluate_conditions.decoys(songs, ["a", "a", "b", "b", "c", "c"])
    assert all(d is not None and d not in songs[2 * (k // 2) : 2 * (k // 2) + 2] for k, d in enumerate(found))
    assert evaluate_conditions.decoys(songs, ["a"] * 6) == (None,) * 6


def test_conditions_are_held_out_windows_with_beats_on_their_own_clock(flow: Path, motions: Path) -> None:
    asked = evaluate_job.Asked(models.models_of([flow], {}), motions, {}, clips=8, tune=False)
    stage = evaluate_job.prepare(asked)
    told = {e["path"]: e for e in decode(motions.read_bytes()).entries}
    for name, music in zip(stage.whole.names, stage.whole.music, strict=True):
        path, start = name.split(" at ")
        assert told[path]["split"] == "test" and music is not None
        beats = np.array(told[path]["report"]["beats_s"]) - float(start.split()[0])
        assert np.allclose(music.beats_s, beats, atol=0.005)


def test_a_diffusion_is_shown_ancestral_too_in_a_whole_evaluation(
    flow: Path, others: dict[str, Path], motions: Path
) -> None:
    of = models.models_of([flow], {}), models.models_of([others["ddim"]], {})
    few, whole = (evaluate_job.Asked(of[0], motions, {}, clips=n, ddim=of[1], tune=False) for n in (8, 256))
    stage = evaluate_job.prepare(few)
    stage.tuned |= {"flow": (evaluate_arms.Setting(4), []), "ddim": (evaluate_arms.Setting(3), [])}
    assert {p.name for p in evaluate_job.plans_of(whole, stage)} - {
        p.name for p in evaluate_job.plans_of(few, stage)
    } == {"ddim3_eta1"}
    folder, identity = evaluate_arms.identity_of(others["ddim"])
    rows = stage.whole.rows(stage.chosen[:2])
    blocks = [
        evaluate_arms.Block(folder, identity, evaluate_arms.Setting(3, eta=eta), 0, 0, rows, None)
        for eta in (None, 0.0, 1.0)
    ]
    own, still, drawn = (evaluate_arms.make(b).channels for b in blocks)
    assert (own == still).all() and not np.allclose(own, drawn) and len({b.key for b in blocks}) == 3
    assert "eta" not in blocks[0].setting.told()


def test_the_most_musical_of_the_sane_settings_is_taken() -> None:
    s = [evaluate_arms.Setting(4, cfg=w) for w in (1.0, 2.0, 3.0)]
    tried = [Tried(s[0], 0.95, 0.3), Tried(s[1], 0.945, 0.5), Tried(s[2], 0.5, 0.9)]
    assert best_of(tried).setting is s[1]
    assert best_of([Tried(x, 1.0, None) for x in s]).setting is s[0]


def test_of_equally_musical_settings_the_nearest_to_real_dances_is_taken() -> None:
    s = [evaluate_arms.Setting(4, cfg=w) for w in (1.0, 2.0, 3.0, 4.0)]
    tried = [
        Tried(s[0], 1.0, 0.5, 2.0),
        Tried(s[1], 1.0, 0.485, 1.0),
        Tried(s[2], 1.0, 0.4, 0.1),
        Tried(s[3], 0.5, 0.9, 0.1),
    ]
    assert best_of(tried).setting is s[1]
    assert best_of([Tried(s[0], 1.0, None, 2.0), Tried(s[1], 1.0, None, 1.0)]).setting is s[1]
    assert best_of([Tried(s[0], 1.0, 0.5, None), Tried(s[1], 1.0, 0.49, 3.0)]).setting is s[1]


def test_tuning_sees_validation_windows_alone_and_is_recorded(
    flow: Path, motions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate_job, "TUNED_ON", 4)
    seen: list[tuple[str, ...]] = []
    real = evaluate_arms._drawn
    monkeypatch.setattr(evaluate_arms, "_drawn", lambda b: (seen.append(b.conditions.names), real(b))[1])
    out = tmp_path / "t.json"
    told = ["evaluate", "generation", str(flow), str(motions), "--clips", "4", "--steps", "4", "-q", "-o", str(out)]
    app.run(told)
    val = {e["path"] for e in decode(motions.read_bytes()).entries if e["split"] == "val"}
    heard = [{n.split(" at ")[0] for n in names} for names in seen]
    assert all(h <= val for h in heard[:7]) and not any(h & val for h in heard[7:])  # the dances, then six settings
    guidance = entries(out)["generation.guidance.flow"]
    assert (
        guidance["params"]["tuned"] and guidance["params"]["split"] == "val" and len(guidance["params"]["tried"]) == 6
    )
    assert entries(out)["generation.sanity.flow4"]["params"]["cfg"] == guidance["value"]


def test_what_does_not_fit_is_one_line(flow: Path, others: dict[str, Path], motions: Path, tmp_path: Path) -> None:
    def refused(code: int, said: str, *told: str) -> None:
        with pytest.raises((ChoreoError, FormatError)) as caught:
            app.run(["evaluate", "generation", *told, "-o", str(tmp_path / "x.json")])
        told_back = str(caught.value)
        assert said in told_back and "\n" not in told_back, told_back
        assert getattr(caught.value, "code", 65) == code
        assert not (tmp_path / "x.json").exists()

    refused(2, "is flow, --against-ddim takes ddim", str(flow), str(motions), "--against-ddim", str(flow))
    refused(2, "side by side", str(flow), str(others["ddim"]), str(motions))
    refused(2, "name the motions too", str(flow))
    refused(66, "no run", str(tmp_path / "gone"), str(motions))
    refused(2, "is not N[,N...]", str(flow), str(motions), "--steps", "1,x")
    refused(2, "is no export", str(flow), str(motions), "--onnx", str(others["distilled"]))
    deaf = checkpoint(tmp_path / "slow", "ddim", motions, fps=20.0)
    refused(65, "compare models of one shape", str(flow), str(motions), "--against-ddim", str(deaf))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ChoreoError, match="cannot create"):
        app.run(words(flow, motions, tmp_path / "nowhere" / "e.json"))
    assert not (tmp_path / "nowhere").exists()
    refused(66, "no motion file", str(flow), str(tmp_path / "empty"))


def test_models_and_motions_are_told_apart_and_budgets_are_compared(flow: Path, motions: Path) -> None:
    assert models.is_model(flow) and models.is_model(flow / "model.json") and not models.is_model(motions)
    assert not models.is_model(motions.parent)
    one = models.opened(flow, None)
    assert one.recipe == "flow" and one.tasks == ("gen", "inbetween", "predict") and one.steps == 4
    assert "lone checkpoint" in str(models.unlike([one], [one]))

    def trained(steps: int = 9, **config: Any) -> models.Tested:
        entry = {"steps": steps, "config": {"size": "tiny", "lr": 0.002, **config}, "data": {"sha256": "ab" * 32}}
        return replace(one, run=Run(entry, flow, None, {}))  # type: ignore[arg-type]

    assert models.unlike([trained()], [trained(learn="x0", threads=2, epochs=7)]) is None
    for told, said in (
        ({"lr": 0.001}, "lr 0.002 against 0.001"),
        ({"mirror": False}, "mirror"),
        ({"steps": 8}, "steps"),
    ):
        assert said in str(models.unlike([trained()], [trained(**told)])), told  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="does not say what it was trained on"):
        models.motions_of(one)
    with pytest.raises(DataError, match="features a frame"):
        wide = checkpoint_of(one, audio_width=7)
        evaluate_job.prepare(evaluate_job.Asked([one], motions, {}, ddim=[wide]))


def checkpoint_of(one: models.Tested, **changed: Any) -> models.Tested:
    from dataclasses import replace

    return replace(one, **changed)


def test_names_of_the_result_are_json_and_sorted_by_importance(evaluated: tuple[Path, int, list[str]]) -> None:
    names = list(entries(evaluated[0]))
    assert names[0] == "generation.steps" and names.index("generation.sane.flow4") < names.index(
        "generation.sanity.flow1"
    )
    json.dumps(entries(evaluated[0]), allow_nan=False)


def test_longer_dances_are_joined_windows(flow: Path, motions: Path, tmp_path: Path) -> None:
    out = tmp_path / "long.json"
    told = ["evaluate", "generation", str(flow), str(motions), "--clips", "4", "--steps", "4", "--no-tune", "--no-gate"]
    assert app.run([*told, "--seconds", "1.6", "-q", "-o", str(out)]) == 0
    found = entries(out)
    assert found["generation.sanity.flow4"]["params"]["frames"] == 48 and "generation.predict.known" not in found
    with pytest.raises(UsageError, match=r"--seconds 0\.1"):
        app.run([*told, "--seconds", "0.1", "-q", "-o", str(out)])
