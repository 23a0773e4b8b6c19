"""A body for SMPL-type rotations: our own canonical proportions, or the user's joint offsets; forward kinematics.

The licensed body models are not here and not needed: the rotations of their pose turn the bones of this skeleton
(fractions of stature, motion.md section 7), which has their topology and their T-pose.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from formats import jsonstrict
from formats.errors import FormatError
from formats.foreign.body import TARGET_M, TOE_AHEAD, TOE_BELOW
from formats.foreign.joints import CANONICAL, PARENTS
from formats.foreign.model import F64
from formats.foreign.npy import load_array
from formats.foreign.source import Source
from formats.proportions import ATTACHED, FOREARM, SHANK, THIGH, UPPER_ARM

# Legs hang and arms are stretched out in the T-pose.
_HANGING = {
    "knee": (0.0, -THIGH, 0.0), "ankle": (0.0, -SHANK, 0.0), "toe": (0.0, -TOE_BELOW, TOE_AHEAD),
    "elbow": (UPPER_ARM, 0.0, 0.0), "wrist": (FOREARM, 0.0, 0.0),
}  # fmt: skip
_BLOCK = 4096
_CAP = 2**20


def canonical_offsets(height_m: float = TARGET_M) -> F64:
    """(22, 3) offsets of each joint from its parent in the T-pose, metres, for a stature; the pelvis is at 0."""
    out = np.zeros((len(CANONICAL), 3))
    for i, name in enumerate(CANONICAL):
        side, _, part = name.partition("_")
        out[i] = _HANGING.get(part) or ATTACHED.get(name, (0.0, 0.0, 0.0))
        if part in ("elbow", "wrist"):
            out[i, 0] *= 1.0 if side == "l" else -1.0
        elif part == "shoulder":  # a child of the collar here; rounded, as differences of round numbers are round
            out[i] = np.round(np.subtract(ATTACHED[name], ATTACHED[f"{side}_collar"]), 6)
    return out * height_m


def load_body(path: str | Path) -> F64:
    """Read the user's body: (22, 3) metres, offsets of each joint from its parent in the T-pose.

    A JSON object with `joints` (positions at rest) or `offsets` (from the parent), a list of 22 or 24 points in SMPL's
    order or an object by joint name, and optionally `units` (m, cm, mm); or a .npy of (22 or 24, 3) rest positions.

    Raises:
        FormatError: neither, or a joint is missing or not finite.
    """
    source = Source.of(path)
    if source.head[:6] == b"\x93NUMPY":
        return _offsets_of(load_array(source), file=source.path)
    document = jsonstrict.loads(source.read_bytes(_CAP), file=source.path)
    if not isinstance(document, dict) or ("joints" in document) == ("offsets" in document):
        raise FormatError("a body has either 'joints' or 'offsets'", file=source.path, hint="see man choreo-retarget")
    scale = {"m": 1.0, "cm": 0.01, "mm": 0.001}.get(str(document.get("units", "m")))
    if scale is None:
        raise FormatError("units are none of m, cm, mm", file=source.path, field="units")
    key = "joints" if "joints" in document else "offsets"
    points = _points(document[key], source.path, key) * scale
    return _checked(points, source.path) if key == "offsets" else _offsets_of(points, file=source.path)


def _points(value: Any, file: Path, key: str) -> F64:
    if isinstance(value, dict):
        missing = [n for n in CANONICAL if n not in value]
        if missing:
            raise FormatError(f"no {missing[0]}", file=file, field=key, hint="all 22 joints are needed")
        value = [value[n] for n in CANONICAL]
    try:
        return np.array(value, np.float64)
    except (ValueError, TypeError):
        raise FormatError("not a list of points of three numbers", file=file, field=key) from None


def _offsets_of(joints: F64, file: Path) -> F64:
    if joints.ndim != 2 or joints.shape[0] not in (22, 24) or joints.shape[1] != 3:
        raise FormatError(f"shape {joints.shape}, a body has (22, 3) or (24, 3)", file=file)
    points = joints[:22].astype(np.float64)
    out = points - points[np.maximum(PARENTS, 0)]
    return _checked(out, file)


def _checked(offsets: F64, file: Path) -> F64:
    if offsets.ndim != 2 or offsets.shape[0] not in (22, 24) or offsets.shape[1] != 3:
        raise FormatError(f"shape {offsets.shape}, a body has (22, 3) or (24, 3)", file=file)
    out = offsets[:22].copy()
    out[0] = 0.0
    bones = np.linalg.norm(out[1:], axis=1)
    if not np.isfinite(out).all() or bones.max() > 1.5 or bones.max() < 0.05:
        raise FormatError("offsets of no human body in metres", file=file, hint="say units: cm or mm")
    return out


def axis_angle_matrices(vectors: F64) -> F64:
    """(..., 3) rotation vectors in radians as (..., 3, 3) matrices (Rodrigues)."""
    angle = np.linalg.norm(vectors, axis=-1, keepdims=True)
    half = angle / 2
    # sin(a/2)/a without dividing by 0: sinc is sin(pi x)/(pi x).
    v = vectors * (0.5 * np.sinc(half / np.pi))
    x, y, z = v[..., 0], v[..., 1], v[..., 2]
    w = np.cos(half[..., 0])
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return np.stack([np.stack(r, axis=-1) for r in rows], axis=-2)


def forward(poses: F64, trans: F64, offsets: F64) -> F64:
    """World positions of the 22 joints.

    Args:
        poses: (T, >= 22, 3) rotation vectors, the root's first, each in its parent's frame; SMPL's joint order.
        trans: (T, 3) position of the pelvis, metres.
        offsets: (22, 3) as from `canonical_offsets`.

    Returns:
        (T, 22, 3) float64.
    """
    out = np.empty((len(poses), len(CANONICAL), 3))
    leaves = set(range(len(CANONICAL))) - set(PARENTS)
    for start in range(0, len(poses), _BLOCK):
        part = slice(start, start + _BLOCK)
        turns = axis_angle_matrices(poses[part, : len(CANONICAL)])
        world = out[part]
        world[:, 0] = trans[part]
        globals_: list[F64] = [turns[:, 0]]
        for joint in range(1, len(CANONICAL)):
            parent = PARENTS[joint]
            world[:, joint] = world[:, parent] + globals_[parent] @ offsets[joint]
            globals_.append(turns[:, joint] if joint in leaves else globals_[parent] @ turns[:, joint])
    return out


def body_of(body: str | Path | None, height: float | None) -> tuple[F64, str]:
    """Offsets from the user's file or of the canonical skeleton, and the sentence that says which."""
    if body is not None:
        return load_body(body), f"body from {Path(body).name}"
    size = height or TARGET_M
    chosen = "as given" if height else "assumed"
    return canonical_offsets(size), f"canonical skeleton of {size:g} m, {chosen}: SMPL shapes are not shipped"
