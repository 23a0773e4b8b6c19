"""The canonical body: our own round proportions as fractions of stature, free of any licensed body model.

Source: motion.md section 7. Axes of the body: x to its left, y up, z ahead.
"""

from __future__ import annotations

STATURE_M = 1.70
# Each point from where it is attached: hips and spine1 at the pelvis, spine2 at spine1, chest at spine2, neck, collars
# and shoulders at the chest, head at the neck.
ATTACHED: dict[str, tuple[float, float, float]] = {
    "l_hip": (0.05, -0.045, 0.0), "r_hip": (-0.05, -0.045, 0.0), "spine1": (0.0, 0.065, -0.01),
    "spine2": (0.0, 0.08, 0.0), "chest": (0.0, 0.035, 0.005), "neck": (0.0, 0.125, -0.02),
    "l_collar": (0.045, 0.065, -0.015), "r_collar": (-0.045, 0.065, -0.015),
    "l_shoulder": (0.11, 0.085, -0.02), "r_shoulder": (-0.11, 0.085, -0.02), "head": (0.0, 0.05, 0.03),
}  # fmt: skip
UPPER_ARM, FOREARM, THIGH, SHANK, FOOT = 0.155, 0.150, 0.235, 0.246, 0.08
ANKLE = 0.05  # its height above the floor
LEG_SHARE = 0.481  # thigh and shank together
