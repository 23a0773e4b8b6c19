"""What is told of a set and of what a branch saw, errors of one cause each, and language models in the comparison."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scripted_server import Reply, serving

from choreo_cli.errors import DataError, UnavailableError, UsageError
from choreo_cli.trajectory import compare, compare_runs, compare_told, describe, describe_job, predictions
from choreo_cli.trajectory.branches import Branch, Expects, Language
from choreo_cli.trajectory.language import OpenAiServer
from choreo_cli.trajectory.sets import TrajectorySet
from choreo_cli.trajectory.video_config import VideoConfig
from formats import manifest
from formats.errors import FormatError
from tests.trajectory.compare_material import make_run
from tests.trajectory.small_sets import make_set

ROWS = 8
TOP = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def of(tmp_path_factory: pytest.TempPathFactory) -> TrajectorySet:
    return make_set(tmp_path_factory.mktemp("told") / "set")


@pytest.fixture(scope="module")
def run(of: TrajectorySet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of branch1 that is wrong about half of the families."""
    return make_run(tmp_path_factory.mktemp("runs") / "runs", of, "branch1", 0, right=0.5, off=0.1)


def values(found: describe_job.Described) -> dict[str, Any]:
    return {e["name"]: e["value"] for e in found.entries}


def wording(request: dict[str, Any], **change: Any) -> Reply:
    """What a good model would answer: the facts it was given."""
    given = json.loads(request["messages"][1]["content"])
    return Reply(json.dumps({"equation": given["equation"], **given["facts"], "text": "As given.", **change}))


def test_the_solver_reads_what_the_branch_saw_and_tells_the_family_it_named(of: TrajectorySet, run: Path) -> None:
    found = describe_job.describe_set(of, "test", ROWS, "fit", None, seen=run / "predictions.parquet")
    said = predictions.read(run / "predictions.parquet").probabilities[:ROWS].argmax(1)
    names = ("linear", "circular", "helical", "parabolic")
    assert found.columns["branch_family"] == found.columns["family"] == [names[k] for k in said]
    truth = [names[k] for k in of.family("test")[:ROWS]]
    assert found.columns["fit_family"] == truth, "points that were seen well: the solver alone is right"
    v = values(found)
    assert v["describe.family"] == 1.0
    assert (
        v["describe.branch_family"]
        == v["describe.form"]
        == np.mean([a == b for a, b in zip(truth, found.columns["family"], strict=True)])
    )
    assert v["describe.branch_family"] < 1.0
    assert not any(e["goal"] for e in found.entries), "the gates are of the solver on the noisy true points"


def test_errors_of_seeing_and_of_solving_stand_apart(of: TrajectorySet, run: Path) -> None:
    v = values(describe_job.describe_set(of, "test", 0, "fit", None, seen=run / "predictions.parquet"))
    alone = describe_job.describe_set(of, "test", 0, "fit", None)
    own = values(alone)
    assert v["describe.solver_family"] == own["describe.family"]
    assert v["describe.solver_forecast_mae_pct"] == pytest.approx(own["describe.forecast_mae_pct"])
    assert 0.05 < v["describe.points_mae_pct"] < 0.3, "made with 0.002 of noise"
    assert v["describe.branch_forecast_mae_pct"] > 3, "made with 0.1 of noise"
    assert v["describe.forecast_mae_pct"] > own["describe.forecast_mae_pct"], "wrong families extrapolate badly"
    true = {e["name"]: e["params"]["points"] for e in alone.entries}
    assert set(true.values()) == {"noisy truth"} and set(alone.columns["branch_family"]) == {None}


def test_predictions_of_other_views_are_refused(of: TrajectorySet, run: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="of other videos than the grid views"):
        describe_job.describe_set(of, "grid", 0, "fit", None, seen=run / "predictions.parquet")
    other = make_set(tmp_path / "set", seed=5)
    with pytest.raises(DataError, match="of other videos"):
        describe_job.describe_set(other, "test", 0, "fit", None, seen=run / "predictions.parquet")
    blind = predictions.read(run / "predictions.parquet")
    predictions.write(
        tmp_path / "p.parquet",
        predictions.Predictions(blind.curve_id, blind.probabilities, blind.future, None, blind.facts),
    )
    with pytest.raises(DataError, match="holds no shown points"):
        describe_job.describe_set(of, "test", 0, "fit", None, seen=tmp_path / "p.parquet")
    with pytest.raises(UsageError, match="the set has"):
        describe_job.describe_set(of, "nowhere", 0, "fit", None)


def test_every_result_names_model_prompt_temperature_and_seed(of: TrajectorySet) -> None:
    with serving(wording) as said:
        model = OpenAiServer(said.url, "tiny", temperature=0.5)
        found = describe_job.describe_set(of, "test", 2, "llm", model, seed=9)
    by_name = {e["name"]: e for e in found.entries}
    told = by_name["describe.told_by_model"]
    assert told["value"] == by_name["describe.first_answer_used"]["value"] == 1.0
    kept = {k: told["params"][k] for k in ("engine", "model", "prompt", "temperature", "seed")}
    assert kept == {"engine": "llm", "model": "tiny", "prompt": describe.PROMPT, "temperature": 0.5, "seed": 9}
    assert re.fullmatch("[0-9a-f]{12}", describe.PROMPT)
    assert found.columns["model"] == ["tiny"] * 2 and found.columns["prompt"] == [describe.PROMPT] * 2
    assert by_name["describe.model.form"]["value"] == by_name["describe.form"]["value"]


def test_a_server_that_says_nothing_at_all_ends_it_before_anything_is_told(of: TrajectorySet) -> None:
    with serving(Reply(status=401)) as said, pytest.raises(UnavailableError, match="key is missing") as e:
        describe_job.describe_set(of, "test", 4, "llm", OpenAiServer(said.url, "tiny"))
    assert e.value.hint.startswith("export CHOREO_LLM_KEY")
    assert len(said.asked) == 1


def test_a_server_that_dies_is_not_asked_four_thousand_times(of: TrajectorySet) -> None:
    with serving(wording, Reply(status=500)) as said:
        found = describe_job.describe_set(of, "test", 20, "llm", OpenAiServer(said.url, "tiny", retries=0))
    assert len(said.asked) == 1 + describe.SILENT
    assert found.columns["engine"] == ["llm"] + ["template"] * 19
    assert list(found.columns["asked"]) == [1, 1, 1, 1] + [0] * 16
    assert found.notes[0] == "1 of 20 are told by the model, 19 by template in its place"


@pytest.fixture(scope="module")
def told(of: TrajectorySet, run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """branch1 worded by a model that is right once, repairs once, and is hostile from then on."""
    top = tmp_path_factory.mktemp("words")
    evil = "x = __import__('os').system('touch owned'); y = t; z = t"
    script = (wording, Reply("Sure!"), wording, lambda r: wording(r, equation=evil))
    with serving(*script) as said:
        done = describe_in(
            top, of.folder, "--predictions", run / "predictions.parquet", "--rows", 4, "--solver", f"llm:{said.url}",
            "--model", "tiny", "--no-gate", "-o", "told",
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not list(top.rglob("owned"))
    return top / "told"


def describe_in(folder: Path, *words: object) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "choreo_cli", "describe", "trajectories", *map(str, words)]
    env = {**os.environ, "PYTHONPATH": str(TOP)}
    return subprocess.run(command, capture_output=True, cwd=folder, env=env, timeout=120, check=False)


def branch(name: str, model: str) -> Branch:
    language = Language(engine="llm", model=model, url="https://example.org/v1") if model else Language()
    return Branch(name=name, about="", train=VideoConfig(), language=language, expects=Expects(equations=(85, 90)))


def test_a_comparison_tells_which_model_worded_which_branch(
    of: TrajectorySet, run: Path, told: Path, tmp_path: Path
) -> None:
    from choreo_cli.report import compare_page
    from choreo_cli.report.compare_figures import make_figures
    from choreo_cli.report.compare_markdown import page

    make_run(tmp_path / "more", of, "branch3", 0)
    make_run(tmp_path / "more", of, "branch4", 0)
    found = compare_runs.find([run, told, tmp_path / "more"], {})
    asked = compare.Options(draws=99, told=4, worst=1, branches=(branch("branch1", "tiny"), branch("branch3", "far")))
    built = compare.build(found, of, {}, asked)
    one, far, none = built.document["words"]["models"]
    counts = {k: one[k] for k in ("branch", "model", "prompt", "n", "by_model", "at_once", "fallback", "not_asked")}
    assert counts == {
        "branch": "branch1", "model": "tiny", "prompt": describe.PROMPT, "n": 4, "by_model": 2, "at_once": 1,
        "fallback": 2, "not_asked": 0,
    }  # fmt: skip
    assert one["expected"] == [85, 90] and "equation: " in one["reasons"][0][0]
    assert (far["model"], far["n"]) == ("far", 0) and far["why"].startswith("not asked")
    assert (none["branch"], none["why"]) == ("branch4", compare_told.NO_FILE)
    command = next(c for c in built.document["origin"]["commands"] if "describe" in c)
    assert "--solver llm:URL --model tiny --rows 4" in command
    text = page(built.document, make_figures(built.document))
    assert f"| branch1, seed 0 | tiny | {describe.PROMPT} | 4 | 1 (25 %) | 1 | 2 | 0 |" in text
    assert "| branch3 | far | not asked" in text
    bare = [replace(f, draw=None) for f in make_figures(built.document)]
    html = compare_page.page(built.document, bare, built.pictures).decode()
    assert "not asked: nothing that it told" in html and describe.PROMPT in html and "2 by template" in html


def test_a_model_that_is_a_folder_is_shown_without_its_place() -> None:
    names = {
        "/models/mine": "mine",
        "./mine": "mine",
        "gpt-4.1": "gpt-4.1",
        "mistralai/Mistral-7B": "mistralai/Mistral-7B",
    }
    assert {k: compare_told.shown_name(k) for k in names} == names
    assert compare_told.shown_name("") is None


def test_what_was_told_of_something_else_is_said_and_what_was_changed_is_refused(
    of: TrajectorySet, run: Path, told: Path, tmp_path: Path
) -> None:
    other = make_run(tmp_path / "other", of, "branch2", 0)
    built = compare.build(compare_runs.find([other, told], {}), of, {}, compare.Options(draws=99, told=4, worst=1))
    assert any("tells of no run" in n for n in built.document["notes"])
    assert describe_in(tmp_path, of.folder, "--rows", 4, "--no-gate", "-o", "true").returncode == 0
    with pytest.raises(DataError, match="not what a branch saw"):
        compare_runs.find([run, tmp_path / "true"], {})
    changed = shutil.copytree(told, tmp_path / "changed")
    table = changed / "descriptions.parquet"
    table.write_bytes(table.read_bytes()[:-1] + b"x")
    with pytest.raises(FormatError, match="damaged or changed"):
        compare_runs.find([run, changed], {})
    metrics = manifest.decode((told / "metrics.json").read_bytes())
    assert metrics.created_by["params"]["prompt"] == describe.PROMPT
