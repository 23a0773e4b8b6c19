"""The two audio inputs: their scale, their edges, and what the mel spectrum can stand in for."""

from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray

from choreo_cli.audio.archive import archive_arrays
from choreo_cli.audio.beats import track_beats
from choreo_cli.audio.features import DEFAULT, Features, extract
from choreo_cli.audio.inputs import archive_inputs, audio_inputs, brightness_input, energy_input, mel_rms
from choreo_cli.audio.render import render_track
from formats import audio_npz
from formats.foreign.features_npz import FeatureArchive, read_features
from formats.foreign.source import Source

RATE = DEFAULT.rate


@pytest.fixture(scope="module")
def features() -> Features:
    return extract(render_track(np.arange(0.3, 10, 0.5), 1.0, 10.0, np.random.default_rng(3)))


def archive(tmp: object, **arrays: object) -> FeatureArchive:
    out = io.BytesIO()
    np.savez(out, **arrays)  # type: ignore[arg-type]
    path = tmp / "f.npz"  # type: ignore[operator]
    path.write_bytes(out.getvalue())
    return read_features(Source.of(path))


def test_scales() -> None:
    assert energy_input(np.array([0.0, 1e-3, 10 ** (-30 / 20), 1.0, 1.5])).tolist() == pytest.approx([0, 0, 0.5, 1, 1])
    ones = np.ones(4)
    bright = brightness_input(np.array([50.0, 200.0, np.sqrt(200 * 8000), 9_000.0]), ones)
    assert bright.tolist() == pytest.approx([0, 0, 0.5, 1])
    assert np.isnan(brightness_input(np.array([1000.0]), np.zeros(1))[0])


def test_a_tone_reads_its_level_and_pitch() -> None:
    y = (0.1 * np.sqrt(2) * np.sin(2 * np.pi * 1264.9 * np.arange(3 * RATE) / RATE)).astype(np.float32)
    energy, bright, mask = audio_inputs(extract(y), np.arange(500_000, 2_500_000, 20_000))
    assert mask.all()
    assert energy == pytest.approx(2 / 3, abs=0.002)  # -20 dB
    assert bright == pytest.approx(0.5, abs=0.01)


def test_outside_and_in_silence(features: Features) -> None:
    energy, bright, mask = audio_inputs(features, np.array([-1, 0, 10_000_000, 10_000_001, 99_000_000]))
    assert mask.tolist() == [False, True, True, False, False]
    assert np.isnan(energy[~mask]).all() and np.isnan(bright[~mask]).all() and np.isfinite(energy[mask]).all()
    silent = extract(np.zeros(2 * RATE, np.float32))
    energy, bright, mask = audio_inputs(silent, np.array([500_000, 1_000_000]))
    assert mask.all() and (energy == 0).all() and np.isnan(bright).all()


def test_between_frames_it_is_linear(features: Features) -> None:
    frame_us = 512e6 / RATE
    t = np.rint(np.array([40.0, 40.5, 41.0]) * frame_us).astype(np.int64)
    energy, bright, _ = audio_inputs(features, t)
    assert energy[1] == pytest.approx((energy[0] + energy[2]) / 2, abs=1e-4)
    assert bright[1] == pytest.approx((bright[0] + bright[2]) / 2, abs=1e-4)


def test_our_archive_gives_the_same_inputs(features: Features, tmp_path: object) -> None:
    data = audio_npz.encode(archive_arrays(features, track_beats(features)), {"command": "test"})
    path = tmp_path / "f.npz"  # type: ignore[operator]
    path.write_bytes(data)
    grid = np.arange(-100_000, 10_200_000, 20_000)
    ours, theirs = audio_inputs(features, grid), archive_inputs(read_features(Source.of(path)), grid)
    assert theirs[3] == ()
    for a, b in zip(ours, theirs[:3], strict=True):
        assert np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


def test_mel_stands_in_for_level_and_colour(features: Features, tmp_path: object) -> None:
    grid = np.arange(0, 10_000_000, 20_000)
    e0, b0, _ = audio_inputs(features, grid)
    e1, b1, mask, said = archive_inputs(archive(tmp_path, mel=features.mel, tempo=120.0), grid)
    assert len(said) == 2 and all("estimated from the mel spectrum" in s for s in said)
    assert mask.mean() > 0.99
    assert np.nanmedian(np.abs(e0 - e1)) < 0.03 and np.nanmedian(np.abs(b0 - b1)) < 0.03
    assert np.corrcoef(e0[mask], e1[mask])[0, 1] > 0.95


def test_a_level_relative_to_its_maximum_is_said(features: Features, tmp_path: object) -> None:
    db = 10 * np.log10(np.maximum(features.mel, 1e-10))
    relative = np.maximum(db - db.max(), -80)
    grid = np.arange(0, 9_900_000, 20_000)
    e, b, mask, said = archive_inputs(archive(tmp_path, mel_db=relative), grid)
    assert said[0] == "audio_energy is estimated from the mel spectrum, its loud parts taken as -12 dB"
    assert mask.all() and np.percentile(e, 95) == pytest.approx(0.8, abs=0.02)
    assert np.nanmedian(np.abs(b - audio_inputs(features, grid)[1])) < 0.03


def test_without_anything_to_read_there_is_no_mask(tmp_path: object) -> None:
    e, b, mask, said = archive_inputs(archive(tmp_path, onset=np.ones(100), bpm=120.0), np.arange(0, 1_000_000, 20_000))
    assert not mask.any() and np.isnan(e).all() and np.isnan(b).all() and said == ()
    e, b, mask, _ = archive_inputs(archive(tmp_path, bpm=120.0, beats=np.arange(9.0)), np.arange(0, 100_000, 20_000))
    assert not mask.any() and e.shape == (5,)


def test_mel_level_of_white_noise() -> None:
    """Parseval through the filters: the estimate does not depend on the number of bands."""
    y = np.random.default_rng(0).normal(0, 0.05, 5 * RATE).astype(np.float32)
    f = extract(y)
    level: NDArray[np.float64] = mel_rms(f.mel, RATE, 2048)[5:-5]
    assert np.median(level) == pytest.approx(0.05, rel=0.03)
