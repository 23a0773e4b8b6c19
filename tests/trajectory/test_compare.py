"""Branches compared: the verdict by the rule, what is missing, what is refused, and evaluation of their runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from choreo_cli.errors import ConfigError, DataError, NoInputError, UsageError
from choreo_cli.metrics.trajectory import reliability
from choreo_cli.trajectory import compare, compare_runs, evaluate_job
from choreo_cli.trajectory.camera import project, to_camera
from choreo_cli.trajectory.sets import TrajectorySet
from formats.errors import FormatError
from tests.trajectory.compare_material import make_branch, make_run
from tests.trajectory.small_sets import make_set

ENOUGH = 400
QUICK = compare.Options(draws=300, told=8, worst=3)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> TrajectorySet:
    return make_set(tmp_path_factory.mktemp("small") / "set")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> TrajectorySet:
    return make_set(tmp_path_factory.mktemp("large") / "set", test=ENOUGH, grid=0)


@pytest.fixture
def enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same rule with fewer curves: what it needs is asserted below."""
    assert compare.MIN_CURVES == 4000
    monkeypatch.setattr(compare, "MIN_CURVES", ENOUGH)


def built(top: Path, of: TrajectorySet) -> compare.Built:
    return compare.build(compare_runs.find([top], {}), of, {}, QUICK)


@pytest.mark.usefixtures("enough")
def test_the_better_branch_wins_and_beats_branch_0(large: TrajectorySet, tmp_path: Path) -> None:
    make_branch(tmp_path, large, "branch0", right=0.85, off=0.08, splits=("test",))
    make_branch(tmp_path, large, "seer", right=0.99, off=0.03, splits=("test",))
    made = built(tmp_path, large)
    doc = made.document
    assert made.complete and doc["missing"] == []
    assert doc["verdict"]["word"] == compare.WINNER and doc["verdict"]["winner"] == "seer"
    (row,) = doc["against_baseline"]
    assert row["branch"] == "seer" and row["class"] == "beats it" and row["forecast"] == "beats it"
    assert row["accuracy"] == pytest.approx(0.14, abs=0.03)
    (pair,) = doc["pairs"]
    assert pair["p_holm"] < 0.05 and pair["mcnemar_p"] < 1e-6, "each curve appears once"
    assert doc["set"]["breakdown_split"] == "test"
    assert sum(r["n"] for r in doc["breakdown"] if r["branch"] == "seer" and r["group"] == "sigma") == ENOUGH
    assert np.sum(doc["branches"][0]["confusion"]) == 3 * ENOUGH
    assert doc["ensemble"]["cost"]["members"] == ["branch0", "seer"] and doc["ensemble"]["against"] == "seer"
    assert {b["name"] for b in doc["baselines"]} == {"persistence", "constant velocity", "least squares over 4"}


@pytest.mark.usefixtures("enough")
def test_branches_alike_have_no_significant_winner(large: TrajectorySet, tmp_path: Path) -> None:
    make_branch(tmp_path, large, "branch0", right=0.95, splits=("test",))
    make_branch(tmp_path, large, "other", right=0.95, splits=("test",))
    verdict = built(tmp_path, large).document["verdict"]
    assert verdict["word"] == compare.TIED and verdict["winner"] is None
    assert set(verdict["tied"]) == {"branch0", "other"}


def test_what_is_missing_is_named_and_nobody_wins(small: TrajectorySet, tmp_path: Path) -> None:
    make_branch(tmp_path, small, "seer", right=1.0)
    make_branch(tmp_path, small, "short", seeds=2, right=0.3)
    unfinished = tmp_path / "late" / "seed-0"
    unfinished.mkdir(parents=True)
    (unfinished / "log.jsonl").write_text("")
    made = built(tmp_path, small)
    said = " | ".join(made.document["missing"])
    assert not made.complete and made.document["verdict"]["winner"] is None
    for part in ("late/seed-0 is not finished", "short has 2 of 3 seeds", "no branch0", "40 of 4000 unseen"):
        assert part in said


def test_the_document_is_the_same_twice_and_knows_no_place(small: TrajectorySet, tmp_path: Path) -> None:
    for place in ("a", "b"):
        make_branch(tmp_path / place, small, "branch0", seeds=1)
        make_branch(tmp_path / place, small, "seer", seeds=2, right=0.97, off=0.02)
    one, two = built(tmp_path / "a", small), built(tmp_path / "b", small)
    for d in (one.document, two.document):  # seconds of the clock differ
        for r in (*d["branches"], *d["origin"]["runs"]):
            r["cost"].pop("wall_s", None)
    text = json.dumps(one.document)
    assert text == json.dumps(two.document) and one.pictures == two.pictures
    assert str(tmp_path) not in text and str(small.folder) not in text
    assert one.document["set"]["breakdown_split"] == "grid"
    command = next(c for c in one.document["origin"]["commands"] if "branch=seer" in c)
    assert "--set encoder=moments" in command and "--seeds 0,1 " in command


def test_the_gallery_shows_wrong_classes_first_and_the_words_stand_beside_the_truth(
    small: TrajectorySet, tmp_path: Path
) -> None:
    make_branch(tmp_path, small, "branch0", right=0.8, off=0.0001)
    doc = built(tmp_path, small).document
    rows = doc["failures"]
    assert [r["place"] for r in rows] == [1, 2, 3]
    wrong = [r["seeds_wrong"] for r in rows]
    assert wrong == sorted(wrong, reverse=True) and wrong[0] >= 2
    assert [e["family"] for e in doc["examples"]] == doc["families"]
    for e in doc["examples"]:  # a forecast without error lies on the true path, in the world
        assert np.allclose(e["forecasts"][0]["points"], e["truth"][16:], atol=2e-3)
    (rate,) = doc["words"]["rates"]
    assert rate["fit_family"] == 1.0 and rate["parsed"] == 1.0
    assert len(doc["words"]["samples"]) == 4
    assert all(s["told"][0]["equation"].startswith("x = ") for s in doc["words"]["samples"])


def test_a_branch_name_cannot_reach_a_path(small: TrajectorySet, tmp_path: Path) -> None:
    make_run(tmp_path, small, "branch0", 0)
    found = compare_runs.find([tmp_path], {})
    odd = compare_runs.Trained(found.runs[0].run, "../../etc/x <b>", 0)
    found.runs = [odd]
    pictures = compare.build(found, small, {}, QUICK).pictures
    assert pictures and all("/" not in name and "<" not in name for name in pictures)


def test_a_run_without_its_grid_moves_the_breakdowns_to_the_test_views(small: TrajectorySet, tmp_path: Path) -> None:
    make_run(tmp_path, small, "branch0", 0)
    make_run(tmp_path, small, "seer", 0, splits=("test",))
    doc = built(tmp_path, small).document
    assert doc["set"]["breakdown_split"] == "test" and "breakdowns" in doc["notes"][0]


def test_runs_that_cannot_be_compared_are_refused(small: TrajectorySet, tmp_path: Path) -> None:
    make_run(tmp_path / "a", small, "branch0", 0)
    make_run(tmp_path / "a", small, "branch0", 1, lr=0.5)
    with pytest.raises(DataError, match=r"branch0 seed 1 has lr 0\.5"):
        compare_runs.find([tmp_path / "a"], {})
    make_run(tmp_path / "b", small, "branch0", 0, lr=0.5)
    with pytest.raises(DataError, match="two different runs of branch0 seed 0"):
        compare_runs.find([tmp_path / "a" / "branch0" / "seed-0", tmp_path / "b"], {})
    other = make_set(tmp_path / "set", seed=5)
    make_run(tmp_path / "c", other, "seer", 0)
    with pytest.raises(DataError, match="another set"):
        compare_runs.find([tmp_path / "b", tmp_path / "c"], {})
    with pytest.raises(NoInputError, match="no run in"):
        compare_runs.find([small.folder], {})
    with pytest.raises(NoInputError, match="no folder"):
        compare_runs.find([tmp_path / "nowhere"], {})


def test_predictions_of_another_set_or_changed_ones_are_refused(small: TrajectorySet, tmp_path: Path) -> None:
    other = make_set(tmp_path / "set", seed=5)
    make_run(tmp_path / "a", small, "branch0", 0)
    (one,) = compare_runs.find([tmp_path / "a"], {}).runs
    with pytest.raises(DataError, match="another set"):
        compare_runs.told(one, other, "test")
    with pytest.raises(DataError, match="not the set that branch0 seed 0 was trained on"):
        compare_runs.own_set(one, {"data": str(other.folder)})
    with pytest.raises(UsageError, match="models learn from it"):
        compare_runs.told(one, small, "val")
    (one.folder / "predictions.parquet").write_bytes((one.folder / "predictions-grid.parquet").read_bytes())
    with pytest.raises(FormatError, match="not the predictions that the run wrote"):
        compare_runs.told(one, small, "test")
    (one.folder / "predictions-grid.parquet").unlink()
    with pytest.raises(NoInputError, match=r"no predictions-grid\.parquet"):
        compare_runs.told(one, small, "grid")


def test_a_model_is_not_judged_on_curves_it_learned_from(tmp_path: Path) -> None:
    from choreo_cli.trajectory.sets import TEST_SEED

    learnt = make_set(tmp_path / "learnt", seed=3 + TEST_SEED)
    on = make_set(tmp_path / "on", seed=3)  # its test curves are drawn with the other's seed
    make_run(tmp_path / "runs", learnt, "branch0", 0)
    (one,) = compare_runs.find([tmp_path / "runs"], {}).runs
    with pytest.raises(DataError, match="learned from 20 of the 40 curves"):
        compare_runs.shown(one, on, "test", learnt)


def test_evaluation_of_a_perfect_forecast_and_its_gates(small: TrajectorySet, tmp_path: Path) -> None:
    make_branch(tmp_path, small, "seer", seeds=2, right=1.0, off=0.0)
    found = compare_runs.find([tmp_path], {})
    goals = evaluate_job.goals_of(["accuracy=0.9", "mae_pct=4"], [])
    made = evaluate_job.evaluate(found, None, "grid", {}, goals=goals, draws=99)
    by_name = {e["name"]: e for e in made.entries}
    assert by_name["video.accuracy"]["value"] == 1.0 and by_name["video.accuracy"]["pass"] is True
    assert by_name["video.mae_pct"]["value"] < 1e-4 and by_name["video.mae_pct"]["pass"] is True
    assert by_name["video.pixel_error"]["value"] < 1e-4
    assert (
        by_name["video.accuracy"]["params"] | {"branch": "seer", "split": "grid", "seeds": [0, 1]}
        == by_name["video.accuracy"]["params"]
    )
    assert [e["params"]["value"] for e in made.entries if e["name"] == "video.accuracy_by_sigma"] == [
        0.005,
        0.01,
        0.02,
        0.03,
        0.05,
    ]
    assert {e["params"]["value"] for e in made.entries if e["name"] == "video.mae_pct_by_style"} == {"dot", "trail"}
    assert by_name["video.cost.parameters"]["value"] == 1000
    assert {i["role"] for i in made.inputs} == {"video", "trajectories"}


def test_what_a_branch_file_expects_is_a_gate(small: TrajectorySet, tmp_path: Path) -> None:
    from choreo_cli.trajectory.branches import Branch, Expects
    from choreo_cli.trajectory.video_config import VideoConfig

    make_run(tmp_path, small, "seer", 0, right=0.5, off=0.3)
    branch = Branch(name="seer", about="", train=VideoConfig(), expects=Expects(accuracy=(85, 90), mae_pct=(0, 6)))
    goals = evaluate_job.goals_of([], [branch])
    made = evaluate_job.evaluate(compare_runs.find([tmp_path], {}), None, "test", {}, goals=goals, draws=99)
    judged = {e["name"]: e for e in made.entries if e["goal"]}
    assert set(judged) == {"video.accuracy", "video.mae_pct"} and not any(e["pass"] for e in judged.values())
    with pytest.raises(ConfigError, match="is not NAME=VALUE"):
        evaluate_job.goals_of(["accuracy=nan"], [])


def test_pixels_of_turned_points_are_those_of_the_camera(small: TrajectorySet) -> None:
    looks, clean = small.looks["test"], small.clean("test")
    there = evaluate_job.seen_at(to_camera(clean, looks.cameras), looks.cameras, small.size)
    assert np.allclose(there, project(clean, looks.cameras, small.size)[0])


def test_confidence_bins_hold_every_video() -> None:
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(4), 500)
    right = (rng.random(500) < p.max(1)).astype(float)
    bins = reliability(p, right)
    assert sum(b["n"] for b in bins) == 500
    assert all(b["lo"] <= b["confidence"] <= b["hi"] for b in bins)
