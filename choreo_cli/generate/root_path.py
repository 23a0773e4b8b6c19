"""Bring a clip to places on the floor: the smallest smooth change of its root speeds that passes through them.

The root of choreo25 is kept as rates, so "be at this place at that frame" is no constraint on a channel and no mask
can hold it. It is met afterwards: least squares on the velocities of the path. Feet in contact move with the root, so
contacts are locked again after it (`motion.foot_lock`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import DataError, UsageError
from choreo_cli.motion.choreo25 import integrate_root

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
SMOOTH = 4.0  # weight of the change between neighbours against the change itself
VX, VZ, TURN = 0, 1, 3


@dataclass(frozen=True, slots=True)
class Place:
    """Where the root is to be.

    Args:
        frame: Number of the frame.
        x, z: Metres on the floor.
        yaw: Heading in rad at that frame, as continuous as the clip's own; None leaves it.
    """

    frame: int
    x: float
    z: float
    yaw: float | None = None


def correct_root(
    channels: NDArray[np.floating],
    fps: float,
    places: Sequence[Place],
    *,
    start: tuple[float, float, float] = (0.0, 0.0, 0.0),
    fixed: NDArray[np.bool_] | None = None,
    smooth: float = SMOOTH,
) -> F32:
    """Change the root's speeds and turns so that it passes through places.

    Minimises `sum |d_t|^2 + smooth sum |d_t+1 - d_t|^2` over the change d of the world velocity, under the places as
    equalities; headings first, on the turn rate, alike. Heights, poses and contacts are not touched.

    Args:
        channels: (T, 25) raw.
        fps: Frame rate.
        places: Where to be; frame 0 can only be the start.
        start: yaw0 (rad), x0, z0 (m) of the clip.
        fixed: (T,) frames whose rates must stay as they are (known frames).
        smooth: How evenly the change is spread.

    Returns:
        (T, 25) float32. With float32 rates the places are met to about 1e-5 m.

    Raises:
        UsageError: a frame outside the clip or named twice, or smooth below 0.
        DataError: values that are not finite; every frame before a place is fixed and the path does not lead there.
    """
    out = np.array(channels, np.float64)
    frames = len(out)
    if out.ndim != 2 or out.shape[1] != 25:
        raise DataError(f"channels of shape {out.shape}", hint="(frames, 25) is needed")
    _check(out, places, frames, smooth)
    free = np.ones(frames - 1, bool) if fixed is None else ~np.asarray(fixed, bool)[:-1]
    own = np.array(sorted(p.frame for p in places), np.int64)
    by_frame = {p.frame: p for p in places}
    yaw, root = integrate_root(out, fps, *start)
    turned = [k for k in own.tolist() if by_frame[k].yaw is not None]
    if turned:
        gap = np.array([(by_frame[k].yaw or 0.0) - yaw[k] for k in turned])
        out[:-1, TURN] += _least(np.array(turned), gap[:, None] * fps, free, smooth)[:, 0]
        yaw, root = integrate_root(out, fps, *start)
    gap = np.array([(by_frame[k].x - root[k, 0], by_frame[k].z - root[k, 2]) for k in own.tolist()])
    change = _least(own, gap * fps, free, smooth)
    cos, sin = np.cos(yaw[:-1]), np.sin(yaw[:-1])
    out[:-1, VX] += cos * change[:, 0] - sin * change[:, 1]
    out[:-1, VZ] += sin * change[:, 0] + cos * change[:, 1]
    if fixed is None or not fixed[-1]:
        out[-1, [VX, VZ, TURN]] = out[-2, [VX, VZ, TURN]]
    return out.astype(np.float32)


def _check(channels: F64, places: Sequence[Place], frames: int, smooth: float) -> None:
    if not np.isfinite(channels).all():
        raise DataError("channel values that are not finite")
    named = [p.frame for p in places]
    if not named or len(set(named)) != len(named) or min(named) < 1 or max(named) >= frames:
        raise UsageError(f"places at frames {named} of {frames}", hint=f"different frames from 1 to {frames - 1}")
    if not smooth >= 0:
        raise UsageError(f"smooth {smooth} is below 0")
    for p in places:
        if not all(math.isfinite(v) for v in (p.x, p.z, p.yaw or 0.0)):
            raise DataError(f"the place at frame {p.frame} is not finite")


def _least(rows: NDArray[np.int64], sums: F64, free: NDArray[np.bool_], smooth: float) -> F64:
    """d (N, C) of least cost whose first `rows[k]` values sum to `sums[k]` (K, C), zero where it is not free."""
    from scipy.linalg import solveh_banded

    own = np.flatnonzero(free)
    before = np.searchsorted(own, rows)  # how many free frames lead to each place
    if (np.diff(before, prepend=0) < 1).any():
        raise DataError(
            f"no frame may change between the places {rows.tolist()}", hint="leave frames free between them"
        )
    n = len(free)
    diagonal = np.full(n, 1 + 2 * smooth)
    diagonal[0] -= smooth
    diagonal[-1] -= smooth
    band = np.zeros((2, len(own)))
    band[1] = diagonal[own]
    band[0, 1:] = np.where(np.diff(own) == 1, -smooth, 0.0)
    held = (np.arange(len(own)) < before[:, None]).astype(np.float64)
    # On the free frames: cost d = held' m, held d = sums.
    spread = solveh_banded(band, held.T)
    out = np.zeros((n, sums.shape[1]))
    out[own] = spread @ np.linalg.solve(held @ spread, sums)
    return out
