"""The procedural dancer and the beat tracks, away from any session."""

from __future__ import annotations

import io
from itertools import pairwise

import numpy as np
import pytest

from choreo_cli.audio.render import RATE, draw_style, render_clicks, render_track, wav_bytes
from choreo_cli.motion.dancer import GESTURES, Gestures, choreograph, ease, poses, write_score
from formats.foreign.joints import CANONICAL, PARENTS


def dance(level: float = 0.6, bpm: float = 120.0, seed: int = 0, *, height_m: float = 1.7, jitter_s: float = 0.015):
    beats = 0.5 + np.arange(round(bpm)) * 60 / bpm
    gestures = Gestures(np.array([10.5, 20.5, 30.5, 40.5, 50.5]), np.full(5, 0.9), tuple(GESTURES)) if level else None
    score = write_score(beats, level, np.random.default_rng(seed), jitter_s=jitter_s, gestures=gestures)
    return score, choreograph(score, np.random.default_rng(seed + 1), height_m=height_m)


def speed(xyz: np.ndarray, fps: float) -> np.ndarray:
    return np.linalg.norm(np.diff(xyz, axis=0), axis=-1) * fps


@pytest.mark.parametrize("height_m", [1.5, 1.7, 1.95])
@pytest.mark.parametrize("seed", range(3))
def test_bones_keep_their_length_and_feet_their_floor(height_m: float, seed: int) -> None:
    _, d = dance(0.9, seed=seed, height_m=height_m)
    xyz = poses(d, np.arange(0, 60, 1 / 60))
    for joint, parent in enumerate(PARENTS):
        if parent >= 0:
            bone = np.linalg.norm(xyz[:, joint] - xyz[:, parent], axis=-1)
            assert np.ptp(bone) < 1e-9 and 0.03 < bone[0] < 0.5
    assert xyz[..., 1].min() > -1e-9
    left, right = CANONICAL.index("l_hip"), CANONICAL.index("r_hip")
    assert np.median(xyz[:, left, 0] - xyz[:, right, 0]) > 0, "the subject's left is +x"
    thigh_and_shank = sum(
        np.linalg.norm(xyz[0, CANONICAL.index(a)] - xyz[0, CANONICAL.index(b)])
        for a, b in (("l_hip", "l_knee"), ("l_knee", "l_ankle"))
    )
    assert thigh_and_shank / 0.481 == pytest.approx(height_m, rel=1e-6)


def test_feet_are_planted_most_of_the_time_and_do_not_slide() -> None:
    _, d = dance(0.5)
    xyz = poses(d, np.arange(2, 60, 1 / 60))
    for name in ("l_ankle", "r_ankle"):
        ankle = xyz[:, CANONICAL.index(name)]
        low = ankle[1:, 1] < 0.0851
        assert 0.4 < low.mean() < 0.9
        slide = speed(ankle[:, None], 60)[:, 0][low[:]]
        assert np.percentile(slide, 80) < 0.02


@pytest.mark.parametrize("bpm", [92.0, 120.0, 140.0])
def test_the_body_brakes_into_the_beat(bpm: float) -> None:
    score, d = dance(0.7, bpm)
    t = np.arange(1, 55, 1 / 100)
    xyz = poses(d, t)
    v, at = speed(xyz, 100).mean(1), (t[1:] + t[:-1]) / 2
    i = np.searchsorted(score.hit_s, at)
    before = score.hit_s[i] - at
    just, after = v[(before > 0.04) & (before < 0.10)].mean(), v[at - score.hit_s[i - 1] < 0.04].mean()
    assert just > 2.0 * after
    phase = (at - 0.5) * bpm / 60 % 1
    brake = np.maximum(-np.gradient(v), 0)
    assert abs((brake * np.exp(2j * np.pi * phase)).sum()) / brake.sum() > 0.4


def test_activity_sets_how_much_the_body_moves() -> None:
    mean = [speed(poses(dance(level)[1], np.arange(2, 55, 1 / 60)), 60).mean() for level in (0.0, 0.2, 0.5, 0.9)]
    assert mean[0] < 0.02 and all(b > 1.4 * a for a, b in pairwise(mean))
    assert mean[-1] < 1.5


def test_speeds_are_human() -> None:
    v = speed(poses(dance(0.9)[1], np.arange(0, 60, 1 / 60)), 60)
    assert v.max() < 9 and np.percentile(v[:, -2:], 99) < 6


def test_micro_timing_is_that_of_the_score() -> None:
    score, _ = dance(0.7, jitter_s=0.02)
    assert np.std(score.hit_s - score.beats_s) == pytest.approx(0.02, rel=0.2)
    exact, _ = dance(0.7, jitter_s=0.0)
    assert np.array_equal(exact.hit_s, exact.beats_s)


def test_poses_depend_on_the_time_alone() -> None:
    _, d = dance()
    t = np.sort(np.random.default_rng(0).uniform(0, 60, 300))
    assert poses(d, t)[100:200] == pytest.approx(poses(d, t[100:200]), abs=1e-12)


def test_the_ease_lands_at_rest_and_peaks_late() -> None:
    u = np.linspace(-0.5, 1.5, 2001)
    s = ease(u)
    assert s[0] == 0 and s[-1] == pytest.approx(1) and np.all(np.diff(s) >= -1e-15)
    assert u[int(np.argmax(np.diff(s)))] == pytest.approx(2 / 3, abs=0.01)


def onsets(y: np.ndarray, hop: int = 128) -> np.ndarray:
    power = np.abs(y[: len(y) // hop * hop].reshape(-1, hop).astype(np.float64)).mean(1)
    return np.maximum(np.diff(np.log(power + 1e-3), prepend=np.log(1e-3)), 0)


@pytest.mark.parametrize("bpm", [92.0, 120.0, 140.0])
def test_attacks_lie_on_the_beats(bpm: float) -> None:
    beats = 0.6 + np.arange(round(bpm)) * 60 / bpm
    y = render_track(beats, 0.7, 60.0, np.random.default_rng(3))
    assert len(y) == 60 * RATE and np.abs(y).max() <= 0.9 and np.all(y[: int(0.59 * RATE)] == 0)
    strength = onsets(y)
    at = np.rint(beats[beats < 59.5] * RATE / 128).astype(int)
    on = np.array([strength[max(i - 1, 0) : i + 3].max() for i in at])
    assert np.median(on) > 8 * strength.mean()


def test_the_tempo_of_a_click_is_exact() -> None:
    y = render_clicks(0.5 + np.arange(100) * 0.5, 51.0)
    found = np.flatnonzero((np.abs(y) > 0) & (np.abs(np.concatenate([np.zeros(200), y[:-200]])) == 0))
    starts = found[np.diff(found, prepend=-1000) > 200] / RATE
    assert 60 / np.polyfit(np.arange(len(starts)), starts, 1)[0] == pytest.approx(120.0, rel=1e-5)


def test_tracks_have_a_character_of_their_own() -> None:
    styles = [draw_style(np.random.default_rng(s)) for s in range(8)]
    assert len({s.root_hz for s in styles}) > 3 and len({tuple(s.hat) for s in styles}) == 8


def test_wav_is_pcm_with_its_flag_and_never_wraps() -> None:
    import soundfile

    data = wav_bytes(np.array([0.0, 1.5, -1.5, 0.5], np.float32), title="T", comment="synthetic")
    with soundfile.SoundFile(io.BytesIO(data)) as f:
        assert (f.subtype, f.title, f.comment) == ("PCM_16", "T", "synthetic")
        assert f.read(dtype="int16").tolist() == [0, 32767, -32767, 16384]
    assert data == wav_bytes(np.array([0.0, 1.5, -1.5, 0.5], np.float32), title="T", comment="synthetic")
