"""A choreo25 clip as bone rotations on a rest pose, for formats that store rotations instead of points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from choreo_cli.motion.choreo25 import decode, integrate_root
from choreo_cli.motion.rotations import exp_map, rot_y, shortest_arc
from formats.foreign.joints import CANONICAL, PARENTS
from formats.motion_npz import MotionClip, Skeleton

F64 = NDArray[np.float64]

ZERO_TWIST = "limbs turn by the smallest rotation from the rest pose: twist of limbs, hands and head is zero, not data"
_AT = {name: i for i, name in enumerate(CANONICAL)}
# Limb joints whose turn is that of the bone to their child.
_ARCS = tuple(
    (_AT[f"{side}_{near}"], _AT[f"{side}_{far}"])
    for near, far in (("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle"), ("ankle", "toe"))
    for side in "lr"
)


@dataclass(frozen=True, slots=True)
class Turns:
    """A clip as rotations.

    Args:
        root: (T, 3) metres, the pelvis.
        offsets: (22, 3) metres, each joint from its parent in the rest pose (T-pose, facing +z); the pelvis at 0.
        local: (T, 22, 3, 3) turn of each joint in its parent's frame; of the pelvis in the world.
        joints: (T, 22, 3) what they place: the decoded joints.
    """

    root: F64
    offsets: F64
    local: F64
    joints: F64


def rest_offsets(s: Skeleton) -> F64:
    """(22, 3) metres from the parent: torso as fitted, arms to the sides, legs down, feet flat."""
    out = np.zeros((len(CANONICAL), 3))
    out[[1, 2, 3]] = s.op
    out[_AT["spine2"]], out[_AT["chest"]], out[_AT["head"]] = s.o6, s.o9, s.o15
    out[[12, 13, 14]] = s.oc[:3]
    for k, (side, sigma) in enumerate((("l", 1.0), ("r", -1.0))):
        out[_AT[f"{side}_shoulder"]] = s.oc[3 + k] - s.oc[1 + k]
        out[_AT[f"{side}_elbow"]] = (sigma * s.upper_arm[k], 0, 0)
        out[_AT[f"{side}_wrist"]] = (sigma * s.forearm[k], 0, 0)
        out[_AT[f"{side}_knee"]] = (0, -s.thigh[k], 0)
        out[_AT[f"{side}_ankle"]] = (0, -s.shank[k], 0)
        flat = s.toe_b[k] / max(float(np.linalg.norm(s.toe_b[k])), 1e-9)
        out[_AT[f"{side}_toe"]] = s.foot[k] * flat
    return out


def turns_of(clip: MotionClip) -> Turns:
    """Rotations of a clip: pelvis, spine and chest as its channels say, limbs by the smallest rotation."""
    joints = decode(clip)
    offsets = rest_offsets(clip.header.skeleton)
    world = _torso(clip)
    for near, far in _ARCS:
        parent = world[:, PARENTS[near]]
        seen = np.einsum("tji,tj->ti", parent, joints[:, far] - joints[:, near])
        world[:, near] = parent @ shortest_arc(np.broadcast_to(offsets[far], seen.shape), seen)
    for leaf in (_AT["l_wrist"], _AT["r_wrist"], _AT["l_toe"], _AT["r_toe"]):
        world[:, leaf] = world[:, PARENTS[leaf]]
    local = world.copy()
    for j, above in enumerate(PARENTS):
        if above >= 0:
            local[:, j] = np.swapaxes(world[:, above], 1, 2) @ world[:, j]
    return Turns(joints[:, 0], offsets, local, joints)


def _torso(clip: MotionClip) -> F64:
    """(T, 22, 3, 3) world turns with pelvis, spine, chest, neck, collars and head filled in."""
    c = clip.channels.astype(np.float64)
    h = clip.header
    yaw, _ = integrate_root(c, h.fps, h.yaw0, h.x0, h.z0)
    pitch, roll = c[:, 6], c[:, 7]
    zero, one = np.zeros_like(pitch), np.ones_like(pitch)
    rx = _rows([one, zero, zero, zero, np.cos(pitch), -np.sin(pitch), zero, np.sin(pitch), np.cos(pitch)])
    rz = _rows([np.cos(roll), -np.sin(roll), zero, np.sin(roll), np.cos(roll), zero, zero, zero, one])
    pelvis = rot_y(yaw) @ rx @ rz
    out = np.empty((len(c), len(CANONICAL), 3, 3))
    out[:] = pelvis[:, None]
    for name, share in (("spine1", 1 / 3), ("spine2", 2 / 3), ("chest", 1.0)):
        out[:, _AT[name]] = pelvis @ exp_map(share * c[:, 8:11])
    for name in ("neck", "l_collar", "r_collar", "head"):
        out[:, _AT[name]] = out[:, _AT["chest"]]
    return out


def _rows(values: list[F64]) -> F64:
    return np.stack(values, -1).reshape(-1, 3, 3)
