"""Put clips into train, val and test so that one performer, take or song never stands in two of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from choreo_cli.dataset.splits import SPLITS, Assignment, Item, components, item_leaks
from choreo_cli.errors import UsageError

TEST, VAL = 0.2, 0.1
KEEP = ("component", "group", "track")


@dataclass(frozen=True, slots=True)
class ClipSplit:
    """The split of every clip.

    Args:
        of: Clip number -> `train`, `val` or `test`.
        component: Clip number -> what it was kept together with.
        leaks: What stands on two sides all the same, one sentence each (only when asked to keep less together).
        notes: How the split came about.
    """

    of: tuple[str, ...]
    component: tuple[str, ...]
    leaks: tuple[str, ...]
    notes: tuple[str, ...]


def split_clips(items: Sequence[Item], named: Sequence[str], keep: str = "component") -> ClipSplit:
    """Split clips by what they must not be torn from.

    The splits a manifest names are kept when every clip has one and nothing leaks. Otherwise the components are split
    by the hash of their names: a fifth of them to the test, a tenth to validation, at least one each; of two, one is
    held out; one alone is training.

    Args:
        items: One per clip: its group as `session_id`, its music as `track_group`, its performer.
        named: The split each clip's manifest names, `none` without one.
        keep: `component` (group, performer and song), or `group` or `track` alone, which leaks and says so.

    Raises:
        UsageError: unknown `keep`.
    """
    if keep not in KEEP:
        raise UsageError(f"no way to keep {keep!r} together", hint=f"choose from {', '.join(KEEP)}")
    edges = [_edges(i, keep) for i in items]
    where = components(edges)
    members: dict[tuple[str, str], list[int]] = {}
    for k, e in enumerate(edges):
        members.setdefault(where[e[0]], []).append(k)
    names = {root: min(items[k].session_id for k in found) for root, found in members.items()}
    component = tuple(names[where[e[0]]] for e in edges)
    notes: list[str] = []
    if items and all(s in SPLITS for s in named) and "train" in named:
        torn = _leaks(items, named)
        if not torn or keep != "component":
            return ClipSplit(tuple(named), component, tuple(torn), tuple(_empty(named, len(set(component)))))
        notes.append(f"the splits of the manifest leak and were not kept: {torn[0]}" + _more(torn))
    chosen = _by_hash(sorted(set(component)))
    of = tuple(chosen[c] for c in component)
    notes.append(f"split by the hash of {len(chosen)} groups of clips that share a performer, a take or a song")
    notes.extend(_empty(of, len(chosen)))
    return ClipSplit(of, component, tuple(_leaks(items, of)), tuple(notes))


def _edges(item: Item, keep: str) -> tuple[tuple[str, str], ...]:
    if keep == "group":
        return (("session", item.session_id),)
    if keep == "track":
        return (("track", item.track_group),) if item.track_group else (("session", item.session_id),)
    return tuple(n for n in item.nodes if n[1])


def _by_hash(names: Sequence[str]) -> dict[str, str]:
    order = sorted(names, key=lambda g: hashlib.sha256(g.encode("utf-8", "surrogateescape")).hexdigest())
    n = len(order)
    test = max(1, round(TEST * n)) if n > 2 else 0
    val = max(1, round(VAL * n)) if n > 1 else 0
    return {g: "test" if k < test else "val" if k < test + val else "train" for k, g in enumerate(order)}


def _leaks(items: Sequence[Item], of: Sequence[str]) -> list[str]:
    silent = [i for i in items if i.track_group]
    named = {i.pair_id: Assignment(i.session_id, 0.0, s) for i, s in zip(items, of, strict=True)}
    found = item_leaks(items if len(silent) == len(items) else [_without_track(i) for i in items], named)
    return [sentence.replace("session ", "group ", 1) for sentence in found]


def _without_track(item: Item) -> Item:
    # A clip without music shares no song: its own name stands in for one.
    return item if item.track_group else Item(item.pair_id, item.session_id, f"none:{item.pair_id}", item.performer)


def _empty(of: Sequence[str], groups: int) -> list[str]:
    missing = [s for s in SPLITS if s not in of]
    if not missing:
        return []
    return [f"nothing in {' and '.join(missing)}: {groups} group{'s' * (groups != 1)} of clips"]


def _more(sentences: Sequence[str]) -> str:
    return f" (and {len(sentences) - 1} more)" if len(sentences) > 1 else ""
