"""The files of a lifting network: weights, card, arrays for numpy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.motion.lifting import RECIPE
from choreo_cli.motion.lifting_points import FEATURES
from formats.checkpoint import CARD, WEIGHTS, Checkpoint, encode
from formats.foreign.joints import CANONICAL, COCO_17

ROLES = {WEIGHTS: "weights", "model.npz": "model", CARD: "checkpoint"}


def encode_lifting(
    arrays: Mapping[str, NDArray[np.float32]], arch: Mapping[str, int], facts: Mapping[str, Any],
    created_by: Mapping[str, Any],
) -> list[tuple[str, str, bytes]]:  # fmt: skip
    """(role, name, bytes) of every file, the card last.

    Args:
        arrays: Weights, named as in `lifting.shapes`.
        arch: `window`, `hidden`, `blocks`.
        facts: What a user of the model must know.
        created_by: Provenance.
    """
    from choreo_cli.export.npz import npz_bytes

    told = {
        "points": list(COCO_17), "joints": list(CANONICAL), "features": FEATURES,
        "axes": "x right, y up, z towards the camera; pelvis at 0",
        "input": "x, y from the middle of the hips over the longest torso of the window, and confidence; oldest first",
        "output": "21 joints from the pelvis in statures, then log(stature over torso length / 3.3)", **facts,
    }  # fmt: skip
    made = encode(
        Checkpoint(RECIPE, dict(arch), dict(arrays), told, dict(created_by)), {"model.npz": npz_bytes(arrays)}
    )
    return [(ROLES[name], name, made[name]) for name in sorted(made, key=lambda n: (n == CARD, n))]
