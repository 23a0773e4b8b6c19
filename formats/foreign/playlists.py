"""Read playlists that are JSON manifests, m3u files or folders of numbered tracks: order and times are evidence."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from typing import Any
from urllib.parse import unquote

from formats import jsonstrict
from formats.errors import FormatError
from formats.foreign.delimited import is_number
from formats.foreign.guard import contained
from formats.foreign.jsonpeek import mentions, peek, plain_key
from formats.foreign.model import Facts, PlaylistItem
from formats.foreign.registry import Reader
from formats.foreign.source import Source
from formats.foreign.times import parse_time

CAP = 32 * 2**20
MAX_ITEMS = 100_000
LISTED = 5_000
MAX_TEXT = 4096
LONGEST_S = 7 * 86_400
TRACK_SUFFIXES = frozenset(
    (".npz", ".wav", ".mp3", ".flac", ".ogg", ".opus", ".m4a", ".aac", ".aif", ".aiff", ".wma", ".mp4", ".parquet")
)
_LIST_KEYS = ("tracks", "items", "songs", "entries", "tracklist", "playlist", "files", "queue", "music")
_TITLE = ("title", "name", "tracktitle", "trackname", "song", "songtitle", "songname")
_PATH = (
    "file",
    "path",
    "filename",
    "filepath",
    "location",
    "uri",
    "url",
    "src",
    "audio",
    "audiofile",
    "features",
    "npz",
)
_INDEX = ("index", "idx", "position", "pos", "number", "no", "tracknumber", "trackindex", "order", "trackno")
_START = ("start", "starts", "starttime", "offset", "offsets", "cue", "begin", "startms", "offsetms", "startus")
_DURATION = (
    "duration", "durations", "durationseconds", "durationsec", "length", "lengths", "totaltime", "durationms",
    "lengthms", "durationus", "seconds", "time",
)  # fmt: skip
_PLAYED = ("playedat", "played", "playedutc", "playedtime", "startedat", "playdate", "lastplayed", "timestamp")
# A document with one of these is a recording or a session, whatever lists it carries.
_NOT_PLAYLIST = frozenset(
    (
        "joints", "keypoints", "landmarks", "poses", "people", "frames", "devices", "performer", "dancer", "sessionid",
        "schema",
    )
)  # fmt: skip
_HINTS = (b"track", b"title", b"song", b"item", b"entries", b"file", b"path", b"playlist", b"queue")
_HMS = re.compile(r"(?:([0-9]{1,3}):)?([0-9]{1,3}):([0-9]{2})(?:[.,]([0-9]{1,6}))?")
_NUMBERED = re.compile(r"([0-9]{1,4})(?:\s*[-_.)\]]\s*|\s+|$)(.*)", re.DOTALL)


def safe_path(text: str) -> tuple[str | None, str | None]:
    """Path evidence and title from a location a playlist wrote.

    Returns:
        A relative POSIX path (of an absolute location or URL only its file name), None when it climbs with `..` or
        holds a NUL; and the file name without suffix, as a title.
    """
    location = text.strip()
    if location.lower().startswith(("file:", "http:", "https:")):
        location = unquote(location.split("?", 1)[0])
        absolute = True
    else:
        absolute = location.startswith(("/", "\\", "~")) or location[1:3] in (":\\", ":/")
    parts = [p for p in location.replace("\\", "/").split("/") if p not in ("", ".")]
    if not parts:
        return None, None
    name = parts[-1]
    stem = name.rpartition(".")[0] if f".{name.rpartition('.')[2].lower()}" in TRACK_SUFFIXES else name
    if ".." in parts or name.startswith("~") or "\x00" in location or len(location) > MAX_TEXT:
        return None, clean(stem) if name != ".." else None
    return name if absolute else "/".join(parts), clean(stem)


def clean(text: object) -> str | None:
    """A title as text of at most 4096 characters without control characters; None when nothing is left."""
    if isinstance(text, bool) or not isinstance(text, (str, int, float)):
        return None
    kept = "".join(c for c in str(text)[:MAX_TEXT] if c.isprintable() or c == " ").strip()
    return kept or None


def _seconds_us(seconds: float, key: str) -> int:
    factor = 1 if key.endswith("us") else 1000 if key.endswith("ms") or seconds >= 30_000 else 1_000_000
    if not 0 <= seconds * factor < LONGEST_S * 1_000_000:
        raise FormatError(f"{seconds:g} is no time inside a playlist", field=key)
    return round(seconds * factor)


def span_us(value: object, key: str = "") -> int | None:
    """Microseconds of a number (seconds, or ms by key or size) or of `mm:ss`; None for null and negative lengths.

    Raises:
        FormatError: text that is no length, or more than a week.
    """
    if value is None or value == "" or isinstance(value, bool):
        return None
    if isinstance(value, str):
        match = _HMS.fullmatch(value.strip())
        if match:
            hours, minutes, seconds, digits = match.groups()
            whole = int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds)
            return _seconds_us(whole * 1_000_000, "us") + int((digits or "0").ljust(6, "0"))
        if not is_number(value.strip()):
            raise FormatError(f"{value[:40]!r} is no length", field=key or None)
        value = float(value)
    if not isinstance(value, (int, float)) or value != value:
        raise FormatError(f"{type(value).__name__} is no length", field=key or None)
    return None if value < 0 else _seconds_us(float(value), key)


def _first(item: Mapping[str, Any], keys: Iterable[str]) -> tuple[str, Any]:
    return next(((k, item[k]) for k in keys if item.get(k) is not None), ("", None))


def _item(found: Any, position: int) -> tuple[PlaylistItem, int | None]:
    """One entry and the index it declares, if any."""
    if isinstance(found, str):
        path, stem = safe_path(found)
        is_file = path is not None and any(path.lower().endswith(s) for s in TRACK_SUFFIXES)
        return PlaylistItem(position, stem if is_file else clean(found), path if is_file else None), None
    if not isinstance(found, dict):
        raise FormatError(f"track {position} is {type(found).__name__}, not an object or a name")
    item = {plain_key(k): v for k, v in found.items()}
    inner = item.get("track")
    if isinstance(inner, dict):
        item = {**{plain_key(k): v for k, v in inner.items()}, **{k: v for k, v in item.items() if k != "track"}}
    elif isinstance(inner, str):
        item.setdefault("title", inner)
    elif isinstance(inner, int):
        item.setdefault("index", inner)
    title = clean(_first(item, _TITLE)[1])
    location = _first(item, _PATH)[1]
    path, stem = safe_path(location) if isinstance(location, str) else (None, None)
    key, start = _first(item, _START)
    start_us = None if isinstance(start, str) and len(start) > 12 else span_us(start, key)
    key, duration = _first(item, _DURATION)
    duration_us = span_us(duration, key)
    played = _first(item, _PLAYED)[1]
    played_us = None
    if played is not None:
        stamp = parse_time(played)
        # A wall time without an offset is no evidence of a UTC moment.
        played_us = None if stamp.naive else stamp.us
    declared = _first(item, _INDEX)[1]
    index = declared if isinstance(declared, int) and not isinstance(declared, bool) and 0 <= declared < 10**6 else None
    return PlaylistItem(position, title or stem, path, start_us, duration_us, played_us), index


def _list_of(document: Any, depth: int = 0) -> list[Any] | None:
    if isinstance(document, list):
        return document
    if not isinstance(document, dict) or depth > 3:
        return None
    keys = {plain_key(k): k for k in document}
    for wanted in _LIST_KEYS:
        if wanted in keys:
            found = _list_of(document[keys[wanted]], depth + 1)
            if found is not None:
                return found
    return None


@contained
def read_json(source: Source) -> list[PlaylistItem]:
    """Read a manifest: a list, or an object with `tracks` (or `items`, `songs`, ...), of names or objects.

    The index is the one that all tracks declare, each another one; else the position, from 1.

    Raises:
        FormatError: not JSON, no list of tracks, or a track that is neither name nor object.
    """
    return _json_items(jsonstrict.loads(source.read_bytes(CAP), file=source.path))


def _json_items(document: Any) -> list[PlaylistItem]:
    tracks = _list_of(document)
    if tracks is None:
        raise FormatError("no list of tracks")
    if len(tracks) > MAX_ITEMS:
        raise FormatError(f"{len(tracks)} tracks are more than {MAX_ITEMS}")
    found = [_item(track, i) for i, track in enumerate(tracks, 1)]
    declared = [index for _, index in found if index is not None]
    if len(declared) < len(found) or len(set(declared)) < len(found):
        return [item for item, _ in found]
    renumbered = [replace(item, index=k) for (item, _), k in zip(found, declared, strict=True)]
    return sorted(renumbered, key=lambda i: i.index)


def _sniff_json(head: bytes, name: str, size: int) -> bool:
    if not mentions(head, _HINTS):
        return False
    found = peek(head)
    if found is None or found.lines or _NOT_PLAYLIST & (found.keys | found.nested):
        return False
    if found.root == "[":
        has_title = bool(found.keys & {*_TITLE, *_PATH})
        return has_title and bool(
            found.keys & {"title", "artist", "file", "path", "filename", "duration", "durations", "durationms"}
        )
    listed = [k for k in _LIST_KEYS[:-3] if k in found.opens]
    inside = found.nested & {"tracks", "items"}
    return any(found.opens[k] == "[" or (k in ("playlist", "tracks") and inside) for k in listed)


def decode_text(source: Source) -> str:
    """The text of a playlist: UTF-8, UTF-16 with BOM, else Latin-1."""
    data = source.read_bytes(CAP)
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return source.read_text(CAP)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        # Old m3u and cue files are written in the author's 8-bit code page; Latin-1 maps every byte.
        return data.decode("latin-1")


@contained
def read_m3u(source: Source) -> list[PlaylistItem]:
    """Read an m3u or m3u8 list: EXTINF lengths and titles, relative paths.

    Raises:
        FormatError: a stream manifest, or too many tracks.
    """
    items: list[PlaylistItem] = []
    title: str | None = None
    duration: int | None = None
    for row, raw in enumerate(decode_text(source).splitlines(), 1):
        line = raw.strip()
        if line.upper().startswith("#EXTINF:"):
            length, _, label = line[8:].partition(",")
            title = clean(label)
            try:
                duration = span_us(length.split(" ", 1)[0].strip())
            except FormatError as e:
                raise FormatError(e.message, row=row) from None
        elif line.upper().startswith("#EXT-X-"):
            raise FormatError("a list of stream segments, not of tracks", row=row)
        elif line and not line.startswith("#"):
            path, stem = safe_path(line)
            items.append(PlaylistItem(len(items) + 1, title or stem, path, None, duration))
            title, duration = None, None
            if len(items) > MAX_ITEMS:
                raise FormatError(f"more than {MAX_ITEMS} tracks", row=row)
    return items


def _sniff_m3u(head: bytes, name: str, size: int) -> bool:
    if head.removeprefix(b"\xef\xbb\xbf").lstrip()[:7].upper() == b"#EXTM3U":
        return b"#EXT-X-" not in head
    return name.lower().endswith((".m3u", ".m3u8")) and size > 0 and b"\x00" not in head


def folder_playlist(names: Iterable[str]) -> list[PlaylistItem] | None:
    """Playlist of a folder whose tracks are numbered: `01.npz`, `01 - Title.mp3`, `1. Title.flac`.

    Args:
        names: File names of one folder, in any order; other files may be among them.

    Returns:
        One item a number, in order; None unless all tracks are numbered and the numbers run without a repeat.
    """
    tracks = sorted(n for n in names if f".{n.rpartition('.')[2].lower()}" in TRACK_SUFFIXES and not n.startswith("."))
    items: dict[int, PlaylistItem] = {}
    for name in tracks:
        match = _NUMBERED.fullmatch(name.rpartition(".")[0])
        if match is None:
            return None
        index = int(match.group(1))
        if index in items:
            # The same track in two encodings, or its features beside it, is one track.
            if (clean(match.group(2)) or None) != items[index].title:
                return None
            continue
        items[index] = PlaylistItem(index, clean(match.group(2)), name)
    return [items[i] for i in sorted(items)] or None


def item_records(items: list[PlaylistItem]) -> list[dict[str, object]]:
    """The tracks as JSON objects for an inventory."""
    return [asdict(item) for item in items]


def playlist_facts(items: list[PlaylistItem], format: str, title: str | None = None, **extra: object) -> Facts:
    """Facts of a list of tracks: its title, its items (the first 5000), total length where every length is known."""
    lengths = [i.duration_us for i in items]
    total = sum(d for d in lengths if d is not None) if items and None not in lengths else None
    meta: dict[str, object] = {"title": title, "items": item_records(items[:LISTED]), **extra}
    problems = (f"long_playlist: only the first {LISTED} tracks are listed",) if len(items) > LISTED else ()
    reason = None if items else "an empty playlist"
    return Facts("playlist", format, n=len(items), duration_us=total, reason=reason, problems=problems, meta=meta)


def _name_of(document: Any) -> str | None:
    if not isinstance(document, dict):
        return None
    found = {plain_key(k): v for k, v in document.items()}
    inner = found.get("playlist")
    own = clean(_first(found, ("playlistname", "playlisttitle", "name", "title"))[1])
    return own or (_name_of(inner) if isinstance(inner, dict) else clean(inner))


@contained
def _facts_json(source: Source) -> Facts:
    document = jsonstrict.loads(source.read_bytes(CAP), file=source.path)
    synthetic = isinstance(document, dict) and document.get("synthetic") is True
    return playlist_facts(_json_items(document), "playlist-json", _name_of(document), synthetic=synthetic)


@contained
def _facts_m3u(source: Source) -> Facts:
    named = re.search(r"^#PLAYLIST:(.{1,400})$", decode_text(source), re.MULTILINE | re.IGNORECASE)
    return playlist_facts(read_m3u(source), "m3u", clean(named.group(1)) if named else None)


READERS: tuple[Reader, ...] = (
    Reader("m3u", "playlist", _sniff_m3u, _facts_m3u, read_m3u, order=25),
    Reader("playlist-json", "playlist", _sniff_json, _facts_json, read_json, order=45),
)
