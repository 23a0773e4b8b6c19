"""Joints at another frame rate: cubic in time, bones kept, hands and feet where the curve puts them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import DataError
from choreo_cli.motion.joint_checks import bone_lengths
from formats.foreign.joints import PARENTS

F64 = NDArray[np.float64]

_TORSO = (1, 2, 3, 6, 9, 12, 13, 14, 15, 16, 17)
_LIMBS = ((16, 18, 20), (17, 19, 21), (1, 4, 7), (2, 5, 8))
_TOES = (10, 11)


def resample_joints(joints: F64, fps: float, to_fps: float) -> F64:
    """Interpolate joints to another rate; the first frame stays the first, no frame lies beyond the last.

    A cubic spline through every coordinate shortens bones between frames, so the torso is rebuilt outwards with the
    lengths of the source (linear in time). Wrists and ankles stay on their curve, which keeps planted feet planted;
    elbows and knees move to where both bones fit.

    Args:
        joints: (T, 22, 3) metres, finite.
        fps: Rate of the source, Hz.
        to_fps: Wanted rate, Hz.

    Returns:
        (N, 22, 3), N = 1 + floor((T - 1) to_fps / fps).

    Raises:
        DataError: no frames.
    """
    if not len(joints):
        raise DataError("no frames to resample")
    n = 1 + int(np.floor((len(joints) - 1) * to_fps / fps + 1e-9))
    at = np.minimum(np.arange(n) * (fps / to_fps), len(joints) - 1)
    if len(joints) == 1:
        return np.array(joints, np.float64)
    curve = _curve(joints, at)
    lengths = bone_lengths(joints)
    i = np.minimum(at.astype(np.int64), len(joints) - 2)
    share = (at - i)[:, None]
    bones = lengths[i] * (1 - share) + lengths[i + 1] * share
    return rebuild(curve, bones)


def _curve(joints: F64, at: F64) -> F64:
    """Natural cubic spline through every coordinate at fractional frames; a straight line for two frames."""
    from scipy.interpolate import CubicSpline

    t = np.arange(len(joints), dtype=np.float64)
    return np.asarray(CubicSpline(t, joints, axis=0, bc_type="natural")(at))


def rebuild(joints: F64, bones: F64) -> F64:
    """Give every bone its length: torso outwards from the pelvis, elbows and knees between fixed ends.

    Args:
        joints: (T, 22, 3).
        bones: (T, 21) or (21,) lengths of the bones that end in joints 1 to 21.

    Returns:
        (T, 22, 3); an end out of reach is pulled in along its limb.
    """
    out = np.array(joints, np.float64)
    lengths = np.broadcast_to(bones, (len(out), 21))
    for j in _TORSO:
        p = PARENTS[j]
        out[:, j] = out[:, p] + _unit(joints[:, j] - joints[:, p]) * lengths[:, j - 1, None]
    for root, middle, end in _LIMBS:
        out[:, middle], out[:, end] = _limb(
            out[:, root], joints[:, middle], joints[:, end], lengths[:, middle - 1], lengths[:, end - 1]
        )
    for j in _TOES:
        p = PARENTS[j]
        out[:, j] = out[:, p] + _unit(joints[:, j] - joints[:, p]) * lengths[:, j - 1, None]
    return out


def _limb(root: F64, middle: F64, end: F64, l1: F64, l2: F64) -> tuple[F64, F64]:
    """Middle and end of a limb whose bones have lengths l1 and l2, nearest to those given."""
    reach = end - root
    n = _unit(reach)
    r = np.clip(np.sqrt((reach * reach).sum(-1)), np.abs(l1 - l2), l1 + l2)
    x = (r * r + l1 * l1 - l2 * l2) / np.maximum(2 * r, 1e-9)
    bend = middle - root
    side = _unit(bend - (bend * n).sum(-1, keepdims=True) * n)
    g = np.sqrt(np.maximum(l1 * l1 - x * x, 0.0))
    return root + n * x[:, None] + side * g[:, None], root + n * r[:, None]


def _unit(v: F64) -> F64:
    return np.asarray(v / np.maximum(np.sqrt((v * v).sum(-1, keepdims=True)), 1e-9))
