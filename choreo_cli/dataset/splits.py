"""Put pairs into train, val and test so that one session, song or performer never stands in two of them.

A group is a connected component over the edges (session, track_group, performer). Its id is the smallest session id
in it, so unrelated growth never moves anything; a hash of the id chooses the split.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from choreo_cli.errors import UsageError

SALT = "choreo-split-v1:"
SPLITS = ("train", "val", "test")
MODES = ("hash", "loso")
GROUPS = ("component", "session", "track")
_SMALL = 10

Node = tuple[str, str]  # kind and id: a session and a song may share a name


@dataclass(frozen=True, slots=True)
class Item:
    """One pair, by what it must not be torn from.

    Args:
        pair_id: The pair.
        session_id: Its session.
        track_group: Its song; encodings of one song share it.
        performer: Who dances, None when unknown.
    """

    pair_id: str
    session_id: str
    track_group: str
    performer: str | None = None

    @property
    def nodes(self) -> tuple[Node, ...]:
        base: tuple[Node, ...] = (("session", self.session_id), ("track", self.track_group))
        return base if self.performer is None else (*base, ("performer", self.performer))


class Assignment(NamedTuple):
    """Where a pair goes: its group, the group's number in [0, 1), and the split."""

    group_id: str
    u: float
    split: str


class Former(NamedTuple):
    """One pair of an earlier split."""

    item: Item
    group_id: str
    split: str


@dataclass(frozen=True, slots=True)
class Previous:
    """An earlier split, whose assignments win."""

    pairs: tuple[Former, ...]

    @classmethod
    def of(cls, entries: Iterable[Mapping[str, Any]]) -> Previous:
        """Read the entries of `pairs.json` (or the `pairs` of a `pack.json`); pairs in no split are left out."""
        found = [
            Former(
                Item(str(e["pair_id"]), str(e["session_id"]), str(e["track_group"]), e.get("performer")),
                str(e["group_id"]),
                str(e["split"]),
            )
            for e in entries
            if e["split"] in SPLITS
        ]
        return cls(tuple(sorted(found, key=lambda f: f.item.pair_id)))


class Fold(NamedTuple):
    """One way to leave a group out: group ids of each side."""

    test: str
    val: str | None


@dataclass(frozen=True, slots=True)
class SplitResult:
    """Splits of every pair and everything there is to say about them.

    Args:
        by_pair: pair_id -> (group_id, u, split).
        mode: `hash` or `loso`.
        group: What is kept together: `component`, or `session` or `track` with the leaks named.
        moved: pair ids whose split differs from the earlier one.
        held: pair ids whose new group hashes elsewhere; the earlier split was kept.
        conflicts: One sentence per group that joins pairs of different earlier splits; the caller ends with 1.
        component_sizes: group_id -> pairs, largest first.
        empty_splits: Splits without a pair; never rebalanced.
        notes: Sentences for the report.
        leaks: Sessions, songs and performers that stand in two splits, one sentence each.
        folds: Leave-one-out table (`loso`), the default last.
    """

    by_pair: dict[str, Assignment]
    mode: str
    group: str
    moved: list[str] = field(default_factory=list)
    held: list[str] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)
    component_sizes: dict[str, int] = field(default_factory=dict)
    empty_splits: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)
    folds: list[Fold] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        """Pairs in each split."""
        return {s: sum(a.split == s for a in self.by_pair.values()) for s in SPLITS}

    def to_dict(self) -> dict[str, Any]:
        """The record kept in `pack.json`: everything but the assignments, which its `pairs` hold."""
        return {
            "mode": self.mode,
            "group": self.group,
            "salt": SALT,
            "counts": self.counts(),
            "component_sizes": dict(self.component_sizes),
            "empty_splits": list(self.empty_splits),
            "folds": [f._asdict() for f in self.folds],
            "moved": list(self.moved),
            "held": list(self.held),
            "conflicts": list(self.conflicts),
            "notes": list(self.notes),
            "leaks": list(self.leaks),
        }


def hash_u(group_id: str) -> float:
    """Map a group id to [0, 1): the first 8 bytes of sha256(salt + id), big endian, over 2^64."""
    return (
        int.from_bytes(hashlib.sha256((SALT + group_id).encode("utf-8", "surrogateescape")).digest()[:8], "big") / 2**64
    )


def split_of(u: float) -> str:
    """Choose the split of a number in [0, 1): 80/10/10."""
    return "train" if u < 0.8 else "val" if u < 0.9 else "test"


def components(edges: Iterable[Sequence[Node]]) -> dict[Node, Node]:
    """Join what shares an edge; returns node -> a representative of its component (union-find, path halving)."""
    parent: dict[Node, Node] = {}

    def root(n: Node) -> Node:
        while parent[n] != n:
            parent[n] = parent[parent[n]]
            n = parent[n]
        return n

    for edge in edges:
        for node in edge:
            parent.setdefault(node, node)
        first = root(edge[0])
        for node in edge[1:]:
            parent[root(node)] = first
    return {n: root(n) for n in parent}


def _edges(item: Item, group: str) -> tuple[Node, ...]:
    if group == "component":
        return item.nodes
    return (("session", item.session_id),) if group == "session" else (("track", item.track_group),)


def assign(
    items: Sequence[Item], *, mode: str = "hash", group: str = "component", previous: Previous | None = None
) -> SplitResult:
    """Assign every pair to a split.

    Args:
        items: The pairs, in any order; the result does not depend on it.
        mode: `hash` (80/10/10 by the group's hash) or `loso` (leave one group out per fold).
        group: `component`, or `session` or `track` alone, which leaks and says so.
        previous: An earlier split. Its assignments win; pairs that move all the same are listed.

    Raises:
        UsageError: Unknown mode or group, or two items with one pair_id.
    """
    if mode not in MODES or group not in GROUPS:
        raise UsageError(f"no split {mode} by {group}", hint=f"choose from {', '.join(MODES)} by {', '.join(GROUPS)}")
    items = sorted(items, key=lambda i: i.pair_id)
    if len({i.pair_id for i in items}) != len(items):
        twice = next(a.pair_id for a, b in itertools.pairwise(items) if a.pair_id == b.pair_id)
        raise UsageError(f"pair {twice} is listed twice")
    where = components([_edges(i, group) for i in items])
    key = "track_group" if group == "track" else "session_id"
    members: dict[Node, list[Item]] = {}
    for item in items:
        members.setdefault(where[_edges(item, group)[0]], []).append(item)
    groups = {min(getattr(i, key) for i in found): found for found in members.values()}
    if mode == "loso":
        chosen, folds, notes = _leave_one_out(sorted(groups), group)
        result = SplitResult(_spread(groups, chosen), mode, group, notes=notes, folds=folds)
        if previous is not None:
            result.notes.append("the earlier split was compared, not kept: leave-one-out follows the sessions alone")
    else:
        chosen = {g: Assignment(g, hash_u(g), split_of(hash_u(g))) for g in groups}
        result = SplitResult(_spread(groups, chosen), mode, group)
        if previous is not None:
            result.by_pair.update(_keep(groups, chosen, previous, result))
    _report(items, groups, previous, result)
    return result


def _spread(groups: Mapping[str, Sequence[Item]], chosen: Mapping[str, Assignment]) -> dict[str, Assignment]:
    found = {i.pair_id: chosen[g] for g, members in groups.items() for i in members}
    return dict(sorted(found.items()))


def _leave_one_out(names: list[str], group: str) -> tuple[dict[str, Assignment], list[Fold], list[str]]:
    """Fold k tests group k and validates on the one before it; the last fold is the default."""
    unit = {"component": "group of sessions that share songs or performers", "session": "session", "track": "song"}
    if len(names) < 2:
        alone = {g: Assignment(g, hash_u(g), "train") for g in names}
        return alone, [], [f"only {len(names)} {unit[group]}: nothing can be left out, all is train"]
    wide = len(names) > 2
    folds = [Fold(g, names[k - 1] if wide else None) for k, g in enumerate(names)]
    last = folds[-1]
    chosen = {
        g: Assignment(g, hash_u(g), "test" if g == last.test else "val" if g == last.val else "train") for g in names
    }
    note = f"leave one {unit[group]} out: {len(folds)} folds, this one tests {last.test}"
    note += f" and validates on {last.val}" if wide else "; two leave no third to validate on"
    return chosen, folds, [note]


def _keep(
    groups: Mapping[str, Sequence[Item]], chosen: Mapping[str, Assignment], previous: Previous, result: SplitResult
) -> dict[str, Assignment]:
    """Let the earlier assignment of any member win for its whole group."""
    former: dict[Node, list[Former]] = {}
    for f in previous.pairs:
        for node in _edges(f.item, result.group):
            former.setdefault(node, []).append(f)
    kept: dict[str, Assignment] = {}
    for name, members in sorted(groups.items()):
        nodes = sorted({n for i in members for n in _edges(i, result.group)})
        known = {(f.group_id, f.split) for n in nodes for f in former.get(n, ())}
        splits = sorted({split for _, split in known})
        if len(splits) > 1:
            text = ", ".join(f"{g} in {s}" for g, s in sorted(known))
            result.conflicts.append(f"group {name} joins what was apart: {text}")
        elif known:
            # The oldest id goes on naming the group, so that its number still explains its split.
            old = min(g for g, _ in known)
            kept_as = Assignment(old, hash_u(old), splits[0])
            kept.update({i.pair_id: kept_as for i in members})
            if chosen[name].split != splits[0]:
                result.held.extend(i.pair_id for i in members)
    return kept


def _report(
    items: Sequence[Item], groups: Mapping[str, Sequence[Item]], previous: Previous | None, result: SplitResult
) -> None:
    by_pair = result.by_pair
    sizes: dict[str, int] = {}
    for a in by_pair.values():
        sizes[a.group_id] = sizes.get(a.group_id, 0) + 1
    result.component_sizes.update(sorted(sizes.items(), key=lambda kv: (-kv[1], kv[0])))
    if previous is not None:
        old = {f.item.pair_id: f.split for f in previous.pairs}
        result.moved.extend(p for p, a in by_pair.items() if p in old and old[p] != a.split)
        result.held.sort()
    counts = result.counts()
    result.empty_splits.extend(s for s in SPLITS if not counts[s])
    if result.empty_splits:
        names = " and ".join(result.empty_splits)
        result.notes.append(f"nothing in {names}: {len(groups)} groups, and an empty split is not rebalanced")
    if result.mode == "hash" and len(groups) < _SMALL:
        result.notes.append(f"{len(groups)} groups are too few for 80/10/10: consider --split loso")
    biggest = next(iter(result.component_sizes.items()), ("", 0))
    if len(groups) > 1 and biggest[1] > 0.5 * len(items):
        result.notes.append(f"group {biggest[0]} holds {biggest[1]} of {len(items)} pairs")
    result.leaks.extend(item_leaks(items, by_pair))


def item_leaks(items: Iterable[Item], by_pair: Mapping[str, Assignment]) -> list[str]:
    """Name every session, song and performer that stands in more than one split."""
    seen: dict[Node, set[str]] = {}
    for item in items:
        for node in item.nodes:
            seen.setdefault(node, set()).add(by_pair[item.pair_id].split)
    order = {s: k for k, s in enumerate((*SPLITS, "none"))}
    return [
        f"{kind} {name} is in {' and '.join(sorted(splits, key=order.__getitem__))}"
        for (kind, name), splits in sorted(seen.items())
        if len(splits - {"none"}) > 1
    ]
