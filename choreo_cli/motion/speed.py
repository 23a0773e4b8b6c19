"""Speeds of joints and the size of the body: what every motion measure starts from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]

# Standing height over the sum of head-neck, neck-pelvis, thigh and shank: head top and foot are not joints.
STATURE_OVER_CHAIN = 1.12
_CHAIN = (("head", "neck"), ("neck", "pelvis"))
_LEG = (("hip", "knee"), ("knee", "ankle"))


def savgol_slope(values: F32, half: int, period_s: float) -> F32:
    """Differentiate along axis 0 by a centred Savitzky-Golay filter of order 2.

    The slope of the least-squares parabola over 2 * half + 1 samples is sum(k x_k) / sum(k^2)
    (Savitzky & Golay 1964). The first and last `half` rows are NaN; NaN spreads over the window.
    """
    out = np.full(values.shape, np.nan, np.float32)
    n = len(values)
    if n <= 2 * half:
        return out
    acc = np.zeros((n - 2 * half, *values.shape[1:]), np.float32)
    for k in range(1, half + 1):
        acc += np.float32(k) * (values[half + k : n - half + k] - values[half - k : n - half - k])
    out[half : n - half] = acc / np.float32(2 * sum(k * k for k in range(1, half + 1)) * period_s)
    return out


def norms(vectors: F32) -> F32:
    """Euclidean norm along the last axis, float32."""
    square = vectors[..., 0] ** 2
    for k in range(1, vectors.shape[-1]):
        square += vectors[..., k] ** 2
    return np.asarray(np.sqrt(square), np.float32)


def mean_present(values: F32, at_least: float = 0.5) -> F32:
    """Mean over the last axis of what is present; NaN where less than a share `at_least` is."""
    there = ~np.isnan(values)
    count = there.sum(axis=-1)
    total = np.where(there, values, np.float32(0)).sum(axis=-1)
    enough = count >= max(1.0, at_least * values.shape[-1])
    return np.where(enough, total / np.maximum(count, 1), np.nan).astype(np.float32)


def up_axis(up: str) -> tuple[int, float]:
    """Axis and sign of up: `+y`, `-y` (image rows grow downwards) or `+z`."""
    return "xyz".index(up[-1]), -1.0 if up[0] == "-" else 1.0


def body_height(xyz: F32, joints: tuple[str, ...], up: str) -> tuple[float, str]:
    """Estimate the standing height in the units of the pose, and say how.

    Bone lengths do not depend on the posture, so the chain head-neck-pelvis-knee-ankle is used where the joints
    are there; else the 90th percentile of the vertical extent, which a raised arm inflates.

    Returns:
        Height (NaN when nothing is measurable) and an assumption sentence, empty for the chain.
    """
    step = max(1, len(xyz) // 2000)
    sample = xyz[::step]
    where = {name: i for i, name in enumerate(joints)}
    pairs = [*_CHAIN]
    side = next((s for s in ("l", "r") if all(f"{s}_{a}" in where and f"{s}_{b}" in where for a, b in _LEG)), None)
    if side and all(a in where and b in where for a, b in pairs):
        pairs += [(f"{side}_{a}", f"{side}_{b}") for a, b in _LEG]
        lengths = [norms(sample[:, where[a]] - sample[:, where[b]]) for a, b in pairs]
        if all(np.isfinite(x).any() for x in lengths):
            return float(sum(np.nanmedian(x) for x in lengths)) * STATURE_OVER_CHAIN, ""
    axis, _ = up_axis(up)
    if axis >= sample.shape[-1]:
        return float("nan"), "body height unknown: the pose has no vertical axis"
    column = sample[..., axis]
    rows = np.isfinite(column).sum(axis=1) >= 2
    if not rows.any():
        return float("nan"), "body height unknown: no pose with two joints"
    extent = np.nanmax(column[rows], axis=1) - np.nanmin(column[rows], axis=1)
    return float(np.percentile(extent, 90)), "body height taken from the 90th percentile of the vertical extent"
