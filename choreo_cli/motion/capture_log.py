"""Recorded sensor streams: JSON Lines, what each stream is first, then one reading a line in the order of arrival.

    {"schema":"choreo.capture/1","height_m":1.7,"synthetic":true,"streams":{
        "phone":{"kind":"pose","sigma_m":0.035},
        "front":{"kind":"points","focal_px":1500,"width":1920,"height":1080,"camera":{"place_m":[0,1.3,3.5],
                 "yaw_rad":3.14,"pitch_rad":0}},
        "watch":{"kind":"watch","point":"l_wrist"},"head":{"kind":"head","sigma_m":0.02}}}
    {"stream":"phone","t_us":0,"t_arrival_us":21000,"values":[[0.1,0.9,0],...]}
    {"end":true,"n":1}

`pose` is 22 joints of 3 metres (null where missing), y up, floor at 0; `points` 17 COCO points of 2 pixels, y down,
with `confidence`; `watch` the specific force in m/s^2, with `attitude` (w x y z) where it is known; `head` 3 metres.
All times are microseconds of one clock.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from formats.errors import FormatError
from formats.jsonstrict import loads

F64 = NDArray[np.float64]

SCHEMA = "choreo.capture/1"
SHAPES: dict[str, tuple[int, ...]] = {"pose": (22, 3), "points": (17, 2), "watch": (3,), "head": (3,)}
SIGMAS = {"pose": 0.035, "points": 0.05, "watch": 4.0, "head": 0.02}
MAX_LINE = 64 * 1024
MAX_STREAMS = 32
_SAFE = 2**53
_LARGEST = 1e6


@dataclass(frozen=True, slots=True)
class Camera:
    """Where a camera stands and what it sees: needed to place lifted points.

    Args:
        focal_px: Focal length.
        width, height: Of its image in pixels.
        place_m: (3,) in the world.
        yaw_rad: Direction it looks in: pi looks towards -z, at someone who faces +z.
        pitch_rad: Upwards.
    """

    focal_px: float
    width: float
    height: float
    place_m: tuple[float, float, float] = (0.0, 1.3, 3.5)
    yaw_rad: float = math.pi
    pitch_rad: float = 0.0


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """What a stream is: its kind (one of `SHAPES`), its noise in m or m/s^2, and which wrist or camera."""

    name: str
    kind: str
    sigma: float
    point: str = "l_wrist"
    camera: Camera | None = None


@dataclass(frozen=True, slots=True)
class CaptureHead:
    """The first line.

    Args:
        streams: By name.
        height_m: Stature of who is captured, None when unknown.
        synthetic: Made by a program.
    """

    streams: dict[str, StreamInfo]
    height_m: float | None = None
    synthetic: bool = False


@dataclass(frozen=True, slots=True)
class Heard:
    """A reading as it arrives.

    Args:
        stream: Its stream.
        t_us: When it was measured.
        t_arrival_us: When it arrived, on the same clock.
        values: As `SHAPES` says, NaN where missing.
        confidence: (17,) of points.
        attitude: (4,) of a watch.
    """

    stream: str
    t_us: int
    t_arrival_us: int
    values: F64
    confidence: F64 | None = None
    attitude: F64 | None = None


@dataclass(slots=True)
class Refused:
    """Lines that could not be used, by reason, and the first of them."""

    reasons: dict[str, int] = field(default_factory=dict)
    first: str = ""

    def add(self, error: FormatError) -> None:
        """Count one."""
        self.reasons[error.message] = self.reasons.get(error.message, 0) + 1
        self.first = self.first or str(error)


def parse_head(line: bytes, *, file: Any = None) -> CaptureHead:
    """The first line. Raises FormatError: not of this schema, or a stream that says too little."""
    found = loads(line, file=file, row=1)
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        raise FormatError(f"the first line is not of {SCHEMA}", file=file, row=1)
    streams = found.get("streams")
    if not isinstance(streams, dict) or not 0 < len(streams) <= MAX_STREAMS:
        raise FormatError("no streams are named", file=file, row=1, field="streams")
    height = found.get("height_m")
    if height is not None and not (_is_number(height) and 0.3 <= height <= 3.0):
        raise FormatError("a stature that nobody has", file=file, row=1, field="height_m")
    told = {str(name): _info(str(name), value, file) for name, value in streams.items()}
    return CaptureHead(told, None if height is None else float(height), found.get("synthetic") is True)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _info(name: str, value: Any, file: Any) -> StreamInfo:
    kind = value.get("kind") if isinstance(value, dict) else None
    if kind not in SHAPES:
        raise FormatError(f"stream {name} is of no kind of {', '.join(SHAPES)}", file=file, row=1, field="kind")
    sigma = value.get("sigma_m", value.get("sigma", SIGMAS[kind]))
    if not _is_number(sigma) or not 0 < sigma < 100:
        raise FormatError(f"stream {name}: noise that is not above 0", file=file, row=1, field="sigma_m")
    point = value.get("point", "l_wrist")
    if kind == "watch" and point not in ("l_wrist", "r_wrist"):
        raise FormatError(f"stream {name} is worn on {point}, need l_wrist or r_wrist", file=file, row=1, field="point")
    return StreamInfo(name, kind, float(sigma), str(point), _camera(name, value, file) if kind == "points" else None)


def _camera(name: str, value: dict[str, Any], file: Any) -> Camera:
    told = value.get("camera", {})
    place = told.get("place_m", [0.0, 1.3, 3.5]) if isinstance(told, dict) else None
    numbers = [value.get("focal_px"), value.get("width"), value.get("height")]
    if not isinstance(place, list) or len(place) != 3 or not all(map(_is_number, [*numbers, *place])):
        raise FormatError(
            f"stream {name}: points need focal_px, width, height and camera", file=file, row=1, field="camera"
        )
    focal, width, height = (float(n) for n in numbers if n is not None)
    if min(focal, width, height) <= 0:
        raise FormatError(f"stream {name}: a camera without size", file=file, row=1, field="focal_px")
    angles = [told.get("yaw_rad", math.pi), told.get("pitch_rad", 0.0)]
    if not all(map(_is_number, angles)):
        raise FormatError(f"stream {name}: angles that are no numbers", file=file, row=1, field="camera")
    yaw, pitch = map(float, angles)
    return Camera(focal, width, height, (float(place[0]), float(place[1]), float(place[2])), yaw, pitch)


def parse_line(line: bytes, head: CaptureHead, row: int, *, file: Any = None) -> Heard | None:
    """The reading of a line; None of the last.

    Raises:
        FormatError: no reading of a known stream, with its row and field.
    """
    found = loads(line, file=file, row=row)
    if not isinstance(found, dict):
        raise FormatError("not a reading", file=file, row=row)
    if found.get("end") is True:
        return None
    info = head.streams.get(str(found.get("stream")))
    if info is None:
        raise FormatError("a reading of a stream that was not named", file=file, row=row, field="stream")
    t, arrival = found.get("t_us"), found.get("t_arrival_us", found.get("t_us"))
    if type(t) is not int or type(arrival) is not int or max(abs(t), abs(arrival)) > _SAFE:
        raise FormatError("times that are no microseconds", file=file, row=row, field="t_us")
    values = _array(found.get("values"), SHAPES[info.kind], file, row, "values")
    attitude = found.get("attitude")
    confidence = found.get("confidence")
    return Heard(
        info.name, t, arrival, values,
        None if confidence is None else _array(confidence, (17,), file, row, "confidence"),
        None if attitude is None else _array(attitude, (4,), file, row, "attitude"),
    )  # fmt: skip


def _array(value: Any, shape: tuple[int, ...], file: Any, row: int, name: str) -> F64:
    try:
        out = np.array(value, np.float64)
    except (TypeError, ValueError):
        out = np.empty(0)
    if out.shape != shape or (np.abs(out) > _LARGEST).any():
        raise FormatError(f"not {' x '.join(map(str, shape))} numbers", file=file, row=row, field=name)
    return out


def read_log(
    lines: Iterable[bytes], head: CaptureHead, refused: Refused, *, file: Any = None, whole: bool = False
) -> Iterator[Heard]:
    """Readings of the lines after the first; what cannot be used is counted and left out.

    Args:
        lines: After the first.
        head: What the first said.
        refused: Counts what is left out.
        file: For errors.
        whole: The last line must be there; without, a stream may end at any line.

    Raises:
        FormatError: the last line does not say how many there were: the recording is cut.
    """
    n = 0
    for row, line in enumerate(lines, 2):
        if not line.strip():
            continue
        try:
            if len(line) > MAX_LINE:
                raise FormatError("a line longer than 64 KiB", file=file, row=row)
            found = parse_line(line, head, row, file=file)
        except FormatError as e:
            refused.add(e)
            n += 1
            continue
        if found is None:
            last = loads(line, file=file, row=row)
            if last.get("n") != n:
                raise FormatError(f"says {last.get('n')} readings, holds {n}: cut or damaged", file=file, row=row)
            return
        n += 1
        yield found
    if whole:
        raise FormatError(f"ends after {n} readings without its last line: cut", file=file, hint="record it again")


def head_line(head: CaptureHead) -> dict[str, Any]:
    """The first line as an object; the reverse of `parse_head`."""
    streams: dict[str, Any] = {}
    for name, info in head.streams.items():
        key = "sigma" if info.kind == "watch" else "sigma_m"
        streams[name] = {"kind": info.kind, key: info.sigma}
        if info.kind == "watch":
            streams[name]["point"] = info.point
        if info.camera is not None:
            c = info.camera
            streams[name] |= {"focal_px": c.focal_px, "width": c.width, "height": c.height, "camera": {
                "place_m": list(c.place_m), "yaw_rad": c.yaw_rad, "pitch_rad": c.pitch_rad}}  # fmt: skip
    return {"schema": SCHEMA, "height_m": head.height_m, "synthetic": head.synthetic, "streams": streams}


def reading_line(heard: Heard, digits: int = 5) -> dict[str, Any]:
    """A reading as an object; the reverse of `parse_line`."""

    def listed(a: F64) -> Any:
        return [listed(x) for x in a] if a.ndim else None if math.isnan(a) else round(float(a), digits)

    out: dict[str, Any] = {
        "stream": heard.stream, "t_us": heard.t_us, "t_arrival_us": heard.t_arrival_us, "values": listed(heard.values),
    }  # fmt: skip
    if heard.confidence is not None:
        out["confidence"] = listed(heard.confidence)
    if heard.attitude is not None:
        out["attitude"] = listed(heard.attitude)
    return out
