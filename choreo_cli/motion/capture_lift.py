"""Lift a recording of image points into a clip: network, place in front of the camera, the canonical body."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import DataError
from choreo_cli.motion.capture_job import Change, Made
from choreo_cli.motion.capture_log import Camera
from choreo_cli.motion.choreo25 import encode
from choreo_cli.motion.lifting_place import place_lifted
from choreo_cli.motion.retarget_plan import Item
from choreo_cli.motion.skeleton import canonical_skeleton
from formats.errors import FormatError
from formats.foreign import registry
from formats.foreign.joints import COCO_17
from formats.foreign.model import PoseStream
from formats.foreign.openpose import read_folder
from formats.foreign.source import Source

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

FOCAL_SHARE = 1.2
"""Focal length over the longer side of the image of usual phones, where none is given."""


class ClipLifter(Protocol):
    """`motion.lifting.Lifter`."""

    def lift(self, points: Any, confidence: Any) -> Any:
        """(T, 22, 3) metres in camera axes of (T, 17, 2) and (T, 17)."""
        ...


def lifter_change(
    make: Callable[[float], ClipLifter], *, height_m: float, fps: float | None, focal_px: float | None
) -> Change:
    """Lift one recording.

    Args:
        make: The network for a stature.
        height_m: Stature: one camera cannot tell it.
        fps: Frames a second of recordings that hold no times.
        focal_px: Focal length; None takes 1.2 times the longer side of what is seen.
    """

    def change(item: Item) -> Made:
        stream = _points(item, fps)
        xy, seen, rate, size = coco(stream, fps, item.source)
        local = np.asarray(make(height_m).lift(xy, seen), np.float64)
        focal = focal_px or FOCAL_SHARE * max(size)
        camera = Camera(focal, *size, (0.0, 1.3, 0.0))
        skeleton = canonical_skeleton(height_m)
        joints = np.full(local.shape, np.nan)
        for k in range(len(local)):
            try:
                joints[k] = place_lifted(local[k], xy[k], seen[k], camera, skeleton)[0]
            except DataError:
                continue  # a frame with too few points is a gap
        good = np.isfinite(joints).all((1, 2))
        if good.sum() < 2:
            raise DataError(f"{item.source}: no frame shows enough of a body to lift")
        first, last = np.flatnonzero(good)[[0, -1]]
        joints = joints[first : last + 1]
        joints[..., (0, 2)] -= joints[0, 0, (0, 2)]
        # How high the camera stood is not known either: the feet say where the floor is.
        joints[..., 1] -= np.nanpercentile((joints[:, (7, 8), 1] - skeleton.ank0).min(1), 2)
        told = {"format": "lifted", "rig": "coco17"}
        clip = encode(joints, rate, skeleton=skeleton, source=told, flags={"lifted": True})
        report = {
            "frames_found": len(local), "frames_lifted": int(good.sum()), "trimmed": int(len(local) - len(joints)),
            "focal_px": round(focal, 1), "focal_given": focal_px is not None, "height_m": height_m,
            "notes": ["depth and scale of one camera are a guess from the stature"],
        }  # fmt: skip
        return Made(clip, report, "coco17")

    return change


def _points(item: Item, fps: float | None) -> PoseStream:
    if item.path.is_dir():
        return read_folder(sorted(p for p in item.path.iterdir() if p.suffix.lower() == ".json"), fps)
    source = Source.of(item.path)
    reader = registry.recognise(source.head, source.name, source.size)
    if reader.read is None or reader.kind != "pose":
        raise FormatError(f"{reader.format} holds no image points", file=item.path, hint="see choreo inspect FILE")
    found = reader.read(source)
    if not isinstance(found, PoseStream) or found.xyz.shape[2] != 2:
        raise DataError(f"{item.source} holds joints in space already", hint="choreo retarget turns them into choreo25")
    return found


def coco(stream: PoseStream, fps: float | None, name: str) -> tuple[F64, F64, float, tuple[float, float]]:
    """COCO points (T, 17, 2) in pixels, y down, confidences (T, 17), fps, and (width, height) of what is seen.

    Raises:
        DataError: no rate, joints that are not named, points as parts of an image of unknown shape.
    """
    t = len(stream.t_us)
    if t < 2:
        raise DataError(f"{name}: {t} frames, need 2")
    missing = [n for n in COCO_17[5:] if n not in stream.joints]
    if missing:
        raise DataError(f"{name}: no point is called {missing[0]}", hint="need the 12 body points of COCO")
    if stream.rate_source == "none" and fps is None:
        raise DataError(f"{name} holds no times and no rate", hint="give --fps")
    rate = fps or 1e6 * (t - 1) / float(stream.t_us[-1] - stream.t_us[0])
    xyz = np.asarray(stream.xyz, np.float64)
    if stream.units == "norm":
        xyz = xyz * 1000.0  # square pixels are taken for granted, as the file does not say otherwise
    if stream.up == "+y":
        xyz = xyz * np.array([1.0, -1.0])
    xy, seen = np.full((t, 17, 2), np.nan), np.zeros((t, 17))
    for k, joint in enumerate(COCO_17):
        if joint in stream.joints:
            at = stream.joints.index(joint)
            xy[:, k] = xyz[:, at]
            sure = np.ones(t) if stream.confidence is None else np.asarray(stream.confidence[:, at], np.float64)
            seen[:, k] = np.where(np.isfinite(xy[:, k]).all(1), np.nan_to_num(sure), 0.0)
    if not np.isfinite(xy).any():
        raise DataError(f"{name}: no point in any frame")
    low, high = np.nanmin(xy, axis=(0, 1)), np.nanmax(xy, axis=(0, 1))
    size = np.maximum(high + np.maximum(low, 0.0), 1.0)  # as if the margins were alike on both sides
    return xy, seen, float(rate), (float(size[0]), float(size[1]))
