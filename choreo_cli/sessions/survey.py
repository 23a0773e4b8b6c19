"""What is in the files of many folders: from the cache where nothing changed, else looked at, by several processes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from choreo_cli.sessions import crew, sniff
from choreo_cli.sessions.cache import Cache, Seen
from choreo_cli.sessions.scan import Folder
from formats.inventory import Row

CHUNK = 500
POOL_FROM_S = 1.0  # of estimated work; below, starting processes costs more than it saves
_FILE_S = 20e-6
_BYTES_PER_S = {"text": 20e6, "other": 600e6}
_PARSED = (".json", ".jsonl", ".ndjson", ".csv", ".bvh", ".xml", ".tsv", ".ssc", ".sm")

# (folder, ((name, size, look at it alone), ...)): what is sent to another process.
Batch = tuple[str, tuple[tuple[str, int, bool], ...]]


@dataclass(slots=True)
class Surveyed:
    """What was found in one folder.

    Args:
        seen: Name -> (sha256, row) of every file that is no frame of the folder's OpenPose recording.
        frames: (names, bytes in all, sha256 over their hashes, row) of that recording, None without one.
    """

    seen: dict[str, Seen] = field(default_factory=dict)
    frames: tuple[list[str], int, str, Row] | None = None


def survey(
    folders: list[Folder],
    cache: Cache,
    *,
    jobs: int = 1,
    verify: bool = False,
    mapping: dict[str, Any] | None = None,
    on_progress: Callable[..., None] | None = None,
) -> tuple[list[Surveyed], int]:
    """Look at every file of the folders.

    Args:
        folders: Where to look.
        cache: What is known; it is told what is new.
        jobs: Processes at most.
        verify: Believe nothing that is known.
        mapping: With --map: how to read JSON and CSV that no reader knows better.
        on_progress: Called with (files done, files to do).

    Returns:
        What is in each folder, in their order, and how many files were opened.
    """
    known: list[dict[str, Seen]] = []
    grouped: list[dict[str, Row]] = []
    todo: list[Batch] = []
    for folder in folders:
        seen, groups = cache.known(folder.place, folder.files) if not verify else ({}, {})
        known.append(seen)
        grouped.append(groups)
        new = [(f[0], f[1], False) for f in folder.files if f[0] not in seen and _utf8(f[0])]
        todo += [(folder.place, tuple(new[i : i + CHUNK])) for i in range(0, len(new), CHUNK)]
    found = _look(todo, jobs, mapping, on_progress)
    opened = sum(len(b[1]) for b in todo)
    out = []
    for folder, seen, groups in zip(folders, known, grouped, strict=True):
        fresh = found.get(folder.place)
        if fresh:
            seen.update(fresh)
        surveyed, made = _grouped(folder, seen, groups, mapping)
        if fresh or len(made) != len(groups):
            cache.remember(folder.place, folder.files, seen, made)
        out.append(surveyed)
    return out, opened


def _utf8(name: str) -> bool:
    if name.isascii():
        return True
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _look(
    todo: list[Batch], jobs: int, mapping: dict[str, Any] | None, on_progress: Callable[..., None] | None
) -> dict[str, dict[str, Seen]]:
    """Folder -> name -> what is in it, of the batches."""
    found: dict[str, dict[str, Seen]] = {}
    total = sum(len(b[1]) for b in todo)
    packs = _packed(todo, jobs)
    done = 0
    for k, answers in crew.share(partial(look_at, mapping=mapping), packs, jobs):
        for (place, files), answer in zip(packs[k], answers, strict=True):
            into = found.setdefault(place, {})
            for file, seen in zip(files, answer, strict=True):
                into[file[0]] = seen
            done += len(files)
        if on_progress is not None:
            on_progress(done, total)
    return found


def _packed(todo: list[Batch], jobs: int) -> list[list[Batch]]:
    """Batches in packs of about equal work, several for each process; one pack when it is not worth a process."""
    cost = [_cost(b) for b in todo]
    if jobs <= 1 or sum(cost) < POOL_FROM_S:
        return [[b] for b in todo] if jobs <= 1 else [todo] if todo else []
    share = sum(cost) / (8 * jobs)
    packs: list[list[Batch]] = []
    room = 0.0
    for batch, seconds in zip(todo, cost, strict=True):
        if room <= 0:
            packs.append([])
            room = share
        packs[-1].append(batch)
        room -= seconds
    return packs


def _cost(batch: Batch) -> float:
    """Seconds a batch will take, roughly."""
    return sum(
        _FILE_S + size / _BYTES_PER_S["text" if name.lower().endswith(_PARSED) else "other"]
        for name, size, _ in batch[1]
    )


def look_at(pack: list[Batch], mapping: dict[str, Any] | None = None) -> list[list[Seen]]:
    """What is in the files of a pack; runs in this process or another."""
    look = sniff.look
    return [[look(place, name, size, mapping, alone=alone) for name, size, alone in files] for place, files in pack]


def _grouped(
    folder: Folder, seen: dict[str, Seen], groups: dict[str, Row], mapping: dict[str, Any] | None
) -> tuple[Surveyed, dict[str, Row]]:
    """Frames of one OpenPose folder taken together; a frame that belongs to none is looked at alone."""
    if not any(row[0] == sniff.FRAME for _, row in seen.values()):
        return Surveyed(seen), {}
    frames = [f for f in folder.files if f[0] in seen and seen[f[0]][1][0] == sniff.FRAME]
    from pathlib import Path

    from formats.foreign import openpose

    names = [f[0] for f in frames]
    together: set[str] = set()
    if openpose.group_folder(names):
        together = {p.name for _, p in openpose.ordered([Path(n) for n in names])}
    rest = {n: seen[n] for n in seen if n not in together}
    for name, size, *_ in frames:
        if name not in together:
            rest[name] = sniff.look(folder.place, name, size, mapping, alone=True)
    if not together:
        return Surveyed(rest), {}
    digest = hashlib.sha256("\n".join(str(seen[n][0]) for n in sorted(names)).encode()).hexdigest()
    row = groups.get(digest)
    if row is None:
        row = sniff.look_at_frames([f"{folder.place}/{n}" for n in sorted(together)])
    size = sum(f[1] for f in frames if f[0] in together)
    return Surveyed(rest, (sorted(together), size, digest, row)), {digest: row}
