"""Whether a body could do that: joint limits, self-penetration, the floor, balance, momentum.

Every function takes joints (..., T, 22, 3) in metres, y up, floor at 0 (or single poses (..., 22, 3) where no time is
involved) and works on whole batches of clips at once. Arrays are numpy's or torch's: the same lines give the numbers
and, from tensors, their gradients. Decisions (which foot stands, which frames fly) carry no gradient.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from choreo_cli.motion.algebra import Array, like, namespace
from choreo_cli.motion.biomechanics_params import CAPSULES, DEFAULT, Params, pairs, segment_rows
from formats.foreign.joints import CANONICAL
from formats.proportions import LEG_SHARE

GRAVITY = 9.81
FEET = (("l_ankle", "l_toe"), ("r_ankle", "r_toe"))
FLIGHT_M = 0.03  # a foot above it has left the floor
CLEAR_M = 0.10  # and no other joint may be below this: hands and knees bear weight too
POINTED = 0.3  # sine of the angle of foot and shin below which the foot is no witness
_TINY = 1e-12
RADII = np.array([c.radius for c in CAPSULES])
SKIPS, BEYONDS = (np.array([[getattr(c, k)] for c in CAPSULES]) for k in ("skip", "beyond"))


def joint(joints: Array, name: str) -> Array:
    """(..., 3) one joint."""
    return joints[..., CANONICAL.index(name), :]


def norm(v: Array) -> Array:
    """Length over the last axis; never exactly 0, so that its gradient exists."""
    return namespace(v).sqrt((v * v).sum(-1) + _TINY**2)


def unit(v: Array) -> Array:
    return v / namespace(v).clip(norm(v), 1e-9, None)[..., None]


def limb(joints: Array, a: str, b: str, c: str) -> Array:
    """(..., ) length of two bones one after the other, per frame."""
    return norm(joint(joints, b) - joint(joints, a)) + norm(joint(joints, c) - joint(joints, b))


def stature(joints: Array) -> Array:
    """(...,) body height by the mean length of both legs over a clip's frames: (thigh + shank) / 0.481."""
    legs = [limb(joints, f"{s}_hip", f"{s}_knee", f"{s}_ankle") for s in "lr"]
    return (legs[0] + legs[1]).mean(-1) / 2 / LEG_SHARE


def hinge_flexion(joints: Array) -> Array:
    """(..., 4) flexion in radians of l_elbow, r_elbow, l_knee, r_knee; 0 is straight.

    A knee is negative where it bends against its foot and against the front of the pelvis: either alone is turned away
    in a deep squat or a turned-out leg. An elbow is never negative: which way it bends
    depends on the twist of the upper arm, and positions do not hold that.
    """
    xp, out = namespace(joints), []
    front = pelvis_frame(joints)[..., 2]
    for a, b, c, foot in (
        ("shoulder", "elbow", "wrist", None), ("hip", "knee", "ankle", "toe"),
    ):  # fmt: skip
        for s in "lr":
            first = joint(joints, f"{s}_{b}") - joint(joints, f"{s}_{a}")
            second = joint(joints, f"{s}_{c}") - joint(joints, f"{s}_{b}")
            bend = xp.arctan2(norm(xp.linalg.cross(first, second)), (first * second).sum(-1))
            if foot is not None:
                ahead = unit(joint(joints, f"{s}_{foot}") - joint(joints, f"{s}_{c}"))
                shin = unit(second)
                # A pointed foot runs along the shin: what is at right angles to it still tells front from back.
                ahead = ahead - (ahead * shin).sum(-1)[..., None] * shin
                out_of_line = unit(first) - shin
                backward = ((out_of_line * ahead).sum(-1) < 0) & (norm(ahead) > POINTED)
                bend = xp.where(backward & ((out_of_line * front).sum(-1) < 0), -bend, bend)
            out.append(bend)
    return xp.stack(out, -1)


def frame_of(across: Array, along: Array) -> Array:
    """(..., 3, 3) columns x = across, y = the part of `along` at right angles to it, z = x cross y."""
    xp, x = namespace(across), unit(across)
    y = unit(along - (along * x).sum(-1)[..., None] * x)
    return xp.stack([x, y, xp.linalg.cross(x, y)], -1)


def pelvis_frame(joints: Array) -> Array:
    """(..., 3, 3) from the hips and the lower spine."""
    along = joint(joints, "spine1") + joint(joints, "spine2") - 2 * joint(joints, "pelvis")
    return frame_of(joint(joints, "l_hip") - joint(joints, "r_hip"), along)


def chest_frame(joints: Array) -> Array:
    """(..., 3, 3) from collars, shoulders and the upper spine; rigs with the neck in the chest joint have one too."""
    collars = joint(joints, "l_collar") - joint(joints, "r_collar")
    shoulders = joint(joints, "l_shoulder") - joint(joints, "r_shoulder")
    return frame_of(collars + shoulders, joint(joints, "neck") - joint(joints, "spine2"))


def limit_excess(joints: Array, params: Params = DEFAULT) -> Array:
    """(..., T, 10) how far each of `LIMIT_NAMES` is beyond its limit, 0 within: degrees, then per cent of a limb.

    Reaches are measured against the clip's own mean bones, so they are exceeded by bones that change length.
    """
    xp = namespace(joints)
    flex = xp.rad2deg(hinge_flexion(joints))
    low = like([0.0, 0.0, params.hyperextension_deg, params.hyperextension_deg], flex)
    hinges = xp.clip(flex - params.hinge_max_deg, 0, None) + xp.clip(-flex - low, 0, None)
    rp, rc = pelvis_frame(joints), chest_frame(joints)
    tilt = xp.rad2deg(xp.arctan2(norm(rp[..., [0, 2], 1]), rp[..., 1, 1]))
    twist = xp.rad2deg(rotation_angle(rp, rc))
    turned = xp.stack([tilt - params.tilt_max_deg, twist - float(np.degrees(params.chest_max_rad))], -1)
    reach = []
    for parts, start, most in (
        (("shoulder", "elbow", "wrist"), None, params.arm_reach),
        (("hip", "knee", "ankle"), "pelvis", params.leg_reach),
    ):
        for s in "lr":
            a, b, c = (f"{s}_{p}" for p in parts)
            length = limb(joints, a, b, c).mean(-1)[..., None]
            reach.append(100 * (norm(joint(joints, c) - joint(joints, start or a)) / length - most))
    return xp.concatenate([hinges, xp.clip(turned, 0, None), xp.clip(xp.stack(reach, -1), 0, None)], -1)


def rotation_angle(a: Array, b: Array) -> Array:
    """(...,) angle in radians of the rotation that takes frame `a` to frame `b`."""
    xp = namespace(a)
    relative = xp.swapaxes(a, -1, -2) @ b
    trace = relative[..., 0, 0] + relative[..., 1, 1] + relative[..., 2, 2]
    skew = xp.stack(
        [relative[..., 2, 1] - relative[..., 1, 2], relative[..., 0, 2] - relative[..., 2, 0],
         relative[..., 1, 0] - relative[..., 0, 1]], -1,
    )  # fmt: skip
    return xp.arctan2(norm(skew), trace - 1)


def centre_of_mass(joints: Array) -> Array:
    """(..., 3) centre of mass of all segments."""
    return namespace(joints).einsum("...jd,j->...d", joints, like(segment_rows(), joints))


def capsule_gaps(joints: Array, height: Array, which: tuple[tuple[int, int], ...] | None = None) -> Array:
    """(..., P) distance between the surfaces of capsule pairs in metres; negative where they overlap.

    Args:
        joints: (..., 22, 3).
        height: (...) statures, broadcast against the poses.
        which: Pairs of indices into `CAPSULES`; None takes all that can meet.
    """
    xp, chosen = namespace(joints), pairs() if which is None else which
    start = xp.stack([joint(joints, c.start) for c in CAPSULES], -2)
    end = xp.stack([joint(joints, c.end) for c in CAPSULES], -2)
    bone = end - start
    start, end = start + bone * like(SKIPS, joints), end + bone * like(BEYONDS, joints)
    i, j = (list(k) for k in zip(*chosen, strict=True))
    apart = segment_distance(start[..., i, :], end[..., i, :], start[..., j, :], end[..., j, :])
    return apart - like(RADII[i] + RADII[j], joints) * height[..., None]


def segment_distance(a: Array, b: Array, c: Array, d: Array) -> Array:
    """(...,) smallest distance between the segments ab and cd (Ericson, Real-Time Collision Detection, 5.1.9)."""
    xp = namespace(a)
    u, v, r = b - a, d - c, a - c
    uu, vv, uv = (u * u).sum(-1), (v * v).sum(-1), (u * v).sum(-1)
    ur, vr = (u * r).sum(-1), (v * r).sum(-1)
    s = xp.clip((uv * vr - ur * vv) / xp.clip(uu * vv - uv * uv, _TINY, None), 0, 1)
    t = xp.clip((uv * s + vr) / xp.clip(vv, _TINY, None), 0, 1)
    s = xp.clip((uv * t - ur) / xp.clip(uu, _TINY, None), 0, 1)
    return norm(r + u * s[..., None] - v * t[..., None])


def self_penetration(joints: Array) -> Array:
    """(..., T, P) overlap of each capsule pair in metres, 0 where they are apart."""
    return namespace(joints).clip(-capsule_gaps(joints, stature(joints)[..., None]), 0, None)


def sole_heights(joints: Array, ankle_rest: Array) -> Array:
    """(..., T, 4) height over the floor of l_ankle, r_ankle (over their rest height), l_toe, r_toe."""
    xp, rest = namespace(joints), like(ankle_rest, joints)
    ankle = xp.stack([joint(joints, "l_ankle")[..., 1], joint(joints, "r_ankle")[..., 1]], -1) - rest[..., None, :]
    toe = xp.stack([joint(joints, "l_toe")[..., 1], joint(joints, "r_toe")[..., 1]], -1)
    return xp.concatenate([ankle, toe], -1)


def ground_penetration(joints: Array, ankle_rest: Array) -> Array:
    """(..., T, 4) depth below the floor in metres of ankles and toes.

    Args:
        joints: (..., T, 22, 3).
        ankle_rest: (..., 2) height of each ankle over a flat foot.
    """
    return namespace(joints).clip(-sole_heights(joints, ankle_rest), 0, None)


def floating(joints: Array, contacts: Array, ankle_rest: Array) -> Array:
    """(..., T) height of the lowest foot above 30 mm where a contact is claimed, else 0, in metres."""
    xp = namespace(joints)
    lowest = xp.amin(sole_heights(joints, ankle_rest), -1)
    return xp.clip(lowest - FLIGHT_M, 0, None) * (contacts >= 0.5).any(-1)


def in_flight(joints: Array, contacts: Array, ankle_rest: Array) -> Array:
    """(..., T) neither a contact nor anything near the floor."""
    xp = namespace(joints)
    feet = xp.amin(sole_heights(joints, ankle_rest), -1) > FLIGHT_M
    rest = [k for k, n in enumerate(CANONICAL) if not n.endswith(("ankle", "toe"))]
    clear = xp.amin(joints[..., rest, 1], -1) > CLEAR_M
    return feet & clear & ~(contacts >= 0.5).any(-1)


def support_distance(joints: Array, contacts: Array, params: Params = DEFAULT) -> Array:
    """(..., T) how far the centre of mass stands outside the soles that bear it, metres; 0 inside, NaN without contact.

    The sole of a foot in contact is the line from behind the ankle to the toe, half a foot wide to either side;
    the support is the hull of both.
    """
    xp = namespace(joints)
    com = centre_of_mass(joints)[..., [0, 2]]
    height = stature(joints)[..., None]
    soles, stands = [], []
    for k, (ankle, toe) in enumerate(FEET):
        a, t = joint(joints, ankle)[..., [0, 2]], joint(joints, toe)[..., [0, 2]]
        soles.append(xp.stack([a - unit(t - a) * params.heel * height[..., None], t], -2))
        stands.append(contacts[..., k] >= 0.5)
    # The place of a foot in the air is taken by the other one: the hull stays that of the feet that stand.
    first = xp.where(stands[0][..., None, None], soles[0], soles[1])
    second = xp.where(stands[1][..., None, None], soles[1], first)
    hull = [first[..., 0, :], first[..., 1, :], second[..., 0, :], second[..., 1, :]]
    outside = xp.clip(hull_distance(com, hull) - params.foot_half_width * height, 0, None)
    return xp.where(stands[0] | stands[1], outside, float("nan"))


def hull_distance(p: Array, hull: list[Array]) -> Array:
    """(...,) distance in the plane from p to the hull of a few points, 0 inside."""
    xp = namespace(p)
    edges = [_to_segment(p, a, b) for a, b in combinations(hull, 2)]
    nearest = xp.amin(xp.stack(edges, -1), -1)
    inside = nearest < 0  # nowhere yet
    for a, b, c in combinations(hull, 3):
        sides = xp.stack([_turn(a, b, p), _turn(b, c, p), _turn(c, a, p)], -1)
        inside |= ((sides >= 0).all(-1) | (sides <= 0).all(-1)) & (abs(_turn(a, b, c)) > 1e-9)
    return xp.where(inside, 0.0, nearest)


def _to_segment(p: Array, a: Array, b: Array) -> Array:
    ab = b - a
    xp = namespace(ab)
    t = xp.clip(((p - a) * ab).sum(-1) / xp.clip((ab * ab).sum(-1), _TINY, None), 0, 1)
    return norm(p - a - ab * t[..., None])


def _turn(a: Array, b: Array, c: Array) -> Array:
    return (b[..., 0] - a[..., 0]) * (c[..., 1] - a[..., 1]) - (b[..., 1] - a[..., 1]) * (c[..., 0] - a[..., 0])


def flight_residual(joints: Array, fps: float) -> Array:
    """(..., T - 2, 3) acceleration of the centre of mass less gravity, m/s^2: 0 for a body in free flight.

    Row t - 1 belongs to frame t; take the rows whose frames t - 1, t and t + 1 are all `in_flight`.
    """
    com = centre_of_mass(joints)
    a = (com[..., 2:, :] - 2 * com[..., 1:-1, :] + com[..., :-2, :]) * fps**2
    return a + like([0.0, GRAVITY, 0.0], a)


def plausibility_loss(joints: Array, contacts: Array, ankle_rest: Array, fps: float) -> dict[str, Array]:
    """Means over batch and frames of what a body could not do; each is 0 when nothing is wrong.

    Args:
        joints: (B, T, 22, 3) metres.
        contacts: (B, T, 2) 0..1.
        ankle_rest: (B, 2) metres.
        fps: Frames per second.

    Returns:
        `limits` (degrees and per cent), `self`, `ground`, `float` (metres), `flight` (m/s^2, frames in flight only).
    """
    flies = in_flight(joints, contacts, ankle_rest)
    inside = flies[..., :-2] & flies[..., 1:-1] & flies[..., 2:]
    residual = norm(flight_residual(joints, fps)) * inside
    return {
        "limits": limit_excess(joints).mean(),
        "self": self_penetration(joints).sum(-1).mean(),
        "ground": ground_penetration(joints, ankle_rest).mean(),
        "float": floating(joints, contacts, ankle_rest).mean(),
        "flight": residual.sum() / max(int(inside.sum()), 1),
    }
