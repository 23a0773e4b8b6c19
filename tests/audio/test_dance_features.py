"""The 35 features of a dance: librosa's values, the frame grid, edges, and the files they are kept in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from choreo_cli.audio import dance_features as df
from choreo_cli.audio.dance_archive import encode, read_archive, read_track
from choreo_cli.audio.render import RATE, render_clicks, render_track, wav_bytes
from choreo_cli.errors import DataError, NoInputError
from formats.errors import FormatError

FPS = 30


@pytest.fixture(scope="module")
def music() -> np.ndarray:
    return render_track(np.arange(0.5, 12, 60 / 124), 0.8, 12.0, np.random.default_rng(0))


@pytest.mark.parametrize("fps", [20, 29.97, 30, 60])
def test_clicks_fall_on_their_frames_at_any_rate(fps: float) -> None:
    beats = np.arange(0.5, 11.5, 0.5)
    found = df.dance_features(render_clicks(beats, 12.0), RATE, fps, round(12 * fps))
    heard = np.flatnonzero(found[:, df.BEAT]) / fps
    assert len(heard) >= len(beats) - 2
    assert np.abs(heard[:, None] - beats[None]).min(axis=1).max() <= 0.75 / fps
    peaks = np.flatnonzero(found[:, df.PEAK]) / fps
    assert np.abs(beats[:, None] - peaks[None]).min(axis=1).max() <= 1.5 / fps


def test_one_row_a_motion_frame_and_silence_after_the_sound(music: np.ndarray) -> None:
    found = df.dance_features(music[: 2 * RATE], RATE, FPS, 90)
    assert found.shape == (90, df.WIDTH) and found.dtype == np.float32
    assert np.isfinite(found).all()
    assert not found[75:, df.CHROMA].any()
    assert len(df.names()) == 35 and len(df.names(phase=True)) == 37
    assert np.array_equal(found, df.dance_features(music[: 2 * RATE], RATE, FPS, 90))


def test_beat_phase_turns_once_a_beat_and_is_zero_without_one() -> None:
    beats = np.arange(1.0, 5.0, 0.5)
    wave = df.beat_phase(beats, FPS, 180)
    on = np.rint(beats * FPS).astype(int)
    np.testing.assert_allclose(wave[on], np.tile([[0.0, 1.0]], (len(on), 1)), atol=1e-6)
    np.testing.assert_allclose((wave**2).sum(axis=1), 1.0, atol=1e-6)
    assert not df.beat_phase(beats[:1], FPS, 10).any()
    silent = df.dance_features(np.zeros(RATE * 4, np.float32), RATE, FPS, 120, phase=True)
    assert silent.shape == (120, 37) and not silent[:, df.PHASE].any() and not silent[:, df.BEAT].any()


def test_annotated_beats_take_the_place_of_tracked_ones(music: np.ndarray) -> None:
    found = df.dance_features(music, RATE, FPS, 300, beats_s=np.array([0.1, 1.0, 3.5]))
    assert np.flatnonzero(found[:, df.BEAT]).tolist() == [3, 30, 105]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"fps": 5.0}, "5 frames per second"),
        ({"fps": float("nan")}, "nan frames per second"),
        ({"sr": 0}, "sound at 0"),
        ({"samples": np.zeros((2, 5), np.float32)}, "one channel"),
        ({"samples": np.full(9000, np.nan, np.float32)}, "not finite"),
        ({"n_frames": 0}, "0 frames"),
        ({"beats_s": np.array([1.0, 1.0])}, "do not increase"),
    ],
)
def test_what_cannot_be_heard_is_refused(change: dict, told: str) -> None:
    given = {"samples": np.zeros(RATE, np.float32), "sr": RATE, "fps": FPS} | change
    with pytest.raises(DataError, match=told):
        df.dance_features(**given)


def test_features_are_computed_once_and_follow_their_sound(
    tmp_path: Path, music: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    from choreo_cli.audio import dance_archive

    wav = tmp_path / "a.wav"
    wav.write_bytes(wav_bytes(music[: 3 * RATE]))
    first = read_track(wav, FPS)
    assert first.cached is not None and first.cached.is_file()
    calls: list[Path] = []
    original = dance_archive._compute
    monkeypatch.setattr(dance_archive, "_compute", lambda p, *a: calls.append(p) or original(p, *a))
    assert np.array_equal(read_track(wav, FPS).values, first.values) and not calls
    wav.write_bytes(wav_bytes(music[RATE : 4 * RATE]))  # another sound under the same name
    assert not np.array_equal(read_track(wav, FPS).values, first.values) and len(calls) == 1
    damaged = bytearray(first.cached.read_bytes())
    damaged[400] ^= 1
    first.cached.write_bytes(bytes(damaged))
    read_track(wav, FPS)
    assert len(calls) == 2


def test_files_of_ours_and_of_others_are_read(tmp_path: Path) -> None:
    values = np.random.default_rng(1).normal(size=(50, 35)).astype(np.float32)
    own = tmp_path / "own.npz"
    own.write_bytes(encode(values, 30.0, df.names(), {}))
    assert np.array_equal(read_archive(own, 30).values, values)
    with pytest.raises(DataError, match="holds 30 frames per second, need 60"):
        read_archive(own, 60)
    np.save(tmp_path / "edge.npy", values)
    plain = read_archive(tmp_path / "edge.npy", 30)
    assert plain.names == df.names() and plain.assumptions
    np.savez(tmp_path / "any.npz", music=values[:, :12], fps=60.0)
    assert read_archive(tmp_path / "any.npz").fps == 60 and read_archive(tmp_path / "any.npz", 60).width == 12
    with pytest.raises(DataError, match="does not say"):
        read_archive(tmp_path / "edge.npy")


def test_bad_files_are_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(NoInputError, match=r"no file .*gone\.wav"):
        read_track(tmp_path / "gone.wav", 30)
    cases = {
        "nan.npy": np.full((4, 35), np.nan, np.float32), "flat.npy": np.zeros(35, np.float32),
        "empty.npy": np.zeros((0, 35), np.float32),
    }  # fmt: skip
    for name, array in cases.items():
        np.save(tmp_path / name, array)
        with pytest.raises(FormatError):
            read_archive(tmp_path / name, 30)
    np.savez(tmp_path / "two.npz", a=np.zeros((4, 35)), b=np.zeros((4, 35)))
    with pytest.raises(FormatError, match="2 arrays could be the features"):
        read_archive(tmp_path / "two.npz", 30)
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(FormatError):
        read_archive(tmp_path / "text.npz", 30)
    cut = encode(np.zeros((9, 35), np.float32), 30.0, df.names(), {})[:-70]
    (tmp_path / "cut.npz").write_bytes(cut)
    with pytest.raises(FormatError):
        read_archive(tmp_path / "cut.npz", 30)
