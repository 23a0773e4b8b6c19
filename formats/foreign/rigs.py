"""Which joint of a rig is which: anchors by name, what lies between them by topology; the same for every format."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from formats.foreign.body import Scaling, finish, leg_length
from formats.foreign.joints import CANONICAL, split_name
from formats.foreign.model import F32, F64
from formats.foreign.pose_space import space_of

_FEET = ("foot", "ankle")
_HANDS = ("hand", "wrist")
_TOES = ("toe", "toes", "toebase", "ball", "bigtoe", "toe0")
_HELPERS = ("roll", "twist", "helper", "ik", "pole", "target", "eff")


@dataclass(frozen=True, slots=True)
class Tree:
    """The joints of a rig: names and the index of each one's parent, -1 at the root; parents come first."""

    names: Sequence[str]
    parents: Sequence[int]


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


def canonical_pose(
    tree: Tree, world: F64, rest: F64, scaling: Scaling, fps: float | None, *, sample: bool = False
) -> RigPose:
    """The 22 canonical joints in metres, y up, on the floor; the source's joints where the rig is not recognised.

    Args:
        tree: Names and parents.
        world: (T, J, 3) positions, source units and axes.
        rest: (J, 3) positions at rest, which say what is up where the body does not; zeros where the file has none.
        scaling: How the unit is found.
        fps: Frames per second, for the foot contacts that find the floor.
        sample: The frames are only a sample of the clip: the floor is left where it is.
    """
    rig = recognise(tree, world)
    if rig is None:
        names = _unique(list(tree.names))
        space = space_of(world, names, None)
        fault = f"unknown_rig: no arms and legs found among {len(names)} joints, source names are kept"
        xyz = space.xyz.astype(np.float32)
        return RigPose(xyz, names, space.units, space.up, (fault,), space.assumptions, {"rig": "unknown"})
    points = _weighted(rig, world)
    toeless = [side for side in "lr" if any(f.startswith(f"{side}_toe") for f in rig.flagged)]
    body = finish(
        points, scaling, fps, ups=_ups(points, _weighted(rig, rest[None])), grounded=not sample, missing_toes=toeless
    )
    problems = (*(f"missing_joint: {text}" for text in rig.flagged), *body.problems)
    notes = (f"rig {rig.family}", *body.notes)
    meta = {"rig": rig.family, **body.meta, "map": rig.used}
    return RigPose(body.xyz.astype(np.float32), CANONICAL, "m", "+y", problems, notes, meta)


def _weighted(rig: Rig, world: F64) -> F64:
    """(T, 22, 3) canonical joints of (T, J, 3) source joints."""
    return np.stack([sum(w * world[:, i] for i, w in rig.weights[name].items()) for name in CANONICAL], axis=1)


def _ups(points: F64, rest: F64) -> tuple[str, ...]:
    """What can be up: y as everywhere, or the way the rig stands at rest; z where it has no rest pose."""
    size = leg_length(points)
    if not 0.5 * size < leg_length(rest) < 2 * size:
        return ("+y", "+z")
    at = CANONICAL.index
    span = rest[0, at("head")] - (rest[0, at("l_ankle")] + rest[0, at("r_ankle")]) / 2
    axis = int(np.argmax(np.abs(span)))
    return tuple(dict.fromkeys(("+y", ("+" if span[axis] > 0 else "-") + "xyz"[axis])))


def recognise(tree: Tree, world: F64) -> Rig | None:
    """Find the 22 joints in a rig; None when it has no two legs and two arms that meet in a spine."""
    names, parents = [split_name(n) for n in tree.names], list(tree.parents)
    rest = _rest(parents, world)
    limbs: dict[str, int] = {}
    for side in "lr":
        for limb, anchors, parts in (
            ("leg", _FEET, ("hip", "knee", "ankle")),
            ("arm", _HANDS, ("shoulder", "elbow", "wrist")),
        ):
            tip = _anchor(names, parents, side, anchors)
            chain = None if tip is None else _up_chain(tip, parents, names, rest, 2)
            if tip is None or chain is None:
                return _by_shape(tree, world)
            for part, joint in zip(parts[::-1], (tip, *chain), strict=True):
                limbs[f"{side}_{part}"] = joint
            if limb == "arm":
                collar = _up_chain(chain[1], parents, names, rest, 1)
                if collar and names[collar[0]][0] == side:
                    limbs[f"{side}_collar"] = collar[0]
    return _assemble(tree, names, parents, rest, limbs)


def _rest(parents: list[int], world: F64) -> F64:
    """(J, J-parent) bone vectors as one row per joint: the median distance to the parent in the moving pose."""
    out = np.zeros(len(parents))
    step = max(1, len(world) // 64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        for i, parent in enumerate(parents):
            if parent >= 0:
                out[i] = np.nanmedian(np.linalg.norm(world[::step, i] - world[::step, parent], axis=1))
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
    tree: Tree, names: list[tuple[str, str]], parents: list[int], rest: F64, limbs: dict[str, int]
) -> Rig | None:
    pelvis = _meeting(limbs["l_hip"], limbs["r_hip"], parents)
    top = _meeting(limbs["l_shoulder"], limbs["r_shoulder"], parents)
    if pelvis is None or top is None or pelvis == top or pelvis not in _path(top, parents):
        return None
    rig = Rig(_family(tree.names), {name: {joint: 1.0} for name, joint in limbs.items()})
    rig.weights["pelvis"] = {pelvis: 1.0}
    tiny = 1e-3 * float(rest.max(initial=0.0))
    spine = [j for j in _path(top, parents)[len(_path(pelvis, parents)) :] if rest[j] > tiny]
    if not spine:
        return None
    _spine(rig, pelvis, spine, rest)
    _head(rig, tree.names, names, parents, rest, top)
    for side in "lr":
        rig.weights.setdefault(f"{side}_collar", {top: 0.5, limbs[f"{side}_shoulder"]: 0.5})
        toe = next((j for j in _below(limbs[f"{side}_ankle"], parents) if names[j][1] in _TOES), None)
        toe = toe or next((j for j in _below(limbs[f"{side}_ankle"], parents) if rest[j] > tiny), None)
        if toe is None:
            rig.flagged.append(f"{side}_toe, placed a foot length ahead of the ankle")
        rig.weights[f"{side}_toe"] = {toe if toe is not None else limbs[f"{side}_ankle"]: 1.0}
    for name in CANONICAL:
        parts = ((tree.names[i], w) for i, w in rig.weights[name].items())
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


def _head(
    rig: Rig, shown: Sequence[str], names: list[tuple[str, str]], parents: list[int], rest: F64, top: int
) -> None:
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
        rig.flagged.append(f"head, {shown[head]} is used")
    between = [j for j in _path(head, parents)[len(_path(top, parents)) : -1] if rest[j] > tiny]
    rig.weights["head"] = {head: 1.0}
    rig.weights["neck"] = {between[0]: 1.0} if between else {top: 0.5, head: 0.5}


def _arm_branch(rig: Rig, side: str, top: int, parents: list[int]) -> list[int]:
    """Every joint of the branch below `top` that carries an arm."""
    joint = next(iter(rig.weights[f"{side}_shoulder"]))
    while parents[joint] != top and parents[joint] >= 0:
        joint = parents[joint]
    return [joint, *_below(joint, parents)]


def _family(names: Sequence[str]) -> str:
    text = {n.strip().lower() for n in names}
    if any(t.startswith("mixamorig") for t in text):
        return "mixamo"
    if "upperleg_l" in text and "upperarm_l" in text:
        return "bandai"
    if "lhipjoint" in text:
        return "cmu"
    parts = {split_name(n) for n in names}
    if ("l", "upleg") in parts:
        return "motionbuilder"
    if ("l", "collar") in parts and ("l", "shoulder") in parts:
        return "smpl" if ("", "spine3") in parts or (("l", "wrist") in parts and ("", "pelvis") in parts) else "collar"
    return "smpl" if ("l", "ankle") in parts and ("", "pelvis") in parts else "other"


def _by_shape(tree: Tree, world: F64) -> Rig | None:
    from formats.foreign.rig_shape import limbs_by_shape

    parents = list(tree.parents)
    rest = _rest(parents, world)
    limbs = limbs_by_shape(parents, rest, world)
    if limbs is None:
        return None
    rig = _assemble(tree, [("", "")] * len(parents), parents, rest, limbs)
    if rig is not None:
        rig.family = "by topology"
        rig.flagged = [f for f in rig.flagged if not f.startswith("head")]
    return rig


def _unique(names: list[str]) -> tuple[str, ...]:
    seen: dict[str, int] = {}
    out = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        out.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return tuple(out)
