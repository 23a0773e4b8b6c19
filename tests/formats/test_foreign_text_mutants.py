"""Damaged text, XML, MIDI and JSON: every mutant is read or refused in our own words, quickly and in little memory."""

from __future__ import annotations

import json
import plistlib
import time
import tracemalloc
from pathlib import Path

import pytest
from mutator import mutants

from formats.errors import FormatError
from formats.foreign import (
    apple_health,
    beat_text,
    cue,
    empatica,
    garmin,
    heart_csv,
    midi_tempo,
    plain,
    playlist_xml,
    playlists,
    session_meta,
    stepmania,
)
from formats.foreign.model import Facts
from formats.foreign.source import Source

MODULES = (
    apple_health, beat_text, cue, empatica, garmin, heart_csv, midi_tempo, plain, playlist_xml, playlists, session_meta, stepmania,
)  # fmt: skip
READERS = {r.format: r for m in MODULES for r in m.READERS}


def midi() -> bytes:
    import io

    import mido

    file = mido.MidiFile(ticks_per_beat=96)
    track = mido.MidiTrack()
    file.tracks.append(track)
    track.append(mido.MetaMessage("set_tempo", tempo=434_783))
    track.append(mido.MetaMessage("time_signature", numerator=3, denominator=4))
    track.append(mido.MetaMessage("key_signature", key="C"))
    track.append(mido.MetaMessage("track_name", name="x"))
    track.append(mido.Message("sysex", data=(1, 2, 3)))
    for i in range(40):
        track.append(mido.Message("note_on", note=36 + i, velocity=60, time=48))
    out = io.BytesIO()
    file.save(file=out)
    return out.getvalue()


def seeds() -> dict[str, bytes]:
    """One small whole file of every format."""
    iso = [f"2026-04-08T04:02:{i:02d}.250+02:00" for i in range(40)]
    chart = "#VERSION:0.83;\n#TITLE:T;\n#MUSIC:a.ogg;\n#OFFSET:-0.25;\n#BPMS:0=120,\n8=150;\n#STOPS:4=0.5;\n#DELAYS:6=.1;\n#WARPS:9=1;\n"
    chart += "#NOTEDATA:;\n#STEPSTYPE:dance-single;\n#NOTES:\n" + "1000\n0101\n,\n" * 20 + ";\n"
    dtd = "<!DOCTYPE HealthData [<!ELEMENT HealthData ANY><!ATTLIST Record value CDATA #IMPLIED>]>"
    records = "".join(
        f'<Record type="HKQuantityTypeIdentifierHeartRate" unit="count/min" startDate="2026-04-08 02:02:{i:02d} +0000" value="{70 + i}"/>'
        for i in range(40)
    )
    tracks = [
        {"title": f"T{i}", "file": f"{i:02d}.mp3", "duration": 200 + i, "start": 200 * i, "index": i} for i in range(8)
    ]
    box = "".join(
        f'<TRACK TrackID="{i}" Name="T{i}" TotalTime="{200 + i}" Location="file://localhost/a/{i}.mp3"/>'
        for i in range(8)
    )
    lists = '<NODE Type="0" Name="ROOT"><NODE Type="1" Name="Mix" KeyType="0"><TRACK Key="1"/><TRACK Key="2"/></NODE></NODE>'
    cue_tracks = "".join(f'TRACK {i:02d} AUDIO\nTITLE "T{i}"\nINDEX 01 {3 * i:02d}:00:{i:02d}\n' for i in range(1, 9))
    apple = {
        "Major Version": 1,
        "Tracks": {str(i): {"Track ID": i, "Name": f"T{i}", "Total Time": 1000 * i} for i in range(8)},
    }
    session = {
        "session": "a",
        "track": {"title": "T", "index": 1},
        "devices": ["x", {"name": "y"}],
        "started_at": iso[0],
        "performer": "p",
    }
    return {
        k: v.encode() if isinstance(v, str) else v
        for k, v in {
            "e4": "1560279825.00, 1560279825.00, 1560279825.00\n32.00, 32.00, 32.00\n" + "-61,25,6\n" * 60,
            "e4-ibi": "1560279825.00, IBI\n" + "".join(f"{i}.5,0.8{i}\n" for i in range(60)),
            "e4-tags": "1560279825.00\n1560279925.00\n",
            "garmin-events": "".join(f"{t};HEART_RATE;7{i % 10}.0\n{t};HEART_RATE_VARIABILITY;8{i:02d}.0\n" for i, t in enumerate(iso)),
            "garmin-acc": "".join(f"{t};-36;{600 + i};-824\n" for i, t in enumerate(iso)),
            "heart-csv": "t_unix_s,hr,rr\n" + "".join(f"{1_775_613_749 + i // 2}.5,{70 + i},812 8{i:02d}\n" for i in range(40)),
            "heart-json": "".join(json.dumps({"t": 1_775_613_749 + i // 3, "hr": 70 + i, "rr": [800 + i]}) + "\n" for i in range(40)),
            "apple-health": f'<?xml version="1.0"?>{dtd}<HealthData>{records}</HealthData>',
            "beat-text": "# beats\n" + "".join(f"{0.5 * i + 0.1:.4f}\t{i % 4 + 1}\n" for i in range(60)),
            "onset-text": "# onsets\n" + "".join(f"{0.25 * i + 0.1:.4f}\n" for i in range(60)),
            "tempo-text": "# tempo\n87.5 175\t0.7\n",
            "brace-beats": json.dumps({f"v.{i}": {"bpm": 120.0, "beats_sec": [0.5 * k for k in range(20)]} for i in range(1)}),
            "stepmania": chart, "midi": midi(), "cue": f'TITLE "S"\nFILE "a.wav" WAVE\n{cue_tracks}',
            "m3u": "#EXTM3U\n" + "".join(f"#EXTINF:{200 + i},T{i}\n{i:02d}.mp3\n" for i in range(8)),
            "playlist-json": json.dumps({"name": "Mix", "tracks": tracks}),
            "rekordbox-xml": f'<?xml version="1.0"?><DJ_PLAYLISTS><COLLECTION>{box}</COLLECTION><PLAYLISTS>{lists}</PLAYLISTS></DJ_PLAYLISTS>',
            "apple-music-xml": plistlib.dumps({**apple, "Playlists": [{"Name": "M", "Playlist Items": [{"Track ID": 1}]}]}),
            "session-meta": json.dumps(session), "plain": "hello\n", "garmin-fit": b"\x0e\x10\xd9\x07\x00\x00\x00\x00.FIT\x00\x00",
        }.items()
    }  # fmt: skip


NAMES = {
    "e4": "ACC.csv", "e4-tags": "tags.csv", "beat-text": "a.beats", "onset-text": "a.onsets", "tempo-text": "a.tempo",
    "stepmania": "a.ssc", "cue": "a.cue", "session-meta": "meta.json", "e4-ibi": "IBI.csv",
}  # fmt: skip
SEEDS = seeds()


def survive(format: str, data: bytes, path: Path) -> str:
    """Sniff, facts and read; the outcome, and nothing but FormatError."""
    path.write_bytes(data)
    s = Source.of(path)
    reader = READERS[format]
    sniffed = reader.sniff(s.head, s.name, s.size)
    start = time.process_time()
    try:
        facts = reader.facts(s)
        assert isinstance(facts, Facts)
        json.dumps(facts.meta, allow_nan=False).encode("utf-8")
        assert facts.duration_us is None or 0 <= facts.duration_us < 2**62
        if reader.read is not None:
            reader.read(s)
        outcome = "read" if sniffed else "read unsniffed"
    except FormatError as e:
        text = str(e)
        assert "\n" not in text and str(path) in text and len(text) < 1000, text
        outcome = "refused"
    assert time.process_time() - start < 2.0
    return outcome


def test_there_is_a_seed_for_every_reader(tmp_path: Path) -> None:
    assert set(SEEDS) == set(READERS)
    for format, data in SEEDS.items():
        assert survive(format, data, tmp_path / NAMES.get(format, "a.txt")) == "read", format


@pytest.mark.parametrize("format", sorted(SEEDS))
def test_every_prefix(format: str, tmp_path: Path) -> None:
    data = SEEDS[format]
    step = max(1, len(data) // 150)
    outcomes = {survive(format, data[:n], tmp_path / NAMES.get(format, "a.txt")) for n in range(0, len(data), step)}
    assert outcomes


def campaign(format: str, n: int, folder: Path) -> None:
    tracemalloc.start()
    try:
        for what, mutant in mutants(SEEDS[format], n, 7, text=format != "midi"):
            try:
                survive(format, mutant, folder / NAMES.get(format, "a.txt"))
            except BaseException as e:
                raise AssertionError(f"{format} {what}: {type(e).__name__}: {e}") from e
        # Of this, 96 MiB are the read buffer of the largest text cap, reserved but never touched.
        assert tracemalloc.get_traced_memory()[1] < 112 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("format", sorted(SEEDS))
def test_mutants(format: str, tmp_path: Path) -> None:
    campaign(format, 100, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("format", sorted(SEEDS))
def test_many_mutants(format: str, tmp_path: Path) -> None:
    campaign(format, 5000, tmp_path)


HOSTILE: dict[str, bytes] = {
    "brackets": b"[" * 300_000, "braces": b'{"a":' * 300_000, "digits": b"9" * 300_000, "one line": b"1," * 200_000,
    "quotes": b'"' * 300_000, "tags": b"<a>" * 100_000, "nul": bytes(100_000), "spaces": b" " * 300_000,
    "laughs": b"<!DOCTYPE HealthData [" + b"".join(b'<!ENTITY l%d "%s">' % (i + 1, b"&l%d;" % i * 10) for i in range(12)) + b"]><HealthData>&l12;</HealthData>",
    "hashes": b"#" * 300_000, "newlines": b"\n" * 300_000, "high": b"\xff" * 100_000, "utf16": "1,2\n".encode("utf-16") * 1000,
    "numbers": b"1e308,1e308\n" * 1000, "json numbers": b'{"t": 1e400, "hr": 1e400}\n' * 100, "long cell": b"t,hr\n" + b"1" * 200_000 + b",2\n",
    "header": b"," * 200_000 + b"t,hr\n1,2\n", "deep json": b'{"tracks":' * 900 + b"1" + b"}" * 900,
}  # fmt: skip


@pytest.mark.parametrize("what", sorted(HOSTILE))
def test_hostile_content_in_every_reader(what: str, tmp_path: Path) -> None:
    for format in READERS:
        survive(format, HOSTILE[what], tmp_path / NAMES.get(format, "a.txt"))


def test_a_link_and_a_fifo_never_block(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("pipe", "link"):
        for format, reader in READERS.items():
            if reader.read is not None:
                with pytest.raises((FormatError, OSError)):
                    reader.read(Source(tmp_path / name, 10, SEEDS[format][:10]))
