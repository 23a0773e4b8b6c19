"""Dances longer than a network's window: windows that share their overlap at every step, without seams.

The way from noise to data is followed once for the whole dance. At every evaluation the network is asked window by
window, and where windows overlap their answers are blended by raised cosines: there is one state, so windows cannot
drift apart (on panoramas: Bar-Tal et al., "MultiDiffusion", ICML 2023; on dances: Tseng et al., CVPR 2023).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import UsageError

F32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Cover:
    """Windows over a dance.

    Args:
        starts: First frame of each; the last one ends with the dance.
        window: Frames of each.
        frames: Of the dance.
        overlap: Frames that neighbours share; the last two may share more.
    """

    starts: tuple[int, ...]
    window: int
    frames: int
    overlap: int

    @property
    def seams(self) -> tuple[int, ...]:
        """Frames at which a window begins or has ended, without the ends of the dance."""
        edges = {*self.starts, *(s + self.window for s in self.starts)}
        return tuple(sorted(e for e in edges if 0 < e < self.frames))


def cover(frames: int, window: int, overlap: int) -> Cover:
    """Windows for a dance of at least one window.

    Raises:
        UsageError: an overlap that leaves nothing to go on with, or a dance shorter than a window.
    """
    if not 0 <= overlap < window:
        raise UsageError(f"an overlap of {overlap} frames in windows of {window}", hint=f"0 to {window - 1}")
    if frames < window:
        raise UsageError(f"{frames} frames are less than a window of {window}")
    last = frames - window
    starts = [*range(0, last, window - overlap), last]
    return Cover(tuple(starts), window, frames, overlap)


def unfold(a: NDArray[np.float32], windows: Cover) -> F32:
    """(B, T, C) as its windows (B * n, W, C), those of one dance together."""
    at = np.array(windows.starts)[:, None] + np.arange(windows.window)
    return np.ascontiguousarray(a[:, at].reshape(-1, windows.window, a.shape[2]))


def fold(parts: NDArray[np.float32], windows: Cover, turn: NDArray[np.float32] | None = None) -> F32:
    """Windows (B * n, W, C) as one dance (B, T, C), blended where they overlap.

    Args:
        parts: See `unfold`.
        windows: The windows.
        turn: (C,) what a full turn is in each column, 0 where it is no angle: angles are blended the shorter way.
    """
    n, w = len(windows.starts), windows.window
    each = parts.reshape(-1, n, w, parts.shape[2])
    out = np.zeros((len(each), windows.frames, parts.shape[2]), np.float32)
    weight = np.zeros(windows.frames, np.float32)
    full = None if turn is None else np.flatnonzero(turn)
    for k, start in enumerate(windows.starts):
        span = slice(start, start + w)
        own = _weight(k, n, w, windows.overlap)
        away = each[:, k] - out[:, span]
        if full is not None and len(full):
            known = (weight[span] > 0)[:, None]
            period = turn[full]  # type: ignore[index]
            away[..., full] -= np.where(known, period * np.rint(away[..., full] / period), np.float32(0))
        total = weight[span] + own
        out[:, span] += (own / total)[:, None] * away
        weight[span] = total
    return out


def _weight(k: int, n: int, window: int, overlap: int) -> F32:
    """How much a frame of window k counts: rising over the overlap, falling over the next; never 0."""
    weight = np.ones(window)
    if overlap:
        ramp = np.sin(np.pi / 2 * (np.arange(overlap) + 0.5) / overlap) ** 2
        if k:
            weight[:overlap] *= ramp
        if k < n - 1:
            weight[window - overlap :] *= ramp[::-1]
    return weight.astype(np.float32)
