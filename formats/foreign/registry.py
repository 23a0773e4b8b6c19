"""The table of foreign readers: sniffed by content, in order; the suffix only breaks ties."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from formats.foreign.model import Facts
from formats.foreign.source import Source

MODULES = (
    "amass", "apple_health", "arkit", "asf_amc", "audio", "beat_text", "bvh", "c3d", "capture_lines", "cue", "empatica",
    "features_npz", "garmin", "heart_csv", "humanml3d", "joint_arrays", "keypoints", "mat_mocap", "midi_tempo",
    "mocap_other", "openpose", "plain", "playlist_xml", "playlists", "pose_log", "qom", "session_meta", "smpl",
    "stepmania", "trc", "vision", "motion_clip",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Reader:
    """How one format is recognised and read.

    Args:
        format: Unique short name.
        kind: One of `formats.foreign.model.KINDS`.
        sniff: (head, file name, size) -> whether this is it; no I/O.
        facts: Reads what `discover` records.
        read: Reads the streams inside; None for a format that is recognised but not read yet.
        order: Lower is asked first.
    """

    format: str
    kind: str
    sniff: Callable[[bytes, str, int], bool]
    facts: Callable[[Source], Facts]
    read: Callable[..., object] | None
    order: int = 50


@cache
def load() -> tuple[Reader, ...]:
    """Every reader, in the order they are asked; the last one claims whatever is left."""
    from importlib import import_module

    found: list[Reader] = []
    for name in MODULES:
        found += getattr(import_module(f"formats.foreign.{name}"), "READERS", ())
    return tuple(sorted(found, key=lambda r: r.order))


def recognise(head: bytes, name: str, size: int) -> Reader:
    """The reader that claims a file by its first 4 KiB."""
    return next(r for r in load() if r.sniff(head, name, size))


def by_format(name: str) -> Reader | None:
    """The reader of a format named in an inventory."""
    return next((r for r in load() if r.format == name), None)


def options_of(reader: Reader) -> frozenset[str]:
    """What a reader may be told besides the file: of `fps scale height body part sequence` those its `read` takes."""
    from inspect import signature

    if reader.read is None:
        return frozenset()
    return frozenset(n for n, p in signature(reader.read).parameters.items() if p.default is not p.empty)
