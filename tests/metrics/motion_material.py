"""Clips whose figures are known: the procedural dancer, a standing body, and ways to spoil them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from choreo_cli.metrics.motion_clip import Clip
from choreo_cli.motion.biomechanics_params import rest_pose
from choreo_cli.motion.dancer import choreograph, poses, write_score

F64 = NDArray[np.float64]


def dance(seconds: float = 6.0, fps: float = 30.0, seed: int = 0, bpm: float = 120.0) -> F64:
    """(T, 22, 3) of the procedural dancer."""
    rng = np.random.default_rng(seed)
    score = write_score(np.arange(0, seconds + 1, 60 / bpm), 0.8, rng)
    return poses(choreograph(score, rng), np.arange(round(seconds * fps)) / fps)


def standing(frames: int = 90, height: float = 1.7) -> F64:
    """(T, 22, 3) T-pose on the floor, motionless."""
    pose = rest_pose() * height
    pose = pose - [0.0, pose[:, 1].min(), 0.0]
    return np.repeat(pose[None], frames, axis=0)


def clip_of(joints: F64, fps: float = 30.0, **more: object) -> Clip:
    return Clip("clip", joints, fps, **more)  # type: ignore[arg-type]


def swing(seconds: float, fps: float, period_s: float = 0.5) -> F64:
    """A body whose arms and trunk swing so that all speed vanishes every `period_s` seconds, first at 0."""
    t = np.arange(round(seconds * fps)) / fps
    x = standing(len(t))
    away = 0.2 * np.cos(np.pi * t / period_s)
    x[:, :, 0] += away[:, None] * (x[:, :, 1] / x[0, :, 1].max())
    return x


def noise_walk(frames: int, joints: int, seed: int) -> F64:
    """(T, J, 3) seeded nonsense that moves everywhere: for formulas, not for bodies."""
    rng = np.random.default_rng(seed)
    t = np.arange(frames)[:, None, None] / 30
    rate, phase = rng.uniform(1, 9, (joints, 3)), rng.uniform(0, 6, (joints, 3))
    return rng.uniform(-1, 1, (1, joints, 3)) + rng.uniform(0.02, 0.2, (joints, 3)) * np.sin(rate * t + phase)
