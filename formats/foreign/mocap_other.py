"""Motion formats that are recognised and listed, but not read."""

from __future__ import annotations

from formats.foreign.model import Facts
from formats.foreign.registry import Reader
from formats.foreign.source import Source


def reason(name: str) -> str:
    """The one sentence for a format that is recognised but has no reader."""
    return f"{name} motion is recognised but not read: export it as BVH"


def sniff_fbx(head: bytes, name: str, size: int) -> bool:
    """Binary FBX."""
    return head[:18] == b"Kaydara FBX Binary"


def _fbx(source: Source) -> Facts:
    return Facts("motion", "fbx", reason=reason("FBX"))


READERS: tuple[Reader, ...] = (Reader("fbx", "motion", sniff_fbx, _fbx, None, 33),)
