"""Every file is listed: what claims what in the shared recordings, what is not a recording, what is never opened."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
from formats.foreign.registry import Reader
from formats.foreign.source import Source

MODULES = (
    apple_health, beat_text, cue, empatica, garmin, heart_csv, midi_tempo, playlist_xml, playlists, session_meta, stepmania,
)  # fmt: skip
CLAIMING = sorted((r for m in MODULES for r in m.READERS), key=lambda r: r.order)

# Which files of the shared set each of these readers claims; everything else is a colleague's or plain.
CLAIMS: dict[str, str] = {
    r"annotations/brace/audio_beats\.json": "brace-beats",
    r"audio/madmom/sample(\.beats|\.dbn_beat_tracker\.txt)": "beat-text",
    r"audio/madmom/sample\.onsets": "onset-text",
    r"audio/madmom/sample\.tempo(_detector\.txt)?": "tempo-text",
    r"audio/stepmania/GoinUnder\.ssc": "stepmania",
    r"beats/mir_eval/(est|ref)0[0-4]\.txt": "beat-text",
    r"midi/groove_.*\.mid": "midi",
    r"wearable/empatica_flirt/(ACC|BVP|EDA|HR|TEMP)\.csv": "e4",
    r"wearable/empatica_flirt/IBI\.csv": "e4-ibi",
    r"wearable/empatica_flirt/tags\.csv": "e4-tags",
}


def files(shared: Path) -> Iterator[tuple[str, Source]]:
    for path in sorted((shared / "data").rglob("*")):
        if path.is_file():
            yield path.relative_to(shared / "data").as_posix(), Source.of(path)


def claims(s: Source) -> list[Reader]:
    return [r for r in CLAIMING if r.sniff(s.head, s.name, s.size)]


def test_who_claims_what(shared: Path) -> None:
    seen: dict[str, int] = {}
    for name, s in files(shared):
        want = next((f for pattern, f in CLAIMS.items() if re.fullmatch(pattern, name)), None)
        assert [r.format for r in claims(s)] == ([want] if want else []), name
        seen[want or "-"] = seen.get(want or "-", 0) + 1
    assert seen == {
        "brace-beats": 1,
        "beat-text": 12,
        "onset-text": 1,
        "tempo-text": 2,
        "stepmania": 1,
        "midi": 1,
        "e4": 5,
        "e4-ibi": 1,
        "e4-tags": 1,
        "-": 164,
    }


def test_claims_hold_without_the_name(shared: Path) -> None:
    """Content decides: the same bytes under a neutral name of the same suffix are claimed alike."""
    for name, s in files(shared):
        want = [r.format for r in claims(s)]
        if want and "tags.csv" not in name:
            neutral = "x." + s.name.rpartition(".")[2]
            assert [r.format for r in CLAIMING if r.sniff(s.head, neutral, s.size)] == want, name


def test_notes_of_what_is_no_recording(shared: Path) -> None:
    want = {
        "DATA.md": "Markdown", "SHA256SUMS": "text", "licences/craffel+mir_eval.txt": "licence",
        "text/humanml3d_index.csv": "table", "text/humanml3d_test_ids.txt": "text", "text/momask_text_prompt.txt": "text",
        "annotations/brace/segments.csv": "table", "beats/mir_eval/output00.json": "JSON",
        "mocap/bvh/bandai_ds1_walk_tired_001.json": "JSON", "wearable/empatica_flirt/info.txt": "text",
    }  # fmt: skip
    for name, s in files(shared):
        if name in want:
            facts = plain.READERS[0].facts(s)
            assert facts.kind == "other" and facts.reason is None, name
            assert facts.meta["note"].startswith(want[name]), (name, facts.meta)


def test_sniffing_is_cheap(shared: Path) -> None:
    """Below 0.5 ms a file for all readers together on a busy core (measured 0.07 ms)."""
    found = [s for _, s in files(shared)]
    start = time.process_time()
    for s in found:
        claims(s)
    assert (time.process_time() - start) / len(found) < 5e-4


@pytest.mark.parametrize(
    ("name", "content", "format", "note", "usable"),
    [
        ("a.png", b"\x89PNG\r\n\x1a\n....", "plain", "PNG image", True),
        ("a.wav", b"\x89PNG\r\n\x1a\n....", "plain", "PNG image", False),
        ("a.zip", b"PK\x03\x04", "plain", "zip archive", True),
        ("a.npz", b"PK\x03\x04", "plain", "zip archive", False),
        ("a.pdf", b"%PDF-1.7", "plain", "PDF document", True),
        ("a.wav", b"", "empty", "empty file", False),
        ("a.json", b"", "empty", "empty file", False),
        ("a.txt", b"", "empty", "empty file", True),
        ("README", b"hello", "plain", "text", True),
        ("LICENSE", b"MIT License\n", "plain", "licence", True),
        ("a.html", b"<!DOCTYPE html><p>", "plain", "HTML page", True),
        ("a.py", b"import os\n", "plain", "source code", True),
        ("a.csv", b"x,y\n1,2\n", "plain", "table", True),
        ("a.json", b'{"a": 1}', "plain", "JSON with keys of no known recording", True),
        ("pairs.json", b'{"schema":"choreo.pairs/1"}', "plain", "choreo manifest", True),
        ("a.bvh", b"hello", "plain", "text", False),
        ("a.bin", b"\x00\x01\x02", "unknown", "unknown content", True),
        ("a.flac", b"\x00\x01\x02", "unknown", "unknown content", False),
        ("noise", bytes(range(256)), "unknown", "unknown content", True),
    ],
)
def test_classification(tmp_path: Path, name: str, content: bytes, format: str, note: str, usable: bool) -> None:
    (tmp_path / name).write_bytes(content)
    facts = plain.READERS[0].facts(Source.of(tmp_path / name))
    assert (facts.kind, facts.format, facts.reason is None) == ("other", format, usable), facts
    assert facts.meta["note"].startswith(note)


@pytest.mark.parametrize(
    ("name", "size", "blocks", "flags", "ignored"),
    [
        (".DS_Store", 6148, 16, 0, True), ("._poses.jsonl", 4096, 8, 0, True), ("__MACOSX", 4096, 8, 0, True),
        ("Thumbs.db", 9, 8, 0, True), ("desktop.ini", 9, 8, 0, True), (".git", 4096, 8, 0, True),
        (".take.mov.icloud", 200, 8, 0, True), ("take.mov", 900_000_000, 0, 0, True), ("take.mov", 900_000_000, 8, 0x40000000, True),
        ("a.mp4.crdownload", 9, 8, 0, True), (".x.json.12.deadbeef.tmp", 9, 8, 0, True),
        ("take.mov", 900_000_000, 1_757_813, 0, False), ("small.json", 300, 0, 0, False), ("empty.csv", 0, 0, 0, False),
        ("take.mov", 900_000_000, -1, 0, False), (".choreoignore", 20, 8, 0, False), ("git", 4096, 8, 0, False),
        (".bvh", 900, 8, 0, False), ("DS_Store.json", 9, 8, 0, False),
    ],
)  # fmt: skip
def test_what_is_never_opened(name: str, size: int, blocks: int, flags: int, ignored: bool) -> None:
    reason = plain.ignored(name, size, blocks, flags)
    assert (reason is not None) is ignored, reason


@given(st.binary(max_size=200), st.text(min_size=1, max_size=40), st.integers(0, 10**9))
def test_any_content_under_any_name_gets_an_answer(head: bytes, name: str, size: int) -> None:
    format, note, _ = plain.classify(head, name, max(size, len(head)))
    assert format in ("plain", "unknown", "empty") and note
    plain.ignored(name, size, 8)
    for reader in CLAIMING:
        assert reader.sniff(head, name, size) in (True, False)


def test_formats_are_unique_and_kinds_known() -> None:
    from formats.foreign.model import KINDS

    names = [r.format for r in (*CLAIMING, *plain.READERS)]
    assert len(set(names)) == len(names)
    assert {r.kind for r in CLAIMING} <= set(KINDS)
