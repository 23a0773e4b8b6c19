"""choreo25 by properties: what goes in comes out, left is right in the mirror, bad input is one clear error."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import smpl_like
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from choreo_cli.errors import DataError
from choreo_cli.motion import choreo25, limbs
from choreo_cli.motion.choreo25 import clamp, decode, decode_channels, encode, integrate_root, mirror, resample_clip
from choreo_cli.motion.dancer import choreograph, poses, write_score
from choreo_cli.motion.joint_checks import bone_lengths, contacts_of, fill_gaps, hinge_angles
from choreo_cli.motion.rotations import axis_rotation, exp_map, rot_y
from choreo_cli.motion.skeleton import canonical_skeleton, fit_skeleton, fit_skeletons, mirror_skeleton, stature
from formats.foreign.joints import CANONICAL, PARENTS
from formats.motion_npz import CHANNELS, MotionClip, out_of_range

F64 = NDArray[np.float64]
FPS = 30.0
SWAP = [
    CANONICAL.index({"l": "r", "r": "l"}[n[0]] + n[1:]) if n[:2] in ("l_", "r_") else i for i, n in enumerate(CANONICAL)
]


def dance(seconds: float = 4.0, seed: int = 0, fps: float = FPS) -> F64:
    rng = np.random.default_rng(seed)
    made = choreograph(write_score(np.arange(-1.0, seconds + 1.5, 0.5), 0.7, rng), rng)
    return poses(made, np.arange(round(seconds * fps)) / fps)


def reflected(joints: F64) -> F64:
    return joints[:, SWAP] * np.array([-1.0, 1.0, 1.0])


def error_mm(a: F64, b: F64) -> F64:
    return np.asarray(np.sqrt(((a - b) ** 2).sum(-1)) * 1e3)


def ankle_speed_mm_s(joints: F64, fps: float) -> F64:
    return np.asarray(np.sqrt((np.diff(joints[:, 7:9][..., [0, 2]], axis=0) ** 2).sum(-1)) * fps * 1e3)


def jerk(joints: F64, fps: float) -> float:
    return float(np.sqrt((np.diff(joints, 3, axis=0) ** 2).sum(-1)).mean() * fps**3)


def swivel_apart(a: F64, b: F64) -> F64:
    """Differences of channels, swivels modulo a turn."""
    d = np.abs(np.asarray(a, float) - b)
    for k in choreo25.SWIVELS:
        d[..., k] = np.abs((d[..., k] + np.pi) % (2 * np.pi) - np.pi)
    return d


@pytest.fixture(scope="module")
def joints() -> F64:
    return dance()


@pytest.fixture(scope="module")
def clip(joints: F64) -> MotionClip:
    return encode(joints, FPS)


@pytest.mark.parametrize(("name", "limits"), [("smpl", (20, 70)), ("dancer", (8, 35))])
def test_round_trip_of_constant_bones(name: str, limits: tuple[float, float]) -> None:
    source, fps = (smpl_like.clip(), 20.0) if name == "smpl" else (dance(20.0), FPS)
    made = encode(source, fps)
    back = decode(made)
    e = error_mm(source, back)
    assert e.mean() <= limits[0] and np.percentile(e, 95) <= limits[1]
    assert e[:, 7:9].max() <= 0.01 and e[:, 0].max() <= 0.001
    assert np.abs(ankle_speed_mm_s(back, fps) - ankle_speed_mm_s(source, fps)).max() <= 0.05
    assert 0.95 <= jerk(back, fps) / jerk(source, fps) <= 1.2
    assert not made.header.flags["inverted"] and not made.header.flags["varying_bones"]


def test_decoded_bones_have_the_skeletons_lengths(clip: MotionClip) -> None:
    lengths, s = bone_lengths(decode(clip)), clip.header.skeleton
    for j, want in ((4, s.thigh), (7, s.shank), (10, s.foot), (18, s.upper_arm), (20, s.forearm)):
        assert np.abs(lengths[:, j - 1 : j + 1] - want).max() < 1e-9
    assert np.abs(lengths[:, 5] - np.linalg.norm(s.o6)).max() < 1e-9


def test_a_second_round_trip_changes_nothing_that_matters(clip: MotionClip) -> None:
    once = decode(clip)
    again = encode(once, FPS, skeleton=clip.header.skeleton)
    assert error_mm(decode(again), once).max() < 0.2
    assert np.abs(again.channels[:, 6:11] - clip.channels[:, 6:11]).max() < 2e-3


def test_encode_and_mirror_commute(joints: F64, clip: MotionClip) -> None:
    other = encode(reflected(joints), FPS)
    assert swivel_apart(other.channels, mirror(clip).channels).max() <= 1e-3
    np.testing.assert_allclose(
        other.header.skeleton.to_vector(), mirror_skeleton(clip.header.skeleton).to_vector(), atol=1e-12
    )


def test_decode_and_mirror_commute(clip: MotionClip) -> None:
    assert np.abs(decode(mirror(clip)) - reflected(decode(clip))).max() < 1e-12
    twice = mirror(mirror(clip))
    assert np.array_equal(twice.channels, clip.channels)
    assert twice.header == replace(clip.header, skeleton=twice.header.skeleton, flags=twice.header.flags)


def test_channels_do_not_change_when_the_dance_is_elsewhere(joints: F64, clip: MotionClip) -> None:
    moved = joints @ rot_y(2.0).T + np.array([3.0, 0.0, -2.0])
    there = encode(moved, FPS)
    assert swivel_apart(there.channels, clip.channels).max() < 2e-5
    assert there.header.yaw0 == pytest.approx(clip.header.yaw0 + 2.0, abs=1e-6)
    assert error_mm(decode(there), decode(clip) @ rot_y(2.0).T + np.array([3.0, 0.0, -2.0])).max() < 0.01


def test_a_larger_dancer_has_larger_lengths_only(joints: F64, clip: MotionClip) -> None:
    tall = encode(joints * 1.2, FPS)
    assert stature(tall.header.skeleton) == pytest.approx(1.2 * stature(clip.header.skeleton), rel=1e-6)
    same = [k for k in range(6, 25) if k not in (14, 18)]
    assert np.abs(tall.channels[:, same] - clip.channels[:, same]).max() < 1e-3


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_a_few_frames(joints: F64, frames: int) -> None:
    made = encode(joints[:frames], FPS)
    assert error_mm(decode(made), joints[:frames]).max() < 100
    assert np.array_equal(made.channels[-1, [0, 1, 3]], made.channels[max(frames - 2, 0), [0, 1, 3]])


def test_a_constant_pose_stands_still(joints: F64) -> None:
    made = encode(np.repeat(joints[:1], 50, axis=0), FPS)
    assert np.abs(made.channels[:, [0, 1, 3]]).max() == 0
    assert np.array_equal(made.channels[:, 4:6], np.ones((50, 2)))
    assert np.ptp(decode(made), axis=0).max() < 1e-12


def test_a_turn_keeps_its_path() -> None:
    """Two whole turns: the yaw is unwrapped, and the root returns to where it was."""
    still = dance(1.0)[:1]
    angle = np.linspace(0, 4 * np.pi, 240)
    spun = still @ rot_y(angle).transpose(0, 2, 1)
    made = encode(spun, FPS)
    assert made.channels[:, 3].min() > 0
    yaw, root = integrate_root(made.channels, FPS, made.header.yaw0, made.header.x0, made.header.z0)
    assert yaw[-1] - yaw[0] == pytest.approx(4 * np.pi, abs=1e-5)
    assert np.abs(root - spun[:, 0]).max() < 1e-6


def test_rates_are_from_this_frame_to_the_next() -> None:
    channels = np.zeros((4, 25))
    channels[:, 1], channels[:, 2] = [1, 2, 3, 9], 1.0
    channels[0, 3] = FPS * np.pi / 2
    _, root = integrate_root(channels, FPS)
    want = np.array([[0, 0], [0, 1], [2, 1], [5, 1]]) / FPS  # facing +z, then +x
    assert np.abs(root[:, [0, 2]] - want).max() < 1e-12
    assert np.array_equal(root[:, 1], np.ones(4))


def test_root_is_summed_in_double_precision() -> None:
    channels = np.zeros((200_000, 25), np.float32)
    channels[:, 1] = 0.1
    _, root = integrate_root(channels, 100.0)
    assert root[-1, 2] == pytest.approx(float(np.float32(0.1)) * 199_999 / 100, abs=1e-7)


@pytest.mark.parametrize("length", [1, 2])
def test_batches_decode_as_single_clips(clip: MotionClip, length: int) -> None:
    """Whole short clips share a block and a long one is cut into blocks: neither shows."""
    s = clip.header.skeleton
    channels = np.stack([clip.channels] * 40) if length == 1 else np.tile(clip.channels, (1, 40, 1))
    yaw = np.linspace(0, 3, len(channels))
    together = decode_channels(channels, s, FPS, yaw, 1.0, -yaw)
    for k in (0, len(channels) - 1):
        alone = decode_channels(channels[k], s, FPS, float(yaw[k]), 1.0, -float(yaw[k]))
        assert np.abs(together[k] - alone).max() < 1e-9
        assert (
            np.abs(decode_channels(channels[k, :50], s, FPS, float(yaw[k]), 1.0, -float(yaw[k])) - alone[:50]).max()
            < 1e-9
        )


@given(st.integers(0, 10_000), st.floats(0.1, 20))
def test_any_channels_decode_to_finite_bones(seed: int, size: float) -> None:
    """Whatever a model emits: clamped or not, joints are finite and bones keep their lengths."""
    rng = np.random.default_rng(seed)
    raw = rng.normal(0, size, (3, 25))
    s = canonical_skeleton(1.7)
    for channels in (raw, clamp(raw)[0]):
        out = decode_channels(channels, s, FPS)
        assert np.isfinite(out).all()
        assert np.abs(bone_lengths(out)[:, 3:5] - s.thigh).max() < 1e-6
    assert not out_of_range(clamp(raw)[0])


def test_a_body_of_zeros_decodes() -> None:
    out = decode_channels(np.zeros((5, 25)), canonical_skeleton(1.7), FPS)
    assert np.isfinite(out).all() and np.abs(bone_lengths(out)[:, 9] - 0.08 * 1.7).max() < 1e-9


def test_clamp_counts_what_it_changed(clip: MotionClip) -> None:
    kept, counts = clamp(clip.channels)
    assert counts == {} and np.array_equal(kept, clip.channels)
    wild = clip.channels.copy()
    wild[3, 0], wild[4, 14], wild[5, 11:14], wild[6, 8:11] = 7, math.pi + 0.5, (0.9, 0.9, 0.0), (1.5, 1.5, 0)
    kept, counts = clamp(wild)
    assert counts == {"vx": 1, "swivel_l": 1, "wrist_l_norm": 1, "chest_norm": 1}
    assert kept[3, 0] == 6 and kept[4, 14] == pytest.approx(0.5 - math.pi, abs=1e-6)
    assert np.linalg.norm(kept[5, 11:14]) <= 1 and kept[5, 11] == pytest.approx(kept[5, 12])
    for c, column in enumerate(CHANNELS):
        assert column.lo is not None and column.hi is not None
        assert kept[:, c].min() >= column.lo - 1e-6 and kept[:, c].max() <= column.hi + 1e-6


def test_clamp_refuses_nan() -> None:
    with pytest.raises(DataError, match="1 channel values are not finite"):
        clamp(np.where(np.arange(25) == 3, np.nan, np.zeros((1, 25))))


def test_resampling_keeps_the_motion(clip: MotionClip) -> None:
    twice = resample_clip(clip, 60.0)
    assert len(twice.channels) == 2 * len(clip.channels) - 1 and twice.header.fps == 60.0
    assert twice.header.flags["resampled_from_fps"] == FPS
    a, b = decode(clip), decode(twice)
    assert error_mm(b[::2], a).max() < 1.0
    lengths = bone_lengths(b)
    assert (lengths.std(0) / lengths.mean(0)).max() < 0.02
    assert error_mm(decode(resample_clip(twice, FPS)), a).max() < 2.0
    assert resample_clip(clip, FPS) is clip
    with pytest.raises(DataError, match="0 frames per second"):
        resample_clip(clip, 0)


def test_planted_feet_stay_planted_when_resampled(clip: MotionClip, joints: F64) -> None:
    """Cubic curves through a foot at rest leave it at rest; renormalised bones must not move it."""
    both = (contacts_of(joints, FPS) > 0).all(1)
    still = np.flatnonzero(both[:-1] & both[1:] & (error_mm(joints[1:, 7], joints[:-1, 7]) < 0.01))
    at = still[(still > 1) & np.isin(still + 1, still) & np.isin(still - 1, still)]
    assert len(at) > 5
    b = decode(resample_clip(clip, 120.0))
    assert error_mm(b[4 * at + 2, 7], joints[at, 7]).max() < 0.2


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda j: j[:0], "no frames to encode"),
        (lambda j: j[:, :21], r"joints of shape \(120, 21, 3\)"),
        (lambda j: j[..., :2], r"joints of shape \(120, 22, 2\)"),
        (lambda j: np.where(np.arange(22)[:, None] == 4, np.nan, j), "joint l_knee is missing in every frame"),
        (lambda j: np.where(np.arange(120)[:, None, None] < 2, np.nan, j), "joint pelvis is missing at the start"),
        (lambda j: np.where(np.arange(120)[:, None, None] > 100, np.nan, j), "missing at the end .frame 101."),
        (
            lambda j: np.where((np.abs(np.arange(120) - 50) < 5)[:, None, None], np.nan, j),
            "missing for 0.30 s from frame 46",
        ),
        (lambda j: np.where(np.arange(120)[:, None, None] == 5, np.inf, j), "66 joint coordinates are infinite"),
        (lambda j: j * 0, "limbs of no length: joints coincide"),
    ],
)
def test_bad_joints_are_one_sentence(joints: F64, change: object, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        encode(change(joints), FPS)  # type: ignore[operator]


@pytest.mark.parametrize("fps", [0.0, -30.0, math.nan, math.inf, 1e6])
def test_bad_rates_are_refused(joints: F64, fps: float) -> None:
    with pytest.raises(DataError, match="frames per second"):
        encode(joints, fps)


def test_short_gaps_are_filled_and_counted(joints: F64) -> None:
    holed = joints.copy()
    holed[40:47, 20] = np.nan  # 7 frames = 0.23 s
    holed[60, :] = np.nan
    filled, n = fill_gaps(holed, FPS)
    assert n == 7 + 22 and np.isfinite(filled).all()
    assert np.array_equal(filled[:40], joints[:40])
    np.testing.assert_allclose(filled[43, 20], (joints[39, 20] + joints[47, 20]) / 2, atol=1e-12)
    made = encode(holed, FPS)
    assert made.header.flags["filled"] == 29 and np.isfinite(made.channels).all()


def test_somersaults_and_handstands_are_flagged(joints: F64) -> None:
    over = axis_rotation(np.linspace(0, 2 * np.pi, len(joints)), 0)
    centre = np.array([0.0, 1.0, 0.0])
    flip = np.einsum("tij,tkj->tki", over, joints - centre) + centre
    handstand = (joints - centre) * np.array([1.0, -1.0, -1.0]) + centre
    for wild in (flip, handstand):
        made = encode(wild, FPS)
        assert made.header.flags["inverted"] and made.header.flags["updot"] < 0
        back = decode(made)
        assert np.isfinite(back).all() and error_mm(back[:, 0], wild[:, 0]).max() < 0.001
    assert error_mm(decode(encode(handstand, FPS)), handstand).mean() < 60


def test_bones_that_change_length_are_flagged(joints: F64) -> None:
    made = encode(joints + np.random.default_rng(0).normal(0, 0.01, joints.shape), FPS)
    assert made.header.flags["varying_bones"] and made.header.flags["bone_std"] > 0.01
    assert np.isfinite(decode(made)).all()


def test_breathing_bones_stay_within_their_limits() -> None:
    """Bones that vary by 3.6 % as a model's do: 20 / 70 mm, and the header says so."""
    source = smpl_like.clip()
    rng, t = np.random.default_rng(0), np.arange(len(source)) / 20.0
    varied = source.copy()
    for k, p in enumerate(PARENTS[1:], 1):
        share = 1 + 0.05 * np.sin(2 * np.pi * rng.uniform(0.2, 1) * t + rng.uniform(0, 6.3))
        varied[:, k] = varied[:, p] + (source[:, k] - source[:, p]) * share[:, None]
    made = encode(varied, 20.0)
    e = error_mm(decode(made), varied)
    assert e.mean() <= 20 and np.percentile(e, 95) <= 70
    assert made.header.flags["varying_bones"] and 0.03 < made.header.flags["bone_std"] < 0.04


def test_a_skeleton_of_several_clips(joints: F64) -> None:
    one = fit_skeleton(joints)
    both = fit_skeletons([joints, dance(2.0, seed=3)])
    assert np.abs(both.to_vector()[:43] - one.to_vector()[:43]).max() < 2e-3
    with pytest.raises(DataError, match="no frames to fit"):
        fit_skeletons([])


def test_collars_on_the_chest_itself_still_fit(joints: F64) -> None:
    """Some rigs hang both arms on the chest: their collars are one point."""
    rig = joints.copy()
    rig[:, 13] = rig[:, 14] = rig[:, 9]
    assert error_mm(decode(encode(rig, FPS)), rig).mean() < 12


def test_the_canonical_skeleton_keeps_ankles(joints: F64) -> None:
    s = canonical_skeleton(stature(fit_skeleton(joints)))
    e = error_mm(decode(encode(joints, FPS, skeleton=s)), joints)
    assert e.mean() < 30 and e[:, 7:9].max() < 0.01
    with pytest.raises(DataError, match="a height of -1 m"):
        canonical_skeleton(-1)


def test_every_skeleton_number_is_used(clip: MotionClip) -> None:
    """Decoding with one number changed moves a joint: none of the 58 is carried for nothing."""
    h = clip.header
    vector, base = h.skeleton.to_vector(), decode(clip)
    for k in range(58):
        changed = vector.copy()
        changed[k] += 0.01
        out = decode_channels(clip.channels, type(h.skeleton).of_vector(changed), h.fps, h.yaw0, h.x0, h.z0)
        assert np.abs(out - base).max() > 1e-5, k


def test_hinges() -> None:
    straight = decode_channels(np.zeros((1, 25)), canonical_skeleton(1.7), FPS)
    bent = straight.copy()
    bent[:, 4] = bent[:, 1] + (0, -0.4, 0)
    bent[:, 7] = bent[:, 4] + (0, 0, -0.4)
    assert hinge_angles(bent)[0, 2] == pytest.approx(np.pi / 2)
    bent[:, 7] = bent[:, 4] + (0, -0.4, 0)
    assert hinge_angles(bent)[0, 2] == pytest.approx(0, abs=1e-9)


def test_contacts_need_both_low_and_slow() -> None:
    j = np.zeros((5, 22, 3))
    j[:, [7, 8], 1] = 0.05
    j[:, 8, 0] = j[:, 11, 0] = np.arange(5) * 0.5 / FPS  # 0.5 m/s
    assert np.array_equal(contacts_of(j, FPS), np.tile([1.0, 0.0], (5, 1)))
    j[:, [7, 10], 1] += 0.09
    assert contacts_of(j, FPS).max() == 0
    assert contacts_of(j[:1], FPS).shape == (1, 2)


def test_a_foot_that_points_down_keeps_its_heading(monkeypatch: pytest.MonkeyPatch) -> None:
    """With no horizontal direction of its own, a foot keeps the one of the frame before, over blocks and in batches."""
    down = np.array([0.0, -1.0, 0.0])[:, None, None]
    spots = [np.zeros((3, 2, 1)) + y * np.array([0.0, 1.0, 0.0])[:, None, None] for y in (0.9, 0.5, 0.1)]
    _, flat, own = limbs.toe_frames(np, *spots, down, np.array([[0.6, 0.0], [0.8, 1.0]])[..., None])
    assert not own.any() and np.array_equal(flat[..., 0], [[0.6, 0.0], [0.8, 1.0]])

    s = canonical_skeleton(1.7)
    channels = clamp(np.random.default_rng(0).normal(0, 0.3, (600, 25)))[0]
    usual = decode_channels(channels, s, FPS)
    monkeypatch.setattr(limbs, "FLAT", 0.9)  # a good part of these frames has no direction of its own now
    kept = decode_channels(channels, s, FPS)
    assert np.abs(kept - usual)[:, 10:12].max() > 0.01 and np.abs(kept - usual)[:, :10].max() == 0
    monkeypatch.setattr(choreo25, "BLOCK", 64)
    assert np.abs(decode_channels(channels, s, FPS) - kept).max() < 1e-12
    pair = decode_channels(np.stack([channels[:30], channels[30:60]]), s, FPS)
    assert np.abs(pair[1] - decode_channels(channels[30:60], s, FPS)).max() < 1e-12


def test_rotation_vectors_of_the_chest_come_back() -> None:
    """A body made by decoding is encoded to the same chest rotation, also far from zero."""
    s = canonical_skeleton(1.7)
    for angle in (1e-9, 1e-4, 0.3, 1.2, 1.55):
        channels = np.zeros((1, 25))
        channels[0, 2], channels[0, 8:11] = 0.9, angle * np.array([0.6, 0.64, -0.48])
        channels[0, 11:14], channels[0, 15:18] = (0.5, -0.5, 0.2), (-0.5, -0.5, 0.2)
        channels[0, 19:22], channels[0, 22:25] = (0.1, -1.0, 0.1), (-0.1, -1.0, 0.1)
        again = encode(decode_channels(channels, s, FPS), FPS, skeleton=s)
        np.testing.assert_allclose(again.channels[0, 6:14], channels[0, 6:14], atol=2e-3)
    assert np.isfinite(exp_map(np.zeros(3))).all()
