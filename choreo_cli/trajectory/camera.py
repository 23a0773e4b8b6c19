"""A pinhole camera that looks at the origin: where points of the world fall in the image, and how deep they lie.

Centre c = d (cos el cos az, cos el sin az, sin el); forward = -c/|c|, right = forward x up, down = forward x right.
A world point P becomes X = R (P - c) and the pixel (f X_xy / X_z / 2 + 1/2)(size - 1): x to the right, y downwards.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from choreo_cli.trajectory.draws import between, uniforms

F64 = NDArray[np.float64]

DISTANCE, FOCAL = 4.0, 1.9
AZIMUTHS = (0.3, 2.4, 4.5)
TILTS = (-0.12, 0.12)
ELEVATION, ELEVATION_SPREAD = 0.45, 0.05
ANY_ELEVATION = (0.25, 0.65)


@dataclass(frozen=True, slots=True)
class Cameras:
    """N cameras on a sphere around the origin.

    Args:
        azimuth, elevation: (N,) rad.
        distance: Of all, world units.
        focal: Of all, in half-images.
    """

    azimuth: F64
    elevation: F64
    distance: float = DISTANCE
    focal: float = FOCAL

    def __len__(self) -> int:
        return len(self.azimuth)

    @property
    def rotation(self) -> F64:
        """(N, 3, 3): rows are right, down and forward of the camera in the world."""
        ce, se, ca, sa = np.cos(self.elevation), np.sin(self.elevation), np.cos(self.azimuth), np.sin(self.azimuth)
        forward = -np.stack([ce * ca, ce * sa, se], axis=-1)
        right = np.cross(forward, (0.0, 0.0, 1.0))
        right /= np.linalg.norm(right, axis=-1, keepdims=True)
        return np.stack([right, np.cross(forward, right), forward], axis=-2)

    @property
    def centre(self) -> F64:
        """(N, 3) world units."""
        ce, se = np.cos(self.elevation), np.sin(self.elevation)
        return self.distance * np.stack([ce * np.cos(self.azimuth), ce * np.sin(self.azimuth), se], axis=-1)

    @property
    def translation(self) -> F64:
        """(N, 3): t of X = R P + t."""
        moved: F64 = -np.einsum("nij,nj->ni", self.rotation, self.centre)
        return moved

    def intrinsics(self, size: int) -> F64:
        """K of an image of `size` x `size` pixels, (3, 3): pixel = K X / X_z."""
        half = (size - 1) / 2
        return np.array([[self.focal * half, 0, half], [0, self.focal * half, half], [0, 0, 1.0]])


def any_cameras(seed: int, stream: str, first: int, rows: int) -> Cameras:
    """Cameras from the continuous range: azimuth 0..2 pi, elevation 0.25..0.65 rad."""
    u = uniforms(seed, stream, first, rows, 2)
    return Cameras(2 * np.pi * u[:, 0], between(u[:, 1], *ANY_ELEVATION))


def project(points: F64, cameras: Cameras, size: int) -> tuple[F64, F64]:
    """Where points fall.

    Args:
        points: (N, T, 3) world units, one camera for each of the N.
        cameras: N cameras.
        size: Pixels of a side.

    Returns:
        Pixels (N, T, 2), x right and y down, and depths (N, T) in world units.
    """
    seen = to_camera(points - cameras.centre[:, None], cameras)
    depth = seen[..., 2]
    pixels = (cameras.focal * seen[..., :2] / depth[..., None] / 2 + 0.5) * (size - 1)
    return pixels, depth


def to_camera(points: F64, cameras: Cameras) -> F64:
    """Points turned into the orientation of the camera, about the world's origin: (N, T, 3). Nothing is lost."""
    turned: F64 = np.einsum("nij,ntj->nti", cameras.rotation, points, optimize=True)
    return turned


def to_world(points: F64, cameras: Cameras) -> F64:
    """The inverse of `to_camera`."""
    turned: F64 = np.einsum("nji,ntj->nti", cameras.rotation, points, optimize=True)
    return turned
