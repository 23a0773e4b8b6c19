"""What 22 joints say of themselves: gaps, contacts, hinge angles, bones that change their length."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import DataError
from formats.foreign.joints import CANONICAL, PARENTS

F64 = NDArray[np.float64]

GAP_S = 0.25
CONTACT_SPEED, CONTACT_HEIGHT, ANKLE_HEIGHT = 0.35, 0.08, 0.05
_ANKLES, _TOES = [7, 8], [10, 11]
# Root, hinge, end: left elbow, right elbow, left knee, right knee.
_HINGES = ((16, 18, 20), (17, 19, 21), (1, 4, 7), (2, 5, 8))


def fill_gaps(joints: F64, fps: float, longest_s: float = GAP_S) -> tuple[F64, int]:
    """Fill short gaps by straight lines between the frames around them.

    Args:
        joints: (T, 22, 3), NaN where a joint is missing.
        fps: Frame rate.
        longest_s: Longer gaps are refused.

    Returns:
        The joints and how many of the T * 22 were filled.

    Raises:
        DataError: infinite values, a gap that is longer, or one at the start or the end.
    """
    if np.isinf(joints).any():
        raise DataError(f"{int(np.isinf(joints).sum())} joint coordinates are infinite")
    missing = np.asarray(np.isnan(joints).any(-1))
    if not missing.any():
        return joints, 0
    out = joints.copy()
    frames = np.arange(len(joints))
    for j in np.flatnonzero(missing.any(0)):
        seen = np.flatnonzero(~missing[:, j])
        where = f"joint {CANONICAL[j]}"
        if not len(seen):
            raise DataError(f"{where} is missing in every frame", hint="give a joint map that has it")
        if seen[0] > 0 or seen[-1] < len(joints) - 1:
            at = 0 if seen[0] > 0 else int(seen[-1]) + 1
            raise DataError(
                f"{where} is missing at the {'start' if at == 0 else 'end'} (frame {at})", hint="cut it off"
            )
        longest = int(np.diff(seen).max())
        if (longest - 1) / fps > longest_s + 1e-9:
            at = int(seen[np.diff(seen).argmax()]) + 1
            raise DataError(
                f"{where} is missing for {(longest - 1) / fps:.2f} s from frame {at}, at most {longest_s} s are filled",
                hint="split the recording there",
            )
        for axis in range(3):
            out[:, j, axis] = np.interp(frames, seen, joints[seen, j, axis])
    return out, int(missing.sum())


def contacts_of(joints: F64, fps: float) -> F64:
    """Which feet stand on the floor.

    A foot does when ankle or toe is slower than 0.35 m/s and one of them is lower than 0.08 m, the ankle measured
    0.05 m above its joint (motion.md section 5.7). The first frame copies the second's speed.

    Args:
        joints: (T, 22, 3) metres, floor at 0.
        fps: Frame rate.

    Returns:
        (T, 2) float64, left and right, 0 or 1.
    """
    ankle, toe = joints[:, _ANKLES], joints[:, _TOES]
    speed = np.zeros(ankle.shape[:2])
    if len(joints) > 1:
        for k, point in enumerate((ankle, toe)):
            step = np.diff(point, axis=0)
            v = np.sqrt((step * step).sum(-1)) * fps
            speed[1:] = v if k == 0 else np.minimum(speed[1:], v)
        speed[0] = speed[1]
    height = np.minimum(ankle[..., 1] - ANKLE_HEIGHT, toe[..., 1])
    return ((speed < CONTACT_SPEED) & (height < CONTACT_HEIGHT)).astype(np.float64)


def hinge_angles(joints: F64) -> F64:
    """Flexion of left elbow, right elbow, left knee, right knee: pi minus the angle inside, 0 for a straight limb.

    Args:
        joints: (..., 22, 3).

    Returns:
        (..., 4) rad.
    """
    root, hinge, end = ([h[k] for h in _HINGES] for k in range(3))
    a, b = joints[..., hinge, :] - joints[..., root, :], joints[..., end, :] - joints[..., hinge, :]
    across = np.cross(a, b)
    return np.asarray(np.arctan2(np.sqrt((across * across).sum(-1)), (a * b).sum(-1)))


def bone_lengths(joints: F64) -> F64:
    """Lengths of the 21 bones, in the order of joints 1 to 21: (..., 22, 3) -> (..., 21) metres."""
    d = joints[..., 1:, :] - joints[..., list(PARENTS[1:]), :]
    return np.asarray(np.sqrt((d * d).sum(-1)))


def bone_spread(joints: F64) -> float:
    """Largest relative standard deviation of a bone's length over time."""
    lengths = bone_lengths(joints)
    return float((lengths.std(0) / np.maximum(lengths.mean(0), 1e-9)).max())
