"""Random cameras for 3-D clips: where they stand, what they see, and how badly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from choreo_cli.motion.lifting_points import POINTS, coco_points, stature
from formats.foreign.joints import CANONICAL, PARENTS

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

DRAWS = 80  # uniform numbers a view takes
WEDGE_RAD = np.radians(6.0)
SECTORS = 8
DISTANCE_M = (2.2, 6.0)
NEAREST_M = 1.2
FOCAL_PX = (900.0, 1900.0)
ELEVATION_RAD = (np.radians(-15.0), np.radians(30.0))
ROLL_RAD = np.radians(6.0)
NOISE_PX = (3.0, 8.0)
CORRELATION = 0.7  # of the noise of a point between frames: detectors err for a while
DROP = 0.04
DROP_LIMB = 0.06
OFFSET = 0.007  # statures: where a detector sees a joint is not where a skeleton has it
TURN_RAD, NOD_RAD = np.radians(50.0), np.radians(25.0)
LIMBS = ((7, 9), (8, 10), (13, 15), (14, 16), (0, 1, 2, 3, 4))
_SWAP = np.array([
    next(k for k, other in enumerate(CANONICAL) if other == {"l": "r", "r": "l"}.get(n[0], n[0]) + n[1:])
    if n[:2] in ("l_", "r_") else i for i, n in enumerate(CANONICAL)
])  # fmt: skip
# Bones that grow together: (joints at their far ends, how much). Rigs differ more in where their shoulders and hips sit
# than people do in their limbs.
_GROUPS = (
    (("l_knee", "r_knee"), 0.12), (("l_ankle", "r_ankle"), 0.12), (("l_elbow", "r_elbow"), 0.15),
    (("l_wrist", "r_wrist"), 0.15), (("spine1", "spine2", "chest"), 0.25), (("l_hip", "r_hip"), 0.35),
    (("l_collar", "r_collar"), 0.25), (("l_shoulder", "r_shoulder"), 0.40), (("neck",), 0.25), (("head",), 0.30),
    (("l_toe", "r_toe"), 0.30),
)  # fmt: skip
# Parts that are turned about their first joint, and by how much (rad): more poses than the clips hold.
_TURNED = (
    (("l_shoulder", "l_elbow", "l_wrist"), 0.9), (("r_shoulder", "r_elbow", "r_wrist"), 0.9),
    (("l_elbow", "l_wrist"), 0.5), (("r_elbow", "r_wrist"), 0.5),
    (("l_hip", "l_knee", "l_ankle", "l_toe"), 0.35), (("r_hip", "r_knee", "r_ankle", "r_toe"), 0.35),
    (("pelvis", *(n for n in CANONICAL if n[2:] not in ("hip", "knee", "ankle", "toe") and n != "pelvis")), 0.35),
    (CANONICAL, 0.15),
)  # fmt: skip
TURN_SHARE = 0.6  # of the windows that each part is turned in


@dataclass(frozen=True, slots=True)
class Views:
    """What cameras see of windows of a clip.

    Args:
        points: (B, W, 17, 2) pixels about the middle of the image, y down; NaN where dropped.
        confidence: (B, W, 17).
        joints: (B, W, 22, 3) metres in camera axes (x right, y up, z towards the camera), the pelvis at 0.
        height_m: (B,) stature.
        px_per_m: (B, W) at the pelvis.
    """

    points: F32
    confidence: F32
    joints: F64
    height_m: F64
    px_per_m: F64


def look(joints: F64, draws: F64, noise: F64, *, held_out: bool = False, vary: bool = True) -> Views:
    """See windows of clips through random cameras.

    Args:
        joints: (B, W, 22, 3) metres, y up.
        draws: (B, DRAWS) uniform numbers.
        noise: (B, W, 17, 3) normal numbers: two for the place, one for the confidence.
        held_out: Cameras of the test: azimuths within 6 degrees of eight directions that no training camera has.
        vary: Also mirror and change the proportions of the body, as training does.
    """
    u = iter(draws.T)
    body = _varied(joints, u) if vary else joints
    heights = stature(body[:, 0])
    turn, nod = (next(u) - 0.5)[:, None] * 2 * TURN_RAD, (next(u) - 0.5)[:, None] * 2 * NOD_RAD
    seen = coco_points(body, turn, nod)
    seen = seen + OFFSET * heights[:, None, None, None] * _shift(draws)[:, None]
    distance, focal = _between(next(u), DISTANCE_M), _between(next(u), FOCAL_PX)
    axes = _axes(azimuths(next(u), held_out), _between(next(u), ELEVATION_RAD), (2 * next(u) - 1) * ROLL_RAD)
    middle = body[:, :, :1].mean(1, keepdims=True)  # the camera aims near the middle of the way
    local = _seen_along(axes, seen - middle)
    # Who walks towards the camera does not walk through it: it stands farther away then.
    distance = np.maximum(distance, local[..., 2].max((1, 2)) + NEAREST_M)
    aim = np.stack([next(u) - 0.5, next(u) - 0.5], -1) * 0.3 * distance[:, None]
    local[..., :2] += aim[:, None, None]
    depth = distance[:, None, None] - local[..., 2]
    px = focal[:, None, None, None] * local[..., :2] / depth[..., None] * np.array([1.0, -1.0])
    turned = _seen_along(axes, body - body[:, :, :1])
    pelvis = _seen_along(axes, body[:, :, :1] - middle)[:, :, 0]
    points, confidence = _blur(px, next(u), draws[:, -20:], noise)
    return Views(points, confidence, turned, heights, focal[:, None] / (distance[:, None] - pelvis[..., 2]))


def azimuths(u: F64, held_out: bool) -> F64:
    """Directions of cameras (rad) from uniform numbers: inside the wedges kept for the test, or outside them."""
    sector = np.floor(u * SECTORS) * (2 * np.pi / SECTORS)
    inside = (u * SECTORS) % 1.0
    if held_out:
        return np.asarray(sector + (2 * inside - 1) * WEDGE_RAD)
    return np.asarray(sector + WEDGE_RAD + inside * (2 * np.pi / SECTORS - 2 * WEDGE_RAD))


def mirrored(joints: F64) -> F64:
    """Joints (..., 22, 3) reflected in x, sides swapped."""
    return np.asarray(joints[..., _SWAP, :] * np.array([-1.0, 1.0, 1.0]))


def _varied(joints: F64, draw: Iterator[F64]) -> F64:
    out = np.where((next(draw) < 0.5)[:, None, None, None], mirrored(joints), joints)
    factors = np.ones((len(joints), len(CANONICAL)))
    for names, much in _GROUPS:
        factors[:, [CANONICAL.index(n) for n in names]] = (1 + much * (2 * next(draw) - 1))[:, None]
    overall = 1 + 0.12 * (2 * next(draw) - 1)
    return _posed(_grown(out, factors * overall[:, None]), draw)


def _grown(joints: F64, factors: F64) -> F64:
    """Joints (B, W, 22, 3) with every bone longer by its factor (B, 22)."""
    out = joints.copy()
    for j, parent in enumerate(PARENTS):
        if parent >= 0:
            bone = (joints[:, :, j] - joints[:, :, parent]) * factors[:, None, j, None]
            out[:, :, j] = out[:, :, parent] + bone
    return out


def _posed(joints: F64, draw: Iterator[F64]) -> F64:
    """Turn limbs about their roots, the same in every frame of a window."""
    out = joints.copy()
    for names, much in _TURNED:
        rows = [CANONICAL.index(n) for n in names]
        turn = _turns(next(draw), next(draw), next(draw), much)
        pivot = out[:, :, rows[:1]]
        out[:, :, rows] = pivot + _seen_along(turn, out[:, :, rows] - pivot)
    return out


def _turns(which: F64, lift: F64, around: F64, much: float) -> F64:
    """(B, 3, 3) rotations about random axes; a share of them turns nothing (Rodrigues)."""
    angle = np.where(which < TURN_SHARE, (2 * which / TURN_SHARE - 1) * much * np.sqrt(3), 0.0)
    z = 2 * lift - 1
    flat = np.sqrt(np.maximum(1 - z * z, 0))
    x, y = flat * np.cos(2 * np.pi * around), flat * np.sin(2 * np.pi * around)
    zero = np.zeros_like(z)
    k = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(-1, 3, 3)
    s, c = np.sin(angle)[:, None, None], np.cos(angle)[:, None, None]
    return np.asarray(np.eye(3) + s * k + (1 - c) * (k @ k))


def _seen_along(axes: F64, points: F64) -> F64:
    """Points (B, W, K, 3) along the rows of (B, 3, 3)."""
    b, w, k, _ = points.shape
    return np.asarray((points.reshape(b, w * k, 3) @ np.swapaxes(axes, 1, 2)).reshape(b, w, k, 3))


def _shift(draws: F64) -> F64:
    """(B, 17, 3) where a detector sees the points of this body, the same in every frame of the window."""
    # A quasi-random spread of one draw over the points: cheap, and enough for a nuisance.
    phase = draws[:, -21, None, None] * 2 * np.pi
    k = np.arange(POINTS * 3, dtype=np.float64).reshape(POINTS, 3)
    return np.asarray(1.4 * np.sin(phase * (1 + k) + 2.4 * k))


def _axes(azimuth: F64, elevation: F64, roll: F64) -> F64:
    """(B, 3, 3) rows: right, up, and towards the camera, in world axes."""
    ca, sa, ce, se = np.cos(azimuth), np.sin(azimuth), np.cos(elevation), np.sin(elevation)
    back = np.stack([sa * ce, se, ca * ce], -1)
    right = np.stack([ca, np.zeros_like(ca), -sa], -1)
    up = np.cross(back, right)
    c, s = np.cos(roll)[:, None], np.sin(roll)[:, None]
    return np.stack([c * right + s * up, c * up - s * right, back], 1)


def _blur(px: F64, size: F64, drops: F64, noise: F64) -> tuple[F32, F32]:
    sigma = _between(size, NOISE_PX)[:, None, None, None]
    error = noise.copy()
    for w in range(1, px.shape[1]):
        error[:, w] = CORRELATION * error[:, w - 1] + np.sqrt(1 - CORRELATION**2) * noise[:, w]
    points = (px + sigma * error[..., :2]).astype(np.float32)
    off = np.sqrt((error[..., :2] ** 2).sum(-1)) * sigma[..., 0]
    confidence = np.clip(1 - 0.02 * off + 0.05 * noise[..., 2], 0.2, 1.0).astype(np.float32)
    gone = error[..., 2] < _quantile(DROP)
    for k, limb in enumerate(LIMBS):
        gone[:, :, limb] |= (drops[:, k] < DROP_LIMB)[:, None, None]
    points[gone], confidence[gone] = np.nan, 0
    return points, confidence


def _quantile(p: float) -> float:
    from statistics import NormalDist

    return NormalDist().inv_cdf(p)


def _between(u: F64, limits: tuple[float, float]) -> F64:
    return np.asarray(limits[0] + (limits[1] - limits[0]) * u)
