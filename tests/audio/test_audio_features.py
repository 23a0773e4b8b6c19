"""Features against librosa's, and the properties a blocked pass must not break.

All that is compared with librosa stands here: what it compiles takes 20 s, once in the process of one file.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from choreo_cli.audio import bench
from choreo_cli.audio import dance_features as df
from choreo_cli.audio.features import BLOCK, DEFAULT, FINE, Params, extract
from choreo_cli.audio.filterbank import chroma_bank, dct_ii, hz_to_mel, mel_bank, mel_edges, mel_to_hz
from choreo_cli.audio.render import RATE as RENDERED
from choreo_cli.audio.render import render_track
from choreo_cli.errors import DataError
from formats.metrics import validate

F32 = NDArray[np.float32]
RATE = DEFAULT.rate
FPS = 30


@pytest.fixture(scope="module")
def music() -> F32:
    """20 s of a beat track with a silent gap, so that the 80 dB range is used."""
    y = render_track(np.arange(0.3, 20, 0.5), 1.0, 20.0, np.random.default_rng(3))
    y[8 * RATE : 10 * RATE] = 0
    return y


@pytest.fixture(scope="module")
def librosa():  # type: ignore[no-untyped-def]
    return pytest.importorskip("librosa", reason="librosa is the reference of these features")


def relative(a: F32, b: F32) -> float:
    assert a.shape == b.shape
    return float(np.abs(a - b).max() / np.abs(b).max())


def test_mel_equals_librosa(music: F32, librosa) -> None:  # type: ignore[no-untyped-def]
    theirs = librosa.feature.melspectrogram(y=music, sr=RATE)
    ours = extract(music).mel
    assert relative(ours, theirs) < 1e-5
    loud = theirs > 1e-6 * theirs.max()
    assert np.abs(ours[loud] / theirs[loud] - 1).max() < 1e-4


def test_chroma_equals_librosa_with_fixed_tuning(music: F32, librosa) -> None:  # type: ignore[no-untyped-def]
    assert relative(extract(music).chroma, librosa.feature.chroma_stft(y=music, sr=RATE, tuning=0)) < 1e-5


def test_mfcc_equals_librosa(music: F32, librosa) -> None:  # type: ignore[no-untyped-def]
    assert relative(extract(music).mfcc, librosa.feature.mfcc(y=music, sr=RATE)) < 1e-5


def test_onset_equals_librosa(music: F32, librosa) -> None:  # type: ignore[no-untyped-def]
    assert relative(extract(music).onset, librosa.onset.onset_strength(y=music, sr=RATE)) < 1e-5


def test_rms_and_centroid_equal_librosa(music: F32, librosa) -> None:  # type: ignore[no-untyped-def]
    f = extract(music)
    assert relative(f.rms, librosa.feature.rms(y=music)[0]) < 1e-5
    theirs = librosa.feature.spectral_centroid(y=music, sr=RATE)[0]
    sounding = np.isfinite(f.centroid)
    assert 0.85 < sounding.mean() < 1.0  # the gap has no colour
    assert np.abs(f.centroid[sounding] / theirs[sounding] - 1).max() < 1e-4
    assert np.all(theirs[~sounding] == 0)


def test_filter_banks_equal_librosa(librosa) -> None:  # type: ignore[no-untyped-def]
    for rate, n_fft, n_mels in ((22_050, 2048, 128), (16_000, 1024, 40), (44_100, 4096, 229)):
        assert np.allclose(mel_bank(rate, n_fft, n_mels).T, librosa.filters.mel(sr=rate, n_fft=n_fft, n_mels=n_mels))
        assert np.allclose(chroma_bank(rate, n_fft).T, librosa.filters.chroma(sr=rate, n_fft=n_fft), atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 30_000), st.integers(1, 300), st.integers(0, 2**32 - 1))
def test_blocks_do_not_show(samples: int, block: int, seed: int) -> None:
    y = np.random.default_rng(seed).normal(0, 0.1, samples).astype(np.float32)
    a, b = extract(y), extract(y, block=block)
    for name in ("mel", "chroma", "mfcc", "onset", "rms", "centroid", "energy"):
        left, right = getattr(a, name), getattr(b, name)
        scale = np.abs(left).max(initial=1e-12)
        assert np.abs(left - right).max(initial=0) <= 1e-5 * scale, name


def test_shapes_types_and_determinism(music: F32) -> None:
    f = extract(music)
    n = 1 + music.size // DEFAULT.hop
    shapes = {"mel": (128, n), "chroma": (12, n), "mfcc": (20, n), "onset": (n,), "rms": (n,), "centroid": (n,)}
    for name, shape in shapes.items():
        assert getattr(f, name).shape == shape and getattr(f, name).dtype == np.float32, name
    assert f.energy.shape == (music.size // FINE,) and f.energy.dtype == np.float32
    assert f.duration_us == 20_000_000 and f.times_s[-1] == pytest.approx((n - 1) * 512 / 22_050)
    again = extract(music.copy())
    assert all(getattr(f, k).tobytes() == getattr(again, k).tobytes() for k in shapes)


def test_energy_is_that_of_the_difference(music: F32) -> None:
    d = np.diff(music.astype(np.float64), prepend=music[0])[: music.size // FINE * FINE]
    assert np.allclose(extract(music).energy, (d.reshape(-1, FINE) ** 2).sum(axis=1), rtol=1e-4, atol=1e-9)


def test_level_above_full_scale_is_kept() -> None:
    y = (3.0 * np.sin(2 * np.pi * 441 * np.arange(RATE) / RATE)).astype(np.float32)
    assert extract(y).rms[20] == pytest.approx(3 / np.sqrt(2), rel=1e-3)


def test_mel_scale_is_inverted_and_covers_the_spectrum() -> None:
    hz = np.linspace(0, 11_025, 500)
    assert np.allclose(mel_to_hz(hz_to_mel(hz)), hz)
    edges = mel_edges(22_050, 128)
    # Triangles times half their base add up to 1 between the first and the last peak.
    total = mel_bank(22_050, 65_536, 128) @ ((edges[2:] - edges[:-2]) / 2)
    grid = np.fft.rfftfreq(65_536, 1 / 22_050)
    assert np.allclose(total[(grid > edges[1]) & (grid < edges[-2])], 1, atol=1e-4)


def test_dct_is_orthonormal() -> None:
    m = dct_ii(128, 128).astype(np.float64)
    assert np.allclose(m.T @ m, np.eye(128), atol=1e-5)


@pytest.mark.parametrize("bad", [np.empty(0), np.zeros((10, 2)), np.array([0.0, np.nan] * 600), np.full(4000, np.inf)])
def test_unusable_samples_are_refused(bad: NDArray[np.float64]) -> None:
    with pytest.raises(DataError):
        extract(bad.astype(np.float32))


def test_the_cache_key_follows_the_parameters() -> None:
    assert Params().digest == DEFAULT.digest and len(DEFAULT.digest) == 16
    assert Params(hop=256).digest != DEFAULT.digest
    assert BLOCK * DEFAULT.n_fft * 4 <= 2**20


def test_the_features_of_a_dance_are_those_of_librosa(librosa) -> None:  # type: ignore[no-untyped-def]
    soxr = pytest.importorskip("soxr")
    track = render_track(np.arange(0.5, 12, 60 / 124), 0.8, 12.0, np.random.default_rng(0))
    y, sr = soxr.resample(track, RENDERED, 512 * FPS, quality="HQ"), 512 * FPS
    found = df.dance_features(track, RENDERED, FPS)
    onset = librosa.onset.onset_strength(y=y, sr=sr)
    np.testing.assert_allclose(found[:, df.ONSET], onset, atol=1e-4)
    np.testing.assert_allclose(found[:, df.MFCC], librosa.feature.mfcc(y=y, sr=sr, n_mfcc=20).T, atol=5e-3)
    np.testing.assert_allclose(found[:, df.CHROMA], librosa.feature.chroma_stft(y=y, sr=sr, tuning=0.0).T, atol=1e-5)
    for fps in (30, 60, 120):
        rule = df.peak_rule(fps)
        scaled = (onset - onset.min()) / (onset.max() - onset.min())
        theirs = librosa.util.peak_pick(
            scaled, pre_max=rule.pre_max, post_max=rule.post_max, pre_avg=rule.pre_avg, post_avg=rule.post_avg,
            delta=rule.delta, wait=rule.wait,
        )  # fmt: skip
        assert np.array_equal(df.onset_peaks(onset, rule), theirs)
        assert len(theirs) > 10


def test_a_bench_beside_librosa_has_its_entries(librosa) -> None:  # type: ignore[no-untyped-def]
    entries = bench.bench(seconds=12.0, repeats=1)
    for e in entries:
        validate(e)
    whole, apart, mel = entries
    assert [e["name"] for e in entries] == ["data.audio_mp3", "data.audio_features", "data.audio_mel_error"]
    for e in (whole, apart):
        assert e["baseline"]["name"] == "plain librosa script" and e["floor"]["value"] < e["value"]
        # The goals are judged on long files by the bench; a wide margin keeps this free of chance.
        assert e["ratio"] > 2.0
    assert mel["pass"] is True and mel["value"] < 1e-5
