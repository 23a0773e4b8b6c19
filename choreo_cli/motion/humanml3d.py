"""The 263 features a frame of HumanML3D, from joints and back (Guo et al., Generating Diverse and Natural 3D Human
Motions from Text, CVPR 2022; layout and facts in motion.md sections 9 and 10)."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import DataError
from choreo_cli.motion.choreo25 import decode, encode
from choreo_cli.motion.interpolate import resample_joints
from formats.foreign.humanml3d import recover_joints
from formats.motion_npz import MotionClip, Skeleton

F64 = NDArray[np.float64]

__all__ = [
    "FPS", "WIDTH", "canonical_joints", "clip_of_features", "features263", "features_of_clip", "features_of_joints",
    "recovered_joints", "retarget_bones",
]  # fmt: skip

FPS, WIDTH = 20.0, 263
# Squared displacement of a foot joint in one step, m^2.
FEET_THRESHOLD = 0.002
ROOT, POSITIONS, ROTATIONS, VELOCITIES, CONTACTS = (
    slice(0, 4), slice(4, 67), slice(67, 193), slice(193, 259), slice(259, 263),
)  # fmt: skip
_SMOOTH_FRAMES = 20.0
_FEET = [7, 10, 8, 11]
# right hip, left hip, right shoulder, left shoulder
_R_HIP, _L_HIP, _R_SHOULDER, _L_SHOULDER = 2, 1, 17, 16
# Chains the rotations run along; arms start anew at the chest.
_CHAINS = ((0, 2, 5, 8, 11), (0, 1, 4, 7, 10), (0, 3, 6, 9, 12, 15), (9, 14, 17, 19, 21), (9, 13, 16, 18, 20))
# Axis of every bone in the format's rest pose.
_AXES = np.array(
    [[0, 0, 0], [1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, -1, 0], [0, 1, 0], [0, -1, 0], [0, -1, 0], [0, 1, 0],
     [0, 0, 1], [0, 0, 1], [0, 1, 0], [1, 0, 0], [-1, 0, 0], [0, 0, 1], [0, -1, 0], [0, -1, 0], [0, -1, 0], [0, -1, 0],
     [0, -1, 0], [0, -1, 0]], float,
)  # fmt: skip


def features263(
    joints: F64,
    *,
    target_offsets: F64 | None = None,
    floor: float | None = None,
    feet_threshold: float = FEET_THRESHOLD,
) -> tuple[F64, F64]:
    """Features of a clip at 20 fps.

    Args:
        joints: (T, 22, 3) metres, y up, T >= 2, at 20 frames a second.
        target_offsets: (22, 3) or (22,) bones to retarget to, of which only the length counts; None keeps the body.
        floor: Height that becomes 0; None takes that of the lowest joint of all frames, as the format does.
        feet_threshold: A foot joint stands when it moves less than this in one step, squared metres.

    Returns:
        Features (T - 1, 263); the joints they describe (T, 22, 3), on the floor, starting above the origin facing +z.

    Raises:
        DataError: another shape, fewer than two frames, values that are not finite, or bones of no length.
    """
    p = canonical_joints(_checked(joints), target_offsets, floor)
    turn = _root_turn(p)
    rotations = _rotations(p, turn)
    step = np.diff(p, axis=0)
    local = p.copy()
    local[..., [0, 2]] -= p[:, :1, [0, 2]]
    local = _rotate(turn[:, None], local)
    root = np.empty((len(p) - 1, 4))
    change = _multiply(turn[1:], _conjugate(turn[:-1]))
    # q and -q are one rotation; past half a turn from the start the published code takes the other one and records
    # that step's turn with the wrong sign. Here the path stays recoverable.
    root[:, 0] = np.arcsin(np.clip(np.copysign(change[:, 2], change[:, 2] * change[:, 0]), -1, 1))
    root[:, 1:3] = _rotate(turn[1:], step[:, 0])[:, [0, 2]]
    root[:, 3] = p[:-1, 0, 1]
    feet = (step[:, _FEET] ** 2).sum(-1) < feet_threshold
    n = len(step)
    return np.concatenate(
        [
            root, local[:-1, 1:].reshape(n, -1), rotations[:-1].reshape(n, -1),
            _rotate(turn[:-1, None], step).reshape(n, -1), feet.astype(np.float64),
        ],
        1,
    ), p  # fmt: skip


def recovered_joints(features: F64) -> F64:
    """Joints (T, 22, 3) of features (T, 263) that are not normalised; positions are the truth, rotations unused.

    Raises:
        DataError: another shape.
    """
    found = np.asarray(features, np.float64)
    if found.ndim != 2 or found.shape[1] != WIDTH or not len(found):
        raise DataError(f"features of shape {found.shape}", hint=f"(frames, {WIDTH}) is needed")
    return recover_joints(found)


def canonical_joints(joints: F64, target_offsets: F64 | None = None, floor: float | None = None) -> F64:
    """Retarget, put on the floor, start above the origin, face +z in the first frame: (T, 22, 3) -> (T, 22, 3)."""
    p = np.array(joints, np.float64)
    if target_offsets is not None:
        p = retarget_bones(p, target_offsets)
    p[..., 1] -= p[..., 1].min() if floor is None else floor
    p[..., [0, 2]] -= p[0, 0, [0, 2]]
    return _rotate(_between(_unit(_facing(p[:1])), _FORWARD), p)


def retarget_bones(joints: F64, target_offsets: F64) -> F64:
    """Keep every bone's direction and give it the target's length; the root's path scales with the left leg.

    Args:
        joints: (T, 22, 3).
        target_offsets: (22, 3) or (22,) lengths, metres.
    """
    target = np.asarray(target_offsets, np.float64)
    lengths = target if target.ndim == 1 else np.sqrt((target**2).sum(-1))
    if lengths.shape != (22,):
        raise DataError(f"target offsets of shape {target.shape}", hint="(22, 3) or (22,) is needed")
    own = [float(np.sqrt(((joints[0, b] - joints[0, a]) ** 2).sum())) for a, b in ((2, 5), (5, 8))]
    out = np.empty_like(joints)
    out[:, 0] = joints[:, 0] * ((lengths[5] + lengths[8]) / max(sum(own), 1e-9))
    for chain in _CHAINS:
        for a, b in pairwise(chain):
            out[:, b] = out[:, a] + _unit(joints[:, b] - joints[:, a]) * lengths[b]
    return out


def features_of_joints(
    joints: F64, fps: float, *, target_offsets: F64 | None = None, floor: float | None = None
) -> tuple[F64, F64]:
    """Features of a clip at any rate: resampled to 20 fps first. Arguments, result and errors as `features263`."""
    at_rate = joints if fps == FPS else resample_joints(_checked(joints), fps, FPS)
    return features263(at_rate, target_offsets=target_offsets, floor=floor)


def features_of_clip(clip: MotionClip, *, target_offsets: F64 | None = None) -> tuple[F64, F64]:
    """Features of a choreo25 clip: decoded, at 20 fps. Raises DataError as `features263`.

    The floor comes from the ankles, which are exact, and the toe of a flat foot: one decoded toe that dips too low
    would lift the whole clip.
    """
    joints = decode(clip)
    s = clip.header.skeleton
    floor = float((joints[:, 7:9, 1].min(0) + s.foot * s.toe_b[:, 1]).min())
    return features_of_joints(
        joints, clip.header.fps, target_offsets=target_offsets, floor=floor if target_offsets is None else None
    )


def clip_of_features(features: F64, skeleton: Skeleton | None = None) -> MotionClip:
    """A choreo25 clip of features (T, 263). Raises DataError for another shape."""
    return encode(recovered_joints(features), FPS, skeleton=skeleton, source={"format": "humanml3d", "fps": FPS})


_FORWARD = np.array([0.0, 0.0, 1.0])


def _checked(joints: F64) -> F64:
    p = np.asarray(joints, np.float64)
    if p.ndim != 3 or p.shape[1:] != (22, 3):
        raise DataError(f"joints of shape {p.shape}", hint="(frames, 22, 3) is needed")
    if len(p) < 2:
        raise DataError(f"{len(p)} frames", hint="features are differences: two frames are needed at least")
    if not np.isfinite(p).all():
        raise DataError("joints that are not finite", hint="fill or cut the gaps first")
    return p


def _facing(p: F64, hips: float = 1.0) -> F64:
    """Horizontal direction (T, 3) the body faces, shorter where hips and shoulders lean: up x (right minus left)."""
    across = hips * (p[:, _R_HIP] - p[:, _L_HIP]) + (p[:, _R_SHOULDER] - p[:, _L_SHOULDER])
    across = _unit(across)
    return np.stack([across[:, 2], np.zeros(len(p)), -across[:, 0]], -1)


def _root_turn(p: F64) -> F64:
    """Quaternions (T, 4) that take the smoothed facing to +z; the first is the identity."""
    from scipy.ndimage import gaussian_filter1d

    # As published: the rotation's own inverse kinematics names the two hips the other way round, so their line is
    # subtracted from the shoulders'. Every data set and model in this format has it.
    smooth = _unit(gaussian_filter1d(_facing(p, hips=-1.0), _SMOOTH_FRAMES, axis=0, mode="nearest"))
    turn = _between(smooth, np.broadcast_to(_FORWARD, smooth.shape))
    turn[0] = (1.0, 0.0, 0.0, 0.0)
    return turn


def _rotations(p: F64, turn: F64) -> F64:
    """6-D rotations (T, 21, 6) of joints 1 to 21 in their parents' frames, without twist."""
    out = np.empty((len(p), 22, 4))
    for chain in _CHAINS:
        parent = turn
        for a, b in pairwise(chain):
            world = _between(np.broadcast_to(_AXES[b], (len(p), 3)), _unit(p[:, b] - p[:, a]))
            out[:, b] = _multiply(_conjugate(parent), world)
            parent = world
    return _six(out[:, 1:])


def _six(q: F64) -> F64:
    """First two columns of the rotation matrices of unit quaternions: (..., 4) -> (..., 6)."""
    w, x, y, z = np.moveaxis(q, -1, 0)
    first = [1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y)]
    second = [2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x)]
    return np.stack([*first, *second], -1)


def _between(a: F64, b: F64) -> F64:
    """Shortest rotations of unit vectors a to b: (..., 3) -> (..., 4); opposite ones turn about an axis across."""
    a, b = np.broadcast_arrays(a, b)
    q = np.concatenate([1 + (a * b).sum(-1, keepdims=True), np.cross(a, b)], -1)
    size = np.sqrt((q * q).sum(-1, keepdims=True))
    if (size < 1e-9).any():
        aside = np.cross(a, np.where(np.abs(a[..., :1]) < 0.7, np.eye(3)[0], np.eye(3)[1]))
        half = np.concatenate([np.zeros_like(aside[..., :1]), _unit(aside)], -1)
        q, size = np.where(size < 1e-9, half, q), np.where(size < 1e-9, 1.0, size)
    return np.asarray(q / size)


def _multiply(a: F64, b: F64) -> F64:
    w = a[..., :1] * b[..., :1] - (a[..., 1:] * b[..., 1:]).sum(-1, keepdims=True)
    v = a[..., :1] * b[..., 1:] + b[..., :1] * a[..., 1:] + np.cross(a[..., 1:], b[..., 1:])
    return np.concatenate([w, v], -1)


def _conjugate(q: F64) -> F64:
    return np.asarray(q * np.array([1.0, -1.0, -1.0, -1.0]))


def _rotate(q: F64, v: F64) -> F64:
    u = np.broadcast_to(q[..., 1:], v.shape)
    once = 2 * np.cross(u, v)
    return np.asarray(v + q[..., :1] * once + np.cross(u, once))


def _unit(v: F64) -> F64:
    return np.asarray(v / np.maximum(np.sqrt((v * v).sum(-1, keepdims=True)), 1e-9))
