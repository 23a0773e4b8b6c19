"""What `choreo bench trajectory` measures and what it says when something is not there; how fast is for `make bench`."""

from __future__ import annotations

import numpy as np
import pytest

from choreo_cli.metrics.suites import LANES, SUITES
from choreo_cli.trajectory import bench, raster


def test_every_row_of_the_suite_is_measured_and_none_is_judged_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "opencv_drawing", lambda: None)
    monkeypatch.setattr(bench, "BRANCHES", {"strided": {"width": 2}})
    quick, rows = SUITES["choreo_cli.trajectory.bench"]
    found = {e["name"]: e for e in bench.bench(**{**quick, "videos": 8, "repeats": 1, "fits": 8})}
    assert set(found) == set(rows) and "trajectory" in LANES
    assert all(e["pass"] is None for e in found.values()), "small sizes prove nothing"
    assert found["trajectory.peer"]["value"] is None and "choreo[bench]" in found["trajectory.peer"]["why"]
    assert found["trajectory.dot"]["baseline"] is None
    assert found["trajectory.augmented"]["n"] == quick["rows"]
    assert [found[f"trajectory.{n}"]["goal"]["value"] for n in ("share", "peer", "trail", "augmented", "recipes")] == [
        0.4,
        5,
        15000,
        25,
        20,
    ]


def test_the_goals_are_judged_at_full_size_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    times = {"write": 1.0, "dot": 2.0, "trail": 4.0, "opencv dot": 1.0, "opencv trail": 2.0}
    monkeypatch.setattr(bench, "best_of", lambda runs, repeats: {n: times[n] for n in runs})
    monkeypatch.setattr(bench, "opencv_drawing", lambda: lambda *a: None)
    monkeypatch.setattr(bench, "BUFFER", 8)
    found = {e["name"]: e for e in bench._drawing(8, 1, 8, 0)}
    assert found["trajectory.share"]["value"] == 0.5 and found["trajectory.share"]["pass"] is True
    assert found["trajectory.peer"]["value"] == 0.5 and found["trajectory.peer"]["pass"] is False
    assert found["trajectory.trail"]["pass"] is False and found["trajectory.trail"]["ratio"] == 0.5


def test_opencv_draws_the_same_dots() -> None:
    pytest.importorskip("cv2", reason="OpenCV is not installed: pip install 'choreo[bench]'")
    draw = bench.opencv_drawing()
    assert draw is not None
    pixels, radius, colour = bench._shapes(4, 1)
    style = np.zeros(4, np.uint8)
    out = np.empty((4, 16, 3, 64, 64), np.uint8)
    draw(pixels, radius, colour, style, out)
    ours = np.stack([raster.render(pixels[n], radius[n], colour[n], 0, 64) for n in range(4)])
    # Its anti-aliased circle is up to a third of a pixel wider all round, and lies on sixteenths of a pixel.
    assert 1 < out.sum(dtype=float) / ours.sum(dtype=float) < 1.6
    assert np.abs(_centres(out) - _centres(ours)).max() < 0.3


def _centres(videos: np.ndarray) -> np.ndarray:
    """(N, T, 2) centre of the light in every frame, pixels."""
    light, line = videos.astype(float).sum(2), np.arange(videos.shape[-1])
    whole = light.sum((2, 3))
    return np.stack([(light.sum(2) * line).sum(-1) / whole, (light.sum(3) * line).sum(-1) / whole], -1)


def test_without_numba_nothing_is_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.views, "choose_engine", lambda engine: "numpy")
    found = bench._drawing(4, 1, 4, 0)
    assert len(found) == 4 and all(e["value"] is None and "numba" in e["why"] for e in found)
