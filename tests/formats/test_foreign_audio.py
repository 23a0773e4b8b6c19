"""Sound files and videos: recognised by content, described from their headers, damage survived."""

from __future__ import annotations

import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soundfile
from mutator import mutants
from numpy.typing import NDArray

from formats.errors import FormatError
from formats.foreign.audio import READERS
from formats.foreign.containers import video_times
from formats.foreign.model import KINDS, Facts
from formats.foreign.registry import Reader
from formats.foreign.sound import libsndfile_format, open_sound, silent_stderr
from formats.foreign.sound_headers import mp3_frame
from formats.foreign.source import Source

SNDFILE = {"wav": ("WAV", None), "aiff": ("AIFF", None), "flac": ("FLAC", None), "ogg": ("OGG", "VORBIS"),
           "opus": ("OGG", "OPUS"), "mp3": ("MP3", None)}  # fmt: skip
CREATED = "2026-04-08T02:02:29.500000Z"
CREATED_US = 1_775_613_749_500_000


def who(source: Source) -> Reader | None:
    ordered = sorted(READERS, key=lambda r: r.order)
    return next((r for r in ordered if r.sniff(source.head, source.name, source.size)), None)


def sound(path: Path, kind: str, seconds: float = 0.6, rate: int = 48_000) -> Path:
    major, subtype = SNDFILE[kind]
    y = 0.3 * np.random.default_rng(0).standard_normal((round(seconds * rate), 2))
    soundfile.write(path, y, rate, format=major, subtype=subtype)
    return path


def film(path: Path, fmt: str, *, sound: bool = True, pictures: bool = True, drop: tuple[int, ...] = ()) -> Path:
    """50 frames at 25 fps beside 2 s of sound."""
    av = pytest.importorskip("av", reason="videos need PyAV")
    with av.open(str(path), "w", format=fmt) as out:
        out.metadata["creation_time"] = CREATED
        out.metadata["title"] = "Take 3"
        streams = []
        if pictures:
            v = out.add_stream("libvpx" if fmt == "webm" else "mpeg4", rate=25)
            v.width, v.height, v.pix_fmt, v.time_base = 64, 48, "yuv420p", Fraction(1, 25)
            streams.append((v, pictures_of(av, drop)))
        if sound:
            a = out.add_stream("libopus" if fmt == "webm" else "aac", rate=48_000, layout="stereo")
            streams.append((a, sound_of(av)))
        for stream, frames in streams:
            for frame in frames:
                out.mux(stream.encode(frame))
            out.mux(stream.encode())
    return path


def pictures_of(av, drop: tuple[int, ...]):  # type: ignore[no-untyped-def]
    for i in range(50):
        if i not in drop:
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 5 * i, np.uint8), format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, 25)
            yield frame


def sound_of(av):  # type: ignore[no-untyped-def]
    y = (0.3 * np.sin(np.arange(96_000) * 0.05)).astype(np.float32)
    for at in range(0, y.size, 960):
        frame = av.AudioFrame.from_ndarray(np.stack([y[at : at + 960]] * 2), format="fltp", layout="stereo")
        frame.rate, frame.pts, frame.time_base = 48_000, at, Fraction(1, 48_000)
        yield frame


@pytest.mark.parametrize("kind", SNDFILE)
@pytest.mark.parametrize("name", ["track", "track.wav", "track.mp3"])
def test_sound_is_known_by_content(tmp_path: Path, kind: str, name: str) -> None:
    s = Source.of(sound(tmp_path / name, kind))
    reader = who(s)
    assert reader is not None and (reader.format, reader.kind) == (kind, "audio")
    facts = reader.facts(s)
    assert (facts.kind, facts.format, facts.rate, facts.channels) == ("audio", kind, (48_000, 1), 2)
    assert facts.duration_us == pytest.approx(600_000, abs=50_000) and facts.problems == () and facts.reason is None


def test_readers_are_well_formed() -> None:
    names = [r.format for r in READERS]
    assert len(set(names)) == len(names) and {r.kind for r in READERS} <= set(KINDS)
    assert {
        "wav",
        "flac",
        "mp3",
        "ogg",
        "opus",
        "m4a",
        "aac",
        "mp4",
        "mov",
        "avi",
        "mkv",
        "webm",
        "features-npz",
    } <= set(names)


@pytest.mark.parametrize(
    "head",
    [
        b"", b"\xff", b"\xff\xfb", "text".encode("utf-16"), b"\xff\xfe<\x00?\x00x\x00m\x00l\x00" * 20,
        b"\xff\xfb\x90\x00" + bytes(4000), b"\xff" * 4096, bytes(4096), b"PK\x03\x04" + bytes(100), b"RIFF\0\0\0\0WEBP",
        b"\0\0\0\x18ftypheic\0\0\0\0", b"\0\0\0\x1cftypavif", b"OggS" + bytes(60), b"{\"a\": 1}", b"MThd" + bytes(10),
    ],
)  # fmt: skip
def test_other_things_are_left_alone(head: bytes) -> None:
    assert [r.format for r in READERS if r.sniff(head, "file.bin", len(head))] == []


def test_sniffing_is_cheap() -> None:
    rng = np.random.default_rng(0)
    heads = [rng.bytes(4096) for _ in range(200)] + [b"\xff\xfb\x90\x00" + rng.bytes(4092)] * 50
    start = time.process_time()
    for head in heads * 8:
        for r in READERS:
            r.sniff(head, "file.bin", 10_000)
    assert (time.process_time() - start) / (len(heads) * 8) < 200e-6


def test_mp3_frame_headers() -> None:
    assert mp3_frame(b"\xff\xfb\x90\x00") == (417, 44_100, 1152)  # 128 kbit/s at 44.1 kHz
    assert mp3_frame(b"\xff\xfb\x92\x00") == (418, 44_100, 1152)  # with padding
    assert mp3_frame(b"\xff\xf3\x80\x00") == (208, 22_050, 576)  # MPEG 2, 64 kbit/s
    for bad in (b"\xff\xfb\xf0\x00", b"\xff\xfb\x9c\x00", b"\xff\xeb\x90\x00", b"\xff\xfd\x90\x00", b"\xff"):
        assert mp3_frame(bad) is None


def test_tags_become_the_title(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    with soundfile.SoundFile(path, "w", 22_050, 1) as f:
        f.title, f.artist = "Night Bus", "Nobody"
        f.write(np.zeros(5_000) + 0.1)
    s = Source.of(path)
    assert who(s).facts(s).meta == {"title": "Night Bus", "artist": "Nobody"}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("fmt", "name"), [("mp4", "a.mp4"), ("mov", "a.bin"), ("avi", "a.bin"), ("matroska", "a.bin"), ("webm", "a.bin")]
)
def test_videos(tmp_path: Path, fmt: str, name: str) -> None:
    s = Source.of(film(tmp_path / name, fmt))
    reader = who(s)
    expected = {"matroska": "mkv"}.get(fmt, fmt)
    assert reader is not None and (reader.format, reader.kind) == (expected, "video")
    facts = reader.facts(s)
    assert (facts.kind, facts.n, facts.rate) == ("video", 50, (25, 1)) and facts.reason is None
    assert facts.duration_us == pytest.approx(2_000_000, abs=60_000)
    assert facts.meta["sound"] is True and (facts.meta["width"], facts.meta["height"]) == (64, 48)
    if fmt != "avi":  # which has no such tag
        assert (facts.clock.t0_utc_us, facts.clock.source) in (
            (CREATED_US, "container"),
            (CREATED_US - 500_000, "container"),
        )
        assert not facts.clock.naive and facts.clock.sigma_us == 1_000_000
    times = reader.read(s)  # type: ignore[misc]
    assert isinstance(times, np.ndarray) and times.dtype == np.int64
    # An AVI holds an empty packet after the first frame of a delayed encoder: its stamps start 0, 80, 120 ms.
    assert times.size == 50 and np.array_equal(np.diff(times)[1:], np.full(48, 40_000))
    assert times[1] - times[0] == (80_000 if fmt == "avi" else 40_000)


def test_a_silent_video(tmp_path: Path) -> None:
    s = Source.of(film(tmp_path / "a.mp4", "mp4", sound=False))
    assert who(s).facts(s).meta["sound"] is False  # type: ignore[union-attr]
    with pytest.raises(FormatError, match="no sound"):
        open_sound(s)


def test_missing_frames_are_seen_in_the_times(tmp_path: Path) -> None:
    s = Source.of(film(tmp_path / "a.mkv", "matroska", drop=(1, 20, 21)))
    facts = who(s).facts(s)  # type: ignore[union-attr]
    assert facts.n == 47
    assert facts.problems[0] == "uneven_frames: 2 steps longer than 1.5 frames, the first of 0.080 s at 0.000 s"
    assert video_times(s)[:3].tolist() == [0, 80_000, 120_000]


@pytest.mark.parametrize(
    ("fmt", "name", "kind"), [("ipod", "a.m4a", "m4a"), ("mp4", "a.m4a", "m4a"), ("adts", "a", "aac")]
)
def test_aac(tmp_path: Path, fmt: str, name: str, kind: str) -> None:
    s = Source.of(film(tmp_path / name, fmt, pictures=False))
    reader = who(s)
    assert reader is not None and (reader.format, reader.kind) == (kind, "audio")
    facts = reader.facts(s)
    assert (facts.kind, facts.rate, facts.channels) == ("audio", (48_000, 1), 2)
    with reader.read(s) as found:  # type: ignore[misc, union-attr, attr-defined]
        blocks = list(found.blocks(0, None, 4_096))
    y: NDArray[np.float32] = np.concatenate(blocks)
    assert y.shape[1] == 2 and abs(len(y) - 96_000) < 4_096
    assert np.abs(y[20_000:70_000]).max() == pytest.approx(0.3, abs=0.05)


def test_an_mp4_without_pictures_is_sound(tmp_path: Path) -> None:
    s = Source.of(film(tmp_path / "a.mp4", "mp4", pictures=False))
    facts = who(s).facts(s)  # type: ignore[union-attr]
    assert facts.kind == "audio" and facts.format == "mp4"


def test_stretches_of_a_sound_track(tmp_path: Path) -> None:
    s = Source.of(film(tmp_path / "a.mp4", "mp4"))
    with open_sound(s) as whole:
        y = np.concatenate(list(whole.blocks(0, None, 10_000)))
    with open_sound(s) as part:
        z = np.concatenate(list(part.blocks(30_001, 5_555, 1_000)))
    assert np.array_equal(z, y[30_001 : 30_001 + 5_555])


def test_without_the_extra_one_line_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = {
        k: film(tmp_path / n, f, pictures=k == "video")
        for k, n, f in (("video", "a.mp4", "mp4"), ("audio", "a.m4a", "ipod"))
    }
    for module in ("av", "av.logging"):
        monkeypatch.setitem(sys.modules, module, None)
    for kind, path in paths.items():
        s = Source.of(path)
        facts: Facts = who(s).facts(s)  # type: ignore[union-attr]
        assert facts.kind == kind and facts.reason == f"{facts.format} needs the extra: pip install 'choreo[video]'"
    from choreo_cli.audio.decode import decode
    from choreo_cli.errors import UnavailableError

    with pytest.raises(UnavailableError, match=r"pip install 'choreo\[video\]'"):
        decode(paths["audio"])


def examine(source: Source) -> str:
    """Facts and the whole sound of whatever this is."""
    reader = who(source)
    if reader is None:
        return "unknown"
    try:
        reader.facts(source)
        if reader.format == "features-npz":
            return "other"
        with open_sound(source) as s:
            for _ in s.blocks(0, None, 65_536):
                pass
        if reader.kind == "video":
            reader.read(source)  # type: ignore[misc]
        return "read"
    except FormatError as e:
        assert "\n" not in str(e) and str(source.path) in str(e)
        return "refused"


@pytest.mark.parametrize("n", [60, pytest.param(1_500, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", [*SNDFILE, "m4a", "mp4", "avi", "matroska"])
def test_mutants(tmp_path: Path, kind: str, n: int, capfd: pytest.CaptureFixture[str]) -> None:
    made = tmp_path / "whole"
    if kind in SNDFILE:
        sound(made, kind, 0.3, 24_000)
    else:
        film(made, {"m4a": "ipod"}.get(kind, kind), pictures=kind != "m4a")
    seen: dict[str, int] = {}
    for i, (_, bent) in enumerate(mutants(made.read_bytes(), n, 7)):
        path = tmp_path / f"m{i}"
        path.write_bytes(bent)
        start = time.process_time()
        verdict = examine(Source.of(path))
        assert time.process_time() - start < 2.0, i
        seen[verdict] = seen.get(verdict, 0) + 1
        path.unlink()
    assert sum(seen.values()) >= n and set(seen) <= {"unknown", "read", "refused", "other"}
    assert capfd.readouterr().err == ""


def test_silence_of_the_decoder_ends(capfd: pytest.CaptureFixture[str]) -> None:
    import os

    with silent_stderr():
        os.write(2, b"lost")
        with silent_stderr():
            os.write(2, b"lost")
        os.write(2, b"lost")
    os.write(2, b"seen")
    assert capfd.readouterr().err == "seen"


def test_shared_recordings(shared: Path) -> None:
    found = {}
    for path in sorted((shared / "data").rglob("*")):
        if path.suffix in (".wav", ".ogg", ".mp3", ".avi"):
            s = Source.of(path)
            reader = who(s)
            assert reader is not None, path
            found[path.name] = reader.facts(s)
    assert found["sample.wav"].duration_us == pytest.approx(2_800_000, abs=30)
    assert found["GoinUnder.ogg"].meta["title"] == "Goin' Under"
    assert found["dancer_audio.mp3"].duration_us == pytest.approx(62_890_000, abs=20_000)
    film_facts = found["dancer.avi"]
    assert (film_facts.kind, film_facts.n, film_facts.rate, film_facts.meta["sound"]) == ("video", 1571, (25, 1), True)
    assert film_facts.problems[0] == "missing_frames: 1572 frames declared, 1571 present"
    assert "the first of 0.080 s at 0.000 s" in film_facts.problems[1]
    times = video_times(Source.of(shared / "data/pairs/mgt_dancer/dancer.avi"))
    assert times.size == 1571 and times[:3].tolist() == [0, 80_000, 120_000] and libsndfile_format(b"") is None
