"""Image moments of a video: where the light is in each frame, how large and how bright. What branch 0 sees."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]

PEAK_SHARE = 0.6  # of the brightest pixel: what is above counts as the dot, what is below as its trail
PER_FRAME = 5
_CHUNK = 32
NAMES = ("x", "y", "area", "mass", "peak")


def frame_moments(videos: U8) -> F32:
    """Moments of every frame of the brightest part of the image.

    Args:
        videos: (B, T, 3, H, W) grey levels.

    Returns:
        (B, T, 5) float32: centroid x and y of what is above 0.6 of the peak, in -1..1 from the middle of the image;
        the root of its area and of the whole light over the peak, over the side; and the peak over 765. A black frame
        is all zeros.
    """
    b, t, _, h, w = videos.shape
    frames = videos.reshape(b * t, 3, h, w)
    out = np.zeros((b * t, PER_FRAME), np.float32)
    # Where they lie, and how many: three sums as one product.
    weights = np.stack([np.ones(h * w), np.tile(_middle(w), h), np.repeat(_middle(h), w)], axis=-1).astype(np.float32)
    for start in range(0, b * t, _CHUNK):  # pieces that stay in the cache
        some = slice(start, min(start + _CHUNK, b * t))
        light = frames[some, 0].astype(np.float32)
        light += frames[some, 1]
        light += frames[some, 2]
        light = light.reshape(len(light), -1)
        peak = light.max(1)
        inside = light > PEAK_SHARE * peak[:, None]
        mass, x, y = ((light * inside) @ weights).T
        safe, held = np.maximum(peak, 1.0), np.maximum(mass, 1.0)
        area = np.sqrt(inside.sum(1, dtype=np.float32)) / w
        out[some] = np.stack([x / held, y / held, area, np.sqrt(light.sum(1) / safe) / w, peak / 765.0], axis=-1)
    return out.reshape(b, t, PER_FRAME)


def _middle(n: int) -> F32:
    return ((np.arange(n) - (n - 1) / 2) / ((n - 1) / 2)).astype(np.float32)
