"""Which runs lie under a folder and how they are doing, told from their heartbeats alone."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from choreo_cli.errors import ExitCode, NoInputError
from formats import status
from formats.atomic import LOCK_NAME, alive
from formats.columns import STATUS
from formats.errors import FormatError
from formats.status import Status

FILE = "status.json"
STALE_S = 60.0
_HOLDER = re.compile(r"pid (\d+) on (\S+?): ")


def find(folders: Sequence[Path], *, stale_s: float = STALE_S, now_s: float | None = None) -> list[dict[str, Any]]:
    """The runs under some folders, entries of `choreo.status/1` in the order of their paths.

    A run that says `running` is called `stale` when its heartbeat is older than `stale_s`, or when the process that
    holds its lock ran on this machine and is gone; of a copy made elsewhere only the age counts.

    Raises:
        NoInputError: a folder is missing, or no run lies under any.
    """
    for folder in folders:
        if not folder.is_dir():
            raise NoInputError(f"no folder {folder}", hint="name the -o of choreo train, or a folder above it")
    found = {}
    now = time.time() if now_s is None else now_s
    for folder in folders:
        for file in _files(folder):
            shown = file.parent.relative_to(folder).as_posix()
            name = shown if len(folders) == 1 else (folder / shown).as_posix()
            found[name] = _entry(file, name, stale_s, now)
    if not found:
        names = ", ".join(map(str, folders))
        raise NoInputError(f"no run under {names}", hint=f"a run has a {FILE}: see choreo train --help")
    return [found[name] for name in sorted(found)]


def document(entries: list[dict[str, Any]]) -> bytes:
    """The manifest of some runs. It tells of a moment, so it names no run of its own that could be repeated."""
    from choreo_cli.runtime import provenance
    from formats.manifest import Manifest, encode

    made_by = {**provenance("status", {}, []), "deterministic": False}
    return encode(Manifest(STATUS.schema, made_by, entries))


def exit_code(entries: Sequence[dict[str, Any]]) -> int:
    """1 when a run failed or is stale, else 0."""
    return int(ExitCode.NO if any(e["state"] in ("failed", "stale") for e in entries) else ExitCode.OK)


def is_over(entries: Sequence[dict[str, Any]]) -> bool:
    """Whether no run is at work any more."""
    return all(e["state"] != "running" for e in entries)


def follow(
    look: Callable[[], list[dict[str, Any]]], interval_s: float, sleep: Callable[[float], None] = time.sleep
) -> Iterator[list[dict[str, Any]]]:
    """What `look` finds, again and again until no run is at work; the last is yielded too."""
    while True:
        found = look()
        yield found
        if is_over(found):
            return
        sleep(interval_s)


def row(entry: dict[str, Any]) -> tuple[str, ...]:
    """One run for a person: (run, state, progress, loss, age, left, what)."""
    total = entry["total"]
    share = f"{100 * entry['done'] / total:.0f} %" if total else "-"
    loss = "-" if entry["loss"] is None else f"{entry['loss']:.4g}"
    left = "-" if entry["eta_s"] is None or entry["state"] != "running" else spoken(entry["eta_s"])
    what = entry["message"] or entry["step"] if entry["state"] in ("failed", "stale") else entry["step"]
    return entry["path"], entry["state"], share, loss, spoken(entry["age_s"] or 0.0), left, what


HEADER = ("run", "state", "done", "loss", "age", "left", "step")


def spoken(seconds: float) -> str:
    """`45 s`, `12 min`, `3.5 h`, `2 d`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.0f} d"


def _files(folder: Path) -> Iterator[Path]:
    for top, folders, names in os.walk(folder):
        folders.sort()
        if FILE in names:
            yield Path(top, FILE)


def _entry(file: Path, name: str, stale_s: float, now: float) -> dict[str, Any]:
    try:
        found = status.read(file)
    except (FormatError, OSError) as e:
        why = e.message if isinstance(e, FormatError) else e.strerror
        found = Status("unknown", "failed", 0, "unreadable", 0, None, 0, why)
        return _fields(replace(found, path=name))
    age = max(0.0, now - found.updated_us / 1e6)
    found = replace(found, path=name, age_s=round(age, 1))
    if found.state == "running":
        if _is_gone(file.parent, found.pid):
            found = replace(found, state="stale", message=f"process {found.pid} is gone")
        elif age > stale_s:
            found = replace(found, state="stale", message=f"no heartbeat for {spoken(age)}")
    return _fields(found)


def _fields(found: Status) -> dict[str, Any]:
    return {name: asdict(found)[name] for name in STATUS.names}


def _is_gone(folder: Path, pid: int) -> bool:
    """Whether the holder of the run's lock was this process, on this machine, and is no more."""
    try:
        text = (folder / LOCK_NAME).read_bytes()[:400].decode("utf-8", "replace")
    except OSError:
        return False
    holder = _HOLDER.match(text)
    if holder is None or int(holder[1]) != pid or holder[2] != socket.gethostname():
        return False
    return not alive(pid)
