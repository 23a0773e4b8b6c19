"""The acceptance table of choreo25 on real clips: accuracy, ankles, root, jerk, mirror; skipped without them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_choreo25 import F64, ankle_speed_mm_s, error_mm, jerk, reflected, swivel_apart

from choreo_cli.motion.choreo25 import decode, encode, mirror
from choreo_cli.motion.skeleton import canonical_skeleton, fit_skeleton, stature
from formats.foreign import registry
from formats.foreign.source import Source

# clip -> limits in mm: mean, 95th percentile; whether its jerk is held to .95-1.20
ROWS = {
    "bvh/bandai_ds1_dance-short_normal_001.bvh": (11, 45, True),
    "bvh/bandai_ds1_walk_normal_001.bvh": (6, 30, True),
    "bvh/bandai_ds1_walk_musical_001.bvh": (6, 30, True),
    "bvh/bandai_ds1_walk_tired_001.bvh": (6, 30, True),
    "bvh/bandai_ds1_walk_happy_001.bvh": (8, 35, True),
    "bvh/bandai_ds1_bow_childish_001.bvh": (8, 45, True),
    "bvh/cmu_01_01.bvh": (8, 45, True),
    "bvh/freebvh_test.bvh": (13, 50, True),
    # 120 fps with straight knees and elbows: the hinge of a straight limb is as restless as its ends are uncertain.
    "bvh/xia_neutral_01_000.bvh": (8, 35, False),
    "bvh/xia_sexy_01_000.bvh": (8, 35, False),
    "bvh/xia_angry_13_000.bvh": (13, 50, False),
    "smpl/aistpp_gBR_sBM_cAll_d04_mBR0_ch01.pkl": (20, 70, True),
}


def load(path: Path) -> tuple[F64, float]:
    """Joints on the floor and their rate."""
    source = Source.of(path)
    reader = registry.recognise(source.head, source.name, source.size)
    if reader.read is None:
        pytest.skip(f"no reader of {path.suffix} yet")
    stream = reader.read(source)
    assert stream.units == "m" and stream.rate is not None  # type: ignore[attr-defined]
    joints = np.asarray(stream.xyz, np.float64)  # type: ignore[attr-defined]
    rest = fit_skeleton(joints).ank0
    lowest = np.minimum((joints[:, 7:9, 1] - rest).min(1), joints[:, 10:12, 1].min(1))
    rate = stream.rate  # type: ignore[attr-defined]
    return joints - np.array([0.0, np.percentile(lowest, 2), 0.0]), rate[0] / rate[1]


@pytest.mark.parametrize("name", ROWS)
def test_acceptance(shared: Path, name: str) -> None:
    path = shared / "data/mocap" / name
    if not path.is_file():
        pytest.skip(f"no data: {name}")
    mean, p95, steady = ROWS[name]
    joints, fps = load(path)
    clip = encode(joints, fps)
    back = decode(clip)
    e = error_mm(joints, back)
    assert np.isfinite(back).all()
    assert e.mean() <= mean and np.percentile(e, 95) <= p95
    assert e[:, 0].max() <= 0.001 and e[:, 7:9].max() <= 0.01
    assert np.abs(ankle_speed_mm_s(back, fps) - ankle_speed_mm_s(joints, fps)).max() <= 0.05
    if steady:
        assert 0.95 <= jerk(back, fps) / jerk(joints, fps) <= 1.20
    assert swivel_apart(encode(reflected(joints), fps).channels, mirror(clip).channels).max() <= 1e-3
    assert np.abs(decode(mirror(clip)) - reflected(back)).max() < 1e-9


def test_the_canonical_skeleton_costs_what_is_known(shared: Path) -> None:
    """53-59 mm on this rig, with exact ankles: the clip's own skeleton is worth carrying."""
    joints, fps = load(shared / "data/mocap/bvh/bandai_ds1_dance-short_normal_001.bvh")
    s = canonical_skeleton(stature(fit_skeleton(joints)))
    e = error_mm(joints, decode(encode(joints, fps, skeleton=s)))
    assert 50 < e.mean() < 60 and e[:, 7:9].max() <= 0.01


def test_a_thinned_fit_is_the_full_fit(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from choreo_cli.motion import skeleton

    joints, _ = load(shared / "data/mocap/bvh/cmu_01_01.bvh")
    thin = fit_skeleton(joints).to_vector()
    monkeypatch.setattr(skeleton, "FIT_FRAMES", 10**9)
    assert np.abs(fit_skeleton(joints).to_vector() - thin)[:43].max() < 1e-4
