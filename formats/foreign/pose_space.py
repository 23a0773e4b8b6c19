"""Units and the direction of up of a pose recording, from what it declares and from the body itself."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from formats.foreign.model import F64
from formats.proportions import LEG_SHARE

METRES = {
    "m": 1.0, "meter": 1.0, "meters": 1.0, "metre": 1.0, "metres": 1.0, "cm": 0.01, "centimeters": 0.01,
    "centimetres": 0.01, "mm": 0.001, "millimeters": 0.001, "millimetres": 0.001, "in": 0.0254, "inch": 0.0254,
    "inches": 0.0254,
}  # fmt: skip
IMAGE = {
    "px": "px",
    "pixel": "px",
    "pixels": "px",
    "norm": "norm",
    "normalized": "norm",
    "normalised": "norm",
    "0..1": "norm",
}
"""Thigh plus shank over stature (motion.md, section 9)."""
_SAMPLE = 2000
_UPS = ("+y", "-y", "+z")


@dataclass(frozen=True, slots=True)
class Space:
    """Positions with their unit (`m px norm unknown`) and up (`+y -y +z`)."""

    xyz: F64
    units: str
    up: str
    assumptions: tuple[str, ...]


def metres_of_height(height: float) -> tuple[float, str] | None:
    """The factor to metres of a body of `height` source units and the unit's name; None when no unit fits."""
    for lo, hi, factor, name in (
        (1.0, 2.3, 1.0, "m"), (100.0, 230.0, 0.01, "cm"), (1000.0, 2300.0, 0.001, "mm"), (39.0, 90.0, 0.0254, "inches"),
    ):  # fmt: skip
        if lo <= height < hi:
            return factor, name
    return None


def space_of(xyz: F64, names: Sequence[str], declared: Space | None) -> Space:
    """Find units and up of (T, J, D) positions and bring them to metres where they are lengths.

    Args:
        xyz: Positions, D 2 or 3.
        names: Canonical names where known.
        declared: Only `units` and `up` are read; an unknown word is ignored.
    """
    sample = xyz[:: max(1, len(xyz) // _SAMPLE)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        if xyz.shape[2] == 2:
            return _image(xyz, sample, names, declared)
        return _world(xyz, sample, names, declared)


def _image(xyz: F64, sample: F64, names: Sequence[str], declared: Space | None) -> Space:
    notes: list[str] = []
    word = declared.units if declared else ""
    if word in METRES:
        xyz, units = xyz * METRES[word], "m"
    else:
        edge = float(np.nanpercentile(np.abs(sample), 99)) if np.isfinite(sample).any() else 0.0
        units = IMAGE.get(word) or ("norm" if edge <= 1.5 else "px")
    said = _up_word(declared.up) if declared and declared.up else None
    seen = _body_up(sample, names)
    up = "+y" if seen is not None and seen[1] > 0 else "-y"
    if seen is None:
        up = said or "-y"
        if not said:
            notes.append("image rows taken to grow downwards")
    elif said in ("+y", "-y") and said != up:
        notes.append(f"up taken from the body ({up}), the file says {said}")
    return Space(xyz, units, up, tuple(notes))


def _world(xyz: F64, sample: F64, names: Sequence[str], declared: Space | None) -> Space:
    notes: list[str] = []
    word = declared.units if declared else ""
    height = body_height(sample, names)
    if word in METRES:
        xyz, units = (xyz if word in ("m", "metres", "meters") else xyz * METRES[word]), "m"
    elif word in IMAGE:
        units = IMAGE[word]
    else:
        found = metres_of_height(height) if height else None
        units = "m" if found else "unknown"
        if found:
            xyz = xyz if found[0] == 1.0 else xyz * found[0]
            notes.append(f"units {found[1]} from a body height of {height:.3g}")
    seen = _body_up(sample, names)
    said = _up_word(declared.up) if declared and declared.up else None
    if seen is None:
        up = said or "+y"
        if not said:
            notes.append("up taken as +y")
        return Space(_turn(xyz, up), units, up if up in _UPS else "+y", tuple(notes))
    axis = int(np.argmax(np.abs(seen)))
    up = ("+" if seen[axis] > 0 else "-") + "xyz"[axis]
    if said and said != up:
        notes.append(f"up taken from the body ({up}), the file says {said}")
    if up not in _UPS:
        notes.append(f"axes turned, up was {up}")
    return Space(_turn(xyz, up), units, up if up in _UPS else "+y", tuple(notes))


def _turn(xyz: F64, up: str) -> F64:
    """Rotate so that an up the stream cannot name becomes +y; proper rotations, so left stays left."""
    x, y, z = xyz[..., 0], xyz[..., 1], xyz[..., 2]
    if up == "-z":
        return np.stack([x, -z, y], axis=-1)
    if up == "+x":
        return np.stack([-y, x, z], axis=-1)
    return np.stack([y, -x, z], axis=-1) if up == "-x" else xyz


def turn_up(xyz: F64, up: str) -> F64:
    """(..., 3) positions turned so that the direction `up` (`+z`, `-y`...) becomes +y; proper rotations only."""
    x, y, z = xyz[..., 0], xyz[..., 1], xyz[..., 2]
    if up == "+z":
        return np.stack([x, z, -y], axis=-1)
    if up == "-y":
        return np.stack([x, -y, -z], axis=-1)
    return _turn(xyz, up)


def _up_word(word: str) -> str | None:
    text = word.lower().replace("up", "").strip(" _-axis") if len(word) > 2 else word.lower()
    sign = "-" if word.strip().startswith("-") or "down" in word.lower() else "+"
    letter = next((c for c in text if c in "xyz"), None)
    return None if letter is None else sign + letter


def _body_up(sample: F64, names: Sequence[str]) -> F64 | None:
    """The median direction from the lower to the upper body, None when the joints are not there."""
    high = _centre(sample, names, ("head", "nose", "neck"), ("l_shoulder", "r_shoulder"), ("chest",))
    low = _centre(sample, names, ("l_ankle", "r_ankle"), ("l_knee", "r_knee"), ("pelvis",), ("l_hip", "r_hip"))
    if high is None or low is None:
        return None
    middle = np.nanmedian(high - low, axis=0)
    size = float(np.linalg.norm(middle))
    # A body that turns every way (or noise) has no up of its own: its median direction is short against its length.
    if not np.isfinite(size) or size == 0 or size < 0.3 * float(np.nanmedian(np.linalg.norm(high - low, axis=1))):
        return None
    return np.asarray(middle)


def _centre(sample: F64, names: Sequence[str], *groups: tuple[str, ...]) -> F64 | None:
    for group in groups:
        at = [names.index(n) for n in group if n in names]
        if at and np.isfinite(sample[:, at]).any():
            return np.asarray(np.nanmean(sample[:, at], axis=1))
    return None


def body_height(sample: F64, names: Sequence[str]) -> float | None:
    """Stature in source units from thigh plus shank, else from the spread of the median pose."""
    legs = []
    for side in "lr":
        chain = [f"{side}_{part}" for part in ("hip", "knee", "ankle")]
        if all(n in names for n in chain):
            hip, knee, ankle = (sample[:, names.index(n)] for n in chain)
            length = np.nanmedian(np.linalg.norm(knee - hip, axis=1)) + np.nanmedian(
                np.linalg.norm(ankle - knee, axis=1)
            )
            if np.isfinite(length) and length > 0:
                legs.append(float(length))
    if legs:
        return float(np.mean(legs)) / LEG_SHARE
    spread = np.nanmedian(np.nanmax(sample, axis=1) - np.nanmin(sample, axis=1), axis=0)
    size = float(np.nanmax(spread)) if np.isfinite(spread).any() else 0.0
    return size if size > 0 and len(names) >= 8 else None
