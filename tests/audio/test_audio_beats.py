"""Tempo within 0.2 % and beats within a few milliseconds on tracks whose grid is known; honest words where it is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from choreo_cli.audio.beats import BeatTrack, beat_latency_us, track_beats
from choreo_cli.audio.decode import decode
from choreo_cli.audio.features import DEFAULT, Params, extract
from choreo_cli.audio.render import render_clicks, render_track
from choreo_cli.audio.tempo import RATIOS, fit_line

F64 = NDArray[np.float64]


def track(samples: NDArray[np.float32], **how: float) -> BeatTrack:
    return track_beats(extract(samples), **how)  # type: ignore[arg-type]


def nearest(found: F64, truth: F64) -> F64:
    """Signed seconds from each true beat to the nearest found one."""
    return found[np.abs(found[None, :] - truth[:, None]).argmin(axis=1)] - truth


@pytest.mark.parametrize("bpm", [41.0, 60.0, 77.7, 92.0, 120.0, 140.0, 174.0, 210.0, 239.0])
def test_clicks_give_their_tempo_on_top(bpm: float) -> None:
    beats = np.arange(0.5, 29.5, 60 / bpm)
    found = track(render_clicks(beats, 30.0))
    assert found.tempo_bpm == pytest.approx(bpm, rel=0.002)
    assert found.tempo_stable and found.no_tempo is None
    assert np.abs(nearest(found.beats_s, beats)).max() < 0.006
    assert np.all(np.diff(found.beats_s) > 0)


@settings(max_examples=12, deadline=None)
@given(st.floats(45, 230), st.floats(0.05, 1.2), st.floats(300, 5000))
def test_any_click_tempo(bpm: float, start: float, pitch: float) -> None:
    beats = np.arange(start, 24.5, 60 / bpm)
    found = track(render_clicks(beats, 25.0, pitch_hz=pitch))
    assert found.tempo_bpm == pytest.approx(bpm, rel=0.002)


@pytest.mark.parametrize(
    ("bpm", "seed"), [(92, 0), (104, 1), (112, 4), (120, 2), (128, 3), (140, 1), (160, 5), (174, 0)]
)
def test_drum_tracks_within_ten_milliseconds(bpm: float, seed: int) -> None:
    beats = np.arange(0.37, 39, 60 / bpm)
    found = track(render_track(beats, 1.0, 40.0, np.random.default_rng(seed)))
    assert found.tempo_bpm is not None
    ratio = found.tempo_bpm / bpm
    # Below about 95 BPM steady eighths are heard as the beat: then the tempo itself is a candidate.
    assert min(abs(ratio / r - 1) for r in ((1, 2) if bpm < 96 else (1,))) < 0.002
    assert any(abs(c / bpm - 1) < 0.002 for c, _ in found.candidates)
    error = nearest(found.beats_s, beats)
    assert abs(np.median(error)) < 0.003
    assert np.percentile(np.abs(error), 95) < 0.010
    assert found.residual_s is not None and found.residual_s < 0.01


def test_noise_and_density_do_not_move_the_beats() -> None:
    beats = np.arange(0.37, 29, 0.5)
    clean = render_track(beats, 1.0, 30.0, np.random.default_rng(1))
    for level in (0.0, 1e-3, 1e-2):
        noisy = clean + np.random.default_rng(0).normal(0, level, clean.size).astype(np.float32)
        assert abs(np.median(nearest(track(noisy).beats_s, beats))) < 0.004, level


def test_a_given_tempo_is_taken_as_the_period() -> None:
    beats = np.arange(0.37, 39, 60 / 84)
    y = render_track(beats, 1.0, 40.0, np.random.default_rng(0))
    found = track(y, bpm=84.0)
    assert found.tempo_bpm == pytest.approx(84, rel=0.002)
    assert np.percentile(np.abs(nearest(found.beats_s, beats)), 95) < 0.010


def test_shifting_the_sound_shifts_the_beats() -> None:
    y = render_track(np.arange(0.37, 29, 0.5), 1.0, 30.0, np.random.default_rng(2))
    base = track(y)
    for samples in (1, 137, 512, 4_001):
        moved = track(np.concatenate([np.zeros(samples, np.float32), y]))
        delay = nearest(moved.beats_s - samples / DEFAULT.rate, base.beats_s)
        assert abs(np.median(delay)) < 0.0025, samples
        assert moved.tempo_bpm == pytest.approx(base.tempo_bpm, rel=1e-3)


def test_wandering_tempo_is_not_called_stable() -> None:
    rng = np.random.default_rng(0)
    beats = 0.5 + np.cumsum(0.5 * np.exp(0.12 * np.sin(np.arange(70) / 5) + 0.05 * rng.normal(size=70)))
    found = track(render_clicks(beats, float(beats[-1]) + 1))
    assert found.tempo_bpm is not None and not found.tempo_stable
    assert found.residual_s is not None and found.residual_s > 0.03


@pytest.mark.parametrize(
    ("samples", "why"),
    [
        (np.zeros(22_050 * 5), "silence"),
        (np.zeros(100), "too_short"),
        (0.5 * np.sin(np.arange(22_050 * 8) * 0.1), "no_attacks"),
        (np.where(np.arange(22_050 * 8) == 90_000, 0.9, 1e-4 * np.sin(np.arange(22_050 * 8) * 0.1)), "too_few_beats"),
    ],
    ids=["silence", "short", "tone", "one click"],
)
def test_without_a_tempo_it_says_why(samples: F64, why: str) -> None:
    found = track(samples.astype(np.float32))
    assert (found.no_tempo, found.tempo_bpm, found.beats_s.size, found.candidates) == (why, None, 0, ())


def test_candidates_are_the_six_ratios() -> None:
    found = track(render_clicks(np.arange(0.5, 29, 0.5), 30.0))
    assert found.tempo_bpm is not None
    assert [c / found.tempo_bpm for c, _ in found.candidates] == pytest.approx(list(RATIOS))
    assert sum(s for _, s in found.candidates) == pytest.approx(1)
    assert max(found.candidates, key=lambda c: c[1])[0] == pytest.approx(120, rel=0.002)


def test_latency_is_measured_by_the_clicks() -> None:
    us = beat_latency_us()
    assert us == beat_latency_us(Params()) and abs(us) < 15_000
    beats = np.arange(0.41, 19, 60 / 117)
    features = extract(render_clicks(beats, 20.0))
    raw, calibrated = track_beats(features, calibrate=False), track_beats(features)
    assert calibrated.latency_us == us and raw.latency_us == 0
    assert np.median(raw.beats_s - calibrated.beats_s) == pytest.approx(us / 1e6, abs=1e-9)
    # Another hop has another latency: it is measured, not assumed.
    assert beat_latency_us(Params(hop=256)) != us


def test_line_fit_counts_missing_beats_and_ignores_slips() -> None:
    beats = 1.0 + 0.4613 * np.arange(200)
    kept = np.delete(beats, [20, 21, 22, 90, 150])
    kept[100:120] += 0.02
    fit = fit_line(kept)
    assert fit is not None
    assert fit.period_s == pytest.approx(0.4613, rel=1e-4)
    assert fit.index[-1] == 199 and fit.residual_s < 1e-3
    assert fit_line(beats[:2]) is None


def test_line_fit_of_quantised_beats_beats_the_grid() -> None:
    """A median interval on a 43 fps grid is 117.45 for 120 BPM; the line is not."""
    frame = 512 / 22_050
    quantised = np.rint(np.arange(120) * 0.5 / frame) * frame
    fit = fit_line(quantised)
    assert fit is not None and fit.bpm == pytest.approx(120, rel=2e-4)
    assert 60 / np.median(np.diff(quantised)) == pytest.approx(117.45, abs=0.01)


def real(shared: Path, name: str) -> BeatTrack:
    return track(decode(shared / "data" / name, rate=DEFAULT.rate).samples)


def test_goin_under_has_210_among_its_candidates(shared: Path) -> None:
    found = real(shared, "audio/stepmania/GoinUnder.ogg")
    assert found.tempo_bpm is not None
    assert min(abs(found.tempo_bpm / t - 1) for t in (105, 210)) < 0.002
    assert any(abs(c / 210.0 - 1) < 0.002 for c, _ in found.candidates)
    # The chart's first beat is at 0 s: the beats lie on its grid.
    period = 60 / 210
    off = (found.beats_s + period / 2) % period - period / 2
    assert abs(np.median(off)) < 0.008
    assert np.mean(np.abs(off) < 0.025) > 0.7


@pytest.mark.parametrize(
    ("name", "tempi", "tolerance"),
    [
        ("librosa/Kevin_MacLeod_-_Vibe_Ace.ogg", (128.53, 130.0), 0.02),
        ("librosa/admiralbob77_-_Choice_-_Drum-bass.ogg", (136.18,), 0.005),
        # No truth is known; ours is 3/2 of librosa's 117.45 and is steady, so it is only held to one of the family.
        ("librosa/Karissa_Hobbs_-_Lets_Go_Fishin.ogg", (88.5, 117.45, 177.0), 0.02),
        # 2.8 s at 87.5 BPM: both trackers give 4/3 of it, 117; the alternative of the annotation, 175, is a candidate.
        ("madmom/sample.wav", (87.5, 116.6, 175.0), 0.02),
    ],
)
def test_real_pieces(shared: Path, name: str, tempi: tuple[float, ...], tolerance: float) -> None:
    found = real(shared, f"audio/{name}")
    assert found.tempo_bpm is not None
    print(f"{name}: {found.tempo_bpm:.2f} BPM, residual {found.residual_s}, candidates {found.candidates}")
    assert min(abs(found.tempo_bpm / t - 1) for t in tempi) < tolerance


def test_madmom_alternative_is_a_candidate(shared: Path) -> None:
    found = real(shared, "audio/madmom/sample.wav")
    assert any(abs(c / 175.0 - 1) < 0.02 for c, _ in found.candidates)


def test_free_improvisation_is_not_called_steady(shared: Path) -> None:
    found = real(shared, "pairs/mgt_dancer/dancer_audio.mp3")
    assert found.tempo_bpm == pytest.approx(130.8, rel=0.02)
    assert not found.tempo_stable
