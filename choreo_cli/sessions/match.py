"""Which track was playing: independent evidence, each scored and recorded; a thin margin is not a match."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from choreo_cli.sessions.recordings import Library, Place, Session, Track, normal_title
from choreo_cli.sessions.shortlist import Shortlist

# One table of what each kind of evidence is worth. Scratch audio decides alone; tempo supports and never decides.
WEIGHTS = {
    "scratch_audio": 3.0,
    "container_sound": 2.5,
    "profile_name": 2.5,
    "track_title": 1.0,
    "playlist_index": 1.0,
    "played_at": 0.8,
    "file_name": 0.7,
    "playlist_position": 0.6,
    "playlist_start": 0.6,
    "only_track": 0.5,
    "tempo": 0.1,
}
ACCEPT = 0.5
MARGIN = 0.25


@dataclass(slots=True)
class Candidate:
    """A track with the evidence for it.

    Args:
        track: The music.
        evidence: Kind of evidence -> strength 0..1.
        place: Its place in the session's playlist, when that is known.
    """

    track: Track
    evidence: dict[str, float] = field(default_factory=dict)
    place: Place | None = None

    @property
    def score(self) -> float:
        return sum(WEIGHTS[k] * v for k, v in self.evidence.items())

    def record(self) -> dict[str, Any]:
        """For the manifest."""
        return {
            "audio_id": self.track.id,
            "track": self.track.path,
            "score": round(self.score, 3),
            "evidence": {k: round(v, 3) for k, v in sorted(self.evidence.items())},
        }


@dataclass(slots=True)
class Match:
    """The answer for one session: the track, or why there is none."""

    chosen: Candidate | None
    ranked: list[Candidate]
    reason: str = ""


def rank(session: Session, library: Library, scratch: Callable[[Track], float] | None = None) -> Match:
    """Score every track against a session.

    Args:
        session: The recordings.
        library: All tracks.
        scratch: Pooled z of the session's own sound against a track, when the session has sound of its own.

    Returns:
        The chosen candidate, or a reason: `no_music`, `no_evidence`, `ambiguous`.
    """
    if not library.tracks:
        return Match(None, [], "no music was found")
    if library.shortlist is None:
        library.shortlist = Shortlist.of(library.tracks)
    near = library.shortlist.candidates(session) if scratch is None else library.tracks
    found = [_judge(session, t, library) for t in near]
    if scratch is not None:
        for c in found:
            z = scratch(c.track)
            if z >= 19.0:
                c.evidence["scratch_audio"] = 1.0
    found = sorted((c for c in found if c.evidence), key=lambda c: (-c.score, c.track.path))
    found = _one_per_song(found)
    if not found or found[0].score < ACCEPT:
        return Match(None, found[:5], "nothing says which track was playing")
    if len(found) > 1 and found[0].score - found[1].score < MARGIN:
        a, b = found[0], found[1]
        return Match(None, found[:5], f"ambiguous: {a.track.path} and {b.track.path} fit equally well")
    return Match(found[0], found[:5])


def _one_per_song(found: list[Candidate]) -> list[Candidate]:
    """Audio stands for its encodings: two files of one song do not compete."""
    kept: dict[str, Candidate] = {}
    for c in found:
        old = kept.get(c.track.group)
        if old is None or (old.track.entry["kind"] == "features" and c.track.entry["kind"] == "audio"):
            kept[c.track.group] = c
    return [c for c in found if kept[c.track.group] is c]


def _judge(session: Session, track: Track, library: Library) -> Candidate:
    c = Candidate(track)
    meta = session.meta.get("track") or {}
    title = meta.get("title") or session.meta.get("track_title")
    if title:
        c.evidence.update(_title_evidence(str(title), track))
    c.place = place_of(session, track)
    index = meta.get("index")
    if index is not None and c.place is not None and c.place.index == int(index):
        c.evidence["playlist_index"] = 1.0
    if not title and index is None and c.place is not None and _starts_with(session, c.place):
        c.evidence["playlist_start"] = 1.0
    if c.place is not None and c.place.played_utc_us is not None:
        overlap = _overlap(session, track, c.place.played_utc_us)
        if overlap > 0:
            c.evidence["played_at"] = overlap
    if not c.evidence and _named_in_file(session, track):
        c.evidence["file_name"] = 1.0
    if not c.evidence and len(library.tracks) == 1:
        c.evidence["only_track"] = 1.0
    return c


def _title_evidence(title: str, track: Track) -> dict[str, float]:
    want, have = normal_title(title), {normal_title(track.title), normal_title(PurePosixPath(track.path).stem)}
    if want in have or title.casefold() == PurePosixPath(track.path).name.casefold():
        return {"track_title": 1.0}
    if any(len(want) >= 5 and len(h) >= 5 and (want in h or h in want) for h in have):
        return {"track_title": 0.6}
    return {}


def place_of(session: Session, track: Track) -> Place | None:
    """The track's place in the playlist that the session names; any playlist when the session names none."""
    named = session.meta.get("playlist")
    places = track.playlists
    if named:
        want = normal_title(str(named))
        return next((p for p in places if normal_title(p.playlist) == want), None)
    return places[0] if places else None


def _starts_with(session: Session, place: Place) -> bool:
    """The session names this playlist, and the durations before this place add up to nothing."""
    return bool(session.meta.get("playlist")) and place.start_us == 0 and place.played_utc_us is None


def _overlap(session: Session, track: Track, played_utc_us: int) -> float:
    """Share of the session during which the track was playing, by wall clock."""
    start = session_start(session)
    if start is None or not session.duration_us or not track.duration_us:
        return 0.0
    low = max(start, played_utc_us)
    high = min(start + session.duration_us, played_utc_us + track.duration_us)
    return max(0.0, (high - low) / session.duration_us)


def session_start(session: Session) -> int | None:
    """UTC of the session's start: its own metadata, else its earliest recording."""
    if session.entry is not None and session.entry["t0_utc_us"] is not None:
        return int(session.entry["t0_utc_us"])
    known = [e["t0_utc_us"] for e in session.bodies if e["t0_utc_us"] is not None]
    return int(min(known)) if known else None


def _named_in_file(session: Session, track: Track) -> bool:
    """The music's name stands as a whole word in the name of the recording (AIST++ style: `..._mBR0_ch01`)."""
    name = normal_title(PurePosixPath(track.path).stem)
    if len(name) < 4:
        return False
    words = f" {normal_title(' '.join(PurePosixPath(b['path']).stem for b in session.bodies))} "
    return f" {name} " in words


def segments(match: Candidate, session: Session, library: Library) -> list[tuple[Candidate, int, int]]:
    """Stretches of a session by track: (candidate, session time at which its track begins, its end), in order.

    A session longer than what is left of its track goes on to the next one of the playlist: an assumption, recorded.
    Times count from the session's start and may be negative when the music began before it.
    """
    offset = int((session.meta.get("track") or {}).get("offset_us") or 0)
    begin = -offset
    out = [(match, begin, begin + (match.track.duration_us or session.duration_us))]
    if match.place is None:
        return out
    following = sorted(
        ((p, t) for t in library.tracks for p in t.playlists if p.playlist == match.place.playlist),
        key=lambda x: x[0].index,
    )
    nexts = [(p, t) for p, t in following if p.index > match.place.index]
    start = session_start(session)
    for place, track in nexts:
        at = out[-1][2]
        if place.played_utc_us is not None and start is not None:
            at = place.played_utc_us - start
        if at >= session.duration_us - 1_000_000 or not out[-1][0].track.duration_us or not track.duration_us:
            break
        c = Candidate(track, {"playlist_position": 1.0}, place)
        out.append((c, at, at + track.duration_us))
    return out
