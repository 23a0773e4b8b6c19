"""Views of curves: camera, noise, phase, style and colour of each video, as rows; a video is a function of its row.

The 180 views of a curve are 5 noise levels x (3 cameras x 2 turns) x 3 phases x 2 styles. A free view draws each of
them by itself, the camera from the continuous range.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from choreo_cli.trajectory import raster
from choreo_cli.trajectory.camera import (
    ANY_ELEVATION,
    AZIMUTHS,
    ELEVATION,
    ELEVATION_SPREAD,
    TILTS,
    Cameras,
    project,
    to_camera,
)
from choreo_cli.trajectory.curves import SHOWN, TIMES, Curves, points
from choreo_cli.trajectory.draws import between, normals, uniforms

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]

SIGMAS = (0.005, 0.01, 0.02, 0.03, 0.05)
DELAYS = (0.0, -0.08, 0.08)
PHASES = 3
PER_CURVE = len(SIGMAS) * len(AZIMUTHS) * len(TILTS) * PHASES * len(raster.STYLES)
SIZE = 64
_COORDINATES = 3 * SHOWN


@dataclass(frozen=True, slots=True)
class Views:
    """N views.

    Args:
        base: (N,) row of the curve among the base curves it belongs to.
        noise_key: (N,) row of the noise stream.
        sigma: (N,) standard deviation of the shown points, world units.
        azimuth, elevation: (N,) rad.
        phase: (N,) 0..2.
        style: (N,) uint8, 0 dot, 1 trail.
        colour: (N, 3) uint8.
    """

    base: I64
    noise_key: I64
    sigma: F64
    azimuth: F64
    elevation: F64
    phase: I64
    style: U8
    colour: U8

    def __len__(self) -> int:
        return len(self.base)

    def take(self, rows: NDArray[np.intp] | slice) -> Views:
        """Some of them."""
        return Views(*(getattr(self, f.name)[rows] for f in fields(self)))

    @property
    def cameras(self) -> Cameras:
        return Cameras(self.azimuth, self.elevation)


def every_view(seed: int, bases: I64) -> Views:
    """The 180 views of each curve, curve by curve.

    Args:
        seed: Seed of the dataset.
        bases: (M,) curves.

    Returns:
        180 M views; view 180 m + k of curve m is the same whatever the other curves are.
    """
    shape = (len(SIGMAS), len(AZIMUTHS), len(TILTS), PHASES, len(raster.STYLES))
    noise, azimuth, tilt, phase, style = (np.tile(i.ravel(), len(bases)) for i in np.indices(shape))
    base = np.repeat(np.asarray(bases, np.int64), PER_CURVE)
    key = base * PER_CURVE + np.tile(np.arange(PER_CURVE), len(bases))
    u = _rows(seed, "view", key, 4)
    return Views(
        base,
        key,
        np.take(SIGMAS, noise),
        np.take(AZIMUTHS, azimuth) + np.take(TILTS, tilt),
        between(u[:, 0], ELEVATION - ELEVATION_SPREAD, ELEVATION + ELEVATION_SPREAD),
        phase.astype(np.int64),
        style.astype(np.uint8),
        colours(u[:, 1:4]),
    )


def free_views(seed: int, stream: str, bases: I64, keys: I64) -> Views:
    """One view of each named curve from the continuous range of cameras.

    Args:
        seed: Seed of the dataset.
        stream: Which free views: `test`, `train`...
        bases: (N,) curves.
        keys: (N,) rows of the stream; equal keys give equal views.
    """
    u = _rows(seed, f"free/{stream}", keys, 8)
    return Views(
        np.asarray(bases, np.int64),
        np.asarray(keys, np.int64),
        np.take(SIGMAS, np.minimum((u[:, 0] * len(SIGMAS)).astype(np.int64), len(SIGMAS) - 1)),
        2 * np.pi * u[:, 1],
        between(u[:, 2], *ANY_ELEVATION),
        np.minimum((u[:, 3] * PHASES).astype(np.int64), PHASES - 1),
        (u[:, 4] * 2).astype(np.uint8),
        colours(u[:, 5:8]),
    )


def colours(u: F64) -> U8:
    """Three channels uniform in 120..255 from uniforms of the same shape."""
    lo, hi = raster.COLOURS
    return (lo + np.floor(u * (hi - lo + 1))).astype(np.uint8)


def seen_curves(curves: Curves, views: Views) -> Curves:
    """The curve of each view, begun at its phase: (N,) curves. Its equation is the one to be told."""
    turn = 2 * np.pi * views.phase / PHASES
    return curves.take(views.base).shifted(turn, np.take(DELAYS, views.phase))


def clean_points(curves: Curves, views: Views) -> F64:
    """The 20 points of each view without noise: (N, 20, 3) in the world."""
    return points(seen_curves(curves, views), TIMES)


def noisy_points(seed: int, stream: str, clean: F64, views: Views) -> F64:
    """The 16 shown points with the noise of each view: (N, 16, 3). The 4 to be forecast stay clean."""
    z = normals(_rows(seed, f"noise/{stream}", views.noise_key, _COORDINATES))
    return clean[:, :SHOWN] + views.sigma[:, None, None] * z.reshape(len(views), SHOWN, 3)


def futures(clean: F64, views: Views) -> F64:
    """What is to be forecast, in the orientation of the camera: (N, 4, 3) world units."""
    return to_camera(clean[:, SHOWN:], views.cameras)


def drawing(shown: F64, views: Views, *, size: int = SIZE, cue: str = "perspective") -> tuple[F64, F64]:
    """Where and how large the dots are: pixels (N, 16, 2) and radii (N, 16)."""
    pixels, depth = project(shown, views.cameras, size)
    return pixels, raster.radii(depth, size, cue)


def render(shown: F64, views: Views, out: U8, *, cue: str = "perspective", engine: str = "auto") -> str:
    """Draw the views into a buffer.

    Args:
        shown: (N, 16, 3) noisy points.
        views: N views.
        out: (N, 16, 3, size, size) uint8, C-contiguous, used again and again.
        cue: Size cue.
        engine: `numba`, `numpy`, or `auto`: numba where it is installed.

    Returns:
        The engine that drew.

    Raises:
        UnavailableError: numba was asked for and is not installed.
    """
    size = out.shape[-1]
    pixels, radius = drawing(shown, views, size=size, cue=cue)
    chosen = choose_engine(engine)
    if chosen == "numba":
        from choreo_cli.trajectory.raster_fast import render_batch

        render_batch(pixels, radius, views.colour, views.style, out)
    else:
        for n in range(len(views)):
            out[n] = raster.render(pixels[n], radius[n], views.colour[n], int(views.style[n]), size)
    return chosen


def choose_engine(engine: str) -> str:
    """The engine to draw with. Raises UnavailableError when numba is named and missing, ValueError for another name."""
    from importlib.util import find_spec

    if engine not in ("auto", "numba", "numpy"):
        raise ValueError(f"engine {engine!r} is not auto, numba or numpy")
    there = find_spec("numba") is not None
    if engine == "numba" and not there:
        from choreo_cli.errors import UnavailableError

        raise UnavailableError("numba is not installed", hint="pip install 'choreo[render]', or --engine numpy")
    return "numba" if there and engine != "numpy" else "numpy"


def _rows(seed: int, stream: str, keys: I64, per_row: int) -> F64:
    """Uniforms of rows named by key: consecutive ones at once, others one by one."""
    keys = np.asarray(keys, np.int64)
    if not len(keys):
        return np.empty((0, per_row))
    # Runs of consecutive keys are drawn together.
    starts = np.flatnonzero(np.diff(keys, prepend=keys[0] - 2) != 1)
    ends = np.append(starts[1:], len(keys))
    blocks = [
        uniforms(seed, stream, int(keys[a]), b - a, per_row)
        for a, b in zip(starts.tolist(), ends.tolist(), strict=True)
    ]
    return np.concatenate(blocks)
