"""A film: same bytes every time, sides in their colours, standing feet in green, beats, words, two panels."""

from __future__ import annotations

import colorsys
from dataclasses import replace

import numpy as np
import pytest

from choreo_cli.motion import raster, scene_stage, scene_text
from choreo_cli.motion.scene import Actor, Look, scene
from choreo_cli.motion.scene_stage import Bar, runs
from tests.motion.render_material import actor

SMALL = Look(160, 160, engine="numpy")


def hues(image: np.ndarray, low: float, high: float) -> np.ndarray:
    """(H, W) which pixels are strongly coloured within a range of hues, degrees."""
    flat = image.reshape(-1, 3) / 255
    found = [colorsys.rgb_to_hsv(*p) for p in flat]
    return np.array([low <= h * 360 < high and s > 0.5 and v > 0.35 for h, s, v in found]).reshape(image.shape[:2])


def test_equal_films_have_equal_bytes_however_they_are_cut() -> None:
    film = scene([actor()], 30.0, SMALL, np.array([0.1, 0.3]))
    whole = np.concatenate(list(film))
    again = scene([actor()], 30.0, SMALL, np.array([0.1, 0.3]))
    assert (np.concatenate([again.batch(k, k + 1) for k in range(12)]) == whole).all()
    assert whole.shape == (12, 160, 160, 3) and (whole[0] != whole[-1]).any()


def test_following_films_are_the_same_however_they_are_cut() -> None:
    film = scene([actor()], 30.0, replace(SMALL, follow=True))
    assert (np.concatenate([film.batch(0, 5), film.batch(5, 12)]) == film.batch(0, 12)).all()


def test_left_is_orange_right_is_blue_and_seen_from_the_front_left_is_on_the_right() -> None:
    picture = scene([Actor(actor().joints, np.zeros((12, 2)))], 30.0, replace(SMALL, view="front", bar=False)).batch(
        0, 1
    )[0]
    orange, blue = hues(picture, 10, 40), hues(picture, 200, 225)
    assert orange.sum() > 200 and blue.sum() > 200
    assert np.flatnonzero(orange.any(0)).mean() > np.flatnonzero(blue.any(0)).mean()


def test_feet_that_stand_are_green() -> None:
    joints = actor().joints
    look = replace(SMALL, bar=False, words=False)
    greens = [
        hues(scene([Actor(joints, np.full((12, 2), c))], 30.0, look).batch(0, 1)[0], 70, 110).sum() for c in (0.0, 1.0)
    ]
    assert greens[0] == 0 and greens[1] > 40


def test_the_dancer_casts_a_shadow_on_the_floor() -> None:
    look = replace(SMALL, bar=False, words=False)
    film = scene([Actor(actor().joints, np.zeros((12, 2)))], 30.0, look)
    darker = film.batch(0, 1)[0].astype(int).sum(2) < film.ground.astype(int).sum(2) - 20
    floor = slice(round(film.cameras[0].project(np.zeros((1, 1, 3)))[0][0, 0, 1]) - 8, None)
    assert darker[floor].sum() > 30


def test_the_floor_reaches_as_far_as_the_dancer_goes() -> None:
    look = replace(SMALL, bar=False, words=False)
    joints = actor().joints
    far = joints + np.linspace(-6, 6, len(joints))[:, None, None] * [1.0, 0.0, 0.0]
    for path, wide in ((joints, 1.0), (far, 2.0)):
        camera = scene([Actor(path, np.zeros((12, 2)))], 30.0, look).cameras[0]
        room = scene_stage.room_scale(camera)
        assert room >= wide and (wide > 1 or room == 1)
        reach = scene_stage.GRID_REACH_M * room
        assert np.hypot(*(path[:, 0, ::2] - camera.target[::2]).T).max() <= reach


def test_mirrored_dancers_make_mirrored_silhouettes() -> None:
    """Left for right: the body, not its colours or its light, is the same in the mirror."""
    joints = actor().joints.copy()
    joints[..., 0] -= joints[:, :, 0].mean()
    look = replace(SMALL, view="front", azimuth_deg=0.0, bar=False, words=False)
    order = [0, 2, 1, 3, 5, 4, 6, 8, 7, 9, 11, 10, 12, 14, 13, 15, 17, 16, 19, 18, 21, 20]
    other = joints[:, order] * [-1, 1, 1]

    def silhouette(j: np.ndarray) -> np.ndarray:
        film = scene([Actor(j, np.zeros((12, 2)))], 30.0, look)
        shapes = film.pictures(0, 1)
        shapes[:, :, raster.RGB : raster.RGB + 3], shapes[:, :, raster.SHADE], shapes[:, :, raster.RIM] = 255, 0, 0
        shapes[np.isin(shapes[:, :, raster.KIND], (raster.SHADOW, raster.CAST))] = 0
        out = np.empty((1, 160, 160, 3), np.uint8)
        film.draw(np.zeros((160, 160, 3), np.uint8), shapes, out)
        return out[0, :, :, 0].astype(int)

    a, b = silhouette(joints), silhouette(other)[:, ::-1]
    assert a.sum() > 255 * 1000 and np.abs(a - b).max() <= 3


def test_two_dancers_stand_side_by_side_each_in_a_panel() -> None:
    film = scene([actor(role="reference"), actor(seed=1, role="generated")], 30.0, SMALL)
    picture = film.batch(3, 4)[0]
    assert picture.shape == (160, 320, 3) and film.size == (160, 320)
    alone = scene([actor(role="reference")], 30.0, SMALL)
    assert alone.cameras[0].window == film.cameras[0].window
    for panel in (picture[:130, :158], picture[:130, 162:]):
        assert hues(panel, 10, 40).sum() > 100 and hues(panel, 200, 225).sum() > 100


def test_the_bar_shows_time_beats_and_contacts() -> None:
    bar = Bar((160, 160), 2.0, np.array([-1.0, 0.5, 1.0, 5.0]))
    assert bar.beats_s.tolist() == [0.5, 1.0]
    contacts = np.zeros((60, 2))
    contacts[10:20, 0] = contacts[30:40, 0] = contacts[5:50, 1] = 1
    assert len(bar.still(contacts, 30.0)) == 1 + 2 + 3
    moving = bar.moving(np.array([0.0, 0.49, 0.5, 0.55, 1.9]))
    glow = moving[:, 1, 14]
    assert glow[0] == glow[1] == 0 and glow[2] == pytest.approx(1) and 0.5 < glow[3] < 1 and glow[4] < 0.01
    assert (np.diff(moving[:, 2, 1]) > 0).all()


def test_runs() -> None:
    assert runs(np.array([True, True, False, True])) == [(0, 1), (3, 3)]
    assert runs(np.zeros(3, bool)) == [] and runs(np.ones(2, bool)) == [(0, 1)]


def test_long_names_leave_out_their_middle() -> None:
    short = scene_text.shortened("a_very_long_name_of_a_clip_that_never_ends", 15, 120)
    assert "…" in short and short.startswith("a_very") and short.endswith("ends")
    assert scene_text.stamp(short, 15).shape[1] <= 120
    assert scene_text.shortened("short", 15, 400) == "short"


def test_words_are_cut_at_the_edge() -> None:
    image = np.zeros((20, 20, 3), np.uint8)
    for x, y in ((-30, 4), (15, 15), (100, 3), (3, -100)):
        scene_text.put(image, scene_text.stamp("words", 15), x, y)
    scene_text.clock(image, 61.25, 9, 19, 2)
    assert image.any()


@pytest.mark.parametrize("frames", [1, 2])
def test_very_short_clips(frames: int) -> None:
    film = scene([actor(frames)], 30.0, SMALL, np.array([0.0]))
    assert np.concatenate(list(film)).shape == (frames, 160, 160, 3)
