"""Playlists in every dialect: order, lengths and starts are kept, paths never climb."""

from __future__ import annotations

import json
import plistlib
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from formats.errors import FormatError
from formats.foreign import cue, playlist_xml, playlists, session_meta
from formats.foreign.model import PlaylistItem
from formats.foreign.playlists import folder_playlist, safe_path, span_us
from formats.foreign.registry import Reader
from formats.foreign.source import Source

READERS = sorted(
    (*playlists.READERS, *cue.READERS, *playlist_xml.READERS, *session_meta.READERS), key=lambda r: r.order
)
PLAYED = 1_775_613_749_000_000


def source(tmp_path: Path, name: str, content: object) -> Source:
    path = tmp_path / name
    data = content if isinstance(content, (str, bytes)) else json.dumps(content)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return Source.of(path)


def reader_of(s: Source) -> Reader | None:
    return next((r for r in READERS if r.sniff(s.head, s.name, s.size)), None)


def read(s: Source) -> list[PlaylistItem]:
    reader = reader_of(s)
    assert reader is not None and reader.read is not None
    facts = reader.facts(s)
    assert facts.kind == "playlist"
    items = reader.read(s)
    assert isinstance(items, list) and facts.n == len(items)
    json.dumps(facts.meta)
    return items


TRACKS = [
    {"title": "A", "artist": "X", "file": "01.npz", "duration": 210.5},
    {"title": "B", "file": "sub/02.npz", "duration": 180, "start": 210.5, "played_at": "2026-04-08T02:02:29Z"},
]


@pytest.mark.parametrize(
    "document",
    [
        TRACKS,
        {"name": "Mix", "tracks": TRACKS},
        {"playlist": {"name": "Mix", "tracks": TRACKS}},
        {"playlist": "Mix", "songs": TRACKS},
        {"title": "Mix", "items": [{"track": t} for t in TRACKS]},
        {"tracks": {"items": TRACKS}},
        {"tracklist": [{"Track Title": t["title"], "fileName": t["file"], "durationMs": int(t["duration"] * 1000),  # type: ignore[call-overload]
                        "startMs": int(t["start"] * 1000) if "start" in t else None, "playedAt": t.get("played_at")} for t in TRACKS]},  # type: ignore[call-overload]
    ],
)  # fmt: skip
def test_json_manifests(tmp_path: Path, document: object) -> None:
    s = source(tmp_path, "playlist.json", document)
    a, b = read(s)
    assert (a.index, a.title, a.path, a.duration_us) == (1, "A", "01.npz", 210_500_000)
    assert (b.index, b.title, b.path, b.start_us, b.duration_us) == (2, "B", "sub/02.npz", 210_500_000, 180_000_000)
    assert b.played_utc_us == PLAYED
    facts = playlists.READERS[1].facts(s)
    assert facts.duration_us == 390_500_000 and facts.meta["items"][0]["path"] == "01.npz"
    named = isinstance(document, dict) and ("name" in document or "title" in document or "playlist" in document)
    assert facts.meta["title"] == ("Mix" if named else None)


def test_declared_indices_order_the_list_only_when_all_differ(tmp_path: Path) -> None:
    tracks = [{"index": 2, "title": "C"}, {"index": 0, "title": "A"}, {"index": 1, "title": "B"}]
    assert [(i.index, i.title) for i in read(source(tmp_path, "p.json", {"tracks": tracks}))] == [
        (0, "A"),
        (1, "B"),
        (2, "C"),
    ]
    del tracks[0]["index"]
    assert [(i.index, i.title) for i in read(source(tmp_path, "p.json", {"tracks": tracks}))] == [
        (1, "C"),
        (2, "A"),
        (3, "B"),
    ]


def test_names_only(tmp_path: Path) -> None:
    items = read(source(tmp_path, "p.json", {"tracks": ["01 - One.mp3", "../../etc/02 - Two.mp3", "Three"]}))
    assert [(i.title, i.path) for i in items] == [
        ("01 - One", "01 - One.mp3"),
        ("../../etc/02 - Two.mp3", None),
        ("Three", None),
    ]


@pytest.mark.parametrize(
    "document",
    [
        {"tracks": [1]}, {"tracks": [{"title": "a", "duration": "x"}]}, {"tracks": [{"title": "a", "duration": 1e12}]},
        {"tracks": [{"title": "a", "played_at": "yesterday"}]}, {"tracks": 3}, {"a": 1},
    ],
)  # fmt: skip
def test_manifests_that_hold_no_tracks(tmp_path: Path, document: object) -> None:
    with pytest.raises(FormatError, match=r"p\.json"):
        playlists.read_json(source(tmp_path, "p.json", document))


def test_m3u(tmp_path: Path) -> None:
    text = "\ufeff#EXTM3U\r\n#PLAYLIST:Night\r\n#EXTINF:123,X - One\r\none.mp3\r\n#EXTINF:-1,Stream\r\nhttp://h/a%20b.mp3?x=1\r\n"
    text += '#EXTINF:60.5 tvg-id="",Three\r\n..\\..\\c.mp3\r\n/srv/Music/Four.flac\r\nC:\\Music\\Five.mp3\r\n'
    s = source(tmp_path, "p.m3u8", text)
    items = read(s)
    assert [(i.title, i.path, i.duration_us) for i in items] == [
        ("X - One", "one.mp3", 123_000_000), ("Stream", "a b.mp3", None), ("Three", None, 60_500_000),
        ("Four", "Four.flac", None), ("Five", "Five.mp3", None),
    ]  # fmt: skip
    assert playlists.READERS[0].facts(s).meta["title"] == "Night"
    assert read(source(tmp_path, "latin.m3u", "caf\xe9.mp3\n".encode("latin-1")))[0].title == "café"
    assert reader_of(source(tmp_path, "hls.txt", "#EXTM3U\n#EXT-X-VERSION:3\n")) is None


def test_cue_starts_are_exact_frames(tmp_path: Path) -> None:
    text = 'PERFORMER "DJ"\nTITLE "Set"\nFILE "set.wav" WAVE\n'
    starts = [(0, 0, 0), (3, 25, 37), (99, 59, 74), (123, 0, 1)]
    for n, (m, s_, f) in enumerate(starts, 1):
        text += f'  TRACK {n:02} AUDIO\n    TITLE "T{n}"\n    INDEX 00 {m:02}:{s_:02}:00\n    INDEX 01 {m:02}:{s_:02}:{f:02}\n'
    s = source(tmp_path, "set.cue", text)
    items = read(s)
    want = [round(((m * 60 + s_) * 75 + f) * 1e6 / 75) for m, s_, f in starts]
    assert [i.start_us for i in items] == want and [i.title for i in items] == ["T1", "T2", "T3", "T4"]
    assert [i.duration_us for i in items[:3]] == [b - a for a, b in pairwise(want)]
    assert (
        items[3].duration_us is None and items[0].path == "set.wav" and cue.READERS[0].facts(s).meta["title"] == "Set"
    )
    for bad in ("00:60:00", "00:00:75", "x"):
        with pytest.raises(FormatError, match="row"):
            cue.read(source(tmp_path, "b.cue", f'FILE "a.wav" WAVE\nTRACK 01 AUDIO\nINDEX 01 {bad}\n'))


REKORDBOX = """<?xml version="1.0" encoding="UTF-8"?>
<DJ_PLAYLISTS Version="1.0.0"><PRODUCT Name="rekordbox"/><COLLECTION Entries="2">
<TRACK TrackID="7" Name="One" Artist="X" TotalTime="210" Location="file://localhost/C:/Music/One%20%26%20only.mp3"><TEMPO Inizio="0.1" Bpm="120.00"/></TRACK>
<TRACK TrackID="9" Name="Two" TotalTime="180" Location="file://localhost/Users/a/../b/Two.mp3"/>
</COLLECTION><PLAYLISTS><NODE Type="0" Name="ROOT" Count="1"><NODE Name="Mix" Type="1" KeyType="0" Entries="2"><TRACK Key="9"/><TRACK Key="7"/></NODE>%s</NODE></PLAYLISTS></DJ_PLAYLISTS>
"""


def test_rekordbox(tmp_path: Path) -> None:
    s = source(tmp_path, "r.xml", REKORDBOX.replace("%s", ""))
    items = read(s)
    assert [(i.index, i.title, i.path, i.duration_us) for i in items] == [
        (1, "Two", None, 180_000_000), (2, "One", "One & only.mp3", 210_000_000),
    ]  # fmt: skip
    assert playlist_xml.READERS[0].facts(s).meta["title"] == "Mix"
    more = (
        '<NODE Name="Other" Type="1" KeyType="1"><TRACK Key="file://localhost/C:/Music/One%20%26%20only.mp3"/></NODE>'
    )
    two = source(tmp_path, "r2.xml", REKORDBOX.replace("%s", more))
    assert [i.title for i in playlist_xml.read_rekordbox(two, "Other")] == ["One"]
    facts = playlist_xml.READERS[0].facts(two)
    assert facts.problems[0].startswith("several_playlists") and facts.meta["items"] == []
    assert [p["title"] for p in facts.meta["playlists"]] == ["Mix", "Other"]
    with pytest.raises(FormatError, match="no playlist"):
        playlist_xml.read_rekordbox(two, "None")


def library(**more: object) -> bytes:
    return plistlib.dumps(
        {
            "Major Version": 1,
            "Tracks": {
                "10": {"Track ID": 10, "Name": "One", "Total Time": 210_500, "Location": "file:///Users/a/Music/01%20One.m4a",
                       "Play Date UTC": datetime(2026, 4, 8, 2, 2, 29)},
                "11": {"Track ID": 11, "Name": "Two", "Total Time": 180_000},
            },
            "Playlists": [
                {"Name": "Library", "Master": True, "Playlist Items": [{"Track ID": 10}]},
                {"Name": "Mix", "Playlist Items": [{"Track ID": 11}, {"Track ID": 10}, {"Track ID": 99}]},
            ],
            **more,
        }
    )  # fmt: skip


def test_apple_music_library(tmp_path: Path) -> None:
    items = read(source(tmp_path, "Library.xml", library()))
    assert [(i.title, i.duration_us, i.path) for i in items] == [
        ("Two", 180_000_000, None),
        ("One", 210_500_000, "01 One.m4a"),
    ]
    assert items[1].played_utc_us == PLAYED
    assert reader_of(source(tmp_path, "other.plist", plistlib.dumps({"CFBundleName": "x"}))) is None


@pytest.mark.parametrize(
    "subset", ['[<!ENTITY a "b">]', "[<!ELEMENT x ANY>]", '[<!ENTITY % a SYSTEM "http://127.0.0.1/"> %a;]']
)
def test_library_with_declarations_is_refused(tmp_path: Path, subset: str) -> None:
    apple = library().replace(b'PropertyList-1.0.dtd">', b'PropertyList-1.0.dtd" ' + subset.encode() + b">")
    assert subset.encode() in apple
    with pytest.raises(FormatError, match="refused"):
        playlist_xml.apple_library(source(tmp_path, "l.xml", apple))
    rekordbox = REKORDBOX.replace("%s", "").replace(
        "<DJ_PLAYLISTS", f"<!DOCTYPE DJ_PLAYLISTS {subset}>\n<DJ_PLAYLISTS", 1
    )
    with pytest.raises(FormatError, match="refused"):
        playlist_xml.rekordbox_library(source(tmp_path, "r.xml", rekordbox))


def test_folders_of_numbered_tracks() -> None:
    found = folder_playlist(["02.npz", "01.npz", "10.npz", "notes.txt", ".hidden.npz"])
    assert found == [PlaylistItem(1, None, "01.npz"), PlaylistItem(2, None, "02.npz"), PlaylistItem(10, None, "10.npz")]
    found = folder_playlist(["1. B.mp3", "01 - A.flac", "2_C.wav"])
    assert found is None
    found = folder_playlist(["01 - A.flac", "01 - A.npz", "2_C.wav", "03) D.mp3"])
    assert found is not None and [(i.index, i.title) for i in found] == [(1, "A"), (2, "C"), (3, "D")]
    assert (
        folder_playlist(["a.mp3", "01.mp3"]) is None
        and folder_playlist([]) is None
        and folder_playlist(["x.txt"]) is None
    )


@given(st.text(max_size=80))
def test_no_location_climbs_out(text: str) -> None:
    path, _ = safe_path(text)
    assert path is None or (
        path and not path.startswith(("/", "~")) and ".." not in path.split("/") and "\x00" not in path
    )
    folder_playlist([text, text + ".mp3"])


@pytest.mark.parametrize(
    ("value", "key", "want"),
    [(210.5, "duration", 210_500_000), ("3:30", "", 210_000_000), ("1:02:03.5", "", 3_723_500_000), (210_500, "durationms", 210_500_000),
     (210_500, "duration", 210_500_000), (5, "durationus", 5), ("12.5", "", 12_500_000), (None, "", None), (-1, "", None), ("", "", None)],
)  # fmt: skip
def test_lengths(value: object, key: str, want: int | None) -> None:
    assert span_us(value, key) == want


SESSION = {
    "session": "take 1", "playlist": "Mix", "track": {"title": "A", "index": 2, "offset_ms": 1500}, "performer": "p1",
    "devices": ["cam-1", {"name": "cam-2"}, {"model": "watch"}], "started_at": "2026-04-08T02:02:29Z", "synthetic": True,
}  # fmt: skip


@pytest.mark.parametrize(
    "document",
    [
        SESSION,
        {"sessionName": "take 1", "playlistName": "Mix", "track_title": "A", "trackIndex": "2", "track_offset_s": 1.5,
         "dancer": {"name": "p1"}, "cameras": {"cam-1": {}, "cam-2": {}, "watch": {}}, "startTime": PLAYED / 1e6, "synthetic": True},
        {"session": {"id": "take 1", "dancer_id": "p1", "start_time": PLAYED // 1000}, "playlist": {"name": "Mix"}, "track": "A",
         "track_number": 2, "track_offset_us": 1_500_000, "devices": ["cam-1", "cam-2", "watch"], "is_synthetic": True},
        {"metadata": {k: v for k, v in SESSION.items() if k != "track"}, "track": SESSION["track"]},
    ],
)  # fmt: skip
def test_session_metadata_under_many_names(tmp_path: Path, document: dict[str, object]) -> None:
    s = source(tmp_path, "metadata.json", document)
    assert (reader_of(s) or READERS[0]).format == "session-meta"
    found = session_meta.read(s)
    assert (found.session, found.playlist, found.track_title, found.track_index) == ("take 1", "Mix", "A", 2)
    assert (found.track_offset_us, found.performer, found.devices) == (1_500_000, "p1", ("cam-1", "cam-2", "watch"))
    assert (found.clock.t0_utc_us, found.clock.source, found.clock.naive, found.synthetic) == (
        PLAYED,
        "metadata",
        False,
        True,
    )
    facts = session_meta.READERS[0].facts(s)
    assert facts.kind == "session" and facts.problems == ()
    assert facts.meta["track"] == {"title": "A", "index": 2, "offset_us": 1_500_000}


def test_session_metadata_with_a_sigma_and_recordings(tmp_path: Path) -> None:
    more = {
        "clock_sigma_s": 0.125,
        "recordings": [{"file": "poses.jsonl", "device": "cam", "started_at": "2026-04-08T02:02:29"}, {"file": "../x"}],
    }
    s = source(tmp_path, "meta.json", {**SESSION, **more})
    facts = session_meta.READERS[0].facts(s)
    assert facts.clock.sigma_us == 125_000
    assert facts.meta["recordings"] == [{"file": "poses.jsonl", "device": "cam", "t0_utc_us": PLAYED, "naive": True}]


def test_what_metadata_cannot_say_is_a_problem_not_a_guess(tmp_path: Path) -> None:
    s = source(
        tmp_path,
        "meta.json",
        {"session": "a", "devices": 4, "started_at": "last tuesday", "track_offset": "soon", "track_index": -1},
    )
    facts = session_meta.READERS[0].facts(s)
    assert [p.split(":")[0] for p in facts.problems] == ["time_unreadable", "offset_unreadable"]
    found = session_meta.read(s)
    assert (
        found.devices == ("device-1", "device-2", "device-3", "device-4")
        and found.clock.t0_utc_us is None
        and found.track_index is None
    )


@pytest.mark.parametrize(
    ("name", "document", "format"),
    [
        ("poses.json", {"session": "a", "devices": [], "started_at": 1, "frames": []}, None),
        ("labels.json", {"content": 6, "style": 8}, None),
        ("meta.json", {"name": "Mix", "tracks": TRACKS}, "playlist-json"),
        ("x.json", {"session": "a", "devices": ["b"], "performer": "p", "tracks": TRACKS}, "session-meta"),
        (
            "x.json",
            {"schema": "choreo.pairs/1", "session": "a", "devices": [], "performer": "x", "started_at": 1},
            None,
        ),
        ("x.json", {"tracks": [], "people": []}, None),
        ("x.json", [{"t": 0, "joints": {}}], None),
        ("x.json", [[1, 2], [3, 4]], None),
    ],
)
def test_json_is_claimed_by_its_keys(tmp_path: Path, name: str, document: object, format: str | None) -> None:
    found = reader_of(source(tmp_path, name, document))
    assert (found.format if found else None) == format
