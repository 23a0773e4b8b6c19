"""Retarget many motions: each in a process of its own if asked, every failure kept with its reason."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from choreo_cli import engine
from choreo_cli.errors import ChoreoError, DataError
from choreo_cli.motion.prepare import lines_of
from choreo_cli.motion.retarget import How, convert
from choreo_cli.motion.retarget_inputs import OWN, open_motion
from choreo_cli.motion.retarget_plan import Folder, Item, Work
from formats.atomic import sha256_file, write_bytes
from formats.errors import FormatError
from formats.foreign.pose_build import SYNTHETIC
from formats.manifest import decode

LEFT_OUT = "left_out.jsonl"
# What a hostile file may still raise inside a reader or the arithmetic after it.
_STRANGE = (ValueError, IndexError, KeyError, TypeError, OverflowError, ZeroDivisionError, np.linalg.LinAlgError)


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one motion: an entry and its files, or why there is none."""

    source: str
    entry: dict[str, Any] | None = None
    files: list[tuple[str, str, str]] = field(default_factory=list)  # role, relative path, sha256
    lines: list[str] = field(default_factory=list)
    why: str = ""
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """All that was made.

    Args:
        entries: Of `choreo.motions/1`, in the order of their paths.
        left_out: (source, why) of what could not be made.
        lines: Report lines of a single motion.
    """

    entries: list[dict[str, Any]]
    left_out: list[tuple[str, str]]
    lines: list[str]


def run(
    work: Work, how: How, folder: Folder, *, jobs: int = 1, progress: Callable[..., None] = lambda *_: None,
    starting: Callable[[], None] = lambda: None,
) -> Done:  # fmt: skip
    """Convert every motion and write the files; the manifest is the caller's.

    Args:
        work: What to convert.
        how: Into what.
        folder: Where to.
        jobs: Processes.
        progress: `progress(done, total, item)`.
        starting: Called before the first file is written; of one motion, once it is known to be sound.

    Raises:
        FormatError, DataError, OSError: the one file that was named cannot be converted.
        DataError: none of several could be; the first reason is told.
    """
    made_by = {k: v for k, v in folder.created_by.items() if k != "outputs"}
    task = partial(one, how=how, out=folder.path, created_by=made_by)
    if len(work.items) == 1:
        task = partial(task, starting=starting)
    else:
        starting()
    results = list(_mapped(task, work.items, jobs, progress))
    made = [r for r in results if r.entry is not None]
    if not made:
        first = results[0]
        if (work.single or len(results) == 1) and first.error is not None:
            raise _placed(first.error, work.items[0].path)
        raise DataError(f"none of {len(results)} motions could be read: {first.source}: {first.why}")
    for r in made:
        for role, name, sha in r.files:
            folder.add(role, name, sha)
    left = [(r.source, r.why) for r in results if r.entry is None]
    if left:
        lines = "".join(json.dumps({"source": s, "why": w}, ensure_ascii=False) + "\n" for s, w in left)
        folder.write("report", LEFT_OUT, lines.encode())
    entries = sorted((r.entry for r in made if r.entry is not None), key=lambda e: str(e["path"]))
    return Done(entries, left, made[0].lines if len(results) == 1 else [])


def _placed(error: Exception, path: Path) -> Exception:
    """The fault with the file that has it, where its sentence does not say."""
    if isinstance(error, DataError) and str(path) not in str(error):
        return DataError(f"{error.message} ({path})", hint=error.hint)
    return error


def _mapped(
    task: Callable[[Item], Result], items: Sequence[Item], jobs: int, progress: Callable[..., None]
) -> Iterator[Result]:
    for done, result in enumerate(engine.run_map(task, items, jobs=jobs), 1):
        progress(done, len(items), result.source)
        yield result


def one(
    item: Item, how: How, out: Path, created_by: dict[str, Any], starting: Callable[[], None] = lambda: None
) -> Result:
    """Convert one motion and write its files, whole or not at all; nothing that a file holds raises from here."""
    try:
        sha = sha256_file(item.path)
        if item.expected is not None and sha != item.expected:
            raise FormatError("changed since it was listed", file=item.path, hint="list it again")
        opened = open_motion(item.path, how.asked)
        clip = opened.clip
        licence = item.carried.get("licence") or (clip.header.licence if clip is not None else None)
        made = convert(opened, how, created_by, {"sha256": sha, "licence": licence, **_who(item)})
    except (FormatError, ChoreoError, OSError) as e:
        return Result(item.source, why=_plain(e), error=e)
    except _STRANGE as e:
        wrapped = DataError(f"{item.source} holds numbers that make no body: {type(e).__name__}")
        return Result(item.source, why=wrapped.message, error=wrapped)
    starting()
    files = []
    for k, (suffix, data) in enumerate(made.files):
        name = item.name + suffix
        target = out / name
        target.parent.mkdir(parents=True, exist_ok=True)
        files.append(("motion" if k == 0 else "sidecar", name, write_bytes(target, data)))
    entry = {
        **made.facts, "path": files[0][1], "sha256": files[0][2], "source": item.source, "source_sha256": sha,
        "music": item.carried.get("music"), "group_id": item.carried.get("group_id"),
        "split": item.carried.get("split", "none"), "performer": item.carried.get("performer"),
        "captions": list(item.carried.get("captions", ())), "licence": licence,
        "synthetic": bool(item.carried.get("synthetic", False)) or SYNTHETIC in opened.report["assumptions"],
    }  # fmt: skip
    return Result(item.source, _ordered(entry), files, lines_of(opened.report) if opened.format != OWN else [])


def _who(item: Item) -> dict[str, Any]:
    performer = item.carried.get("performer")
    return {"performer": performer} if performer else {}


def _ordered(entry: dict[str, Any]) -> dict[str, Any]:
    from formats.media import MOTION

    return {c.name: entry[c.name] for c in MOTION.columns}


def _plain(e: Exception) -> str:
    hint = getattr(e, "hint", None)
    text = str(e) or type(e).__name__
    return text if not hint or hint in text else f"{text}: {hint}"


HEADER = ("motion", "frames", "fps", "rig", "height", "mean mm", "p95 mm", "foot mm/s", "clamped", "flags")


def table(document: bytes) -> list[tuple[str, ...]]:
    """Rows of `HEADER`."""
    return [
        (
            e["path"], str(e["n_frames"]), f"{e['fps']:g}", e["rig"], f"{e['height_m']:.2f}", _number(e["mean_mm"]),
            _number(e["p95_mm"]), _number(e["foot_mm_s"]), str(e["clamped"]), ", ".join(e["flags"]) or "-",
        )
        for e in decode(document).entries
    ]  # fmt: skip


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
