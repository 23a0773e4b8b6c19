"""The 17 image points of a body, and what the lifting network sees of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from formats.foreign.joints import CANONICAL, COCO_17
from formats.proportions import LEG_SHARE

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

POINTS = len(COCO_17)
FEATURES = 3 * POINTS  # x, y, confidence
MAX_WINDOW = 9
REST_NOD = 0.27  # half the forward lean of the head bone of usual rigs: faces look ahead, not down
_AT = {name: i for i, name in enumerate(CANONICAL)}
_POINT = {name: i for i, name in enumerate(COCO_17)}
BODY = tuple(_AT[name] for name in COCO_17[5:])  # shoulders to ankles are joints of the skeleton
# Face points from the head joint, in its axes (left, up, forward), as fractions of stature.
_FACE = np.array([
    [0.0, -0.005, 0.065], [0.018, 0.012, 0.050], [-0.018, 0.012, 0.050], [0.045, 0.0, 0.0], [-0.045, 0.0, 0.0],
])  # fmt: skip
_SHOULDERS, _HIPS = (_POINT["l_shoulder"], _POINT["r_shoulder"]), (_POINT["l_hip"], _POINT["r_hip"])
# Lengths that stand in for a foreshortened torso, by how much shorter than the torso they are.
_STAND_INS = tuple(
    (_POINT[a], _POINT[b], f)
    for a, b, f in (
        ("l_shoulder", "r_shoulder", 1.3), ("l_hip", "l_knee", 1.2), ("r_hip", "r_knee", 1.2),
        ("l_knee", "l_ankle", 1.2), ("r_knee", "r_ankle", 1.2),
    )
)  # fmt: skip


def stature(joints: F64) -> F64:
    """Stature (...,) by the length of the legs, of joints (..., 22, 3) in any unit: the mean of both legs over .481."""
    legs = []
    for side in "lr":
        hip, knee, ankle = (joints[..., _AT[f"{side}_{part}"], :] for part in ("hip", "knee", "ankle"))
        legs.append(np.linalg.norm(knee - hip, axis=-1) + np.linalg.norm(ankle - knee, axis=-1))
    return np.asarray(np.mean(legs, axis=0) / LEG_SHARE)


def coco_points(joints: F64, turn: ArrayLike = 0.0, nod: ArrayLike = 0.0) -> F64:
    """The 17 COCO points (..., 17, 3) of 22 joints (..., 22, 3), in the same axes and unit.

    The skeleton holds no turn of the head, so the face looks where the chest does, turned by `turn` about the neck and
    by `nod` down (rad, shapes that broadcast to the leading ones).
    """
    size = stature(joints)[..., None, None]
    up = _unit(joints[..., _AT["head"], :] - joints[..., _AT["neck"], :])
    left = joints[..., _AT["l_shoulder"], :] - joints[..., _AT["r_shoulder"], :]
    left = _unit(left - (left * up).sum(-1, keepdims=True) * up)
    ahead = np.cross(left, up)
    c, s = np.cos(np.asarray(turn))[..., None], np.sin(np.asarray(turn))[..., None]
    left, ahead = c * left - s * ahead, c * ahead + s * left
    down = np.asarray(nod)[..., None] - REST_NOD
    c, s = np.cos(down), np.sin(down)
    up, ahead = c * up + s * ahead, c * ahead - s * up
    axes = np.stack([left, up, ahead], -2)
    face = joints[..., _AT["head"], None, :] + size * (_FACE @ axes)
    return np.concatenate([face, joints[..., BODY, :]], -2)


def centred(points: ArrayLike, confidence: ArrayLike) -> tuple[F32, F32, F32]:
    """Points about the middle of the hips, y up, and how long the torso looks.

    Args:
        points: (T, 17, 2) pixels, y down; NaN where missing.
        confidence: (T, 17) 0..1, 0 where missing.

    Returns:
        (T, 17, 3) x and y in pixels from the middle of the known hips with y up, and the confidence; all 0 for a
        missing point. (T,) torso length in pixels, NaN where it cannot be told. (T, 2) that middle, in image axes,
        NaN where both hips are missing.
    """
    xy, seen = np.array(points, np.float32), np.array(confidence, np.float32)
    seen = np.where(np.isfinite(xy).all(-1) & np.isfinite(seen), np.clip(seen, 0, 1), 0).astype(np.float32)
    xy[seen <= 0] = np.nan
    root = _middle(xy, _HIPS)
    spread = (xy - root[:, None]) * np.array([1, -1], np.float32)
    spread = np.nan_to_num(spread)  # a point is NaN in both coordinates or in none
    held = np.where(np.isfinite(root[:, :1]), seen, np.float32(0))
    return np.concatenate([spread, held[..., None]], -1).astype(np.float32), _torso(xy), root


def _middle(xy: F32, pair: tuple[int, int]) -> F32:
    a, b = xy[:, pair[0]], xy[:, pair[1]]
    return np.asarray(np.where(np.isnan(a), b, np.where(np.isnan(b), a, (a + b) / 2)), np.float32)


def _torso(xy: F32) -> F32:
    seen = [_length(_middle(xy, _SHOULDERS) - _middle(xy, _HIPS))]
    seen += [factor * _length(xy[:, a] - xy[:, b]) for a, b, factor in _STAND_INS]
    longest = np.fmax.reduce(seen)
    return np.where(longest > 1e-6, longest, np.nan).astype(np.float32)


def _length(v: F32) -> F32:
    return np.asarray(np.sqrt((v * v).sum(-1)), np.float32)


def windows(points: F32, torso: F32, window: int) -> F32:
    """What the network sees at every frame: the last `window` frames over the longest torso in them.

    Args:
        points: (T, 17, 3) of `centred`.
        torso: (T,) of `centred`.
        window: Frames; before the start the first frame is repeated.

    Returns:
        (T, window * 51), oldest frame first; NaN rows where no torso length is known in the window.
    """
    rows = np.maximum(np.arange(len(points))[:, None] + np.arange(1 - window, 1), 0)
    return scaled(points[rows], torso[rows])


def scaled(points: F32, torso: F32) -> F32:
    """Windows (B, W, 17, 3) with their torso lengths (B, W) as network inputs (B, W * 51)."""
    size = longest(torso)
    out = points.copy()
    out[..., :2] /= size[:, None, None, None]
    return out.reshape(len(out), -1)


def longest(torso: F32) -> F32:
    """The longest torso (B,) of windows (B, W), NaN where none is known."""
    return np.asarray(np.fmax.reduce(torso, axis=-1), np.float32)


def _unit(v: F64) -> F64:
    return np.asarray(v / np.maximum(np.sqrt((v * v).sum(-1, keepdims=True)), 1e-9))
