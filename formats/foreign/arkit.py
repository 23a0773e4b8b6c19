"""ARKit body tracking in JSON: 91 joints in metres, y up; positions or 4x4 transforms (column-major)."""

from __future__ import annotations

from formats.foreign.pose_build import Hints
from formats.foreign.pose_log import facts_of, read_json_rows, reader_of, sniff_of
from formats.foreign.registry import Reader

read = reader_of(read_json_rows, Hints(units="m", up="+y"))

READERS: tuple[Reader, ...] = (Reader("arkit-json", "pose", sniff_of("arkit"), facts_of(read, "arkit-json"), read, 42),)
