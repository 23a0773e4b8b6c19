"""Joint names: the 22 canonical joints, what other tools call them, and their order where a file only counts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from formats.foreign.model import F64

CANONICAL: tuple[str, ...] = (
    "pelvis", "l_hip", "r_hip", "spine1", "l_knee", "r_knee", "spine2", "l_ankle", "r_ankle", "chest", "l_toe", "r_toe",
    "neck", "l_collar", "r_collar", "head", "l_shoulder", "r_shoulder", "l_elbow", "r_elbow", "l_wrist", "r_wrist",
)  # fmt: skip
PARENTS: tuple[int, ...] = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19)


def _order(text: str) -> tuple[str, ...]:
    return tuple(text.split())


COCO_17 = _order(
    "nose l_eye r_eye l_ear r_ear l_shoulder r_shoulder l_elbow r_elbow l_wrist r_wrist "
    "l_hip r_hip l_knee r_knee l_ankle r_ankle"
)
COCO_18 = _order(
    "nose neck r_shoulder r_elbow r_wrist l_shoulder l_elbow l_wrist r_hip r_knee r_ankle l_hip l_knee l_ankle "
    "r_eye l_eye r_ear l_ear"
)
BODY_25 = _order(
    "nose neck r_shoulder r_elbow r_wrist l_shoulder l_elbow l_wrist pelvis r_hip r_knee r_ankle l_hip l_knee l_ankle "
    "r_eye l_eye r_ear l_ear l_toe l_small_toe l_heel r_toe r_small_toe r_heel"
)
MEDIAPIPE_33 = _order(
    "nose l_eye_inner l_eye l_eye_outer r_eye_inner r_eye r_eye_outer l_ear r_ear l_mouth r_mouth "
    "l_shoulder r_shoulder l_elbow r_elbow l_wrist r_wrist l_pinky r_pinky l_index r_index l_thumb r_thumb "
    "l_hip r_hip l_knee r_knee l_ankle r_ankle l_heel r_heel l_toe r_toe"
)
SMPL_24 = (*CANONICAL, "l_hand", "r_hand")
# By count of points; a wholebody set starts with its 17 or 18 body points.
BY_COUNT: dict[int, tuple[str, ...]] = {
    17: COCO_17, 18: COCO_18, 22: CANONICAL, 24: SMPL_24, 25: BODY_25, 33: MEDIAPIPE_33,
    128: COCO_18, 130: COCO_18, 133: COCO_17, 134: COCO_18, 135: BODY_25, 137: BODY_25,
}  # fmt: skip

# Apple's two skeletons share words for different joints: ARKit's shoulder_1 is a collar, Vision's is the shoulder.
_SIDES = (("left", "l"), ("right", "r"))
ARKIT: dict[str, str] = {
    "hips_joint": "pelvis", "spine_2_joint": "spine1", "spine_4_joint": "spine2", "spine_7_joint": "chest",
    "neck_1_joint": "neck", "head_joint": "head",
    **{f"{long}_{theirs}_joint": f"{side}_{ours}" for long, side in _SIDES for theirs, ours in (
        ("upLeg", "hip"), ("leg", "knee"), ("foot", "ankle"), ("toes", "toe"), ("shoulder_1", "collar"),
        ("arm", "shoulder"), ("forearm", "elbow"), ("hand", "wrist"))},
}  # fmt: skip
VISION: dict[str, str] = {
    "root": "pelvis", "neck_1_joint": "neck", "head_joint": "nose",
    **{f"{long}_{theirs}_joint": f"{side}_{ours}" for long, side in _SIDES for theirs, ours in (
        ("upLeg", "hip"), ("leg", "knee"), ("foot", "ankle"), ("shoulder_1", "shoulder"), ("forearm", "elbow"),
        ("hand", "wrist"), ("eye", "eye"), ("ear", "ear"))},
}  # fmt: skip

_TOKEN = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")
_NOISE = frozenset((
    "joint", "bone", "jnt", "def", "bip", "mixamorig", "character", "ctrl", "anim", "skel", "j", "b", "m", "avg", "pos",
    "position",
))  # fmt: skip
_LEFT, _RIGHT = frozenset(("left", "l", "lft")), frozenset(("right", "r", "rt", "rgt"))
_PARTS = {
    "hip": ("hip", "upleg", "upperleg", "thigh", "femur", "legupper"),
    "knee": ("knee", "lowerleg", "lowleg", "shin", "calf", "tibia", "leglower"),
    "ankle": ("ankle",),
    "toe": ("toe", "toes", "toebase", "bigtoe", "ball", "footindex", "toe0"),
    "collar": ("collar", "clavicle", "innershoulder"),
    "shoulder": ("upperarm", "uparm", "humerus", "armupper"),
    "elbow": ("elbow", "forearm", "lowerarm", "lowarm", "radius", "armlower"),
    "wrist": ("wrist",),
}
_SIDED = {word: part for part, words in _PARTS.items() for word in words}
_MIDDLE = {
    "pelvis": "pelvis", "hips": "pelvis", "hip": "pelvis", "midhip": "pelvis", "hipcenter": "pelvis",
    "spinebase": "pelvis", "centerhip": "pelvis", "hipscenter": "pelvis", "chest": "chest", "upperchest": "chest",
    "spine3": "chest", "spineshoulder": "chest", "thorax": "chest", "neck": "neck", "head": "head", "spinemid":
    "spine2",
}  # fmt: skip
_UPPER_LEG = frozenset(("upleg", "upperleg", "thigh", "femur"))
_UPPER_ARM = frozenset(("arm", "upperarm", "uparm", "humerus"))
_WORDS = frozenset(
    [
        *_SIDED,
        *_MIDDLE,
        "leg",
        "arm",
        "hand",
        "foot",
        "shoulder",
        "nose",
        "eye",
        "ear",
        "spine",
        "spine1",
        "spine2",
        "root",
    ]
)


def split_name(name: str) -> tuple[str, str]:
    """Split a joint name into (side, part): `mixamorig:LeftUpLeg` is ("l", "upleg"); side is "" in the middle."""
    bare = re.split(r"[:|]", name.strip()[:200])[-1]
    tokens = [t.lower() for t in _TOKEN.findall(bare)]
    if len(tokens) > 1 and tokens[0] in ("bip", "character", "mixamorig") and tokens[1].isdigit():
        tokens = tokens[2:]
    side, rest = "", []
    for token in tokens:
        if token in _LEFT or token in _RIGHT:
            side = side or ("l" if token in _LEFT else "r")
        elif token not in _NOISE:
            rest.append(token)
    part = "".join(rest)
    if not side and part not in _WORDS:
        for word, letter in (("left", "l"), ("right", "r"), ("l", "l"), ("r", "r")):
            if part.startswith(word) and part[len(word) :] in _WORDS:
                return letter, part[len(word) :]
    return side, part


@lru_cache(maxsize=4096)
def is_joint_word(name: str) -> bool:
    """Whether a name is one that pose files use for a body joint."""
    return split_name(name)[1] in _WORDS


def canonical_names(names: Sequence[str]) -> tuple[str, ...]:
    """Rename the joints that are known; the others keep the source's name.

    The same word means different joints in different families (`LeftShoulder` is a collar where there is a `LeftArm`),
    so a name is judged among all names of its skeleton. Two names for one joint: the first wins.
    """
    if any(n in CANONICAL and ("_" in n or n == "pelvis") for n in names):
        parts = {split_name(n)[1] for n in names}
        found = [n if n in CANONICAL else _one(n, *split_name(n), parts) for n in names]
        return _unique([n if ours in names else ours for ours, n in zip(found, names, strict=True)], names)
    if any(n in ARKIT for n in names):
        table = ARKIT if "hips_joint" in names or "left_arm_joint" in names else VISION
        return _unique([table.get(n, n) for n in names], names)
    split = [split_name(n) for n in names]
    parts = {part for _, part in split}
    return _unique([_one(n, s, p, parts) for n, (s, p) in zip(names, split, strict=True)], names)


def _one(name: str, side: str, part: str, parts: set[str]) -> str:
    if not side:
        if part in ("spine", "spine1", "spine2"):
            return _spine(part, parts) or name
        if part == "root" and not parts & {"pelvis", "hips", "midhip"}:
            return "pelvis"
        return _MIDDLE.get(part, name)
    found = _SIDED.get(part)
    if part == "hip" and parts & _UPPER_LEG:
        return name
    if part == "shoulder":
        found = "collar" if parts & _UPPER_ARM else "shoulder"
    elif part == "arm":
        found = "shoulder"
    elif part == "leg" and parts & _UPPER_LEG:
        found = "knee"
    elif part == "foot":
        found = "toe" if "ankle" in parts else "ankle"
        if found == "toe" and parts & set(_PARTS["toe"]):
            return name
    elif part == "hand" and "wrist" not in parts:
        found = "wrist"
    return f"{side}_{found}" if found else name


def _spine(part: str, parts: set[str]) -> str | None:
    top = bool(parts & {"chest", "upperchest", "spine3", "spineshoulder"})
    if "spine" in parts and "spine1" in parts:
        order = ["spine1", "spine2"] if top else ["spine1", "spine2", "chest"]
        index = ("spine", "spine1", "spine2").index(part)
        return order[index] if index < len(order) else None
    return {"spine": "spine2", "spine1": "spine1", "spine2": "spine2"}[part]


def _unique(found: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    used: set[str] = set()
    out: list[str] = []
    for ours, theirs in zip(found, names, strict=True):
        pick = ours if ours not in used else theirs
        number = 2
        while pick in used:
            pick, number = f"{theirs}#{number}", number + 1
        used.add(pick)
        out.append(pick)
    return tuple(out)


def names_by_count(count: int) -> tuple[str, ...] | None:
    """Names of an unnamed point set, by how many points it has; None when the count is unknown."""
    names = BY_COUNT.get(count)
    return None if names is None else (*names, *(f"point_{i}" for i in range(len(names), count)))


def numbered(names: Sequence[str]) -> list[int] | None:
    """The order of names that only count (`landmark_0`, `kp12`, `7`), None when they are real names or have holes."""
    hits = [
        re.fullmatch(r"(?:landmark|lm|keypoint|kp|joint|point|pt|p|j|node|marker)?[_ ]?(\d{1,4})", n, re.I)
        for n in names
    ]
    numbers = [int(h[1]) for h in hits if h is not None]
    if len(numbers) != len(names) or not numbers:
        return None
    order = sorted(range(len(numbers)), key=numbers.__getitem__)
    first = numbers[order[0]]
    complete = first in (0, 1) and [numbers[i] - first for i in order] == list(range(len(order)))
    return order if complete else None


def with_pelvis(
    names: tuple[str, ...], xyz: F64, confidence: F64 | None
) -> tuple[tuple[str, ...], F64, F64 | None, bool]:
    """Add the hip midpoint as `pelvis` to a skeleton that has hips and no pelvis.

    Args:
        names: J joint names.
        xyz: (T, J, D) positions.
        confidence: (T, J) or None; the pelvis gets the smaller of the two hips.

    Returns:
        names, xyz, confidence and whether a joint was added (at the end).
    """
    if "pelvis" in names or "l_hip" not in names or "r_hip" not in names:
        return names, xyz, confidence, False
    left, right = names.index("l_hip"), names.index("r_hip")
    middle = (xyz[:, left : left + 1] + xyz[:, right : right + 1]) / 2
    if confidence is not None:
        both = np.minimum(confidence[:, left : left + 1], confidence[:, right : right + 1])
        confidence = np.concatenate([confidence, both], axis=1)
    return (*names, "pelvis"), np.concatenate([xyz, middle], axis=1), confidence, True
