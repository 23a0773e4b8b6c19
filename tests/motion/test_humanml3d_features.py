"""HumanML3D's 263 features: the reference vectors, recovery, and the way through choreo25."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import smpl_like
from test_choreo25 import F64, dance

from choreo_cli.errors import DataError
from choreo_cli.motion import humanml3d as h3d
from choreo_cli.motion.choreo25 import decode, encode
from choreo_cli.motion.joint_checks import bone_lengths
from choreo_cli.motion.rotations import rot_y

BLOCKS = {"root": h3d.ROOT, "local_position": h3d.POSITIONS, "velocity": h3d.VELOCITIES, "contact": h3d.CONTACTS}


@pytest.fixture(scope="module")
def case(shared: Path) -> dict[str, F64]:
    with np.load(shared / "vectors/generation/humanml263_20fps.npz", allow_pickle=False) as z:
        return {k: np.asarray(z[k], np.float64) for k in z}


def test_features_of_the_reference_joints(case: dict[str, F64]) -> None:
    found, placed = h3d.features263(case["joints"], target_offsets=case["target_offsets"])
    want = case["features263"]
    assert found.shape == want.shape == (99, 263)
    assert np.abs(placed - case["global_positions"]).max() <= 1e-5
    for block in BLOCKS.values():
        assert np.abs(found[:, block] - want[:, block]).max() <= 1e-5
    assert np.abs(found[:, h3d.ROTATIONS] - want[:, h3d.ROTATIONS]).max() <= 1e-4
    assert np.array_equal(found[:, h3d.CONTACTS], want[:, h3d.CONTACTS])


def test_global_positions_to_features(case: dict[str, F64]) -> None:
    found, _ = h3d.features263(case["global_positions"])
    assert np.abs(found - case["features263"]).max() <= 1e-4


def test_recovery(case: dict[str, F64]) -> None:
    assert np.abs(h3d.recovered_joints(case["features263"]) - case["recovered_joints"]).max() <= 1e-5


def test_without_retargeting_the_reference_is_missed(case: dict[str, F64]) -> None:
    found, _ = h3d.features263(case["joints"])
    assert np.abs(found - case["features263"]).max() > 1e-3


@pytest.mark.parametrize("seed", [0, 1])
def test_features_and_back(seed: int) -> None:
    joints = smpl_like.clip(120, seed=seed)
    features, placed = h3d.features263(joints)
    assert features.shape == (119, 263)
    assert np.abs(h3d.recovered_joints(features) - placed[:-1]).max() < 1e-10
    np.testing.assert_allclose(bone_lengths(placed), bone_lengths(joints), atol=1e-12)
    assert placed[..., 1].min() == pytest.approx(0, abs=1e-12) and np.abs(placed[0, 0, [0, 2]]).max() < 1e-12


def test_a_spin_of_two_turns_comes_back() -> None:
    """Past half a turn from the first frame a quaternion changes its sign: the recorded turn must not."""
    pose = smpl_like.clip(1)
    joints = pose @ rot_y(np.linspace(0, 4 * np.pi, 160)).transpose(0, 2, 1)
    features, placed = h3d.features263(joints)
    assert np.abs(h3d.recovered_joints(features) - placed[:-1]).max() < 1e-9
    assert features[30:130, 0].max() < 0  # a turn to the left all along


def test_place_and_heading_do_not_matter() -> None:
    joints = smpl_like.clip(80)
    moved = joints @ rot_y(-1.1).T + np.array([4.0, 0.3, 2.0])
    a, b = h3d.features263(joints)[0], h3d.features263(moved)[0]
    assert np.abs(a - b).max() < 1e-9


def test_retargeted_bones_have_the_targets_lengths() -> None:
    joints = smpl_like.clip(40)
    lengths = np.concatenate([[0.0], bone_lengths(joints[0]) * 1.1])
    out = h3d.retarget_bones(joints, lengths)
    np.testing.assert_allclose(bone_lengths(out), np.broadcast_to(lengths[1:], (40, 21)), atol=1e-12)
    np.testing.assert_allclose(out[:, 0], joints[:, 0] * 1.1, atol=1e-9)


def through(joints: F64) -> tuple[F64, F64]:
    a, _ = h3d.features263(joints)
    b, _ = h3d.features_of_clip(encode(joints, h3d.FPS))
    return a, b


def test_through_choreo25() -> None:
    """A dancer on the floor: local positions within 17 mm, contacts within 3 %."""
    a, b = through(dance(20.0, fps=20.0))
    apart = np.linalg.norm((b - a)[:, h3d.POSITIONS].reshape(-1, 21, 3), axis=-1)
    assert apart.mean() < 0.017
    assert (np.abs(b - a)[:, h3d.CONTACTS] > 0.5).mean() < 0.03


@pytest.mark.parametrize(
    ("name", "limit_mm"), [("walk_normal", 10), ("walk_musical", 12), ("walk_happy", 17), ("dance-short_normal", 17)]
)
def test_through_choreo25_in_units_of_the_data_set(shared: Path, name: str, limit_mm: float) -> None:
    from test_choreo25_real import load

    path = shared / "data/mocap/bvh" / f"bandai_ds1_{name}_001.bvh"
    std = np.load(shared / "data/mocap/humanml3d/Std.npy", allow_pickle=False)
    joints, fps = load(path)
    a, b = through(h3d.resample_joints(joints, fps, h3d.FPS))
    apart = np.linalg.norm((b - a)[:, h3d.POSITIONS].reshape(-1, 21, 3), axis=-1)
    assert apart.mean() * 1e3 < limit_mm
    z = np.abs(b - a) / std
    assert z[:, h3d.POSITIONS].mean() < 0.14 and z[:, h3d.VELOCITIES].mean() < 0.18
    assert z[:, h3d.ROTATIONS].mean() < 0.29 and (np.abs(b - a)[:, h3d.CONTACTS] > 0.5).mean() < 0.03


def test_other_rates_and_clips() -> None:
    joints = dance(3.0, fps=60.0)
    features, placed = h3d.features_of_joints(joints, 60.0)
    assert len(placed) == 60 and features.shape == (59, 263)
    of_clip, _ = h3d.features_of_clip(encode(joints, 60.0))
    assert np.abs(of_clip - features)[:, h3d.POSITIONS].max() < 0.15
    clip = h3d.clip_of_features(features)
    assert clip.header.fps == 20.0 and len(clip.channels) == 59
    e = np.linalg.norm(decode(clip) - placed[:-1], axis=-1)
    assert e.mean() < 0.02


@pytest.mark.parametrize(
    ("joints", "sentence"),
    [
        (np.zeros((5, 21, 3)), r"joints of shape \(5, 21, 3\)"),
        (np.zeros((1, 22, 3)), "1 frames: features are differences"),
        (np.full((5, 22, 3), np.nan), "joints that are not finite"),
    ],
)
def test_bad_joints(joints: F64, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        h3d.features263(joints)


def test_bad_features_and_offsets() -> None:
    with pytest.raises(DataError, match=r"features of shape \(4, 262\)"):
        h3d.recovered_joints(np.zeros((4, 262)))
    with pytest.raises(DataError, match=r"target offsets of shape \(21, 3\)"):
        h3d.retarget_bones(smpl_like.clip(3), np.zeros((21, 3)))
