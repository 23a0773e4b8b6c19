"""Dancers for the tests of everything that draws."""

from __future__ import annotations

import numpy as np

from choreo_cli.motion.choreo25 import contacts_of
from choreo_cli.motion.dancer import choreograph, poses, write_score
from choreo_cli.motion.scene import Actor


def dancer(frames: int = 90, fps: float = 30.0, seed: int = 0) -> np.ndarray:
    """(frames, 22, 3) of a procedural dance at 110 BPM."""
    rng = np.random.default_rng(seed)
    beats = np.arange(0.3, frames / fps + 2, 60 / 110)
    return poses(choreograph(write_score(beats, 0.9, rng), rng), np.arange(frames) / fps)


def actor(frames: int = 12, seed: int = 0, name: str = "dancer", role: str = "") -> Actor:
    """A procedural dancer with the contacts of its feet."""
    joints = dancer(max(frames, 4), seed=seed)[:frames]
    return Actor(joints, contacts_of(joints, 30.0), name, role)
