"""OpenPose output: a folder with one JSON per video frame is one recording; pixels, no time and no rate inside."""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from formats import jsonstrict
from formats.errors import FormatError
from formats.foreign.joints import BODY_25, COCO_18
from formats.foreign.model import Facts, PoseStream
from formats.foreign.pose_build import Hints, build, stream_facts
from formats.foreign.pose_frames import RawPose, assemble
from formats.foreign.pose_log import sniff_of
from formats.foreign.pose_points import Pose, number
from formats.foreign.registry import Reader
from formats.foreign.source import Source

FORMAT = "openpose-folder"
_NUMBERED = re.compile(r"^(?P<stem>.*?)(?P<number>\d+)(?P<tail>(?:_keypoints)?\.json)$", re.IGNORECASE)
_FRAME_CAP = 4 * 2**20
_POINTS = {25: BODY_25, 18: COCO_18}


def group_folder(names: Sequence[str]) -> bool:
    """Whether file names of one folder look like one JSON per frame: `x_000000000012_keypoints.json`, `012.json`.

    At least 2 files and 9 of 10 JSON names share a stem and end in a number. Names only: whether the first file holds
    OpenPose people is for its sniffer to say.
    """
    stems = Counter((m["stem"], m["tail"]) for m in map(_NUMBERED.match, names) if m)
    json_names = sum(n.lower().endswith(".json") for n in names)
    return bool(stems) and max(stems.values()) >= max(2, 0.9 * json_names)


def ordered(paths: Sequence[Path]) -> list[tuple[int, Path]]:
    """(frame number, path) of the largest numbered group of files, by number."""
    hits = [(m, p) for m, p in ((_NUMBERED.match(p.name), p) for p in paths) if m]
    if not hits:
        return list(enumerate(sorted(paths)))
    stem = Counter((m["stem"], m["tail"]) for m, _ in hits).most_common(1)[0][0]
    found = {int(m["number"][-15:]): p for m, p in hits if (m["stem"], m["tail"]) == stem}
    return sorted(found.items())


def people_of(source: Source) -> list[Pose]:
    """The people of one frame.

    Raises:
        FormatError: not OpenPose JSON.
    """
    document = jsonstrict.loads(source.read_bytes(_FRAME_CAP), file=source.path)
    people = document.get("people") if isinstance(document, dict) else None
    if not isinstance(people, list):
        raise FormatError("no list 'people'", file=source.path)
    found = []
    for person in people[:256]:
        flat = person.get("pose_keypoints_2d", person.get("pose_keypoints")) if isinstance(person, dict) else None
        if not isinstance(flat, list):
            raise FormatError("a person without 'pose_keypoints_2d'", file=source.path)
        if not flat:
            continue
        if len(flat) % 3 or len(flat) // 3 not in _POINTS:
            raise FormatError(
                f"{len(flat)} numbers of body points, 75 (BODY_25) or 54 (COCO) expected", file=source.path
            )
        found.append(_person([number(v) for v in flat]))
    return found


def _person(flat: list[float]) -> Pose:
    values = array("d")
    for x, y, c in zip(flat[0::3], flat[1::3], flat[2::3], strict=True):
        missing = x == 0 and y == 0
        values.extend((np.nan if missing else x, np.nan if missing else y, np.nan, 0.0 if missing else c))
    return Pose(_POINTS[len(flat) // 3], values)


def _rows(paths: Sequence[Path]) -> tuple[RawPose, dict[str, Any]]:
    poses: list[Pose] = []
    numbers: list[int] = []
    crowd: Counter[int] = Counter()
    problems: list[str] = []
    for frame, path in ordered(paths):
        try:
            people = people_of(Source.of(path))
        except FormatError as e:
            # One broken frame of thousands is a hole in the recording, not the end of it.
            problems.append(f"bad_frame: {path.name}: {e.message}")
            continue
        crowd[len(people)] += 1
        for person in people or [Pose((), array("d"))]:
            poses.append(person)
            numbers.append(frame)
    if not numbers:
        where = paths[0].parent if paths else None
        raise FormatError(problems[0] if problems else "no frame with OpenPose people", file=where)
    raw = assemble(poses)
    raw.frame, raw.frame_of_row = list(numbers), numbers
    raw.problems = [*problems[:20], *([f"bad_frame: {len(problems) - 20} more"] if len(problems) > 20 else [])]
    people_rows = np.isfinite(raw.xyz[:, :, 0]).any(axis=1)
    missing = float(1 - np.isfinite(raw.xyz[people_rows][:, :, 0]).mean()) if people_rows.any() else 1.0
    meta = {"people": {str(k): v for k, v in sorted(crowd.items())}, "missing_fraction_all": round(missing, 6)}
    return raw, meta


def _folder(paths: Sequence[str | Path], fps: float | None) -> tuple[PoseStream, dict[str, Any]]:
    files = [Path(p) for p in paths]
    try:
        raw, meta = _rows(files)
        raw.key = "pose_keypoints_2d"
        stream = build(raw, Hints(fps=fps, units="px", up="-y"))
    except FormatError as e:
        raise e if e.file or not files else FormatError(e.message, file=files[0].parent) from None
    holes = int(np.count_nonzero(np.diff(np.unique(raw.frame_of_row)) > 1))
    if holes:
        stream = replace(stream, problems=(*stream.problems, f"missing_frames: {holes} holes in the frame numbers"))
    return stream, meta


def read_folder(paths: Sequence[str | Path], fps: float | None = None) -> PoseStream:
    """Read the frames of one folder as one recording of one person.

    Args:
        paths: The folder's JSON files, in any order.
        fps: Frames per second of the video. Without it time is unknown and `t_us` counts frames.

    Raises:
        FormatError: no frame can be read.
    """
    return _folder(paths, fps)[0]


def facts_folder(paths: Sequence[str | Path], fps: float | None = None) -> Facts:
    """The facts of one folder; `meta.people` counts frames by the number of people in them."""
    stream, meta = _folder(paths, fps)
    return stream_facts(stream, "pose", FORMAT, meta)


def read(source: Source, fps: float | None = None) -> PoseStream:
    """Read one frame, or the folder it lies in when it is asked for as a folder by `read_folder`."""
    return read_folder([source.path], fps)


def facts(source: Source) -> Facts:
    """The facts of a single frame."""
    stream, meta = _folder([source.path], None)
    return stream_facts(stream, "pose", "openpose", meta)


READERS: tuple[Reader, ...] = (Reader("openpose", "pose", sniff_of("openpose"), facts, read, 40),)
