"""Apple Vision 2-D body points in JSON: 0..1 of the image with the origin at the bottom left, so y grows upwards."""

from __future__ import annotations

from formats.foreign.pose_build import Hints
from formats.foreign.pose_log import facts_of, read_json_rows, reader_of, sniff_of
from formats.foreign.registry import Reader

read = reader_of(read_json_rows, Hints(units="norm", up="+y", depth=False))

READERS: tuple[Reader, ...] = (
    Reader("vision-json", "pose", sniff_of("vision"), facts_of(read, "vision-json"), read, 43),
)
