"""Where a lifted body stands: from camera axes to the world, by the camera's place, the image and the floor."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import DataError
from choreo_cli.motion.capture_log import Camera
from choreo_cli.motion.lifting_points import BODY
from formats.motion_npz import Skeleton

F64 = NDArray[np.float64]

DEPTH_SHARE = 0.04
"""Relative error of a depth that is guessed from the size of the body in the image."""
_HIPS = (11, 12)


def camera_axes(camera: Camera) -> F64:
    """(3, 3) world directions of the camera's x (right), y (up) and z (towards the camera), as columns."""
    cy, sy, cp, sp = np.cos(camera.yaw_rad), np.sin(camera.yaw_rad), np.cos(camera.pitch_rad), np.sin(camera.pitch_rad)
    ahead = np.array([sy * cp, sp, cy * cp])
    right = np.array([-cy, 0.0, sy])
    back = -ahead
    up = np.array([back[1] * right[2] - back[2] * right[1], back[2] * right[0] - back[0] * right[2],
                   back[0] * right[1] - back[1] * right[0]])  # fmt: skip
    return np.stack([right, up, back], 1)


def place_lifted(local: F64, points: F64, confidence: F64, camera: Camera, skeleton: Skeleton) -> tuple[F64, F64]:
    """World joints (22, 3) of a lifted body, and the standard deviation (3,) of its place.

    Distance: focal length over pixels a metre, from the spread of the lifted body against that of its image (weak
    perspective, least squares). The floor corrects the height: the lower foot rests where it is near the floor.

    Args:
        local: (22, 3) metres in camera axes (x right, y up, z towards the camera), the pelvis at 0.
        points: (17, 2) pixels, y down; NaN where missing.
        confidence: (17,).
        camera: The camera.
        skeleton: The body, for its resting ankles.

    Raises:
        DataError: too few points to say how far away the body is.
    """
    seen = np.isfinite(points[5:]).all(1) & (confidence[5:] > 0.1)
    hips = np.isfinite(points[list(_HIPS)]).all()
    if seen.sum() < 4 or not hips or not np.isfinite(local).all():
        raise DataError("too few points to place the body")
    image = points[5:][seen] * np.array([1.0, -1.0])
    body = local[list(BODY)][seen, :2]
    image, body = image - image.mean(0), body - body.mean(0)
    scale = float((image * body).sum() / max((body**2).sum(), 1e-9))
    if not scale > 1.0:
        raise DataError("an image that does not fit the lifted body")
    distance = camera.focal_px / scale
    middle = points[list(_HIPS)].mean(0)
    offset = np.array([middle[0] - camera.width / 2, camera.height / 2 - middle[1]]) / scale
    axes = camera_axes(camera)
    hip = local[[1, 2]].mean(0)
    place = np.asarray(camera.place_m) + axes @ (np.array([offset[0], offset[1], -distance]) - hip)
    joints = place + local @ axes.T
    lowest = float((joints[[7, 8], 1] - np.asarray(skeleton.ank0)).min())
    if abs(lowest) < 0.15:
        joints[:, 1] -= lowest
    spread = np.abs(axes @ np.array([0.02, 0.02, DEPTH_SHARE * distance])) + 0.01
    return joints, np.asarray(spread)
