"""What the biomechanics of the 22 joints is measured with: limits, segment masses, capsules, a rest pose.

Segment masses and centres: D. A. Winter, Biomechanics and Motor Control of Human Movement, 4th ed. (2009), table 4.1,
after Dempster; foot, shank, thigh, trunk, head with neck, upper arm, forearm and hand add up to the whole body. Radii
and the rest pose are round fractions of the stature of our own; limits are those of the choreo25 layout.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from formats.foreign.joints import CANONICAL

F64 = NDArray[np.float64]

LIMIT_NAMES = (
    "l_elbow", "r_elbow", "l_knee", "r_knee", "pelvis_tilt", "chest_rotation",
    "l_arm_reach", "r_arm_reach", "l_leg_reach", "r_leg_reach",
)  # fmt: skip
ANGLES = 6  # the first six are degrees, the reaches per cent of the limb


@dataclass(frozen=True, slots=True)
class Segment:
    """A rigid part: joints at both ends (several are averaged), share of the mass, centre from the first end."""

    start: tuple[str, ...]
    end: tuple[str, ...]
    mass: float
    centre: float


@dataclass(frozen=True, slots=True)
class Capsule:
    """A bone with a radius (fraction of stature).

    `skip` leaves out its beginning and `beyond` lengthens it past its end (fractions of the bone): where a limb meets
    the trunk, or its twin, the flesh of both is one.
    """

    start: str
    end: str
    radius: float
    beyond: float = 0.0
    skip: float = 0.0


def _sides(start: str, end: str, mass: float, centre: float) -> tuple[Segment, ...]:
    return tuple(Segment((f"{s}_{start}",), (f"{s}_{end}",), mass, centre) for s in "lr")


SEGMENTS: tuple[Segment, ...] = (
    Segment(("l_hip", "r_hip"), ("l_shoulder", "r_shoulder"), 0.497, 0.50),
    Segment(("neck",), ("head",), 0.081, 1.0),
    *_sides("shoulder", "elbow", 0.028, 0.436),
    *_sides("elbow", "wrist", 0.016, 0.430),
    *_sides("wrist", "wrist", 0.006, 0.0),  # the hand, at the wrist: there is no joint beyond it
    *_sides("hip", "knee", 0.100, 0.433),
    *_sides("knee", "ankle", 0.0465, 0.433),
    *_sides("ankle", "toe", 0.0145, 0.50),
)
CAPSULES: tuple[Capsule, ...] = (
    Capsule("pelvis", "spine2", 0.055),
    Capsule("spine2", "neck", 0.055),
    Capsule("neck", "head", 0.045, 1.0),
    *(Capsule(f"{s}_shoulder", f"{s}_elbow", 0.024, skip=0.35) for s in "lr"),
    *(Capsule(f"{s}_elbow", f"{s}_wrist", 0.018, 0.3) for s in "lr"),
    *(Capsule(f"{s}_hip", f"{s}_knee", 0.036, skip=0.35) for s in "lr"),
    *(Capsule(f"{s}_knee", f"{s}_ankle", 0.022) for s in "lr"),
    *(Capsule(f"{s}_ankle", f"{s}_toe", 0.014) for s in "lr"),
)


@dataclass(frozen=True, slots=True)
class Params:
    """Limits of the body.

    Args:
        hinge_max_deg: Largest flexion of elbow and knee.
        hyperextension_deg: How far a knee may bend backwards (healthy knees reach 5-10); of an elbow, positions do not
            say which side it bends to.
        tilt_max_deg: Largest angle of the pelvis against up: pitch and roll within a quarter turn.
        chest_max_rad: Largest rotation of the chest against the pelvis.
        arm_reach, leg_reach: Largest distance shoulder to wrist and pelvis to ankle, in limb lengths; the arm's has a
            hundredth of room for interpolated frames of a straight arm.
        foot_half_width: Of the sole, fraction of stature.
        heel: Sole behind the ankle, fraction of stature.
    """

    hinge_max_deg: float = 155.0
    hyperextension_deg: float = 10.0
    tilt_max_deg: float = 90.0
    chest_max_rad: float = 1.6
    arm_reach: float = 1.01
    leg_reach: float = 1.25
    foot_half_width: float = 0.025
    heel: float = 0.03


DEFAULT = Params()


def described() -> dict[str, Any]:
    """Everything a figure depends on, as JSON values for the `params` of a record."""
    return {
        "limits": asdict(DEFAULT),
        "segments": [["+".join(s.start), "+".join(s.end), s.mass, s.centre] for s in SEGMENTS],
        "segments_source": "Winter 2009 table 4.1",
        "capsules": [[c.start, c.end, c.radius, c.beyond, c.skip] for c in CAPSULES],
        "pairs": len(pairs()),
    }


@lru_cache(maxsize=1)
def rest_pose() -> F64:
    """(22, 3) T-pose of stature 1, pelvis at the origin: fractions of motion.md section 7."""
    x = dict.fromkeys(CANONICAL, np.zeros(3))

    def put(name: str, parent: str, *offset: float) -> None:
        x[name] = x[parent] + np.array(offset)

    for name, parent, offset in (
        ("spine1", "pelvis", (0, 0.065, -0.01)),
        ("spine2", "spine1", (0, 0.08, 0)),
        ("chest", "spine2", (0, 0.035, 0.005)),
        ("neck", "chest", (0, 0.125, -0.02)),
        ("head", "neck", (0, 0.05, 0.03)),
    ):
        put(name, parent, *offset)
    for s, side in (("l", 1.0), ("r", -1.0)):
        put(f"{s}_hip", "pelvis", 0.05 * side, -0.045, 0)
        put(f"{s}_knee", f"{s}_hip", 0, -0.235, 0)
        put(f"{s}_ankle", f"{s}_knee", 0, -0.246, 0)
        put(f"{s}_toe", f"{s}_ankle", 0, -0.03, 0.074)
        put(f"{s}_collar", "chest", 0.045 * side, 0.065, -0.015)
        put(f"{s}_shoulder", "chest", 0.11 * side, 0.085, -0.02)
        put(f"{s}_elbow", f"{s}_shoulder", 0.155 * side, 0, 0)
        put(f"{s}_wrist", f"{s}_elbow", 0.15 * side, 0, 0)
    return np.stack([x[name] for name in CANONICAL])


@lru_cache(maxsize=1)
def pairs() -> tuple[tuple[int, int], ...]:
    """Capsules that can run into each other: no shared joint, and apart in the rest pose."""
    from choreo_cli.motion.biomechanics import capsule_gaps

    every = [
        (i, j)
        for i, a in enumerate(CAPSULES)
        for j, b in enumerate(CAPSULES[i + 1 :], i + 1)
        if not {a.start, a.end} & {b.start, b.end}
    ]
    gaps = capsule_gaps(rest_pose(), np.ones(()), tuple(every))
    return tuple(p for p, gap in zip(every, gaps, strict=True) if gap > 0)


def pair_names() -> tuple[str, ...]:
    """`l_elbow-l_wrist x spine2-neck` for each pair."""
    return tuple(f"{CAPSULES[i].start}-{CAPSULES[i].end} x {CAPSULES[j].start}-{CAPSULES[j].end}" for i, j in pairs())


def segment_rows() -> F64:
    """(22,) weight of each joint in the centre of mass; the segments' weights are linear in their joints."""
    w = np.zeros(len(CANONICAL))
    for s in SEGMENTS:
        for names, share in ((s.start, 1 - s.centre), (s.end, s.centre)):
            for name in names:
                w[CANONICAL.index(name)] += s.mass * share / len(names)
    return w
