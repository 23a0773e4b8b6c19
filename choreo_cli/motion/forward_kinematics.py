"""From 25 channels to 22 joints in the heading frame, for numpy and torch (component-first, see `algebra`).

Formulas: motion.md section 6. Everything is computed in the heading frame of the pelvis; the caller turns it by yaw
and moves it by the root.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from choreo_cli.motion.algebra import Array, compose, exp_matrix, fractions, rodrigues, tilt, turn, unit
from choreo_cli.motion.limbs import toe_frames, toe_offset, toe_weight, two_bone

# Elbow pole of the left arm in the chest frame: outward, down, back; the right one is its mirror image.
_ELBOW_POLE = (0.45, -0.75, -0.5)
_SIDES = (1.0, -1.0)
# Torso, arms and legs as they are stacked -> canonical order.
_STACKED = (0, 1, 2, 3, 6, 9, 12, 13, 14, 16, 17, 15, 18, 19, 20, 21, 4, 5, 7, 8, 10, 11)
_ORDER = [_STACKED.index(j) for j in range(22)]


class Body(NamedTuple):
    """A skeleton as component-first arrays: points (3, K, ...), lengths (2, ...), trailing axes broadcast."""

    op: Array
    o6: Array
    o9: Array
    oc: Array
    o15: Array
    upper_arm: Array
    forearm: Array
    thigh: Array
    shank: Array
    foot: Array
    kb: Array
    ank0: Array
    toe_a: Array
    toe_b: Array
    elbow_poles: tuple[Array, Array]
    knee_poles: tuple[Array, Array]

    @property
    def arm(self) -> Array:
        return self.upper_arm + self.forearm

    @property
    def leg(self) -> Array:
        return self.thigh + self.shank


def body_of(xp: Any, vector: Array) -> Body:
    """Unpack the 58 numbers of `formats.motion_npz.Skeleton.to_vector`.

    Args:
        xp: numpy or torch.
        vector: (58, ..., 1): trailing axes broadcast over clips and frames.
    """

    def points(start: int, k: int) -> Array:
        block = vector[start : start + 3 * k]
        return xp.moveaxis(block.reshape((k, 3, *block.shape[1:])), 0, 1)

    kb = vector[43]
    one, zero = xp.ones_like(kb), xp.zeros_like(kb)

    def both(x: float, y: float, z: float) -> Array:
        return xp.stack([xp.stack([c * one for c in (x * s, y, z)], 0) for s in _SIDES], 1)

    across = both(1.0, 0.0, 0.0)
    size = sum(c * c for c in _ELBOW_POLE) ** 0.5
    elbow = both(*(c / size for c in _ELBOW_POLE))
    knee = unit(xp, xp.stack([xp.stack([kb * s, zero, one], 0) for s in _SIDES], 1))
    return Body(
        points(0, 3), points(9, 1), points(12, 1), points(15, 5), points(30, 1),
        vector[33:35], vector[35:37], vector[37:39], vector[39:41], vector[41:43], kb, vector[44:46],
        points(46, 2), points(52, 2), (elbow, across), (knee, both(0.0, -1.0, 0.0)),
    )  # fmt: skip


def torso(xp: Any, body: Body, q: Array, rel: Array) -> tuple[Array, Array, Array]:
    """Spine of the decoded body.

    Args:
        xp: numpy or torch.
        body: The skeleton.
        q: (3, 3, 1, *b) pelvis in the heading frame.
        rel: (3, 1, *b) chest relative to the pelvis.

    Returns:
        spine2 and chest (3, 2, *b) in the pelvis frame, the chest rotation in the pelvis frame and in the heading
        frame, (3, 3, 1, *b) each.
    """
    a, b = fractions(xp, rel)
    spine2 = body.op[:, 2:3] + rodrigues(xp, rel, body.o6, a[0], b[0])
    chest = spine2 + rodrigues(xp, rel, body.o9, a[1], b[1])
    turned = exp_matrix(xp, rel, a[2], b[2])
    return xp.concatenate([spine2, chest], 1), turned, compose(xp, q, turned)


def knees(
    xp: Any, body: Body, q: Array, ankles: Array, poles: tuple[Array, Array] | None = None
) -> tuple[Array, Array, Array]:
    """Hips, decoded knees and decoded ankles (3, 2, *b) in the heading frame, from wanted ankles."""
    hip = turn(q, body.op[:, :2])
    u1, u2 = poles or body.knee_poles
    knee, end = two_bone(xp, ankles - hip, body.thigh, body.shank, (turn(q, u1), turn(q, u2)))
    return hip, hip + knee, hip + end


def joints_in_heading(xp: Any, body: Body, c: Array, flat_before: Array) -> tuple[Array, Array, Array]:
    """Decode all frames.

    Args:
        xp: numpy or torch.
        body: The skeleton.
        c: (25, *b) channels.
        flat_before: (2, 2, ...) x and z of the flat foot direction before the first frame, per side.

    Returns:
        Joints (3, 22, *b) in metres from the pelvis, in the heading frame, canonical order; the flat foot directions
        used (2, 2, *b); which frames had one of their own (2, *b).
    """
    q = tilt(xp, c[6:7], c[7:8])
    spine, _, chest_turn = torso(xp, body, q, c[8:11, None])
    spine = turn(q, spine)
    chest = spine[:, 1:2]
    fixed = xp.concatenate([body.oc, body.oc[:, :1] + body.o15], 1)
    # Arms in the chest frame: shoulders and poles stand still there.
    reach = xp.stack([c[11:14], c[15:18]], 1) * body.arm
    swivel = xp.concatenate([c[14:15], c[18:19]], 0)
    elbow, wrist = two_bone(xp, reach, body.upper_arm, body.forearm, body.elbow_poles, swivel)
    shoulder = body.oc[:, 3:5]
    upper = turn(chest_turn, fixed) + chest
    arms = turn(chest_turn, xp.concatenate([shoulder + elbow, shoulder + wrist], 1)) + chest
    hip, knee, ankle = knees(xp, body, q, xp.stack([c[19:22], c[22:25]], 1) * body.leg)
    axes, flat, own = toe_frames(xp, hip, knee, ankle, q[:, 2], flat_before)
    weight = toe_weight(xp, c[2] + ankle[1], body.ank0)
    toe = ankle + body.foot * toe_offset(xp, axes, flat, weight, body.toe_a, body.toe_b)
    pelvis = xp.zeros_like(hip[:, :1])
    spine1 = turn(q, body.op[:, 2:3])
    stacked = xp.concatenate([pelvis, hip, spine1, spine, upper, arms, knee, ankle, toe], 1)
    return stacked[:, _ORDER], flat, own
