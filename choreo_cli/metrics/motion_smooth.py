"""Smoothness: jerk at the clip's own rate and at one rate, speed, and bones that change their length."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from choreo_cli.metrics.motion_clip import FIXED_FPS, Clip, fixed_rate, low_passed
from formats.foreign.joints import CANONICAL, PARENTS

F64 = NDArray[np.float64]

CUT_HZ = 6.0
BONES = tuple((p, j) for j, p in enumerate(PARENTS) if p >= 0)
BONE_NAMES = tuple(f"{CANONICAL[p]}-{CANONICAL[j]}" for p, j in BONES)


@dataclass(frozen=True, slots=True)
class Jerk:
    """Mean and 99th percentile over frames and joints, m/s^3."""

    mean: float
    p99: float


def jerk(joints: F64, fps: float) -> Jerk | None:
    """Third difference over dt^3; None below 4 frames. Comparable at equal fps only: noise grows with its cube."""
    if len(joints) < 4:
        return None
    size = np.linalg.norm(np.diff(joints, n=3, axis=0), axis=-1) * fps**3
    return Jerk(float(size.mean()), float(np.quantile(size, 0.99)))


def jerk_fixed(clip: Clip) -> Jerk | None:
    """Jerk at 30 fps after a 6 Hz low-pass without delay: comparable between clips of different rates."""
    at = fixed_rate(clip)
    return jerk(low_passed(at.body, FIXED_FPS, CUT_HZ), FIXED_FPS) if at.frames >= 8 else None


def top_speed(joints: F64, fps: float) -> float | None:
    """99.9th percentile of the joints' speed, m/s."""
    if len(joints) < 2:
        return None
    return float(np.quantile(np.linalg.norm(np.diff(joints, axis=0), axis=-1), 0.999) * fps)


def largest_step(joints: F64) -> float | None:
    """Longest way of the pelvis between two frames, metres: a cut or a teleport."""
    return float(np.linalg.norm(np.diff(joints[:, 0], axis=0), axis=-1).max()) if len(joints) > 1 else None


def bone_drift(joints: F64) -> F64:
    """(21,) standard deviation over mean of each bone's length, in the order of `BONE_NAMES`; 0 for an empty bone."""
    a, b = (np.array(k) for k in zip(*BONES, strict=True))
    length = np.linalg.norm(joints[:, b] - joints[:, a], axis=-1)
    mean = length.mean(axis=0)
    return np.asarray(length.std(axis=0) / np.where(mean > 1e-6, mean, np.inf))
