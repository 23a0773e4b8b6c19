"""Analytic lifting with constant bone lengths: what a learned one has to beat.

Every bone keeps its usual length, so its foreshortening in the image gives its depth, up to a sign (Taylor,
Reconstruction of articulated objects from point correspondences, CVIU 80, 2000). The sign follows from where the body
faces.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from choreo_cli.motion.lifting import HEIGHT_M
from choreo_cli.motion.lifting_points import centred
from formats.foreign.joints import CANONICAL, COCO_17

F64 = NDArray[np.float64]

WINDOW = 9
# Lengths as fractions of stature (motion.md section 7).
_THIGH, _SHANK, _UPPER, _FORE, _TRUNK, _ACROSS, _HIPS, _FOOT = 0.235, 0.246, 0.155, 0.150, 0.31, 0.22, 0.10, 0.08
# (near, far, length, sign of the depth of the far end when the body faces the camera): knees and elbows bend one way.
_BONES = (
    ("hip", "knee", _THIGH, 1.0), ("knee", "ankle", _SHANK, -1.0), ("shoulder", "elbow", _UPPER, -1.0),
    ("elbow", "wrist", _FORE, 1.0),
)  # fmt: skip
_POINT = {name: i for i, name in enumerate(COCO_17)}
_AT = {name: i for i, name in enumerate(CANONICAL)}


def lift_constant(points: ArrayLike, confidence: ArrayLike, *, height_m: float = HEIGHT_M) -> F64:
    """Joints (T, 22, 3) in camera axes, pelvis 0, by constant bones of a body of `height_m`.

    Args:
        points: (T, 17, 2) pixels, y down; NaN where missing. A missing point keeps its last place about the hips.
        confidence: (T, 17), 0 where missing.
    """
    about, _, _ = centred(points, confidence)
    xy = _held(np.where(about[..., 2:] > 0, about[..., :2], np.nan).astype(np.float64))
    unit = xy / _pixels(xy)[:, None, None]
    facing, turned = _facing(unit)
    out = np.zeros((len(unit), len(CANONICAL), 3))
    hips, shoulders = (_middle(unit, part) for part in ("hip", "shoulder"))
    # Upright trunks look short by noise more often than by leaning: taken at its word, the lean doubles the error.
    trunk = _deep(shoulders - hips, _TRUNK, np.zeros(len(unit)))
    for side, sigma in (("l", 1.0), ("r", -1.0)):
        for part, base, wide in (("hip", np.zeros_like(trunk), _HIPS), ("shoulder", trunk, _ACROSS)):
            at = unit[:, _POINT[f"{side}_{part}"]] - hips
            half = _deep(at - base[:, :2], wide / 2, sigma * turned)
            out[:, _AT[f"{side}_{part}"]] = base + half
        for near, far, length, sign in _BONES:
            step = unit[:, _POINT[f"{side}_{far}"]] - unit[:, _POINT[f"{side}_{near}"]]
            out[:, _AT[f"{side}_{far}"]] = out[:, _AT[f"{side}_{near}"]] + _deep(step, length, sign * facing)
        ahead = np.stack([0.5 * turned * -1, np.full(len(unit), -0.49), 0.87 * facing], -1)
        out[:, _AT[f"{side}_toe"]] = out[:, _AT[f"{side}_ankle"]] + _FOOT * ahead
        out[:, _AT[f"{side}_collar"]] = trunk * 0.95 + 0.4 * (out[:, _AT[f"{side}_shoulder"]] - trunk)
    for name, share in (("spine1", 0.21), ("spine2", 0.47), ("chest", 0.59), ("neck", 1.0), ("head", 1.16)):
        out[:, _AT[name]] = trunk * share
    # The pelvis lies above the middle of the hips.
    pelvis = trunk / np.maximum(np.linalg.norm(trunk, axis=-1, keepdims=True), 1e-9) * 0.045
    out[:, 1:] -= pelvis[:, None]
    return np.asarray(out * height_m)


def _held(xy: F64) -> F64:
    """The last known place of every point; the middle of the hips before it was ever seen."""
    known = np.isfinite(xy).all(-1)
    last = np.maximum.accumulate(np.where(known, np.arange(len(xy))[:, None], 0), axis=0)
    return np.nan_to_num(np.take_along_axis(xy, last[..., None], axis=0))


def _pixels(xy: F64) -> F64:
    """Pixels per stature: no bone may look longer than it is, on the median of the last frames."""
    longest = np.zeros(len(xy))
    for side in "lr":
        for near, far, length, _ in _BONES:
            gap = np.linalg.norm(xy[:, _POINT[f"{side}_{far}"]] - xy[:, _POINT[f"{side}_{near}"]], axis=-1)
            longest = np.maximum(longest, gap / length)
    trunk = np.linalg.norm(_middle(xy, "shoulder") - _middle(xy, "hip"), axis=-1) / _TRUNK
    rows = np.maximum(np.arange(len(xy))[:, None] + np.arange(1 - WINDOW, 1), 0)
    return np.asarray(np.maximum(np.median(np.maximum(longest, trunk)[rows], axis=1), 1e-6))


def _middle(xy: F64, part: str) -> F64:
    return np.asarray((xy[:, _POINT[f"l_{part}"]] + xy[:, _POINT[f"r_{part}"]]) / 2)


def _facing(unit: F64) -> tuple[F64, F64]:
    """+1 where the body faces the camera, -1 where away; +1 where its left side is nearer, -1 where farther."""
    across = unit[:, _POINT["l_shoulder"], 0] - unit[:, _POINT["r_shoulder"], 0]
    facing = np.where(across >= 0, 1.0, -1.0)
    nose = unit[:, _POINT["nose"], 0] - (unit[:, _POINT["l_ear"], 0] + unit[:, _POINT["r_ear"], 0]) / 2
    return facing, np.where(nose > 0, -1.0, 1.0)


def _deep(step: F64, length: float, sign: F64) -> F64:
    """A bone (T, 3) from its image (T, 2) in statures: the depth that is left of its length."""
    flat = np.linalg.norm(step, axis=-1)
    seen = step * np.minimum(1.0, length / np.maximum(flat, 1e-9))[:, None]
    depth = np.sqrt(np.maximum(length**2 - (seen**2).sum(-1), 0.0))
    return np.concatenate([seen, (sign * depth)[:, None]], -1)
