"""Write a choreo25 clip as SMPL rotation vectors (T, 72), with the offsets of the body they place."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.motion.export_rotations import ZERO_TWIST, turns_of
from choreo_cli.motion.rotations import log_map
from formats.foreign.joints import CANONICAL
from formats.motion_npz import MotionClip

JOINTS = 24  # SMPL's, the two hands at rest


def smpl_of(clip: MotionClip) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Arrays as in AMASS archives, and the body.

    Returns:
        `poses` (T, 72) rad, `trans` (T, 3) metres (pelvis, y up), `mocap_framerate`, `betas` (10,) zeros and `floor_m`;
        a document with `offsets` (22, 3) metres from the parent, which `--body` reads. The licensed body is no part of
        it: on a real SMPL body the limbs point the same way and have that body's lengths.
    """
    turns = turns_of(clip)
    poses = np.zeros((len(turns.root), JOINTS, 3))
    poses[:, : len(CANONICAL)] = log_map(turns.local)
    arrays: dict[str, NDArray[Any]] = {
        "poses": poses.reshape(len(poses), -1).astype(np.float32), "trans": turns.root.astype(np.float32),
        "mocap_framerate": np.array(clip.header.fps), "betas": np.zeros(10, np.float32),
        "floor_m": np.array(0.0),
    }  # fmt: skip
    offsets = {n: [float(v) for v in o] for n, o in zip(CANONICAL, turns.offsets, strict=True)}
    body = {
        "schema": "choreo.smpl-body/1", "units": "m", "up": "+y", "fps": clip.header.fps, "twist": ZERO_TWIST,
        "hands": "at rest", "offsets": offsets,
    }  # fmt: skip
    return arrays, body
