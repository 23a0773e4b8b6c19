"""A map that says what foreign numbers mean: joints of an array in their order, markers by label, or 25 channels."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from formats.errors import FormatError
from formats.foreign.body import Scaling, finish, known_points
from formats.foreign.completion import complete
from formats.foreign.guard import contained
from formats.foreign.joint_arrays import NO_RATE, array_of
from formats.foreign.joints import CANONICAL
from formats.foreign.model import F32, F64, PoseStream
from formats.foreign.pose_clock import frame_times, rate_of
from formats.foreign.pose_space import METRES, turn_up
from formats.foreign.source import Source
from formats.motion_npz import CHANNELS

ARRAYS = ("array", "channels", "markers")
"""The values of a map's `format` that are about arrays and markers."""
NAMES: tuple[str, ...] = tuple(c.name for c in CHANNELS)
_UPS = {"x": "+x", "y": "+y", "z": "+z"}
_KEYS = {
    "array": ("format", "array", "time", "joints"), "markers": ("format", "array", "time", "joints"),
    "channels": ("format", "array", "time", "channels", "height_m"),
}  # fmt: skip
_JOINTS = {"array": ("names", "map", "units", "up"), "markers": ("map", "units", "up")}
_CHANNEL = ("column", "scale", "offset")


@dataclass(frozen=True, slots=True)
class ForeignChannels:
    """Choreo25 channels that somebody else's layout held: (T, 25) float32, frames per second, stature or None."""

    channels: F32
    fps: float
    height_m: float | None
    assumptions: tuple[str, ...]


def check_array_map(document: dict[str, Any], file: str | Path | None = None) -> dict[str, Any]:
    """Check a map of an array; the map itself is returned.

    Joints: `{"format": "array", "joints": {"names": [...], "map": {theirs: ours}, "units": "cm", "up": "+z"},
    "time": {"fps": 30}}`. Channels: `{"format": "channels", "channels": {ours: column or {"column": 3, "scale": 0.01,
    "offset": 0}}, "time": {"fps": 30}}`. Markers of C3D, TRC and MATLAB files: `{"format": "markers", "joints":
    {"map": {label: joint}}}`; a joint with several labels is their midpoint. `"array"` names the member of an archive,
    or the recording of a MATLAB file.

    Raises:
        FormatError: with the key and the nearest legal one.
    """
    kind = document["format"]
    _closed(document, _KEYS[kind], "", file)
    time = document.get("time", {})
    if not isinstance(time, dict):
        raise FormatError("needs keys of its own", file=file, field="time")
    _closed(time, ("fps",), "time.", file)
    if time.get("fps") is not None and rate_of(time["fps"]) is None:
        raise FormatError("fps must lie in 0.01..10000", file=file, field="time.fps")
    if not isinstance(document.get("array", ""), str):
        raise FormatError("must be the name of an array", file=file, field="array")
    part = "channels" if kind == "channels" else "joints"
    section = document.get(part)
    if not isinstance(section, dict):
        raise FormatError(f"key {part!r} is missing", file=file)
    _closed(section, NAMES if kind == "channels" else _JOINTS[kind], f"{part}.", file)
    if kind == "channels":
        _check_channels(section, document.get("height_m"), file)
    else:
        _check_joints(section, file, listed=kind == "array")
    return document


def _closed(section: dict[str, Any], keys: tuple[str, ...], prefix: str, file: str | Path | None) -> None:
    for key in section:
        if key not in keys:
            near = difflib.get_close_matches(str(key), keys, 1)
            hint = f"did you mean {near[0]!r}" if near else f"known keys are {', '.join(keys)}"
            raise FormatError(f"unknown key '{prefix}{key}'", file=file, hint=hint)


def _check_joints(joints: dict[str, Any], file: str | Path | None, listed: bool) -> None:
    names, renamed = joints.get("names"), joints.get("map") or {}
    if listed and (not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names)):
        raise FormatError("needs the names of all joints in their order", file=file, field="joints.names")
    if listed and len(set(names or ())) < len(names or ()):
        raise FormatError("two joints have one name", file=file, field="joints.names")
    if not isinstance(renamed, dict) or not (listed or renamed):
        raise FormatError("needs {theirs: ours}", file=file, field="joints.map")
    for theirs, ours in renamed.items():
        if listed and theirs not in (names or ()):
            raise FormatError(f"{theirs!r} is none of joints.names", file=file, field="joints.map")
        if ours not in (*CANONICAL, "nose"):
            near = difflib.get_close_matches(str(ours), CANONICAL, 1)
            hint = f"did you mean {near[0]!r}" if near else f"joints are {', '.join(CANONICAL)}"
            raise FormatError(f"{ours!r} is no joint", file=file, field=f"joints.map.{theirs}", hint=hint)
    if joints.get("units") is not None and joints["units"] not in METRES:
        raise FormatError(f"{joints['units']!r} is none of m, cm, mm, in", file=file, field="joints.units")
    up = joints.get("up")
    if up is not None and _UPS.get(up, up) not in ("+x", "-x", "+y", "-y", "+z", "-z"):
        raise FormatError(f"{up!r} is none of +x -x +y -y +z -z", file=file, field="joints.up")


def _check_channels(channels: dict[str, Any], height: Any, file: str | Path | None) -> None:
    missing = [n for n in NAMES if n not in channels]
    if missing:
        raise FormatError(f"no {', '.join(missing)}", file=file, field="channels", hint="all 25 are needed")
    used: dict[int, str] = {}
    for name, entry in channels.items():
        column = entry.get("column") if isinstance(entry, dict) else entry
        if isinstance(entry, dict):
            _closed(entry, _CHANNEL, f"channels.{name}.", file)
            numbers = [entry.get("scale", 1.0), entry.get("offset", 0.0)]
            if not all(isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in numbers):
                raise FormatError("scale and offset must be numbers", file=file, field=f"channels.{name}")
        if not isinstance(column, int) or isinstance(column, bool) or not 0 <= column < 1024:
            raise FormatError("must be a column, counted from 0", file=file, field=f"channels.{name}")
        if column in used:
            raise FormatError(f"column {column} is {used[column]} already", file=file, field=f"channels.{name}")
        used[column] = name
    if height is not None and (not isinstance(height, int | float) or not 0.3 <= height <= 3):
        raise FormatError("must lie in 0.3..3 m", file=file, field="height_m")


@contained
def _poses(source: Source, mapping: dict[str, Any], fps: float | None) -> PoseStream:
    joints = mapping["joints"]
    found = _named_points(source, mapping) if mapping["format"] == "array" else _marker_points(source, mapping)
    points, stated, unit, how = found
    up = joints.get("up")
    if up is not None:
        points = {n: turn_up(v, _UPS.get(up, up)) for n, v in points.items()}
    stacked, placed, toeless = complete(points)
    unit = joints.get("units") or unit
    scaling = Scaling(declared=(METRES[unit], unit) if unit else None)
    rate = rate_of(fps) or rate_of(mapping.get("time", {}).get("fps")) or rate_of(stated)
    ups = ("+y",) if up is not None else ("+y", "+z", "-y", "-z")
    body = finish(stacked, scaling, rate[0] / rate[1] if rate else None, ups=ups, missing_toes=toeless)
    time = "time rebuilt from i/fps" if rate else NO_RATE
    return PoseStream(
        t_us=frame_times(np.arange(len(stacked), dtype=np.int64), rate), xyz=body.xyz.astype(np.float32),
        joints=CANONICAL, units="m", up="+y", rate=rate, rate_source="user" if rate else "none",
        problems=(*(f"missing_joint: {p}" for p in placed), *body.problems), assumptions=(how, time, *body.notes),
    )  # fmt: skip


def _named_points(source: Source, mapping: dict[str, Any]) -> tuple[dict[str, F64], float | None, str, str]:
    """Positions by canonical name from an array whose joints the map lists; rate, no unit, and how they were named."""
    array, stated = array_of(source, mapping.get("array"))
    names, renamed = mapping["joints"]["names"], mapping["joints"].get("map") or {}
    if array.ndim == 2 and array.shape[1] == 3 * len(names):
        array = array.reshape(len(array), -1, 3)
    if array.ndim != 3 or array.shape[1:] != (len(names), 3) or not len(array):
        raise FormatError(f"shape {array.shape} does not hold {len(names)} joints", file=source.path)
    array = known_points(array)
    ours = [renamed.get(n, n) for n in names]
    known = [n for n in ours if n in CANONICAL or n == "nose"]
    if len(set(known)) < len(known):
        raise FormatError("two joints are mapped to one name", file=source.path, field="joints.map")
    return {n: array[:, i] for i, n in enumerate(ours) if n in known}, stated, "", "joints named by the map"


def _marker_points(source: Source, mapping: dict[str, Any]) -> tuple[dict[str, F64], float | None, str, str]:
    """The same from markers: a joint is the midpoint of the markers mapped to it."""
    from formats.foreign.marker_files import markers_of

    labels, xyz, stated, unit = markers_of(source, mapping.get("array"))
    wanted: dict[str, list[int]] = {}
    for theirs, ours in mapping["joints"]["map"].items():
        if theirs not in labels:
            near = difflib.get_close_matches(theirs, labels, 1)
            hint = f"did you mean {near[0]!r}" if near else f"it has {', '.join(labels[:20])}"
            raise FormatError(f"no marker {theirs!r}", file=source.path, field="joints.map", hint=hint)
        wanted.setdefault(ours, []).append(labels.index(theirs))
    points = {n: np.asarray(xyz[:, at].mean(axis=1)) for n, at in wanted.items()}
    return points, stated, unit, "joint centres are midpoints of the markers that the map names, approximate"


def read_array_with_map(source: Source, mapping: dict[str, Any], fps: float | None = None) -> PoseStream:
    """Read joints of an array, or markers, through a map as the 22 canonical joints in metres, y up.

    Raises:
        FormatError: the map is wrong, is one of channels, or does not fit the file; joints that cannot be placed.
    """
    check_array_map(mapping)
    if mapping["format"] == "channels":
        raise FormatError("a map of channels: choreo retarget makes a clip of them", file=source.path)
    stream: PoseStream = _poses(source, mapping, fps)
    return stream


@contained
def _channels(source: Source, mapping: dict[str, Any], fps: float | None) -> ForeignChannels:
    array, stated = array_of(source, mapping.get("array"))
    entries = {n: e if isinstance(e, dict) else {"column": e} for n, e in mapping["channels"].items()}
    width = max(e["column"] for e in entries.values()) + 1
    if array.ndim != 2 or array.shape[1] < width or not len(array):
        raise FormatError(f"shape {array.shape} has no column {width - 1}", file=source.path, field="channels")
    rate = rate_of(fps) or rate_of(mapping.get("time", {}).get("fps")) or rate_of(stated)
    if rate is None:
        raise FormatError(
            "no frame rate", file=source.path, field="time.fps", hint="channels are speeds: give the rate"
        )
    out = np.empty((len(array), len(NAMES)))
    for i, name in enumerate(NAMES):
        entry = entries[name]
        out[:, i] = array[:, entry["column"]] * entry.get("scale", 1.0) + entry.get("offset", 0.0)
    _plausible(out, source.path)
    moved = sum(1 for e in entries.values() if e.get("scale", 1.0) != 1.0 or e.get("offset", 0.0) != 0.0)
    notes = (f"25 channels named by the map, {moved} of them scaled",)
    return ForeignChannels(out.astype(np.float32), rate[0] / rate[1], mapping.get("height_m"), notes)


def _plausible(out: F64, file: Path) -> None:
    """Refuse channels whose median frame lies outside the range a channel can have: the map names the wrong columns."""
    if not np.isfinite(out).all():
        row = int(np.flatnonzero(~np.isfinite(out).all(axis=1))[0])
        raise FormatError("not finite", file=file, row=row)
    for i, column in enumerate(CHANNELS):
        middle = float(np.median(out[:, i]))
        low, high = column.lo, column.hi
        if (low is not None and middle < low - 1e-6) or (high is not None and middle > high + 1e-6):
            raise FormatError(
                f"{column.name} is {middle:.3g} in the median frame, its range is {low:g}..{high:g}",
                file=file, field=f"channels.{column.name}", hint="the map names another column, or a scale is missing",
            )  # fmt: skip


def read_channels_with_map(source: Source, mapping: dict[str, Any], fps: float | None = None) -> ForeignChannels:
    """Read a foreign array of 25 numbers a frame through a map that names every channel.

    Raises:
        FormatError: the map is wrong or does not fit; no rate; numbers that are not finite or out of their range.
    """
    check_array_map(mapping)
    if mapping["format"] != "channels":
        raise FormatError("a map of joints, not of channels", file=source.path)
    found: ForeignChannels = _channels(source, mapping, fps)
    return found
