"""The bench of drawing measures what its table promises, beside a peer and a floor of the same run."""

from __future__ import annotations

import pytest

from choreo_cli.metrics.suites import SUITES
from choreo_cli.motion import bench_render


def test_rows_are_those_of_the_table() -> None:
    pytest.importorskip("av", reason="PyAV is not installed: pip install 'choreo[video]'")
    small, rows = SUITES["choreo_cli.motion.bench_render"]
    assert set(small) <= {"seconds", "repeats", "peer_frames", "seed"}
    found = {e["name"]: e for e in bench_render.bench(seconds=2.0, repeats=1, peer_frames=2)}
    assert set(found) == set(rows)
    raster, film = found["motion.raster"], found["motion.mp4"]
    assert raster["floor"]["value"] > raster["value"] > raster["baseline"]["value"] > 0
    assert film["floor"]["value"] > 0 and film["params"]["beats"] >= 2 and film["params"]["bytes"] > 1000
    assert raster["goal"] == {"op": ">=", "value": 4000.0} and film["goal"]["value"] == pytest.approx(0.4)


def test_a_film_without_pyav_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.setattr(bench_render, "_raster", lambda *a: {"name": "motion.raster"})
    film = bench_render.bench(seconds=0.5, repeats=1, peer_frames=1)[1]
    assert film["value"] is None and film["pass"] is None and "choreo[video]" in film["why"]
