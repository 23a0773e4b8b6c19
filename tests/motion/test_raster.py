"""The raster: both engines draw the same, coverage is what geometry says, nothing outside or broken is drawn."""

from __future__ import annotations

import math

import numpy as np
import pytest

from choreo_cli.errors import UnavailableError
from choreo_cli.motion import raster
from choreo_cli.motion.scene import Actor, Look, scene
from tests.motion.render_material import dancer

SIZE = 96


def shape(kind: int = raster.CAPSULE, **more: object) -> np.ndarray:
    s = raster.shapes(1, 1)[0, 0]
    s[raster.KIND] = kind
    s[raster.ALPHA] = s[raster.ALPHA1] = 1.0
    s[raster.SOFT] = 1.0
    s[raster.RGB : raster.RGB + 3] = 255
    for name, value in more.items():
        at = getattr(raster, name)
        width = np.size(value)
        s[at : at + width] = value
    return s


def drawn(shapes: list[np.ndarray], engine: str = "numpy", ground: int = 0) -> np.ndarray:
    out = np.empty((1, SIZE, SIZE, 3), np.uint8)
    raster.engine(engine)[0](np.full((SIZE, SIZE, 3), ground, np.uint8), np.stack(shapes)[None], out)
    return out[0]


def strangers(rng: np.random.Generator, count: int) -> list[np.ndarray]:
    """Shapes of every kind, many of them partly or wholly outside, degenerate, transparent, soft."""
    found = []
    for _ in range(count):
        kind = int(rng.choice([raster.CAPSULE, raster.QUAD, raster.SHADOW, raster.CAST, raster.SKIP]))
        s = shape(kind, XY=rng.uniform(-40, SIZE + 40, 8), R0=rng.uniform(0, 20), R1=rng.uniform(0, 20))
        s[raster.ALPHA], s[raster.SHADE] = rng.uniform(0, 1), rng.choice([0.0, 1.0])
        s[raster.RGB : raster.RGB + 3] = rng.uniform(0, 255, 3)
        s[raster.SOFT], s[raster.RIM] = rng.choice([1.0, rng.uniform(1, 12)]), rng.choice([0.0, 1.3])
        if kind in (raster.CAPSULE, raster.SHADOW):
            s[raster.ALPHA1] = rng.uniform(0, 1)
        if rng.random() < 0.15:  # of no length
            s[raster.XY + 2 : raster.XY + 4] = s[raster.XY : raster.XY + 2]
        if rng.random() < 0.15:  # level or upright
            s[raster.XY + 2 + int(rng.integers(2))] = s[raster.XY + int(rng.integers(2))]
        found.append(s)
    return found


def test_engines_draw_the_same_picture() -> None:
    pytest.importorskip("numba", reason="numba is not installed: pip install 'choreo[render]'")
    rng = np.random.default_rng(0)
    pictures = np.stack([np.stack(strangers(rng, 25)) for _ in range(12)])
    ground = rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    ours, theirs = np.empty((2, 12, SIZE, SIZE, 3), np.uint8)
    raster.engine("numpy")[0](ground, pictures, ours)
    raster.engine("numba")[0](ground, pictures, theirs)
    assert (ours != ground).any()
    assert np.abs(ours.astype(int) - theirs).max() <= 1


@pytest.mark.parametrize("view", ["front", "side", "three-quarter", "top"])
def test_engines_draw_the_same_dancer(view: str) -> None:
    pytest.importorskip("numba", reason="numba is not installed: pip install 'choreo[render]'")
    actor = Actor(dancer(8), np.tile([[1.0, 0.4]], (8, 1)), "dancer")
    film = scene([actor], 30.0, Look(160, 160, view, follow=view == "side"), np.array([0.1]))
    pictures = film.pictures(2, 5)
    ours, theirs = np.empty((2, 3, 160, 160, 3), np.uint8)
    raster.engine("numpy")[0](film.ground, pictures, ours)
    raster.engine("numba")[0](film.ground, pictures, theirs)
    assert np.abs(ours.astype(int) - theirs).max() <= 1


def test_a_ground_for_each_picture() -> None:
    grounds = np.arange(3, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 3), np.uint8)
    for engine in ("numpy", "auto"):
        out = np.empty_like(grounds)
        raster.engine(engine)[0](grounds, raster.shapes(3, 1), out)
        assert (out == grounds).all()


@pytest.mark.parametrize("r", [0.6, 3.0, 11.0])
def test_coverage_is_the_area(r: float) -> None:
    """A white capsule on black weighs what geometry says, wherever it lies between the pixels."""
    want = math.pi * r * r + 2 * r * 30
    weights = [
        drawn([shape(XY=[30 + dx, 40 + dy, 60 + dx, 40 + dy], R0=r, R1=r)])[..., 0].sum() / 255
        for dx, dy in ((0, 0), (0.25, 0.5), (0.9, 0.1))
    ]
    assert np.allclose(weights, want, rtol=0.03)
    assert max(weights) - min(weights) < 0.01 * want


def test_a_shift_of_whole_pixels_shifts_the_picture() -> None:
    a = drawn([shape(XY=[30.3, 40.7, 55, 60], R0=6, R1=3, SHADE=1, RIM=1.3)])
    b = drawn([shape(XY=[35.3, 47.7, 60, 67], R0=6, R1=3, SHADE=1, RIM=1.3)])
    assert (a[20:70, 20:70] == b[27:77, 25:75]).all()


def test_quads_are_filled_whichever_way_they_turn() -> None:
    corners = [[20, 20], [70, 25], [65, 70], [25, 60]]
    one = drawn([shape(raster.QUAD, XY=np.ravel(corners), R0=4, R1=4)])
    other = drawn([shape(raster.QUAD, XY=np.ravel(corners[::-1]), R0=4, R1=4)])
    assert (one == other).all()
    assert (one[30:55, 30:60] == 255).all() and (one[:10] == 0).all()


def test_shadows_do_not_darken_twice() -> None:
    cast = shape(raster.CAST, RGB=[0, 0, 0])
    cast[raster.ALPHA] = 0.5
    blob = shape(raster.SHADOW, XY=[40, 40, 40, 40], R0=12, R1=12)
    once, twice = drawn([blob, cast], ground=200), drawn([blob, blob, cast], ground=200)
    assert (once == twice).all() and once[40, 40, 0] == 100
    assert (drawn([blob, cast, cast], ground=200) == once).all()  # the mask is empty after it was cast


def test_the_nearest_shape_is_the_last() -> None:
    low, high = (
        shape(XY=[10, 40, 80, 40], R0=8, R1=8, RGB=[255, 0, 0]),
        shape(XY=[40, 10, 40, 80], R0=8, R1=8, RGB=[0, 0, 255]),
    )
    assert tuple(drawn([low, high])[40, 40]) == (0, 0, 255) and tuple(drawn([high, low])[40, 40]) == (255, 0, 0)


@pytest.mark.parametrize("engine", ["numpy", "auto"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
def test_what_is_not_finite_or_far_away_is_not_drawn(engine: str, bad: float) -> None:
    broken = shape(XY=[bad, bad, bad, bad], R0=5, R1=5)
    assert (drawn([broken], engine) == 0).all()


def test_shading_is_lit_from_the_upper_left() -> None:
    ball = drawn([shape(XY=[48, 48, 48, 48], R0=30, R1=30, SHADE=1, RGB=[200, 200, 200])])[..., 0].astype(int)
    assert ball[34, 38] > ball[48, 48] > ball[66, 62]


def test_the_fast_engine_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raster, "find_spec", lambda name: None)
    assert raster.engine("auto")[1] == "numpy"
    with pytest.raises(UnavailableError, match=r"pip install 'choreo\[render\]'"):
        raster.engine("numba")
