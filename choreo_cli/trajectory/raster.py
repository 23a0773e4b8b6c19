"""Dots and trails as images: the reference, one video at a time, in numpy. `raster_fast` draws the same pictures.

A dot covers a pixel by clip(rho + 1/2 - distance, 0, 1). A trail keeps A_t = max(0.85 A_(t-1), 0.55 x the capsule from
the last point with radius 0.6 rho, the disc of radius rho). A grey level is floor(coverage x colour + 1/2).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]

STYLES = ("dot", "trail")
DOT, TRAIL = range(2)
SIZE_CUES = ("perspective", "constant")
RADIUS = 1.7  # pixels at depth 4, in an image of 64 pixels
COLOURS = (120, 255)
FADE, TAIL, THIN = 0.85, 0.55, 0.6
_DEPTH, _SIZE = 4.0, 64


def radii(depth: F64, size: int, cue: str) -> F64:
    """Radius of the dot in pixels, the shape of `depth`.

    Args:
        depth: World units.
        size: Pixels of a side; radii grow with the image.
        cue: `perspective` (nearer is larger) or `constant`.

    Raises:
        ValueError: another cue.
    """
    if cue not in SIZE_CUES:
        raise ValueError(f"size cue {cue!r} is not {' or '.join(SIZE_CUES)}")
    scale = RADIUS * (size / _SIZE)
    return scale * _DEPTH / depth if cue == "perspective" else np.full_like(depth, scale)


def render(pixels: F64, radius: F64, colour: U8, style: int, size: int) -> U8:
    """One video.

    Args:
        pixels: (T, 2) x right, y down.
        radius: (T,) pixels.
        colour: (3,) grey levels at full coverage.
        style: 0 dot, 1 trail.
        size: Pixels of a side.

    Returns:
        (T, 3, size, size) uint8 on black.
    """
    out = np.empty((len(pixels), 3, size, size), np.uint8)
    at = np.arange(size, dtype=np.float64)
    last: F64 = np.zeros((size, size))
    for k in range(len(pixels)):
        cover = _cover(np.hypot(at[None, :] - pixels[k, 0], at[:, None] - pixels[k, 1]), radius[k])
        if style == TRAIL:
            if k:
                gap = _to_segment(at, pixels[k - 1], pixels[k])
                cover = np.maximum(cover, TAIL * _cover(gap, THIN * radius[k]))
            cover = np.maximum(FADE * last, cover)
            last = cover
        out[k] = np.floor(cover[None] * colour[:, None, None].astype(np.float64) + 0.5).astype(np.uint8)
    return out


def _cover(distance: F64, radius: float) -> F64:
    return np.clip(radius + 0.5 - distance, 0.0, 1.0)


def _to_segment(at: F64, a: F64, b: F64) -> F64:
    """Distance of every pixel from the segment a b: (size, size)."""
    x, y = at[None, :] - a[0], at[:, None] - a[1]
    dx, dy = b - a
    square = dx * dx + dy * dy
    along = np.clip((x * dx + y * dy) / square, 0.0, 1.0) if square > 0 else np.zeros_like(x + y)
    gap: F64 = np.hypot(x - along * dx, y - along * dy)
    return gap
