"""Labels and positions of any file of markers, for maps that name them."""

from __future__ import annotations

from formats.errors import FormatError
from formats.foreign import c3d, mat_mocap, trc
from formats.foreign.model import F64
from formats.foreign.pose_space import METRES
from formats.foreign.source import Source


def markers_of(source: Source, part: str | None = None) -> tuple[list[str], F64, float | None, str]:
    """Labels, (T, N, 3) positions in source units with NaN for gaps, the stated rate, and the stated unit or "".

    Args:
        source: A C3D, a TRC, or a file of the MoCap Toolbox.
        part: Which recording of a MATLAB file.

    Raises:
        FormatError: none of them, or damaged.
    """
    head, name, size = source.head, source.name, source.size
    if trc.sniff(head, name, size):
        table = trc.parse(source.read_text(), source.path)
        return list(table.labels), table.xyz, table.fps, table.units if table.units in METRES else ""
    if mat_mocap.sniff(head, name, size):
        one = mat_mocap.chosen(mat_mocap.recordings(source), part, source.path)[0]
        return list(one.labels), one.xyz, one.fps, ""
    if c3d.sniff(head, name, size):
        clip = c3d.parse(source.read_bytes(c3d.CAP))
        return list(clip.labels), clip.xyz, clip.fps, clip.units if clip.units in METRES else ""
    raise FormatError("no file of markers", file=source.path, hint="C3D, TRC and MoCap Toolbox files hold markers")
