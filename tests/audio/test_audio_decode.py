"""Decoding: the mix, the rate, stretches of a file, and a guard for every row of the table of lying files."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from numpy.typing import NDArray

from choreo_cli.audio.decode import decode
from choreo_cli.errors import DataError
from formats.errors import FormatError

F32 = NDArray[np.float32]
RATE = 22_050


def tone(seconds: float = 1.0, rate: int = RATE, channels: int = 1, level: float = 0.5) -> F32:
    t = np.arange(round(seconds * rate)) / rate
    y = np.stack([level * np.sin(2 * np.pi * 220 * (c + 1) * t) for c in range(channels)], axis=1)
    return y.astype(np.float32)


def wav(path: Path, samples: F32, rate: int = RATE, subtype: str = "FLOAT") -> Path:
    soundfile.write(path, samples, rate, format="WAV", subtype=subtype)
    return path


def damaged(path: Path, at: int, new: bytes) -> Path:
    data = bytearray(path.read_bytes())
    data[at : at + len(new)] = new
    path.write_bytes(data)
    return path


def test_channels_are_averaged_then_resampled(tmp_path: Path) -> None:
    y = tone(1.5, 44_100, 2)
    found = decode(wav(tmp_path / "a.wav", y, 44_100), rate=RATE)
    expected = soxr.resample(y.mean(axis=1), 44_100, RATE, quality="HQ")
    assert found.rate == RATE and found.samples.dtype == np.float32 and found.problems == ()
    assert np.abs(found.samples - expected).max() < 1e-6


def test_blocks_do_not_show(tmp_path: Path) -> None:
    """More than two blocks of 65,536 frames: as if read at once."""
    y = np.random.default_rng(0).normal(0, 0.2, (150_001, 3)).astype(np.float32)
    path = wav(tmp_path / "a.wav", y, 48_000)
    whole = decode(path, mono=False).samples
    assert np.array_equal(whole, y)
    assert np.allclose(decode(path).samples, y.mean(axis=1), atol=1e-6)
    at_rate = decode(path, mono=False, rate=RATE).samples
    assert np.abs(at_rate - soxr.resample(y, 48_000, RATE, quality="HQ")).max() < 1e-6


def test_stretches(tmp_path: Path) -> None:
    y = np.random.default_rng(0).normal(0, 0.2, (5 * RATE, 1)).astype(np.float32)
    path = wav(tmp_path / "a.wav", y)
    part = decode(path, start_s=1.5, duration_s=2.0)
    assert np.array_equal(part.samples, y[round(1.5 * RATE) : round(3.5 * RATE), 0])
    assert part.start_us == 1_500_000
    assert decode(path, start_s=4.5, duration_s=9.0).samples.size == round(0.5 * RATE)
    with pytest.raises(DataError):
        decode(path, start_s=60.0)


@pytest.mark.parametrize(
    ("kind", "subtype"),
    [("WAV", None), ("FLAC", None), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", None), ("AIFF", None)],
)
def test_formats(tmp_path: Path, kind: str, subtype: str | None) -> None:
    rate = 48_000 if subtype == "OPUS" else 44_100
    y = tone(2.0, rate, 2)
    path = tmp_path / "sound.bin"  # the name says nothing
    soundfile.write(path, y, rate, format=kind, subtype=subtype)
    found = decode(path)
    assert abs(found.samples.size - len(y)) <= 2_304 and found.problems == ()
    assert np.sqrt(np.mean(found.samples**2)) == pytest.approx(np.sqrt(np.mean(y.mean(axis=1) ** 2)), rel=0.05)
    middle = decode(path, start_s=1.0, duration_s=0.5).samples
    assert np.abs(middle - found.samples[rate : rate + rate // 2]).max() < 1e-3


@pytest.mark.parametrize("kind", ["MP3", "OGG", "FLAC"])
def test_blocks_of_coded_sound_join_without_a_seam(tmp_path: Path, kind: str) -> None:
    """soundfile's own block reading breaks MP3s at every seam (it seeks to where it stands)."""
    path = tmp_path / "a.x"
    soundfile.write(path, tone(5.0, 44_100, 2), 44_100, format=kind)
    whole, _ = soundfile.read(path, dtype="float32")
    assert len(whole) > 3 * 65_536
    assert np.array_equal(decode(path, mono=False).samples, whole)


def test_peaks_above_full_scale_are_kept(tmp_path: Path) -> None:
    found = decode(wav(tmp_path / "a.wav", tone(level=1.7)))
    assert found.peak == pytest.approx(1.7, rel=1e-3)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(tmp_path: Path, value: float) -> None:
    y = tone()
    y[9_000] = value
    with pytest.raises(FormatError, match="not finite"):
        decode(wav(tmp_path / "a.wav", y))


def test_huge_but_finite_values_are_decoded(tmp_path: Path) -> None:
    y = np.full((20_000, 1), 3e38, np.float32)
    assert decode(wav(tmp_path / "a.wav", y)).peak > 1e38


@pytest.mark.parametrize(
    ("rate", "fine"), [(3_999, False), (4_000, True), (384_000, True), (384_001, False), (1, False)]
)
def test_rates(tmp_path: Path, rate: int, fine: bool) -> None:
    path = wav(tmp_path / "a.wav", np.zeros((500, 1), np.float32) + 0.1, rate)
    if fine:
        assert decode(path).rate == rate
    else:
        with pytest.raises(FormatError, match=f"{rate} Hz"):
            decode(path, rate=RATE)


@pytest.mark.parametrize(("channels", "fine"), [(64, True), (65, False), (1_024, False)])
def test_channels(tmp_path: Path, channels: int, fine: bool) -> None:
    path = wav(tmp_path / "a.wav", np.zeros((100, channels), np.float32) + 0.25)
    if fine:
        assert decode(path).samples[50] == pytest.approx(0.25)
    else:
        with pytest.raises(FormatError, match="channels"):
            decode(path)


def test_declared_length_too_long(tmp_path: Path) -> None:
    path = damaged(wav(tmp_path / "a.wav", tone(), subtype="PCM_16"), 40, struct.pack("<I", 4_000_000_000))
    found = decode(path)
    assert found.samples.size == RATE
    assert found.problems == ("truncated: the WAV header declares 4000000000 bytes of sound, 44100 are there",)


def test_declared_length_too_short(tmp_path: Path) -> None:
    path = damaged(wav(tmp_path / "a.wav", tone(), subtype="PCM_16"), 40, struct.pack("<I", 100))
    found = decode(path)
    assert found.problems == ("length_contradiction: the WAV header declares 100 bytes of sound, 44100 follow",)


def test_half_a_wav_is_said(tmp_path: Path) -> None:
    path = wav(tmp_path / "a.wav", tone(), subtype="PCM_16")
    path.write_bytes(path.read_bytes()[:22_000])
    assert decode(path).problems[0].startswith("truncated:")


def test_half_a_flac_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, (80_000, 1)), RATE)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(FormatError, match="cannot be decoded"):
        decode(path)


@pytest.mark.parametrize("kind", ["OGG", "MP3"])
def test_half_an_ogg_or_mp3_is_said(tmp_path: Path, kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.x"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, (200_000, 1)), RATE, format=kind)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    try:
        assert decode(path).problems[0].startswith("truncated:")
    except FormatError as e:
        assert "0 frames" in str(e) or "cannot be decoded" in str(e)
    assert capfd.readouterr().err == ""


def test_flac_bomb_is_refused_before_decoding(tmp_path: Path) -> None:
    """A header that promises 2^35 frames: refused by arithmetic."""
    path = tmp_path / "bomb.flac"
    soundfile.write(path, np.zeros((70_000, 1)), 44_100)
    data = bytearray(path.read_bytes())
    # STREAMINFO: 36 bits of total samples end at byte 26 of the file.
    data[21] |= 0x08
    path.write_bytes(data)
    with pytest.raises(FormatError, match="cut it into shorter files"):
        decode(path)


def test_budget_of_the_result(tmp_path: Path) -> None:
    path = wav(tmp_path / "a.wav", tone(4.0))
    assert decode(path, memory_bytes=4 * RATE * 4).samples.size == 4 * RATE
    with pytest.raises(FormatError, match="budget"):
        decode(path, memory_bytes=4 * RATE * 4 - 1)
    assert decode(path, duration_s=1.0, memory_bytes=RATE * 4).samples.size == RATE


@pytest.mark.parametrize("content", [b"", b"RIFF", b"text that is no sound", bytes(5_000), b"RIFF\0\0\0\0WAVEfmt "])
def test_no_sound_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    with pytest.raises(FormatError) as e:
        decode(path)
    assert str(path) in str(e.value) and "\n" not in str(e.value)


def test_an_empty_wav_has_no_frames(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="0 frames"):
        decode(wav(tmp_path / "a.wav", np.empty((0, 1), np.float32)))


def test_links_are_refused(tmp_path: Path) -> None:
    wav(tmp_path / "a.wav", tone())
    (tmp_path / "b.wav").symlink_to(tmp_path / "a.wav")
    with pytest.raises((OSError, FormatError)):
        decode(tmp_path / "b.wav")
