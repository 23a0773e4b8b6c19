"""The stage around a dancer: backdrop, floor grid, time bar with beats and foot contacts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from choreo_cli.motion import raster
from choreo_cli.motion.camera import Camera
from choreo_cli.motion.scene_body import LEFT, RIGHT

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]

SKY_TOP, SKY_LOW, FLOOR_FAR, FLOOR_LIT = (15, 17, 25), (34, 39, 54), (26, 30, 42), (66, 73, 95)
LINE, TRACK, PLAYED, BEAT, ACCENT = (146, 158, 190), (70, 76, 94), (236, 238, 244), (150, 158, 178), (255, 214, 102)
GRID_M, GRID_REACH_M = 0.5, 3.0
GRID_LINES = 2 * int(GRID_REACH_M / GRID_M) + 1
BAR_HEIGHT = 0.115  # of the picture's smaller side
BEAT_FADE_S = 0.18


def room_scale(camera: Camera) -> float:
    """How much larger the floor is drawn: 1 where little more than a dancer is seen, more for one who travels."""
    return max(1.0, max(camera.window.half_width, camera.window.half_height) / camera.zoom / 2.5)


def backdrop(size: tuple[int, int], camera: Camera, columns: tuple[int, int]) -> U8:
    """(H, W', 3) uint8 of one panel: a dark room, and a floor lit around the target.

    Args:
        size: Whole picture, height and width.
        camera: Who looks; a following camera keeps the light under the dancer.
        columns: First and last + 1 column of the panel.
    """
    height = size[0]
    y = np.arange(height, dtype=np.float64)[:, None]
    x = np.arange(*columns, dtype=np.float64)[None, :]
    ray_x, ray_y = (x - camera.window.x) / camera.zoom, (camera.window.y - y) / camera.zoom
    right, up, near = camera.axes
    if camera.perspective:
        eye = camera.distance * near
        direction = ray_x[..., None] * right + ray_y[..., None] * up - camera.distance * near
        start = np.broadcast_to(eye, direction.shape)
    else:
        start = ray_x[..., None] * right + ray_y[..., None] * up
        direction = np.broadcast_to(-near, start.shape)
    middle = camera.target if camera.target.ndim == 1 else camera.target[0]
    down = direction[..., 1]
    hits = down < -1e-6
    along = np.where(hits, (-middle[1] - start[..., 1]) / np.where(hits, down, -1.0), np.inf)
    with np.errstate(invalid="ignore"):
        floor = start + along[..., None] * direction
        # A parallel ray meets the floor before or behind the plane it starts from: both are seen.
        away = np.where(
            hits & ((along > 0) | (not camera.perspective)), floor[..., 0] ** 2 + floor[..., 2] ** 2, np.inf
        )
    room = room_scale(camera)
    lit = np.exp(-away / (2 * (1.25 * room) ** 2))[..., None]
    sky = _mix(SKY_TOP, SKY_LOW, np.clip(y / max(height - 1, 1), 0, 1)[..., None])
    ground = _mix(FLOOR_FAR, FLOOR_LIT, lit)
    haze = np.where(np.isfinite(away), np.exp(-np.sqrt(np.minimum(away, 1e6)) / (9.0 * room)), 0.0)[..., None]
    picture = np.broadcast_to(sky, ground.shape) * (1 - haze) + ground * haze
    # Half a grey level of ordered noise hides the steps of slow gradients.
    grain = ((np.arange(height)[:, None] * 5 + np.arange(*columns)[None, :] * 3) % 8)[..., None] / 8 - 0.4375
    return np.asarray(np.clip(picture + grain + 0.5, 0, 255).astype(np.uint8))


def _mix(a: Sequence[int], b: Sequence[int], share: F64) -> F64:
    return np.asarray(np.array(a) + (np.array(b, float) - np.array(a)) * share)


def grid(camera: Camera) -> F32:
    """Floor lines that fade away from the target: (T, 4 * GRID_LINES, WIDTH), T = 1 for a camera that stands."""
    targets = np.atleast_2d(camera.target)
    n = len(targets)
    lines = np.empty((n, 2, GRID_LINES, 3, 3))  # axis, line, (middle, one end, other end), xyz
    tile, reach = GRID_M * room_scale(camera), GRID_REACH_M * room_scale(camera)
    steps = (np.arange(GRID_LINES) - GRID_LINES // 2) * tile
    for axis, other in ((0, 2), (2, 0)):
        k = axis // 2
        at = np.round(targets[:, axis, None] / tile) * tile + steps
        room = np.sqrt(np.maximum(reach**2 - (at - targets[:, axis, None]) ** 2, 1e-6))
        lines[:, k, :, :, axis] = at[..., None]
        lines[:, k, :, :, 1] = 0.0
        lines[:, k, :, 0, other] = targets[:, other, None]
        lines[:, k, :, 1, other] = targets[:, other, None] - room
        lines[:, k, :, 2, other] = targets[:, other, None] + room
    points = lines.reshape(n, -1, 3)
    xy, scale, _ = camera.project(points)
    away = np.sqrt((points[..., 0] - targets[:, None, 0]) ** 2 + (points[..., 2] - targets[:, None, 2]) ** 2)
    alpha = 0.42 * np.clip(1 - away / reach, 0, 1) ** 1.2
    xy, scale, alpha = (a.reshape(n, -1, 3, *a.shape[2:]) for a in (xy, scale, alpha))
    out = raster.shapes(n, 4 * GRID_LINES)
    for end in (1, 2):
        s = out[:, end - 1 :: 2]
        s[..., raster.KIND] = raster.CAPSULE
        s[..., raster.XY : raster.XY + 2], s[..., raster.XY + 2 : raster.XY + 4] = xy[:, :, 0], xy[:, :, end]
        s[..., raster.R0], s[..., raster.R1] = 0.0045 * scale[:, :, 0], 0.0045 * scale[:, :, end]
        s[..., raster.ALPHA], s[..., raster.ALPHA1] = alpha[:, :, 0], alpha[:, :, end]
        s[..., raster.RGB : raster.RGB + 3] = LINE
        s[..., raster.SOFT] = 1.0
    return out


def stroke(xy0: Sequence[float], xy1: Sequence[float], radius: float, colour: Sequence[int], alpha: float = 1.0) -> F32:
    """(WIDTH,) a flat line with round ends."""
    s: F32 = raster.shapes(1, 1)[0, 0]
    s[raster.KIND] = raster.CAPSULE
    s[raster.XY : raster.XY + 2], s[raster.XY + 2 : raster.XY + 4] = xy0, xy1
    s[raster.R0] = s[raster.R1] = radius
    s[raster.RGB : raster.RGB + 3] = colour
    s[raster.ALPHA] = s[raster.ALPHA1] = alpha
    s[raster.SOFT] = 1.0
    return s


class Bar:
    """The time bar along the bottom: where times lie, what stands still, and what moves.

    Args:
        size: Height and width of the picture.
        duration_s: Length of the clip.
        beats_s: (B,) beats from the first frame, those outside are not shown.
    """

    def __init__(self, size: tuple[int, int], duration_s: float, beats_s: F64) -> None:
        self.unit = min(size) / 512
        self.duration_s = max(duration_s, 1e-9)
        self.beats_s = beats_s[(beats_s >= 0) & (beats_s <= duration_s)]
        self.left, self.right = 18 * self.unit, size[1] - 1 - 18 * self.unit
        self.y = size[0] - 1 - 15 * self.unit

    def x(self, t_s: F64 | float) -> F64:
        """Column of a time."""
        share = np.clip(np.asarray(t_s) / self.duration_s, 0, 1)
        return np.asarray(self.left + share * (self.right - self.left))

    def still(self, contacts: F64, fps: float) -> F32:
        """(P, WIDTH) track, beat ticks, and a line for each stretch a foot stands, left above right."""
        u, y = self.unit, self.y
        found = [stroke((self.left, y), (self.right, y), 2.2 * u, TRACK)]
        for x in self.x(self.beats_s):
            found.append(stroke((float(x), y - 7.5 * u), (float(x), y - 4.5 * u), 0.8 * u, BEAT))
        for side, (colour, lift) in enumerate(((LEFT, 16.0), (RIGHT, 12.0))):
            for first, last in runs(contacts[:, side] > 0.5):
                x0, x1 = float(self.x(first / fps)), float(self.x(last / fps))
                found.append(stroke((x0, y - lift * u), (max(x1, x0 + 0.1), y - lift * u), 1.15 * u, colour, 0.85))
        return np.stack(found)

    def moving(self, t_s: F64) -> F32:
        """(T, 3, WIDTH) what was played, the head, and a flash on the tick of a beat that has just come."""
        u, y = self.unit, self.y
        out = raster.shapes(len(t_s), 3)
        out[:, 0], out[:, 2] = stroke((0, y), (0, y), 2.2 * u, PLAYED), stroke((0, y), (0, y), 5.0 * u, PLAYED)
        x = self.x(t_s)
        out[:, 0, raster.XY] = self.left
        out[:, 0, raster.XY + 2] = out[:, 2, raster.XY] = out[:, 2, raster.XY + 2] = x
        if len(self.beats_s):
            i = np.searchsorted(self.beats_s, t_s + 1e-6) - 1
            age = np.where(i >= 0, t_s - self.beats_s[np.maximum(i, 0)], np.inf)
            glow = np.exp(-np.maximum(age, 0) / BEAT_FADE_S)
            out[:, 1] = stroke((0, y), (0, y), 1.0, ACCENT)
            out[:, 1, raster.XY] = out[:, 1, raster.XY + 2] = x
            out[:, 1, raster.R0] = out[:, 1, raster.R1] = (3.0 + 8.0 * glow) * u
            out[:, 1, raster.SOFT] = 1.0 + 4.0 * u * glow
            out[:, 1, raster.ALPHA] = out[:, 1, raster.ALPHA1] = glow
            out[:, 1, raster.KIND] = np.where(glow > 0.02, raster.CAPSULE, raster.SKIP)
        return out


def runs(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """(first, last) frames of each run of True."""
    padded = np.concatenate([[False], flags, [False]])
    edges = np.flatnonzero(padded[1:] != padded[:-1])
    return [(int(a), int(b) - 1) for a, b in zip(edges[::2], edges[1::2], strict=True)]
