"""The reward: its loss, its twins, AUC and its interval, agreement, position bias, and the gate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gesture_cases as cases
import numpy as np
import pytest

from choreo_cli.errors import NoInputError, UsageError
from choreo_cli.reflex import preferences as p
from choreo_cli.reflex import reward_score as s
from choreo_cli.reflex.clips import FEATURES, cut_clips, describe_all
from formats.errors import FormatError

torch = pytest.importorskip("torch")

from choreo_cli.dataset.frameset import read_frames  # noqa: E402
from choreo_cli.reflex import reward_recipe_torch as recipe  # noqa: E402
from choreo_cli.reflex.reward import Reward, constants, shapes, standardised  # noqa: E402
from choreo_cli.training.recipe import Job  # noqa: E402


def rated(folder: Path, *, sessions: int = 6, pairs: int = 80, noise: float = 0.1, seed: int = 0) -> Path:
    """Synthetic sessions, and a preferences file of the rule beside them."""
    frames = read_frames(cases.synthetic_set(folder / "set", sessions=sessions, minutes=1, seed=40 + seed))
    return rate(folder / "p.parquet", frames, pairs, noise, seed)


def rate(file: Path, frames: Any, pairs: int, noise: float, seed: int) -> Path:
    asked = list(enumerate(p.draw_questions(cut_clips(frames), pairs, seed)))
    made = p.rule_answers(frames, asked, rule="groove", noise=noise, rater="rule", seed=seed)
    p.append_answers(file, made, p.source_of(frames))
    return file


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rated(tmp_path_factory.mktemp("rated"))


def opened(file: Path, seed: int = 0, roots: dict[str, str] | None = None, **config: Any) -> recipe.RewardRecipe:
    return recipe.open_recipe(Job(file, None, recipe.Config(**config), seed, {}, roots or {}))


def margins(m: Any, clips: Any = None) -> s.Margins:
    m = np.asarray(m, float)
    pair = np.arange(len(m))
    return s.Margins(m, m, np.stack([2 * pair, 2 * pair + 1], 1) if clips is None else np.asarray(clips), pair)


def test_auc_is_that_of_both_orders_of_every_pair() -> None:
    from scipy.stats import mannwhitneyu

    m = np.random.default_rng(0).normal(0.4, 1, 60)
    u = mannwhitneyu(m, -m).statistic / 3600
    assert s.auc(m) == pytest.approx(u, abs=1e-12)
    assert s.auc([1, 2]) == 1 and s.auc([-1, -2]) == 0 and s.auc([0, 0]) == 0.5 and np.isnan(s.auc([]))
    assert s.auc(m, np.r_[np.ones(30), np.zeros(30)]) == pytest.approx(s.auc(m[:30]))


def test_flipped_answers_lower_auc_to_the_ceiling() -> None:
    rng = np.random.default_rng(1)
    m = np.abs(rng.normal(0, 1, 3000)) * np.where(rng.random(3000) < 0.12, -1, 1)
    assert s.auc(m) == pytest.approx(0.88, abs=0.02)
    assert s.ceiling(1 - 2 * 0.12 * 0.88) == pytest.approx(0.88) and s.ceiling(0.5) == 0.5


def test_the_interval_covers_and_the_clip_bootstrap_is_wider() -> None:
    rng, inside, wide = np.random.default_rng(2), 0, []
    for _ in range(200):
        quality = rng.normal(0, 1, 60)
        clips = np.array([rng.choice(60, 2, replace=False) for _ in range(90)])
        # The model's error of each clip is shared by all its pairs, so pairs are not independent.
        score = quality + rng.normal(0, 1, 60)
        better = np.where(quality[clips[:, 0]] > quality[clips[:, 1]], 1, -1)
        found = margins(better * (score[clips[:, 0]] - score[clips[:, 1]]), clips)
        low, high = s.interval(found)
        inside += low <= 0.8335 <= high
        if len(wide) < 5:
            boot = s.clip_bootstrap(found, rng)
            wide.append((boot[1] - boot[0]) / (high - low))
    # .8335 is the same with four million independent pairs.
    assert 0.90 <= inside / 200 <= 0.99 and np.mean(wide) > 1


def test_an_unlearnt_reward_is_at_chance_and_fails_the_gate() -> None:
    rng = np.random.default_rng(3)
    e = s.auc_entry(margins(rng.normal(0, 1, 200)))
    assert abs(e["value"] - 0.5) < 0.1 and e["pass"] is False and e["p"] > 0.01 and e["chance"] == 0.5
    good = s.auc_entry(margins(rng.normal(1.5, 1, 200)))
    assert good["pass"] is True and good["ci"][0] > 0.85 and good["n"] == 200


def test_few_answers_are_insufficient() -> None:
    assert s.auc_entry(margins(np.ones(29)))["status"] == "insufficient"
    crowded = margins(np.ones(40), np.array([[k % 5, 5 + k % 5] for k in range(40)]))
    assert s.auc_entry(crowded)["status"] == "insufficient", "40 answers about 10 clips"
    none = s.auc_entry(margins([]))
    assert none["value"] is None and none["pass"] is None


def row(pair: str, choice: str, rater: str = "ann", first: str = "a") -> dict[str, Any]:
    return {"pair_id": pair, "choice": choice, "rater": rater, "shown_first": first}


def test_agreement_counts_repeated_questions_of_one_rater() -> None:
    rows = [row(str(k), "a") for k in range(12)] + [row(str(k), "a" if k < 9 else "b") for k in range(12)]
    rows += [row("0", "b", "bob"), row("1", "same"), row("1", "skip")]
    e = s.agreement_entry(rows)
    assert (e["value"], e["n"], e["status"]) == (0.75, 12, "ok") and e["params"]["between_raters"]["n"] == 1
    assert e["params"]["ceiling_auc"] == pytest.approx(1 - (1 - 0.5**0.5) / 2, abs=1e-6)
    assert s.agreement_entry(rows[:12])["status"] == "insufficient"


def test_position_bias_is_seen() -> None:
    left = s.position_entry([row(str(k), "ab"[k % 2], first="ab"[k % 2]) for k in range(60)])
    fair = s.position_entry([row(str(k), "ab"[k % 2], first="a") for k in range(60)])
    assert left["value"] == 0.5 and left["p"] < 1e-9 and fair["value"] == 0 and fair["p"] == 1


def test_no_clip_is_on_both_sides_and_mixed_pairs_are_dropped_and_counted(answers: Path, tmp_path: Path) -> None:
    r = opened(answers)
    sides = [{c for k in rows for c in r.pairs.clips[k].tolist()} for rows in (r.train, r.test)]
    assert not sides[0] & sides[1] and r.data["pairs"]["mixed_dropped"] == 0
    frames = read_frames(answers.parent / "set")
    clips = cut_clips(frames)
    test = [c for c in clips if p.is_test(c.id)]
    train = [c for c in clips if not p.is_test(c.id)]
    mixed = p.Answer(p.Question(train[0], test[0], "a", False), "a", "rule", None, True)
    both = tmp_path / "p.parquet"
    both.write_bytes(answers.read_bytes())
    p.append_answers(both, [mixed], {})
    again = opened(both)
    assert again.data["pairs"]["mixed_dropped"] == 1 and again.n_items == r.n_items
    assert any("dropped" in n for n in again.data["notes"])


def test_overlapping_clips_are_never_torn(answers: Path) -> None:
    clips = cut_clips(read_frames(answers.parent / "set"))
    shifted = [c._replace(start_us=c.start_us + 2_000_000, end_us=c.end_us + 2_000_000) for c in clips[:9]]
    side = recipe.held_out([*clips, *shifted], "clips")
    # Clips 0-9 are chained by the shifted ones into one group.
    assert len(set(side[:10].tolist())) == 1 and len(set(side.tolist())) == 2
    whole = recipe.held_out(clips, "sessions")
    for name in {c.session for c in clips}:
        assert len({bool(w) for w, c in zip(whole, clips, strict=True) if c.session == name}) == 1


def test_the_loss_is_bradley_terry_and_blind_to_the_order(answers: Path) -> None:
    r = opened(answers, l2=0.0, dropout=0.0)
    model, b = r.model(), r.batch(np.arange(r.n_items), 0)
    draws = torch.Generator().manual_seed(0)
    with torch.no_grad():
        value, parts = r.loss(model, b, draws)
    with torch.no_grad():
        d = (model(b["a"]) - model(b["b"])).double().numpy()
    y = b["choice"].double().numpy()
    wanted = -(y * np.log(1 / (1 + np.exp(-d))) + (1 - y) * np.log(1 / (1 + np.exp(d)))).mean()
    assert float(value) == pytest.approx(wanted, rel=1e-5) and float(parts["l2"]) == 0
    turned = {"a": b["b"], "b": b["a"], "choice": 1 - b["choice"]}
    assert float(r.loss(model, turned, draws)[0].detach()) == pytest.approx(float(value), rel=1e-5)


def test_a_small_fit_its_files_and_its_judgement(answers: Path, tmp_path: Path) -> None:
    r = opened(answers)
    model = cases.fit_briefly(r).eval()
    files = cases.Files(tmp_path / "run")
    done = r.finish(model, files)
    assert files.written[-1] == "model.json" and {"model.onnx", "model.npz"} < set(files.written)
    assert [e["name"] for e in done.metrics] == ["reward_auc", "reward_rater_agreement", "reward_position_bias"]
    assert recipe.score(tmp_path / "run", answers) == done.metrics
    reward = Reward.read(tmp_path / "run")
    train = r.pairs.margins(reward.scores(r.pairs.features), r.train)
    assert s.auc(train.margin) > 0.75
    frames = read_frames(answers.parent / "set")
    x, mask = frames.x[:300], frames.mask[:300]
    clip = cut_clips(frames)[0]
    assert reward.score(x, mask) == pytest.approx(float(reward.scores(describe_all(frames, [clip]))[0]), abs=1e-5)
    assert reward.probability(2.0, 2.0) == 0.5 and reward.probability(3.0, 2.0) > 0.7
    assert np.isfinite(reward.score(np.full((300, 11), np.nan), np.zeros((300, 4))))
    with pytest.raises(UsageError, match="judged on answers"):
        recipe.score(tmp_path / "run", frames)


def test_a_reward_over_other_statistics_is_refused(answers: Path, tmp_path: Path) -> None:
    from formats import sealed

    r = opened(answers, epochs=1)
    r.finish(r.model(), cases.Files(tmp_path / "run"))
    card = sealed.parse((tmp_path / "run" / "model.json").read_bytes())
    card["arch"]["features"][0] = "volume"
    (tmp_path / "run" / "model.json").write_bytes(sealed.dumps(card))
    with pytest.raises(FormatError, match="other statistics"):
        Reward.read(tmp_path / "run")


def test_standardising_keeps_the_unknown_neutral() -> None:
    features = np.random.default_rng(0).normal(3, 2, (50, len(FEATURES))).astype(np.float32)
    features[:, 1], features[:, 2] = np.nan, 7
    mean, std = constants(features)
    z = standardised(features, mean, std)
    assert (z[:, 1] == 0).all() and (z[:, 2] == 0).all() and abs(z[:, 0].mean()) < 0.1 and np.abs(z).max() <= 4
    assert set(shapes(8)) == {
        "mean",
        "std",
        "first.weight",
        "first.bias",
        "second.weight",
        "second.bias",
        "last.weight",
    }


def test_frames_that_moved_or_changed_are_named(answers: Path, tmp_path: Path) -> None:
    import shutil

    moved = tmp_path / "moved"
    (tmp_path / "old").mkdir()
    old = shutil.copytree(answers.parent / "set", tmp_path / "old" / "set")
    file = rate(tmp_path / "p.parquet", read_frames(old), 30, 0.1, 0)
    shutil.move(old, moved)
    with pytest.raises(NoInputError, match=r"the rated frames are not there .*--root data=DIR"):
        opened(file)
    assert opened(file, roots={"data": str(moved)}).n_items > 10
    other = cases.synthetic_set(tmp_path / "other", sessions=2, minutes=0.5, seed=99)
    with pytest.raises(FormatError, match="holds other frames than the ones that were rated"):
        opened(file, roots={"data": str(other)})
    with pytest.raises(NoInputError, match="no preferences file"):
        opened(tmp_path / "none.parquet")


def test_only_unclear_answers_cannot_train(answers: Path, tmp_path: Path) -> None:
    frames = read_frames(answers.parent / "set")
    asked = p.draw_questions(cut_clips(frames), 20, 0)
    p.append_answers(tmp_path / "p.parquet", [p.Answer(q, "skip", "a", 1.0, True) for q in asked], p.source_of(frames))
    with pytest.raises(UsageError, match="no clear answer on two training clips"):
        opened(tmp_path / "p.parquet")


@pytest.mark.slow
def test_gate_auc_on_held_out_clips_three_seeds(tmp_path: Path) -> None:
    """1000 answers of the rule, 12 % turned round, on coupled and decoupled sessions; AUC can reach .88."""
    sets = [
        read_frames(cases.synthetic_set(tmp_path / name, sessions=12, minutes=3, seed=k, decoupled=name == "decoupled"))
        for k, name in ((1000, "coupled"), (3000, "decoupled"))
    ]
    for seed in range(3):
        file = tmp_path / f"p{seed}.parquet"
        for frames in sets:
            rate(file, frames, 500, 0.12, seed)
        r = opened(file, seed)
        done = r.finish(cases.fit_briefly(r).eval(), cases.Files(tmp_path / f"run{seed}"))
        auc, agreement, position = done.metrics
        assert auc["pass"] is True and auc["n"] >= 250 and auc["ci"][0] > 0.65, auc
        assert auc["value"] > auc["baseline"]["value"], auc
        assert 0.65 < agreement["value"] < 0.95 and position["p"] > 0.01
