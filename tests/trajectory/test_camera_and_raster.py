"""The camera and both rasterisers: where points fall, and that one picture comes out of two engines."""

from __future__ import annotations

import numpy as np
import pytest

from choreo_cli.trajectory import camera, curves, raster, views
from choreo_cli.trajectory.camera import Cameras, project, to_camera, to_world
from choreo_cli.trajectory.raster import DOT, TRAIL


def some_cameras(n: int = 50) -> Cameras:
    return camera.any_cameras(3, "test", 0, n)


def test_the_origin_is_the_middle_of_the_image() -> None:
    pixels, depth = project(np.zeros((50, 1, 3)), some_cameras(), 64)
    assert np.allclose(pixels, 31.5)
    assert np.allclose(depth, 4)


def test_up_is_up_and_right_is_right() -> None:
    one = Cameras(np.array([0.0]), np.array([0.3]))  # seen from +x
    (high,), (aside,) = project(np.array([[[0, 0, 0.5]]]), one, 64)[0], project(np.array([[[0, 0.5, 0]]]), one, 64)[0]
    assert high[0, 1] < 31.5
    assert high[0, 0] == pytest.approx(31.5)
    assert aside[0, 0] > 31.5


def test_k_r_and_t_say_the_same_as_project() -> None:
    cameras, points = some_cameras(), np.random.default_rng(0).normal(0, 0.5, (50, 20, 3))
    pixels, depth = project(points, cameras, 64)
    seen = np.einsum("nij,ntj->nti", cameras.rotation, points) + cameras.translation[:, None]
    flat = seen @ cameras.intrinsics(64).T
    assert np.allclose(flat[..., :2] / flat[..., 2:], pixels)
    assert np.allclose(seen[..., 2], depth)


def test_turning_into_the_camera_loses_nothing() -> None:
    cameras, points = some_cameras(), np.random.default_rng(1).normal(size=(50, 4, 3))
    assert np.allclose(to_world(to_camera(points, cameras), cameras), points, atol=1e-12)
    assert np.allclose(np.linalg.norm(to_camera(points, cameras), axis=-1), np.linalg.norm(points, axis=-1))


def test_every_point_of_every_curve_is_seen() -> None:
    """trajectory.md section 2: pixels 12.7..53.5, depth 2.77..5.31 of 8,000 curves."""
    found = curves.points(curves.draw(9, 0, 8000))
    pixels, depth = project(found, camera.any_cameras(9, "test", 0, 8000), 64)
    assert pixels.min() > 10
    assert pixels.max() < 58
    assert depth.min() > 2.6
    assert depth.max() < 5.5


@pytest.mark.parametrize("style", [DOT, TRAIL])
@pytest.mark.parametrize("size", [16, 64, 130])
def test_both_engines_draw_one_picture(style: int, size: int) -> None:
    pytest.importorskip("numba")
    from choreo_cli.trajectory.raster_fast import render_batch

    rng = np.random.default_rng(size)
    pixels = rng.uniform(-4, size + 4, (12, 16, 2)).astype(np.float32)
    radius = rng.uniform(0.2, 2.9 * size / 64 + 0.5, (12, 16)).astype(np.float32)
    colour = rng.integers(120, 256, (12, 3)).astype(np.uint8)
    out = np.full((12, 16, 3, size, size), 99, np.uint8)
    render_batch(pixels, radius, colour, np.full(12, style, np.uint8), out)
    for n in range(12):
        wanted = raster.render(pixels[n].astype(float), radius[n].astype(float), colour[n], style, size)
        assert np.abs(wanted.astype(int) - out[n]).max() <= 1


def test_a_buffer_of_another_shape_is_refused_before_a_byte_is_written() -> None:
    pytest.importorskip("numba")
    from choreo_cli.trajectory.raster_fast import render_batch

    pixels, radius = np.zeros((2, 16, 2), np.float32), np.ones((2, 16), np.float32)
    colour, style = np.full((2, 3), 200, np.uint8), np.zeros(2, np.uint8)
    good = np.zeros((2, 16, 3, 32, 32), np.uint8)
    for bad in (good[:1], good[:, ::2], good.transpose(0, 1, 2, 4, 3), good.astype(np.int16), good[..., :16]):
        with pytest.raises(ValueError, match="does not hold"):
            render_batch(pixels, radius, colour, style, bad)
    assert not good.any()


def test_intensity_does_not_change_under_a_shift() -> None:
    white = np.full(3, 255, np.uint8)
    sums = []
    for shift in np.linspace(0, 1, 21):
        video = raster.render(np.array([[31.5 + shift, 30.2 + 0.7 * shift]]), np.array([2.2]), white, DOT, 64)
        sums.append(video.sum())
    assert np.ptp(sums) < 0.01 * np.mean(sums)


def test_the_centroid_is_where_the_point_is_projected() -> None:
    found = curves.draw(11, 0, 40)
    cameras = camera.any_cameras(11, "test", 0, 40)
    pixels, depth = project(curves.points(found)[:, :16], cameras, 64)
    radius = raster.radii(depth, 64, "perspective")
    at = np.arange(64)
    off = np.empty((40, 16, 2))
    for n in range(40):
        video = raster.render(pixels[n], radius[n], np.full(3, 255, np.uint8), DOT, 64)[:, 0].astype(float)
        mass = video.sum((1, 2))
        centre = np.stack([(video.sum(1) * at).sum(1) / mass, (video.sum(2) * at).sum(1) / mass], -1)
        off[n] = np.abs(centre - pixels[n])
    assert np.quantile(off, 0.99) < 0.05
    assert off.max() < 0.06, "the smallest dots, 1.25 px, are the coarsest"


def test_a_mirrored_camera_gives_the_mirrored_image() -> None:
    white = np.full(3, 255, np.uint8)
    spots = np.random.default_rng(2).uniform(15, 48, (16, 2))
    flipped = spots * (-1, 1) + (63, 0)
    for style in (DOT, TRAIL):
        a = raster.render(spots, np.full(16, 1.9), white, style, 64)
        b = raster.render(flipped, np.full(16, 1.9), white, style, 64)
        assert np.abs(a[..., ::-1].astype(int) - b).max() <= 1


def test_a_trail_remembers_and_fades() -> None:
    white = np.full(3, 255, np.uint8)
    spots = np.stack([np.linspace(15, 48, 16), np.full(16, 31.0)], -1)
    video = raster.render(spots, np.full(16, 1.9), white, TRAIL, 64)[:, 0]
    seen = video[:, 31, 15].astype(float)
    assert seen[0] == 255
    assert np.allclose(seen[4:] / seen[3:-1], raster.FADE, atol=0.02)
    assert (video[-1, 31, 15:48] > 0).all(), "the path behind is drawn"
    assert not raster.render(spots, np.full(16, 1.9), white, DOT, 64)[-1, 0, 31, :40].any()


def test_depth_shows_in_the_size_only_with_the_cue() -> None:
    depth = np.array([3.0, 4.0, 5.0])
    assert (np.diff(raster.radii(depth, 64, "perspective")) < 0).all()
    assert np.ptp(raster.radii(depth, 64, "constant")) == 0
    with pytest.raises(ValueError, match="size cue"):
        raster.radii(depth, 64, "none")


def test_there_are_180_views_and_each_can_be_made_alone() -> None:
    all_of = views.every_view(42, np.arange(20))
    assert len(all_of) == 20 * 180
    one = views.every_view(42, np.array([7]))
    for name in field_names():
        assert np.array_equal(getattr(one, name), getattr(all_of.take(slice(7 * 180, 8 * 180)), name))
    kinds = {
        (float(s), round(float(a), 6), int(p), int(st))
        for s, a, p, st in zip(one.sigma, one.azimuth, one.phase, one.style, strict=True)
    }
    assert len(kinds) == 180
    assert (np.abs(one.elevation - 0.45) <= 0.05).all()
    assert one.colour.min() >= 120


def field_names() -> list[str]:
    return ["base", "noise_key", "sigma", "azimuth", "elevation", "phase", "style", "colour"]


def test_noise_is_of_its_row_and_leaves_the_future_clean() -> None:
    found = curves.draw(42, 0, 40)
    looks = views.every_view(42, np.arange(40))
    clean = views.clean_points(found, looks)
    shown = views.noisy_points(42, "train", clean, looks)
    off = (shown - clean[:, :16]) / looks.sigma[:, None, None]
    assert abs(off.std() - 1) < 0.01
    picked = np.array([5000, 17, 18, 6999, 3])
    few = views.noisy_points(42, "train", clean[picked], looks.take(picked))
    assert np.array_equal(few, shown[picked])
    ahead = views.futures(clean, looks)
    assert np.allclose(to_world(ahead, looks.cameras), clean[:, 16:], atol=1e-12)


def test_an_engine_is_named_or_found() -> None:
    with pytest.raises(ValueError, match="engine"):
        views.choose_engine("cuda")
    assert views.choose_engine("numpy") == "numpy"
