"""Figures of motion tasks: prediction, in-betweening, editing, completion, and whether samples differ."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import DataError

F64 = NDArray[np.float64]

HORIZONS_S = (0.1, 0.25, 0.5, 1.0)
COLLAPSED = 0.5


def mpjpe(found: F64, truth: F64) -> float | None:
    """Mean distance of joints in metres; frames or joints that are not finite on either side do not count."""
    if found.shape != truth.shape:
        raise DataError(f"joints of shapes {found.shape} and {truth.shape} cannot be compared")
    apart = np.linalg.norm(found - truth, axis=-1)
    live = apart[np.isfinite(apart)]
    return float(live.mean()) if live.size else None


def pa_mpjpe(found: F64, truth: F64) -> float | None:
    """`mpjpe` after the best rotation, translation and scale of each frame (Procrustes)."""
    good = np.isfinite(found).all(axis=(1, 2)) & np.isfinite(truth).all(axis=(1, 2))
    if not good.any():
        return None
    a, b = found[good] - found[good].mean(axis=1, keepdims=True), truth[good]
    centre = b.mean(axis=1, keepdims=True)
    u, s, vt = np.linalg.svd(np.swapaxes(a, 1, 2) @ (b - centre))
    sign = np.sign(np.linalg.det(u @ vt))
    s[:, -1] *= sign
    u[:, :, -1] *= sign[:, None]
    size = (a**2).sum(axis=(1, 2))
    scale = np.where(size > 0, s.sum(axis=1) / np.where(size > 0, size, 1.0), 1.0)
    return mpjpe(a @ (u @ vt) * scale[:, None, None] + centre, b)


def prediction_errors(
    predicted: F64, truth: F64, past: F64, fps: float, horizons_s: Sequence[float] = HORIZONS_S
) -> dict[str, dict[str, float | None]]:
    """MPJPE at each horizon of a prediction, of repeating the last pose, and of constant velocity.

    Args:
        predicted: (T, J, 3) frames after the past.
        truth: (T, J, 3).
        past: (P, J, 3) what was given, P >= 1; constant velocity needs two.
        fps: Frames per second.
        horizons_s: Seconds after the last given frame; one that lies outside `truth` gives None.

    Returns:
        `{"0.1": {"model", "repeat_last", "constant_velocity"}}` in metres.
    """
    if not len(past):
        raise DataError("a prediction needs at least one frame of the past")
    step = past[-1] - past[-2] if len(past) > 1 else np.zeros_like(past[-1])
    out: dict[str, dict[str, float | None]] = {}
    for h in horizons_s:
        k = round(h * fps) - 1
        inside = 0 <= k < min(len(truth), len(predicted))
        at = slice(k, k + 1)
        found = {"model": predicted[at], "repeat_last": past[-1:], "constant_velocity": past[-1:] + (k + 1) * step}
        out[f"{h:g}"] = {name: mpjpe(x, truth[at]) if inside else None for name, x in found.items()}
    return out


def keyframe_error(made: F64, truth: F64, keyframes: Sequence[int]) -> dict[str, float | None]:
    """In-betweening: largest distance at the keyframes (0 after they are pasted) and MPJPE between them."""
    at = np.zeros(len(truth), bool)
    at[list(keyframes)] = True
    gaps = np.linalg.norm(made - truth, axis=-1)
    return {
        "keyframe_max_m": float(gaps[at].max()) if at.any() else None,
        "between_m": float(gaps[~at].mean()) if (~at).any() else None,
    }


def seam_ratio(joints: F64, fps: float, seams: Sequence[int], reach: int = 1) -> float | None:
    """Peak acceleration at seams over the 99th percentile elsewhere; 1 and below is unseen.

    Args:
        joints: (T, J, 3) metres.
        fps: Frames per second.
        seams: First frame of each new piece.
        reach: Frames on either side that belong to a seam.

    Returns:
        None without a seam inside the clip, or without anything else to compare with.
    """
    if len(joints) < 4:
        return None
    size = np.linalg.norm(np.diff(joints, n=2, axis=0), axis=-1).max(axis=1) * fps**2
    centre = np.arange(1, len(joints) - 1)  # frame each second difference is centred on
    near = np.zeros(len(size), bool)
    for s in seams:
        near |= (centre >= s - 1 - reach) & (centre <= s + reach)
    if not near.any() or near.all():
        return None
    usual = float(np.quantile(size[~near], 0.99))
    return float(size[near].max() / usual) if usual > 0 else None


def change_outside(before: F64, after: F64, mask: NDArray[np.bool_]) -> float:
    """Editing and completion: largest change where nothing was asked for (`mask` False); 0 is right."""
    kept = ~np.broadcast_to(mask, before.shape)
    return float(np.abs(after - before)[kept].max()) if kept.any() else 0.0


def root_path_error(made: F64, source: F64) -> float | None:
    """Content kept by a style transfer: mean horizontal distance of the pelvis' path, both started at the origin."""
    n = min(len(made), len(source))
    if not n:
        return None
    a, b = (x[:n, 0][:, [0, 2]] - x[0, 0][[0, 2]] for x in (made, source))
    return float(np.linalg.norm(a - b, axis=1).mean())


def sample_spread(samples: F64, real: F64) -> float | None:
    """Mean pairwise distance of samples for one condition over that of real clips; below .5 a model has collapsed.

    Args:
        samples: (S, T, J, 3) made for one condition, pelvis path started at the origin.
        real: (R, T, J, 3) real clips of the same length.
    """
    from scipy.spatial.distance import pdist

    if len(samples) < 2 or len(real) < 2:
        return None
    scale = float(pdist(real.reshape(len(real), -1)).mean())
    return float(pdist(samples.reshape(len(samples), -1)).mean() / scale) if scale > 0 else None
