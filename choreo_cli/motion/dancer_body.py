"""Body of the procedural dancer: own proportions, joint angles and planted feet to 22 joint positions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from formats.foreign.joints import CANONICAL
from formats.proportions import ANKLE, ATTACHED, FOOT, FOREARM, SHANK, STATURE_M, THIGH, UPPER_ARM

F64 = NDArray[np.float64]

_PELVIS = 0.540  # height of the pelvis in the ready stance, knees bent
_REACH = 0.998  # of the leg: a knee never locks


def pose_body(root: F64, dof: Mapping[str, F64], feet: Sequence[F64], height_m: float) -> F64:
    """Place the joints.

    Args:
        root: (T, 3) pelvis: floor x, height above the ready stance, floor z, in metres of a 1.70 m dancer.
        dof: Angles (T,) in rad: yaw, pitch, roll, chest_x/y/z, nod and raise, swing, flex of each arm.
        feet: Left and right (T, 4): floor x, z, heading, lift.
        height_m: Stature.

    Returns:
        (T, 22, 3) metres; every bone has the same length in every frame.
    """
    h, k = height_m, height_m / STATURE_M
    out = np.empty((len(root), len(CANONICAL), 3))
    at = {name: i for i, name in enumerate(CANONICAL)}
    pelvis = root * k + np.array([0.0, _PELVIS * h, 0.0])
    rp = _matmul(_rot(1, dof["yaw"]), _matmul(_rot(0, dof["pitch"]), _rot(2, dof["roll"])))
    third = [_matmul(rp, _euler(dof, f)) for f in (1 / 3, 2 / 3, 1.0)]
    out[:, 0] = pelvis
    for name in ("l_hip", "r_hip", "spine1"):
        out[:, at[name]] = pelvis + _apply(rp, _off(name, h))
    out[:, at["spine2"]] = out[:, at["spine1"]] + _apply(third[0], _off("spine2", h))
    out[:, at["chest"]] = out[:, at["spine2"]] + _apply(third[1], _off("chest", h))
    rc = third[2]
    for name in ("neck", "l_collar", "r_collar", "l_shoulder", "r_shoulder"):
        out[:, at[name]] = out[:, at["chest"]] + _apply(rc, _off(name, h))
    out[:, at["head"]] = out[:, at["neck"]] + _apply(_matmul(rc, _rot(0, dof["nod"])), _off("head", h))
    for side, sigma, foot in (("l", 1.0, feet[0]), ("r", -1.0, feet[1])):
        upper, fore = _arm(dof[f"{side}_raise"], dof[f"{side}_swing"], dof[f"{side}_flex"], sigma)
        out[:, at[f"{side}_elbow"]] = out[:, at[f"{side}_shoulder"]] + _apply(rc, upper) * (UPPER_ARM * h)
        out[:, at[f"{side}_wrist"]] = out[:, at[f"{side}_elbow"]] + _apply(rc, fore) * (FOREARM * h)
        knee, ankle, toe = _leg(out[:, at[f"{side}_hip"]], foot, rp, sigma, h)
        out[:, at[f"{side}_knee"]], out[:, at[f"{side}_ankle"]], out[:, at[f"{side}_toe"]] = knee, ankle, toe
    return out


def _off(name: str, height_m: float) -> F64:
    # Shoulders are given from the chest, as collars are: both turn with it, so the collarbone keeps its length.
    return np.array(ATTACHED[name]) * height_m


def _rot(axis: int, a: F64) -> F64:
    """(T, 3, 3) rotations about one axis; about y, `Ry(a) = [[cos,0,sin],[0,1,0],[-sin,0,cos]]`."""
    m = np.zeros((len(a), 3, 3))
    i, j = (axis + 1) % 3, (axis + 2) % 3
    m[:, axis, axis] = 1.0
    m[:, i, i] = m[:, j, j] = np.cos(a)
    m[:, j, i] = np.sin(a)
    m[:, i, j] = -m[:, j, i]
    return m


def _euler(dof: Mapping[str, F64], part: float) -> F64:
    turn = _matmul(_rot(1, part * dof["chest_y"]), _rot(0, part * dof["chest_x"]))
    return _matmul(turn, _rot(2, part * dof["chest_z"]))


def _matmul(a: F64, b: F64) -> F64:
    # Not `@`: a BLAS may sum in another order with another thread count, and the bytes must not depend on it.
    return np.asarray((a[:, :, :, None] * b[:, None, :, :]).sum(2))


def _apply(m: F64, v: F64) -> F64:
    return np.asarray((m * (v[:, None, :] if v.ndim == 2 else v)).sum(-1))


def _unit(v: F64) -> F64:
    return np.asarray(v / np.maximum(np.sqrt((v * v).sum(-1, keepdims=True)), 1e-9))


def _arm(lift: F64, swing: F64, flex: F64, sigma: float) -> tuple[F64, F64]:
    """Unit directions (T, 3) of upper arm and forearm in the chest frame."""
    a, s, f = np.clip(lift, 0.1, 2.6), np.clip(swing, -0.4, 1.4), np.clip(flex, 0.15, 2.4)
    upper = np.stack([sigma * np.sin(a) * np.cos(s), -np.cos(a), np.sin(a) * np.sin(s)], -1)
    pole = np.array([-0.3 * sigma, 0.5, 0.8])
    across = _unit(pole - (upper * pole).sum(-1, keepdims=True) * upper)
    fore = np.cos(f)[:, None] * upper + np.sin(f)[:, None] * across
    return upper, fore


def _leg(hip: F64, foot: F64, rp: F64, sigma: float, h: float) -> tuple[F64, F64, F64]:
    """Knee, ankle and toe (T, 3): two bones from the hip to the planted ankle, knee forward."""
    k = h / STATURE_M
    l1, l2 = THIGH * h, SHANK * h
    want = np.stack([foot[:, 0] * k, ANKLE * h + foot[:, 3] * k, foot[:, 1] * k], -1)
    line = want - hip
    n = _unit(line)
    r = np.clip(np.sqrt((line * line).sum(-1)), abs(l1 - l2) + 1e-3, _REACH * (l1 + l2))[:, None]
    ankle = hip + n * r  # out of reach, the foot leaves the floor rather than stretch the leg
    pole = _apply(rp, np.array([0.2 * sigma, 0.0, 1.0]))
    forward = _unit(pole - (pole * n).sum(-1, keepdims=True) * n)
    x = (r * r + l1 * l1 - l2 * l2) / (2 * r)
    knee = hip + n * x + forward * np.sqrt(np.maximum(l1 * l1 - x * x, 0.0))
    lift = ankle[:, 1] - ANKLE * h
    drop = np.clip(0.49 + 3.0 * np.maximum(lift, 0.0), 0.49, 1.2)
    toe = np.stack([np.cos(drop) * np.sin(foot[:, 2]), -np.sin(drop), np.cos(drop) * np.cos(foot[:, 2])], -1)
    return knee, ankle, ankle + toe * (FOOT * h)
