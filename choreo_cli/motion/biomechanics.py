"""Whether a body could do that: joint limits, self-penetration, the floor, balance, momentum.

Every function takes joints (..., T, 22, 3) in metres, y up, floor at 0 (or single poses (..., 22, 3) where no time is
involved) and works on whole batches of clips at once. `biomechanics_torch` gives the same numbers with gradients.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from choreo_cli.motion.biomechanics_params import CAPSULES, DEFAULT, Params, pairs, segment_rows
from formats.foreign.joints import CANONICAL
from formats.proportions import LEG_SHARE

F64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

GRAVITY = 9.81
FEET = (("l_ankle", "l_toe"), ("r_ankle", "r_toe"))
FLIGHT_M = 0.03  # a foot above it has left the floor
CLEAR_M = 0.10  # and no other joint may be below this: hands and knees bear weight too
POINTED = 0.3  # sine of the angle of foot and shin below which the foot is no witness
_TINY = 1e-12
RADII = np.array([c.radius for c in CAPSULES])
SKIPS, BEYONDS = (np.array([[getattr(c, k)] for c in CAPSULES]) for k in ("skip", "beyond"))


def joint(joints: F64, name: str) -> F64:
    """(..., 3) one joint."""
    return np.asarray(joints[..., CANONICAL.index(name), :])


def norm(v: F64) -> F64:
    """Length over the last axis; never exactly 0, so that its gradient exists in the differentiable twin."""
    return np.asarray(np.sqrt((v * v).sum(-1) + _TINY**2))


def unit(v: F64) -> F64:
    return np.asarray(v / np.maximum(norm(v), 1e-9)[..., None])


def limb(joints: F64, a: str, b: str, c: str) -> F64:
    """(..., ) length of two bones one after the other, per frame."""
    return norm(joint(joints, b) - joint(joints, a)) + norm(joint(joints, c) - joint(joints, b))


def stature(joints: F64) -> F64:
    """(...,) body height by the mean length of both legs over a clip's frames: (thigh + shank) / 0.481."""
    legs = [limb(joints, f"{s}_hip", f"{s}_knee", f"{s}_ankle") for s in "lr"]
    return np.asarray((legs[0] + legs[1]).mean(-1) / 2 / LEG_SHARE)


def hinge_flexion(joints: F64) -> F64:
    """(..., 4) flexion in radians of l_elbow, r_elbow, l_knee, r_knee; 0 is straight.

    A knee is negative where it bends against its foot and against the front of the pelvis: either alone is turned away
    in a deep squat or a turned-out leg. An elbow is never negative: which way it bends
    depends on the twist of the upper arm, and positions do not hold that.
    """
    out = []
    front = pelvis_frame(joints)[..., 2]
    for a, b, c, foot in (
        ("shoulder", "elbow", "wrist", None), ("hip", "knee", "ankle", "toe"),
    ):  # fmt: skip
        for s in "lr":
            first = joint(joints, f"{s}_{b}") - joint(joints, f"{s}_{a}")
            second = joint(joints, f"{s}_{c}") - joint(joints, f"{s}_{b}")
            bend = np.arctan2(norm(np.cross(first, second)), (first * second).sum(-1))
            if foot is not None:
                ahead = unit(joint(joints, f"{s}_{foot}") - joint(joints, f"{s}_{c}"))
                shin = unit(second)
                # A pointed foot runs along the shin: what is at right angles to it still tells front from back.
                ahead = ahead - (ahead * shin).sum(-1)[..., None] * shin
                out_of_line = unit(first) - shin
                backward = ((out_of_line * ahead).sum(-1) < 0) & (norm(ahead) > POINTED)
                bend = np.where(backward & ((out_of_line * front).sum(-1) < 0), -bend, bend)
            out.append(bend)
    return np.stack(out, -1)


def frame_of(across: F64, along: F64) -> F64:
    """(..., 3, 3) columns x = across, y = the part of `along` at right angles to it, z = x cross y."""
    x = unit(across)
    y = unit(along - (along * x).sum(-1)[..., None] * x)
    return np.stack([x, y, np.cross(x, y)], -1)


def pelvis_frame(joints: F64) -> F64:
    """(..., 3, 3) from the hips and the lower spine."""
    along = joint(joints, "spine1") + joint(joints, "spine2") - 2 * joint(joints, "pelvis")
    return frame_of(joint(joints, "l_hip") - joint(joints, "r_hip"), along)


def chest_frame(joints: F64) -> F64:
    """(..., 3, 3) from collars, shoulders and the upper spine; rigs with the neck in the chest joint have one too."""
    collars = joint(joints, "l_collar") - joint(joints, "r_collar")
    shoulders = joint(joints, "l_shoulder") - joint(joints, "r_shoulder")
    return frame_of(collars + shoulders, joint(joints, "neck") - joint(joints, "spine2"))


def limit_excess(joints: F64, params: Params = DEFAULT) -> F64:
    """(..., T, 10) how far each of `LIMIT_NAMES` is beyond its limit, 0 within: degrees, then per cent of a limb.

    Reaches are measured against the clip's own mean bones, so they are exceeded by bones that change length.
    """
    flex = np.degrees(hinge_flexion(joints))
    low = np.array([0.0, 0.0, params.hyperextension_deg, params.hyperextension_deg])
    hinges = np.maximum(flex - params.hinge_max_deg, 0) + np.maximum(-flex - low, 0)
    rp, rc = pelvis_frame(joints), chest_frame(joints)
    tilt = np.degrees(np.arctan2(norm(rp[..., [0, 2], 1]), rp[..., 1, 1]))
    twist = np.degrees(rotation_angle(rp, rc))
    turned = np.stack([tilt - params.tilt_max_deg, twist - np.degrees(params.chest_max_rad)], -1)
    reach = []
    for parts, start, most in (
        (("shoulder", "elbow", "wrist"), None, params.arm_reach),
        (("hip", "knee", "ankle"), "pelvis", params.leg_reach),
    ):
        for s in "lr":
            a, b, c = (f"{s}_{p}" for p in parts)
            length = limb(joints, a, b, c).mean(-1, keepdims=True)
            reach.append(100 * (norm(joint(joints, c) - joint(joints, start or a)) / length - most))
    return np.concatenate([hinges, np.maximum(turned, 0), np.maximum(np.stack(reach, -1), 0)], -1)


def rotation_angle(a: F64, b: F64) -> F64:
    """(...,) angle in radians of the rotation that takes frame `a` to frame `b`."""
    relative = np.swapaxes(a, -1, -2) @ b
    trace = np.trace(relative, axis1=-2, axis2=-1)
    skew = np.stack(
        [relative[..., 2, 1] - relative[..., 1, 2], relative[..., 0, 2] - relative[..., 2, 0],
         relative[..., 1, 0] - relative[..., 0, 1]], -1,
    )  # fmt: skip
    return np.asarray(np.arctan2(norm(skew), trace - 1))


def centre_of_mass(joints: F64) -> F64:
    """(..., 3) centre of mass of all segments."""
    return np.asarray(np.einsum("...jd,j->...d", joints, segment_rows()))


def capsule_gaps(joints: F64, height: F64, which: tuple[tuple[int, int], ...] | None = None) -> F64:
    """(..., P) distance between the surfaces of capsule pairs in metres; negative where they overlap.

    Args:
        joints: (..., 22, 3).
        height: (...) statures, broadcast against the poses.
        which: Pairs of indices into `CAPSULES`; None takes all that can meet.
    """
    chosen = pairs() if which is None else which
    start = np.stack([joint(joints, c.start) for c in CAPSULES], -2)
    end = np.stack([joint(joints, c.end) for c in CAPSULES], -2)
    bone = end - start
    start, end = start + bone * SKIPS, end + bone * BEYONDS
    i, j = (list(k) for k in zip(*chosen, strict=True))
    apart = segment_distance(start[..., i, :], end[..., i, :], start[..., j, :], end[..., j, :])
    return np.asarray(apart - (RADII[i] + RADII[j]) * np.asarray(height)[..., None])


def segment_distance(a: F64, b: F64, c: F64, d: F64) -> F64:
    """(...,) smallest distance between the segments ab and cd (Ericson, Real-Time Collision Detection, 5.1.9)."""
    u, v, r = b - a, d - c, a - c
    uu, vv, uv = (u * u).sum(-1), (v * v).sum(-1), (u * v).sum(-1)
    ur, vr = (u * r).sum(-1), (v * r).sum(-1)
    s = np.clip((uv * vr - ur * vv) / np.maximum(uu * vv - uv * uv, _TINY), 0, 1)
    t = np.clip((uv * s + vr) / np.maximum(vv, _TINY), 0, 1)
    s = np.clip((uv * t - ur) / np.maximum(uu, _TINY), 0, 1)
    return norm(r + u * s[..., None] - v * t[..., None])


def self_penetration(joints: F64) -> F64:
    """(..., T, P) overlap of each capsule pair in metres, 0 where they are apart."""
    return np.asarray(np.maximum(-capsule_gaps(joints, stature(joints)[..., None]), 0))


def sole_heights(joints: F64, ankle_rest: F64) -> F64:
    """(..., T, 4) height over the floor of l_ankle, r_ankle (over their rest height), l_toe, r_toe."""
    rest = np.asarray(ankle_rest, np.float64)
    ankle = np.stack([joint(joints, "l_ankle")[..., 1], joint(joints, "r_ankle")[..., 1]], -1) - rest[..., None, :]
    toe = np.stack([joint(joints, "l_toe")[..., 1], joint(joints, "r_toe")[..., 1]], -1)
    return np.concatenate([ankle, toe], -1)


def ground_penetration(joints: F64, ankle_rest: F64) -> F64:
    """(..., T, 4) depth below the floor in metres of ankles and toes.

    Args:
        joints: (..., T, 22, 3).
        ankle_rest: (..., 2) height of each ankle over a flat foot.
    """
    return np.asarray(np.maximum(-sole_heights(joints, ankle_rest), 0))


def floating(joints: F64, contacts: F64, ankle_rest: F64) -> F64:
    """(..., T) height of the lowest foot above 30 mm where a contact is claimed, else 0, in metres."""
    lowest = sole_heights(joints, ankle_rest).min(-1)
    return np.asarray(np.maximum(lowest - FLIGHT_M, 0) * (contacts >= 0.5).any(-1))


def in_flight(joints: F64, contacts: F64, ankle_rest: F64) -> Bool:
    """(..., T) neither a contact nor anything near the floor."""
    feet = sole_heights(joints, ankle_rest).min(-1) > FLIGHT_M
    rest = [k for k, n in enumerate(CANONICAL) if not n.endswith(("ankle", "toe"))]
    clear = joints[..., rest, 1].min(-1) > CLEAR_M
    return np.asarray(feet & clear & ~(contacts >= 0.5).any(-1))


def support_distance(joints: F64, contacts: F64, params: Params = DEFAULT) -> F64:
    """(..., T) how far the centre of mass stands outside the soles that bear it, metres; 0 inside, NaN without contact.

    The sole of a foot in contact is the line from behind the ankle to the toe, half a foot wide to either side;
    the support is the hull of both.
    """
    com = centre_of_mass(joints)[..., [0, 2]]
    height = stature(joints)[..., None]
    soles, stands = [], []
    for k, (ankle, toe) in enumerate(FEET):
        a, t = joint(joints, ankle)[..., [0, 2]], joint(joints, toe)[..., [0, 2]]
        soles.append(np.stack([a - unit(t - a) * params.heel * height[..., None], t], -2))
        stands.append(contacts[..., k] >= 0.5)
    # The place of a foot in the air is taken by the other one: the hull stays that of the feet that stand.
    first = np.where(stands[0][..., None, None], soles[0], soles[1])
    second = np.where(stands[1][..., None, None], soles[1], first)
    hull = [first[..., 0, :], first[..., 1, :], second[..., 0, :], second[..., 1, :]]
    outside = np.maximum(hull_distance(com, hull) - params.foot_half_width * height, 0)
    return np.where(stands[0] | stands[1], outside, np.nan)


def hull_distance(p: F64, hull: list[F64]) -> F64:
    """(...,) distance in the plane from p to the hull of a few points, 0 inside."""
    edges = [_to_segment(p, a, b) for a, b in combinations(hull, 2)]
    nearest = np.min(np.stack(edges, -1), -1)
    inside = np.zeros(nearest.shape, bool)
    for a, b, c in combinations(hull, 3):
        sides = np.stack([_turn(a, b, p), _turn(b, c, p), _turn(c, a, p)], -1)
        inside |= (np.all(sides >= 0, -1) | np.all(sides <= 0, -1)) & (np.abs(_turn(a, b, c)) > 1e-9)
    return np.where(inside, 0.0, nearest)


def _to_segment(p: F64, a: F64, b: F64) -> F64:
    ab = b - a
    t = np.clip(((p - a) * ab).sum(-1) / np.maximum((ab * ab).sum(-1), _TINY), 0, 1)
    return norm(p - a - ab * t[..., None])


def _turn(a: F64, b: F64, c: F64) -> F64:
    return np.asarray(
        (b[..., 0] - a[..., 0]) * (c[..., 1] - a[..., 1]) - (b[..., 1] - a[..., 1]) * (c[..., 0] - a[..., 0])
    )


def flight_residual(joints: F64, fps: float) -> F64:
    """(..., T - 2, 3) acceleration of the centre of mass less gravity, m/s^2: 0 for a body in free flight.

    Row t - 1 belongs to frame t; take the rows whose frames t - 1, t and t + 1 are all `in_flight`.
    """
    a = np.diff(centre_of_mass(joints), n=2, axis=-2) * fps**2
    return np.asarray(a + np.array([0.0, GRAVITY, 0.0]))
