"""Splits: the hash rule, components that never leak, growth that never moves, previous assignments that win."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from choreo_cli.dataset.splits import (
    SPLITS,
    Item,
    Previous,
    SplitResult,
    assign,
    components,
    hash_u,
    item_leaks,
    split_of,
)
from choreo_cli.errors import UsageError

# Sessions and songs share names on purpose: "1" the session is not "1" the song.
NAMES = st.integers(0, 12).map(str)
TRIPLES = st.tuples(NAMES, NAMES, st.none() | st.sampled_from(["ann", "bo", "1"]))


def numbered(triples: list[tuple[str, str, str | None]], prefix: str = "") -> list[Item]:
    return [
        Item(f"{prefix}pair-{k}", prefix + s, prefix + t, None if p is None else prefix + p)
        for k, (s, t, p) in enumerate(triples)
    ]


def entries(items: list[Item], result: SplitResult) -> list[dict[str, object]]:
    return [
        {
            "pair_id": i.pair_id, "session_id": i.session_id, "track_group": i.track_group, "performer": i.performer,
            "group_id": result.by_pair[i.pair_id].group_id, "split": result.by_pair[i.pair_id].split,
        }
        for i in items
    ]  # fmt: skip


def test_hash_vector_is_exact(vectors: Path) -> None:
    doc = json.loads((vectors / "split_hash.json").read_text())
    assert len(doc["ids"]) >= 50
    assert [hash_u(i) for i in doc["ids"]] == doc["u"]
    assert [split_of(hash_u(i)) for i in doc["ids"]] == doc["split"]
    every = [split_of(hash_u(f"session-{k:04d}")) for k in range(doc["count"])]
    assert {s: every.count(s) for s in SPLITS} == doc["counts"]


def test_pair_of_one_session_takes_the_split_of_its_name(vectors: Path) -> None:
    doc = json.loads((vectors / "split_hash.json").read_text())
    result = assign([Item(f"p{i}", i, f"song of {i}") for i in doc["ids"]])
    assert [result.by_pair[f"p{i}"] for i in doc["ids"]] == list(zip(doc["ids"], doc["u"], doc["split"], strict=True))


@settings(max_examples=200, deadline=None)
@given(st.lists(TRIPLES, max_size=25), st.randoms())
def test_nothing_leaks_and_order_does_not_matter(triples: list[tuple[str, str, str | None]], rnd: object) -> None:
    items = numbered(triples)
    result = assign(items)
    for kind in ("session_id", "track_group", "performer"):
        found: dict[str, set[str]] = {}
        for i in items:
            if getattr(i, kind) is not None:
                found.setdefault(getattr(i, kind), set()).add(result.by_pair[i.pair_id].split)
        assert all(len(s) == 1 for s in found.values())
    assert result.leaks == [] and sum(result.component_sizes.values()) == len(items)
    mixed = list(items)
    rnd.shuffle(mixed)  # type: ignore[attr-defined]
    assert assign(mixed) == result


@settings(max_examples=200, deadline=None)
@given(st.lists(TRIPLES, max_size=15), st.lists(TRIPLES, max_size=15))
def test_unrelated_growth_never_moves_anything(a: list, b: list) -> None:
    old = numbered(a)
    before, after = assign(old), assign(old + numbered(b, "other-"))
    assert {p: after.by_pair[p] for p in before.by_pair} == before.by_pair


@settings(max_examples=200, deadline=None)
@given(st.lists(TRIPLES, min_size=1, max_size=15), st.lists(TRIPLES, max_size=10))
def test_earlier_assignments_win_or_conflict(a: list, b: list) -> None:
    old = numbered(a)
    before = assign(old)
    every = old + [Item(f"new-{k}", s, t, p) for k, (s, t, p) in enumerate(b)]
    after = assign(every, previous=Previous.of(entries(old, before)))
    assert after.leaks == []
    if not after.conflicts:
        assert after.moved == []
        assert all(after.by_pair[p].split == x.split for p, x in before.by_pair.items())
        assert all(split_of(x.u) == x.split and hash_u(x.group_id) == x.u for x in after.by_pair.values())
    torn = {
        root
        for root in components([i.nodes for i in every]).values()
        if len(
            {before.by_pair[i.pair_id].split for i in old if components([x.nodes for x in every])[i.nodes[0]] == root}
        )
        > 1
    }
    assert len(torn) == len(after.conflicts)


def _two_apart() -> tuple[Item, Item]:
    """Two sessions that hash into different splits."""
    names = [f"session-{k:04d}" for k in range(100)]
    a = next(n for n in names if split_of(hash_u(n)) == "train")
    b = next(n for n in names if split_of(hash_u(n)) == "test")
    return Item("pa", a, "song a"), Item("pb", b, "song b")


def test_a_bridge_between_two_splits_is_a_conflict() -> None:
    a, b = _two_apart()
    before = assign([a, b])
    bridge = Item("pc", a.session_id, b.track_group)
    after = assign([a, b, bridge], previous=Previous.of(entries([a, b], before)))
    assert after.conflicts == [
        f"group {a.session_id} joins what was apart: {a.session_id} in train, {b.session_id} in test"
    ]
    assert after.moved == ["pb"]


def test_a_smaller_new_member_does_not_move_its_group() -> None:
    _a, b = _two_apart()
    before = assign([b])
    small = Item("p0", "session-", b.track_group)
    assert split_of(hash_u("session-")) != "test"
    alone = assign([b, small])
    assert alone.by_pair["pb"].split != "test", "without the earlier split the group takes its new name"
    kept = assign([b, small], previous=Previous.of(entries([b], before)))
    assert kept.by_pair["pb"] == kept.by_pair["p0"] == before.by_pair["pb"]
    assert kept.held == ["p0", "pb"] and kept.moved == [] and kept.conflicts == []


def test_a_song_keeps_its_split_when_its_session_is_gone() -> None:
    _, b = _two_apart()
    before = assign([b])
    other = Item("px", "session-0000", b.track_group)
    after = assign([other], previous=Previous.of(entries([b], before)))
    assert after.by_pair["px"].split == "test"


def test_group_by_session_names_the_leak() -> None:
    a, b = _two_apart()
    b = Item("pb", b.session_id, a.track_group, "ann")
    a = Item("pa", a.session_id, a.track_group, "ann")
    result = assign([a, b], group="session")
    assert result.leaks == ["performer ann is in train and test", "track song a is in train and test"]
    assert assign([a, b], group="track").leaks == []
    assert assign([a, b]).component_sizes == {min(a.session_id, b.session_id): 2}


@settings(max_examples=100, deadline=None)
@given(st.lists(TRIPLES, max_size=20))
def test_leave_one_out_tests_every_group_once(triples: list) -> None:
    items = numbered(triples)
    result = assign(items, mode="loso")
    groups = sorted({a.group_id for a in result.by_pair.values()})
    assert result.leaks == []
    if len(groups) < 2:
        assert result.folds == [] and {a.split for a in result.by_pair.values()} <= {"train"}
        return
    assert [f.test for f in result.folds] == groups
    assert all(f.val != f.test for f in result.folds)
    last = result.folds[-1]
    for a in result.by_pair.values():
        want = "test" if a.group_id == last.test else "val" if a.group_id == last.val else "train"
        assert a.split == want


def test_few_sessions_say_what_is_empty() -> None:
    items = [Item(f"p{k}", f"session-{k:04d}", f"song {k}") for k in range(5)]
    result = assign(items)
    assert result.empty_splits == ["val", "test"]
    assert result.notes == [
        "nothing in val and test: 5 groups, and an empty split is not rebalanced",
        "5 groups are too few for 80/10/10: consider --split loso",
    ]
    loso = assign(items, mode="loso")
    assert loso.empty_splits == [] and loso.counts() == {"train": 3, "val": 1, "test": 1}
    assert "5 folds, this one tests session-0004 and validates on session-0003" in loso.notes[0]
    doc = json.loads(json.dumps(loso.to_dict()))
    assert doc["folds"][0] == {"test": "session-0000", "val": "session-0004"} and doc["counts"]["train"] == 3


def test_a_dominant_group_is_said() -> None:
    items = [Item(f"p{k}", f"s{k}", "hit") for k in range(4)] + [Item("q", "z", "other")]
    assert "group s0 holds 4 of 5 pairs" in assign(items).notes


def test_refusals() -> None:
    with pytest.raises(UsageError, match="no split random by component"):
        assign([], mode="random")
    with pytest.raises(UsageError, match="pair p is listed twice"):
        assign([Item("p", "a", "b"), Item("p", "c", "d")])
    assert assign([]).empty_splits == list(SPLITS)


def test_leaks_are_seen_in_any_assignment() -> None:
    a, b = Item("a", "s", "x"), Item("b", "s", "y")
    tampered = {**assign([a, b]).by_pair}
    tampered["a"] = tampered["a"]._replace(split="train")
    tampered["b"] = tampered["b"]._replace(split="val")
    assert item_leaks([a, b], tampered) == ["session s is in train and val"]
