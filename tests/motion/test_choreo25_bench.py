"""`choreo bench motion`: its rows are those it lists, its baseline computes the same thing. No clock is judged."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from choreo_cli.metrics.suites import SUITES
from choreo_cli.motion import bench
from formats.foreign.bvh import parse
from formats.foreign.bvh_kinematics import joint_positions
from formats.foreign.source import Source


def test_the_rows_it_lists_are_measured() -> None:
    found = {e["name"]: e for e in bench.bench(seconds=2.0, clips=2, repeats=1, peer_frames=3)}
    assert set(found) == set(SUITES["choreo_cli.motion.bench"][1])
    for e in found.values():
        assert e["value"] > 0 and e["baseline"]["value"] > 0 and e["floor"]["value"] > 0 and e["goal"] is not None
    assert found["motion.bvh"]["params"]["largest_difference"] < 1e-9
    assert found["motion.encode"]["params"]["frames"] == 2 * 60


def test_the_loop_over_joints_places_them_where_we_do(tmp_path: Path) -> None:
    text, names = bench.bvh_text(5)
    (tmp_path / "a.bvh").write_text(text, encoding="ascii")
    clip = parse(Source.of(tmp_path / "a.bvh"))
    assert [j.name for j in clip.joints] == names and clip.values.shape == (5, 132)
    ours = joint_positions(clip, clip.values)
    assert np.abs(bench.loop_over_joints(text, 5) - ours).max() < 1e-9
    assert np.ptp(ours[:, -1], axis=0).max() > 1  # centimetres: it moves
