"""Cameras: where points fall, what fits, what follows."""

from __future__ import annotations

import math

import numpy as np
import pytest

from choreo_cli.motion.camera import VIEWS, Camera, Window, facing, follow, place
from tests.motion.render_material import dancer

WINDOW = Window(100.0, 120.0, 90.0, 100.0)


def camera(**more: object) -> Camera:
    kind = {"azimuth": 0.0, "elevation": 0.0, "distance": 4.0, "zoom": 50.0, "window": WINDOW, "target": np.zeros(3)}
    return Camera(**{**kind, **more})  # type: ignore[arg-type]


def test_the_target_is_in_the_middle_and_metres_are_zoom() -> None:
    xy, scale, near = camera().project(np.array([[[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]]))
    assert np.allclose(xy, [[[100, 120], [150, 120], [100, 70]]])
    assert np.allclose(scale, 50) and np.allclose(near, 0)


def test_nearer_is_larger_unless_orthographic() -> None:
    points = np.array([[[0.5, 0, 1.0], [0.5, 0, -1.0]]])
    _, scale, near = camera().project(points)
    assert scale[0, 0] == pytest.approx(50 * 4 / 3) and scale[0, 1] == pytest.approx(40) and near[0, 0] > near[0, 1]
    xy, scale, _ = camera(perspective=False).project(points)
    assert np.allclose(scale, 50) and np.allclose(xy[0, 0], xy[0, 1])


def test_axes_are_a_rotation_for_every_direction() -> None:
    for azimuth in (0.0, 1.0, -2.5):
        for elevation in (-0.1, 0.3, math.pi / 2):
            axes = camera(azimuth=azimuth, elevation=elevation).axes
            assert np.allclose(axes @ axes.T, np.eye(3)) and np.linalg.det(axes) == pytest.approx(1)


def test_front_looks_into_the_face_and_the_left_hand_is_on_the_right() -> None:
    j = dancer()
    front = place([j], 30, WINDOW, azimuth=facing(j), elevation=0.1)[0]
    xy, _, near = front.project(j)
    assert (near[:, [10, 11]].mean(1) > near[:, [7, 8]].mean(1)).mean() > 0.9  # toes before ankles
    assert xy[:, 16, 0].mean() > xy[:, 17, 0].mean()
    side = place([j], 30, WINDOW, azimuth=facing(j) + math.pi / 2, elevation=0.1)[0]
    assert side.project(j)[2][:, 16].mean() > side.project(j)[2][:, 17].mean()  # the left shoulder is near


def test_facing_turns_with_the_body() -> None:
    j = dancer()
    for turn in (0.7, -2.0, 3.0):
        c, s = math.cos(turn), math.sin(turn)
        turned = j @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]).T
        assert math.remainder(facing(turned) - facing(j) - turn, 2 * math.pi) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("perspective", [True, False])
@pytest.mark.parametrize("following", [True, False])
def test_everybody_fits(view: str, perspective: bool, following: bool) -> None:
    walk = dancer() + np.linspace(0, 4, 90)[:, None, None] * [1.0, 0, 0.5]
    azimuth, elevation = np.radians(VIEWS[view])
    cameras = place(
        [walk, dancer(seed=1)],
        30,
        WINDOW,
        azimuth=azimuth,
        elevation=elevation,
        perspective=perspective,
        following=following,
    )
    assert cameras[0].zoom == cameras[1].zoom and cameras[0].distance == cameras[1].distance
    for c, joints in zip(cameras, (walk, dancer(seed=1)), strict=True):
        xy, _, _ = c.project(joints)
        assert (np.abs(xy[..., 0] - WINDOW.x) <= WINDOW.half_width).all()
        assert (np.abs(xy[..., 1] - WINDOW.y) <= WINDOW.half_height).all()


def test_a_following_camera_is_smooth_and_close() -> None:
    walk = dancer() + np.linspace(0, 6, 90)[:, None, None] * [1.0, 0, 0]
    target = follow(walk, 30)
    assert np.ptp(target[:, 1]) == 0
    assert np.abs(np.diff(target, 2, axis=0)).max() < np.abs(np.diff(walk[:, 0], 2, axis=0)).max() / 5
    standing = place([walk], 30, WINDOW, azimuth=0, elevation=0.1)[0]
    assert place([walk], 30, WINDOW, azimuth=0, elevation=0.1, following=True)[0].zoom > 1.5 * standing.zoom


def test_one_frame_is_enough() -> None:
    for following in (True, False):
        c = place([dancer(1)], 30, WINDOW, azimuth=0, elevation=0.2, following=following)[0]
        assert np.isfinite(c.project(dancer(1))[0]).all()
