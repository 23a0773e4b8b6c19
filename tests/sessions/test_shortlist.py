"""The shortlist leaves out no track that has evidence: the same answer as judging every track."""

from __future__ import annotations

import time
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from choreo_cli.sessions import match
from choreo_cli.sessions.recordings import Library, Place, Session, Track
from choreo_cli.sessions.shortlist import Shortlist

WORDS = st.sampled_from(["song", "song 1", "Blue Monday", "blue", "monday night", "mBR0", "77", "", "Ünder", "a" * 210])
TITLES = st.lists(WORDS, min_size=1, max_size=3).map(" ".join)


def entry(path: str, **meta: Any) -> dict[str, Any]:
    return {
        "id": f"x:{path}", "kind": "audio", "path": path, "root": "r0", "sha256": path, "t0_utc_us": 10_000_000,
        "duration_us": 60_000_000, "session": None, "meta": meta, "synthetic": False,
    }  # fmt: skip


@st.composite
def tracks(draw: st.DrawFn) -> list[Track]:
    found = []
    for k in range(draw(st.integers(1, 8))):
        place = st.builds(
            Place, st.sampled_from(["Mix 1", "mix 2"]), st.integers(0, 4), st.none(), st.sampled_from([None, 10**7])
        )
        stem = draw(TITLES).replace("/", "_") or "x"
        track = Track(entry(f"m/{stem}-{k}.wav"), draw(TITLES), draw(st.lists(place, max_size=2)), f"g{k % 4}")
        found.append(track)
    return found


@st.composite
def sessions(draw: st.DrawFn) -> Session:
    track = draw(st.fixed_dictionaries({}, optional={"title": TITLES, "index": st.integers(0, 4)}))
    meta: dict[str, Any] = {"track": track} if track else {}
    if draw(st.booleans()):
        meta["playlist"] = draw(st.sampled_from(["Mix 1", "Mix 2", "other"]))
    bodies = [entry(f"s/{draw(TITLES)} take_{draw(WORDS)}.bvh") for _ in range(draw(st.integers(1, 2)))]
    return Session("s", entry("s", **meta), bodies)


class Everything(Shortlist):
    """Leaves nothing out."""

    def candidates(self, session: Session) -> list[Track]:
        return list(self.tracks)


@settings(max_examples=400, deadline=None)
@given(sessions(), tracks())
def test_the_answer_is_that_of_judging_every_track(session: Session, found: list[Track]) -> None:
    short = match.rank(session, Library([session], found, []))
    full = match.rank(session, Library([session], found, [], Everything.of(found)))
    assert [c.record() for c in short.ranked] == [c.record() for c in full.ranked]
    assert short.reason == full.reason
    assert (short.chosen and short.chosen.track.id) == (full.chosen and full.chosen.track.id)


def test_many_tracks_cost_little_each_session() -> None:
    found = [
        Track(entry(f"m/piece {k} {k * 7919}.wav"), f"Piece {k} of {k * 7919}", [], f"g{k}") for k in range(20_000)
    ]
    session = Session("s", entry("s", track={"title": "Piece 5 of 39595"}), [entry("s/poses.jsonl")])
    lib = Library([session], found, [])
    match.rank(session, lib)
    start = time.process_time()
    for _ in range(20):
        assert match.rank(session, lib).chosen is not None
    assert (time.process_time() - start) / 20 < 0.05  # judging all of them takes 0.3 s
