"""Key point dialects: MediaPipe's 33 landmarks, COCO's 17 points, DWPose tensors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from formats import jsonstrict
from formats.errors import FormatError
from formats.foreign.joints import names_by_count
from formats.foreign.model import Facts, PoseStream
from formats.foreign.pose_build import Hints, header_fps, stream_facts
from formats.foreign.pose_frames import RawPose, header_of, read_frames
from formats.foreign.pose_log import facts_of, read_json_rows, reader_of, sniff_of
from formats.foreign.pose_space import IMAGE
from formats.foreign.pose_table import read_pose_table
from formats.foreign.registry import Reader
from formats.foreign.source import Source

BODY_POINTS = 18


def _landmarks(raw: RawPose) -> RawPose:
    """Drop the depth of image landmarks: only world landmarks (metres around the hips) have a real third axis."""
    world = "world" in raw.key or (IMAGE.get(str(raw.header.get("units", ""))) is None and _is_world(raw))
    if not world and np.isfinite(raw.xyz[:, :, 2]).any():
        raw.xyz = raw.xyz.copy()
        raw.xyz[:, :, 2] = np.nan
        raw.assumptions.append("image-relative depth dropped")
    return raw


def _is_world(raw: RawPose) -> bool:
    # World landmarks have their origin between the hips, so they lie on both sides of zero; image ones are in 0..1.
    finite = raw.xyz[np.isfinite(raw.xyz).all(axis=2)]
    return (
        bool(len(finite))
        and bool((np.abs(np.median(finite[:, :2], axis=0)) < 0.2).all())
        and bool(finite[:, 0].min() < -0.05)
    )


def _mediapipe_json(source: Source) -> RawPose:
    return _landmarks(read_json_rows(source))


def _mediapipe_csv(source: Source) -> RawPose:
    return _landmarks(read_pose_table(source))


def _coco_json(source: Source) -> RawPose:
    raw = read_json_rows(source)
    raw.key = raw.key or "keypoints"
    return raw


def _coco_csv(source: Source) -> RawPose:
    raw = read_pose_table(source)
    raw.key = "keypoints"
    return raw


def _tensor(source: Source) -> RawPose:
    """Rows of a `pose_tensor` (T, points, 2) document; body = the first 18 points, whatever its notes say."""
    document = jsonstrict.loads(source.read_bytes(), file=source.path)
    rows = document.get("pose_tensor") if isinstance(document, dict) else None
    if not isinstance(rows, list) or not rows:
        raise FormatError("no list 'pose_tensor'", file=source.path)
    raw = read_frames(rows, header_of(document))
    points = raw.xyz.shape[1]
    names = names_by_count(points) or names_by_count(BODY_POINTS) or ()
    keep = min(BODY_POINTS, points)
    raw.xyz, raw.confidence, raw.names = raw.xyz[:, :keep].copy(), raw.confidence[:, :keep], names[:keep]
    raw.xyz[(raw.xyz[:, :, :2] < 0).all(axis=2)] = np.nan
    count = raw.header.get("frame_count")
    if isinstance(count, int) and count != len(rows):
        raw.problems.append(f"frame_count: {count} frames declared, {len(rows)} found")
    return raw


read_mediapipe_json = reader_of(_mediapipe_json, Hints())
read_mediapipe_csv = reader_of(_mediapipe_csv, Hints())
read_coco_json = reader_of(_coco_json, Hints())
read_coco_csv = reader_of(_coco_csv, Hints())
_read_tensor = reader_of(_tensor, Hints(units=None, up="-y"))


def read_dwpose(source: Source, fps: float | None = None) -> PoseStream:
    """Read a pose tensor; the declared rate is checked against frames and duration.

    Raises:
        FormatError: no tensor inside.
    """
    stream = _read_tensor(source, fps)
    return replace(stream, assumptions=(*stream.assumptions, f"the first {BODY_POINTS} points are the body"))


def dwpose_facts(source: Source) -> Facts:
    """The facts of a pose tensor; `meta.bpm` is what its maker measured, not checked."""
    stream = read_dwpose(source)
    header = header_of(jsonstrict.loads(source.read_bytes(), file=source.path))
    bpm = header.get("bpm")
    known = isinstance(bpm, int | float) and not isinstance(bpm, bool) and 0 < bpm < 1000
    meta = {"declared_fps": header_fps(header), **({"bpm": bpm} if known else {})}
    return stream_facts(stream, "pose", "dwpose", meta)


READERS: tuple[Reader, ...] = (
    Reader("dwpose", "pose", sniff_of("dwpose"), dwpose_facts, read_dwpose, 41),
    Reader(
        "mediapipe-json", "pose", sniff_of("mediapipe-json"), facts_of(read_mediapipe_json, "mediapipe-json"),
        read_mediapipe_json, 45,
    ),
    Reader(
        "mediapipe-csv", "pose", sniff_of("mediapipe-csv"), facts_of(read_mediapipe_csv, "mediapipe-csv"),
        read_mediapipe_csv, 46,
    ),
    Reader("coco-json", "pose", sniff_of("coco-json"), facts_of(read_coco_json, "coco-json"), read_coco_json, 47),
    Reader("coco-csv", "pose", sniff_of("coco-csv"), facts_of(read_coco_csv, "coco-csv"), read_coco_csv, 48),
)  # fmt: skip
