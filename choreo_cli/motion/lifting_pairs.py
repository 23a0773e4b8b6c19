"""Recorded pairs to learn lifting from: image points and joints in space of one performance, matched by their clocks.

The list is CSV with a header: `points` (a file of 2-D points), `joints` (a file of 3-D joints), and, where known,
`group` (performer or take, never split) and `aspect` (width over height, for points that are given as parts of the
image). Paths are relative to the list. Every reader's format will do.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import DataError, NoInputError
from choreo_cli.motion.lifting_points import BODY, POINTS, centred, stature
from choreo_cli.motion.prepare import named_joints
from formats.atomic import sha256_file
from formats.errors import FormatError
from formats.foreign import registry
from formats.foreign.joints import COCO_17, canonical_names
from formats.foreign.model import PoseStream
from formats.foreign.pose_space import turn_up
from formats.foreign.source import Source

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

COLUMNS = ("points", "joints", "group", "aspect")
NEAR_US = 100_000  # between two frames of the joints a time of the points may lie
FEWEST = 30
BLOCK = 120  # frames for which the camera is taken to stand still
WORST = 0.25  # torso lengths: a camera that explains the points no better than this explains nothing
NEEDED = tuple(n for n in COCO_17[5:] if n[2:] not in ("elbow", "wrist"))
_FIRST = POINTS - len(BODY)


@dataclass(frozen=True, slots=True)
class Pair:
    """One matched recording, frame by frame.

    Args:
        name: The file of points.
        group: Performer or take.
        points: (T, 17, 2) pixels, y down, NaN where missing.
        confidence: (T, 17).
        joints: (T, 22, 3) metres in camera axes, pelvis 0.
        px_per_m: (T,).
        height_m: Stature.
        residual: RMS of the points about the joints, in torso lengths.
    """

    name: str
    group: str
    points: F32
    confidence: F32
    joints: F64
    px_per_m: F64
    height_m: float
    residual: float


def read_pairs(file: Path) -> tuple[list[Pair], list[dict[str, Any]], list[str]]:
    """The pairs of a list, what was read (`{role, sha256, schema}`), and notes.

    Raises:
        NoInputError: no such list, or a file that it names is missing.
        FormatError: a broken list, with its row.
        DataError: two recordings that do not belong together: no common time, or no camera explains them.
    """
    rows = _rows(file)
    found, notes, digest = [], [], hashlib.sha256(file.read_bytes())
    for row, (points, joints, group, aspect) in rows:
        a, b = file.parent / points, file.parent / joints
        for path in (a, b):
            if not path.is_file():
                raise NoInputError(f"no file {path}", hint=f"{file}, row {row} names it")
            digest.update(sha256_file(path).encode())
        pair, said = match(_stream(a, 2), _stream(b, 3), name=points, group=group or points, aspect=aspect)
        found.append(pair)
        notes += said
    return found, [{"role": "pairs", "sha256": digest.hexdigest(), "schema": "text/csv"}], notes


def match(
    image: PoseStream, space: PoseStream, *, name: str, group: str, aspect: float | None = None
) -> tuple[Pair, list[str]]:
    """Match two streams by their clocks and find the camera.

    Args:
        image: 2-D points.
        space: 3-D joints in any fixed axes.
        name: What the pair is called.
        group: Performer or take.
        aspect: Width over height of the image, for points that are parts of it.

    Raises:
        DataError: no common time, points that are missing, or no camera that explains them.
    """
    xy, seen, notes = _coco(image, aspect, name)
    start, said = _start(image, space, name)
    t = np.asarray(image.t_us, np.int64) + start
    joints, known = _at(space, t, name)
    keep = np.flatnonzero(known)
    if len(keep) < FEWEST:
        span = (int(space.t_us[-1]) - int(space.t_us[0])) / 1e6
        raise DataError(
            f"{name}: {len(keep)} of {len(t)} frames have joints within {NEAR_US // 1000} ms ({span:.1f} s recorded)",
            hint="the clocks may differ: see choreo inspect on both files",
        )
    xy, seen, joints = xy[keep], seen[keep], joints[keep]
    height = float(np.median(stature(joints)))
    turned, px, residual = _camera(xy, seen, joints, height)
    if residual > WORST:
        raise DataError(
            f"{name}: no camera explains the points: {residual:.2f} torso lengths off",
            hint="another performance, swapped sides, or clocks that differ",
        )
    return Pair(name, group, xy, seen, turned, px, height, residual), [*notes, *said]


def _rows(file: Path) -> list[tuple[int, tuple[str, str, str, float | None]]]:
    if not file.is_file():
        raise NoInputError(f"no list of pairs {file}", hint="CSV with the columns points,joints[,group,aspect]")
    reader = csv.DictReader(io.StringIO(Source.of(file).read_text()))
    header = [h.strip() for h in reader.fieldnames or ()]
    if not {"points", "joints"} <= set(header) or not set(header) <= set(COLUMNS):
        raise FormatError(f"columns {','.join(header) or 'none'}", file=file, row=1, hint=f"need {','.join(COLUMNS)}")
    found = []
    for row, line in enumerate(reader, 2):
        cells = {str(k).strip(): (v or "").strip() for k, v in line.items() if isinstance(v, str | None)}
        if not cells.get("points") or not cells.get("joints"):
            raise FormatError("needs a file of points and one of joints", file=file, row=row)
        try:
            aspect = float(cells["aspect"]) if cells.get("aspect") else None
        except ValueError:
            aspect = math.nan
        if aspect is not None and not 0.1 <= aspect <= 10:
            raise FormatError("needs width over height, 0.1 to 10", file=file, row=row, field="aspect")
        found.append((row, (cells["points"], cells["joints"], cells.get("group", ""), aspect)))
    if not found:
        raise FormatError("holds no pair", file=file)
    return found


def _stream(path: Path, axes: int) -> PoseStream:
    source = Source.of(path)
    reader = registry.recognise(source.head, source.name, source.size)
    stream = reader.read(source) if reader.read is not None and reader.kind in ("pose", "motion") else None
    if not isinstance(stream, PoseStream) or stream.xyz.shape[2] < axes:
        raise FormatError(f"holds no {axes}-D points ({reader.format})", file=path, hint="see choreo inspect FILE")
    return stream


def _coco(image: PoseStream, aspect: float | None, name: str) -> tuple[F32, F32, list[str]]:
    names = canonical_names(image.joints)
    need = [n for n in NEEDED if n not in names]
    if need:
        raise DataError(f"{name}: no point {', '.join(need)}", hint="shoulders, hips and legs are needed")
    xy = np.full((len(image.t_us), POINTS, 2), np.nan, np.float32)
    seen = np.zeros((len(image.t_us), POINTS), np.float32)
    for k, wanted in enumerate(COCO_17):
        if wanted in names:
            at = names.index(wanted)
            xy[:, k] = image.xyz[:, at, :2]
            seen[:, k] = 1.0 if image.confidence is None else image.confidence[:, at]
    seen[~np.isfinite(xy).all(-1)] = 0
    if image.up == "+y":
        xy[..., 1] *= -1
    notes = []
    if image.units == "norm":
        xy *= np.array([1000.0 * (aspect or 1.0), 1000.0], np.float32)
        notes = (
            [] if aspect else [f"{name}: parts of an image whose shape is not told: taken as square (column aspect)"]
        )
    return xy, seen, notes


def _start(image: PoseStream, space: PoseStream, name: str) -> tuple[int, list[str]]:
    """Microseconds from the points' time zero to that of the joints."""
    a, b = image.clock, space.clock
    sure = ("none", "mtime")
    if a.t0_utc_us is None or b.t0_utc_us is None or a.source in sure or b.source in sure or a.naive != b.naive:
        return 0, [f"{name}: no clock is known to both recordings: taken as started together"]
    return a.t0_utc_us - b.t0_utc_us, []


def _at(space: PoseStream, t: I64, name: str) -> tuple[F64, NDArray[np.bool_]]:
    """Joints (N, 22, 3) in metres, y up, at given times of their clock, and where they are known."""
    points, _, _ = named_joints(space)
    points = points if space.up == "+y" else turn_up(points, space.up)
    source = np.asarray(space.t_us, np.int64)
    if len(source) < 2:
        raise DataError(f"{name}: one frame of joints", hint="need a recording")
    left = np.clip(np.searchsorted(source, t, side="right") - 1, 0, len(source) - 2)
    width = np.maximum(source[left + 1] - source[left], 1)
    share = ((t - source[left]) / width)[:, None, None]
    joints = points[left] * (1 - share) + points[left + 1] * share
    inside = (t >= source[0]) & (t <= source[-1]) & (width <= NEAR_US)
    body = np.isfinite(np.delete(joints, (10, 11), axis=1)).all((1, 2))  # toes may be unknown
    return joints, inside & body


def _camera(xy: F32, seen: F32, joints: F64, height: float) -> tuple[F64, F64, float]:
    """Joints in camera axes, pixels per metre, and how far the points are off, in torso lengths.

    In every block of frames one rotation and, frame by frame, one scale take the joints onto the points (weak
    perspective); the rotation is the orthogonal factor of the least-squares affine map.
    """
    about, torso, _ = centred(xy, seen)
    middle = (joints[:, 1] + joints[:, 2]) / 2
    place = (joints - middle[:, None])[:, BODY, :]
    weight = np.where(np.isfinite(torso)[:, None], about[:, _FIRST:, 2], 0.0).astype(np.float64)
    image = np.nan_to_num(about[:, _FIRST:, :2] / torso[:, None, None]).astype(np.float64)
    out, px = np.empty_like(joints), np.full(len(joints), np.nan)
    error, total = 0.0, 0.0
    for k in range(0, len(joints), BLOCK):
        part = slice(k, k + BLOCK)
        turn = _rotation(image[part], place[part], weight[part])
        flat = place[part] @ turn[:2].T
        size = (weight[part][..., None] * flat * image[part]).sum((1, 2))
        size /= np.maximum((weight[part][..., None] * flat**2).sum((1, 2)), 1e-12)
        off = image[part] - size[:, None, None] * flat
        error += float((weight[part][..., None] * off**2).sum())
        total += float(weight[part].sum())
        out[part] = (joints[part] - joints[part, :1]) @ turn.T
        px[part] = np.where(size > 1e-6, size, np.nan) * torso[part]
    return out, px, math.sqrt(error / total) if total else math.inf


def _rotation(image: F64, place: F64, weight: F64) -> F64:
    """(3, 3) rows right, up, towards the camera."""
    w = weight[..., None]
    square = np.einsum("tki,tkj->ij", w * place, place) + 1e-9 * np.eye(3)
    cross = np.einsum("tki,tkj->ij", w * image, place)
    u, _, vt = np.linalg.svd(cross @ np.linalg.inv(square), full_matrices=False)
    flat = u @ vt
    return np.vstack([flat, np.cross(flat[0], flat[1])])


def split_record(pairs: Sequence[Pair], splits: dict[str, str]) -> dict[str, Any]:
    """Sessions, rows and residuals of pairs for the `data` record."""
    names = ("train", "val", "test")
    return {
        "sessions": {s: [p.name for p in pairs if splits[p.group] == s] for s in names},
        "rows": {s: sum(len(p.points) for p in pairs if splits[p.group] == s) for s in names},
        "residual_torso": {p.name: round(p.residual, 4) for p in pairs},
    }
