"""A film of one dancer, or of two side by side: what lies where, and the frames one after another."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from choreo_cli.motion import raster, scene_body, scene_stage, scene_text
from choreo_cli.motion.camera import VIEWS, Camera, Window, facing, place

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]

BATCH, BATCH_BYTES = 32, 48 << 20  # frames drawn at a time, fewer of large ones
FULL_BODY = 0.80  # share of a panel's height that the body and its path may take


@dataclass(frozen=True, slots=True)
class Actor:
    """One dancer of a film.

    Args:
        joints: (T, 22, 3) metres, y up, floor 0.
        contacts: (T, 2) left and right foot, 0..1.
        name: What stands over the panel.
        role: `reference`, `generated` or empty, beside the name.
    """

    joints: F64
    contacts: F64
    name: str = ""
    role: str = ""


@dataclass(frozen=True, slots=True)
class Look:
    """How a film is drawn.

    Args:
        width: Of one panel, pixels.
        height: Of the picture, pixels.
        view: One of `camera.VIEWS`, around the first actor's mean heading.
        azimuth_deg: Instead of the view's, from the heading.
        elevation_deg: Instead of the view's.
        perspective: False for orthographic.
        follow: Keep the dancer in the middle instead of the whole path in view.
        words: Names and clock.
        bar: Time bar.
        engine: `auto`, `numpy` or `numba`.
    """

    width: int = 512
    height: int = 512
    view: str = "three-quarter"
    azimuth_deg: float | None = None
    elevation_deg: float | None = None
    perspective: bool = True
    follow: bool = False
    words: bool = True
    bar: bool = True
    engine: str = "auto"


@dataclass(slots=True)
class Scene:
    """A film, ready to be drawn: `scene(actors, fps, look, beats)` makes one.

    Args:
        actors: Whom it shows, left to right, all of the same length.
        fps: Frame rate.
        look: How.
        beats_s: (B,) beats from the first frame.
        cameras: One for each actor.
        ground: (H, W, 3) what no frame changes.
    """

    actors: Sequence[Actor]
    fps: float
    look: Look
    beats_s: F64
    cameras: list[Camera]
    ground: U8
    draw: raster.Draw
    engine: str
    bar: scene_stage.Bar
    _grid_moves: bool = field(default=False)

    @property
    def frames(self) -> int:
        return len(self.actors[0].joints)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the whole picture."""
        return self.look.height, self.look.width * len(self.actors)

    @property
    def step(self) -> int:
        """How many frames are drawn at a time."""
        return max(min(BATCH, BATCH_BYTES // (self.size[0] * self.size[1] * 3)), 1)

    def pictures(self, start: int, stop: int) -> F32:
        """(stop - start, P, WIDTH) shapes of a stretch of frames, panel by panel."""
        found: list[F32] = []
        for actor, camera in zip(self.actors, self.cameras, strict=True):
            if camera.target.ndim == 2:
                camera = _at(camera, start, stop)
                found.append(scene_stage.grid(camera))
            found.append(scene_body.body(actor.joints[start:stop], actor.contacts[start:stop], camera))
        if self.look.bar:
            found.append(self.bar.moving(np.arange(start, stop) / self.fps))
        return np.concatenate(found, 1)

    def batch(self, start: int, stop: int, out: U8 | None = None) -> U8:
        """(stop - start, H, W, 3) uint8 frames, into `out` where it is given."""
        out = np.empty((stop - start, *self.size, 3), np.uint8) if out is None else out[: stop - start]
        self.draw(self.ground, self.pictures(start, stop), out)
        if self.look.words:
            size, edge = _word_px(self.size), round(14 * min(self.size) / 512)
            for k in range(stop - start):
                scene_text.clock(out[k], (start + k) / self.fps, size, self.size[1] - edge, edge)
        return out

    def __iter__(self) -> Iterator[U8]:
        """Batches of frames, in order."""
        for start in range(0, self.frames, self.step):
            yield self.batch(start, min(start + self.step, self.frames))


def scene(actors: Sequence[Actor], fps: float, look: Look, beats_s: F64 | None = None) -> Scene:
    """Set up a film: cameras that show everybody alike, the stage, and what stands still.

    Args:
        actors: One, or two side by side; all of the same length.
        fps: Their frame rate.
        look: How it is drawn.
        beats_s: (B,) beats, seconds from the first frame.
    """
    beats = np.empty(0) if beats_s is None else np.asarray(beats_s, float)
    draw, engine = raster.engine(look.engine)
    size = (look.height, look.width * len(actors))
    bar = scene_stage.Bar(size, len(actors[0].joints) / fps, beats)
    azimuth, elevation = VIEWS[look.view]
    azimuth = azimuth if look.azimuth_deg is None else look.azimuth_deg
    elevation = elevation if look.elevation_deg is None else look.elevation_deg
    foot = scene_stage.BAR_HEIGHT * min(size) if look.bar else 0.0
    room = (look.height - foot) * FULL_BODY
    window = Window((look.width - 1) / 2, (look.height - foot) * 0.53, 0.47 * look.width, max(room / 2, 8.0))
    cameras = place(
        [a.joints for a in actors], fps, window,
        azimuth=facing(actors[0].joints) + math.radians(azimuth), elevation=math.radians(elevation),
        perspective=look.perspective, following=look.follow,
    )  # fmt: skip
    cameras = [
        c.moved(Window(window.x + k * look.width, window.y, window.half_width, window.half_height))
        for k, c in enumerate(cameras)
    ]
    made = Scene(actors, fps, look, beats, cameras, np.empty((0, 0, 3), np.uint8), draw, engine, bar)
    made.ground = _ground(made)
    return made


def _at(camera: Camera, start: int, stop: int) -> Camera:
    from dataclasses import replace

    return replace(camera, target=camera.target[start:stop])


def _word_px(size: tuple[int, int]) -> int:
    return max(round(15 * min(size) / 512), 9)


def _ground(film: Scene) -> U8:
    """Backdrops, the grid of cameras that stand, the still part of the bar, and the names."""
    look = film.look
    panels = [
        scene_stage.backdrop(film.size, c, (k * look.width, (k + 1) * look.width)) for k, c in enumerate(film.cameras)
    ]
    picture = np.ascontiguousarray(np.concatenate(panels, 1))
    still = [scene_stage.grid(c)[0] for c in film.cameras if c.target.ndim == 1]
    for k in range(1, len(film.actors)):
        x = k * look.width - 0.5
        still.append(scene_stage.stroke((x, 0), (x, look.height), 0.6, scene_stage.TRACK)[None])
    if look.bar:
        still.append(film.bar.still(film.actors[-1].contacts, film.fps))
    if still:
        out = np.empty((1, *picture.shape), np.uint8)
        film.draw(picture, np.concatenate(still)[None], out)
        picture = out[0]
    if look.words:
        _names(film, picture)
    return picture


def _names(film: Scene, picture: U8) -> None:
    unit, size = min(film.size) / 512, _word_px(film.size)
    edge = round(14 * unit)
    for k, actor in enumerate(film.actors):
        x = k * film.look.width + edge
        room = film.look.width - 2 * edge - (round(70 * unit) if k == len(film.actors) - 1 else 0)
        if actor.role:
            cover = scene_text.stamp(actor.role, size, True)
            scene_text.put(picture, cover, x, edge)
            x, room = x + cover.shape[1] + round(8 * unit), room - cover.shape[1] - round(8 * unit)
        if actor.name:
            name = scene_text.shortened(actor.name, size, room)
            scene_text.put(picture, scene_text.stamp(name, size), x, edge, scene_text.SOFT)
