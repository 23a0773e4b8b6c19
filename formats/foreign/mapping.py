"""A map from anyone's keys, arrays or markers to poses: `choreo inspect --suggest-map` writes one, `--map` reads it."""

from __future__ import annotations

import csv
import difflib
from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from formats import jsonstrict
from formats.errors import ConfigFileError, FormatError
from formats.foreign.joints import CANONICAL
from formats.foreign.mapping_arrays import ARRAYS, check_array_map, read_array_with_map
from formats.foreign.model import PoseStream
from formats.foreign.pose_build import Hints, build
from formats.foreign.pose_clock import rate_of
from formats.foreign.pose_frames import RawPose, assemble
from formats.foreign.pose_points import MAX_JOINTS, NAN, Pose, number
from formats.foreign.pose_table import floats, read_table
from formats.foreign.source import Source

MAP_CAP = 2**20
# The closed set of keys: (type, legal values). A path is text with dots, or a list where a key itself has a dot.
_TOP: dict[str, tuple[type, ...]] = {
    "format": (str,),
    "frames": (str, list),
    "time": (dict,),
    "joints": (dict,),
    "unknown": (list,),
}
_TIME: dict[str, tuple[type, ...]] = {
    "key": (str, list, type(None)),
    "unit": (str, type(None)),
    "fps": (int, float, type(None)),
}
_JOINTS: dict[str, tuple[type, ...]] = {
    "layout": (str,), "key": (str, list), "name_key": (str, type(None)), "names": (list, type(None)),
    "pattern": (str, type(None)), "axes": (list,), "confidence": (str, int, type(None)), "units": (str, type(None)),
    "up": (str, type(None)), "map": (dict, type(None)),
}  # fmt: skip
_CHOICES = {
    "format": ("json", "jsonl", "csv", *ARRAYS), "unit": ("s", "ms", "us", "ns", "iso", "frame"),
    "layout": ("dict", "list", "flat"),
    "units": ("m", "cm", "mm", "in", "px", "norm"), "up": ("+x", "-x", "+y", "-y", "+z", "-z", "x", "y", "z"),
}  # fmt: skip


def load_map(path: str | Path) -> dict[str, Any]:
    """Read a map file.

    Raises:
        ConfigFileError: not YAML, an unknown key, a wrong type or value; file, line and the nearest key are named.
        OSError: it cannot be opened.
    """
    try:
        return _load(path)
    except FormatError as e:
        raise ConfigFileError.of(e) from None


def _load(path: str | Path) -> dict[str, Any]:
    import yaml

    source = Source.of(path)
    text = source.read_text(MAP_CAP)
    try:
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        document = yaml.safe_load(text)
    except yaml.MarkedYAMLError as e:
        if text.lstrip().startswith("{"):  # JSON that is no YAML, such as one indented with tabs
            return check_map(jsonstrict.loads(text.encode(), file=path), file=path)
        row = e.problem_mark.line + 1 if e.problem_mark else None
        raise FormatError(f"not YAML: {e.problem or e.context}", file=path, row=row) from None
    except (yaml.YAMLError, RecursionError, ValueError) as e:
        raise FormatError(f"not YAML: {type(e).__name__}", file=path) from None
    lines: dict[str, int] = {}
    _lines(tree, "", lines, path, 0)
    return check_map(document, file=path, lines=lines)


def _lines(node: Any, prefix: str, lines: dict[str, int], file: str | Path, depth: int) -> None:
    """Line of every key (`joints.map`); a key given twice is refused."""
    if depth > 3 or not isinstance(getattr(node, "value", None), list):
        return
    for pair in node.value:
        if not isinstance(pair, tuple):
            continue
        name = prefix + str(pair[0].value)
        row = pair[0].start_mark.line + 1
        if name in lines:
            raise FormatError(f"key {name!r} given twice", file=file, row=row)
        lines[name] = row
        _lines(pair[1], name + ".", lines, file, depth + 1)


def check_map(document: Any, *, file: str | Path | None = None, lines: dict[str, int] | None = None) -> dict[str, Any]:
    """Check a map against the closed set of keys; the map itself is returned.

    Raises:
        FormatError: with file, line, key and the nearest legal key.
    """
    where = lines or {}
    if not isinstance(document, dict):
        raise FormatError("a map is a set of keys: format, frames, time, joints", file=file)
    if document.get("format") in ARRAYS:
        return check_array_map(document, file)
    _section(document, "", _TOP, file, where)
    for part, keys in (("time", _TIME), ("joints", _JOINTS)):
        if part not in document:
            raise FormatError(f"key {part!r} is missing", file=file)
        _section(document[part], part + ".", keys, file, where)
    joints, time = document["joints"], document["time"]
    for key in ("layout", "axes"):
        if key not in joints:
            raise FormatError(f"key 'joints.{key}' is missing", file=file, row=where.get("joints"))
    if "format" not in document:
        raise FormatError("key 'format' is missing", file=file)
    if not 2 <= len(joints["axes"]) <= 3 or not all(isinstance(a, str | int) for a in joints["axes"]):
        raise FormatError("needs two or three axes", file=file, row=where.get("joints.axes"), field="joints.axes")
    if time.get("fps") is not None and rate_of(time["fps"]) is None:
        raise FormatError("fps must lie in 0.01..10000", file=file, row=where.get("time.fps"), field="time.fps")
    for theirs, ours in (joints.get("map") or {}).items():
        if ours not in CANONICAL:
            near = difflib.get_close_matches(str(ours), CANONICAL, 1)
            hint = f"did you mean {near[0]!r}" if near else "see the 22 joint names in man 7 choreo-data"
            field = f"joints.map.{theirs}"
            raise FormatError(f"{ours!r} is no joint", file=file, row=where.get(field), field=field, hint=hint)
    return document


def _section(
    section: Any, prefix: str, keys: dict[str, tuple[type, ...]], file: str | Path | None, lines: dict[str, int]
) -> None:
    if not isinstance(section, dict):
        raise FormatError("needs keys of its own", file=file, row=lines.get(prefix[:-1]), field=prefix[:-1])
    for key, value in section.items():
        name, row = f"{prefix}{key}", lines.get(f"{prefix}{key}")
        if key not in keys:
            near = difflib.get_close_matches(str(key), keys, 1)
            hint = f"did you mean {near[0]!r}" if near else f"known keys are {', '.join(keys)}"
            raise FormatError(f"unknown key {name!r}", file=file, row=row, hint=hint)
        if not isinstance(value, keys[key]) or isinstance(value, bool):
            wanted = " or ".join("empty" if t is type(None) else t.__name__ for t in keys[key])
            raise FormatError(f"must be {wanted}, not {type(value).__name__}", file=file, row=row, field=name)
        if key in _CHOICES and value is not None and value not in _CHOICES[key]:
            raise FormatError(f"{value!r} is none of {', '.join(_CHOICES[key])}", file=file, row=row, field=name)


def read_with_map(source: Source, mapping: dict[str, Any]) -> PoseStream:
    """Read a recording through a map.

    Raises:
        FormatError: the map is wrong, or the file does not hold what it says; the missing key is named.
    """
    check_map(mapping)
    if mapping["format"] in ARRAYS:
        return read_array_with_map(source, mapping)
    joints, time = mapping["joints"], mapping["time"]
    try:
        raw = _table(source, mapping) if mapping["format"] == "csv" else _document(source, mapping)
        if joints.get("map") and raw.names is not None:
            raw.names = tuple(joints["map"].get(n, n) for n in raw.names)
            if len(set(raw.names)) < len(raw.names):
                raise FormatError("two joints are mapped to one name", file=source.path, field="joints.map")
        unit = time.get("unit")
        hints = Hints(time.get("fps"), "user", joints.get("units"), joints.get("up"), None if unit == "frame" else unit)
        return build(raw, hints)
    except FormatError as e:
        raise e if e.file else FormatError(e.message, file=source.path, row=e.row, field=e.field, hint=e.hint) from None
    except (ValueError, KeyError, IndexError, TypeError, OverflowError, RecursionError, AttributeError, csv.Error) as e:
        raise FormatError(f"does not fit its map: {type(e).__name__}", file=source.path) from e


def steps(path: str | list[Any] | None) -> list[str]:
    """The keys of a path: `a.b` is [a, b], a list is taken as it is, nothing is []."""
    if isinstance(path, list):
        return [str(p) for p in path]
    return [p for p in path.split(".") if p] if path else []


def follow_path(value: Any, path: str | list[Any] | None) -> Any:
    """The value at a path of keys or list positions, None where it is absent."""
    for step in steps(path):
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and step.lstrip("-").isdigit() and -len(value) <= int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return value


def frames_at(source: Source, mapping: dict[str, Any]) -> list[Any]:
    """The frames of a JSON document or of JSON Lines."""
    if mapping["format"] == "jsonl":
        found = [item for _, item in jsonstrict.iter_lines(source)]
        if steps(mapping.get("frames")):
            found = [f for f in (follow_path(item, mapping["frames"]) for item in found) if f is not None]
        return found
    value = follow_path(jsonstrict.loads(source.read_bytes(), file=source.path), mapping.get("frames"))
    if isinstance(value, dict):
        return list(value.values())
    if not isinstance(value, list):
        raise FormatError(
            f"no list at {'.'.join(steps(mapping.get('frames'))) or 'the top'}", file=source.path, field="frames"
        )
    return value


def _document(source: Source, mapping: dict[str, Any]) -> RawPose:
    joints, time = mapping["joints"], mapping["time"]
    frames = frames_at(source, mapping)
    poses = [_pose(follow_path(f, joints.get("key")), joints) for f in frames]
    lost = sum(p is None for p in poses)
    if lost == len(poses):
        where = ".".join(steps(joints.get("key"))) or "the frame"
        raise FormatError(f"no joints at {where} in any of {len(poses)} frames", file=source.path, field="joints.key")
    raw = assemble([p or Pose((), array("d")) for p in poses], tuple(joints["names"]) if joints.get("names") else None)
    values = [follow_path(f, time["key"]) if time.get("key") else None for f in frames]
    _set_time(raw, values, mapping, source)
    if lost:
        raw.problems.append(f"no_joints: {lost} frames without the joints of the map")
    return raw


def _set_time(raw: RawPose, values: list[Any], mapping: dict[str, Any], source: Source) -> None:
    time = mapping["time"]
    values = [v if isinstance(v, str | int | float) else None for v in values]
    if time.get("unit") == "frame" or not time.get("key"):
        whole = [int(n) if (n := number(float(v) if isinstance(v, str) else v)) == n else None for v in values]
        raw.frame = list(whole)
        return
    if all(v is None for v in values):
        raise FormatError(f"no time at {'.'.join(steps(time['key']))} in any frame", file=source.path, field="time.key")
    raw.time, raw.time_key = values, steps(time["key"])[-1]


def _pose(value: Any, joints: dict[str, Any]) -> Pose | None:
    if value is None:
        return None
    axes, score = joints["axes"], joints.get("confidence")
    if joints["layout"] == "dict" and isinstance(value, dict):
        pairs: Iterable[tuple[str, Any]] = [(k, v) for k, v in value.items() if isinstance(v, dict | list) or v is None]
    elif joints["layout"] == "list" and isinstance(value, list):
        names = joints.get("names")
        key = joints.get("name_key")
        pairs = [
            (
                str(v.get(key))
                if key and isinstance(v, dict)
                else names[i]
                if names and i < len(names)
                else f"point_{i}",
                v,
            )
            for i, v in enumerate(value)
        ]
    elif joints["layout"] == "flat":
        return _flat(value, joints)
    else:
        return None
    found: dict[str, tuple[float, ...]] = {}
    for name, point in pairs:
        found.setdefault(name, tuple(number(_part(point, a)) for a in [*axes, *([NAN] * (3 - len(axes))), score]))
    if len(found) > MAX_JOINTS:
        raise FormatError(f"more than {MAX_JOINTS} joints", field="joints.key")
    return Pose(tuple(found), array("d", [x for p in found.values() for x in p])) if found else None


def _part(point: Any, axis: Any) -> Any:
    if isinstance(axis, str) and not axis.lstrip("-").isdigit():
        return follow_path(point, axis if not isinstance(point, dict) or axis not in point else [axis])
    if isinstance(point, list) and isinstance(axis, str | int) and not isinstance(axis, bool):
        return point[int(axis)] if -len(point) <= int(axis) < len(point) else None
    return None


def columns_of(keys: Iterable[str], joints: dict[str, Any]) -> dict[str, list[str | None]]:
    """Columns (or keys) of each joint of a flat layout: {joint: [x, y, z or None, confidence or None]}."""
    pattern = joints.get("pattern") or "{name}_{axis}"
    if pattern.count("{name}") != 1 or pattern.count("{axis}") != 1:
        raise FormatError("needs {name} and {axis} once each", field="joints.pattern")
    axes = [str(a) for a in joints["axes"]]
    score = joints.get("confidence")
    present = set(keys)
    found: dict[str, list[str | None]] = {}
    head, tail = pattern.replace("{axis}", axes[0]).split("{name}")
    for key in keys:
        if key.startswith(head) and key.endswith(tail) and len(key) > len(head) + len(tail):
            name = key[len(head) : len(key) - len(tail)]
            wanted = [pattern.replace("{axis}", a).replace("{name}", name) for a in axes]
            if all(w in present for w in wanted):
                extra = pattern.replace("{axis}", str(score)).replace("{name}", name) if score is not None else None
                padded: list[str | None] = [*wanted, *([None] * (3 - len(wanted))), extra if extra in present else None]
                found[name] = padded
    if len(found) > MAX_JOINTS:
        raise FormatError(f"more than {MAX_JOINTS} joints", field="joints.pattern")
    return found


def _flat(value: Any, joints: dict[str, Any]) -> Pose | None:
    if isinstance(value, dict):
        columns = columns_of(value, joints)
        values = [number(value.get(c)) if c else NAN for cs in columns.values() for c in cs]
        return Pose(tuple(columns), array("d", values)) if columns else None
    names = joints.get("names")
    if not isinstance(value, list) or not names or len(value) % len(names):
        return None
    stride = len(value) // len(names)
    order = [a if isinstance(a, int) else i for i, a in enumerate(joints["axes"])]
    score = joints.get("confidence")
    at = [*order, *([None] * (3 - len(order))), score if isinstance(score, int) else None]
    picked = [
        number(value[j * stride + k]) if k is not None and 0 <= k < stride else NAN
        for j in range(len(names))
        for k in at
    ]
    return Pose(tuple(str(n) for n in names), array("d", picked))


def _table(source: Source, mapping: dict[str, Any]) -> RawPose:
    header, rows, problems = read_table(source)
    joints, time = mapping["joints"], mapping["time"]
    columns = columns_of(header, joints)
    if not columns or not rows:
        what = "no rows" if columns else "no column fits the pattern"
        raise FormatError(what, file=source.path, row=1, field="joints.pattern")
    data = dict(zip(header, zip(*rows, strict=True), strict=False))
    flat = [floats(list(data[c])) if c else None for cs in columns.values() for c in cs]
    names = tuple(columns)
    poses = [Pose(names, array("d", [NAN if f is None else float(f[i]) for f in flat])) for i in range(len(rows))]
    raw = assemble(poses)
    key = ".".join(steps(time.get("key")))
    if key and key not in data:
        near = difflib.get_close_matches(key, header, 1)
        hint = f"did you mean {near[0]!r}" if near else ""
        raise FormatError(f"no column {key!r}", file=source.path, row=1, field="time.key", hint=hint)
    _set_time(raw, [v.strip() or None for v in data[key]] if key else [None] * len(rows), mapping, source)
    raw.problems += problems
    return raw
