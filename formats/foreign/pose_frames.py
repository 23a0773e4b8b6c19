"""Find the frames of a pose document: where the list is, what its time key is, who is in each frame."""

from __future__ import annotations

from array import array
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from formats.errors import FormatError
from formats.foreign.joints import names_by_count
from formats.foreign.model import F64
from formats.foreign.pose_clock import FRAME_KEYS, TIME_KEYS
from formats.foreign.pose_points import MAX_JOINTS, Pose, declared_names, find_pose, lower_keys

FRAMES_KEYS: tuple[str, ...] = (
    "frames", "snapshots", "samples", "poses", "records", "pose_frames", "poseframes", "captures", "results",
    "sequence",
    "instance_info", "annotations", "detections", "data", "entries", "items", "history", "timeline", "motion", "log",
)  # fmt: skip
PEOPLE_KEYS: tuple[str, ...] = (
    "people", "persons", "bodies", "skeletons", "instances", "subjects", "performers", "dancers", "cameras", "devices",
    "detections", "poses", "person", "observations",
)  # fmt: skip
LABEL_KEYS: tuple[str, ...] = (
    "person", "person_id", "personid", "track_id", "trackid", "idx", "body_id", "bodyid", "subject", "performer",
    "device", "device_id", "deviceid", "camera", "camera_id",
)  # fmt: skip
_COLUMN_KEYS = (
    "positions", "joints", "joint_positions", "poses", "keypoints", "landmarks", "frames", "data", "pose_tensor",
)  # fmt: skip
MAX_VALUES = 64 * 2**20
ROW_LIMIT = 4_000_000


@dataclass(slots=True)
class RawPose:
    """Poses as found, one row per person and frame, before any clean-up.

    Args:
        names: J joint names of the source, or None when joints are known only by index.
        xyz: (R, J, 3) float64; z is NaN throughout for 2-D points.
        confidence: (R, J) float64, NaN where not given.
        time: R raw time values, None where absent.
        time_key: The key they came from.
        frame: R frame numbers, used only when no row has a time.
        frame_of_row: R positions in the list of frames: rows of one frame are the people seen together.
        labels: R identities, None where the source gives none.
        header: What the document says of itself, keys in lower case, nested keys joined by a dot.
    """

    names: tuple[str, ...] | None
    xyz: F64
    confidence: F64
    time: list[Any]
    time_key: str | None
    frame: list[int | None]
    frame_of_row: list[int]
    labels: list[Hashable]
    header: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    assumptions: list[str] = field(default_factory=list)
    key: str = ""


def header_of(document: Any) -> dict[str, Any]:
    """Scalars of the top two levels of a document, keys in lower case (`metadata.fps` also as `fps`)."""
    found: dict[str, Any] = {}
    if not isinstance(document, dict):
        return found
    for key, value in list(document.items())[:1000]:
        if isinstance(value, str | int | float | bool):
            found[key.lower()] = value
    for key, value in list(document.items())[:1000]:
        if isinstance(value, dict) and len(value) < 200:
            for inner, scalar in value.items():
                if isinstance(scalar, str | int | float | bool):
                    found.setdefault(f"{key.lower()}.{inner.lower()}", scalar)
                    found.setdefault(inner.lower(), scalar)
    return found


def find_frames(document: Any, depth: int = 0) -> list[Any] | None:
    """The list of frames inside a document; a dict keyed by numbers becomes a list with the key as its frame."""
    if isinstance(document, list):
        return document
    if not isinstance(document, dict) or depth > 3:
        return None
    low = lower_keys(document)
    for key in FRAMES_KEYS:
        value = low.get(key)
        if isinstance(value, list) and (not value or isinstance(value[0], dict)):
            return value
        if isinstance(value, dict):
            inner = _numbered(value) or find_frames(value, depth + 1)
            if inner is not None:
                return inner
    columnar = _columns(low)
    if columnar is not None:
        return columnar
    if find_pose(document) is not None:
        return [document]
    return _numbered(document)


def _numbered(value: Mapping[str, Any]) -> list[Any] | None:
    keys = list(value)
    if len(keys) < 1 or not all(k.lstrip("-").isdigit() and len(k) < 19 for k in keys):
        return None
    return [
        {"frame": int(k), "joints": v} if not isinstance(v, dict) else {"frame": int(k), **v} for k, v in value.items()
    ]


def _columns(low: Mapping[str, Any]) -> list[Any] | None:
    """Frames of a document of parallel arrays: `timestamps` (T) beside `positions` (T, J, D)."""
    times = next(
        (low[k] for k in ("timestamps", "times", "time", "t", "frames_time", "ts") if isinstance(low.get(k), list)),
        None,
    )
    for key in _COLUMN_KEYS:
        rows = low.get(key)
        if not isinstance(rows, list) or not rows or not isinstance(rows[0], list):
            continue
        if times is not None and len(times) == len(rows):
            return [{"joints": r, "t": t} for r, t in zip(rows, times, strict=True)]
        if times is None and rows[0] and isinstance(rows[0][0], list | dict):
            return [{"joints": r} for r in rows]
    return None


@dataclass(slots=True)
class _Rows:
    poses: list[Pose] = field(default_factory=list)
    time: list[Any] = field(default_factory=list)
    frame: list[int | None] = field(default_factory=list)
    frame_of_row: list[int] = field(default_factory=list)
    labels: list[Hashable] = field(default_factory=list)
    time_key: str | None = None
    key: str = ""
    odd: int = 0
    values: int = 0

    def add(self, pose: Pose, time: Any, frame: int | None, index: int, label: Hashable) -> None:
        self.values += len(pose.values)
        if self.values > 4 * MAX_VALUES or len(self.poses) >= ROW_LIMIT:
            raise FormatError("more joint positions than fit the memory budget")
        last = self.poses[-1].names if self.poses else None
        if pose.names is not last and pose.names == last:
            pose = Pose(last, pose.values, pose.key)  # one tuple of names for all poses, not one per line
        self.poses.append(pose)
        self.time.append(time)
        self.frame.append(frame)
        self.frame_of_row.append(index)
        self.labels.append(label)
        self.key = self.key or pose.key


def read_frames(frames: Iterable[Any], header: dict[str, Any], names: tuple[str, ...] | None = None) -> RawPose:
    """Read every frame into rows. Frames are objects (or bare poses); anything else is counted and skipped.

    Raises:
        FormatError: there is no pose in any frame, or the positions do not fit the budget.
    """
    rows = _Rows()
    for index, item in enumerate(frames):
        if isinstance(item, list):
            pose = find_pose(item, names)
            if pose is None:
                rows.odd += 1
                continue
            rows.add(pose, None, None, index, None)
            continue
        if not isinstance(item, dict):
            rows.odd += 1
            continue
        low = lower_keys(item)
        if index == 0 and names is None:
            names = declared_names(low)
        _frame(rows, item, low, index, names)
    raw = assemble(rows.poses, names)
    raw.time, raw.time_key, raw.frame = rows.time, rows.time_key, rows.frame
    raw.frame_of_row, raw.labels, raw.header, raw.key = rows.frame_of_row, rows.labels, header, rows.key
    numbers = [n for n in rows.frame if n is not None]
    if rows.time_key is None and len(numbers) == len(rows.frame) and len(set(numbers)) < len(numbers):
        # One entry per person: the entries of one image are the people seen together.
        raw.frame_of_row = numbers
    if rows.odd:
        raw.problems.append(f"not_a_frame: {rows.odd} entries without a pose skipped")
    return raw


def _frame(rows: _Rows, item: dict[str, Any], low: dict[str, Any], index: int, names: tuple[str, ...] | None) -> None:
    key, time = _first(low, TIME_KEYS, rows.time_key)
    rows.time_key = rows.time_key or key
    frame = next((_frame_number(low[k]) for k in FRAME_KEYS if k in low), None)
    people = people_in(low)
    pose = find_pose(item, names) if people is None else None
    if people is None and pose is None:
        people = _nested(item)
    if people is None:
        if pose is None:
            rows.odd += 1
            return
        rows.add(pose, time, frame, index, _label(low))
        return
    found = 0
    for label, person in people:
        pose = find_pose(person, names)
        if pose is not None:
            inner = lower_keys(person) if isinstance(person, dict) else {}
            if time is None:
                key, time = _first(inner, TIME_KEYS, rows.time_key)
                rows.time_key = rows.time_key or key
            rows.add(pose, time, frame, index, label if label is not None else _label(inner))
            found += 1
    if not found:
        rows.add(Pose((), array("d")), time, frame, index, None)


def _nested(item: Mapping[str, Any]) -> list[tuple[Hashable, Any]] | None:
    """Bodies under a key nobody told us of: one object with a pose in it, or an object of them by label."""
    for value in item.values():
        if not isinstance(value, dict):
            continue
        if _several(find_pose(value, depth=1)):
            return [(None, value)]
        inner = [(k, v) for k, v in value.items() if isinstance(v, dict) and _several(find_pose(v, depth=1))]
        if inner:
            return list(inner)
    return None


def _several(pose: Pose | None) -> bool:
    return pose is not None and len(pose.values) >= 12


def _first(low: Mapping[str, Any], keys: tuple[str, ...], known: str | None) -> tuple[str | None, Any]:
    if known is not None and known in low:
        return known, low[known]
    for key in keys:
        if isinstance(low.get(key), str | int | float):
            return key, low[key]
    for outer in ("meta", "header", "metadata", "info"):
        inner = low.get(outer)
        if isinstance(inner, dict):
            return _first(lower_keys(inner), keys, known)
    return None, None


def _frame_number(value: Any) -> int | None:
    if isinstance(value, str):
        digits = "".join(c if c.isdigit() else " " for c in value[:200]).split()
        return int(digits[-1][:15]) if digits else None
    return int(value) if isinstance(value, int | float) and abs(value) < 1e15 else None


def people_in(low: Mapping[str, Any]) -> list[tuple[Hashable, Any]] | None:
    """(label, body) of everybody in a frame with a list or a dict of bodies; None when it has neither."""
    for key in PEOPLE_KEYS:
        value = low.get(key)
        if isinstance(value, list) and (not value or isinstance(value[0], dict)) and _bodies(value):
            return [(None, v) for v in value]
        if not isinstance(value, dict) or not value or key == "person":
            continue
        if all(isinstance(v, dict | list) for v in value.values()) and _bodies(list(value.values())):
            return list(value.items())
    return None


def _bodies(values: list[Any]) -> bool:
    # A list of named points also is a list of dicts: a body holds several points, a point does not.
    return all(isinstance(v, dict | list) and not _is_point(v) for v in values[:3])


def _is_point(value: Any) -> bool:
    if isinstance(value, dict):
        low = lower_keys(value)
        return ("x" in low and "y" in low) or find_pose(value) is None
    return not value or not isinstance(value[0], dict | list)


def _label(low: Mapping[str, Any]) -> Hashable:
    found = [low[k] for k in LABEL_KEYS if isinstance(low.get(k), str | int) and not isinstance(low.get(k), bool)]
    return tuple(found) if found else low.get("id") if isinstance(low.get("id"), str | int) else None


def assemble(poses: list[Pose], names: tuple[str, ...] | None = None) -> RawPose:
    """Stack poses of possibly different joints into one array; a joint absent from a pose is NaN there.

    Raises:
        FormatError: no pose holds a joint, poses without names differ in their number of joints, or too much data.
    """
    order: dict[str, int] = {}
    count = 0
    for pose in poses:
        size = len(pose.values) // 4
        if pose.names is None and size:
            if count and count != size:
                raise FormatError(f"poses of {count} and of {size} unnamed joints in one recording")
            count = size
        else:
            for name in pose.names or ():
                order.setdefault(name, len(order))
    if order and count:
        raise FormatError("joints with and without names in one recording")
    width = len(order) or count
    if width == 0:
        raise FormatError("no joint positions found")
    if width > MAX_JOINTS or width * len(poses) > MAX_VALUES // 3:
        raise FormatError(f"{width} joints in {len(poses)} poses are more than fit the memory budget")
    out = np.full((len(poses), width, 4), np.nan)
    _fill(out, poses, order)
    with np.errstate(invalid="ignore"):
        out[~(np.abs(out) < 1e9)] = np.nan
    if order and list(order) == [str(i) for i in range(len(order))]:
        order = {}
    found = tuple(order) if order else (names if names and len(names) == width else names_by_count(width))
    none: list[Any] = [None] * len(poses)
    return RawPose(found, out[:, :, :3], out[:, :, 3], none, None, list(none), list(range(len(poses))), list(none))


def _fill(out: F64, poses: list[Pose], order: dict[str, int]) -> None:
    last: tuple[str, ...] | None = None
    at: list[int] = []
    for row, pose in enumerate(poses):
        if not len(pose.values):
            continue
        values = np.frombuffer(pose.values, np.float64).reshape(-1, 4)
        if pose.names is None:
            out[row] = values
            continue
        if pose.names is not last and pose.names != last:
            last, at = pose.names, [order[n] for n in pose.names]
        out[row, at] = values
