"""Read Rekordbox collections and Apple Music (iTunes) libraries: tracks, playlists, lengths, times played."""

from __future__ import annotations

import io
import plistlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from xml.parsers.expat import ExpatError

from formats.errors import FormatError
from formats.foreign.guard import contained
from formats.foreign.model import Facts, PlaylistItem
from formats.foreign.playlists import LISTED, MAX_ITEMS, clean, item_records, playlist_facts, safe_path, span_us
from formats.foreign.registry import Reader
from formats.foreign.source import Source
from formats.foreign.times import HI_S, LO_S
from formats.foreign.xml_guard import stream_xml

CAP = 96 * 2**20
MAX_PLAYLISTS = 10_000
SEVERAL = "several_playlists: none is named, so the order is that of the library and says nothing"


@dataclass(slots=True)
class Library:
    """Tracks by id in file order, and playlists as lists of ids."""

    tracks: dict[str, PlaylistItem] = field(default_factory=dict)
    playlists: dict[str, list[str]] = field(default_factory=dict)

    def add(self, name: str) -> list[str]:
        """Start a playlist; a name used twice gets a number."""
        if len(self.playlists) >= MAX_PLAYLISTS:
            raise FormatError(f"more than {MAX_PLAYLISTS} playlists")
        unique, n = name, 2
        while unique in self.playlists:
            unique, n = f"{name} ({n})", n + 1
        return self.playlists.setdefault(unique, [])

    def items(self, name: str | None) -> list[PlaylistItem]:
        """One playlist in order; without a name the only one, or else the whole library.

        Raises:
            FormatError: no such playlist.
        """
        if name is not None and name not in self.playlists:
            raise FormatError(f"no playlist {name[:80]!r} among {len(self.playlists)}")
        if name is None and len(self.playlists) == 1:
            name = next(iter(self.playlists))
        ids = list(self.tracks) if name is None else self.playlists[name]
        found = [self.tracks[i] for i in ids if i in self.tracks]
        return [replace(track, index=n) for n, track in enumerate(found, 1)]

    def facts(self, format: str) -> Facts:
        """Facts; of several playlists each is listed apart, and there is no order of the whole."""
        if len(self.playlists) < 2:
            return playlist_facts(self.items(None), format, next(iter(self.playlists), None))
        found = playlist_facts(self.items(None), format)
        left, listed = LISTED, []
        for name in self.playlists:
            items = self.items(name)[:left]
            left -= len(items)
            listed.append({"title": name, "items": item_records(items)})
        meta: dict[str, object] = {"title": None, "items": [], "playlists": listed[:LISTED]}
        return replace(found, meta=meta, problems=(SEVERAL,))


def _collect(library: Library, key: str, item: PlaylistItem) -> None:
    if len(library.tracks) >= MAX_ITEMS:
        raise FormatError(f"more than {MAX_ITEMS} tracks")
    library.tracks[key] = item


@contained
def rekordbox_library(source: Source) -> Library:
    """Parse a Rekordbox XML export, streamed.

    Raises:
        FormatError: not well-formed, entities or declarations inside, or too many tracks.
    """
    library = Library()
    by_location: dict[str, str] = {}
    open_lists: list[tuple[list[str] | None, bool]] = []
    entries = 0

    def start(tag: str, a: dict[str, str]) -> None:
        nonlocal entries
        if tag == "NODE":
            keys = library.add(clean(a.get("Name")) or "untitled") if a.get("Type") == "1" else None
            open_lists.append((keys, a.get("KeyType") == "1"))
        elif tag == "TRACK" and "Key" in a and open_lists:
            keys, by_path = open_lists[-1]
            entries += 1
            if entries > 10 * MAX_ITEMS:
                raise FormatError("too many playlist entries")
            if keys is not None:
                keys.append(by_location.get(a["Key"], "") if by_path else a["Key"])
        elif tag == "TRACK" and "Key" not in a:
            path, stem = safe_path(a.get("Location", ""))
            key = a.get("TrackID") or str(len(library.tracks))
            by_location[a.get("Location", "")] = key
            length = span_us(a.get("TotalTime") or None)
            _collect(library, key, PlaylistItem(0, clean(a.get("Name")) or stem, path, None, length))

    def end(tag: str) -> None:
        if tag == "NODE" and open_lists:
            open_lists.pop()

    with source.open() as file:
        stream_xml(file, start, end)
    if not library.tracks:
        raise FormatError("no tracks in the collection")
    return library


def _played_us(value: object) -> int | None:
    # Apple writes <date> in UTC and plistlib drops the Z.
    if not isinstance(value, datetime):
        return None
    seconds = int(value.replace(tzinfo=UTC, microsecond=0).timestamp())
    return seconds * 1_000_000 if LO_S <= seconds < HI_S else None


def _apple_track(found: Mapping[str, Any]) -> PlaylistItem:
    location = found.get("Location")
    path, stem = safe_path(location) if isinstance(location, str) else (None, None)
    length = found.get("Total Time")
    length_us = span_us(length, "totaltimems") if isinstance(length, int) else None
    return PlaylistItem(
        0, clean(found.get("Name")) or stem, path, None, length_us, _played_us(found.get("Play Date UTC"))
    )


@contained
def apple_library(source: Source) -> Library:
    """Parse an Apple Music or iTunes library (XML property list).

    Raises:
        FormatError: not well-formed, entities or declarations inside, or no tracks.
    """
    data = source.read_bytes(CAP)
    # plistlib builds everything in memory; this pass bounds depth, names and tokens and refuses entities first.
    stream_xml(io.BytesIO(data))
    try:
        document = plistlib.loads(data, fmt=plistlib.FMT_XML)
    except (plistlib.InvalidFileException, ExpatError, OverflowError) as e:
        raise FormatError(f"not a property list: {str(e)[:80]}") from None
    tracks = document.get("Tracks") if isinstance(document, dict) else None
    if not isinstance(tracks, dict) or not tracks:
        raise FormatError("no tracks in the library")
    library = Library()
    for key, found in tracks.items():
        if isinstance(found, dict):
            _collect(library, str(key), _apple_track(found))
    playlists = document.get("Playlists")
    for found in playlists if isinstance(playlists, list) else []:
        if not isinstance(found, dict) or found.get("Master") or "Distinguished Kind" in found or found.get("Folder"):
            continue
        keys = library.add(clean(found.get("Name")) or "untitled")
        listed = found.get("Playlist Items")
        entries = listed if isinstance(listed, list) else []
        keys.extend(str(e.get("Track ID")) for e in entries[:MAX_ITEMS] if isinstance(e, dict))
    return library


@contained
def read_rekordbox(source: Source, playlist: str | None = None) -> list[PlaylistItem]:
    """Read one playlist; without a name the only one, or else the whole collection.

    Raises:
        FormatError: as `rekordbox_library`, or no such playlist.
    """
    return rekordbox_library(source).items(playlist)


@contained
def read_apple(source: Source, playlist: str | None = None) -> list[PlaylistItem]:
    """Read one playlist; without a name the only one, or else the whole library.

    Raises:
        FormatError: as `apple_library`, or no such playlist.
    """
    return apple_library(source).items(playlist)


def _is_xml(head: bytes) -> bool:
    return head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"<"


def _sniff_rekordbox(head: bytes, name: str, size: int) -> bool:
    return _is_xml(head) and b"<DJ_PLAYLISTS" in head


def _sniff_apple(head: bytes, name: str, size: int) -> bool:
    if not _is_xml(head) or b"<plist" not in head:
        return False
    return (
        b"<key>Tracks</key>" in head
        or b"<key>Music Folder</key>" in head
        or b"<key>Library Persistent ID</key>" in head
    )


def _facts_rekordbox(source: Source) -> Facts:
    return rekordbox_library(source).facts("rekordbox-xml")


def _facts_apple(source: Source) -> Facts:
    return apple_library(source).facts("apple-music-xml")


READERS: tuple[Reader, ...] = (
    Reader("rekordbox-xml", "playlist", _sniff_rekordbox, _facts_rekordbox, read_rekordbox, order=16),
    Reader("apple-music-xml", "playlist", _sniff_apple, _facts_apple, read_apple, order=17),
)
