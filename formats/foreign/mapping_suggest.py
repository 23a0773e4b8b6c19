"""Guess a map for a file whose keys nobody knows, and write it as YAML with what is left to decide as comments."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from formats import jsonstrict
from formats.errors import FormatError
from formats.foreign.joints import CANONICAL, canonical_names
from formats.foreign.pose_clock import FRAME_KEYS, TIME_KEYS, iso_us
from formats.foreign.pose_points import NAME_KEYS, SCORE_KEYS, number
from formats.foreign.pose_table import read_table
from formats.foreign.source import Source

_DEPTH = 5
_LOOK = 20
_AXIS = re.compile(r"^(?P<name>.+?)(?P<sep>[^0-9A-Za-z]?)(?P<axis>[A-Za-z]{0,6}[xyzXYZ]|[xyzXYZ][A-Za-z]{0,6})$")


def suggest_map(source: Source) -> dict[str, Any]:
    """Guess a map from the content. What could not be told is listed under `unknown`.

    Raises:
        FormatError: neither JSON nor CSV, or nothing in it looks like joints.
    """
    try:
        start = source.head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
        return _from_json(source) if start in (b"{", b"[") else _from_csv(source)
    except (ValueError, KeyError, IndexError, TypeError, RecursionError, OverflowError) as e:
        raise FormatError(f"no map can be suggested: {type(e).__name__}", file=source.path) from e


def dump_map(mapping: dict[str, Any]) -> str:
    """The map as YAML text that `load_map` reads; unknown joints and open choices are comments."""
    import yaml

    unknown = list(mapping.get("unknown") or [])
    kept = {k: v for k, v in mapping.items() if k != "unknown"}
    lines = ["# Check this guess, then: choreo inspect FILE --map THIS_FILE", f"# Joints: {' '.join(CANONICAL)}"]
    if unknown:
        lines.append("# Not told from the content; add to joints.map or set by hand:")
        lines += [f"#   {_comment(name)}" for name in unknown]
    text = yaml.safe_dump(kept, sort_keys=False, allow_unicode=True, default_flow_style=None, width=110)
    return "\n".join(lines) + "\n" + text


def _comment(text: object) -> str:
    return re.sub(r"[^\x20-\x7e\xa0-\uffff]|[\u2028\u2029\x85]", " ", str(text))[:200]


def _from_json(source: Source) -> dict[str, Any]:
    lines = False
    try:
        document = jsonstrict.loads(source.read_bytes(), file=source.path)
    except FormatError:
        document = [item for _, item in jsonstrict.iter_lines(source)]
        lines = True
    best = max(_lists(document, ()), key=lambda f: f[0], default=None)
    if best is None:
        raise FormatError("no list of frames with joints in it", file=source.path)
    _, path, frames = best
    sample = frames[:_LOOK]
    joints = max((j for j in (_joints(f) for f in sample) if j), key=lambda j: j["_count"])
    joints.pop("_count")
    names = joints.pop("_names")
    time, unknown = _time(sample)
    unknown += _map_names(joints, names)
    out = {"format": "jsonl" if lines else "json", "frames": _path(path), "time": time, "joints": joints}
    return {**out, "unknown": unknown} if unknown else out


def _path(steps: Sequence[str]) -> str | list[str]:
    return list(steps) if any("." in s for s in steps) else ".".join(steps)


def _lists(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[int, int], tuple[str, ...], list[Any]]]:
    """Candidate lists of frames with a score: joints in the best frame, then length."""
    if len(path) > _DEPTH:
        return
    if isinstance(value, list) and value:
        counts = [j["_count"] for j in (_joints(f) for f in value[:_LOOK] if isinstance(f, dict)) if j]
        if counts:
            yield (max(counts), len(value)), path, value
    if isinstance(value, dict):
        for key, inner in list(value.items())[:500]:
            if isinstance(inner, dict | list):
                yield from _lists(inner, (*path, key))


def _joints(frame: Any, path: tuple[str, ...] = ()) -> dict[str, Any] | None:
    """The joints section for one frame: the container with most points, at any depth."""
    if not isinstance(frame, dict) or len(path) > _DEPTH:
        return None
    found = [_container(frame, path)]
    for key, value in list(frame.items())[:500]:
        if isinstance(value, dict):
            found.append(_joints(value, (*path, key)))
        elif isinstance(value, list):
            found.append(_points(value, (*path, key)))
            # The first of several people: a map names one of them.
            found.append(_joints(value[0], (*path, key, "0")) if value else None)
    return max((f for f in found if f), key=lambda f: f["_count"], default=None)


def _container(value: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any] | None:
    points = {k: v for k, v in value.items() if _axes(v) is not None}
    if len(points) >= 3:
        axes = Counter(_axes(v) for v in points.values()).most_common(1)[0][0]
        return _section("dict", path, axes, list(points), len(points))
    groups = _groups([k for k, v in value.items() if number(v) == number(v)])
    if groups is not None:
        names, pattern, axes_found = groups
        return {**_section("flat", path, (axes_found, None), names, len(names)), "pattern": pattern}
    return None


def _points(value: list[Any], path: tuple[str, ...]) -> dict[str, Any] | None:
    good = [v for v in value if _axes(v) is not None]
    if len(good) >= 3:
        axes = Counter(_axes(v) for v in good).most_common(1)[0][0]
        first = good[0]
        key = None
        if isinstance(first, dict):
            texts = [k for k, v in first.items() if isinstance(v, str)]
            key = next((k for k in texts if k.lower() in NAME_KEYS), texts[0] if texts else None)
        names = (
            [str(v.get(key)) for v in good if isinstance(v, dict)] if key else [f"point_{i}" for i in range(len(good))]
        )
        return {**_section("list", path, axes, names, len(good)), **({"name_key": key} if key else {})}
    return None


def _section(
    layout: str, path: tuple[str, ...], axes: tuple[tuple[Any, ...], Any] | None, names: list[str], count: int
) -> dict[str, Any]:
    keys, score = axes or (("x", "y", "z"), None)
    section: dict[str, Any] = {"layout": layout, "key": _path(path), "axes": list(keys)}
    if score is not None:
        section["confidence"] = score
    return {**section, "_names": names, "_count": count}


def _axes(value: Any) -> tuple[tuple[Any, ...], Any] | None:
    """Coordinate keys (or positions) and the confidence key of one point; None when it is no point."""
    if isinstance(value, list):
        good = 2 <= len(value) <= 4 and all(number(v) == number(v) for v in value)
        return (tuple(range(min(3, len(value)))), 3 if len(value) == 4 else None) if good else None
    if not isinstance(value, dict):
        return None
    numeric = [k for k, v in value.items() if number(v) == number(v)]
    score = next((k for k in numeric if k.lower() in SCORE_KEYS), None)
    named = [next((k for k in numeric if k.lower() == a), None) for a in "xyz"]
    if named[0] is None or named[1] is None:
        named = [next((k for k in numeric if k.lower().endswith(a) or k.lower().startswith(a)), None) for a in "xyz"]
    if named[0] is None or named[1] is None:
        rest = [k for k in numeric if k != score]
        named = list(rest[:3]) if 2 <= len(rest) <= 3 else []
    keys = tuple(k for k in named if k is not None)
    return (keys, score) if len(keys) >= 2 and len(set(keys)) == len(keys) else None


def _groups(keys: Sequence[str]) -> tuple[list[str], str, tuple[str, ...]] | None:
    """Joint names, pattern and axis words of flat keys such as `Kopf.PX`."""
    hits: dict[str, dict[str, list[str]]] = {}
    for key in keys:
        for text, before in ((key, True), (key[::-1], False)):
            hit = _AXIS.match(text)
            if hit is None:
                continue
            name, axis = (hit["name"], hit["axis"]) if before else (hit["name"][::-1], hit["axis"][::-1])
            pattern = f"{{name}}{hit['sep']}{{axis}}" if before else f"{{axis}}{hit['sep']}{{name}}"
            hits.setdefault(pattern, {}).setdefault(name, []).append(axis)
    best: tuple[list[str], str, tuple[str, ...]] | None = None
    for pattern, names in hits.items():
        sets = Counter(tuple(sorted(a)) for a in names.values() if 2 <= len(a) <= 3)
        if not sets:
            continue
        axes, count = sets.most_common(1)[0]
        ordered = tuple(sorted(axes, key=lambda a: min((a.lower().find(c), c) for c in "xyz" if c in a.lower())[1]))
        if count >= 3 and (best is None or count > len(best[0])):
            best = [n for n, a in names.items() if tuple(sorted(a)) == axes], pattern, ordered
    return best


def _scalars(frame: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(frame, dict) and len(path) < 3:
        for key, value in list(frame.items())[:200]:
            if isinstance(value, dict):
                yield from _scalars(value, (*path, key))
            elif isinstance(value, str) or number(value) == number(value) or isinstance(value, int):
                yield (*path, key), value


def _time(sample: list[Any]) -> tuple[dict[str, Any], list[str]]:
    """The time section and what is open about it."""
    values: dict[tuple[str, ...], list[Any]] = {}
    for frame in sample:
        for path, value in _scalars(frame):
            values.setdefault(path, []).append(value)
    full = {p: v for p, v in values.items() if len(v) == len(sample)}
    ranked = sorted(full, key=lambda p: (_rank(p[-1], full[p]), len(p), p))
    if not ranked or _rank(ranked[0][-1], full[ranked[0]]) > 5:
        return {"key": None, "unit": "frame", "fps": None}, ["time.key and time.fps: no time was found"]
    path, found = ranked[0], full[ranked[0]]
    unit = _unit(path[-1], found)
    open_ = [] if unit != "frame" else ["time.fps: frames are numbered, the rate is not in the file"]
    if unit == "s" and max(abs(float(v)) for v in found) < 1e8 and path[-1].lower() not in TIME_KEYS:
        open_.append("time.unit: seconds are a guess")
    return {"key": _path(path), "unit": unit, "fps": None}, open_


def _rank(key: str, values: list[Any]) -> int:
    numeric = all(not isinstance(v, str) for v in values)
    rising = numeric and all(b > a for a, b in pairwise(values))
    if all(isinstance(v, str) and iso_us(v) is not None for v in values):
        return 0 if key.lower() in TIME_KEYS else 1
    if key.lower() in TIME_KEYS and numeric:
        return 0 if rising else 2
    if rising and key.lower() not in FRAME_KEYS and len(values) > 1:
        return 3 if min(values) >= 1e8 else 4
    return 5 if (rising and len(values) > 1) or (key.lower() in FRAME_KEYS and numeric) else 9


def _unit(key: str, values: list[Any]) -> str:
    from formats.foreign.pose_clock import unit_of_key

    if isinstance(values[0], str):
        return "iso"
    if key.lower() in FRAME_KEYS:
        return "frame"
    named = unit_of_key(key)
    if named:
        return named
    size = abs(float(values[0]))
    for limit, unit in ((1e17, "ns"), (1e14, "us"), (1e11, "ms"), (1e8, "s")):
        if size >= limit:
            return unit
    whole = all(isinstance(v, int) for v in values)
    steps = [b - a for a, b in pairwise(values)]
    if whole and steps and sorted(steps)[len(steps) // 2] == 1:
        return "frame"
    return "ms" if whole and steps and sorted(steps)[len(steps) // 2] > 5 else "s"


def _map_names(joints: dict[str, Any], names: list[str]) -> list[str]:
    found = canonical_names(names)
    known = {theirs: ours for theirs, ours in zip(names, found, strict=True) if ours in CANONICAL}
    joints["units"] = joints["up"] = None
    joints["map"] = known
    if joints["layout"] == "list" and "name_key" not in joints:
        joints["names"] = names
    return [f"joints.map: {n}" for n in names if n not in known]


def _from_csv(source: Source) -> dict[str, Any]:
    header, rows, _ = read_table(source)
    groups = _groups(header)
    if groups is None or not rows:
        raise FormatError("no columns that look like joints", file=source.path, row=1)
    names, pattern, axes = groups
    used = {pattern.replace("{name}", n).replace("{axis}", a) for n in names for a in axes}
    records = []
    for row in rows[:_LOOK]:
        cells = {h: c.strip() for h, c in zip(header, row, strict=True) if h not in used and "." not in h}
        records.append({h: _cell(c) for h, c in cells.items() if c})
    time, unknown = _time(records)
    joints: dict[str, Any] = {"layout": "flat", "key": "", "pattern": pattern, "axes": list(axes)}
    unknown += _map_names(joints, names)
    out = {"format": "csv", "frames": "", "time": time, "joints": joints}
    return {**out, "unknown": unknown} if unknown else out


def _cell(text: str) -> Any:
    try:
        return int(text) if re.fullmatch(r"[+-]?\d{1,18}", text) else float(text)
    except ValueError:
        return text
