"""What the clocks alone say about an offset: a centre, how far it is to be trusted, and on which assumptions."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from choreo_cli.errors import UsageError
from choreo_cli.sessions.match import Candidate, session_start
from choreo_cli.sessions.recordings import Session
from formats.foreign.model import T0_SIGMA_US

Entry = dict[str, Any]
HOUR_US = 3_600_000_000
_TZ = re.compile(r"^([+-]?)(\d{1,2})(?::?(\d{2}))?$")


@dataclass(frozen=True, slots=True)
class Prior:
    """The offset before anyone listened: t_music = t_device + centre, +-2 sigma.

    Args:
        centre_us: Most likely offset.
        sigma_us: One standard deviation; None when no clock bounds it.
        assumptions: Sentences for the record.
        suggestion: A `--tz` that would make two clocks agree, empty without one.
    """

    centre_us: int
    sigma_us: int | None
    assumptions: tuple[str, ...] = ()
    suggestion: str = ""


def of_container(body: Entry, sound: Entry) -> Prior:
    """Body and sound cut from one recording share its clock."""
    return Prior(0, 0, (f"{name(sound)} and {name(body)} were cut from one recording and share its clock",))


def of_clocks(body: Entry, session: Session, match: Candidate, begin_us: int, tz_us: int | None) -> Prior:
    """Prior from UTC clocks and the session's metadata.

    Args:
        body: The pose or motion recording.
        session: Its session.
        match: The track, with its place in a playlist.
        begin_us: When the track began, on the session's clock (0 = session start).
        tz_us: Offset of local times from UTC that the user gave, None without.
    """
    notes: list[str] = []
    own, own_sigma, own_naive = _clock(body, tz_us, notes)
    start, start_sigma, start_naive, source = _music_start(session, match, begin_us, tz_us, notes)
    if own is None or start is None:
        notes.append(f"{name(body)} is taken to start with the session: no clock says otherwise")
        return Prior(-begin_us, None, tuple(notes))
    centre = own - start
    if source == "recordings":
        return Prior(centre, None, tuple(notes))
    if own_naive != start_naive and tz_us is None:
        hint = _whole_hours(centre, session)
        notes.append("one clock is local time without an offset, the other is UTC: they cannot be compared")
        return Prior(-begin_us, None, tuple(notes), hint)
    if own_naive:
        notes.append(f"the local times of {name(body)} and of the music are taken to share a zone")
    sigma = round(math.hypot(own_sigma, start_sigma))
    if source == "session" and not _own_clock(body):
        sigma = max(own_sigma, start_sigma)  # one clock, read once: its error does not count twice
        if centre == -begin_us:
            notes.append(f"{name(body)} is taken to start with its session, whose time it has")
    stated = _stated_sigma(session)
    if stated is not None and (source == "session" or _agrees(session, start - begin_us, stated)):
        sigma = stated
        notes.append(f"the clocks of {session.id} agree to +-{2 * stated / 1e6:g} s, as its metadata state")
    return Prior(centre, sigma, tuple(notes), "" if abs(centre) < HOUR_US // 2 else _whole_hours(centre, session))


def _stated_sigma(session: Session) -> int | None:
    """How well a session's clocks agree when its metadata say so: a sigma other than the usual one of metadata."""
    entry = session.entry
    if entry is None or entry["t0_source"] not in ("metadata", "ntp") or entry["t0_sigma_us"] is None:
        return None
    sigma = int(entry["t0_sigma_us"])
    return None if sigma == T0_SIGMA_US[entry["t0_source"]] else sigma


def _agrees(session: Session, start_us: int, sigma_us: int) -> bool:
    """Whether the playlist's time of the track is the session's own: what its metadata say of their clocks holds."""
    entry = session.entry
    return entry is not None and entry["t0_utc_us"] is not None and abs(start_us - entry["t0_utc_us"]) <= 2 * sigma_us


def _own_clock(body: Entry) -> bool:
    return body["t0_source"] in ("ntp", "unix_time", "iso_time", "container")


def _clock(entry: Entry, tz_us: int | None, notes: list[str]) -> tuple[int | None, int, bool]:
    t0 = entry["t0_utc_us"]
    if t0 is None:
        return None, 0, False
    naive = bool(entry["t0_naive"])
    if naive and tz_us is not None:
        t0, naive = t0 - tz_us, False
        notes.append(f"local times of {name(entry)} are UTC{tz_us / HOUR_US:+g} h (--tz)")
    sigma = int(entry["t0_sigma_us"] or 0)
    notes.append(f"clock of {name(entry)} is {entry['t0_source'].replace('_', ' ')}, +-{2 * sigma / 1e6:g} s")
    return int(t0), sigma, naive


def _music_start(
    session: Session, match: Candidate, begin_us: int, tz_us: int | None, notes: list[str]
) -> tuple[int | None, int, bool, str]:
    """UTC at which the track's first sample sounded."""
    place = match.place
    if place is not None and place.played_utc_us is not None:
        notes.append(f"{match.track.path} was played at the time its playlist states, +-1 s")
        return place.played_utc_us, 500_000, False, "playlist"
    entry = session.entry
    if entry is not None and entry["t0_utc_us"] is not None:
        t0, sigma, naive = _clock(entry, tz_us, notes)
        where = "at the session's start" if begin_us == 0 else f"{begin_us / 1e6:g} s from the session's start"
        notes.append(f"{match.track.path} began {where}")
        return (None if t0 is None else t0 + begin_us), sigma, naive, "session"
    start = session_start(session)
    if start is not None:
        # An order of things, not a clock: it gives a centre and bounds nothing.
        notes.append(f"{match.track.path} is taken to begin with the earliest recording: nothing says when it did")
        return start + begin_us, 0, any(b["t0_naive"] for b in session.bodies), "recordings"
    return None, 0, False, "none"


def _whole_hours(centre: int, session: Session) -> str:
    """The whole hour that brings two clocks together within 10 minutes, as a `--tz` to try."""
    hours = round(centre / HOUR_US)
    if hours == 0 or abs(hours) > 14 or abs(centre - hours * HOUR_US) > HOUR_US // 6:
        return ""
    return f"the clocks of {session.id} differ by {hours:+d} h: try --tz {hours:+d}"


def name(entry: Entry) -> str:
    return str(entry["path"]).rsplit("/", 1)[-1]


def zone(text: str) -> int | None:
    """`+2`, `-03:30` as microseconds; None for an empty text."""
    if not text:
        return None
    found = _TZ.match(text)
    if not found or int(found[2]) > 14 or int(found[3] or 0) > 59:
        raise UsageError(f"--tz {text!r} is not hours from UTC", hint="like +2 or -03:30")
    sign = -1 if found[1] == "-" else 1
    return sign * (int(found[2]) * 3600 + int(found[3] or 0) * 60) * 1_000_000
