"""MATLAB files of the MoCap Toolbox: structs of numbers and text, read by scipy; objects and functions are refused."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from formats.errors import FormatError
from formats.foreign.body import Scaling
from formats.foreign.c3d import marker_facts
from formats.foreign.guard import contained
from formats.foreign.markers import marker_stream, recognise_set
from formats.foreign.model import F64, Facts, PoseStream
from formats.foreign.pose_clock import rate_of
from formats.foreign.registry import Reader
from formats.foreign.source import Source

BUDGET_BYTES = 512 * 2**20
MAX_VARIABLES = 256
_COMPRESSED, _MATRIX = 15, 14
_OBJECTS = {3: "an object", 16: "a function", 17: "an opaque object"}
_STRUCT, _CELL = 2, 1
_UNITS = (0.001, "mm")


@dataclass(frozen=True, slots=True)
class Recording:
    """One `MoCap data` struct: (T, N, 3) float64 in mm with NaN for gaps."""

    name: str
    labels: tuple[str, ...]
    xyz: F64
    fps: float | None


def variables(data: bytes, file: Path) -> dict[str, int]:
    """Names and array classes of a file's variables; its compressed parts are inflated in pieces against a budget.

    Raises:
        FormatError: no MATLAB 5 file, damaged, a bomb, or an object that running code would have to build.
    """
    if data[:10] == b"MATLAB 7.3":
        raise FormatError("a MATLAB 7.3 file (HDF5)", file=file, hint="save it in MATLAB with -v7")
    if len(data) < 136 or data[126:128] not in (b"IM", b"MI"):
        raise FormatError("no MATLAB 5 file", file=file)
    order = "<" if data[126:128] == b"IM" else ">"
    found: dict[str, int] = {}
    at, total = 128, 0
    while at + 8 <= len(data):
        kind, size = struct.unpack_from(order + "II", data, at)
        body = data[at + 8 : at + 8 + size]
        if kind not in (_COMPRESSED, _MATRIX) or len(body) < size:
            raise FormatError(f"damaged at byte {at}", file=file)
        whole, head = (
            _inflated(body, BUDGET_BYTES - total, file) if kind == _COMPRESSED else (size, data[at : at + 512])
        )
        total += whole
        name, matrix = _variable(head, order, file)
        found[name] = matrix
        if len(found) > MAX_VARIABLES or total > BUDGET_BYTES:
            raise FormatError("more variables or bytes than are read", file=file)
        at += 8 + size
    return found


def _inflated(body: bytes, budget: int, file: Path) -> tuple[int, bytes]:
    """Size of a compressed element and its first bytes; every part is thrown away again."""
    unpack = zlib.decompressobj()
    head, total, pending = b"", 0, body
    try:
        while pending:
            part = unpack.decompress(pending, 1 << 20)
            head += part[: max(0, 512 - len(head))]
            total += len(part)
            if total > budget:
                raise FormatError(f"inflates to more than {BUDGET_BYTES} bytes", file=file)
            pending = unpack.unconsumed_tail
    except zlib.error as e:
        raise FormatError(f"damaged archive ({e})", file=file) from None
    return total, head


def _variable(head: bytes, order: str, file: Path) -> tuple[str, int]:
    """Name and array class from the start of a matrix element (MAT-File Format, MathWorks, Level 5)."""
    if len(head) < 56 or struct.unpack_from(order + "I", head, 0)[0] != _MATRIX:
        raise FormatError("a variable without a header", file=file)
    flags = struct.unpack_from(order + "I", head, 16)[0]
    matrix = flags & 0xFF
    if matrix in _OBJECTS:
        raise FormatError(f"it holds {_OBJECTS[matrix]}, which is not built", file=file, hint="save plain structs only")
    ndim = struct.unpack_from(order + "I", head, 28)[0]
    at = 32 + (ndim + 7) // 8 * 8
    if at + 8 > len(head):
        raise FormatError("a variable without a name", file=file)
    first = struct.unpack_from(order + "I", head, at)[0]
    size = first >> 16 or struct.unpack_from(order + "I", head, at + 4)[0]
    start = at + 4 if first >> 16 else at + 8
    return head[start : start + min(size, 64)].decode("latin-1"), matrix


def recordings(source: Source) -> list[Recording]:
    """Every marker recording of the file, in its order.

    Raises:
        FormatError: damaged, not of the MoCap Toolbox, or without one.
    """
    import io

    from scipy.io import loadmat

    data = source.read_bytes(BUDGET_BYTES)
    names = [n for n, kind in variables(data, source.path).items() if kind == _STRUCT]
    try:
        loaded = loadmat(
            io.BytesIO(data), variable_names=names, squeeze_me=True, struct_as_record=True, chars_as_strings=True
        )
    except Exception as e:  # its parser raises whatever the bytes make it meet
        raise FormatError(f"damaged ({type(e).__name__})", file=source.path) from None
    found = [r for n in names if n in loaded for r in _recording(n, loaded[n])]
    if not found:
        raise FormatError(
            "no 'MoCap data' struct with markers",
            file=source.path,
            hint="save what the MoCap Toolbox's mcread returned",
        )
    return found


def _recording(name: str, value: Any) -> list[Recording]:
    fields = getattr(getattr(value, "dtype", None), "names", None) or ()
    if not {"type", "data", "freq", "markerName"} <= set(fields) or np.ndim(value) != 0:
        return []
    data, labels, freq = (value[f].item() for f in ("data", "markerName", "freq"))
    if str(value["type"].item()) != "MoCap data" or not isinstance(data, np.ndarray) or data.dtype.kind not in "fiu":
        return []
    names = tuple(str(v) for v in np.atleast_1d(labels).reshape(-1))
    if data.ndim != 2 or not len(data) or not names or data.shape[1] != 3 * len(names):
        return []
    xyz = data.astype(np.float64).reshape(len(data), -1, 3)
    gone = ~np.isfinite(xyz).all(axis=2) | (xyz == 0).all(axis=2)
    rate = float(freq) if np.ndim(freq) == 0 and np.asarray(freq).dtype.kind in "fiu" else None
    return [Recording(name, names, np.where(gone[..., None], np.nan, xyz), rate)]


def chosen(found: list[Recording], part: str | None, file: Path) -> tuple[Recording, list[str]]:
    """The recording named `part`, else the first of a known marker set, and the remark that there are others."""
    names = ", ".join(r.name for r in found)
    if part is not None:
        one = next((r for r in found if r.name == part), None)
        if one is None:
            raise FormatError(f"no recording {part!r}", file=file, hint=f"it holds {names}")
        return one, []
    one = next((r for r in found if recognise_set(r.labels)), found[0])
    return one, [f"several_recordings: it holds {names}; {one.name} is used"] if len(found) > 1 else []


@contained
def _read(source: Source, fps: float | None, scale: float | None, height: float | None, part: str | None) -> PoseStream:
    one, faults = chosen(recordings(source), part, source.path)
    rate = rate_of(fps) or rate_of(one.fps)
    origin = "user" if rate_of(fps) else "header" if rate else "none"
    return marker_stream(
        one.labels, one.xyz, rate, origin, Scaling(scale, height, hinted=_UNITS), faults, [f"recording {one.name}"]
    )


def read(
    source: Source, fps: float | None = None, *, scale: float | None = None, height: float | None = None,
    part: str | None = None,
) -> PoseStream:  # fmt: skip
    """Read one recording of a MoCap Toolbox file as the 22 canonical joints in metres, y up.

    Args:
        source: The file.
        fps: Overrides the recording's `freq`.
        scale: Metres per source unit, instead of a guess from the skeleton's height.
        height: Stature in metres, instead of a guess.
        part: Name of the recording; the first of a known marker set without.

    Raises:
        FormatError: damaged, objects inside, no recording, or markers of no known set; their labels are listed.
    """
    stream: PoseStream = _read(source, fps, scale, height, part)
    return stream


@contained
def facts(source: Source) -> Facts:
    """Markers, frames, rate and labels of the recording that would be read."""
    found = recordings(source)
    one, faults = chosen(found, None, source.path)
    meta: dict[str, object] = {"recordings": {r.name: len(r.xyz) for r in found}, "recording": one.name}
    return marker_facts(one.labels, one.xyz, rate_of(one.fps), "mat", "mm", faults, meta)


def sniff(head: bytes, name: str, size: int) -> bool:
    """MATLAB 5 and 7.3 files say so in their first line."""
    return head[:10] in (b"MATLAB 5.0", b"MATLAB 7.3")


READERS: tuple[Reader, ...] = (Reader("mat", "motion", sniff, facts, read, 33),)
