"""Open the recordings an inventory names, through the reader that listed them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from formats.errors import FormatError
from formats.foreign.model import PoseStream, Series
from formats.foreign.source import Source
from formats.manifest import safe_join

Entry = dict[str, Any]
MIN_PERIOD_US, MAX_PERIOD_US = 500, 3_600_000_000


def locate(entry: Entry, roots: dict[str, Path]) -> Path:
    """Where an entry lies.

    Raises:
        FormatError: its path would leave its root, or its root is unknown.
    """
    if entry["root"] not in roots:
        raise FormatError(f"the manifest has no root {entry['root']!r}", file=entry["path"])
    root = roots[entry["root"]]
    # A root that is itself the file: `choreo discover poses.jsonl`.
    return root.parent / root.name if entry["path"] == "." else safe_join(root, entry["path"])


def read(entry: Entry, roots: dict[str, Path]) -> object:
    """The streams inside a recording.

    Raises:
        FormatError: damaged, or changed since it was listed.
    """
    from formats.foreign import registry

    path = locate(entry, roots)
    if entry["format"] == "mapped":
        from formats.foreign.mapping import check_map, read_with_map

        return read_with_map(Source.of(path), check_map(entry["meta"]["map"], file=path))
    if entry["format"] == "openpose-folder":
        from formats.foreign.openpose import read_folder

        return read_folder(sorted(path.glob("*.json")), fps=entry["meta"].get("fps"))
    if entry["format"] == "choreo25":
        from choreo_cli.motion.clip_stream import read_stream

        return read_stream(path)
    reader = registry.by_format(entry["format"])
    if reader is None or reader.read is None:
        raise FormatError(f"{entry['format']} is not read yet", file=path)
    if entry["meta"].get("fps_source") == "user":
        return reader.read(Source.of(path), fps=entry["meta"]["fps"])
    return reader.read(Source.of(path))


def body(entry: Entry, roots: dict[str, Path]) -> PoseStream | Series:
    """A body signal: poses, or a quantity of motion.

    Raises:
        FormatError: the recording holds neither, knows no time at all, or claims a rate no sensor has.
    """
    found = read(entry, roots)
    if not isinstance(found, PoseStream) and not (isinstance(found, Series) and "qom" in found.names):
        raise FormatError("holds no body signal", file=entry["path"])
    # One snapshot has no rate either; that it is one is what the caller will say.
    if isinstance(found, PoseStream) and found.rate_source == "none" and len(found.t_us) > 1:
        raise FormatError("holds no times and no rate: give one with choreo discover --fps", file=entry["path"])
    if len(found.t_us) > 1:
        period = (int(found.t_us[-1]) - int(found.t_us[0])) / (len(found.t_us) - 1)
        if not MIN_PERIOD_US <= period <= MAX_PERIOD_US:
            raise FormatError(f"its times are {period:g} us apart: no body is recorded so", file=entry["path"])
    return found


def heart(entry: Entry, roots: dict[str, Path]) -> Series | None:
    """Heart rate, None when the wearable recorded something else."""
    found = read(entry, roots)
    return found if isinstance(found, Series) and "hr" in found.names else None
