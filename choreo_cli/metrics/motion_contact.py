"""Physical foot contact and balance: the published scores, and one whose units do not depend on the frame rate.

PFC: Tseng, Castellon & Liu, EDGE, CVPR 2023. PBC: Luo et al., POPDG, CVPR 2024. Both are defined at 30 fps with z up;
here joints have y up and the vertical axis is named instead. Lower is better for PFC.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

FPS = 30.0
GRAVITY = 9.81
_FLAT = [0, 2]  # horizontal axes, y up


def _feet_product(joints: F64) -> F64:
    """(T - 2,) product of both feet's smaller horizontal step (ankle or toe) per frame, without dt."""
    steps = np.linalg.norm(np.diff(joints[1:, [7, 10, 8, 11]][..., _FLAT], axis=0), axis=-1)
    return np.asarray(steps[:, :2].min(axis=1) * steps[:, 2:].min(axis=1))


def _root_acceleration(joints: F64, fps: float, *, upward_only: bool) -> F64:
    """(T - 2,) norm of the root's acceleration by forward differences; falling counts as 0 when `upward_only`."""
    a = np.diff(joints[:, 0], n=2, axis=0) * fps**2
    if upward_only:
        a[:, 1] = np.maximum(a[:, 1], 0.0)
    return np.asarray(np.linalg.norm(a, axis=1))


def pfc(joints: F64, fps: float = FPS) -> float | None:
    """PFC of one clip as EDGE computes it, times 10,000; None when the root never accelerates (0/0 there).

    Args:
        joints: (T, >= 12, 3) metres, y up. The reference has z up and 30 fps.
        fps: 30 for figures that are to be compared.
    """
    if len(joints) < 4:
        return None
    a = _root_acceleration(joints, fps, upward_only=True)
    top = float(a.max())
    return None if top <= 0 else float(1e4 * (_feet_product(joints) * a / top).mean())


def pfc_motioncritic(joints: F64, fps: float = FPS) -> float | None:
    """The variant of MotionCritic: acceleration in all directions, and no factor of 10,000."""
    if len(joints) < 4:
        return None
    a = _root_acceleration(joints, fps, upward_only=False)
    top = float(a.max())
    return None if top <= 0 else float((_feet_product(joints) * a / top).mean())


def pbc(joints: F64) -> float | None:
    """PBC of one clip as POPDG computes it, times 10,000, 24 joints at 30 fps; None when a joint never accelerates.

    With wrists in place of hands (22 joints) both steps of a side are the wrist's: call that `pbc22`.
    """
    if len(joints) < 4 or joints.shape[1] < 24:
        return None
    steps = np.linalg.norm(np.diff(joints[1:], axis=0), axis=-1)
    acc = np.linalg.norm(np.diff(joints[:, [13, 14, 12]], n=2, axis=0), axis=-1)
    root = _root_acceleration(joints, FPS, upward_only=True)
    tops = acc.max(axis=0)
    if root.max() <= 0 or (tops <= 0).any():
        return None
    left, right, neck = (acc / tops).T
    balance = (
        0.01 * np.minimum(steps[:, 20], steps[:, 22]) * left
        + 0.01 * np.minimum(steps[:, 21], steps[:, 23]) * right
        + 0.1 * steps[:, 15] * neck
        - _feet_product(joints) * root / root.max()
    )
    return float(1e4 * balance.mean())


def contact_balance(joints: F64, fps: float) -> float | None:
    """Repaired foot contact score: product of both feet's horizontal speed (m/s) times upward-clamped root
    acceleration in g, mean over frames.

    Nothing is divided by a maximum, so one spike hides nothing and a root without motion gives 0. Compare at one rate:
    30 fps, 5 s windows.
    """
    if len(joints) < 4:
        return None
    a = _root_acceleration(joints, fps, upward_only=True) / GRAVITY
    return float((_feet_product(joints) * fps**2 * a).mean())
