"""An inventory as sessions (bodies moving) and tracks (music): who belongs to whom, before any clock is looked at."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from choreo_cli.sessions.shortlist import Shortlist

Entry = dict[str, Any]
BODY = ("pose", "motion")
MUSIC = ("audio", "features")
_NUMBER = re.compile(r"^\s*\d{1,3}\s*[-._ )]+\s*")
_WORDS = re.compile(r"[^\w]+")


@dataclass(slots=True)
class Track:
    """A piece of music that a session may have danced to.

    Args:
        entry: Its audio or feature recording.
        title: What it calls itself: tags, playlist, or the file's stem.
        playlists: (playlist folder or name, position, start on the playlist's clock, UTC it was played) it stands in.
        group: Encodings of one song share it.
    """

    entry: Entry
    title: str
    playlists: list[Place] = field(default_factory=list)
    group: str = ""

    @property
    def id(self) -> str:
        return str(self.entry["id"])

    @property
    def path(self) -> str:
        return str(self.entry["path"])

    @property
    def duration_us(self) -> int | None:
        value = self.entry["duration_us"]
        return None if value is None else int(value)


@dataclass(frozen=True, slots=True)
class Place:
    """A track's place in a playlist; `start_us` counts the durations before it."""

    playlist: str
    index: int
    start_us: int | None
    played_utc_us: int | None


@dataclass(slots=True)
class Session:
    """Recordings that were made together.

    Args:
        id: Path of the folder, or folder/stem.
        entry: Its `session` entry with metadata, None when only stems hold it together.
        bodies: Pose and motion streams.
        hearts: Wearables with heart rate.
        sounds: Audio recorded with it (device microphone, or the sound of its container).
        videos: Video containers.
        beats: Annotated beats.
    """

    id: str
    entry: Entry | None = None
    bodies: list[Entry] = field(default_factory=list)
    hearts: list[Entry] = field(default_factory=list)
    sounds: list[Entry] = field(default_factory=list)
    videos: list[Entry] = field(default_factory=list)
    beats: list[Entry] = field(default_factory=list)

    @property
    def meta(self) -> dict[str, Any]:
        return dict(self.entry["meta"]) if self.entry else {}

    @property
    def performer(self) -> str | None:
        value = self.meta.get("performer")
        return str(value) if value else None

    @property
    def synthetic(self) -> bool:
        parts = [*self.bodies, *self.hearts, *([self.entry] if self.entry else [])]
        return any(bool(e["synthetic"]) for e in parts)

    @property
    def duration_us(self) -> int:
        return max((e["duration_us"] or 0 for e in (*self.bodies, *self.sounds, *self.videos)), default=0)


@dataclass(slots=True)
class Library:
    """Everything `pair` works on; `shortlist` is made by the first match.

    With a profile, `design` holds the music of each session by its name, and `undesigned` why a session has none.
    """

    sessions: list[Session]
    tracks: list[Track]
    beats: list[Entry]
    shortlist: Shortlist | None = None
    design: dict[str, Track] | None = None
    undesigned: dict[str, str] = field(default_factory=dict)


def normal_title(text: str) -> str:
    """A title for comparison: NFC, lower case, words only, without a leading track number."""
    text = unicodedata.normalize("NFC", text).casefold()
    return _WORDS.sub(" ", _NUMBER.sub("", text)).replace("_", " ").strip()


def library(entries: list[Entry]) -> Library:
    """Sort usable entries into sessions and tracks.

    Sound inside a session that has a body belongs to the session; all other audio and features are music.
    Feature files of a track whose audio is also there are taken as the same track (the audio is kept).
    """
    usable = [e for e in entries if e["reason"] is None]
    sessions = _sessions(usable)
    taken = {id(e) for s in sessions for e in s.sounds}
    music = [e for e in usable if e["kind"] in MUSIC and id(e) not in taken]
    tracks = [Track(e, _title(e)) for e in music]
    _place(tracks, [e for e in usable if e["kind"] == "playlist"])
    _group(tracks)
    held = {id(e) for s in sessions for e in s.beats}
    loose = [e for e in usable if e["kind"] == "beats" and id(e) not in held]
    return Library(sessions, tracks, loose)


def _sessions(usable: list[Entry]) -> list[Session]:
    found: dict[str, Session] = {}
    for e in usable:
        if e["kind"] == "session":
            found.setdefault(e["path"], Session(e["path"])).entry = e
    for e in usable:
        key = e["session"]
        if key is None:
            if e["kind"] in BODY:  # a body with nothing beside it is a session of its own
                found[e["path"]] = Session(e["path"], bodies=[e])
            continue
        s = found.setdefault(key, Session(key))
        if e["kind"] in BODY:
            s.bodies.append(e)
        elif e["kind"] == "wearable" and "hr" in (e["meta"].get("names") or ["hr"]):
            s.hearts.append(e)
        elif e["kind"] == "audio":
            s.sounds.append(e)
        elif e["kind"] == "video":
            s.videos.append(e)
        elif e["kind"] == "beats":
            s.beats.append(e)
    for s in found.values():
        if not s.bodies:
            s.sounds = []  # a song with its chart is not a session: its sound is music
    return sorted(found.values(), key=lambda s: s.id.encode("utf-8", "surrogateescape"))


def _title(e: Entry) -> str:
    return str(e["meta"].get("title") or PurePosixPath(e["path"]).stem)


def _place(tracks: list[Track], playlists: list[Entry]) -> None:
    by_path = {(t.entry["root"], t.path): t for t in tracks}
    for p in playlists:
        folder = PurePosixPath(p["path"]) if p["format"] == "folder" else PurePosixPath(p["path"]).parent
        name = str(p["meta"].get("title") or (folder.name if str(folder) != "." else PurePosixPath(p["path"]).stem))
        clock = 0
        known = True
        for item in p["meta"].get("items") or []:
            track = _item_track(item, folder, by_path, p["root"], tracks)
            start = item.get("start_us") if item.get("start_us") is not None else (clock if known else None)
            length = item.get("duration_us") or (track.duration_us if track else None)
            if track is not None:
                index = int(item.get("index") or 0)
                track.playlists.append(Place(name, index, start, item.get("played_utc_us")))
                if item.get("title"):
                    track.title = str(item["title"])
            known = known and length is not None
            clock = (start or clock) + (length or 0)


def _item_track(
    item: dict[str, Any], folder: PurePosixPath, by_path: dict[tuple[str, str], Track], root: str, tracks: list[Track]
) -> Track | None:
    path = item.get("path")
    if path:
        for key in ((root, str(folder / path)), (root, str(path))):
            if key in by_path:
                return by_path[key]
        named = [
            t for t in tracks if t.entry["root"] == root and PurePosixPath(t.path).name == PurePosixPath(path).name
        ]
        if len(named) == 1:
            return named[0]
    if item.get("title"):
        same = [t for t in tracks if normal_title(t.title) == normal_title(str(item["title"]))]
        inside = [t for t in same if PurePosixPath(t.path).is_relative_to(folder)]
        if len(inside or same) == 1:
            return (inside or same)[0]
    return None


def _group(tracks: list[Track]) -> None:
    """Encodings of one song: same normalised title and duration within 1 s, or the same content."""
    by_content: dict[str | None, tuple[int, Track]] = {}
    by_title: dict[str, list[tuple[int, Track]]] = {}
    for order, t in enumerate(sorted(tracks, key=lambda t: (t.entry["root"], t.path))):
        title = normal_title(t.title)
        same = [f for f in by_title.get(title, ()) if _same_song(t, f[1])]
        same += [f for f in (by_content.get(t.entry["sha256"]),) if f is not None]
        if same:
            t.group = min(same, key=lambda f: f[0])[1].group  # the first that fits, as a search in order would find it
            continue
        t.group = f"track:{t.id}"
        by_content[t.entry["sha256"]] = (order, t)
        by_title.setdefault(title, []).append((order, t))


def _same_song(a: Track, b: Track) -> bool:
    if a.duration_us is None or b.duration_us is None or abs(a.duration_us - b.duration_us) > 1_000_000:
        return False
    title = normal_title(a.title)
    return bool(title) and not title.isdigit() and title == normal_title(b.title)
