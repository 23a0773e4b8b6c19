"""The differentiable twin of `biomechanics`: the same numbers from tensors (B, T, 22, 3), with gradients.

Losses are zero for a body that could do that. Decisions (which foot stands, which frames fly) carry no gradient.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import Tensor

from choreo_cli.motion.biomechanics import BEYONDS, CLEAR_M, FEET, FLIGHT_M, GRAVITY, POINTED, RADII, SKIPS
from choreo_cli.motion.biomechanics_params import CAPSULES, DEFAULT, Params, pairs, segment_rows
from formats.foreign.joints import CANONICAL
from formats.proportions import LEG_SHARE

_TINY = 1e-12
_ROOT = 1e-24  # under every square root: its gradient exists at 0


def joint(joints: Tensor, name: str) -> Tensor:
    """(..., 3) one joint."""
    return joints[..., CANONICAL.index(name), :]


def norm(v: Tensor) -> Tensor:
    """Length over the last axis with a finite gradient at 0."""
    return torch.sqrt((v * v).sum(-1) + _ROOT)


def unit(v: Tensor) -> Tensor:
    return v / norm(v).clamp(min=1e-9)[..., None]


def limb(joints: Tensor, a: str, b: str, c: str) -> Tensor:
    """(...,) length of two bones one after the other, per frame."""
    return norm(joint(joints, b) - joint(joints, a)) + norm(joint(joints, c) - joint(joints, b))


def stature(joints: Tensor) -> Tensor:
    """(...,) body height by the mean length of both legs over the frames."""
    legs = [limb(joints, f"{s}_hip", f"{s}_knee", f"{s}_ankle") for s in "lr"]
    return (legs[0] + legs[1]).mean(-1) / 2 / LEG_SHARE


def frame_of(across: Tensor, along: Tensor) -> Tensor:
    """(..., 3, 3) as the numpy twin."""
    x = unit(across)
    y = unit(along - (along * x).sum(-1)[..., None] * x)
    return torch.stack([x, y, torch.linalg.cross(x, y)], -1)


def pelvis_frame(joints: Tensor) -> Tensor:
    """(..., 3, 3) from the hips and the lower spine."""
    along = joint(joints, "spine1") + joint(joints, "spine2") - 2 * joint(joints, "pelvis")
    return frame_of(joint(joints, "l_hip") - joint(joints, "r_hip"), along)


def chest_frame(joints: Tensor) -> Tensor:
    """(..., 3, 3) from collars, shoulders and the upper spine."""
    collars = joint(joints, "l_collar") - joint(joints, "r_collar")
    shoulders = joint(joints, "l_shoulder") - joint(joints, "r_shoulder")
    return frame_of(collars + shoulders, joint(joints, "neck") - joint(joints, "spine2"))


def hinge_flexion(joints: Tensor) -> Tensor:
    """(..., 4) flexion in radians of l_elbow, r_elbow, l_knee, r_knee; a knee that bends backwards is negative."""
    out = []
    front = pelvis_frame(joints)[..., 2]
    for a, b, c, foot in (("shoulder", "elbow", "wrist", None), ("hip", "knee", "ankle", "toe")):
        for s in "lr":
            first = joint(joints, f"{s}_{b}") - joint(joints, f"{s}_{a}")
            second = joint(joints, f"{s}_{c}") - joint(joints, f"{s}_{b}")
            bend = torch.atan2(norm(torch.linalg.cross(first, second)), (first * second).sum(-1))
            if foot is not None:
                ahead = unit(joint(joints, f"{s}_{foot}") - joint(joints, f"{s}_{c}"))
                shin = unit(second)
                ahead = ahead - (ahead * shin).sum(-1)[..., None] * shin
                out_of_line = unit(first) - shin
                backward = ((out_of_line * ahead).sum(-1) < 0) & (norm(ahead) > POINTED)
                bend = torch.where(backward & ((out_of_line * front).sum(-1) < 0), -bend, bend)
            out.append(bend)
    return torch.stack(out, -1)


def rotation_angle(a: Tensor, b: Tensor) -> Tensor:
    """(...,) angle in radians of the rotation that takes frame `a` to frame `b`."""
    r = a.transpose(-1, -2) @ b
    trace = r.diagonal(dim1=-2, dim2=-1).sum(-1)
    skew = torch.stack(
        [r[..., 2, 1] - r[..., 1, 2], r[..., 0, 2] - r[..., 2, 0], r[..., 1, 0] - r[..., 0, 1]], -1
    )  # fmt: skip
    return torch.atan2(norm(skew), trace - 1)


def limit_excess(joints: Tensor, params: Params = DEFAULT) -> Tensor:
    """(..., T, 10) how far each of `LIMIT_NAMES` is beyond its limit: degrees, then per cent of a limb."""
    flex = torch.rad2deg(hinge_flexion(joints))
    low = flex.new_tensor([0.0, 0.0, params.hyperextension_deg, params.hyperextension_deg])
    hinges = (flex - params.hinge_max_deg).clamp(min=0) + (-flex - low).clamp(min=0)
    rp, rc = pelvis_frame(joints), chest_frame(joints)
    tilt = torch.rad2deg(torch.atan2(norm(rp[..., [0, 2], 1]), rp[..., 1, 1]))
    twist = torch.rad2deg(rotation_angle(rp, rc))
    turned = torch.stack([tilt - params.tilt_max_deg, twist - float(np.degrees(params.chest_max_rad))], -1)
    reach = []
    for parts, start, most in (
        (("shoulder", "elbow", "wrist"), None, params.arm_reach),
        (("hip", "knee", "ankle"), "pelvis", params.leg_reach),
    ):
        for s in "lr":
            a, b, c = (f"{s}_{p}" for p in parts)
            length = limb(joints, a, b, c).mean(-1, keepdim=True)
            reach.append(100 * (norm(joint(joints, c) - joint(joints, start or a)) / length - most))
    return torch.cat([hinges, turned.clamp(min=0), torch.stack(reach, -1).clamp(min=0)], -1)


def centre_of_mass(joints: Tensor) -> Tensor:
    """(..., 3) centre of mass of all segments."""
    return torch.einsum("...jd,j->...d", joints, _as(segment_rows(), joints))


def self_penetration(joints: Tensor) -> Tensor:
    """(..., T, P) overlap of each capsule pair in metres, 0 where they are apart."""
    start = torch.stack([joint(joints, c.start) for c in CAPSULES], -2)
    end = torch.stack([joint(joints, c.end) for c in CAPSULES], -2)
    bone = end - start
    start, end = start + bone * _as(SKIPS, joints), end + bone * _as(BEYONDS, joints)
    i, j = (list(k) for k in zip(*pairs(), strict=True))
    apart = segment_distance(start[..., i, :], end[..., i, :], start[..., j, :], end[..., j, :])
    return (_as(RADII[i] + RADII[j], joints) * stature(joints)[..., None, None] - apart).clamp(min=0)


def segment_distance(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """(...,) smallest distance between the segments ab and cd."""
    u, v, r = b - a, d - c, a - c
    uu, vv, uv = (u * u).sum(-1), (v * v).sum(-1), (u * v).sum(-1)
    ur, vr = (u * r).sum(-1), (v * r).sum(-1)
    s = ((uv * vr - ur * vv) / (uu * vv - uv * uv).clamp(min=_TINY)).clamp(0, 1)
    t = ((uv * s + vr) / vv.clamp(min=_TINY)).clamp(0, 1)
    s = ((uv * t - ur) / uu.clamp(min=_TINY)).clamp(0, 1)
    return norm(r + u * s[..., None] - v * t[..., None])


def sole_heights(joints: Tensor, ankle_rest: Tensor) -> Tensor:
    """(..., T, 4) height over the floor of l_ankle, r_ankle (over their rest height), l_toe, r_toe."""
    ankle = torch.stack([joint(joints, "l_ankle")[..., 1], joint(joints, "r_ankle")[..., 1]], -1)
    toe = torch.stack([joint(joints, "l_toe")[..., 1], joint(joints, "r_toe")[..., 1]], -1)
    return torch.cat([ankle - ankle_rest[..., None, :], toe], -1)


def ground_penetration(joints: Tensor, ankle_rest: Tensor) -> Tensor:
    """(..., T, 4) depth below the floor in metres of ankles and toes."""
    return (-sole_heights(joints, ankle_rest)).clamp(min=0)


def floating(joints: Tensor, contacts: Tensor, ankle_rest: Tensor) -> Tensor:
    """(..., T) height of the lowest foot above 30 mm where a contact is claimed, else 0."""
    lowest = sole_heights(joints, ankle_rest).amin(-1)
    return (lowest - FLIGHT_M).clamp(min=0) * (contacts >= 0.5).any(-1)


def in_flight(joints: Tensor, contacts: Tensor, ankle_rest: Tensor) -> Tensor:
    """(..., T) bool: neither a contact nor anything near the floor."""
    feet = sole_heights(joints, ankle_rest).amin(-1) > FLIGHT_M
    rest = [k for k, n in enumerate(CANONICAL) if not n.endswith(("ankle", "toe"))]
    return feet & (joints[..., rest, 1].amin(-1) > CLEAR_M) & ~(contacts >= 0.5).any(-1)


def support_distance(joints: Tensor, contacts: Tensor, params: Params = DEFAULT) -> Tensor:
    """(..., T) how far the centre of mass stands outside the soles that bear it; NaN without contact."""
    height = stature(joints)[..., None]
    com = centre_of_mass(joints)[..., [0, 2]]
    soles, stands = [], []
    for k, (ankle, toe) in enumerate(FEET):
        a, t = joint(joints, ankle)[..., [0, 2]], joint(joints, toe)[..., [0, 2]]
        soles.append(torch.stack([a - unit(t - a) * params.heel * height[..., None], t], -2))
        stands.append(contacts[..., k] >= 0.5)
    first = torch.where(stands[0][..., None, None], soles[0], soles[1])
    second = torch.where(stands[1][..., None, None], soles[1], first)
    hull = [first[..., 0, :], first[..., 1, :], second[..., 0, :], second[..., 1, :]]
    outside = (hull_distance(com, hull) - params.foot_half_width * height).clamp(min=0)
    return torch.where(stands[0] | stands[1], outside, torch.full_like(outside, float("nan")))


def hull_distance(p: Tensor, hull: list[Tensor]) -> Tensor:
    """(...,) distance in the plane from p to the hull of a few points, 0 inside."""
    nearest = torch.stack([_to_segment(p, a, b) for a, b in combinations(hull, 2)], -1).amin(-1)
    inside = torch.zeros_like(nearest, dtype=torch.bool)
    for a, b, c in combinations(hull, 3):
        sides = torch.stack([_turn(a, b, p), _turn(b, c, p), _turn(c, a, p)], -1)
        inside |= ((sides >= 0).all(-1) | (sides <= 0).all(-1)) & (_turn(a, b, c).abs() > 1e-9)
    return torch.where(inside, torch.zeros_like(nearest), nearest)


def _to_segment(p: Tensor, a: Tensor, b: Tensor) -> Tensor:
    ab = b - a
    t = (((p - a) * ab).sum(-1) / (ab * ab).sum(-1).clamp(min=_TINY)).clamp(0, 1)
    return norm(p - a - ab * t[..., None])


def _turn(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    return (b[..., 0] - a[..., 0]) * (c[..., 1] - a[..., 1]) - (b[..., 1] - a[..., 1]) * (c[..., 0] - a[..., 0])


def flight_residual(joints: Tensor, fps: float) -> Tensor:
    """(..., T - 2, 3) acceleration of the centre of mass less gravity, m/s^2: 0 for a body in free flight."""
    a = torch.diff(centre_of_mass(joints), n=2, dim=-2) * fps**2
    return a + a.new_tensor([0.0, GRAVITY, 0.0])


def plausibility_loss(joints: Tensor, contacts: Tensor, ankle_rest: Tensor, fps: float) -> dict[str, Tensor]:
    """Means over batch and frames of what a body could not do; each is 0 when nothing is wrong.

    Args:
        joints: (B, T, 22, 3) metres.
        contacts: (B, T, 2) 0..1.
        ankle_rest: (B, 2) metres.
        fps: Frames per second.

    Returns:
        `limits` (degrees and per cent), `self` , `ground`, `float` (metres), `flight` (m/s^2, frames in flight only).
    """
    flies = in_flight(joints, contacts, ankle_rest)
    inside = flies[..., :-2] & flies[..., 1:-1] & flies[..., 2:]
    residual = norm(flight_residual(joints, fps)) * inside
    return {
        "limits": limit_excess(joints).mean(),
        "self": self_penetration(joints).sum(-1).mean(),
        "ground": ground_penetration(joints, ankle_rest).mean(),
        "float": floating(joints, contacts, ankle_rest).mean(),
        "flight": residual.sum() / inside.sum().clamp(min=1),
    }


def _as(x: Any, like: Tensor) -> Tensor:
    return torch.as_tensor(np.asarray(x), dtype=like.dtype, device=like.device)
