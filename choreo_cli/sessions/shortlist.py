"""The tracks that could have any evidence for a session, found without looking at all the others."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import PurePosixPath

from choreo_cli.sessions.recordings import Session, Track, normal_title

# A title longer than this is compared with every name: its parts would be more than the names.
LONG_TITLE = 200


@dataclass(slots=True)
class Shortlist:
    """Tracks by what may speak for them. Build with `of`.

    Args:
        tracks: All of them.
        names: Normal title, and normal stem of the path -> places in `tracks`.
        stems: The stems alone.
        playlists: Normal name of a playlist -> its tracks.
        indices: Index in the first playlist -> tracks.
        played: Tracks with a time they were played at.
        longest: Words in the longest stem.
        text: Every name on a line of its own; `starts` are where the lines begin, `lines` what they say.
    """

    tracks: Sequence[Track]
    names: dict[str, set[int]] = field(default_factory=dict)
    stems: dict[str, set[int]] = field(default_factory=dict)
    playlists: dict[str, set[int]] = field(default_factory=dict)
    indices: dict[int, set[int]] = field(default_factory=dict)
    played: set[int] = field(default_factory=set)
    lines: list[str] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    longest: int = 0
    text: str = ""

    @classmethod
    def of(cls, tracks: Sequence[Track]) -> Shortlist:
        """Look at every track once."""
        made = cls(tracks)
        for k, track in enumerate(tracks):
            stem = normal_title(PurePosixPath(track.path).stem)
            for name in (normal_title(track.title), stem):
                made.names.setdefault(name, set()).add(k)
            made.stems.setdefault(stem, set()).add(k)
            for order, place in enumerate(track.playlists):
                made.playlists.setdefault(normal_title(place.playlist), set()).add(k)
                if order == 0:
                    made.indices.setdefault(place.index, set()).add(k)
                if place.played_utc_us is not None:
                    made.played.add(k)
        made.longest = max((s.count(" ") + 1 for s in made.stems), default=0)
        made.lines = list(made.names)
        made.starts = [0, *accumulate(len(n) + 1 for n in made.lines)]
        made.text = "\n".join(made.lines)
        return made

    def candidates(self, session: Session) -> list[Track]:
        """Every track that title, playlist, time or file name could speak for, in the order of the tracks."""
        if len(self.tracks) == 1:
            return list(self.tracks)
        meta = session.meta.get("track") or {}
        found: set[int] = set()
        title = meta.get("title") or session.meta.get("track_title")
        if title:
            for name in self._like(normal_title(str(title))):
                found |= self.names[name]
        if session.meta.get("playlist"):
            found |= self.playlists.get(normal_title(str(session.meta["playlist"])), set())
        else:
            found |= self.played
            if meta.get("index") is not None:
                found |= self.indices.get(int(meta["index"]), set())
        for name in self._spoken(session):
            found |= self.stems[name]
        return [self.tracks[k] for k in sorted(found)]

    def _like(self, title: str) -> Iterator[str]:
        """Names equal to a title, containing it, or contained in it."""
        if title in self.names:
            yield title
        if not title:
            return
        at = self.text.find(title)
        while at >= 0:
            line = bisect_right(self.starts, at) - 1
            yield self.lines[line]
            at = self.text.find(title, self.starts[line + 1])
        if len(title) > LONG_TITLE:
            yield from (name for name in self.lines if name in title)
            return
        parts = (title[i:j] for i in range(len(title)) for j in range(i + 1, len(title) + 1))
        yield from (part for part in parts if part in self.names)

    def _spoken(self, session: Session) -> Iterator[str]:
        """Stems that stand as whole words in the names of the session's body recordings."""
        words = normal_title(" ".join(PurePosixPath(b["path"]).stem for b in session.bodies)).split(" ")
        for i in range(len(words)):
            for j in range(i + 1, min(len(words), i + self.longest) + 1):
                if (name := " ".join(words[i:j])) in self.stems:
                    yield name
