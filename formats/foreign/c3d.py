"""C3D in numpy alone: markers of the point section, integers or floats, in all three byte orders of the format.

The usual C++ reader ends the whole process on a damaged header, so it is only what the tests compare with.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from formats.errors import FormatError
from formats.foreign.body import Scaling
from formats.foreign.guard import contained
from formats.foreign.markers import marker_stream, recognise_set, unknown_set
from formats.foreign.model import F64, Facts, PoseStream
from formats.foreign.pose_clock import rate_of
from formats.foreign.pose_space import METRES
from formats.foreign.registry import Reader
from formats.foreign.source import Source

BLOCK = 512
CAP = 1 << 30
MAX_VALUES = 96 * 2**20
_INTEL, _DEC, _MIPS = 84, 85, 86


@dataclass(slots=True)
class C3d:
    """Markers of a C3D: labels, (T, N, 3) float64 in `units` with NaN for gaps, frames per second."""

    labels: tuple[str, ...]
    xyz: F64
    fps: float
    units: str
    problems: list[str] = field(default_factory=list)


def _order(data: bytes, at: int) -> tuple[str, bool]:
    """Byte order and whether floats are DEC's, from the processor byte of the parameter section."""
    kind = data[at + 3] if len(data) > at + 3 else 0
    return (">" if kind == _MIPS else "<"), kind == _DEC


def _float(raw: bytes, order: str, dec: bool) -> float:
    if dec:  # the words of a VAX float are swapped and its exponent is 2 too high
        raw = raw[2:4] + raw[0:2]
    value: float = struct.unpack(order + "f", raw)[0]
    return value / 4 if dec else value


def _parameters(data: bytes, at: int, order: str, dec: bool) -> dict[str, Any]:
    """`GROUP:NAME` -> value of the parameter section (C3D user guide, Motion Lab Systems, chapter 3)."""
    groups: dict[int, str] = {}
    found: list[tuple[int, str, Any]] = []
    end = min(len(data), at + max(1, data[at + 2]) * BLOCK + BLOCK * 8)
    for kind, name, start in _records(data, at + 4, end, order):
        if kind < 0:
            groups[-kind] = name
        else:
            found.append((kind, name, _value(data, start, end, order, dec)))
    return {f"{groups.get(g, str(g))}:{name}".upper(): value for g, name, value in found}


def _records(data: bytes, at: int, end: int, order: str) -> Iterator[tuple[int, str, int]]:
    for _ in range(10_000):
        if at + 4 > end:
            return
        length = abs(struct.unpack_from("b", data, at)[0])
        kind = struct.unpack_from("b", data, at + 1)[0]
        if not length or not kind:
            return
        name = data[at + 2 : at + 2 + length].decode("latin-1").strip()
        link = at + 2 + length
        if link + 2 > end:
            return
        (step,) = struct.unpack_from(order + "h", data, link)
        yield kind, name, link + 2
        if step <= 0:
            return
        at = link + step


def _value(data: bytes, at: int, end: int, order: str, dec: bool) -> Any:
    if at + 2 > end:
        return None
    (size,), dims = struct.unpack_from("b", data, at), data[at + 1]
    if dims > 7 or size not in (-1, 1, 2, 4) or at + 2 + dims > end:
        return None
    shape = tuple(data[at + 2 : at + 2 + dims])
    count = math.prod(shape) if shape else 1
    raw = data[at + 2 + dims : at + 2 + dims + count * abs(size)]
    if len(raw) < count * abs(size):
        return None
    if size == -1:
        width = shape[0] if shape else 1
        text = [raw[i : i + width].decode("latin-1").strip(" \0") for i in range(0, len(raw), max(1, width))]
        return text if len(shape) > 1 else (text[0] if text else "")
    values: list[float] = (
        [_float(raw[i : i + 4], order, dec) for i in range(0, len(raw), 4)]
        if size == 4
        else [float(v) for v in np.frombuffer(raw, {1: "i1", 2: order + "i2"}[size])]
    )
    return values if shape else values[0]


def _number(value: Any, default: float) -> float:
    if isinstance(value, list):
        value = value[0] if value else None
    return float(value) if isinstance(value, float) and math.isfinite(value) else default


def _labels(parameters: dict[str, Any], count: int) -> tuple[str, ...]:
    found: list[str] = []
    for suffix in ("", *map(str, range(2, 10))):
        more = parameters.get(f"POINT:LABELS{suffix}")
        found += [more] if isinstance(more, str) else more if isinstance(more, list) else []
        if len(found) >= count:
            break
    found = [str(v) for v in found[:count]]
    return (*found, *(f"*{i}" for i in range(len(found), count)))


def parse(data: bytes) -> C3d:
    """Read the markers of a C3D.

    Raises:
        FormatError: no C3D, cut, or a header whose numbers cannot be.
    """
    if len(data) < 2 * BLOCK or data[1] != 0x50 or not data[0]:
        raise FormatError("no C3D header")
    at = (data[0] - 1) * BLOCK
    if at + BLOCK > len(data):
        raise FormatError("the parameter section lies behind the end of the file", hint="it is cut")
    order, dec = _order(data, at)
    parameters = _parameters(data, at, order, dec)
    points, analog, first, last = struct.unpack_from(order + "4H", data, 2)
    scale, start = _float(data[12:16], order, dec), struct.unpack_from(order + "H", data, 16)[0]
    points = int(_number(parameters.get("POINT:USED"), points)) & 0xFFFF
    fps = _number(parameters.get("POINT:RATE"), _float(data[20:24], order, dec))
    scale = _number(parameters.get("POINT:SCALE"), scale)
    frames = int(_number(parameters.get("POINT:FRAMES"), 0)) & 0xFFFF or last - first + 1
    frames = max(frames, last - first + 1)
    if not points or frames < 1 or not start >= 2 or not math.isfinite(scale) or scale == 0:
        raise FormatError(f"{points} markers in {frames} frames: there is nothing to read")
    xyz, problems = _points(data, (start - 1) * BLOCK, points, analog, frames, scale, order, dec)
    units = str(parameters.get("POINT:UNITS") or "").strip().lower()
    if isinstance(parameters.get("POINT:UNITS"), list):
        units = str(parameters["POINT:UNITS"][0]).strip().lower()
    return C3d(_labels(parameters, points), xyz, fps, units, problems)


def _points(
    data: bytes, at: int, points: int, analog: int, frames: int, scale: float, order: str, dec: bool
) -> tuple[F64, list[str]]:
    """(T, N, 3); a negative scale means floats. The fourth word of a point is -1 where it was not seen."""
    kind = order + ("f4" if scale < 0 else "i2")
    row = points * 4 + analog
    size = np.dtype(kind).itemsize
    there = min(frames, max(0, len(data) - at) // (row * size))
    if there < 1:
        raise FormatError("no whole frame of markers", hint="the file is cut")
    if there * row > MAX_VALUES:
        raise FormatError(f"{there * row} values are more than are read")
    problems = [] if there == frames else [f"frame_count: {frames} frames declared, {there} found"]
    raw = np.frombuffer(data, kind, count=there * row, offset=at).reshape(there, row)[:, : points * 4]
    if dec and scale < 0:
        swapped = raw.copy().view("<u2").reshape(there, -1, 2)[..., ::-1]
        raw = np.ascontiguousarray(swapped).view("<f4").reshape(there, -1) / 4
    with np.errstate(invalid="ignore", over="ignore"):
        values = raw.astype(np.float64).reshape(there, points, 4)
        gone = ~np.isfinite(values).all(axis=2) | (values[..., 3] < 0)
        xyz = values[..., :3] * (abs(scale) if scale > 0 else 1.0)
    gone |= (np.abs(xyz) > 1e7).any(axis=2)
    gone |= (xyz == 0).all(axis=2)
    return np.where(gone[..., None], np.nan, xyz), problems


@contained
def _parsed(source: Source) -> C3d:
    return parse(source.read_bytes(CAP))


@contained
def _read(source: Source, fps: float | None, scale: float | None, height: float | None) -> PoseStream:
    clip = parse(source.read_bytes(CAP))
    rate = rate_of(fps) or rate_of(clip.fps)
    unit = clip.units if clip.units in METRES else ""
    scaling = Scaling(scale, height, declared=(METRES[unit], unit) if unit else None)
    origin = "user" if rate_of(fps) else "header" if rate else "none"
    return marker_stream(clip.labels, clip.xyz, rate, origin, scaling, clip.problems)


def read(
    source: Source, fps: float | None = None, *, scale: float | None = None, height: float | None = None
) -> PoseStream:
    """Read a C3D's markers as the 22 canonical joints in metres, y up, where their set is known.

    Args:
        source: The file.
        fps: Overrides the file's rate.
        scale: Metres per source unit, instead of the unit the file states.
        height: Stature in metres, instead of it.

    Raises:
        FormatError: damaged, or markers of no known set; their labels are listed.
    """
    stream: PoseStream = _read(source, fps, scale, height)
    return stream


def facts(source: Source) -> Facts:
    """Markers, frames, rate and labels; the reason when their set is unknown."""
    clip: C3d = _parsed(source)
    return marker_facts(clip.labels, clip.xyz, rate_of(clip.fps), "c3d", clip.units, clip.problems)


def marker_facts(
    labels: tuple[str, ...], xyz: F64, rate: tuple[int, int] | None, format_name: str, units: str,
    problems: list[str], meta: dict[str, object] | None = None,
) -> Facts:  # fmt: skip
    """What `discover` records of markers."""
    known, n = recognise_set(labels), len(xyz)
    gaps = float(np.isnan(xyz).any(axis=2).mean()) if xyz.size else 0.0
    return Facts(
        "motion", format_name, n=n, rate=rate, channels=len(labels), problems=tuple(problems),
        duration_us=round(n * 1e6 * rate[1] / rate[0]) if rate else None,
        reason=None if known else unknown_set(labels, 6),
        meta={"markers": len(labels), "labels": list(labels[:200]), "set": known.name if known else "unknown",
              "units_found": units or "unknown", "missing_fraction": round(gaps, 6), "fps_source": "header",
              **(meta or {})},
    )  # fmt: skip


def sniff(head: bytes, name: str, size: int) -> bool:
    """Byte 2 is 0x50, and the first parameter block, the frame range and the size are plausible."""
    if len(head) < 512 or head[1] != 0x50 or not 2 <= head[0] <= 64 or size < 1024:
        return False
    points, _, first, last = struct.unpack_from("<4H", head, 2)
    return (size % 512 == 0 and points < 10_000 and first <= last) or name.lower().endswith(".c3d")


READERS: tuple[Reader, ...] = (Reader("c3d", "motion", sniff, facts, read, 70),)
