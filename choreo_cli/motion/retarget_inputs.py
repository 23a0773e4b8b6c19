"""Open one motion, whatever it is in: our own clip, a file of any reader, or an array through a map."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from choreo_cli.errors import DataError, UsageError
from choreo_cli.motion.prepare import MAX_FPS, MIN_FPS, Prepared, map_hint, prepare, units_said
from formats import motion_npz
from formats.errors import FormatError
from formats.foreign import registry
from formats.foreign.joints import CANONICAL
from formats.foreign.mapping_arrays import ARRAYS
from formats.foreign.model import PoseStream
from formats.foreign.source import Source
from formats.motion_npz import MotionClip

OWN = "choreo25"


@dataclass(frozen=True, slots=True)
class Asked:
    """How a motion is to be read.

    Args:
        fps: Frames per second, instead of what the file says.
        scale: Metres per source unit, instead of a guess by the height of the skeleton.
        height: Stature in metres, instead of a guess; 1.70 is the training scale.
        map: A map of joints or channels, as read from YAML or JSON.
        body: Offsets of an SMPL body to use instead of the canonical skeleton.
    """

    fps: float | None = None
    scale: float | None = None
    height: float | None = None
    map: Mapping[str, Any] | None = None
    body: str | None = None


def check_asked(asked: Asked, resample: float | None = None) -> None:
    """Raise UsageError for a rate, scale or stature that nothing has."""
    for name, value, lo, hi in (
        ("fps", asked.fps, MIN_FPS, MAX_FPS), ("resample", resample, MIN_FPS, MAX_FPS),
        ("scale", asked.scale, 1e-9, 1e9), ("height", asked.height, 0.1, 3.0),
    ):  # fmt: skip
        if value is not None and not lo <= value <= hi:
            raise UsageError(f"--{name} {value:g}", hint=f"need {lo:g} to {hi:g}")
    if asked.scale is not None and asked.height is not None:
        raise UsageError("--scale and --height exclude each other", hint="give one")


@dataclass(frozen=True, slots=True)
class Opened:
    """A motion ready to be written: a clip of ours as it was stored, or joints that are still to be encoded.

    Args:
        format: Reader's name, or `choreo25`.
        clip: Stored channels and header, None for joints.
        prepared: Joints, None for a stored clip.
        report: What was found and assumed.
    """

    format: str
    clip: MotionClip | None
    prepared: Prepared | None
    report: dict[str, Any] = field(default_factory=dict)


def open_motion(path: Path, asked: Asked) -> Opened:
    """Read one file.

    Raises:
        FormatError: damaged, of no known format, or of a layout that only a map explains.
        DataError: it cannot become 22 joints; the sentence says what is missing and how to name it.
        OSError: it cannot be opened.
    """
    source = Source.of(path)
    if asked.map is not None and asked.map.get("format") in ARRAYS:
        return _array(source, asked)
    if asked.map is not None and asked.map.get("format"):
        from formats.foreign.mapping import read_with_map

        stream = read_with_map(source, dict(asked.map))
        return _opened("mapped", _prepared(stream, asked, {"rig": "mapped"}))
    if source.suffix == ".npz" and motion_npz.is_motion(_tail(source)):
        return _own(motion_npz.decode(source.read_bytes(), file=path), asked)
    reader = registry.recognise(source.head, source.name, source.size)
    if reader.read is None or reader.kind not in ("motion", "pose"):
        raise FormatError(_no_motion(reader, source), file=path, hint="see choreo inspect FILE")
    if asked.map is not None and reader.format == "bvh":
        return _opened("bvh", _prepared(_renamed(_named_bvh(source, asked.fps), asked.map), asked, {"rig": "mapped"}))
    found, taken = _read(reader, source, asked)
    if not isinstance(found, PoseStream):
        raise FormatError(f"{reader.format} holds no joints", file=path)
    left = replace(asked, **dict.fromkeys(taken))
    if asked.map is not None:
        return _opened(reader.format, _prepared(_renamed(found, asked.map), left, {"rig": "mapped"}))
    done = Asked(**{k: getattr(asked, k) for k in taken})
    return _opened(reader.format, _prepared(found, left, _meta(reader, source, found, done)))


def joints_of(path: Path, asked: Asked) -> tuple[Any, float, dict[str, Any]]:
    """Joints (T, 22, 3), fps and the report of a file; see `open_motion` for what it raises."""
    opened = open_motion(path, asked)
    if opened.clip is not None:
        from choreo_cli.motion.choreo25 import decode

        return decode(opened.clip), opened.clip.header.fps, opened.report
    assert opened.prepared is not None
    return opened.prepared.joints, opened.prepared.fps, opened.report


def _opened(name: str, prepared: Prepared) -> Opened:
    return Opened(name, None, prepared, prepared.report)


def _prepared(stream: PoseStream, asked: Asked, meta: Mapping[str, Any]) -> Prepared:
    return prepare(stream, fps=asked.fps, scale=asked.scale, height=asked.height, meta=meta)


def _own(clip: MotionClip, asked: Asked) -> Opened:
    """A stored clip as it is; joints again when the user asks for another size."""
    h = clip.header
    report = {
        "rig": str(h.source.get("rig", "choreo25")), "fps": h.fps, "time": f"{h.fps:.6g} fps from the header",
        "scale": 1.0, "scale_applied": h.scale_applied, "height_m": h.height_m, "frames_found": len(clip.channels),
        "problems": [], "assumptions": [], "bone_std": 0.0, "placed": [], "filled": 0, "trimmed": [],
    }  # fmt: skip
    if asked.fps is None and asked.scale is None and asked.height is None:
        return Opened(OWN, clip, None, report)
    from choreo_cli.motion.choreo25 import decode

    factor = asked.scale or (asked.height / h.height_m if asked.height else 1.0)
    fps = asked.fps or h.fps
    told = {**report, "fps": fps, "scale": factor, "scale_applied": factor * h.scale_applied}
    told["height_m"] = h.height_m * factor
    return _opened(OWN, Prepared(decode(clip) * factor, fps, told))


def _read(reader: registry.Reader, source: Source, asked: Asked) -> tuple[object, list[str]]:
    """What a reader returns, and which wishes it has taken care of; a reader says by its arguments what it takes."""
    assert reader.read is not None
    known = inspect.signature(reader.read).parameters
    wishes = {k: getattr(asked, k) for k in ("fps", "scale", "height", "body") if getattr(asked, k) is not None}
    taken = {k: v for k, v in wishes.items() if k in known}
    if "body" in wishes and "body" not in known:
        raise DataError(f"--body does not apply to {reader.format}", hint="it is for SMPL and AMASS files")
    return reader.read(source, **taken), list(taken)


def _meta(reader: registry.Reader, source: Source, stream: PoseStream, asked: Asked) -> dict[str, Any]:
    """What the stream carries only in words, or not at all: the rig, the map that was used, the scale and its unit.

    Args:
        reader: Who read it.
        source: The file.
        stream: What was read.
        asked: The wishes that the reader has taken care of.
    """
    unit, factor = units_said(stream.assumptions)
    rig = next((a[4:] for a in stream.assumptions if a.startswith("rig ")), None)
    told = {"rig": rig, "units_found": unit, "scale": factor}
    facts: dict[str, Any] = {}
    if source.suffix not in (".pkl", ".pickle"):  # a process of its own each time: what the stream says must do
        found = reader.facts(source)
        facts = found.meta if found.reason is None else {}
    told |= {k: facts[k] for k in ("rig", "map", "scale", "units_found") if facts.get(k) is not None}
    if asked.scale is not None:
        told |= {"scale": asked.scale, "units_found": "given"}
    elif asked.height is not None:
        own = float(facts.get("height_m") or 0.0)
        told |= {"scale": float(told["scale"] or 1.0) * (asked.height / own if own else 1.0), "units_found": "given"}
    return {k: v for k, v in told.items() if v is not None}


def _array(source: Source, asked: Asked) -> Opened:
    from formats.foreign.mapping_arrays import read_array_with_map, read_channels_with_map

    mapping = dict(asked.map or {})
    if mapping["format"] != "channels":
        stream = read_array_with_map(source, mapping, asked.fps)
        return _opened("mapped", _prepared(stream, replace(asked, fps=None), {"rig": "mapped"}))
    found = read_channels_with_map(source, mapping, asked.fps)
    return _own(_clip_of(found), replace(asked, fps=None))


def _clip_of(found: Any) -> MotionClip:
    """Channels of another program on the canonical skeleton, which a bare array does not bring."""
    from choreo_cli.motion.choreo25 import clamp
    from choreo_cli.motion.skeleton import canonical_skeleton, stature
    from formats.motion_npz import Header

    skeleton = canonical_skeleton(found.height_m or 1.70)
    channels, counts = clamp(found.channels)
    header = Header(
        fps=found.fps, skeleton=skeleton, height_m=stature(skeleton), source={"format": "mapped", "rig": "channels"},
        flags={"canonical_skeleton": True, "out_of_range": counts, "notes": list(found.assumptions)},
    )  # fmt: skip
    return MotionClip(np.asarray(channels, np.float32), header)


def _named_bvh(source: Source, fps: float | None) -> PoseStream:
    """A BVH with its own joint names, for a map of them."""
    from formats.foreign.bvh import parse
    from formats.foreign.bvh_kinematics import joint_positions
    from formats.foreign.pose_clock import frame_times, rate_of

    clip = parse(source)
    rate = rate_of(fps) or clip.rate
    t_us = frame_times(np.arange(len(clip.values), dtype=np.int64), rate)
    return PoseStream(
        t_us=t_us, xyz=joint_positions(clip, clip.values).astype(np.float32), joints=tuple(j.name for j in clip.joints),
        units="unknown", up="+y", rate=rate, rate_source="header" if rate else "none", problems=tuple(clip.problems),
        assumptions=tuple(clip.assumptions),
    )  # fmt: skip


def _renamed(stream: PoseStream, mapping: Mapping[str, Any]) -> PoseStream:
    """A stream with the names of a map `joints: {map: {theirs: ours}}`. Raises DataError for names it does not have."""
    joints = mapping.get("joints")
    names = joints.get("map") if isinstance(joints, Mapping) else None
    if not isinstance(names, Mapping) or not names:
        raise DataError("the map names no joints", hint="joints: {map: {theirs: ours}}")
    for theirs, ours in names.items():
        if theirs not in stream.joints:
            raise DataError(f"the map names {theirs!r}, which the file has not", hint=map_hint(stream.joints))
        if ours not in (*CANONICAL, "nose"):
            raise DataError(f"the map's {ours!r} is no joint", hint=f"joints are {', '.join(CANONICAL)}")
    if len(set(names.values())) < len(names):
        raise DataError("the map names one joint twice")
    keep = [i for i, n in enumerate(stream.joints) if n in names]
    return replace(
        stream, xyz=stream.xyz[:, keep], joints=tuple(str(names[stream.joints[i]]) for i in keep), confidence=None,
        assumptions=(*stream.assumptions, f"{len(keep)} joints named by the map"),
    )  # fmt: skip


def _no_motion(reader: registry.Reader, source: Source) -> str:
    if reader.kind in ("motion", "pose"):
        reason = reader.facts(source).reason
        return reason or f"{reader.format} motion is not read"
    return f"holds no motion: {reader.format}" if reader.kind != "other" else "holds no motion that is known"


def _tail(source: Source) -> bytes:
    with source.open() as f:
        f.seek(max(0, source.size - 256))
        return f.read(256)


def load_map_file(path: Path) -> dict[str, Any]:
    """A map of joints or channels, YAML or JSON; a bare one holds only `joints: {map: {theirs: ours}}`.

    Raises:
        FormatError, ConfigFileError: not a map; the key and the nearest legal one are named.
    """
    import yaml

    from formats.foreign.mapping import load_map

    try:
        document = yaml.safe_load(Source.of(path).read_text(2**20))
    except yaml.MarkedYAMLError as e:
        row = e.problem_mark.line + 1 if e.problem_mark else None
        raise FormatError(f"not YAML or JSON: {e.problem or e.context}", file=path, row=row) from None
    except (yaml.YAMLError, RecursionError, ValueError) as e:
        raise FormatError(f"not YAML or JSON: {type(e).__name__}", file=path) from None
    if not isinstance(document, dict):
        raise FormatError("a map is a set of keys", file=path, hint="joints: {map: {theirs: ours}}")
    if "format" in document:
        return load_map(path)
    joints = document.get("joints")
    if set(document) != {"joints"} or not isinstance(joints, dict) or not isinstance(joints.get("map"), dict):
        raise FormatError("a map without 'format' holds joints: {map: {theirs: ours}} alone", file=path)
    return document
