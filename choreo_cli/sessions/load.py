"""Open the recordings an inventory names, through the reader that listed them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from formats.errors import FormatError
from formats.foreign.model import PoseStream, Series
from formats.foreign.source import Source
from formats.manifest import safe_join

Entry = dict[str, Any]


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
    reader = registry.by_format(entry["format"])
    if reader is None or reader.read is None:
        raise FormatError(f"{entry['format']} is not read yet", file=path)
    return reader.read(Source.of(path))


def body(entry: Entry, roots: dict[str, Path]) -> PoseStream | Series:
    """A body signal: poses, or a quantity of motion. Raises FormatError when the recording holds neither."""
    found = read(entry, roots)
    if isinstance(found, PoseStream) or (isinstance(found, Series) and "qom" in found.names):
        return found
    raise FormatError("holds no body signal", file=entry["path"])


def heart(entry: Entry, roots: dict[str, Path]) -> Series | None:
    """Heart rate, None when the wearable recorded something else."""
    found = read(entry, roots)
    return found if isinstance(found, Series) and "hr" in found.names else None
