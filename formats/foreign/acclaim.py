"""Acclaim skeletons (ASF): bones with their axes and degrees of freedom, and their forward kinematics."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from formats.errors import FormatError
from formats.foreign.bvh_kinematics import axis_rotation
from formats.foreign.model import F64

MAX_BONES = 1024
_DOFS = ("rx", "ry", "rz", "tx", "ty", "tz", "l")
_LIMIT = re.compile(r"\(\s*(\S+)\s+(\S+?)\s*\)")


@dataclass(slots=True)
class Bone:
    """A bone: unit `direction` and `length` in source units, `axis` rotation, and its degrees of freedom in order."""

    name: str
    parent: int = -1
    direction: F64 = field(default_factory=lambda: np.zeros(3))
    length: float = 0.0
    axis: F64 = field(default_factory=lambda: np.eye(3))
    dofs: tuple[str, ...] = ()
    limits: tuple[tuple[float, float], ...] = ()


@dataclass(slots=True)
class Skeleton:
    """Bones, parents first, bone 0 the root; `length_unit` as written (1 unit is its inverse in inches), degrees."""

    bones: list[Bone]
    degrees: bool = True
    length_unit: float | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def index(self) -> dict[str, int]:
        return {b.name: i for i, b in enumerate(self.bones)}


def parse_asf(text: str, file: Path) -> Skeleton:
    """Parse a skeleton.

    Raises:
        FormatError: a section is broken, or a bone hangs on nothing; the line is named.
    """
    skeleton = Skeleton([Bone("root", dofs=("tx", "ty", "tz", "rx", "ry", "rz"))])
    section = last = ""
    block: dict[str, list[str]] = {}
    raw: dict[str, str] = {}
    edges: list[tuple[int, list[str]]] = []
    for row, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if words[0].startswith(":"):
            section, last = words[0][1:].lower(), ""
        elif section == "units" and len(words) > 1:
            _unit(skeleton, words, file, row)
        elif section == "root":
            _root(skeleton, raw, words, file, row)
        elif section == "bonedata":
            if words[0] == "begin":
                block = {"row": [str(row)]}
            elif words[0] == "end":
                _add(skeleton, block, file)
                block = {}
            elif words[0].startswith("(") and last == "limits":
                block["limits"] = [*block.get("limits", []), *words]
            else:
                last = words[0].lower()
                block[last] = words[1:]
        elif section == "hierarchy" and words[0] not in ("begin", "end"):
            edges.append((row, words))
    _join(skeleton, edges, file)
    return skeleton


def _number(word: str, file: Path, row: int) -> float:
    try:
        value = float(word)
    except ValueError:
        raise FormatError(f"{word[:24]!r} is not a number", file=file, row=row) from None
    if not abs(value) < 1e9:
        raise FormatError(f"{word[:24]!r} is no length or angle", file=file, row=row)
    return value


def _unit(skeleton: Skeleton, words: list[str], file: Path, row: int) -> None:
    if words[0] == "length":
        unit = _number(words[1], file, row)
        skeleton.length_unit = unit if unit > 0 else None
    elif words[0] == "angle":
        skeleton.degrees = not words[1].lower().startswith("rad")


def _root(skeleton: Skeleton, raw: dict[str, str], words: list[str], file: Path, row: int) -> None:
    root = skeleton.bones[0]
    if words[0] == "order":
        order = tuple(w.lower() for w in words[1:])
        if len(set(order)) != len(order) or not set(order) <= set(_DOFS[:6]):
            raise FormatError(f"root order {' '.join(words[1:])[:60]!r}", file=file, row=row)
        root.dofs = order
    elif words[0] == "axis" and len(words) > 1:
        raw["axis"] = words[1]
    elif words[0] == "orientation" and len(words) >= 4:
        angles = [_number(w, file, row) for w in words[1:4]]
        root.axis = rotation(angles, raw.get("axis", "XYZ"), skeleton.degrees, file, row)


def rotation(angles: list[float], order: str, degrees: bool, file: Path, row: int) -> F64:
    """(3, 3) of an `axis a b c ORDER` line: the rotations apply in the order of the letters, about fixed axes."""
    turn = np.eye(3)
    if sorted(order.upper()) != ["X", "Y", "Z"]:
        raise FormatError(f"axis order {order[:12]!r}", file=file, row=row)
    for letter, angle in zip(order.upper(), angles, strict=True):
        radians = np.deg2rad(angle) if degrees else angle
        turn = axis_rotation(np.array([radians]), "XYZ".index(letter))[0] @ turn
    return turn


def _add(skeleton: Skeleton, block: dict[str, list[str]], file: Path) -> None:
    row = int(block.get("row", ["1"])[0])
    if not block.get("name") or len(block.get("direction", ())) < 3 or not block.get("length"):
        raise FormatError("a bone needs a name, a direction and a length", file=file, row=row)
    bone = Bone(block["name"][0])
    if bone.name in skeleton.index or len(skeleton.bones) >= MAX_BONES:
        raise FormatError(f"bone {bone.name[:40]!r} given twice, or too many bones", file=file, row=row)
    direction = np.array([_number(w, file, row) for w in block["direction"][:3]])
    bone.direction = direction / max(float(np.linalg.norm(direction)), 1e-9)
    bone.length = _number(block["length"][0], file, row)
    axis = block.get("axis", [])
    if len(axis) >= 3:
        angles = [_number(w, file, row) for w in axis[:3]]
        bone.axis = rotation(angles, axis[3] if len(axis) > 3 else "XYZ", skeleton.degrees, file, row)
    bone.dofs = tuple(w.lower() for w in block.get("dof", ()))
    if not set(bone.dofs) <= set(_DOFS) or len(set(bone.dofs)) != len(bone.dofs):
        raise FormatError(f"degrees of freedom {' '.join(bone.dofs)[:40]!r}", file=file, row=row)
    found = _LIMIT.findall(" ".join(block.get("limits", ())))
    ranges = [(_limit(a), _limit(b)) for a, b in found]
    bone.limits = tuple(ranges) if len(ranges) == len(bone.dofs) else ()
    if found and len(ranges) != len(bone.dofs):
        skeleton.problems.append(f"limits: {bone.name} has {len(bone.dofs)} angles and {len(ranges)} limits")
    skeleton.bones.append(bone)


def _limit(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        return float("nan")


def _join(skeleton: Skeleton, edges: list[tuple[int, list[str]]], file: Path) -> None:
    """Set the parents and sort the bones so that parents come first."""
    index = skeleton.index
    for row, words in edges:
        unknown = [w for w in words if w not in index]
        if unknown:
            raise FormatError(f"the hierarchy names {unknown[0][:40]!r}, which is no bone", file=file, row=row)
        for child in words[1:]:
            bone = skeleton.bones[index[child]]
            if bone.parent >= 0 or child == "root":
                raise FormatError(f"bone {child[:40]!r} has two parents", file=file, row=row)
            bone.parent = index[words[0]]
    order, at = [0], 0
    children: dict[int, list[int]] = {}
    for i, bone in enumerate(skeleton.bones):
        children.setdefault(bone.parent, []).append(i)
    while at < len(order):
        order += children.get(order[at], [])
        at += 1
    if len(order) < 2:
        raise FormatError("no bone hangs on the root", file=file)
    loose = len(skeleton.bones) - len(order)
    if loose:
        skeleton.problems.append(f"loose_bones: {loose} bones hang on no other and are left out")
    new = {old: i for i, old in enumerate(order)}
    skeleton.bones = [skeleton.bones[i] for i in order]
    for bone in skeleton.bones:
        bone.parent = new.get(bone.parent, -1)


def positions(skeleton: Skeleton, values: dict[str, F64], degrees: bool) -> tuple[list[str], list[int], F64]:
    """World positions of the joints, each bone's name standing for its start, and of the free ends.

    Local rotation of a bone = C R C^-1 with C its axis and R its angles, applied in the order of its degrees of freedom
    (Lander, Working with Motion Capture File Formats, Game Developer, 1998).

    Args:
        skeleton: From `parse_asf`.
        values: (T, dofs) of each bone that moves, source units and angles.
        degrees: The unit of the angles.

    Returns:
        Names, parents and (T, J, 3) positions in source units; parents come first.
    """
    n = len(values["root"])
    turns: list[F64] = []
    ends: list[F64] = []
    starts: list[F64] = []
    for bone in skeleton.bones:
        local, shift = _local(bone, values.get(bone.name), degrees, n)
        if bone.parent < 0:
            turns.append(local)
            starts.append(shift)
            ends.append(shift)
            continue
        turn = turns[bone.parent] @ local
        start = ends[bone.parent]
        turns.append(turn)
        starts.append(start)
        ends.append(start + turn @ (bone.direction * bone.length))
    leaves = sorted(set(range(1, len(skeleton.bones))) - {b.parent for b in skeleton.bones})
    names = [b.name for b in skeleton.bones] + [f"{skeleton.bones[i].name}_end" for i in leaves]
    parents = [b.parent for b in skeleton.bones] + leaves
    return names, parents, np.stack([*starts, *(ends[i] for i in leaves)], axis=1)


def _local(bone: Bone, values: F64 | None, degrees: bool, n: int) -> tuple[F64, F64]:
    """(n, 3, 3) rotation and (n, 3) shift of a bone's own degrees of freedom."""
    shift = np.zeros((n, 3))
    turn = np.broadcast_to(np.eye(3), (n, 3, 3))
    for i, dof in enumerate(bone.dofs if values is not None else ()):
        column = values[:, i]  # type: ignore[index]
        if dof[0] == "t":
            shift[:, "xyz".index(dof[1])] = column
        elif dof[0] == "r":
            turn = axis_rotation(np.deg2rad(column) if degrees else column, "xyz".index(dof[1])) @ turn
    return bone.axis @ turn @ bone.axis.T, shift


def outside_limits(skeleton: Skeleton, values: dict[str, F64]) -> float:
    """The share of angles outside the limits the skeleton states, 0 where it states none."""
    total = beyond = 0
    for bone in skeleton.bones:
        found = values.get(bone.name)
        if found is None or not bone.limits:
            continue
        low, high = (np.array(v) for v in zip(*bone.limits, strict=True))
        total += found.size
        beyond += int(np.count_nonzero((found < low - 1e-6) | (found > high + 1e-6)))
    return beyond / total if total else 0.0
