"""The whole of `discover`: walk, look at what changed, group, and write down one entry per recording."""

from __future__ import annotations

import gc
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from choreo_cli.sessions import cache as caching
from choreo_cli.sessions import choreoignore, sniff
from choreo_cli.sessions.grouping import group
from choreo_cli.sessions.scan import Folder, Walked, plan_roots, walk
from choreo_cli.sessions.survey import Surveyed, survey
from formats.errors import FormatError
from formats.inventory import Entry, Row, entry_of, plain_row, shown_path

NOT_UTF8 = "its name is not UTF-8: rename it to use it"
_CLOCKED = ("pose", "motion", "audio", "video", "wearable")


@dataclass(frozen=True, slots=True)
class DiscoverOptions:
    """How to look.

    Args:
        jobs: Worker processes at most.
        verify: Look at every file, seen before or not.
        strict: Doubts are reasons.
        mtime_clock: Use modification times as clocks of recordings that have no other; copies rewrite them.
        fps: Rate of pose and motion recordings that state none.
        mapping: How to read pose logs that no reader knows, as `formats.foreign.mapping.load_map` gives it.
    """

    jobs: int = 1
    verify: bool = False
    strict: bool = False
    mtime_clock: bool = False
    fps: float | None = None
    mapping: dict[str, Any] | None = None

    @property
    def cache_version(self) -> str:
        """What facts depend on besides the file: the map, and whether containers can be opened."""
        text = json.dumps([self.mapping, find_spec("av") is not None], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


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
    roots, named = plan_roots(list(paths))
    out = Inventory([], roots)
    with _no_collector(), caching.opened(cache_folder, options.cache_version) as cache:
        seen = walk(roots, named)
        out.total = seen.total
        surveyed, out.looked = survey(
            seen.folders, cache, jobs=options.jobs, verify=options.verify, mapping=options.mapping,
            on_progress=on_progress,
        )  # fmt: skip
        entries = _entries(seen, surveyed, options)
        del surveyed
        entries = group(entries, {k: p.name for k, p in roots.items()})
        _lift(entries, roots)
        entries.sort(key=lambda e: (e["root"], e["path"], e["kind"]))  # UTF-8 sorts as its code points do
        _name(entries)
        _acknowledge(entries, seen, out.notes)
        cache.flush()
        if cache.problem:
            out.notes.append(cache.problem)
    out.entries = entries
    for counted in seen.ignored.values():
        out.ignored.update(counted)
    out.special.update(what for _, _, what, why in seen.special if why is None)
    return out


@contextmanager
def _no_collector() -> Iterator[None]:
    """Entries are a hundred thousand dicts without cycles: walking them all again and again finds nothing."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _entries(seen: Walked, surveyed: list[Surveyed], options: DiscoverOptions) -> list[Entry]:
    """One entry per recording, and one for everything else that was met."""
    entries: list[Entry] = []
    for folder, found in zip(seen.folders, surveyed, strict=True):
        _of_folder(folder, found, options, entries)
    for root, path, what, why in seen.special:
        row = plain_row("other", what.lower(), why, {"note": f"a {what}, not opened"})
        entries.append(entry_of(row, root, shown_path(path), 0, None))
    for root, path in seen.outputs:
        row = plain_row("other", "choreo.pairs/1", None, {"note": "a dataset made by choreo pair"})
        entries.append(entry_of(row, root, shown_path(path), 0, None))
    for root, counted in seen.ignored.items():
        if counted:
            row = plain_row(
                "other", "ignored", None, {"note": "left alone, not opened", "counts": dict(sorted(counted.items()))}
            )
            row[2] = counted.total()
            entries.append(entry_of(row, root, ".", 0, None))
    return entries


def _of_folder(folder: Folder, found: Surveyed, options: DiscoverOptions, entries: list[Entry]) -> None:
    root, prefix, seen = folder.root, folder.prefix, found.seen
    decodable = prefix.isascii() or shown_path(prefix) == prefix
    together = set(found.frames[0]) if found.frames else ()
    doubtful = options.strict or options.mtime_clock or options.fps
    for f in folder.files:
        name = f[0]
        if name in together:
            continue
        known = seen.get(name)
        if known is None or not decodable:
            entries.append(
                entry_of(plain_row("other", "unreadable", NOT_UTF8, {}), root, shown_path(prefix + name), f[1], None)
            )
            continue
        sha, row = known
        if doubtful:
            row = _with_options(row, options, f[2])
        entries.append(entry_of(row, root, prefix + name, f[1], sha))
    if found.frames:
        names, size, digest, row = found.frames
        row = _with_options([*row[:14], {**row[14], "files": len(names)}], options, max(f[2] for f in folder.files))
        entries.append(entry_of(row, root, shown_path(prefix[:-1] or "."), size, digest))


def _with_options(row: Row, options: DiscoverOptions, mtime_ns: int) -> Row:
    """A row as the options change it: the rate the user knows, doubts as reasons, the file's time as its clock."""
    kind = row[0]
    if options.fps and kind in ("pose", "motion") and row[3] is None and row[5] is None and row[2]:
        from fractions import Fraction

        rate = Fraction(options.fps).limit_denominator(100_000)
        said = [a for a in row[14].get("assumptions", []) if not a.startswith("time unknown")]
        meta = {**row[14], "fps": options.fps, "fps_source": "user", "assumptions": said}
        length = round(row[2] * 1_000_000 / rate)
        row = [*row[:3], rate.numerator, rate.denominator, length, *row[6:14], meta]
    if options.mtime_clock and kind in _CLOCKED and row[7] is None:
        from formats.foreign.model import T0_SIGMA_US

        # A file is finished at its mtime: its time zero lies its duration before.
        row = [*row[:7], mtime_ns // 1000 - (row[5] or 0), "mtime", T0_SIGMA_US["mtime"], False, *row[11:]]
    return sniff.strict(row) if options.strict else row


def _lift(entries: list[Entry], roots: dict[str, Path]) -> None:
    """A root that is itself a recording or a session is named by its folder: its root becomes the folder above."""
    whole = {e["root"] for e in entries if e["path"] == "." and e["kind"] != "other" and roots[e["root"]].name}
    for e in entries:
        if e["root"] in whole:
            name = roots[e["root"]].name
            if e["session"] is not None:
                e["session"] = name if e["session"] == "." else f"{name}/{e['session']}"
            e["path"] = name if e["path"] == "." else f"{name}/{e['path']}"
    for root in whole:
        roots[root] = roots[root].parent


def _name(entries: list[Entry]) -> None:
    """Ids: kind letter and content hash; equal content gets a number and says what it repeats."""
    seen: dict[str, Entry] = {}
    again: Counter[str] = Counter()
    for e in entries:
        content = e["sha256"]
        if content is None:
            content = hashlib.sha256(f"{e['root']}/{e['path']}".encode()).hexdigest()
        base = name = f"{e['kind'][0]}:{content[:16]}"
        if base in seen:
            again[base] += 1
            name = f"{base}.{again[base] + 1}"
            if e["sha256"] is not None and e["bytes"] > 0:
                e["meta"] = {**e["meta"], "duplicate_of": seen[base]["path"]}
        else:
            seen[base] = e
        e["id"] = name


def _acknowledge(entries: list[Entry], seen: Walked, notes: list[str]) -> None:
    """`.choreoignore` in any folder: a file it matches is known to be bad."""
    bad = [e for e in entries if e["reason"] is not None]
    if not bad:
        return
    for root, prefix, path in sorted(seen.rules):
        try:
            rules = choreoignore.read_rules(path)
        except (FormatError, OSError) as error:
            notes.append(f"{prefix}{os.path.basename(path)} is not used: {getattr(error, 'message', error)}")
            continue
        for e in bad:
            if (
                e["root"] == root
                and e["path"].startswith(prefix)
                and choreoignore.matches(rules, e["path"][len(prefix) :])
            ):
                e["acknowledged"] = True
