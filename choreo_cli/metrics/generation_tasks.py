"""Given frames: how exactly they are kept, and whether what is made between or after them beats a simple rule.

Poses are compared in the dancer's own heading frame at the floor below the pelvis (`pose`), so that a path that went
elsewhere does not hide a good pose, and in the room (`room`), where the root's speeds are summed from the first frame.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from formats.motion_npz import Skeleton

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

HORIZONS_S = (0.1, 0.25, 0.5, 1.0)
PATH = (0, 1, 3)  # speeds of the root and its turn rate
SEAM_FRAMES = 2


def kept_exactly(made: F32, known: F32, flags: Bool) -> float:
    """Largest difference from the given values where `flags` (T, 25) says so; 0 is exact."""
    if not flags.any():
        return 0.0
    return float(np.abs(np.asarray(made, np.float64) - np.asarray(known, np.float64))[flags].max())


def pose_joints(channels: F32, skeleton: Skeleton, fps: float) -> F64:
    """(T, 22, 3) joints in the heading frame of every frame, floor at 0."""
    from choreo_cli.motion.choreo25 import decode_channels

    still = np.array(channels, np.float64)
    still[:, PATH] = 0.0
    return decode_channels(still, skeleton, fps)


def room_joints(channels: F32, skeleton: Skeleton, fps: float) -> F64:
    """(T, 22, 3) joints in the room, from the origin."""
    from choreo_cli.motion.choreo25 import decode_channels

    return decode_channels(channels, skeleton, fps)


def error(made: F64, real: F64, frames: Sequence[int] | NDArray[np.integer]) -> float:
    """Mean distance of joints over some frames, metres."""
    rows = np.asarray(frames, np.int64)
    return float(np.linalg.norm(made[rows] - real[rows], axis=-1).mean())


def repeat_last(joints: F64, prefix: int) -> F64:
    """The last given frame, again and again."""
    out = joints.copy()
    out[prefix:] = joints[prefix - 1]
    return out


def constant_velocity(joints: F64, prefix: int) -> F64:
    """The last given frame, moving on as it did from the frame before; with one given frame it stands."""
    out = joints.copy()
    step = joints[prefix - 1] - joints[prefix - 2] if prefix > 1 else np.zeros_like(joints[0])
    out[prefix:] = joints[prefix - 1] + np.arange(1, len(joints) - prefix + 1)[:, None, None] * step
    return out


def interpolation(joints: F64, given: Sequence[int]) -> F64:
    """Every joint on the straight line between the given frames around it; outside them it stands."""
    rows = np.asarray(sorted(set(given)), np.int64)
    flat = joints.reshape(len(joints), -1)
    at = np.arange(len(joints))
    out = np.stack([np.interp(at, rows, column) for column in flat[rows].T], axis=1)
    return out.reshape(joints.shape)


def seam(joints: F64, given: Bool) -> float | None:
    """Largest acceleration where given frames meet made ones, over the 99th percentile inside both; None without one.

    Args:
        joints: (T, 22, 3).
        given: (T,) which frames are given.
    """
    push = np.linalg.norm(np.diff(joints, n=2, axis=0), axis=-1).max(-1)
    edges = np.flatnonzero(np.diff(given.astype(np.int8)) != 0)
    near = np.zeros(len(push), bool)
    for k in edges:
        near[max(0, k - SEAM_FRAMES) : k + SEAM_FRAMES] = True
    if not near.any() or near.all():
        return None
    inside = float(np.quantile(push[~near], 0.99))
    return float(push[near].max()) / inside if inside > 0 else None


def predicted(made: F32, real: F32, skeleton: Skeleton, fps: float, prefix: int) -> dict[str, float]:
    """Errors (m, in the room) of a continuation and of the two rules: over all frames, and at four horizons."""
    truth, found = (room_joints(c, skeleton, fps) for c in (real, made))
    arms = {"made": found, "repeat_last": repeat_last(truth, prefix), "velocity": constant_velocity(truth, prefix)}
    after = np.arange(prefix, len(real))
    out = {name: error(j, truth, after) for name, j in arms.items()}
    for horizon in HORIZONS_S:
        k = prefix - 1 + round(horizon * fps)
        if k < len(real):
            out |= {f"{name}@{horizon:g}": error(j, truth, [k]) for name, j in arms.items()}
    return out


def filled(made: F32, real: F32, skeleton: Skeleton, fps: float, given: Sequence[int]) -> dict[str, float]:
    """Errors (m, poses) of what was made between given frames, and of interpolation; and the seams."""
    truth, found = (pose_joints(c, skeleton, fps) for c in (real, made))
    between = np.setdiff1d(np.arange(len(real)), np.asarray(given))
    flags = np.zeros(len(real), bool)
    flags[np.asarray(given)] = True
    line = interpolation(truth, given)
    edge = seam(room_joints(made, skeleton, fps), flags)
    out = {"made": error(found, truth, between), "interpolation": error(line, truth, between)}
    return out | ({} if edge is None else {"seam": edge})
