"""Beat sync: a wobbling dance is put on its beats gently, a dance to other music is refused."""

from __future__ import annotations

import numpy as np
import pytest

from choreo_cli.errors import DataError, NoAnswerError
from choreo_cli.metrics.motion_beats import SIGMA_S, closeness, motion_beats
from choreo_cli.motion.beat_sync import (
    SLOPES,
    accepted,
    chance,
    sync,
    turned,
    warp,
)
from choreo_cli.motion.capture_simulate import danced
from choreo_cli.motion.capture_state import track_of
from choreo_cli.motion.choreo25 import decode, encode

FPS = 30.0
BEATS = np.arange(0.0, 21.0, 0.5)


def wobbling(seed: int = 0, bpm: float = 120.0, amount: float = 0.15) -> np.ndarray:
    """A dance whose clock swings by `amount` seconds."""
    _, joints = danced(seed, 20.0, bpm=bpm, fps=120.0)
    at = np.arange(0.3, 19.5, 1 / FPS)
    return joints[np.round((at + amount * np.sin(2 * np.pi * at / 9.0)) * 120).astype(int)]


@pytest.mark.parametrize("seed", [0])
def test_a_wobbling_dance_lands_on_its_beats(seed: int) -> None:
    joints = wobbling(seed)
    clip = encode(joints, FPS)
    found = accepted(sync(decode(clip), FPS, BEATS))
    slopes = found.time_map.slopes()
    assert (slopes >= SLOPES[0] - 1e-9).all() and (slopes <= SLOPES[1] + 1e-9).all()
    assert found.after > 0.85 > found.before and found.gain > 0.08 and found.p < 0.05
    assert 0.1 < found.chance_after < 0.4
    made = warp(clip, found.time_map)
    again = motion_beats(decode(made), FPS)
    assert closeness(again[again < BEATS[-1]], BEATS, SIGMA_S) > 0.8
    # The speeds were recomputed: the path on the floor is the old one, at other times.
    old, new = track_of(clip), track_of(made)
    at = found.time_map.old(np.arange(len(new.q)) / FPS) * FPS
    inside = (at > 1) & (at < len(old.q) - 2)
    want = np.stack([np.interp(at, np.arange(len(old.q)), old.q[:, k]) for k in (0, 2, 3)], 1)
    assert np.abs(new.q[:, [0, 2, 3]] - want)[inside].max() < 0.03
    assert made.header.fps == FPS and made.header.flags["beat_synced"]


def test_the_record_tells_what_was_stretched() -> None:
    record = sync(wobbling(), FPS, BEATS).record()
    assert record["max_stretch"] == pytest.approx(
        max(abs(np.log(record["slope_min"])), abs(np.log(record["slope_max"]))), abs=1e-4
    )
    assert set(record["alignment"]) == {"before", "after", "chance_before", "chance_after"}
    assert (np.diff(record["old_s"]) > 0).all() and (np.diff(record["new_s"]) > 0).all()


@pytest.mark.parametrize("bpm", [97.0])
def test_a_dance_to_another_tempo_is_refused(bpm: float) -> None:
    with pytest.raises(NoAnswerError, match="does not follow these beats"):
        accepted(sync(wobbling(5, bpm, 0.0), FPS, BEATS))


def test_a_free_dance_is_refused(shared) -> None:
    from choreo_cli.motion.retarget_inputs import Asked, joints_of

    path = shared / "data" / "mocap" / "bvh" / "bandai_ds1_dance-short_normal_001.bvh"
    joints, fps, _ = joints_of(path, Asked())
    found = sync(joints[:500], fps, np.arange(0, 18, 60 / 123))
    assert found.after > 0.6  # a warp meets any grid: that alone says nothing
    with pytest.raises(NoAnswerError):
        accepted(found)


def test_movement_beats_are_minima_of_speed_between_frames() -> None:
    t = np.arange(300) / FPS
    joints = np.zeros((300, 22, 3))
    joints[..., 0] = (t - np.sin(2 * np.pi * t) / (2 * np.pi))[:, None]  # speed 1 - cos: still at whole seconds
    found = motion_beats(joints, FPS)
    np.testing.assert_allclose(found[1:-1], np.round(found[1:-1]), atol=0.01)
    assert len(found) >= 8
    assert len(motion_beats(joints[:3], FPS)) == 0


def test_alignment_is_one_on_the_beats_and_chance_elsewhere() -> None:
    assert closeness(BEATS[2:20], BEATS, SIGMA_S) == pytest.approx(1.0)
    assert closeness(BEATS[2:20] + 0.25, BEATS, SIGMA_S) < 1e-3
    assert closeness(np.empty(0), BEATS, SIGMA_S) == 0.0
    level = chance(BEATS[2:20], BEATS, 0)
    assert level == pytest.approx(np.sqrt(2 * np.pi) * 0.05 / 0.5, abs=0.05)
    np.testing.assert_allclose(np.diff(turned(BEATS, 0.37)), 0.5)


@pytest.mark.parametrize("beats", [np.empty(0), np.array([1.0]), np.array([0.0, 2.0, 1.0]), np.array([0.0, np.nan])])
def test_beats_that_are_none_are_refused(beats: np.ndarray) -> None:
    with pytest.raises(DataError, match="beats"):
        sync(wobbling(), FPS, beats)


def test_too_few_movements_are_refused() -> None:
    with pytest.raises(DataError, match="movement beats"):
        sync(np.zeros((100, 22, 3)), FPS, BEATS)
