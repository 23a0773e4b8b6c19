"""The 22 canonical joints from the ones a recording has: what lies between known joints is placed, and said."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from formats.errors import FormatError
from formats.foreign.joints import CANONICAL
from formats.foreign.model import F64

NEEDED = tuple(f"{s}_{p}" for p in ("hip", "knee", "ankle", "shoulder", "elbow", "wrist") for s in "lr")
TOES = ("l_toe", "r_toe")


def complete(found: Mapping[str, F64]) -> tuple[F64, list[str], list[str]]:
    """Stack the canonical joints, filling the trunk from its neighbours.

    Hips, knees, ankles, shoulders, elbows, wrists and a head (or nose) must be there. Toes are left NaN: they are
    placed when up and size are known.

    Args:
        found: (T, 3) positions by canonical name; `nose` may stand for the head.

    Returns:
        (T, 22, 3) positions, a sentence for each joint that was placed, and the sides without a toe.

    Raises:
        FormatError: a joint that cannot be placed is missing; all of them are named.
    """
    missing = [n for n in NEEDED if n not in found]
    missing += [] if "head" in found or "nose" in found else ["head"]
    if missing:
        raise FormatError(f"no {', '.join(missing)}", hint="a map names them: --map FILE (man 7 choreo-data)")
    have = dict(found)
    said: list[str] = []

    def put(name: str, value: F64, how: str) -> None:
        if name not in have:
            have[name] = value
            said.append(f"{name}, {how}")

    shoulders = (have["l_shoulder"] + have["r_shoulder"]) / 2
    put("pelvis", (have["l_hip"] + have["r_hip"]) / 2, "midpoint of the hips")
    put("neck", shoulders, "midpoint of the shoulders")
    put("head", have.get("nose", shoulders), "the nose")
    _spine(have, put)
    for side in "lr":
        put(f"{side}_collar", 0.5 * (have["neck"] + have[f"{side}_shoulder"]), "midway from the neck to the shoulder")
    toeless = [n[0] for n in TOES if n not in have]
    for side in toeless:
        have[f"{side}_toe"] = np.full_like(have["pelvis"], np.nan)
        said.append(f"{side}_toe, placed a foot length ahead of the ankle")
    return np.stack([have[n] for n in CANONICAL], axis=1), said, toeless


def _spine(have: dict[str, F64], put: object) -> None:
    """spine1, spine2 and chest by their share of the way from the pelvis to the neck (canonical skeleton)."""
    assert callable(put)
    low, high = have["pelvis"], have["neck"]
    for name, share in (("spine1", 0.21), ("spine2", 0.48), ("chest", 0.59)):
        put(name, (1 - share) * low + share * high, "on the line from the pelvis to the neck")
