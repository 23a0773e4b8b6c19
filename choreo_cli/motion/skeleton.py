"""Skeletons of the 22-joint body: fitted to a clip, the canonical one, mirrored (motion.md sections 4 and 7)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import DataError
from choreo_cli.motion.algebra import cross, dot, exp_matrix, fractions, quaternion_matrix, turn, turn_back, unit
from choreo_cli.motion.algebra import horn as horn_rotation
from choreo_cli.motion.forward_kinematics import Body, body_of, knees
from choreo_cli.motion.inverse_kinematics import (
    CHEST_POINTS,
    CHEST_WEIGHTS,
    ITERATIONS,
    PELVIS_POINTS,
    PELVIS_WEIGHTS,
    Pelvis,
    ankle_channels,
    chest_fit,
    chest_start,
    pelvis_of,
)
from choreo_cli.motion.limbs import REACH_M, toe_frames, toe_weight
from formats.motion_npz import Skeleton
from formats.proportions import ANKLE, ATTACHED, FOOT, FOREARM, LEG_SHARE, SHANK, THIGH, UPPER_ARM

F64 = NDArray[np.float64]

__all__ = ["LEG_SHARE", "canonical_skeleton", "fit_skeleton", "fit_skeletons", "mirror_skeleton", "stature"]

KNEE_BIASES = tuple(round(-0.2 + 0.1 * k, 1) for k in range(11))
# Frames per block: long enough that calls cost little, short enough that temporaries stay in the cache.
BLOCK = 1024
# Means over more frames than this change no offset by a tenth of a millimetre; longer clips are thinned evenly.
FIT_FRAMES = 1024
_ALTERNATIONS, _REFINEMENTS = 6, 3
_STRETCH = 0.01  # bones that vary more are not rigid: the reach clamp reports them
_SETTLED_M = 1e-9  # a rigid rig settles at once
_SWAP = (1, 0)
# Some rigs hang both arms on the chest itself.
_COLLARS_M = 0.01


def stature(skeleton: Skeleton) -> float:
    """Stature in metres by the length of the legs."""
    return float((skeleton.thigh.mean() + skeleton.shank.mean()) / LEG_SHARE)


def canonical_skeleton(height_m: float = 1.70) -> Skeleton:
    """The project's own skeleton in round fractions of stature.

    Raises:
        DataError: a height that is not a positive number.
    """
    if not (np.isfinite(height_m) and height_m > 0):
        raise DataError(f"a height of {height_m} m", hint="give metres, for example 1.70")
    pair = np.ones(2) * height_m
    forward = np.array([[0.0, -0.45, 0.9], [0.0, -0.45, 0.9]])
    toe = forward / np.sqrt((forward**2).sum(1, keepdims=True))
    return Skeleton(
        op=_attached("l_hip", "r_hip", "spine1") * height_m,
        o6=_attached("spine2")[0] * height_m,
        o9=_attached("chest")[0] * height_m,
        oc=_attached("neck", "l_collar", "r_collar", "l_shoulder", "r_shoulder") * height_m,
        o15=_attached("head")[0] * height_m,
        upper_arm=UPPER_ARM * pair, forearm=FOREARM * pair, thigh=THIGH * pair, shank=SHANK * pair, foot=FOOT * pair,
        kb=0.2, ank0=ANKLE * pair, toe_a=toe.copy(), toe_b=toe.copy(),
    )  # fmt: skip


def _attached(*names: str) -> F64:
    return np.array([ATTACHED[name] for name in names])


def mirror_skeleton(skeleton: Skeleton) -> Skeleton:
    """The skeleton of the mirror image: sides swapped, x negated."""
    flip = np.array([-1.0, 1.0, 1.0])
    swap = list(_SWAP)
    return replace(
        skeleton,
        op=skeleton.op[[1, 0, 2]] * flip, o6=skeleton.o6 * flip, o9=skeleton.o9 * flip,
        oc=skeleton.oc[[0, 2, 1, 4, 3]] * flip, o15=skeleton.o15 * flip,
        upper_arm=skeleton.upper_arm[swap], forearm=skeleton.forearm[swap], thigh=skeleton.thigh[swap],
        shank=skeleton.shank[swap], foot=skeleton.foot[swap], ank0=skeleton.ank0[swap],
        toe_a=skeleton.toe_a[swap] * flip, toe_b=skeleton.toe_b[swap] * flip,
    )  # fmt: skip


def fit_skeleton(joints: F64) -> Skeleton:
    """Fit the skeleton of one clip.

    Args:
        joints: (T, 22, 3) metres, y up, finite.

    Raises:
        DataError: no frames, a wrong shape, values that are not finite, or joints that coincide.
    """
    return fit_skeletons([joints])


def fit_skeletons(clips: Sequence[F64]) -> Skeleton:
    """Fit one skeleton to several clips of one performer (T_k, 22, 3). Raises DataError as `fit_skeleton`."""
    for clip in clips:
        if clip.ndim != 3 or clip.shape[1:] != (22, 3):
            raise DataError(f"joints of shape {clip.shape}", hint="22 joints of 3 coordinates are needed")
        if not np.isfinite(clip).all():
            raise DataError("joints that are not finite", hint="fill or cut the gaps first")
    total = sum(len(clip) for clip in clips)
    every = max(1, -(-total // FIT_FRAMES))
    blocks = [b for clip in clips for b in component_blocks(np.asarray(clip[::every], np.float64))]
    n = sum(b.shape[2] for b in blocks)
    if not n:
        raise DataError("no frames to fit a skeleton to")
    lengths = _lengths(blocks, n)
    v = np.zeros(58)
    v[:9] = _alternate(blocks, n, 0, PELVIS_POINTS, PELVIS_WEIGHTS, (1, 2, 3, 0))
    v[15:30] = _alternate(blocks, n, 9, CHEST_POINTS, CHEST_WEIGHTS, (*_across(blocks, n), 12, 9))
    v[33:43] = lengths
    poses = _torso_offsets(v, blocks, n)
    v[37:41] *= np.tile(_leg_stretch(v, clips, poses if every == 1 else None), 2)
    heights = np.concatenate([b[1, 7:9] for b in blocks], -1)
    v[44:46] = np.percentile(heights, 5, axis=-1)
    v[43] = _knee_bias(v, blocks, poses, n)
    v[46:58] = _toe_offsets(v, blocks, poses)
    return Skeleton.of_vector(v)


def component_blocks(joints: F64, size: int = BLOCK) -> Iterator[F64]:
    """Cut (T, 22, 3) into contiguous component-first blocks (3, 22, n)."""
    for start in range(0, len(joints), size):
        yield np.ascontiguousarray(joints[start : start + size].transpose(2, 1, 0))


def _body(v: F64) -> Body:
    return body_of(np, v[:, None])


def _lengths(blocks: Iterable[F64], n: int) -> F64:
    """Mean upper arm, forearm, thigh, shank, foot of each side: (10,)."""
    pairs = ((16, 18), (17, 19), (18, 20), (19, 21), (1, 4), (2, 5), (4, 7), (5, 8), (7, 10), (8, 11))
    a, b = [p[0] for p in pairs], [p[1] for p in pairs]
    total = np.zeros(10)
    for block in blocks:
        d = block[:, b] - block[:, a]
        total += np.sqrt(dot(d, d)).sum(-1)
    if (total / n < 1e-6).any():
        raise DataError("limbs of no length: joints coincide", hint="check the joint map and the units")
    return total / n


def _across(blocks: Sequence[F64], n: int) -> tuple[int, int]:
    """Joints that give the chest its left and right: the collars, or the shoulders where both collars are one point."""
    apart = sum(float(np.sqrt(dot(d, d)).sum()) for d in (b[:, 13] - b[:, 14] for b in blocks)) / n
    return (13, 14) if apart > _COLLARS_M else (16, 17)


def _alternate(
    blocks: Sequence[F64], n: int, origin: int, points: list[int], weights: tuple[float, ...], axes: tuple[int, ...]
) -> F64:
    """Offsets of points from an origin in a frame that turns with them, by alternating frame and offsets."""
    left, right, top, bottom = axes
    turns: list[F64] = []
    for b in blocks:
        x = unit(np, b[:, [left]] - b[:, [right]])
        up = b[:, [top]] - b[:, [bottom]]
        y = unit(np, up - dot(up, x) * x)
        turns.append(np.stack([x, y, cross(np, x, y)], 1))
    away = [b[:, points] - b[:, [origin]] for b in blocks]
    mean = np.zeros((3, len(points)))
    for k in range(_ALTERNATIONS):
        if k:
            turns = [quaternion_matrix(np, horn_rotation(np, mean[..., None], a, weights)) for a in away]
        before = mean
        mean = np.sum([turn_back(r, a).sum(-1) for r, a in zip(turns, away, strict=True)], 0) / n
        if np.abs(mean - before).max() < _SETTLED_M:
            break
    if not np.isfinite(mean).all() or np.abs(mean).max() < 1e-6:
        raise DataError("torso joints coincide", hint="check the joint map and the units")
    return np.asarray(mean.T.reshape(-1))


def _torso_offsets(v: F64, blocks: Sequence[F64], n: int) -> list[Pelvis]:
    """Offsets along the spine and, refined with the fitted chest, those of neck, collars, shoulders and head.

    Returns the pelvis of every block.
    """
    body = _body(v)
    poses = [pelvis_of(np, body, b) for b in blocks]
    rels = [chest_start(np, body, p) for p in poses]
    _spine_means(v, poses, rels, n, chest_too=False)
    for k in range(_REFINEMENTS):
        body = _body(v)
        # From the second time on the rotations before are nearly right: two iterations settle them.
        rels = [chest_fit(np, body, p, r, 2 if k else ITERATIONS) for p, r in zip(poses, rels, strict=True)]
        _spine_means(v, poses, rels, n, chest_too=True)
    return poses


def _spine_means(v: F64, poses: Sequence[Pelvis], rels: Sequence[F64], n: int, *, chest_too: bool) -> None:
    o6, o9, o15, oc = np.zeros(3), np.zeros(3), np.zeros(3), np.zeros((3, 5))
    for p, rel in zip(poses, rels, strict=True):
        a, b = fractions(np, rel)
        seen = turn_back(p.q, p.local[:, [3, 6, 9, 12, 15, 13, 14, 16, 17]])
        turns = [exp_matrix(np, rel, a[k], b[k]) for k in range(3)]
        o6 += turn_back(turns[0], seen[:, 1:2] - seen[:, 0:1]).sum((1, 2))
        o9 += turn_back(turns[1], seen[:, 2:3] - seen[:, 1:2]).sum((1, 2))
        o15 += turn_back(turns[2], seen[:, 4:5] - seen[:, 3:4]).sum((1, 2))
        oc += turn_back(turns[2], seen[:, [3, 5, 6, 7, 8]] - seen[:, 2:3]).sum(-1)
    v[9:12], v[12:15], v[30:33] = o6 / n, o9 / n, o15 / n
    if chest_too:
        v[15:30] = (oc / n).T.reshape(-1)


def _leg_stretch(v: F64, clips: Sequence[F64], poses: Sequence[Pelvis] | None) -> F64:
    """Factor of each leg, at least 1, with which it reaches every ankle of its own clips: (2,).

    Where the hips are not rigid to spine1 the decoded hip lies a few millimetres off, and a straight leg would not
    reach its ankle by a fraction of a millimetre; ankles are to be exact, lengths need not be.
    """
    body, most = _body(v), np.zeros(2)
    if poses is None:
        poses = [pelvis_of(np, body, b) for clip in clips for b in component_blocks(np.asarray(clip, np.float64))]
    for p in poses:
        d = p.local[:, 7:9] - turn(p.q, body.op[:, :2])
        most = np.maximum(most, np.sqrt(dot(d, d)).max(-1))
    wanted = (most + 2 * REACH_M) / body.leg[:, 0]
    return np.asarray(np.clip(wanted, 1.0, 1 + _STRETCH))


def _knee_bias(v: F64, blocks: Sequence[F64], poses: Sequence[Pelvis], n: int) -> float:
    """The bias with the smallest mean knee error."""
    errors = []
    body = _body(v)
    ankles = [ankle_channels(np, body, p) * body.leg for p in poses]
    for bias in KNEE_BIASES:
        v[43] = bias
        body = _body(v)
        total = 0.0
        for p, ankle in zip(poses, ankles, strict=True):
            _, knee, _ = knees(np, body, p.q, ankle)
            d = knee - p.local[:, 4:6]
            total += float(np.sqrt(dot(d, d)).sum())
        errors.append(total / n)
    return KNEE_BIASES[int(np.argmin(errors))]


def _toe_offsets(v: F64, blocks: Sequence[F64], poses: Sequence[Pelvis]) -> F64:
    """Toes in the shin frame and in the flat frame: means weighted by how far off the floor the foot is: (12,)."""
    body = _body(v)
    sums, weights = np.zeros((2, 3, 2)), np.full((2, 2), 1e-12)
    for b, p in zip(blocks, poses, strict=True):
        hip, knee, ankle = knees(np, body, p.q, ankle_channels(np, body, p) * body.leg)
        seen = (p.local[:, 10:12] - p.local[:, 7:9]) / body.foot
        (x, y, z), flat, own = toe_frames(
            np, hip, knee, ankle, p.q[:, 2], np.array([[0.0, 0.0], [1.0, 1.0]])[..., None]
        )
        level = toe_weight(np, b[1, 7:9], body.ank0)
        shin = np.stack([dot(x, seen), dot(y, seen), dot(z, seen)])
        fx, fz = flat
        floor = np.stack([fz * seen[0] - fx * seen[2], seen[1], fx * seen[0] + fz * seen[2]])
        # A thousandth of every frame keeps a foot that never leaves, or never meets, the floor defined.
        for k, (w, value) in enumerate(((1 - level + 1e-3, shin), (level * own + 1e-3 * own, floor))):
            sums[k] += (w * value).sum(-1)
            weights[k] += w.sum(-1)
    return np.asarray((sums / weights[:, None]).transpose(0, 2, 1).reshape(-1))
