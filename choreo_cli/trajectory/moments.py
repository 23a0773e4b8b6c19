"""Image moments of a video: where the light is in each frame, how large and how bright. What branch 0 sees."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]

PEAK_SHARE = 0.6
FLOOR_SHARE = 0.56  # of the brightest pixel: a trail behind the dot stays below (0.55), the dot's own edge does not
PER_FRAME = 4
NAMES = ("x", "y", "dot", "light")
_CHUNK = 32


def frame_moments(videos: U8) -> F32:
    """Moments of every frame, of the light above 0.56 of the peak: it leaves the trail out and is smooth in the rest.

    Args:
        videos: (B, T, 3, H, W) grey levels.

    Returns:
        (B, T, 4) float32: centroid x and y in -1..1 from the middle of the image; the root of what is above 0.6 of the
        peak, and of all light, both over the peak and the side: sizes of the dot and of dot and trail. A black frame
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
        safe = np.maximum(peak, 1.0)
        mass, x, y = (np.maximum(light - FLOOR_SHARE * peak[:, None], 0) @ weights).T
        held = np.maximum(mass, 1e-6)
        dot = (light * (light > PEAK_SHARE * peak[:, None])).sum(1)
        out[some] = np.stack([x / held, y / held, np.sqrt(dot / safe) / w, np.sqrt(light.sum(1) / safe) / w], axis=-1)
    return out.reshape(b, t, PER_FRAME)


def _middle(n: int) -> F32:
    return ((np.arange(n) - (n - 1) / 2) / ((n - 1) / 2)).astype(np.float32)
