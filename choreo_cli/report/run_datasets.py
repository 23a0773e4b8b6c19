"""What was trained and judged on: sessions by split, hours, whether anything stands in two splits, whose it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from choreo_cli.report.run_gather import Dataset, Gathered
from formats.errors import FormatError

SPLITS = ("train", "val", "test", "none")
STEP_S = 0.02  # nominal step of the frame clock; hours follow from rows
LICENCE_FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "LICENCE.txt", "LICENCE.md")
GENERATED = "none needed: generated"


def dataset_rows(found: Gathered) -> list[dict[str, Any]]:
    """One record per dataset: name, kind, sessions and hours by split, synthetic or real, licence, leaks, notes."""
    return [_describe(d, found) for d in found.datasets]


def _describe(d: Dataset, found: Gathered) -> dict[str, Any]:
    sessions = _sessions(d)
    stated = d.record.get("rows")
    rows: Mapping[str, Any] = stated if isinstance(stated, dict) else {}
    entries = d.source.manifest.entries if d.source is not None else []
    synthetic = _synthetic(d, entries)
    return {
        "name": _name(d),
        "schema": str(d.record.get("schema") or (d.source.manifest.schema if d.source else "")),
        "sha256": d.sha256,
        "found": d.path is not None,
        "sessions": {k: len(v) for k, v in sessions.items() if v},
        "hours": {k: rows[k] * _step_s(d) / 3600 for k in SPLITS if isinstance(rows.get(k), int)} or _hours(entries),
        "held_out": sorted({*sessions["val"], *sessions["test"]}),
        "tempi": sorted({float(e["bpm"]) for e in entries if e.get("bpm")}),
        "synthetic": synthetic,
        "decoupled": bool(d.source is not None and (d.source.made_by.get("params") or {}).get("decoupled")),
        "licence": GENERATED if synthetic is True else _licence(d, found),
        "leaks": _leaks(d, sessions),
        "leaks_checked": bool(d.record) or "split" in (entries[0] if entries else {}),
        "notes": [str(n) for n in d.record.get("notes") or []],
    }


def _step_s(d: Dataset) -> float:
    """Seconds of a row: motions count frames at a rate of their own."""
    fps = d.record.get("fps")
    return 1 / float(fps) if isinstance(fps, int | float) and fps > 0 else STEP_S


def _sessions(d: Dataset) -> dict[str, list[str]]:
    stated = d.record.get("sessions")
    if isinstance(stated, dict):
        return {k: [str(s) for s in stated.get(k) or []] for k in SPLITS}
    found: dict[str, list[str]] = {k: [] for k in SPLITS}
    for e in d.source.manifest.entries if d.source is not None else []:
        found[e.get("split", "none")].append(str(e.get("pair_id") or e.get("session_id") or e["path"]))
    return found


def _hours(entries: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for e in entries:
        rows = e.get("rows", e.get("n_frames", 0))
        split = str(e.get("split", "none"))
        found[split] = found.get(split, 0.0) + rows * STEP_S / 3600
    return found


def _synthetic(d: Dataset, entries: Sequence[Mapping[str, Any]]) -> bool | None:
    """True, False, or None for a mixture or when nothing says it."""
    if entries:
        kinds = {bool(e["synthetic"]) for e in entries}
        return kinds.pop() if len(kinds) == 1 else None
    stated = d.record.get("synthetic")
    return stated if isinstance(stated, bool) else None


def _leaks(d: Dataset, sessions: Mapping[str, Sequence[str]]) -> list[str]:
    """What the record states, and a check of its own: no session in two splits."""
    found = [str(x) for x in d.record.get("leaks") or []]
    owner: dict[str, str] = {}
    for split in SPLITS[:3]:
        for s in sessions[split]:
            if owner.setdefault(s, split) != split:
                found.append(f"session {s} is in {owner[s]} and in {split}")
    return found


def _licence(d: Dataset, found: Gathered) -> str | None:
    """What the data says of its licence, or the first line of a licence file beside it or its recordings."""
    stated = d.record.get("licence") or d.record.get("license")
    if isinstance(stated, str) and stated.strip():
        return stated.strip()[:120]
    for folder in _own_folders(d, found):
        for name in LICENCE_FILES:
            first = _first_line(folder / name)
            if first:
                return first
    return None


def _own_folders(d: Dataset, found: Gathered) -> list[Path]:
    folders = []
    if d.path is not None:
        folders.append(d.path if d.path.is_dir() else d.path.parent)
    for item in (d.source.made_by.get("inputs") or []) if d.source is not None else []:
        origin = found.known.get(str(item.get("sha256"))) if isinstance(item, dict) else None
        if origin is not None and origin.manifest.kind == "choreo.inventory":
            folders += [p for p in origin.roots.values() if p.is_dir()]
    return folders


def _first_line(file: Path) -> str | None:
    try:
        if file.is_symlink() or not file.is_file():
            return None
        with open(file, encoding="utf-8", errors="replace") as f:
            lines = (line.strip() for _, line in zip(range(20), f, strict=False))
            return next((line[:120] for line in lines if line), None)
    except (OSError, FormatError):
        return None


def _name(d: Dataset) -> str:
    if d.source is not None:
        return d.source.name
    if d.path is None:
        return d.sha256[:12]
    folder = d.path if d.path.is_dir() else d.path.parent
    if folder.parent.name == "pack":  # a pack beside its pairs is named by its hash
        return f"{folder.parent.parent.name}/pack"
    if d.path.is_dir():
        return d.path.name
    return d.path.parent.name if d.path.suffix == ".json" else d.path.stem
