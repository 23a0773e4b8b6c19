"""Matching onsets, F1 and its null, and where labels come from."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching

from choreo_cli.errors import NoInputError, UsageError
from choreo_cli.reflex.gesture_labels import read_labels
from choreo_cli.reflex.gesture_score import (
    Judged,
    best_threshold,
    class_entry,
    counts,
    interval,
    match,
    null_f1,
    worst_entry,
)
from formats.errors import FormatError

TIMES = st.lists(st.integers(0, 4000), max_size=14).map(sorted)


@given(TIMES, TIMES, st.integers(0, 400))
def test_matching_is_as_large_as_any(true: list[int], found: list[int], tolerance: int) -> None:
    pairs = match(true, found, tolerance)
    near = np.abs(np.array(true, int)[:, None] - np.array(found, int)[None]) <= tolerance
    best = 0
    if true and found:
        best = int((maximum_bipartite_matching(csr_matrix(near), perm_type="column") >= 0).sum())
    assert len(pairs) == best
    assert all(near[i, j] for i, j in pairs)
    assert len({i for i, _ in pairs}) == len({j for _, j in pairs}) == len(pairs)


def session(name: str, true: list[float], found: list[float], *, length: float = 60.0) -> Judged:
    us = [np.array(sorted(round(t * 1e6) for t in x), np.int64) for x in (true, found)]
    return Judged(name, *us, np.array([[0, round(length * 1e6)]]), np.arange(0, round(length * 1e6), 500_000))


def many(shift: float = 0.0, drop: int = 0) -> list[Judged]:
    """Six sessions with eight onsets each, found `shift` seconds late, the first `drop` missed."""
    found = []
    for k in range(6):
        true = [3.0 + 6.5 * i + 0.5 * k for i in range(8)]
        found.append(session(f"s{k}", true, [t + shift for t in true[drop:]]))
    return found


def test_perfect_is_one_and_a_shift_beyond_the_tolerance_is_nothing() -> None:
    good, late = class_entry("jump", many(0.199)), class_entry("jump", many(0.201))
    assert good["value"] == 1.0 and good["pass"] is True and good["params"]["onset_error_ms"]["median"] == 199
    assert late["value"] == 0.0 and late["pass"] is False and late["params"]["support"] == 48


def test_f1_is_the_harmonic_mean_of_precision_and_recall() -> None:
    e = class_entry("jump", many(drop=2))
    p, r = e["params"]["precision"], e["params"]["recall"]
    assert (p, r) == (1.0, 0.75) and e["value"] == pytest.approx(2 * p * r / (p + r))


def test_the_null_beats_nothing_real_and_beats_are_the_harder_null() -> None:
    null = null_f1(many(), 200_000, np.random.default_rng(0), 300)
    # A window of 2 x 0.2 s around 8 onsets covers 5 % of 60 s; onsets here lie on every 13th beat.
    assert 0.02 < null[0].mean() < 0.09 and null[1].mean() > null[0].mean()
    assert class_entry("jump", many())["chance"] == pytest.approx(null[1].mean(), abs=0.02)


def test_random_onsets_are_at_chance() -> None:
    rng = np.random.default_rng(3)
    sessions = [
        session(f"s{k}", sorted(rng.uniform(0, 60, 8)), sorted(rng.uniform(0, 60, 8))) for k in range(12)
    ]  # fmt: skip
    e = class_entry("jump", sessions)
    assert e["pass"] is False and e["p"] > 0.01 and abs(e["value"] - e["chance"]) < 0.1


def test_interval_is_over_sessions() -> None:
    half = [*many()[:3], *[session(f"b{k}", [5, 15, 25, 35], []) for k in range(3)]]
    low, high = interval(counts(half, 200_000), np.random.default_rng(0))
    assert low < 0.55 and high > 0.9
    assert interval(counts(half[:1], 200_000), np.random.default_rng(0)) is None


def test_too_little_support_is_insufficient_and_an_absent_class_has_no_value() -> None:
    few = class_entry("jump", [session("a", [1, 9], [1, 9]), session("b", [4], [4])])
    assert few["status"] == "insufficient" and few["value"] == 1.0 and few["pass"] is None
    none = class_entry("jump", [session("a", [], [3.0])])
    assert none["value"] is None and none["why"] == "no jump in the held-out sessions"
    worst = worst_entry([class_entry("jump", many()), class_entry("lean", [session("a", [], [])])])
    assert worst["pass"] is None and "lean" in worst["why"]
    both = worst_entry([class_entry("jump", many()), class_entry("lean", many(drop=4))])
    assert both["value"] == pytest.approx(2 / 3) and both["pass"] is False


def test_threshold_stands_in_the_middle_of_the_plateau() -> None:
    assert best_threshold({0.1: 0.5, 0.2: 0.9, 0.3: 0.9, 0.4: 0.9, 0.5: 0.2, 0.6: 0.9}) == 0.3


def frames(folder: Path, names: list[str]) -> Any:
    sessions = tuple(SimpleNamespace(session_id=n, item=SimpleNamespace(session_id=n)) for n in names)
    return SimpleNamespace(sessions=sessions, folder=folder, path="frames.parquet")


def test_labels_beside_the_frames(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    doc = {"gestures": [{"onset_us": 5, "label": "jump"}, {"onset_us": 2, "label": "jump"}]}
    (tmp_path / "a" / "meta.json").write_text(json.dumps(doc))
    found = read_labels(frames(tmp_path, ["a", "b"]))
    assert found.of("a", "jump").tolist() == [2, 5] and found.classes(["a", "b"]) == ("jump",)
    assert found.notes == ("1 sessions have no meta.json and are left out: b",)


def test_labels_of_people_come_in_a_csv(tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_text("session,t_s,label\na,2.5,wave\n\na,1,wave\nelse,1,wave\n")
    found = read_labels(frames(tmp_path, ["a", "b"]), str(file))
    assert found.of("a", "wave").tolist() == [1_000_000, 2_500_000]
    assert found.notes == (
        "1 sessions of mine.csv have no frames: else",
        "1 sessions are not in mine.csv and are left out",
    )
    (tmp_path / "labels.csv").write_text("session,t_s,label\nb,1,bow\n")
    assert read_labels(frames(tmp_path, ["a", "b"])).classes(["b"]) == ("bow",), "labels.csv beside the frames"


def test_no_labels_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as e:
        read_labels(frames(tmp_path, ["a"]))
    assert str(e.value) == (
        f"no labelled gestures: looked for {tmp_path}/labels.csv and {tmp_path}/a/meta.json: "
        "give a CSV with session,t_s,label: --set labels=FILE"
    )
    with pytest.raises(NoInputError, match="no labels file"):
        read_labels(frames(tmp_path, ["a"]), str(tmp_path / "none.csv"))


@pytest.mark.parametrize(
    "text,says",
    [
        ("", "the first line must be"),
        ("session,label,t_s\n", "the first line must be"),
        ("session,t_s,label\na,1\n", "2 cells, need 3"),
        ("session,t_s,label\na,nan,x\n", "'nan' is not a time in seconds"),
        ("session,t_s,label\na,soon,x\n", "'soon' is not a time"),
        ("session,t_s,label\na,1,\n", "a label needs"),
        ("session,t_s,label\na,1,\x07\n", "a label needs"),
    ],
)
def test_bad_label_files_are_named_by_row(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "mine.csv"
    file.write_text(text)
    with pytest.raises(FormatError, match=says):
        read_labels(frames(tmp_path, ["a"]), str(file))


@pytest.mark.parametrize("doc", ["[]", '{"gestures": 3}', '{"gestures": [{"label": "jump"}]}', '{"gestures": [7]}'])
def test_bad_meta_is_refused(tmp_path: Path, doc: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "meta.json").write_text(doc)
    with pytest.raises(FormatError):
        read_labels(frames(tmp_path, ["a"]))
