"""One pose inside one JSON object: joints as a dict, a list of named points, bare points or a flat array."""

from __future__ import annotations

import re
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from formats.errors import FormatError
from formats.foreign.joints import is_joint_word, names_by_count

NAN = float("nan")
MAX_JOINTS = 4096
POSE_KEYS: tuple[str, ...] = (
    "pose_world_landmarks", "poseworldlandmarks", "world_landmarks", "worldlandmarks", "joints", "joint_positions",
    "jointpositions", "keypoints_3d", "keypoints3d", "keypoints", "pose_keypoints_2d", "pose_landmarks",
    "poselandmarks",
    "landmarks", "joint_model_transforms", "jointmodeltransforms", "joint_transforms", "jointtransforms", "transforms",
    "pose", "skeleton", "body", "points", "markers", "positions", "coords", "recognized_points", "recognizedpoints",
    "body_anchor", "bodyanchor", "xyz",
)  # fmt: skip
NAME_KEYS: tuple[str, ...] = (
    "name",
    "joint",
    "part",
    "joint_name",
    "jointname",
    "label",
    "landmark",
    "keypoint",
    "bone",
    "type",
)
NAMES_KEYS: tuple[str, ...] = (
    "joint_names", "jointnames", "names", "keypoint_names", "keypointnames", "landmark_names", "labels", "joints",
    "keypoints",
)  # fmt: skip
SCORE_KEYS: tuple[str, ...] = (
    "confidence", "conf", "score", "visibility", "likelihood", "c", "v", "probability", "prob", "presence", "tracked",
)  # fmt: skip
SCORES_KEYS: tuple[str, ...] = (
    "keypoint_scores", "keypointscores", "scores", "confidences", "confidence", "visibilities", "visibility",
)  # fmt: skip
_WHERE = ("position", "pos", "location", "translation", "coordinates", "coords", "coord", "xyz", "xy", "point", "world",
          "worldposition", "transform", "matrix", "model_transform", "modeltransform", "p")  # fmt: skip
_FLAT = re.compile(r"^(?P<name>.*?)[ _.:/-]?(?P<axis>[xyzXYZ])$")
_FLAT_SCORE = re.compile(
    r"^(?P<name>.*?)[ _.:/-]?(?P<axis>confidence|conf|score|visibility|likelihood|prob|presence|c|v)$", re.IGNORECASE
)

Point = tuple[float, float, float, float]
_GONE: Point = (NAN, NAN, NAN, NAN)


@dataclass(frozen=True, slots=True)
class Pose:
    """The points of one body: names (None = known only by index) and x, y, z, confidence of each, NaN = missing."""

    names: tuple[str, ...] | None
    values: array[float]
    key: str = ""


def lower_keys(obj: Mapping[str, Any]) -> dict[str, Any]:
    """The same mapping under lower-case keys; the first of two wins."""
    out: dict[str, Any] = {}
    for key, value in obj.items():
        out.setdefault(key.lower(), value)
    return out


def number(value: Any) -> float:
    """A finite float, or NaN for everything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return NAN
    return float(value) if -1e9 < value < 1e9 else NAN


def point(value: Any) -> Point | None:
    """x, y, z, confidence of one joint; all NaN for a null joint, None when the value is no point at all."""
    if value is None:
        return _GONE
    if isinstance(value, list):
        return _list_point(value)
    if not isinstance(value, dict):
        return None
    low = lower_keys(value)
    if "x" in low and "y" in low:
        return number(low["x"]), number(low["y"]), number(low.get("z")), _score(low)
    for key in _WHERE:
        if isinstance(low.get(key), list | dict):
            found = point(low[key])
            if found is not None:
                return (*found[:3], found[3] if found[3] == found[3] else _score(low))
    return _GONE if not value else None


def _score(low: Mapping[str, Any]) -> float:
    for key in SCORE_KEYS:
        if key in low:
            return float(low[key]) if isinstance(low[key], bool) else number(low[key])
    return NAN


def _list_point(v: list[Any]) -> Point | None:
    n = len(v)
    if n == 4 and all(isinstance(r, list) and len(r) == 4 for r in v):
        v = [x for r in v for x in r]
        n = 16
    if n == 0:
        return _GONE
    if any(x is not None and (isinstance(x, bool) or not isinstance(x, int | float)) for x in v[:16]):
        return None
    if n == 2:
        return number(v[0]), number(v[1]), NAN, NAN
    if n == 3:
        return number(v[0]), number(v[1]), number(v[2]), NAN
    if n == 4:
        return number(v[0]), number(v[1]), number(v[2]), number(v[3])
    if n == 16:
        # A rigid transform; the translation is the last column: in column-major order the last four numbers.
        at = (3, 7, 11) if v[12:16] == [0, 0, 0, 1] and v[3:12:4] != [0, 0, 0] else (12, 13, 14)
        return number(v[at[0]]), number(v[at[1]]), number(v[at[2]]), NAN
    return None


def find_pose(obj: Any, names: tuple[str, ...] | None = None, depth: int = 0) -> Pose | None:
    """The pose in `obj`, None when there is none; an empty container is a pose of no joints.

    Args:
        obj: A frame, a person, or the joints themselves.
        names: Joint names declared once for the whole file.
    """
    if depth > 4:
        return None
    if isinstance(obj, list):
        return _from_list(obj, names)
    if not isinstance(obj, dict):
        return None
    plain = _plain(obj) if depth else None
    if plain is not None:
        return plain
    low = lower_keys(obj)
    local = declared_names(low) or names
    for key in POSE_KEYS:
        value = low.get(key)
        if isinstance(value, list | dict):
            found = find_pose(value, local, depth + 1)
            if found is not None:
                return _with_scores(Pose(found.names, found.values, found.key or key), low)
        elif key in low and value is None:
            return Pose((), array("d"), key)
    return _from_dict(obj, depth) if obj or depth == 0 else Pose((), array("d"))


def declared_names(low: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Joint names listed once beside the data, None when there are none."""
    for key in NAMES_KEYS:
        value = low.get(key)
        if isinstance(value, list) and 2 <= len(value) <= MAX_JOINTS and all(isinstance(v, str) for v in value):
            return tuple(value)
    return None


def _from_dict(obj: Mapping[str, Any], depth: int) -> Pose | None:
    plain = _plain(obj)
    if plain is not None:
        return plain
    found: dict[str, Point] = {}
    words = 0
    for key, value in obj.items():
        if isinstance(value, list | dict) or value is None:
            at = point(value)
            if at is not None and (value is not None or is_joint_word(key)):
                found[key] = at
                words += is_joint_word(key)
    if found and (words or len(found) >= 3 or (depth and len(found) == len(obj))):
        _limit(len(found))
        return Pose(tuple(found), array("d", [x for p in found.values() for x in p]))
    return _flat_dict(obj) if not found else None


def _plain(obj: Mapping[str, Any]) -> Pose | None:
    """The commonest pose, a dict of [x, y, z] under joint words, without a call per joint; None for any other."""
    points = list(obj.values())
    if not points or not all(type(p) is list and len(p) == 3 for p in points) or len(points) > MAX_JOINTS:
        return None
    if not {type(v) for p in points for v in p} <= {float, int} or not any(map(is_joint_word, obj)):
        return None
    values = array("d")
    try:
        for x, y, z in points:
            values.extend((x, y, z, NAN))
    except OverflowError:
        return None
    return Pose(tuple(obj), values)


def _flat_dict(obj: Mapping[str, Any]) -> Pose | None:
    columns = flat_columns(tuple(obj))
    if len(columns) < 2:
        return None
    values: list[float] = []
    for axes in columns.values():
        values += [number(obj[axes[a]]) if a in axes else NAN for a in "xyzc"]
    return Pose(tuple(columns), array("d", values))


def flat_columns(keys: Sequence[str]) -> dict[str, dict[str, str]]:
    """Group flat keys such as `nose_x nose_y nose_score`, `x_nose` or `x0 y0 v0` into {joint: {axis: key}}.

    Only groups with both x and y count. Axes are x, y, z and c (confidence).
    """
    groups: dict[str, dict[str, str]] = {}
    for key in keys:
        hit = _FLAT.match(key)
        if hit and hit["name"] and (hit["axis"].isupper() or not key[-2].isalpha() or key[-2].isdigit()):
            groups.setdefault(hit["name"], {}).setdefault(hit["axis"].lower(), key)
            continue
        front = re.match(r"^([xyzcv]|conf|visibility|score)[ _.]?(\d{1,4})$|^([xyz])[ _.](.+)$", key, re.IGNORECASE)
        if front:
            axis = (front[1] or front[3])[0].lower()
            groups.setdefault(front[2] or front[4], {}).setdefault(axis if axis in "xyz" else "c", key)
    found = {name: axes for name, axes in groups.items() if "x" in axes and "y" in axes}
    for key in keys:
        hit = _FLAT_SCORE.match(key)
        if hit and hit["name"] in found:
            found[hit["name"]].setdefault("c", key)
    _limit(len(found))
    return found


def _from_list(items: list[Any], names: tuple[str, ...] | None) -> Pose | None:
    if not items:
        return Pose((), array("d"))
    if isinstance(items[0], dict):
        return _named_list(items, names)
    if all(isinstance(v, int | float) or v is None for v in items) and len(items) >= 6:
        return _flat_list(items, names)
    points = [point(v) for v in items] if isinstance(items[0], list) or items[0] is None else []
    if not points or any(p is None for p in points) or len(points) < 2:
        return None
    _limit(len(points))
    values = array("d", [x for p in points if p is not None for x in p])
    return Pose(names if names and len(names) == len(points) else None, values)


def _named_list(items: list[Any], names: tuple[str, ...] | None) -> Pose | None:
    _limit(len(items))
    found: dict[str, Point] = {}
    named = False
    for index, item in enumerate(items):
        if not isinstance(item, dict):
            return None
        low = lower_keys(item)
        at = point(item)
        label = next((low[k] for k in NAME_KEYS if isinstance(low.get(k), str)), None)
        if at is None:
            if label is None:
                return None
            at = _GONE
        named = named or label is not None
        number_ = next((low[k] for k in ("id", "index", "landmark_id") if isinstance(low.get(k), int)), index)
        found.setdefault(label if label is not None else str(number_), at)
    values = array("d", [x for p in found.values() for x in p])
    if named:
        return Pose(tuple(found), values)
    return Pose(names if names and len(names) == len(found) else None, values)


def _flat_list(items: list[Any], names: tuple[str, ...] | None) -> Pose | None:
    n = len(items)
    stride = n // len(names) if names and n % len(names) == 0 and 2 <= n // len(names) <= 4 else 0
    if not stride:
        names = None
        strides = [s for s in (3, 2, 4) if n % s == 0 and names_by_count(n // s) is not None]
        stride = strides[0] if strides else 0
    if not stride:
        return None
    _limit(n // stride)
    values: list[float] = []
    for i in range(0, n, stride):
        got = [number(v) for v in items[i : i + stride]]
        values += got + [NAN] * (4 - stride)
    return Pose(names, array("d", values))


def _with_scores(pose: Pose, low: Mapping[str, Any]) -> Pose:
    count = len(pose.values) // 4
    for key in SCORES_KEYS:
        scores = low.get(key)
        if isinstance(scores, dict) and pose.names is not None:
            scores = [scores.get(n) for n in pose.names]
        if isinstance(scores, list) and len(scores) == count and count and not isinstance(scores[0], list | dict):
            values = array("d", pose.values)
            for i, score in enumerate(scores):
                values[4 * i + 3] = number(score)
            return Pose(pose.names, values, pose.key)
    return pose


def _limit(count: int) -> None:
    if count > MAX_JOINTS:
        raise FormatError(f"{count} joints in one pose, at most {MAX_JOINTS} are read")
