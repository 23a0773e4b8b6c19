"""Read cue sheets: where each track of one long audio file begins (75 frames a second)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from formats.errors import FormatError
from formats.foreign.guard import contained
from formats.foreign.model import Facts, PlaylistItem
from formats.foreign.playlists import MAX_ITEMS, clean, decode_text, playlist_facts, safe_path
from formats.foreign.registry import Reader
from formats.foreign.source import Source

FRAMES_PER_S = 75
_INDEX = re.compile(r"INDEX\s+([0-9]{1,2})\s+([0-9]{1,4}):([0-9]{1,2}):([0-9]{1,2})", re.IGNORECASE)
_TRACK = re.compile(r"TRACK\s+([0-9]{1,4})\s+AUDIO", re.IGNORECASE)
_QUOTED = re.compile(r'"([^"]*)"|(\S+)')


@dataclass(slots=True)
class _Track:
    number: int
    file: str
    title: str | None = None
    start_us: int | None = None


def _argument(line: str) -> str:
    match = _QUOTED.search(line.partition(" ")[2])
    return (match.group(1) or match.group(2) or "") if match else ""


def cue_us(minutes: int, seconds: int, frames: int) -> int:
    """Microseconds of mm:ss:ff, rounded half up. Raises FormatError when seconds or frames do not exist."""
    if seconds > 59 or frames >= FRAMES_PER_S:
        raise FormatError(f"{minutes:02}:{seconds:02}:{frames:02} does not exist: 60 s a minute, 75 frames a second")
    return (minutes * 60 + seconds) * 1_000_000 + (frames * 2_000_000 + FRAMES_PER_S) // (2 * FRAMES_PER_S)


def _tracks(text: str) -> list[_Track]:
    tracks: list[_Track] = []
    file = ""
    for row, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        word = line.split(" ", 1)[0].upper()
        if word == "FILE":
            file = _argument(line)
        elif word == "TRACK":
            match = _TRACK.match(line)
            if match:
                tracks.append(_Track(int(match.group(1)), file))
            if len(tracks) > MAX_ITEMS:
                raise FormatError(f"more than {MAX_ITEMS} tracks", row=row)
        elif word == "TITLE" and tracks:
            tracks[-1].title = clean(_argument(line))
        elif word == "INDEX" and tracks:
            match = _INDEX.match(line)
            if match is None:
                raise FormatError(f"{line[:40]!r} is not INDEX nn mm:ss:ff", row=row)
            if int(match.group(1)) == 1:
                try:
                    tracks[-1].start_us = cue_us(*(int(g) for g in match.groups()[1:]))
                except FormatError as e:
                    raise FormatError(e.message, row=row) from None
    return tracks


@contained
def read(source: Source) -> list[PlaylistItem]:
    """Read the tracks with their starts inside their file; a length is known where the next start is in the same file.

    Raises:
        FormatError: no tracks, a time that does not exist, or starts that run backward.
    """
    tracks = _tracks(decode_text(source))
    if not tracks:
        raise FormatError("no TRACK nn AUDIO lines")
    items: list[PlaylistItem] = []
    for i, track in enumerate(tracks):
        following = tracks[i + 1] if i + 1 < len(tracks) and tracks[i + 1].file == track.file else None
        duration = None
        if following is not None and following.start_us is not None and track.start_us is not None:
            duration = following.start_us - track.start_us
            if duration < 0:
                raise FormatError(f"track {following.number} starts before track {track.number}")
        path, stem = safe_path(track.file) if track.file else (None, None)
        items.append(PlaylistItem(track.number, track.title or stem, path, track.start_us, duration))
    return items


def _sniff(head: bytes, name: str, size: int) -> bool:
    if name.lower().endswith(".cue"):
        return b"\x00" not in head and (b"FILE" in head.upper() or b"TRACK" in head.upper())
    return b"TRACK 01 AUDIO" in head and b"FILE" in head


@contained
def _facts(source: Source) -> Facts:
    items = read(source)
    files = sorted({i.path for i in items if i.path is not None})
    before = decode_text(source).partition("TRACK")[0]
    title = next((clean(_argument(x.strip())) for x in before.splitlines() if x.strip().startswith("TITLE ")), None)
    return playlist_facts(items, "cue", title, files=files[:16])


READERS: tuple[Reader, ...] = (Reader("cue", "playlist", _sniff, _facts, read, order=26),)
