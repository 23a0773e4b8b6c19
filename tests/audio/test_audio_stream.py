"""Sound in blocks: the two inputs equal the offline ones, beats are followed causally, latency is what is stated."""

from __future__ import annotations

import numpy as np
import pytest

from choreo_cli.audio.features import DEFAULT, extract
from choreo_cli.audio.inputs import audio_inputs
from choreo_cli.audio.render import render_track
from choreo_cli.audio.stream import LATENCY_US, STEP_US, AudioStream, BeatFollower, resampler_delay_s
from choreo_cli.errors import DataError


def music(seconds: float, rate: int, seed: int = 0, bpm: float = 118.0) -> np.ndarray:
    beats = np.arange(0.3, seconds, 60 / bpm)
    return render_track(beats, 0.8, seconds, np.random.default_rng(seed), rate=rate)


def played(y: np.ndarray, rate: int, block: int, t0_us: int = 0) -> tuple[dict[int, np.ndarray], list[int]]:
    """Rows by frame time, and how long after each frame's time it became known."""
    stream, rows, late = AudioStream(rate), {}, []
    for a in range(0, len(y), block):
        part = y[a : a + block]
        for g, row in stream.push(t0_us + round(a * 1e6 / rate), part):
            assert g not in rows
            rows[g] = row
            late.append(t0_us + round((a + len(part)) * 1e6 / rate) - g)
    return rows, late


@pytest.mark.parametrize("block", [64, 441, 1024, 7000])
@pytest.mark.parametrize("rate", [22_050, 44_100, 48_000])
def test_equal_to_the_offline_inputs(rate: int, block: int) -> None:
    import soxr

    y = music(8.0, rate)
    y[3 * rate : 4 * rate] = 0  # digital silence: no brightness there
    whole = y if rate == DEFAULT.rate else soxr.resample(y, rate, DEFAULT.rate, quality="HQ")
    grid = np.arange(0, 8_000_000, STEP_US)
    energy, bright, mask = audio_inputs(extract(np.asarray(whole, np.float32)), grid)
    rows, _ = played(y, rate, block)
    assert mask.all()
    known = np.array([g in rows for g in grid.tolist()])
    missing = (~known).sum()
    assert missing <= 8 and known[: len(grid) - missing].all()  # only what needs sound that never came
    got = np.array([rows[g] for g in grid[known].tolist()])
    np.testing.assert_allclose(got[:, 0], energy[known], atol=2e-6)
    np.testing.assert_allclose(got[:, 1], bright[known], atol=5e-6, equal_nan=True)
    assert np.isnan(bright).any() and np.isfinite(bright).any()


def test_the_latency_is_the_one_that_is_stated() -> None:
    block = 64
    _, late = played(music(4.0, DEFAULT.rate), DEFAULT.rate, block)
    assert LATENCY_US == 69_659
    assert max(late) <= LATENCY_US + block * 1e6 / DEFAULT.rate
    assert min(late) >= (LATENCY_US - DEFAULT.hop * 1e6 / DEFAULT.rate) - 1
    _, later = played(music(4.0, 48_000), 48_000, block)
    assert max(later) <= LATENCY_US + resampler_delay_s(48_000) * 1e6 + 1500
    assert 0.0 < resampler_delay_s(48_000) < 0.06


def test_a_stream_that_begins_later_is_the_same_sound_later() -> None:
    y = music(3.0, DEFAULT.rate)
    rows, _ = played(y, DEFAULT.rate, 512)
    shifted, _ = played(y, DEFAULT.rate, 512, t0_us=5_000_000)
    assert [g + 5_000_000 for g in rows] == list(shifted)
    np.testing.assert_array_equal(list(rows.values()), list(shifted.values()))


def test_a_hole_in_the_sound_starts_anew_and_drift_moves_the_frames() -> None:
    y = music(2.0, DEFAULT.rate)
    stream = AudioStream(DEFAULT.rate)
    first = stream.push(0, y)
    assert first
    after = stream.push(10_000_000, y)
    assert stream.gaps == 1
    assert min(g for g, _ in after) == 10_000_000
    np.testing.assert_allclose([r for _, r in after], [r for _, r in first], atol=1e-6)
    drifting, times = AudioStream(DEFAULT.rate), []
    for k in range(400):  # the sound's clock runs 1 % slow
        times += [g for g, _ in drifting.push(round(k * 512e6 / DEFAULT.rate * 1.01), y[:512])]
    assert drifting.gaps == 0
    assert np.all(np.diff(times) == STEP_US)
    assert times[-1] > 400 * 512e6 / DEFAULT.rate * 1.01 - LATENCY_US - 60_000


def test_samples_that_are_not_finite_are_silence_and_counted() -> None:
    y = music(1.0, DEFAULT.rate)
    y[100:103] = [np.nan, np.inf, -np.inf]
    stream = AudioStream(DEFAULT.rate)
    rows = stream.push(0, y)
    assert stream.refused == 3
    assert all(np.isfinite(r[0]) for _, r in rows)
    with pytest.raises(DataError, match="sound at 100 Hz"):
        AudioStream(100)


def follow(y: np.ndarray, rate: int, near: float | None) -> list[tuple[float, float, int]]:
    follower, found = BeatFollower(rate, near), []
    for a in range(0, len(y), 1024):
        if follower.push(round(a * 1e6 / rate), y[a : a + 1024]):
            estimate = follower.estimate(*follower.window())
            if estimate is not None:
                found.append(estimate)
    return found


def off_ms(found: list[tuple[float, float, int]], bpm: float, first_s: float = 0.3) -> np.ndarray:
    true = np.array([(t / 1e6 - first_s) * bpm / 60 for _, _, t in found])
    said = np.array([b for b, _, _ in found])
    return ((said - true + 0.5) % 1 - 0.5) * 60e3 / bpm


@pytest.mark.parametrize("bpm", [80.0, 92.0, 120.0, 140.0, 174.0])
def test_beats_are_followed_within_three_milliseconds_on_rendered_tracks(bpm: float) -> None:
    found = follow(music(16.0, DEFAULT.rate, 1, bpm), DEFAULT.rate, near=bpm * 1.05)
    assert len(found) >= 10
    assert np.abs(off_ms(found, bpm)).max() < 3.0
    assert np.array([b for _, b, _ in found]) == pytest.approx(bpm, rel=2e-3)
    beats = np.array([b for b, _, _ in found])
    steps = np.diff(beats) / np.diff([t / 1e6 for _, _, t in found]) * 60
    assert steps == pytest.approx(bpm, rel=0.02)  # positions count on


def test_beats_at_another_rate_of_sound() -> None:
    found = follow(music(10.0, 48_000, 2, 126.0), 48_000, None)
    assert len(found) >= 4
    assert np.abs(off_ms(found, 126.0)).max() < 3.0


def test_no_beat_in_silence_and_seldom_in_noise() -> None:
    assert follow(np.zeros(10 * DEFAULT.rate, np.float32), DEFAULT.rate, None) == []
    noise = np.random.default_rng(0).normal(0, 0.1, 12 * DEFAULT.rate).astype(np.float32)
    assert len(follow(noise, DEFAULT.rate, None)) <= 4  # of 9 windows


def test_a_new_tempo_is_believed_after_three_windows_and_half_of_it_never() -> None:
    rate = DEFAULT.rate
    y = np.concatenate([music(14.0, rate, 3, 120.0), music(18.0, rate, 3, 97.0)])
    tempi = [bpm for _, bpm, _ in follow(y, rate, 120.0)]
    assert tempi[0] == pytest.approx(120.0, rel=0.01)
    assert tempi[-1] == pytest.approx(97.0, rel=0.01)
    assert all(min(abs(t / 120 - 1), abs(t / 97 - 1)) < 0.07 for t in tempi)
