"""The whole of `discover`: walk, look at what changed, group, and write down one entry per recording."""

from __future__ import annotations

import fnmatch
import hashlib
import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from choreo_cli.engine import run_map
from choreo_cli.sessions import cache as caching
from choreo_cli.sessions import sniff
from choreo_cli.sessions.grouping import group
from choreo_cli.sessions.scan import File, Walked, walk
from formats.errors import FormatError
from formats.foreign.model import Clock, Facts
from formats.inventory import Entry, entry, facts_from_json, facts_to_json

CHUNK = 400
POOL_FROM = 4_000  # files; below, starting processes costs more than it saves
POOL_BYTES = 200_000_000
IGNORE_FILE = ".choreoignore"


@dataclass(frozen=True, slots=True)
class DiscoverOptions:
    """How to look.

    Args:
        jobs: Worker processes.
        verify: Look at every file, cached or not.
        strict: Doubts are reasons.
        mtime_clock: Use modification times as clocks of recordings that have no other.
        fps: Rate of pose folders that state none.
        map_file: Mapping for pose logs nobody's reader knows.
    """

    jobs: int = 1
    verify: bool = False
    strict: bool = False
    mtime_clock: bool = False
    fps: float | None = None
    map_file: Path | None = None


@dataclass(slots=True)
class Inventory:
    """What was found.

    Args:
        entries: Sorted by (root, path bytes).
        roots: Root id -> folder, absolute.
        ignored: Reason -> count of what was left alone.
        special: Kind -> count of links, FIFOs, sockets and devices.
        looked: Files that were opened this time.
        total: Files in all.
        notes: Remarks for the person.
    """

    entries: list[Entry]
    roots: dict[str, Path]
    ignored: Counter[str] = field(default_factory=Counter)
    special: Counter[str] = field(default_factory=Counter)
    looked: int = 0
    total: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def skipped(self) -> list[Entry]:
        return [e for e in self.entries if e["reason"] is not None]


def discover(
    paths: Sequence[Path],
    options: DiscoverOptions,
    cache_folder: Path | None = None,
    on_progress: Callable[..., None] | None = None,
) -> Inventory:
    """List every recording below `paths`.

    Args:
        paths: Folders or files; one inside another is part of it.
        options: How to look.
        cache_folder: Where the cache lies, None for none.
        on_progress: Called with (done, total).

    Raises:
        NoInputError: a path does not exist.
    """
    roots = _roots(paths)
    seen = walk(roots)
    out = Inventory([], {k: p if p.is_dir() else p.parent for k, p in roots.items()}, seen.ignored, seen.special)
    out.total = len(seen.files)
    version = f"fps={options.fps}"
    with caching.opened(None if options.verify and cache_folder is None else cache_folder, version) as cache:
        facts = _all_facts(seen.files, out, options, cache, on_progress)
        if cache.problem:
            out.notes.append(cache.problem)
    entries = _entries(seen, facts, out.roots, options)
    entries = group(entries)
    _name(entries)
    _acknowledge(entries, out.roots)
    out.entries = sorted(entries, key=lambda e: (e["root"], e["path"].encode("utf-8", "surrogateescape"), e["kind"]))
    return out


def _roots(paths: Sequence[Path]) -> dict[str, Path]:
    """Absolute roots, without those that lie inside another."""
    whole = list(dict.fromkeys(Path(os.path.abspath(p)) for p in paths))
    kept = [p for p in whole if not any(q != p and p.is_relative_to(q) for q in whole)]
    return {f"r{k}": p for k, p in enumerate(kept)}


def _all_facts(
    files: list[File],
    out: Inventory,
    options: DiscoverOptions,
    cache: caching.Cache,
    on_progress: Callable[..., None] | None,
) -> dict[tuple[str, str], tuple[str | None, Facts]]:
    """(root, path) -> (sha256, facts): what the cache knows, and everything else looked at now."""
    by_root: dict[str, list[File]] = defaultdict(list)
    for f in files:
        by_root[f.root].append(f)
    facts: dict[tuple[str, str], tuple[str | None, Facts]] = {}
    for root, group_ in by_root.items():
        base = out.roots[root]
        known = {} if options.verify else cache.known(base, group_)
        for path, (sha, doc) in known.items():
            facts[root, path] = (sha, facts_from_json(doc))
        new = [f for f in group_ if f.path not in known]
        out.looked += len(new)
        fresh = []
        for f, sha, doc in _look_at(new, base, options, on_progress):
            facts[root, f.path] = (sha, facts_from_json(doc))
            fresh.append((f, sha, doc))
        if fresh:
            cache.remember(base, fresh)
    return facts


def _look_at(
    files: list[File], base: Path, options: DiscoverOptions, on_progress: Callable[..., None] | None
) -> Iterator[tuple[File, str | None, dict[str, Any]]]:
    """Look at files in chunks, in several processes when there is enough to do."""
    chunks = [files[i : i + CHUNK] for i in range(0, len(files), CHUNK)]
    heavy = len(files) >= POOL_FROM or sum(f.size for f in files) >= POOL_BYTES
    if heavy and len(chunks) < 2 * options.jobs:
        size = max(1, len(files) // (4 * max(options.jobs, 1)))
        chunks = [files[i : i + size] for i in range(0, len(files), size)]
    jobs = options.jobs if heavy else 1
    work = partial(_look_chunk, str(base))
    done = 0
    for chunk, seen in zip(chunks, run_map(work, chunks, jobs=jobs), strict=True):
        done += len(chunk)
        if on_progress is not None:
            on_progress(done, len(files))
        for f, (sha, doc) in zip(chunk, seen, strict=True):
            yield f, sha, doc


def _look_chunk(base: str, files: list[File]) -> list[tuple[str | None, dict[str, Any]]]:
    found = []
    for f in files:
        sha, facts = sniff.look(f"{base}/{f.path}", f.size)
        found.append((sha, facts_to_json(facts)))
    return found


def _entries(
    seen: Walked,
    facts: dict[tuple[str, str], tuple[str | None, Facts]],
    roots: dict[str, Path],
    options: DiscoverOptions,
) -> list[Entry]:
    """One entry per recording; a folder with one JSON per frame is one recording."""
    entries, folded = _folded(seen.files, facts, roots, options)
    for f in seen.files:
        if (f.root, f.path) in folded or PurePosixPath(f.path).name == IGNORE_FILE:
            continue
        sha, known = facts[f.root, f.path]
        known = _mapped(f, known, roots, options)
        found = entry(sniff.strict(known) if options.strict else known, f.root, _text(f.path), f.size, sha)
        if _text(f.path) != f.path:
            found |= {"kind": "other", "reason": "its name is not UTF-8: rename it"}
        if options.mtime_clock and found["t0_utc_us"] is None and known.kind in ("pose", "motion", "audio", "video"):
            _mtime(found, f)
        if options.map_file is not None and known.format == "mapped":
            found["meta"]["map_file"] = str(options.map_file.resolve())
        entries.append(found)
    for root, path, why in seen.closed:
        entries.append(entry(Facts("other", "folder", reason=f"folder: {why}"), root, _text(path), 0, None))
    for root, path in seen.outputs:
        note = {"note": "a dataset made by choreo pair"}
        entries.append(entry(Facts("other", "choreo.pairs/1", meta=note), root, _text(path), 0, None))
    return entries


def _mapped(f: File, known: Facts, roots: dict[str, Path], options: DiscoverOptions) -> Facts:
    """With --map, a JSON or CSV file that no reader knows is tried with the mapping."""
    if (
        options.map_file is None
        or known.kind not in ("other", "pose")
        or (known.kind == "pose" and known.reason is None)
    ):
        return known
    if PurePosixPath(f.path).suffix.lower() not in (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".txt"):
        return known
    from formats.foreign.mapping import load_map, read_with_map
    from formats.foreign.pose_build import stream_facts
    from formats.foreign.source import Source

    try:
        stream = read_with_map(Source.of(roots[f.root] / f.path), load_map(options.map_file))
    except (FormatError, OSError):
        return known
    return stream_facts(stream, "pose", "mapped", {})


def _mtime(found: Entry, f: File) -> None:
    """The file was finished at its mtime: time zero lies its duration before."""
    from formats.foreign.model import T0_SIGMA_US
    from formats.inventory import set_clock

    start = f.mtime_ns // 1000 - (found["duration_us"] or 0)
    set_clock(found, Clock(start, "mtime", T0_SIGMA_US["mtime"]))


def _text(path: str) -> str:
    """A path as it may stand in a manifest: bytes that are not UTF-8 are shown as they are written in Python."""
    try:
        path.encode("utf-8")
        return path
    except UnicodeEncodeError:
        return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _folded(
    files: list[File],
    facts: dict[tuple[str, str], tuple[str | None, Facts]],
    roots: dict[str, Path],
    options: DiscoverOptions,
) -> tuple[list[Entry], set[tuple[str, str]]]:
    """OpenPose folders: (their entries, the files inside them)."""
    from formats.foreign import openpose

    frames: dict[tuple[str, str], list[File]] = defaultdict(list)
    for f in files:
        if facts[f.root, f.path][1].format == "openpose":
            frames[f.root, str(PurePosixPath(f.path).parent)].append(f)
    entries: list[Entry] = []
    folded: set[tuple[str, str]] = set()
    for (root, folder), members in sorted(frames.items()):
        if not openpose.group_folder([PurePosixPath(f.path).name for f in members]):
            continue
        shas = [facts[root, f.path][0] or "" for f in members]
        digest = hashlib.sha256("\n".join(shas).encode()).hexdigest()
        try:
            known = openpose.facts_folder([roots[root] / f.path for f in members], options.fps)
        except (FormatError, OSError) as e:
            known = Facts("pose", openpose.FORMAT, reason=getattr(e, "message", str(e)))
        meta = {**known.meta, "files": len(members), **({"fps": options.fps} if options.fps else {})}
        size = sum(f.size for f in members)
        entries.append(entry(replace(known, meta=meta), root, _text(folder), size, digest))
        folded.update((root, f.path) for f in members)
    return entries, folded


def _name(entries: list[Entry]) -> None:
    """Ids: kind letter and content hash; equal content gets a number and says what it repeats."""
    seen: dict[str, Entry] = {}
    for e in sorted(entries, key=lambda e: (e["root"], e["path"].encode("utf-8", "surrogateescape"))):
        content = e["sha256"] or hashlib.sha256(f"{e['root']}/{e['path']}".encode("utf-8", "replace")).hexdigest()
        base = name = f"{e['kind'][0]}:{content[:16]}"
        k = 2
        while name in seen:
            name, k = f"{base}.{k}", k + 1
        if name != base and e["sha256"] is not None and e["bytes"] > 0:
            e["meta"] = {**e["meta"], "duplicate_of": seen[base]["path"]}
        e["id"] = name
        seen[name] = e


def _acknowledge(entries: list[Entry], roots: dict[str, Path]) -> None:
    """`.choreoignore`: one pattern a line, relative to its root; matches are known to be bad."""
    for root, folder in roots.items():
        try:
            lines = (folder / IGNORE_FILE).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            continue
        patterns = [unicodedata.normalize("NFC", x.strip()) for x in lines if x.strip() and not x.startswith("#")]
        for e in entries:
            if e["root"] == root and e["reason"] is not None and _matches(e["path"], patterns):
                e["acknowledged"] = True


def _matches(path: str, patterns: list[str]) -> bool:
    path = unicodedata.normalize("NFC", path)
    name = PurePosixPath(path).name
    for p in patterns:
        if p.endswith("/"):
            if path.startswith(p) or f"/{p}" in f"/{path}":
                return True
        elif fnmatch.fnmatchcase(path, p.lstrip("/")) or ("/" not in p and fnmatch.fnmatchcase(name, p)):
            return True
    return False
