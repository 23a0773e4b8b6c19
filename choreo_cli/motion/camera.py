"""Cameras for looking at a dancer: presets around the body, perspective or orthographic, standing or following."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

# view -> (azimuth from the body's facing towards its left, elevation), degrees
VIEWS: dict[str, tuple[float, float]] = {
    "front": (0.0, 7.0),
    "side": (90.0, 7.0),
    "three-quarter": (38.0, 14.0),
    "top": (0.0, 89.0),
}
FOV_DEG = 28.0
FOLLOW_S = 0.6  # standard deviation of the smoothing of the root that a following camera looks at
PAD_M = 0.16  # flesh around the joints


@dataclass(frozen=True, slots=True)
class Window:
    """Part of a picture that a camera fills: where its middle lies, and how far it may be used, in pixels."""

    x: float
    y: float
    half_width: float
    half_height: float


@dataclass(frozen=True, slots=True)
class Camera:
    """A camera that looks at a target.

    Args:
        azimuth: Where it stands, rad about +y from +z towards +x, seen from the target.
        elevation: Height above the horizon, rad.
        distance: From the target, metres.
        zoom: Pixels a metre at the target.
        window: Where the target appears.
        target: (3,), or (T, 3) for one that follows, metres.
        perspective: False draws without foreshortening.
    """

    azimuth: float
    elevation: float
    distance: float
    zoom: float
    window: Window
    target: F64
    perspective: bool = True

    @property
    def axes(self) -> F64:
        """(3, 3) rows: right, up and towards the camera."""
        ca, sa, ce, se = (
            math.cos(self.azimuth), math.sin(self.azimuth), math.cos(self.elevation), math.sin(self.elevation),
        )  # fmt: skip
        return np.array([[ca, 0.0, -sa], [-sa * se, ce, -ca * se], [sa * ce, se, ca * ce]])

    def seen(self, points: F64) -> F64:
        """(T, N, 3) world points in camera axes about the target: right, up, towards the camera; metres."""
        target = self.target if self.target.ndim == 1 else self.target[:, None, :]
        # Sums of three products, not `@`: the bytes of a picture must not depend on a BLAS or its threads.
        return np.asarray(((points - target)[..., None, :] * self.axes).sum(-1))

    def project(self, points: F64) -> tuple[F64, F64, F64]:
        """Pixels of points.

        Args:
            points: (T, N, 3) metres.

        Returns:
            (T, N, 2) x right and y down, (T, N) pixels a metre there, (T, N) nearness in metres (larger is nearer).
        """
        right, up, near = np.moveaxis(self.seen(points), -1, 0)
        scale = np.full_like(near, self.zoom)
        if self.perspective:
            scale = self.zoom * self.distance / np.maximum(self.distance - near, 0.05 * self.distance)
        return np.stack([self.window.x + right * scale, self.window.y - up * scale], -1), scale, near

    def moved(self, window: Window) -> Camera:
        """The same view through another window of the same size."""
        return replace(self, window=window)


def facing(joints: F64) -> float:
    """Mean heading of a clip, rad: the body faces (sin, 0, cos).

    The heading is across the hips and shoulders, averaged on the circle over all frames of (T, 22, 3).
    """
    across = (joints[:, 1] - joints[:, 2]) + (joints[:, 16] - joints[:, 17])
    return math.atan2(-float(across[:, 2].sum()), float(across[:, 0].sum()))


def follow(joints: F64, fps: float) -> F64:
    """(T, 3) what a following camera looks at: the root's floor position smoothed, at the middle of the body.

    Both ends are continued by turning the path about them, so that a walk does not begin or end at the edge.
    """
    from scipy.ndimage import gaussian_filter1d

    root = joints[:, 0]
    pad = min(int(4 * FOLLOW_S * fps) + 1, len(root) - 1)
    before, after = 2 * root[0] - root[pad:0:-1], 2 * root[-1] - root[-2 : -pad - 2 : -1]
    longer = np.concatenate([before, root, after])
    target = gaussian_filter1d(longer, FOLLOW_S * fps, axis=0, mode="nearest")[pad : pad + len(root)]
    target[:, 1] = _middle(joints)[1]
    return np.asarray(target)


def _middle(joints: F64) -> F64:
    low, high = joints.reshape(-1, 3).min(0), joints.reshape(-1, 3).max(0)
    return np.asarray((low + high) / 2)


def place(
    clips: list[F64],
    fps: float,
    window: Window,
    *,
    azimuth: float,
    elevation: float,
    perspective: bool = True,
    following: bool = False,
) -> list[Camera]:
    """One camera for each clip, alike in direction, distance and zoom, so that what they show can be compared.

    Args:
        clips: (T, 22, 3) joints of each, metres.
        fps: Their frame rate.
        window: Where the body has to fit.
        azimuth: Absolute, rad.
        elevation: Rad.
        perspective: False for orthographic.
        following: Keep the smoothed root in the middle instead of the whole path in view.
    """
    if following:
        targets = [follow(c, fps) for c in clips]
    else:
        targets = [_middle(np.concatenate([c.reshape(-1, 3) for c in clips])[:, None])] * len(clips)
    focus = window.half_height / math.tan(math.radians(FOV_DEG) / 2)
    base = [Camera(azimuth, elevation, 1.0, 1.0, window, target, perspective) for target in targets]
    distance, zoom = 1.0, math.inf
    for camera, clip in zip(base, clips, strict=True):
        right, up, near = np.moveaxis(camera.seen(clip), -1, 0)
        wide, high = np.abs(right) + PAD_M, np.abs(up) + PAD_M
        reach = np.maximum(wide * focus / window.half_width, high * focus / window.half_height)
        distance = max(distance, float((reach + near).max()) + PAD_M)
        zoom = min(zoom, window.half_width / float(wide.max()), window.half_height / float(high.max()))
    zoom = focus / distance if perspective else zoom
    return [replace(c, distance=distance, zoom=zoom) for c in base]
