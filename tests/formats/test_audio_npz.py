"""Our feature archive: same bytes, full round trip, any flipped bit found; and other people's archives, bent as they come."""

from __future__ import annotations

import io
import json
import random
import struct
import time
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mutator import flip_at, mutants

from formats import audio_npz
from formats.audio_npz import AUDIO_NPZ, check, decode, encode
from formats.errors import FormatError
from formats.foreign.features_npz import FeatureArchive, npz_facts, read_features, sniff_npz
from formats.foreign.source import Source
from formats.npz_guard import MAX_MEMBERS, member_names, npz_keys, read_npz

MADE = {"command": "test", "seed": None}


def arrays(frames: int = 60) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    beats = np.arange(0.1, frames * 512 / 22_050, 0.5)
    return {
        "sr": 22_050, "hop": 512, "n_fft": 2_048, "duration_us": frames * 23_220,
        "mel": rng.random((128, frames), np.float32), "chroma": rng.random((12, frames), np.float32),
        "mfcc": rng.normal(size=(20, frames)).astype(np.float32), "onset": rng.random(frames, np.float32),
        "rms": rng.random(frames, np.float32), "centroid": np.where(np.arange(frames) == 3, np.nan, 900.0),
        "tempo": 120.0, "tempo_residual": 0.002, "tempo_stable": True,
        "tempo_candidates": np.array([[60, 0.2], [80, 0.0], [120, 0.5], [160, 0.0], [180, 0.1], [240, 0.2]]),
        "beat_times": beats, "beat_frames": np.rint(beats * 43.066).astype(np.int32), "beat_latency_us": -2_222,
    }  # fmt: skip


def npz(compressed: bool = False, **members: Any) -> bytes:
    out = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(out, **members)
    return out.getvalue()


def source(tmp_path: Path, data: bytes, name: str = "f.npz") -> Source:
    (tmp_path / name).write_bytes(data)
    return Source.of(tmp_path / name)


def read(tmp_path: Path, **members: Any) -> FeatureArchive:
    return read_features(source(tmp_path, npz(**members)))


def test_round_trip_and_the_same_bytes() -> None:
    data = encode(arrays(), MADE)
    found, provenance = decode(data)
    assert provenance == MADE and tuple(found) == AUDIO_NPZ.names
    for name, value in arrays().items():
        assert np.array_equal(
            found[name], np.asarray(value, found[name].dtype), equal_nan=found[name].dtype.kind == "f"
        )
    assert encode(found, provenance) == data == encode(arrays(), dict(reversed(MADE.items())))


def test_numpy_opens_it() -> None:
    with np.load(io.BytesIO(encode(arrays(), MADE)), allow_pickle=False) as z:
        assert z["mel"].shape == (128, 60) and z["mel"].dtype == np.float32
        assert float(z["tempo"]) == 120.0
        assert json.loads(z["__choreo__.json"].tobytes()) == MADE


def test_memory_layout_does_not_reach_the_file() -> None:
    a = arrays()
    b = {k: np.asfortranarray(v) if isinstance(v, np.ndarray) else v for k, v in a.items()}
    assert encode(a, MADE) == encode(b, MADE)


def test_a_recording_without_a_tempo() -> None:
    a = arrays() | {"tempo": np.nan, "tempo_residual": np.nan, "tempo_stable": False, "beat_times": np.empty(0)}
    a |= {"tempo_candidates": np.empty((0, 2)), "beat_frames": np.empty(0, np.int32)}
    found, _ = decode(encode(a, MADE))
    assert np.isnan(found["tempo"]) and found["beat_times"].shape == (0,)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"mel": np.ones((127, 60))}, "mel"),
        ({"mel": np.ones((128, 59))}, "chroma"),
        ({"mel": -np.ones((128, 60))}, "mel"),
        ({"chroma": np.full((12, 60), 1.5)}, "chroma"),
        ({"onset": np.full(60, np.nan)}, "onset"),
        ({"centroid": np.full(60, np.inf)}, "centroid"),
        ({"tempo": np.ones(3)}, "tempo"),
        ({"beat_times": np.array([0.2, 0.1])}, "beat_times"),
        ({"sr": 0}, "sr"),
        ({"extra": 1}, "extra"),
    ],
    ids=lambda v: next(iter(v)) if isinstance(v, dict) else v,
)
def test_what_breaks_the_table_is_named(change: dict[str, Any], field: str) -> None:
    changed = arrays() | change
    if field == "beat_times":
        changed["beat_frames"] = np.zeros(2, np.int32)
    with pytest.raises(FormatError) as e:
        check(changed, file="f.npz")
    assert e.value.field == field and str(e.value.file) == "f.npz"


def test_a_missing_key_is_named() -> None:
    short = arrays()
    del short["onset"]
    with pytest.raises(FormatError, match="missing"):
        check(short)


@pytest.mark.parametrize("seed", [0])
def test_every_flipped_bit_is_found(seed: int, tmp_path: Path) -> None:
    data = encode(arrays(8), MADE)
    rng = random.Random(seed)
    bits = sorted(
        {rng.randrange(len(data) * 8) for _ in range(1_500)} | set(range((len(data) - 400) * 8, len(data) * 8, 3))
    )
    for bit in bits:
        with pytest.raises(FormatError):
            decode(flip_at(data, bit))
    for bit in rng.sample(bits, 100):
        with pytest.raises(FormatError):
            read_features(source(tmp_path, flip_at(data, bit)))


def test_cuts_of_ours_are_found(tmp_path: Path) -> None:
    data = encode(arrays(8), MADE)
    for n in range(0, len(data), 97):
        with pytest.raises(FormatError):
            decode(data[:n])
        with pytest.raises(FormatError):
            read_features(source(tmp_path, data[:n]))


def refused_or_read(tmp_path: Path, data: bytes) -> bool:
    """Read whatever this is; only a FormatError may come out, soon."""
    s = source(tmp_path, data)
    start = time.process_time()
    try:
        facts = npz_facts(s)
        if facts.kind == "features":
            read_features(s)
        return False
    except FormatError as e:
        assert "\n" not in str(e) and len(str(e)) < 500
        return True
    finally:
        assert time.process_time() - start < 0.5


@pytest.mark.parametrize(("n", "seed"), [(400, 1), pytest.param(6_000, 2, marks=pytest.mark.slow)])
def test_mutants_of_foreign_archives(n: int, seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    members: dict[str, Any] = {
        "mel": rng.random((128, 30), np.float32), "beat_frames": np.arange(0, 30, 7), "bpm": 120.0,
        "onset_env": rng.random(30), "sr": 22_050, "hop_length": 512,
    }  # fmt: skip
    refused = 0
    for compressed in (False, True):
        for _, bent in mutants(npz(compressed, **members), n // 2, seed):
            refused += refused_or_read(tmp_path, bent)
    assert refused > n // 3  # the CRC of the zip finds most


def peak_bytes(tmp_path: Path, data: bytes) -> int:
    s = source(tmp_path, data)
    tracemalloc.start()
    try:
        with pytest.raises(FormatError):
            read_features(s)
        with pytest.raises(FormatError):
            npz_facts(s)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_bombs_are_refused_before_they_open(tmp_path: Path) -> None:
    zeros = npz(True, mel=np.zeros((128, 60_000), np.float32))  # 31 MB in 31 kB
    assert peak_bytes(tmp_path, zeros) < 16 * 2**20
    many = npz(False, mel=np.ones((2, 2)), **{f"k{i}": 0 for i in range(MAX_MEMBERS)})
    assert peak_bytes(tmp_path, many) < 64 * 2**20


def with_header(header: bytes, body: bytes = b"\0" * 64) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        z.writestr("mel.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + body)
    return out.getvalue()


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '<f8', 'fortran_order': False, 'shape': (1099511627776,), }",
        b"{'descr': '<f8', 'fortran_order': False, 'shape': (-8,), }",
        b"{'descr': '<f8', 'fortran_order': False, 'shape': (True, 8), }",
        b"{'descr': '|O', 'fortran_order': False, 'shape': (8,), }",
        b"{'descr': '<f8', 'fortran_order': 7, 'shape': (8,), }",
        b"{'descr': '<f8', 'shape': (8,), }",
        b"{'descr': [('a', '|O')], 'fortran_order': False, 'shape': (8,), }",
        b"[" * 3_000,
        b"__import__('os').system('true')",
        b"{'descr': '<f8', 'fortran_order': False, 'shape': (" + b"9" * 3_000 + b",), }",
        b"\xff\xfe\x00",
        b"",
    ],
)
def test_array_headers_that_lie(tmp_path: Path, header: bytes) -> None:
    assert refused_or_read(tmp_path, with_header(header))


def test_pickles_are_never_opened(tmp_path: Path) -> None:
    data = npz(mel=np.ones((128, 4)), beats=np.array([{"a": 1}], dtype=object))
    with pytest.raises(FormatError, match="Python objects"):
        read_features(source(tmp_path, data))


def test_duplicate_and_odd_members() -> None:
    out = io.BytesIO(npz(mel=np.ones((2, 2))))
    with zipfile.ZipFile(out, "a") as z, pytest.warns(UserWarning, match="Duplicate"):
        z.writestr("mel.npy", b"x")
    with pytest.raises(FormatError, match="two members"):
        read_npz(out.getvalue())
    bz = io.BytesIO()
    with zipfile.ZipFile(bz, "w", zipfile.ZIP_BZIP2) as z:
        z.writestr("mel.npy", b"x")
    with pytest.raises(FormatError, match="compressed"):
        npz_keys(bz.getvalue())
    empty = io.BytesIO()
    zipfile.ZipFile(empty, "w").close()
    with pytest.raises(FormatError, match="without arrays"):
        npz_keys(empty.getvalue())


def test_fortran_order_and_types(tmp_path: Path) -> None:
    a = np.asfortranarray(np.arange(12.0).reshape(3, 4))
    data = npz(a=a, b=np.float16(2.5), c=np.arange(3, dtype=">i4"), d=np.empty((0, 5)))
    found = read_npz(data, want=lambda k: k != "b")
    assert np.array_equal(found["a"], a) and found["c"].tolist() == [0, 1, 2] and found["d"].shape == (0, 5)
    assert "b" not in found and npz_keys(data) == ("a", "b", "c", "d")


# What people's scripts write


def test_a_plain_librosa_script(tmp_path: Path) -> None:
    mel = np.random.default_rng(0).random((128, 400), np.float32)
    a = read(tmp_path, mel=mel, bpm=np.float64(123.0), beat_frames=np.arange(0, 400, 21), onset=mel[0], chroma=mel[:12],
             sr=22_050, hop=512)  # fmt: skip
    assert np.array_equal(a.mel, mel) and a.tempo_bpm == 123.0 and a.n_frames == 400 and not a.ours
    assert a.beats_s is not None and a.beats_s[1] == pytest.approx(21 * 512 / 22_050)
    assert a.assumptions == () and a.problems == ()
    assert a.duration_us == pytest.approx(400 * 512 / 22_050 * 1e6, abs=1)


def test_defaults_are_assumptions(tmp_path: Path) -> None:
    a = read(tmp_path, mel_spectrogram=np.ones((128, 50)))
    assert (a.sr, a.hop) == (22_050, 512)
    assert a.assumptions == ("sr is not in the file: 22050 taken", "hop is not in the file: 512 taken")


@pytest.mark.parametrize("key", ["mel", "Mel", "mel_spectrogram", "melspec", "MEL_SPEC"])
def test_frames_first_is_turned(tmp_path: Path, key: str) -> None:
    mel = np.random.default_rng(0).random((300, 128))
    a = read(tmp_path, **{key: mel}, onset_strength=np.ones(300), sample_rate=22_050, hop_length=512)
    assert a.mel is not None and a.mel.shape == (128, 300) and np.allclose(a.mel, mel.T)
    assert a.assumptions[-1] == f"mel has shape {mel.shape}: frames first"


def test_orientation_of_a_square_is_librosas(tmp_path: Path) -> None:
    mel = np.arange(128 * 128, dtype=np.float32).reshape(128, 128)
    assert np.array_equal(read(tmp_path, mel=mel, sr=22_050, hop=512).mel, mel)


def test_decibels_logs_and_power(tmp_path: Path) -> None:
    power = np.random.default_rng(0).random((64, 90)).astype(np.float64) ** 4 + 1e-9
    db = 10 * np.log10(power)
    kept = read(tmp_path, mel=power).mel
    assert np.allclose(kept, power, rtol=1e-5)
    a = read(tmp_path, mel=db - db.max())
    assert a.mel_relative and np.allclose(a.mel, power / power.max(), rtol=1e-3)
    assert "dB over its own maximum" in a.assumptions[-1]
    b = read(tmp_path, log_mel=db - 3.0)
    assert not b.mel_relative and np.allclose(b.mel, power / 10**0.3, rtol=1e-3)
    c = read(tmp_path, log_mel=np.log(power + 1e-6))
    assert np.allclose(c.mel, power + 1e-6, rtol=1e-3) and "natural log" in c.assumptions[-1]
    d = read(tmp_path, log_mel=np.log1p(power))
    assert np.allclose(d.mel, power, atol=1e-6) and "log(1 + power)" in d.assumptions[-1]


@pytest.mark.parametrize(
    ("value", "expected"),
    [(120, 120.0), (np.array(120.5), 120.5), (np.array([98.0]), 98.0), (np.array([90.0, 100.0, 110.0]), 100.0)],
)
def test_tempo_of_any_shape(tmp_path: Path, value: object, expected: float) -> None:
    assert read(tmp_path, tempo=value).tempo_bpm == expected


@pytest.mark.parametrize("value", [0.0, np.nan, np.array([0.0]), np.empty(0)])
def test_no_tempo_is_none_and_said(tmp_path: Path, value: object) -> None:
    a = read(tmp_path, tempo=value)
    assert a.tempo_bpm is None and a.problems[0].startswith("no_tempo:")


def test_beats_by_frames_or_seconds(tmp_path: Path) -> None:
    frames, seconds = np.array([10, 31, 52]), np.array([0.5, 1.0, 1.5])
    hop = 512 / 22_050
    assert np.allclose(read(tmp_path, beats=frames, sr=22_050, hop=512).beats_s, frames * hop)
    a = read(tmp_path, beats=seconds, sr=22_050, hop=512)
    assert np.allclose(a.beats_s, seconds) and a.assumptions == ("beats are float64: taken as seconds",)
    assert np.allclose(read(tmp_path, beat_times=seconds, beat_frames=frames).beats_s, seconds)
    b = read(tmp_path, beat_times=np.array([1.0, 0.5, 0.5, np.nan]))
    assert np.allclose(b.beats_s, [0.5, 1.0]) and b.problems[0].startswith("beats_repaired: 4 beats")


def test_values_that_are_not_finite_are_counted(tmp_path: Path) -> None:
    mel = np.ones((128, 20), np.float32)
    mel[3, 4:6] = np.nan
    a = read(tmp_path, mel=mel)
    assert a.problems == ("not_finite: mel has 2 values that are not finite",) and np.isnan(a.mel).sum() == 2


def test_rows_of_one(tmp_path: Path) -> None:
    a = read(tmp_path, rms=np.ones((1, 33)), spectral_centroid=np.full((1, 33), 900.0), bpm=100)
    assert a.rms is not None and a.rms.shape == (33,) and a.centroid is not None and a.n_frames == 33


def test_facts(tmp_path: Path) -> None:
    facts = npz_facts(source(tmp_path, encode(arrays(), MADE)))
    assert (facts.kind, facts.n, facts.rate, facts.duration_us) == ("features", 60, (22_050, 512), 60 * 23_220)
    assert facts.meta["ours"] is True and facts.meta["tempo_bpm"] == 120.0 and facts.reason is None
    other = npz_facts(source(tmp_path, npz(weights=np.ones(3), bias=np.ones(1))))
    assert other.kind == "other" and other.reason is not None and "bias, weights" in other.reason


def test_sniffing() -> None:
    ours, foreign = encode(arrays(), MADE), npz(mel=np.ones((128, 9)), bpm=1.0)
    assert sniff_npz(ours[:4096], "x", len(ours)) and sniff_npz(foreign[:4096], "x.bin", len(foreign))
    body = npz(poses=np.ones((9, 72)), trans=np.ones((9, 3)), mocap_framerate=60)
    assert not sniff_npz(body[:4096], "walk.npz", len(body))
    assert sniff_npz(npz(zz=np.ones(3))[:4096], "a.npz", 300) and not sniff_npz(npz(zz=np.ones(3))[:4096], "a.zip", 300)
    assert not sniff_npz(b"RIFF" + bytes(40), "a.npz", 44) and not sniff_npz(b"", "a.npz", 0)
    assert member_names(foreign[:4096])[0] == "mel.npy"
    rng = random.Random(0)
    for _, bent in mutants(foreign[:4096], 200, 5):
        sniff_npz(bent[:4096], "a.npz", rng.randrange(10**9))


def test_writing_is_whole(tmp_path: Path) -> None:
    digest = audio_npz.write(tmp_path / "a.npz", arrays(), MADE)
    assert len(digest) == 64 and [p.name for p in tmp_path.iterdir()] == ["a.npz"]
    with pytest.raises(FormatError):
        audio_npz.write(tmp_path / "b.npz", {}, MADE)
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"]
