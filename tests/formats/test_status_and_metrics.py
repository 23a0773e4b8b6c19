"""Status files and metric entries: tables and code agree, verdicts follow from the figures."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from formats import status
from formats.columns import METRIC, STATUS
from formats.errors import FormatError
from formats.metrics import entry, validate


def test_the_status_has_the_columns_of_its_table(tmp_path: Path) -> None:
    assert tuple(f.name for f in fields(status.Status)) == STATUS.names
    one = status.Status("pair", "running", 42, "aligning", 3, None, 1_767_225_600_000_000, None)
    status.write(tmp_path / "status.json", one)
    assert status.read(tmp_path / "status.json") == one
    assert [p.name for p in tmp_path.iterdir()] == ["status.json"]
    doc = json.loads((tmp_path / "status.json").read_bytes())
    assert doc["schema"] == "choreo.status/1"


def test_a_status_out_of_bounds_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="none of running"):
        status.write(tmp_path / "s", status.Status("pair", "lost", 1, "x", 0, None, 0))
    with pytest.raises(FormatError, match="done"):
        status.encode(status.Status("pair", "running", 1, "x", -1, None, 0))
    assert list(tmp_path.iterdir()) == []


def test_another_document_is_no_status(tmp_path: Path) -> None:
    from formats.sealed import dumps

    (tmp_path / "a.json").write_bytes(dumps({"schema": "choreo.pack/1"}))
    with pytest.raises(FormatError, match=r"choreo\.pack/1, need choreo\.status/1"):
        status.read(tmp_path / "a.json")


def test_every_key_in_order() -> None:
    assert tuple(entry("a", 1.0, "s", "lower")) == METRIC.names


@given(st.floats(1e-6, 1e6), st.floats(1e-6, 1e6), st.sampled_from(["higher", "lower"]))
def test_ratio_says_how_many_times_better(value: float, base: float, better: str) -> None:
    found = entry("a", value, "1", better, baseline=("b", base))
    assert (found["ratio"] > 1) == (value > base if better == "higher" else value < base) or value == base
    turned = entry("a", base, "1", better, baseline=("b", value))
    assert found["ratio"] * turned["ratio"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("given_", "verdict", "why"),
    [
        ({"goal": ("<=", 2.0)}, True, None),
        ({"goal": (">=", 2.0)}, False, None),
        ({}, None, "no goal"),
        ({"goal": ("<=", 2.0), "status": "insufficient"}, None, "insufficient"),
        ({"goal": ("<=", 2.0), "status": "edge"}, True, None),
        ({"goal": ("<=", 2.0), "p": 0.2, "p_max": 0.05}, False, None),
        ({"goal": ("<=", 2.0), "p": 0.01, "p_max": 0.05}, True, None),
        ({"goal": ("<=", 2.0), "p_max": 0.05}, None, "no p-value"),
        ({"goal": ("<=", 2.0), "why": "the peer is not installed"}, None, "the peer is not installed"),
    ],
)
def test_verdicts(given_: dict[str, object], verdict: bool | None, why: str | None) -> None:
    found = entry("a", 1.0, "s", "lower", **given_)  # type: ignore[arg-type]
    assert (found["pass"], found["why"]) == (verdict, why)


def test_no_value_cannot_be_judged() -> None:
    found = entry("a", None, "s", "lower", goal=("<=", 1.0), baseline=("b", 2.0))
    assert (found["pass"], found["why"], found["ratio"]) == (None, "no value", None)


@pytest.mark.parametrize("bad", [{"ci": (2.0, 1.0)}, {"goal": ("<", 1.0)}, {"chance": float("nan")}, {"p": 1.5}])
def test_contradictions_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(FormatError):
        entry("a", 1.0, "s", "lower", **bad)  # type: ignore[arg-type]


def test_a_verdict_without_a_goal_is_refused() -> None:
    found = {**entry("a", 1.0, "s", "lower"), "pass": True, "why": None}
    with pytest.raises(FormatError, match="verdict"):
        validate(found)
