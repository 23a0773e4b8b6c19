"""`render trajectories`: one picture by two engines, stored sets that are sets, annotations, and what is refused."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest

from choreo_cli.errors import DataError, UnavailableError, UsageError
from choreo_cli.trajectory import render_job, sets, views
from choreo_cli.trajectory.render_job import Asked
from choreo_cli.trajectory.render_sheet import marks
from choreo_cli.trajectory.sets import TrajectorySet, open_set
from formats import manifest, tables
from formats.manifest import Manifest, Root
from formats.npz_guard import read_npz
from formats.trajectory import PIXELS
from tests.trajectory.small_sets import make_set


@pytest.fixture(scope="module")
def of(tmp_path_factory: pytest.TempPathFactory) -> TrajectorySet:
    return make_set(tmp_path_factory.mktemp("render") / "set")


def test_both_engines_draw_every_chosen_video_within_one_grey_level(of: TrajectorySet) -> None:
    pytest.importorskip("numba")
    chosen = render_job.choose(of, Asked(split="grid", rows=24, around=2))
    some = slice(0, len(chosen))
    gap = np.abs(chosen.draw(some, "numba").astype(int) - chosen.draw(some, "numpy"))
    assert len(chosen) == 48 and gap.max() <= 1


def test_pictures_alone_are_written_and_are_the_same_twice(of: TrajectorySet, tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
    made = [render_job.write(of, Asked(preview=6), tmp_path / name, {}) for name in "ab"]
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["preview.png", "sheet.png"], "no video is stored"
    assert made[0].files == made[1].files and made[0].kind == "videos"
    sheet = (tmp_path / "a" / "sheet.png").read_bytes()
    width, height = struct.unpack(">II", sheet[16:24])
    assert width > 16 * 64 and height > 6 * 64
    assert b"acTL" in (tmp_path / "a" / "preview.png").read_bytes()[:200]
    document = manifest.encode(Manifest("choreo.videos/1", {}, made[0].entries))
    assert [e["source"] for e in manifest.decode(document).entries] == [f"views-test.parquet row {k}" for k in range(6)]


@pytest.mark.parametrize("kind", ["parquet", "npz"])
def test_what_is_stored_is_a_set_that_draws_the_same_videos(of: TrajectorySet, tmp_path: Path, kind: str) -> None:
    asked = Asked(rows=5, around=2, style="trail", materialize=kind, preview=1)
    made = render_job.write(of, asked, tmp_path, {})
    document = Manifest("choreo.trajectories/1", {}, made.entries, [Root("out", str(tmp_path), True)])
    document = manifest.decode(manifest.encode(document), file=tmp_path / "trajectories.json")
    again = open_set(document)
    assert len(again.looks["test"]) == 10 and set(again.looks["test"].style.tolist()) == {1}
    out = np.empty((10, 16, 3, 64, 64), np.uint8)
    again.render("test", slice(0, 10), out, "numpy")
    (file,) = again.frozen["test"]
    if kind == "npz":
        held = read_npz(file.read_bytes())
        stored, label = held["videos"], held["label"]
        assert np.array_equal(label, of.family("test")[np.repeat(np.arange(5), 2)])
    else:
        flat = tables.read_table(file, PIXELS).column("video").combine_chunks().flatten().to_numpy()
        stored = flat.reshape(out.shape)
    assert np.array_equal(stored, out)


def test_cameras_turn_around_the_same_path_or_stand_where_they_are_told(of: TrajectorySet) -> None:
    around = render_job.choose(of, Asked(rows=3, around=4))
    turns = np.mod(np.diff(around.looks.azimuth.reshape(3, 4)), 2 * np.pi)
    assert np.allclose(turns, np.pi / 2) and around.row.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    own = of.looks["test"]
    assert np.array_equal(around.looks.azimuth[::4], own.azimuth[:3]), "its own camera comes first"
    assert np.array_equal(around.shown(slice(0, 4)), np.repeat(of.shown("test", np.array([0])), 4, 0))
    told = render_job.choose(of, Asked(rows=2, cameras=((0.3, 0.4), (2.4, 0.5), (4.5, 0.6))))
    assert np.allclose(told.looks.azimuth, [0.3, 2.4, 4.5] * 2) and np.allclose(
        told.looks.elevation, [0.4, 0.5, 0.6] * 2
    )


def test_films_bring_their_annotations(of: TrajectorySet, tmp_path: Path) -> None:
    pytest.importorskip("av", reason="PyAV is not installed: pip install 'choreo[video]'")
    made = render_job.write(of, Asked(rows=2, materialize="mp4", preview=1), tmp_path, {})
    assert [e["path"] for e in made.entries] == ["mp4/000000.mp4", "mp4/000001.mp4"]
    said = json.loads((tmp_path / "mp4" / "000001.json").read_text())
    assert said["row"] == 1 and len(said["visible"]) == 16 and all(said["visible"])
    assert np.allclose(said["shown_3d"], of.shown("test", np.array([1]))[0])
    seen = np.array(said["camera"]["R"]) @ np.array(said["shown_3d"]).T + np.array(said["camera"]["t"])[:, None]
    flat = np.array(said["camera"]["K"]) @ seen
    assert np.allclose((flat[:2] / flat[2]).T, said["pixels"]), "K, R and t say where the dots are"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (Asked(split="nope"), "--split nope: the set has train, val, test, grid"),
        (Asked(style="blob"), "--style blob"), (Asked(materialize="gif"), "--materialize gif"),
        (Asked(engine="gpu"), "--engine gpu"), (Asked(around=0), "--cameras"), (Asked(preview=65), "--preview 65"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_refused_at_once(of: TrajectorySet, asked: Asked, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        render_job.check(asked, of)


def test_a_recipe_of_another_version_is_refused_in_one_line(tmp_path: Path) -> None:
    made = make_set(tmp_path)
    file = made.folder / "trajectories.json"
    found = manifest.decode(file.read_bytes(), file=file)
    for e in found.entries:
        e["recipe"] = "2"
    with pytest.raises(DataError, match="drawn by recipe 2, this choreo draws recipe 1"):
        open_set(found)


def test_an_engine_that_is_not_installed_is_named(of: TrajectorySet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UnavailableError, match="numba is not installed"):
        render_job.check(Asked(engine="numba"), of)
    assert Asked().drawn_by == "numpy", "what is written depends on nothing that is installed"


def test_a_large_buffer_is_written_past_the_cache_with_the_same_pixels() -> None:
    """Dots alone, mixed with trails, and through a buffer whose address does not allow it."""
    pytest.importorskip("numba")
    from choreo_cli.trajectory import curves
    from choreo_cli.trajectory.raster_fast import render_batch

    n = 172  # 33.8 MB
    looks = views.free_views(4, "stream", np.arange(n), np.arange(n))
    clean = views.clean_points(curves.draw(4, 0, n), looks)
    pixels, radius = views.drawing(clean[:, :16], looks)
    room = np.full(n * 16 * 3 * 64 * 64 + 64, 9, np.uint8)
    for style in (looks.style, np.zeros(n, np.uint8)):
        small = np.full((n, 16, 3, 64, 64), 7, np.uint8)
        for start in range(0, n, 43):
            some = slice(start, start + 43)
            render_batch(pixels[some], radius[some], looks.colour[some], style[some], small[some])
        for shift in (0, 3, 16, 48):
            first = -room.ctypes.data % 64 + shift
            first -= 64 if first >= 64 else 0
            large = room[first : first + small.size].reshape(small.shape)
            large[:] = 9
            render_batch(pixels, radius, looks.colour, style, large)
            assert np.array_equal(large, small), shift


def test_marks_lie_where_they_are_put() -> None:
    picture = marks(16, 2, [(np.array([[4.0, 11.0]]), (255, 0, 0), 1.0)])
    y, x = np.nonzero(picture[..., 0] > 200)
    assert picture.shape == (32, 32, 3) and abs(x.mean() - 8.5) < 0.6 and abs(y.mean() - 22.5) < 0.6


def test_no_row_is_lost_between_parts(of: TrajectorySet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sets, "FROZEN_ROWS", 7)
    made = render_job.write(of, Asked(rows=20, materialize="npz", preview=1), tmp_path, {})
    parts = [e for e in made.entries if e["role"] == "pixels"]
    assert [e["rows"] for e in parts] == [7, 7, 6] and len({e["id"] for e in parts}) == 3
