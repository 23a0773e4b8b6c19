"""Is B worse than A: paired where both have the same seeds or sessions, and only beyond the interval."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import run_material as material

from choreo_cli.errors import UsageError
from choreo_cli.report.run_artefact import Artefact, open_path
from choreo_cli.report.run_compare import compare
from formats.manifest import Manifest
from formats.metrics import entry


def figures(entries: Sequence[dict[str, Any]], name: str = "a") -> Artefact:
    return Artefact(Manifest("choreo.metrics/1", {}, list(entries)), None, name)


def seeds(values: Sequence[float], name: str = "a", better: str = "higher") -> Artefact:
    """A summary over seeds."""
    lines = [
        {"seed": k, "metrics": [entry("x", v, "1", better, goal=(">=" if better == "higher" else "<=", 0.5))]}
        for k, v in enumerate(values)
    ]
    return Artefact(Manifest("choreo.run/1", {}, lines), None, name)


def one(found: dict[str, Any]) -> dict[str, Any]:
    assert len(found["rows"]) == 1
    return dict(found["rows"][0])


def test_pairs_over_seeds_see_a_small_steady_loss() -> None:
    a, b = seeds([0.5, 0.7, 0.9]), seeds([0.48, 0.68, 0.885], "b")
    found = one(compare([a, b]))
    assert (found["verdict"], found["how"]) == ("worse", "paired over 3 seeds")
    assert found["gain"] == pytest.approx(-0.0183, abs=1e-4) and found["interval"][1] < 0
    assert one(compare([b, a]))["verdict"] == "better"


def test_a_difference_inside_the_interval_is_none() -> None:
    assert one(compare([seeds([0.5, 0.7, 0.9]), seeds([0.6, 0.6, 0.85])]))["verdict"] == "same"


def test_lower_may_be_better() -> None:
    a, b = seeds([0.3, 0.3, 0.31], better="lower"), seeds([0.4, 0.41, 0.4], better="lower")
    assert one(compare([a, b]))["verdict"] == "worse" and one(compare([b, a]))["verdict"] == "better"


def test_sessions_pair_what_single_documents_state() -> None:
    def doc(values: Sequence[float], name: str) -> Artefact:
        each = [
            entry("g.session", v, "1", "higher", params={"session": f"s{k}"}, why="together")
            for k, v in enumerate(values)
        ]
        return figures([entry("g", sum(values) / len(values), "1", "higher", goal=(">=", 0.1)), *each], name)

    found = one(compare([doc([0.5, 0.9, 0.2, 0.7], "a"), doc([0.45, 0.86, 0.15, 0.64], "b")]))
    assert (found["verdict"], found["how"]) == ("worse", "paired over 4 sessions")


def test_intervals_decide_where_nothing_pairs() -> None:
    a = figures([entry("x", 0.9, "1", "higher", ci=(0.88, 0.92), goal=(">=", 0.5))])
    for value, verdict in ((0.8, "worse"), (0.89, "same"), (0.99, "better")):
        b = figures([entry("x", value, "1", "higher", ci=(value - 0.02, value + 0.02), goal=(">=", 0.5))])
        assert one(compare([a, b]))["verdict"] == verdict


def test_without_any_interval_nothing_is_judged_but_equality() -> None:
    a, b = (figures([entry("x", v, "1", "higher", goal=(">=", 0.5))]) for v in (0.9, 0.1))
    found = one(compare([a, b]))
    assert (found["verdict"], found["how"]) == ("not judged", "no interval: train at least 3 seeds")
    assert one(compare([a, a]))["verdict"] == "same"


def test_seeds_brought_together_before_still_pair() -> None:
    def doc(values: list[float]) -> Artefact:
        params = {"over": "seeds", "seeds": [0, 1, 2], "values": values}
        return figures([entry("x", sum(values) / 3, "1", "higher", goal=(">=", 0.5), params=params)])

    assert one(compare([doc([0.5, 0.7, 0.9]), doc([0.45, 0.66, 0.84])]))["how"] == "paired over 3 seeds"


def test_what_cannot_be_compared_says_so(tmp_path: Path) -> None:
    data = open_path(material.dataset(tmp_path / "d"))
    with pytest.raises(UsageError, match="compares two inputs, got 1"):
        compare([data])
    with pytest.raises(UsageError, match="d is a dataset: it has no figures"):
        compare([data, data])
    with pytest.raises(UsageError, match="no figure in common"):
        compare([figures([entry("x", 1.0, "1", "higher")]), figures([entry("y", 1.0, "1", "higher")])])
