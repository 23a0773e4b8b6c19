"""Still pictures of a film: a contact sheet of moments, and a small animation that loops."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from choreo_cli.motion import raster_png, scene_text
from choreo_cli.motion.scene import Actor, Look, Scene, scene

F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]

TILES, TILE = 12, (224, 288)  # width and height of one body
COLUMNS_PX = 1344
PREVIEW, PREVIEW_FPS, PREVIEW_S = 256, 12.5, 6.0
PAPER, GAP, HEAD = (12, 14, 20), 4, 44


def moments(frames: int, count: int = TILES) -> list[int]:
    """Frames at equal distances from the first to the last; each once."""
    return sorted({round(float(k)) for k in np.linspace(0, frames - 1, min(count, frames))})


def contact_sheet(film: Scene, title: str, texts: dict[str, str]) -> bytes:
    """PNG of moments of a film, each with its time, in rows from left to right; the dancers stay in the middle."""
    look = replace(film.look, width=TILE[0], height=TILE[1], words=False, bar=False, follow=True)
    tiles = scene(film.actors, film.fps, look)
    shown = moments(film.frames)
    height, width = tiles.size
    columns = max(min(COLUMNS_PX // width, len(shown)), 1)
    rows = -(-len(shown) // columns)
    sheet = np.empty((HEAD + rows * (height + GAP) + GAP, columns * (width + GAP) + GAP, 3), np.uint8)
    sheet[:] = PAPER
    _heading(sheet, film, title)
    for k, at in enumerate(shown):
        y, x = HEAD + GAP + k // columns * (height + GAP), GAP + k % columns * (width + GAP)
        sheet[y : y + height, x : x + width] = tiles.batch(at, at + 1)[0]
        scene_text.clock(sheet, at / film.fps, 13, x + width - 8, y + 6)
        for n, actor in enumerate(film.actors):
            if actor.role:
                scene_text.put(sheet, scene_text.stamp(actor.role, 11), x + n * TILE[0] + 8, y + 7, scene_text.SOFT)
    return raster_png.png(sheet, texts)


def _heading(sheet: U8, film: Scene, title: str) -> None:
    facts = f"{film.frames} frames   {film.fps:g} fps   {film.frames / film.fps:.1f} s"
    if len(film.beats_s) > 1:
        facts += f"   {60 / float(np.median(np.diff(film.beats_s))):.0f} BPM"
    right = scene_text.stamp(facts, 13)
    name = scene_text.shortened(title, 18, sheet.shape[1] - right.shape[1] - 48)
    scene_text.put(sheet, scene_text.stamp(name, 18, True), 14, 12)
    if right.shape[1] < sheet.shape[1] - 200:
        scene_text.put(sheet, right, sheet.shape[1] - 14, 16, scene_text.SOFT, right=True)


def preview(film: Scene, texts: dict[str, str]) -> bytes:
    """Animated PNG of the first seconds, small, without words."""
    step = max(round(film.fps / PREVIEW_FPS), 1)
    stop = min(film.frames, int(PREVIEW_S * film.fps) or 1)
    actors = [_every(a, stop, step) for a in film.actors]
    look: Look = replace(film.look, width=PREVIEW, height=PREVIEW, words=False, follow=False)
    small = scene(actors, film.fps / step, look, film.beats_s)
    return raster_png.apng((frame for batch in small for frame in batch), small.fps, texts)


def _every(actor: Actor, stop: int, step: int) -> Actor:
    return replace(actor, joints=actor.joints[:stop:step], contacts=actor.contacts[:stop:step])
