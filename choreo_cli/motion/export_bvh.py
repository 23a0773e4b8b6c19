"""Write a choreo25 clip as BVH: 22 joints, rotations in the order ZXY, and a sidecar that says what BVH cannot."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from choreo_cli.errors import UsageError
from choreo_cli.motion.export_rotations import ZERO_TWIST, Turns, turns_of
from choreo_cli.motion.rotations import euler_angles
from formats.foreign.bvh import SIDECAR
from formats.foreign.joints import CANONICAL, PARENTS
from formats.motion_npz import MotionClip

ORDER = "ZXY"
UNITS = {"cm": 100.0, "m": 1.0}
_END = {"head": (0.0, 0.07, 0.02), "l_toe": (0.0, 0.0, 0.03), "r_toe": (0.0, 0.0, 0.03),
        "l_wrist": (0.08, 0.0, 0.0), "r_wrist": (-0.08, 0.0, 0.0)}  # fmt: skip


def bvh_of(clip: MotionClip, unit: str = "cm") -> tuple[bytes, dict[str, Any]]:
    """A BVH and its sidecar.

    Args:
        clip: What to write; the bones get the header's lengths.
        unit: `cm` as most programs expect, or `m`.

    Returns:
        The file, and what it cannot say itself: units, rate, rotation order, twist.

    Raises:
        UsageError: another unit.
    """
    if unit not in UNITS:
        raise UsageError(f"no unit {unit!r} of a BVH", hint="choose from cm, m")
    turns = turns_of(clip)
    scale = UNITS[unit]
    lines = ["HIERARCHY", *_joint(0, 0, turns, scale), "MOTION", f"Frames: {len(turns.root)}",
             f"Frame Time: {1 / clip.header.fps:.9f}"]  # fmt: skip
    order = _depth_first()
    angles = np.degrees(euler_angles(turns.local[:, order], ORDER))
    rows = np.concatenate([turns.root * scale, angles.reshape(len(angles), -1)], 1)
    form = " ".join(["%.5f"] * 3 + ["%.5f"] * (rows.shape[1] - 3))
    text = "\n".join(lines) + "\n" + "".join(form % tuple(row) + "\n" for row in rows)
    data = text.encode()
    return data, {**sidecar(clip, unit), "floor": 0.0, "bvh_sha256": hashlib.sha256(data).hexdigest()}


def sidecar(clip: MotionClip, unit: str) -> dict[str, Any]:
    """What a BVH does not say: BVH has no comments."""
    h = clip.header
    return {
        "schema": SIDECAR, "units": unit, "metres_per_unit": 1 / UNITS[unit], "up": "+y",
        "forward": "+z", "fps": h.fps, "frames": len(clip.channels), "rotation_order": ORDER, "twist": ZERO_TWIST,
        "joints": list(CANONICAL), "height_m": h.height_m, "scale_applied": h.scale_applied, "licence": h.licence,
        "origin": h.origin, "source": h.source,
    }  # fmt: skip


def _depth_first(joint: int = 0) -> list[int]:
    """Joints in the order that BVH lists their channels."""
    found = [joint]
    for child, parent in enumerate(PARENTS):
        if parent == joint:
            found += _depth_first(child)
    return found


def _joint(joint: int, depth: int, turns: Turns, scale: float) -> list[str]:
    pad, name = "  " * depth, CANONICAL[joint]
    places = "Xposition Yposition Zposition " if joint == 0 else ""
    turned = " ".join(f"{axis}rotation" for axis in ORDER)
    lines = [
        f"{pad}{'ROOT' if joint == 0 else 'JOINT'} {name}", f"{pad}{{",
        f"{pad}  OFFSET {_three(turns.offsets[joint] * scale)}",
        f"{pad}  CHANNELS {6 if joint == 0 else 3} {places}{turned}",
    ]  # fmt: skip
    children = [c for c, parent in enumerate(PARENTS) if parent == joint]
    for child in children:
        lines += _joint(child, depth + 1, turns, scale)
    if not children:
        end = _three(np.array(_END[name]) * scale)
        lines += [f"{pad}  End Site", f"{pad}  {{", f"{pad}    OFFSET {end}", f"{pad}  }}"]
    return [*lines, f"{pad}}}"]


def _three(v: Any) -> str:
    return " ".join(f"{float(x) + 0.0:.6f}" for x in v)
