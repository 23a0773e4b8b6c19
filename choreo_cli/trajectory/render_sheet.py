"""Pictures of many small videos: a contact sheet of strips, a mosaic that moves, and the strip of one clip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.motion import raster_png, scene_text

F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]

PAPER, GAP, LABEL, HEAD = (28, 31, 38), 2, 168, 26
_MOSAIC_PX = 768


def contact_sheet(videos: U8, labels: Sequence[tuple[str, str, str]], texts: Mapping[str, str]) -> bytes:
    """PNG: a row for each video with what it is and all its frames, from left to right.

    Args:
        videos: (n, T, 3, size, size). labels: Three lines for each. texts: Kept in the file.
    """
    n, t, _, size, _ = videos.shape
    height = max(size, 54)
    sheet = np.empty((HEAD + n * (height + GAP) + GAP, LABEL + t * (size + GAP) + GAP, 3), np.uint8)
    sheet[:] = PAPER
    for k in range(t):
        stamp = scene_text.stamp(str(k), 12)
        scene_text.put(sheet, stamp, LABEL + GAP + k * (size + GAP) + (size - stamp.shape[1]) // 2, 6, scene_text.SOFT)
    for row in range(n):
        y = HEAD + row * (height + GAP)
        for line, text in enumerate(labels[row]):
            ink = scene_text.SOFT if line else scene_text.INK
            scene_text.put(sheet, scene_text.stamp(text, 13 if line == 0 else 12, line == 0), 8, y + 2 + 17 * line, ink)
        for k in range(t):
            x = LABEL + GAP + k * (size + GAP)
            sheet[y : y + size, x : x + size] = videos[row, k].transpose(1, 2, 0)
    return raster_png.png(sheet, texts)


def preview(videos: U8, fps: float, texts: Mapping[str, str]) -> bytes:
    """Animated PNG: all videos side by side, moving together."""
    n, t, _, size, _ = videos.shape
    columns = max(1, min(int(np.ceil(np.sqrt(n))), _MOSAIC_PX // (size + GAP)))
    rows = -(-n // columns)
    frames = np.empty((t, rows * (size + GAP) + GAP, columns * (size + GAP) + GAP, 3), np.uint8)
    frames[:] = PAPER
    for k in range(n):
        y, x = GAP + k // columns * (size + GAP), GAP + k % columns * (size + GAP)
        frames[:, y : y + size, x : x + size] = videos[k].transpose(0, 2, 3, 1)
    return raster_png.apng(iter(frames), fps, texts)


def strip(video: U8, more: U8 | None = None, texts: Mapping[str, str] | None = None) -> bytes:
    """PNG of one clip: every second frame from left to right, and a last picture beside them.

    Args:
        video: (T, 3, size, size). more: (size, size, 3) or None.
    """
    tiles: list[Any] = [frame.transpose(1, 2, 0) for frame in video[1::2]]
    if more is not None:
        tiles.append(more)
    size = video.shape[-1]
    out = np.empty((size, len(tiles) * (size + GAP) - GAP, 3), np.uint8)
    out[:] = PAPER
    for k, tile in enumerate(tiles):
        out[:, k * (size + GAP) : k * (size + GAP) + size] = tile
    return raster_png.png(out, texts)


def marks(size: int, scale: int, layers: Sequence[tuple[F64, tuple[int, int, int], float]]) -> U8:
    """A picture of points as discs, later layers on top: (size scale, size scale, 3).

    Args:
        size: Pixels of a side of the videos. scale: Times larger.
        layers: Points (n, 2) in pixels of the video, their colour, their radius in the same pixels.
    """
    side = size * scale
    out = np.zeros((side, side, 3))
    at = (np.arange(side) + 0.5) / scale - 0.5
    for points, colour, radius in layers:
        for x, y in points:
            gap = np.hypot(at[None, :] - x, at[:, None] - y)
            cover = np.clip((radius - gap) * scale + 0.5, 0, 1)[..., None]
            out = out * (1 - cover) + np.array(colour) * cover
    return np.floor(out + 0.5).astype(np.uint8)
