"""Pair one session: which track, which clock, and the rows that follow from them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from choreo_cli.errors import DataError
from choreo_cli.sessions import clocks, frames, load, match
from choreo_cli.sessions.clock_estimate import ClockEstimate
from choreo_cli.sessions.clock_motion import tempo_matches
from choreo_cli.sessions.hearts import heart_of
from choreo_cli.sessions.microphones import ACCEPT_Z, Listener
from choreo_cli.sessions.music import Music
from choreo_cli.sessions.music_load import MusicCache
from choreo_cli.sessions.overrides import Override
from choreo_cli.sessions.profiles import EVIDENCE, PROFILES, by_design
from choreo_cli.sessions.recordings import Library, Session, Track
from formats.errors import FormatError
from formats.foreign.model import PoseStream, Series

Entry = dict[str, Any]


@dataclass(frozen=True, slots=True)
class PairOptions:
    """What decides the pairs.

    Args:
        rate_hz: Frames per second.
        seed: Seed of the surrogates.
        tz_us: Offset of local times from UTC, None when not given.
        track: Pair every session with this track (path or title), empty for matching.
        bpm: Tempo of the music when it is known, None to track it.
        profile: Published set whose naming rule matches motion and music, empty for none.
    """

    rate_hz: int = 50
    seed: int = 0
    tz_us: int | None = None
    track: str = ""
    bpm: float | None = None
    profile: str = ""


@dataclass(slots=True)
class Draft:
    """A pair before it knows its split and its rows in the table."""

    entry: dict[str, Any]
    block: frames.Block
    music: Music
    estimate: ClockEstimate
    stream: PoseStream | Series
    model: frames.TimeModel
    track: Track
    heart_id: str | None = None


@dataclass(slots=True)
class SessionResult:
    """What came of a session: pairs, recordings skipped with a reason, notes, and the row for `--todo`."""

    session: str
    drafts: list[Draft] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    unused: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    todo: tuple[str, str, str] | None = None


def pair_session(
    session: Session,
    library: Library,
    roots: dict[str, Path],
    music: MusicCache,
    options: PairOptions,
    override: Override | None = None,
) -> SessionResult:
    """Match, align and build one session. Recordings that cannot be used are listed, never raised."""
    out = SessionResult(session.id)
    bodies = _bodies(session, roots, out)
    if not bodies:
        return out
    listen = Listener(session, roots, music)
    chosen = _choose(session, library, listen, options, override)
    if chosen.chosen is None:
        near = chosen.ranked[0].track.path if chosen.ranked else ""
        out.todo = (session.id, near, chosen.reason)
        out.unused += [(e["path"], chosen.reason) for e, _ in bodies]
        return out
    hearts = _hearts(session, roots, out)
    stretches = match.segments(chosen.chosen, session, library)
    first_us = stretches[0][1]
    for entry, stream in bodies:
        for candidate, begin_us, _end in stretches:
            by_hand = _moved(override, begin_us - first_us)
            try:
                draft = _pair(
                    session, entry, stream, candidate, begin_us, chosen, hearts, roots, music, listen, options, by_hand
                )
            except FormatError as e:
                out.skipped.append((candidate.track.path, str(e)))
                continue
            except DataError as e:
                out.skipped.append((entry["path"], e.message))
                continue
            if draft is not None:
                out.drafts.append(draft)
            elif candidate is chosen.chosen:
                out.skipped.append((entry["path"], f"no overlap with {candidate.track.path}"))
    out.notes += [f"{path} was not listened to: {why}" for path, why in sorted(listen.deaf.items())]
    refused = [d for d in out.drafts if d.entry["identifiable"] == "no" and d.entry["method"] == "metadata"]
    if refused:
        why = ", ".join(refused[0].entry["reasons"]) or "no evidence"
        out.todo = (session.id, refused[0].entry["track"], why)
    return out


def _bodies(session: Session, roots: dict[str, Path], out: SessionResult) -> list[tuple[Entry, PoseStream | Series]]:
    """Readable body streams with at least two instants; the rest is listed."""
    found = []
    for entry in session.bodies:
        try:
            stream = load.body(entry, roots)
        except (FormatError, OSError) as e:
            out.skipped.append((entry["path"], e.message if isinstance(e, FormatError) else str(e.strerror)))
            continue
        if len(stream.t_us) < 2:
            out.skipped.append((entry["path"], f"insufficient: {len(stream.t_us)} snapshot, a pair needs at least 2"))
        else:
            found.append((entry, stream))
    return found


def _hearts(session: Session, roots: dict[str, Path], out: SessionResult) -> list[tuple[Entry, Series]]:
    found = []
    for entry in session.hearts:
        try:
            series = load.heart(entry, roots)
        except (FormatError, OSError) as e:
            out.skipped.append((entry["path"], e.message if isinstance(e, FormatError) else str(e.strerror)))
            continue
        if series is not None and len(series.t_us) >= 2:
            found.append((entry, series))
    return found


def _moved(override: Override | None, later_us: int) -> Override | None:
    """An offset by hand is that of the first track; a later one of the session began `later_us` after it."""
    if override is None or override.offset_us is None or not later_us:
        return override
    return replace(override, offset_us=override.offset_us - later_us)


def _choose(
    session: Session, library: Library, listen: Listener, options: PairOptions, override: Override | None
) -> match.Match:
    """An override wins, then --track, then what the microphone heard, the sound of the container, and the rest."""
    named = override.track if override is not None and override.track else options.track
    if named:
        return _named(named, session, library)
    if library.design is not None:
        known = library.design.get(session.id)
        one = [] if known is None else [match.Candidate(known, {EVIDENCE: 1.0})]
        return match.Match(one[0] if one else None, one, library.undesigned.get(session.id, ""))
    own = own_sound(session, library)
    ranked = match.rank(session, library) if own is None else match.Match(None, [])
    if session.sounds and library.tracks:
        if ranked.chosen is not None and listen.z(ranked.chosen.track) >= ACCEPT_Z:
            ranked.chosen.evidence["scratch_audio"] = 1.0
            return ranked
        heard = match.rank(session, library, listen.z)
        # A recording of a track is not the music: its sound is, when it is there.
        if own is None or (heard.chosen is not None and "scratch_audio" in heard.chosen.evidence):
            return heard
    if own is not None:
        c = match.Candidate(own, {"container_sound": 1.0})
        return match.Match(c, [c])
    return ranked


def _named(named: str, session: Session, library: Library) -> match.Match:
    hits = tracks_called(named, library)
    if len({t.group for t in hits}) != 1:  # encodings of one song are one answer
        return match.Match(None, [], f"{len(hits)} tracks are called {named!r}")
    return match.Match(match.Candidate(hits[0], {}, match.place_of(session, hits[0])), [])


def tracks_called(named: str, library: Library) -> list[Track]:
    """The tracks with this path or id; else with this file name, with or without its suffix; else with this title."""
    from choreo_cli.sessions.recordings import normal_title

    same = [t for t in library.tracks if named in (t.path, t.id)]
    same = same or [t for t in library.tracks if named in (PurePosixPath(t.path).name, PurePosixPath(t.path).stem)]
    want = normal_title(named)
    return same or [t for t in library.tracks if want and normal_title(t.title) == want]


def own_sound(session: Session, library: Library) -> Track | None:
    """The session's own sound as its music: it has a body, and no metadata that names another track.

    Sound and body share a clock when they were cut from one container: a video in the session, or equal durations.
    """
    meta = session.meta.get("track") or {}
    if meta.get("title") or meta.get("index") is not None:
        return None
    lengths = [e["duration_us"] for e in (*session.videos, *session.bodies) if e["duration_us"]]
    for sound in [*session.sounds, *[v for v in session.videos if v["meta"].get("sound")]]:
        near = [d for d in lengths if sound["duration_us"] and abs(d - sound["duration_us"]) <= max(250_000, 0.01 * d)]
        if near:
            return Track(sound, str(sound["path"]).rsplit("/", 1)[-1], group=f"track:{sound['id']}")
    return None


def _pair(
    session: Session,
    entry: Entry,
    stream: PoseStream | Series,
    candidate: match.Candidate,
    begin_us: int,
    chosen: match.Match,
    hearts: list[tuple[Entry, Series]],
    roots: dict[str, Path],
    cache: MusicCache,
    listen: Listener,
    options: PairOptions,
    override: Override | None,
) -> Draft | None:
    music = cache.get(candidate.track, roots)
    estimate, notes = clocks.estimate(
        session, entry, stream, candidate, begin_us, music, listen, options.seed, options.tz_us, override,
        by_design(PROFILES[options.profile]) if EVIDENCE in candidate.evidence else "",
    )  # fmt: skip
    notes += _taken(candidate, session)
    _tempo(candidate, stream, music)
    model = frames.TimeModel(estimate.offset_us, estimate.drift_ppm)
    t = model.to_music(np.asarray([stream.t_us[0], stream.t_us[-1]]))
    span = (max(0, int(t[0])), min(music.duration_us, int(t[1])))
    if span[1] - span[0] < 20_000:
        return None
    heart, heart_id, heart_notes = heart_of(entry, hearts, model, span, options.tz_us)
    synthetic = bool(entry["synthetic"] or candidate.track.entry["synthetic"] or session.synthetic)
    block = frames.build(stream, model, music, heart, span, rate_hz=options.rate_hz, synthetic=synthetic)
    assumptions = [
        *estimate.assumptions,
        *notes,
        *stream.assumptions,
        *music.assumptions,
        *block.assumptions,
        *heart_notes,
    ]
    record = estimate.to_record()
    record["reasons"] = list(estimate.reasons)
    found: dict[str, Any] = {
        "pair_id": "",
        "session_id": session.id,
        "pose_id": entry["id"],
        "pose_path": entry["path"],
        "audio_id": candidate.track.id,
        "track": candidate.track.path,
        "track_group": candidate.track.group,
        **{k: record[k] for k in _CLOCK_FIELDS},
        "assumptions": sorted(set(assumptions)),
        "evidence": {"candidates": [c.record() for c in chosen.ranked], "tried": _tried(estimate)},
        "real_fraction": block.real_fraction,
        "max_gap_us": block.max_gap_us,
        "start_us": span[0],
        "end_us": span[1],
        "performer": session.performer,
        "bpm": music.tempo_bpm,
        "synthetic": synthetic,
    }
    return Draft(found, block, music, estimate, stream, model, candidate.track, heart_id)


_CLOCK_FIELDS = (
    "method", "offset_us", "offset_ci_us", "drift_ppm", "drift_ci", "prior_window_us", "bias_us", "bias_config_hash",
    "peak", "z", "p", "second_ratio", "identifiable", "candidates_us", "reasons",
)  # fmt: skip


def _tried(estimate: ClockEstimate) -> list[dict[str, Any]]:
    """Estimates that were made and not used: method, offset, z, p and why."""
    keep = ("method", "offset_us", "z", "p", "identifiable")
    return [{**{k: getattr(e, k) for k in keep}, "reasons": list(e.reasons)} for e in estimate.evidence]


_SURE = ("scratch_audio", "container_sound", "track_title", "playlist_index", EVIDENCE)
# What a match on weak evidence takes for granted.
_WEAK = {
    "only_track": "{track} is taken to be the music of {session}: there is no other",
    "file_name": "{track} is taken to be the music of {session}: its name stands in the name of the recording",
    "playlist_start": "the playlist of {session} is taken to start with it, so with {track}: nothing names a track",
    "playlist_position": "{track} is taken to follow in the playlist of {session}, without a pause",
}


def _taken(candidate: match.Candidate, session: Session) -> list[str]:
    """Sentences for evidence that does not say which track was playing, only makes it likely."""
    if any(k in candidate.evidence for k in _SURE):
        return []
    names = {"track": candidate.track.path, "session": session.id}
    return [text.format(**names) for k, text in _WEAK.items() if k in candidate.evidence]


def _tempo(candidate: match.Candidate, stream: PoseStream | Series, music: Music) -> None:
    """Motion that repeats at a simple ratio of the beat supports a track that was chosen; it never decides."""
    beat_us = music.beat_period_us
    if beat_us is None or frames.is_slow(stream) or len(stream.t_us) < 64:
        return
    if tempo_matches(clocks.impact_of(stream), beat_us):
        candidate.evidence["tempo"] = 1.0
