"""Which joint of a BVH rig is which: anchors by name, what lies between them by topology; sides and lengths checked."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field

import numpy as np

from formats.foreign.bvh import BvhClip
from formats.foreign.bvh_kinematics import idle_positions, joint_positions
from formats.foreign.joints import CANONICAL, split_name
from formats.foreign.model import F32, F64
from formats.foreign.pose_space import LEG_SHARE, metres_of_height, space_of

_FEET = ("foot", "ankle")
_HANDS = ("hand", "wrist")
_TOES = ("toe", "toes", "toebase", "ball", "bigtoe", "toe0")
_HELPERS = ("roll", "twist", "helper", "ik", "pole", "target", "eff")
_TARGET_M = 1.70


@dataclass(frozen=True, slots=True)
class RigPose:
    """Joint positions (T, J, 3) float32 of a clip and how they were named and scaled."""

    xyz: F32
    joints: tuple[str, ...]
    units: str
    up: str
    problems: tuple[str, ...]
    assumptions: tuple[str, ...]
    meta: dict[str, object]


@dataclass(slots=True)
class Rig:
    """A recognised rig: its family and, for each canonical joint, source joints with weights."""

    family: str
    weights: dict[str, dict[int, float]]
    flagged: list[str] = field(default_factory=list)
    used: dict[str, str] = field(default_factory=dict)


def canonical_pose(clip: BvhClip, values: F64) -> RigPose:
    """Positions of the 22 canonical joints in metres, or of the source's joints where the rig is not recognised."""
    world = joint_positions(clip, values)
    problems: list[str] = []
    notes = ["zero position channels ignored, OFFSET kept"] if idle_positions(clip) else []
    rig = recognise(clip, world)
    if rig is None:
        names = _unique([j.name for j in clip.joints])
        space = space_of(world, names, None)
        problems.append(f"unknown_rig: no arms and legs found among {len(names)} joints, source names are kept")
        meta: dict[str, object] = {"rig": "unknown"}
        return RigPose(
            space.xyz.astype(np.float32),
            names,
            space.units,
            space.up,
            tuple(problems),
            (*notes, *space.assumptions),
            meta,
        )
    points = np.stack([sum(w * world[:, i] for i, w in rig.weights[name].items()) for name in CANONICAL], axis=1)
    height = _leg_length(points) / LEG_SHARE
    found = metres_of_height(height) if np.isfinite(height) else None
    scale = found[0] if found else (_TARGET_M / height if np.isfinite(height) and height > 1e-6 else 1.0)
    notes.append(f"units {found[1]} from a body height of {height:.4g}" if found else
                 f"units inferred: a body height of {height:.4g} is scaled to {_TARGET_M} m")  # fmt: skip
    space = space_of(points * scale, CANONICAL, None)
    problems += [*(f"missing_joint: {text}" for text in rig.flagged), *_checks(points, space.up)]
    notes += [n for n in space.assumptions if not n.startswith("units")]
    meta = {"rig": rig.family, "scale": float(scale), "units_found": found[1] if found else "inferred", "map": rig.used}
    return RigPose(space.xyz.astype(np.float32), CANONICAL, "m", space.up, tuple(problems), tuple(notes), meta)


def recognise(clip: BvhClip, world: F64) -> Rig | None:
    """Find the 22 joints in a rig; None when it has no two legs and two arms that meet in a spine."""
    names = [split_name(j.name) for j in clip.joints]
    parents = [j.parent for j in clip.joints]
    rest = _rest(clip, world)
    limbs: dict[str, int] = {}
    for side in "lr":
        for limb, anchors, parts in (
            ("leg", _FEET, ("hip", "knee", "ankle")),
            ("arm", _HANDS, ("shoulder", "elbow", "wrist")),
        ):
            tip = _anchor(names, parents, side, anchors)
            chain = None if tip is None else _up_chain(tip, parents, names, rest, 2)
            if tip is None or chain is None:
                return _by_shape(clip, world)
            for part, joint in zip(parts[::-1], (tip, *chain), strict=True):
                limbs[f"{side}_{part}"] = joint
            if limb == "arm":
                collar = _up_chain(chain[1], parents, names, rest, 1)
                if collar and names[collar[0]][0] == side:
                    limbs[f"{side}_collar"] = collar[0]
    return _assemble(clip, names, parents, rest, limbs)


def _rest(clip: BvhClip, world: F64) -> F64:
    """(J, J-parent) bone vectors as one row per joint: the median distance to the parent in the moving pose."""
    out = np.zeros(len(clip.joints))
    step = max(1, len(world) // 64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        for i, joint in enumerate(clip.joints):
            if joint.parent >= 0:
                out[i] = np.nanmedian(np.linalg.norm(world[::step, i] - world[::step, joint.parent], axis=1))
    return np.nan_to_num(out)


def _anchor(names: list[tuple[str, str]], parents: list[int], side: str, words: tuple[str, ...]) -> int | None:
    """The highest joint of a side whose part is one of `words` (an ankle before a foot, a wrist before a hand)."""
    found = [i for i, (s, part) in enumerate(names) if s == side and part in words]
    exact = [i for i in found if names[i][1] in ("ankle", "wrist")] or found
    return exact[0] if exact else None


def _up_chain(
    joint: int, parents: list[int], names: list[tuple[str, str]], rest: F64, count: int
) -> tuple[int, ...] | None:
    """The next `count` ancestors at a distance; joints on top of each other and twist helpers are passed over."""
    tiny = 1e-3 * float(rest.max(initial=0.0))
    chain: list[int] = []
    gap, at = rest[joint], parents[joint]
    while at >= 0 and len(chain) < count:
        if gap > tiny and not any(names[at][1].endswith(h) for h in _HELPERS):
            chain.append(at)
            gap = 0.0
        gap += rest[at]
        at = parents[at]
    return tuple(chain) if len(chain) == count else None


def _path(joint: int, parents: list[int]) -> list[int]:
    path = []
    while joint >= 0:
        path.append(joint)
        joint = parents[joint]
    return path[::-1]


def _meeting(a: int, b: int, parents: list[int]) -> int | None:
    other = set(_path(b, parents))
    return next((j for j in reversed(_path(a, parents)) if j in other), None)


def _assemble(
    clip: BvhClip, names: list[tuple[str, str]], parents: list[int], rest: F64, limbs: dict[str, int]
) -> Rig | None:
    pelvis = _meeting(limbs["l_hip"], limbs["r_hip"], parents)
    top = _meeting(limbs["l_shoulder"], limbs["r_shoulder"], parents)
    if pelvis is None or top is None or pelvis == top or pelvis not in _path(top, parents):
        return None
    rig = Rig(_family(clip), {name: {joint: 1.0} for name, joint in limbs.items()})
    rig.weights["pelvis"] = {pelvis: 1.0}
    tiny = 1e-3 * float(rest.max(initial=0.0))
    spine = [j for j in _path(top, parents)[len(_path(pelvis, parents)) :] if rest[j] > tiny]
    if not spine:
        return None
    _spine(rig, pelvis, spine, rest)
    _head(rig, clip, names, parents, rest, top)
    for side in "lr":
        rig.weights.setdefault(f"{side}_collar", {top: 0.5, limbs[f"{side}_shoulder"]: 0.5})
        toe = next((j for j in _below(limbs[f"{side}_ankle"], parents) if names[j][1] in _TOES), None)
        toe = toe or next((j for j in _below(limbs[f"{side}_ankle"], parents) if rest[j] > tiny), None)
        if toe is None:
            rig.flagged.append(f"{side}_toe, the ankle is used")
        rig.weights[f"{side}_toe"] = {toe if toe is not None else limbs[f"{side}_ankle"]: 1.0}
    for name in CANONICAL:
        parts = ((clip.joints[i].name, w) for i, w in rig.weights[name].items())
        rig.used[name] = " + ".join(theirs if w == 1 else f"{w:.3g} {theirs}" for theirs, w in parts)
    return rig


def _below(joint: int, parents: list[int]) -> list[int]:
    inside = {joint}
    for i, parent in enumerate(parents):
        if parent in inside:
            inside.add(i)
    return sorted(inside - {joint})


def _spine(rig: Rig, pelvis: int, spine: list[int], rest: F64) -> None:
    """spine1, spine2 and chest from 1 to many spine joints (motion.md section 9): as they are where there are three,
    else at thirds of the arc length; two joints are spine2 and chest with spine1 before them."""
    if len(spine) == 3:
        for name, joint in zip(("spine1", "spine2", "chest"), spine, strict=True):
            rig.weights[name] = {joint: 1.0}
        return
    rig.weights["chest"] = {spine[-1]: 1.0}
    if len(spine) == 2:
        rig.weights["spine1"], rig.weights["spine2"] = {pelvis: 0.45, spine[0]: 0.55}, {spine[0]: 1.0}
        return
    nodes = [pelvis, *spine]
    arc = np.concatenate([[0.0], np.cumsum(rest[spine])])
    for name, share in (("spine1", 1 / 3), ("spine2", 2 / 3)):
        at = min(int(np.searchsorted(arc, share * arc[-1], side="right")) - 1, len(spine) - 1)
        part = float((share * arc[-1] - arc[at]) / (arc[at + 1] - arc[at]))
        rig.weights[name] = {nodes[at]: 1 - part, nodes[at + 1]: part}


def _head(rig: Rig, clip: BvhClip, names: list[tuple[str, str]], parents: list[int], rest: F64, top: int) -> None:
    arms = {j for side in "lr" for j in _arm_branch(rig, side, top, parents)}
    below = [j for j in _below(top, parents) if j not in arms]
    tiny = 1e-3 * float(rest.max(initial=0.0))
    middle = [j for j in below if not names[j][0]]
    head = next((j for j in middle if names[j][1] == "head"), None)
    head = head or next((j for j in middle if names[j][1].startswith("head")), None)
    if head is None:
        leaves = [j for j in middle or below if j not in parents]
        if not leaves:
            rig.weights["neck"] = rig.weights["head"] = {top: 1.0}
            rig.flagged.append("head, the chest is used")
            return
        head = max(leaves, key=lambda j: len(_path(j, parents)))
        rig.flagged.append(f"head, {clip.joints[head].name} is used")
    between = [j for j in _path(head, parents)[len(_path(top, parents)) : -1] if rest[j] > tiny]
    rig.weights["head"] = {head: 1.0}
    rig.weights["neck"] = {between[0]: 1.0} if between else {top: 0.5, head: 0.5}


def _arm_branch(rig: Rig, side: str, top: int, parents: list[int]) -> list[int]:
    """Every joint of the branch below `top` that carries an arm."""
    joint = next(iter(rig.weights[f"{side}_shoulder"]))
    while parents[joint] != top and parents[joint] >= 0:
        joint = parents[joint]
    return [joint, *_below(joint, parents)]


def _family(clip: BvhClip) -> str:
    text = {j.name.strip().lower() for j in clip.joints}
    if any(t.startswith("mixamorig") for t in text):
        return "mixamo"
    if "upperleg_l" in text and "upperarm_l" in text:
        return "bandai"
    if "lhipjoint" in text:
        return "cmu"
    parts = {split_name(j.name) for j in clip.joints}
    if ("l", "upleg") in parts:
        return "motionbuilder"
    if ("l", "collar") in parts and ("l", "shoulder") in parts:
        return "smpl" if ("", "spine3") in parts or (("l", "wrist") in parts and ("", "pelvis") in parts) else "collar"
    return "smpl" if ("l", "ankle") in parts and ("", "pelvis") in parts else "other"


def _by_shape(clip: BvhClip, world: F64) -> Rig | None:
    from formats.foreign.bvh_shape import limbs_by_shape

    parents = [j.parent for j in clip.joints]
    rest = _rest(clip, world)
    limbs = limbs_by_shape(parents, rest, world)
    if limbs is None:
        return None
    rig = _assemble(clip, [("", "")] * len(parents), parents, rest, limbs)
    if rig is not None:
        rig.family = "by topology"
        rig.flagged = [f for f in rig.flagged if not f.startswith("head")]
    return rig


def _leg_length(points: F64) -> float:
    total = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        for side in "lr":
            hip, knee, ankle = (points[:, CANONICAL.index(f"{side}_{p}")] for p in ("hip", "knee", "ankle"))
            total.append(
                np.nanmedian(np.linalg.norm(knee - hip, axis=1)) + np.nanmedian(np.linalg.norm(ankle - knee, axis=1))
            )
    return float(np.mean(total))


def _checks(points: F64, up: str) -> list[str]:
    """Doubts after mapping: swapped sides, unequal limbs, bones that change length, head below pelvis."""
    at = CANONICAL.index
    problems = []
    axis, sign = "xyz".index(up[1]), 1.0 if up[0] == "+" else -1.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        for parts in (("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow"), ("elbow", "wrist")):
            left, right = (
                np.linalg.norm(points[:, at(f"{s}_{parts[0]}")] - points[:, at(f"{s}_{parts[1]}")], axis=1)
                for s in "lr"
            )
            a, b = float(np.nanmean(left)), float(np.nanmean(right))
            if abs(a - b) > 0.05 * max(a, b):
                problems.append(f"uneven: {parts[0]} to {parts[1]} is {a:.3g} on the left, {b:.3g} on the right")
            if float(np.nanstd(left)) > 0.01 * a:
                share = 100 * float(np.nanstd(left)) / a
                problems.append(f"bone_std: {parts[0]} to {parts[1]} varies by {share:.1f} %, tracked or generated")
        if float(np.nanmedian((points[:, at("head")] - points[:, at("pelvis")])[:, axis])) * sign < 0:
            problems.append("upside_down: the head is below the pelvis in the median frame")
        lateral = points[:, at("l_hip")] - points[:, at("r_hip")]
        toes = points[:, at("l_toe")] + points[:, at("r_toe")] - points[:, at("l_ankle")] - points[:, at("r_ankle")]
        side = np.einsum("ti,ti->t", lateral, np.cross(np.eye(3)[axis] * sign, toes))
        if float(np.nanmean(side < 0)) > 0.5:
            problems.append("sides: left is right of the pelvis in most frames")
    return problems


def _unique(names: list[str]) -> tuple[str, ...]:
    seen: dict[str, int] = {}
    out = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        out.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return tuple(out)
