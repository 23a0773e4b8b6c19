"""Foot skating: two published ratios, and the speed of a standing foot in m/s."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from choreo_cli.metrics.motion_clip import (
    L_ANKLE,
    L_TOE,
    R_ANKLE,
    R_TOE,
    Clip,
    foot_contacts,
    foot_heights,
)

F64 = NDArray[np.float64]

GMD_FPS = 20.0
GMD_HEIGHT_M = 0.05
GMD_SPEED_M_S = 0.5
GMD_WINDOW = 5
LODGE_FPS = 30.0
LODGE_ANKLE_M, LODGE_TOE_M, LODGE_STEP_M = 0.08, 0.05, 0.01
SLIDING_M_S = 0.1
FLOAT_M = 0.030
_FLAT = [0, 2]


@dataclass(frozen=True, slots=True)
class Slide:
    """What standing feet do.

    Args:
        m_per_s: Horizontal ankle path in contact over contact time; None without contact.
        share_sliding: Share of contact time above 0.1 m/s; None without contact.
        contact_fraction: Share of foot-frames in contact.
        float_share: Share of frames with a claimed contact whose lowest foot is above 30 mm; None when the clip itself
            claims none: contacts found by height cannot float.
    """

    m_per_s: float | None
    share_sliding: float | None
    contact_fraction: float
    float_share: float | None


def skate_gmd(joints: F64, fps: float = GMD_FPS) -> tuple[float, float] | None:
    """Skating ratio and mean skating speed (m/s) as in MotionLCM, after Karunratanakul et al., GMD, ICCV 2023.

    A step skates when a toe is below 5 cm before and after it and moves faster than 0.5 m/s, by itself and in the mean
    of 5 steps (zeros outside the clip). Divided by all steps, so a clip that floats scores 0.

    Args:
        joints: (T, >= 12, 3) metres, y up, floor at 0.
        fps: 20 for figures that are to be compared.
    """
    from scipy.ndimage import uniform_filter1d

    if len(joints) < 2:
        return None
    toes = joints[:, [L_TOE, R_TOE]]
    speed = np.linalg.norm(np.diff(toes[..., _FLAT], axis=0), axis=-1) * fps
    mean = uniform_filter1d(speed, GMD_WINDOW, axis=0, mode="constant")
    low = toes[..., 1] < GMD_HEIGHT_M
    contact = low[:-1] & low[1:]
    skating = (contact & (speed > GMD_SPEED_M_S) & (mean > GMD_SPEED_M_S)).any(axis=1)
    return float(skating.mean()), float((contact * mean).mean())


def skate_lodge(joints: F64) -> tuple[float | None, float | None]:
    """Sliding share of contact steps per foot (left, right) as Lodge computes it at 30 fps (Li et al., CVPR 2024).

    Ground is the first frame's toes; a step slides when half the sum of its x and z way passes 1 cm in ankle or toe, so
    a foot that moves along x = -z never does. None where a foot has no contact (0/0 in the reference).
    """
    if len(joints) < 2:
        return None, None
    ground = float(joints[0, [L_TOE, R_TOE], 1].min())
    out: list[float | None] = []
    for ankle, toe in ((L_ANKLE, L_TOE), (R_ANKLE, R_TOE)):
        pair = joints[:, [ankle, toe]]
        stands = (pair[:-1, 0, 1] <= ground + LODGE_ANKLE_M) & (pair[:-1, 1, 1] <= ground + LODGE_TOE_M)
        way = np.abs(np.diff(pair[..., _FLAT], axis=0).sum(axis=-1)) / 2
        slides = (way > LODGE_STEP_M).any(axis=1)
        out.append(float((slides & stands).sum() / stands.sum()) if stands.any() else None)
    return out[0], out[1]


def slide(clip: Clip) -> Slide | None:
    """Repaired skating: how fast standing ankles move, in m/s, whatever the frame rate.

    A step counts when the foot is in contact before and after it.
    """
    if clip.frames < 2:
        return None
    contact = foot_contacts(clip)
    both = contact[:-1] & contact[1:]
    speed = np.linalg.norm(np.diff(clip.joints[:, [L_ANKLE, R_ANKLE]][..., _FLAT], axis=0), axis=-1) * clip.fps
    fraction = float(contact.mean())
    if not both.any():
        return Slide(None, None, fraction, _float_share(clip))
    return Slide(float(speed[both].mean()), float((speed[both] > SLIDING_M_S).mean()), fraction, _float_share(clip))


def _float_share(clip: Clip) -> float | None:
    stands = foot_contacts(clip).any(axis=1)
    if clip.contacts is None or not stands.any():
        return None
    return float((foot_heights(clip).min(axis=1)[stands] > FLOAT_M).mean())
