"""Kinetic features of dance (AIST++, after Onuma et al. 2008 and fairmotion): three numbers a joint.

Horizontal and vertical mean square speed, and an "energy". As shipped by its authors the energy misses a parenthesis
(p_s - p_{s-1}/dt), so it depends on where the dancer stands; every published FID_k carries that. The repaired energy is
the mean norm of the averaged second difference.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

FPS = 60.0
WINDOW = 2
VARIANTS = ("compat:bailando", "compat:mint", "fixed")


def kinetic(joints: F64, fps: float = FPS, variant: str = "fixed") -> F64 | None:
    """(3 J,) joint-major features: kinetic72 for 24 joints; None below 3 frames.

    Args:
        joints: (T, J, 3) metres, y up.
        fps: 60 in the references.
        variant: `compat:mint` with the missing parenthesis, `compat:bailando` the same with the first pelvis moved to
            the origin, `fixed` with the energy that was meant.
    """
    if variant not in VARIANTS:
        raise ValueError(f"variant {variant!r} is none of {', '.join(VARIANTS)}")
    if len(joints) < 3:
        return None
    x = joints - joints[0, 0] if variant == "compat:bailando" else np.asarray(joints, np.float64)
    # Row t - 1 is the step from t - 1 to t.
    steps = np.diff(x, axis=0)
    mean_step = _window_mean(steps) * fps
    across = (mean_step[..., [0, 2]] ** 2).sum(-1).mean(axis=0)
    up = (mean_step[..., 1] ** 2).mean(axis=0)
    energy = np.linalg.norm(_acceleration(x, steps, fps, repaired=variant == "fixed"), axis=-1).mean(axis=0)
    return np.stack([across, up, energy], axis=1).reshape(-1)


def _window_mean(steps: F64) -> F64:
    """(T - 1, J, 3) mean of the steps into t - 2 .. t + 2, of those that exist, for t = 1 .. T - 1."""
    total = np.concatenate([np.zeros_like(steps[:1]), np.cumsum(steps, axis=0)])
    t = np.arange(len(steps))
    a, b = np.maximum(t - WINDOW, 0), np.minimum(t + WINDOW + 1, len(steps))
    return np.asarray((total[b] - total[a]) / (b - a)[:, None, None])


def _acceleration(x: F64, steps: F64, fps: float, *, repaired: bool) -> F64:
    """(T - 1, J, 3) mean over the window of (v2 - v1) / dt; v1 without its parenthesis unless `repaired`."""
    v2 = steps[1:] * fps
    v1 = steps[:-1] * fps if repaired else x[1:-1] - x[:-2] * fps
    # Entry s - 1 belongs to frame s = 1 .. T - 2.
    each = (v2 - v1) * fps
    total = np.concatenate([np.zeros_like(each[:1]), np.cumsum(each, axis=0)])
    t = np.arange(1, len(x))
    a = np.maximum(t - WINDOW, 1)
    b = np.minimum(t + WINDOW, len(x) - 2)
    count = np.maximum(b - a + 1, 1)
    return np.asarray((total[np.maximum(b, a - 1)] - total[a - 1]) / count[:, None, None])
