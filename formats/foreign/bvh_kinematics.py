"""Forward kinematics of a BVH clip: channel values to joint positions, all frames at once."""

from __future__ import annotations

import numpy as np

from formats.foreign.bvh import BvhClip
from formats.foreign.model import F64

_BLOCK_VALUES = 2**18


def joint_positions(clip: BvhClip, values: F64) -> F64:
    """World positions of every joint, in source units and axes.

    A position channel replaces the joint's OFFSET. Rotations apply in the order of each joint's own channels:
    R = R1 R2 R3 for the channels as listed (Meredith & Maddock, Motion Capture File Formats Explained, 2001).

    Args:
        clip: Joints, parents before children.
        values: (T, C) channel values, degrees and source units.

    Returns:
        (T, J, 3) float64; NaN below a joint whose channels are NaN.
    """
    out = np.empty((len(values), len(clip.joints), 3))
    idle = frozenset(idle_positions(clip))
    block = max(1, _BLOCK_VALUES // len(clip.joints))
    for start in range(0, len(values), block):
        out[start : start + block] = _block(clip, values[start : start + block], idle)
    return out


def idle_positions(clip: BvhClip) -> list[int]:
    """Joints whose position channels are zero in every frame although their OFFSET is not.

    Some exporters write six channels everywhere and fill only the root's positions; taking the zeros at their word
    would fold the whole body into a point.
    """
    found = []
    for index, joint in enumerate(clip.joints):
        at = [joint.first + i for i, (turn, _) in enumerate(joint.channels) if not turn]
        if joint.parent >= 0 and at and any(joint.offset) and not np.any(clip.values[:, at]):
            found.append(index)
    return found


def _block(clip: BvhClip, values: F64, idle: frozenset[int]) -> F64:
    n = len(values)
    out = np.empty((n, len(clip.joints), 3))
    turns: list[F64] = []
    for index, joint in enumerate(clip.joints):
        local = np.tile(np.asarray(joint.offset), (n, 1))
        turn: F64 | None = None
        for i, (rotates, axis) in enumerate(joint.channels):
            column = values[:, joint.first + i]
            if rotates:
                step = axis_rotation(np.deg2rad(column), axis)
                turn = step if turn is None else turn @ step
            elif index not in idle:
                local[:, axis] = column
        if turn is None:
            turn = np.broadcast_to(np.eye(3), (n, 3, 3))
        if joint.parent < 0:
            out[:, index] = local
        else:
            parent = turns[joint.parent]
            out[:, index] = out[:, joint.parent] + np.einsum("tij,tj->ti", parent, local)
            turn = parent @ turn
        turns.append(turn)
    return out


def axis_rotation(angle: F64, axis: int) -> F64:
    """(T, 3, 3) right-handed rotations by `angle` (T,) radians about x, y or z (axis 0, 1, 2)."""
    out = np.zeros((len(angle), 3, 3))
    a, b = (axis + 1) % 3, (axis + 2) % 3
    out[:, axis, axis] = 1.0
    out[:, a, a] = out[:, b, b] = np.cos(angle)
    out[:, b, a] = np.sin(angle)
    out[:, a, b] = -out[:, b, a]
    return out
