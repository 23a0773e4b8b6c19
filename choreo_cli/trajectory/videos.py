"""Videos in memory: one path as a film, or a whole small set with its answers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.trajectory import curves, raster, views, words
from choreo_cli.trajectory.camera import Cameras
from choreo_cli.trajectory.curves import SHOWN
from choreo_cli.trajectory.views import SIZE, Views

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


def render_video(trajectory_3d: F64, camera: Cameras, image_size: int = SIZE, style: str = "dot") -> F32:
    """One video of a path: `(T, 3, H, W)` float32 in 0..1.

    Args:
        trajectory_3d: (T, 3) world units.
        camera: One camera.
        image_size: Pixels of a side.
        style: `dot` or `trail`.

    Raises:
        ValueError: another shape or style.
    """
    from choreo_cli.trajectory.camera import project

    path = np.asarray(trajectory_3d, np.float64)
    if path.ndim != 2 or path.shape[1] != 3 or not np.isfinite(path).all() or len(camera) != 1:
        raise ValueError(f"a path of shape {path.shape} is not finite (T, 3), or {len(camera)} cameras are not one")
    if style not in raster.STYLES:
        raise ValueError(f"style {style!r} is not {' or '.join(raster.STYLES)}")
    pixels, depth = project(path[None], camera, image_size)
    radius = raster.radii(depth, image_size, "perspective")
    white = np.full(3, 255, np.uint8)
    video = raster.render(pixels[0], radius[0], white, raster.STYLES.index(style), image_size)
    found: F32 = video.astype(np.float32) / np.float32(255)
    return found


def generate_dataset(
    num_samples: int = 1200, frames_per_video: int = SHOWN, image_size: tuple[int, int] = (SIZE, SIZE),
    augmentation: bool = True, seed: int = 42,
) -> dict[str, Any]:  # fmt: skip
    """Videos and their answers in memory; `choreo synth trajectories` keeps rows instead.

    Args:
        num_samples: Videos, a multiple of 4.
        frames_per_video: 16: the recipe shows 16 points.
        image_size: Height and width, equal.
        augmentation: Free views (noise, camera, phase, style, colour); without it white dots from the first camera.
        seed: Seed of every draw.

    Returns:
        videos (N, 16, 3, H, W) uint8, labels (N,), trajectory_3d (N, 16, 3), future_3d (N, 4, 3), equations,
        descriptions.

    Raises:
        ValueError: counts that cannot be balanced, other frames, or an image that is not square.
    """
    if num_samples < 4 or num_samples % 4 or frames_per_video != SHOWN or image_size[0] != image_size[1]:
        raise ValueError("num_samples is a multiple of 4, frames_per_video 16, image_size square")
    shapes, rows = curves.draw(seed, 0, num_samples), np.arange(num_samples)
    if augmentation:
        looks = views.free_views(seed, "memory", rows, rows)
    else:
        looks = views.every_view(seed, rows).take(rows * views.PER_CURVE)
        looks = Views(
            **{**_fields(looks), "sigma": np.zeros(num_samples), "colour": np.full((num_samples, 3), 255, np.uint8)}
        )
    clean = views.clean_points(shapes, looks)
    shown = views.noisy_points(seed, "memory", clean, looks)
    out = np.empty((num_samples, SHOWN, 3, *image_size), np.uint8)
    views.render(shown, looks, out)
    forms = [curves.canonical(views.seen_curves(shapes, looks), k) for k in range(num_samples)]
    return {
        "videos": out, "labels": shapes.family, "trajectory_3d": clean[:, :SHOWN], "future_3d": clean[:, SHOWN:],
        "equations": [curves.equation(f) for f in forms],
        "descriptions": [words.sentence(words.facts(f)) for f in forms],
    }  # fmt: skip


def _fields(looks: Views) -> dict[str, Any]:
    return {name: getattr(looks, name) for name in Views.__dataclass_fields__}
