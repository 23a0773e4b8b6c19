"""From 22 named points to a body in metres, y up, on the floor; its sides and bones checked (motion.md, section 9)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from formats.foreign.joints import CANONICAL
from formats.foreign.model import F64
from formats.foreign.pose_space import metres_of_height, turn_up
from formats.proportions import LEG_SHARE

TARGET_M = 1.70
"""Stature of a body whose unit cannot be told."""
ANKLE_SHARE, TOE_AHEAD, TOE_BELOW = 0.05, 0.072, 0.035
"""Ankle height at rest, and the toe from the ankle, over stature; ahead and below make a foot of 0.08."""
_FLOOR_PERCENTILE = 2.0
_CONTACT_SPEED, _CONTACT_HEIGHT = 0.35, 0.08
_FEW_CONTACTS = 0.05
_FAR = 1e9
_UPRIGHT, _SELDOM = 0.7, 0.1
FLOOR_SAID = "floor: at 0, as its writer says"
_LYING = 0.1  # metres: a head this little below the pelvis is a body on the floor
_AT = {name: i for i, name in enumerate(CANONICAL)}
_HIGH, _LOW = [_AT["l_shoulder"], _AT["r_shoulder"]], [_AT["l_ankle"], _AT["r_ankle"]]


@dataclass(frozen=True, slots=True)
class Scaling:
    """How lengths become metres; the first that is known counts, without any of them the skeleton's height decides.

    Args:
        scale: The user's factor from source units to metres.
        height: The user's stature in metres.
        declared: The format's own (factor, unit), certain.
        hinted: What the file says (factor, unit); believed where it gives a human height.
    """

    scale: float | None = None
    height: float | None = None
    declared: tuple[float, str] | None = None
    hinted: tuple[float, str] | None = None


@dataclass(frozen=True, slots=True)
class Body:
    """(T, 22, 3) float64 canonical joints, metres, y up, with what was assumed and doubted."""

    xyz: F64
    notes: tuple[str, ...]
    problems: tuple[str, ...]
    meta: dict[str, object]


def known_points(xyz: F64) -> F64:
    """(T, J, 3) positions with NaN for every point that is not finite, or farther than any unit can mean."""
    with np.errstate(invalid="ignore"):
        good = (np.abs(xyz) < _FAR).all(axis=2, keepdims=True)
    return np.where(good, xyz, np.nan)


def finish(
    points: F64,
    scaling: Scaling,
    fps: float | None,
    *,
    ups: Sequence[str] = ("+y",),
    grounded: bool = True,
    missing_toes: Sequence[str] = (),
) -> Body:
    """Scale, turn up, put on the floor and check.

    Args:
        points: (T, 22, 3) canonical joints, source units and axes; NaN where missing.
        scaling: How the unit is found.
        fps: Frames per second, None where unknown: contacts are then told by height alone.
        ups: Directions that can be up, the usual one first.
        grounded: Move the floor to 0.
        missing_toes: Sides (`l`, `r`) whose toe is to be placed a foot length ahead of the ankle.
    """
    stature = leg_length(points) / LEG_SHARE
    factor, unit, note = _factor(stature, scaling)
    notes = [note]
    up = up_of(points[:, _HIGH], points[:, _LOW], ups)
    xyz = np.ascontiguousarray(turn_up(points * factor, up)) if up != "+y" else points * factor
    if up != "+y":
        notes.append(f"axes turned, up was {up}")
    for side in missing_toes:
        xyz[:, _AT[f"{side}_toe"]] = _placed_toe(xyz, side, stature * factor)
    problems: list[str] = []
    if grounded:
        xyz, found, fault = to_floor(xyz, fps)
        notes += [found] if found else []
        problems += [fault] if fault else []
    problems += checks(xyz)
    meta: dict[str, object] = {"scale": float(factor), "units_found": unit}
    if np.isfinite(stature):
        meta["height_m"] = round(float(stature * factor), 4)
    return Body(xyz, tuple(notes), tuple(problems), meta)


def _factor(stature: float, scaling: Scaling) -> tuple[float, str, str]:
    """Metres per source unit, the unit's name, and the sentence about how it was chosen."""
    known = bool(np.isfinite(stature)) and stature > 1e-9
    if scaling.scale is not None:
        return scaling.scale, "given", f"units: the scale {scaling.scale:g} was given"
    if scaling.height is not None and known:
        return scaling.height / stature, "given", f"units: a body height of {scaling.height:g} m was given"
    if scaling.declared is not None:
        factor, unit = scaling.declared
        return factor, unit, f"units {unit} by the format"
    found = metres_of_height(stature) if known else None
    if found is not None:
        return *found, f"units {found[1]} from a body height of {stature:.4g}"
    if not known:
        return 1.0, "unknown", "units unknown: no leg has a length, nothing was scaled"
    if scaling.hinted is not None and metres_of_height(stature * scaling.hinted[0]) == (1.0, "m"):
        factor, unit = scaling.hinted
        return factor, unit, f"units {unit} as the file says, a body height of {stature * factor:.3g} m"
    note = f"units inferred: a body height of {stature:.4g} is scaled to {TARGET_M} m"
    return TARGET_M / stature, "inferred", note


def up_of(high: F64, low: F64, ups: Sequence[str]) -> str:
    """Which of several directions is up, by how a body stands.

    The usual one, when the body is upright along it now and then: dancers lie, fall and stand on their hands. Another
    one only when the body is upright along that nearly always.

    Args:
        high, low: (T, n, 3) points of the shoulders and of the ankles, source axes.
        ups: `+y`, `-z`... that can be up, the usual one first.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        span = np.nanmean(high, axis=1) - np.nanmean(low, axis=1)
    span = span[np.isfinite(span).all(axis=1)]
    if not len(span) or len(ups) < 2:
        return ups[0]
    span /= np.maximum(np.linalg.norm(span, axis=1, keepdims=True), 1e-12)
    share = {up: float(np.mean(span[:, "xyz".index(up[1])] * (1 if up[0] == "+" else -1) > _UPRIGHT)) for up in ups}
    best = max(ups[1:], key=lambda up: share[up])
    return best if share[ups[0]] < _SELDOM and share[best] > 1 - _SELDOM else ups[0]


def _placed_toe(xyz: F64, side: str, stature: float) -> F64:
    """(T, 3) the toe of a foot of usual length that points where the hips face, for rigs without toes."""
    lateral = xyz[:, _AT["l_hip"]] - xyz[:, _AT["r_hip"]]
    ahead = np.cross(lateral, (0.0, 1.0, 0.0))
    ahead /= np.maximum(np.linalg.norm(ahead, axis=1, keepdims=True), 1e-9)
    size = stature if np.isfinite(stature) else TARGET_M
    return np.asarray(xyz[:, _AT[f"{side}_ankle"]] + size * (TOE_AHEAD * ahead - np.array((0.0, TOE_BELOW, 0.0))))


def to_floor(xyz: F64, fps: float | None) -> tuple[F64, str, str]:
    """Move the floor to y = 0: the 2nd percentile of the lowest of toes and of ankles less their height at rest.

    Args:
        xyz: (T, 22, 3) metres, y up.
        fps: Frames per second or None.

    Returns:
        The moved positions, the note about it (empty when nothing moved), the doubt (where feet hardly touch).
    """
    rest = ANKLE_SHARE * leg_length(xyz) / LEG_SHARE
    feet = [_AT[n] for n in ("l_ankle", "r_ankle", "l_toe", "r_toe")]
    low = xyz[:, feet, 1] - np.array((rest, rest, 0.0, 0.0))
    if not np.isfinite(low).any():
        return xyz, "", "floor: no foot was seen, the floor is left where it is"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        lowest = np.nanmin(low, axis=1)
        floor = float(np.nanpercentile(lowest, _FLOOR_PERCENTILE))
        near = np.nanmin(np.stack([low[:, [0, 2]], low[:, [1, 3]]]), axis=2) - floor < _CONTACT_HEIGHT
    if fps and len(xyz) > 1:
        speed = np.linalg.norm(np.diff(xyz[:, feet], axis=0, prepend=xyz[:1, feet]), axis=2) * fps
        speed[0] = speed[1]
        slow = np.stack([np.fmin(speed[:, 0], speed[:, 2]), np.fmin(speed[:, 1], speed[:, 3])]) < _CONTACT_SPEED
        near &= slow
    share = float(near.any(axis=0).mean())
    if share < _FEW_CONTACTS:
        return xyz, "", f"floor: the feet rest in {100 * share:.1f} % of the frames, the floor is left where it is"
    moved = xyz.copy()
    moved[:, :, 1] -= floor
    return moved, f"floor: moved by {-floor:.4f} m" if abs(floor) > 5e-5 else "", ""


def leg_length(points: F64) -> float:
    """Thigh plus shank, the mean of both sides of the median over time; NaN where no leg is seen."""
    total = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        for side in "lr":
            hip, knee, ankle = (points[:, _AT[f"{side}_{part}"]] for part in ("hip", "knee", "ankle"))
            thigh, shank = np.linalg.norm(knee - hip, axis=1), np.linalg.norm(ankle - knee, axis=1)
            total.append(np.nanmedian(thigh) + np.nanmedian(shank))
        return float(np.nanmean(total))


def checks(xyz: F64) -> list[str]:
    """Doubts about (T, 22, 3) y-up joints: unequal limbs, changing bones, head below pelvis, swapped sides."""
    problems = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        for parts in (("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow"), ("elbow", "wrist")):
            left, right = (
                np.linalg.norm(xyz[:, _AT[f"{s}_{parts[0]}"]] - xyz[:, _AT[f"{s}_{parts[1]}"]], axis=1) for s in "lr"
            )
            a, b = float(np.nanmean(left)), float(np.nanmean(right))
            if abs(a - b) > 0.05 * max(a, b):
                problems.append(f"uneven: {parts[0]} to {parts[1]} is {a:.3g} on the left, {b:.3g} on the right")
            share = max(float(np.nanstd(v)) / m for v, m in ((left, max(a, 1e-9)), (right, max(b, 1e-9))))
            if share > 0.01:
                problems.append(
                    f"bone_std: {parts[0]} to {parts[1]} varies by {100 * share:.1f} %, tracked or generated"
                )
        if float(np.nanmedian(xyz[:, _AT["head"], 1] - xyz[:, _AT["pelvis"], 1])) < -_LYING:
            problems.append("upside_down: the head is below the pelvis in the median frame")
        lateral = xyz[:, _AT["l_hip"]] - xyz[:, _AT["r_hip"]]
        toes = (xyz[:, _AT["l_toe"]] + xyz[:, _AT["r_toe"]]) - (xyz[:, _AT["l_ankle"]] + xyz[:, _AT["r_ankle"]])
        side = np.einsum("ti,ti->t", lateral, np.cross((0.0, 1.0, 0.0), toes))
        if float(np.nanmean(side < 0)) > 0.5:
            problems.append("sides: left is right of the pelvis in most frames")
    return problems
