"""Cleanup: exact foot lock, jerk limit, bones that keep their lengths; offline and live."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from choreo_cli.errors import DataError
from choreo_cli.motion import capture_simulate as sim
from choreo_cli.motion.capture_state import ankles_of, joints_of, track_of
from choreo_cli.motion.capture_stream import Capture, clip_of, play
from choreo_cli.motion.choreo25 import decode, encode
from choreo_cli.motion.cleanup import CleanOptions, clean, facts, jerk_limit, jerk_of, savgol
from choreo_cli.motion.cleanup_live import Follower, LiveCleaner
from choreo_cli.motion.foot_lock import BLEND_FRAMES, lock_feet, runs_of
from choreo_cli.motion.skeleton import canonical_skeleton
from formats.foreign.joints import PARENTS

BODY = canonical_skeleton(1.70)


def noisy(seed: int = 0, fps: float = 60.0, sigma: float = 0.01, seconds: float = 8.0):
    """A noisy clip that knows its true contacts."""
    _, joints = sim.danced(seed, seconds, fps=fps)
    rng = np.random.default_rng(seed)
    true = encode(joints, fps, skeleton=BODY)
    clip = encode(joints + rng.normal(0, sigma, joints.shape), fps, skeleton=BODY)
    channels = clip.channels.copy()
    channels[:, 4:6] = true.channels[:, 4:6]
    return replace(clip, channels=channels), joints


@pytest.mark.parametrize(("fps", "seed"), [(60.0, 0), (30.0, 1)])
def test_a_standing_foot_stands(fps: float, seed: int) -> None:
    clip, joints = noisy(seed, fps)
    made, report = clean(clip)
    out = decode(made)
    assert report["before"]["ankle_slide_mm_s"] > 100
    assert facts(out, made.channels[:, 4:6], fps)["ankle_slide_max_mm_s"] <= 1.0
    np.testing.assert_array_equal(made.channels[:, 4:6], clip.channels[:, 4:6])
    bones = np.linalg.norm(out[:, 1:] - out[:, list(PARENTS[1:])], axis=-1)
    assert (bones.std(0) / bones.mean(0)).max() < 1e-9
    assert report["bone_drift"] < 1e-9 and report["lock"]["unreached"] == 0 and report["lock"]["runs"] > 5
    assert "toe_slide_mm_s" in report["after"]
    after = np.linalg.norm(out - joints, axis=-1).mean()
    assert after < np.linalg.norm(decode(clip) - joints, axis=-1).mean()


def test_the_lock_holds_the_median_and_touches_five_frames_outside_a_run() -> None:
    clip, _ = noisy(2, sigma=0.003)
    track = track_of(clip)
    leg = BODY.thigh + BODY.shank
    before, after = ankles_of(track.q, leg), ankles_of(lock_feet(track.q, track.contacts, BODY, 60.0).q, leg)
    for side in (0, 1):
        near = np.zeros(len(track.q), bool)
        for start, end in runs_of(track.contacts[:, side]):
            assert np.ptp(after[start:end, side], axis=0).max() < 1e-9
            median = np.median(before[start:end, side], axis=0)
            np.testing.assert_allclose(after[start, side, [0, 2]], median[[0, 2]], atol=1e-9)
            assert after[start, side, 1] == pytest.approx(max(median[1], BODY.ank0[side]), abs=1e-9)
            near[max(0, start - BLEND_FRAMES) : end + BLEND_FRAMES] = True
        np.testing.assert_allclose(after[~near, side], before[~near, side], atol=1e-9)


def test_a_foot_out_of_reach_lowers_the_pelvis_and_only_then_slides() -> None:
    clip, _ = noisy(3, sigma=0.0)
    track = track_of(clip)
    q = track.q.copy()
    q[100:140, 1] += 0.06  # the pelvis floats up: the held feet cannot follow
    q[100:140, [16, 19]] -= 0.06 / float(BODY.thigh[0] + BODY.shank[0])
    contacts = np.ones_like(track.contacts)
    contacts[:90] = contacts[150:] = 0
    found = lock_feet(q, contacts, BODY, 60.0)
    assert found.lowered_m > 0.02 and found.lowered > 10 and found.unreached == 0
    joints = joints_of(found.q, BODY)
    assert facts(joints, contacts, 60.0)["ankle_slide_max_mm_s"] < 1e-6
    hips = np.linalg.norm(joints[:, 1] - joints[:, 7], axis=-1)
    assert hips.max() <= BODY.thigh[0] + BODY.shank[0]


def test_jerk_stays_under_the_limit() -> None:
    clip, _ = noisy(0, sigma=0.02)
    made, report = clean(clip, CleanOptions(window_s=0.0, lock=False))
    assert report["before"]["jerk_max"] > 5 * jerk_limit(60.0)
    assert jerk_of(decode(made), 60.0).max() <= jerk_limit(60.0) * 1.001
    assert report["smoothed_frames"] > 0


def test_the_limit_is_twice_the_99th_percentile_of_real_clips(shared) -> None:
    from choreo_cli.motion.retarget_inputs import Asked
    from choreo_cli.motion.retarget_inputs import joints_of as joints_of_file

    path = shared / "data" / "mocap" / "bvh" / "bandai_ds1_dance-short_normal_001.bvh"
    joints, fps, _ = joints_of_file(path, Asked(height=1.70))
    p99 = float(np.percentile(jerk_of(joints, fps), 99))
    assert fps == 30.0 and 0.7 < jerk_limit(30.0) / (2 * p99) < 1.1  # one clip of the eleven, the liveliest
    assert jerk_limit(30.0) == pytest.approx(2108.0, rel=1e-6)
    _, report = clean(encode(joints, fps))
    assert report["after"]["ankle_slide_max_mm_s"] <= 1.0
    assert report["after"]["jerk_p99"] < jerk_limit(fps)


def test_smoothing_keeps_cubics_and_has_no_lag() -> None:
    t = np.linspace(-1, 1, 60)[:, None]
    cubic = 1 + t - 2 * t**2 + 0.5 * t**3
    np.testing.assert_allclose(savgol(cubic, 11), cubic, atol=1e-12)
    wave = np.sin(2 * np.pi * np.arange(200) / 40)[:, None]
    smooth = savgol(wave, 9)[:, 0]
    assert np.argmax(np.correlate(smooth, wave[:, 0], "full")) == len(wave) - 1
    np.testing.assert_array_equal(savgol(wave[:5], 9), wave[:5])


def test_the_floor_is_put_to_zero() -> None:
    clip, _ = noisy(4, sigma=0.0)
    channels = clip.channels.copy()
    channels[:, 2] += 0.1
    only = CleanOptions(window_s=0.0, jerk=0.0, lock=False)
    lifted, there = clean(replace(clip, channels=channels), only)[0], clean(clip, only)[0]
    # The toes, which follow the height of the ankle, are put down differently.
    np.testing.assert_allclose(lifted.channels[:, 2], there.channels[:, 2], atol=0.02)
    feet = decode(there)[:, [7, 8, 10, 11], 1] - [*BODY.ank0, 0.0, 0.0]
    assert np.percentile(feet.min(1), 2) == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("frames", [1, 2, 3, 5])
def test_very_short_clips_survive(frames: int) -> None:
    clip, _ = noisy(0, seconds=1.0)
    made, _ = clean(replace(clip, channels=clip.channels[:frames]))
    assert made.channels.shape == (frames, 25) and np.isfinite(made.channels).all()


def test_numbers_that_are_not_finite_are_refused() -> None:
    clip, _ = noisy(0, seconds=1.0)
    channels = clip.channels.copy()
    channels[7, 3] = np.nan
    with pytest.raises(DataError, match="frame 7"):
        clean(replace(clip, channels=channels))


def captured(seed: int, sensors=sim.STUDIO, seconds: float = 5.5):
    t, joints = sim.danced(seed, seconds)
    capture = Capture(sim.head_of(sensors, 1.7), BODY, 60.0)
    frames = list(play(capture, sim.simulate(t, joints, sensors, seed), 60.0, for_us=round((seconds - 0.3) * 1e6)))
    clip = clip_of(frames, BODY, 60.0, {})
    shown = np.array([f.t_us for f in frames])
    return clip, decode(clip), np.stack([joints[round(a * 240 / 1e6)] for a in shown]), shown / 1e6, frames


@pytest.mark.parametrize("seed", [0, 2])
def test_a_live_body_is_smooth_and_its_feet_stand(seed: int) -> None:
    clip, out, truth, t, frames = captured(seed)
    late = t > 0.5
    told = facts(out[late], clip.channels[late, 4:6], 60.0)
    assert told["jerk_p99"] < jerk_limit(60.0)
    assert told["ankle_slide_mm_s"] <= 1.0
    assert 0.3 < clip.channels[:, 4:6].mean() < 0.95
    assert np.linalg.norm(out - truth, axis=-1)[late].mean() < 0.05
    # What a reader integrates from the rows is what was meant: nothing adds up.
    np.testing.assert_allclose(out, joints_of(np.stack([f.q for f in frames]), BODY), atol=2e-5)


@pytest.mark.parametrize("seed", [0, 2])
def test_a_second_of_silence_is_recovered_from_without_a_step(seed: int) -> None:
    """From the first reading on no joint goes over 5 cm a frame further than the fastest true one within 0.1 s."""
    _, out, truth, t, _ = captured(seed, sim.without(sim.STUDIO, 3.0, 4.0))
    step = np.linalg.norm(np.diff(out, axis=0), axis=-1).max(1)
    true = np.linalg.norm(np.diff(truth, axis=0), axis=-1).max(1)
    true = np.lib.stride_tricks.sliding_window_view(np.pad(true, 6, mode="edge"), 13).max(1)
    back = (t[1:] > 3.97) & (t[1:] < 4.5)
    error = np.linalg.norm(out - truth, axis=-1).mean(1)
    assert error[(t > 3.8) & (t < 4.0)].mean() > 0.08  # the dance went on
    assert (step - true)[back].max() < 0.05
    assert error[t > 4.9].mean() < 0.06


def test_the_follower_has_no_lag_at_constant_speed_and_bounds_a_correction() -> None:
    follower = Follower(60.0, 1000.0)
    speed = np.zeros(23)
    speed[0] = 1.5
    for k in range(60):
        q = np.zeros(23)
        q[0] = 1.5 * k / 60
        out = follower.step(q, speed)
    np.testing.assert_allclose(out, q, atol=1e-9)
    path = []
    for _ in range(90):
        path.append(follower.step(q + np.eye(23)[0], np.zeros(23))[0])
    assert path[-1] == pytest.approx(q[0] + 1.0, abs=0.02)
    assert np.abs(np.diff(path)).max() < 0.05


def test_angles_go_the_short_way_through_half_a_turn() -> None:
    cleaner = LiveCleaner(BODY, 60.0, lock=False)
    q, speed = np.zeros(23), np.zeros(23)
    speed[3] = 6.0
    yaw = []
    for k in range(120):
        q[3] = (6.0 * k / 60 + np.pi) % (2 * np.pi) - np.pi
        yaw.append(cleaner.step(q.copy(), speed, np.zeros(2))[3])
    np.testing.assert_allclose(np.diff(yaw), 0.1, atol=1e-6)
