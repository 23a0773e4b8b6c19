"""Offsets a person measured: read from CSV, and the template that lists what still needs one."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from formats.errors import FormatError
from formats.foreign.source import Source

HEADER = ("session", "track", "offset_s")


@dataclass(frozen=True, slots=True)
class Override:
    """One row: this session danced to this track, and its clock reads `offset` less than the music's."""

    session: str
    track: str
    offset_us: int | None


def read(path: Path) -> dict[str, Override]:
    """Rows by session.

    Raises:
        FormatError: another header, an unknown column, a number that is none, a session twice; names the line.
    """
    reader = csv.reader(io.StringIO(Source.of(path).read_text()))
    rows = [(i, r) for i, r in enumerate(reader, 1) if r and not r[0].lstrip().startswith("#")]
    if not rows:
        raise FormatError("empty", file=path, hint=f"the first line is {','.join(HEADER)}")
    head = tuple(c.strip() for c in rows[0][1])
    if head[:3] != HEADER:
        raise FormatError(f"the header is {','.join(head)[:80]}", file=path, row=1, hint=f"need {','.join(HEADER)}")
    found: dict[str, Override] = {}
    for row, cells in rows[1:]:
        session, track, seconds = (*(c.strip() for c in cells), "", "", "")[:3]
        if session in found:
            raise FormatError(f"session {session!r} stands here twice", file=path, row=row)
        found[session] = Override(session, track, _micros(seconds, path, row))
    return found


def _micros(text: str, path: Path, row: int) -> int | None:
    """Seconds as microseconds; empty means `the track is known, the offset is not`."""
    if not text:
        return None
    try:
        value = float(text)
        if not abs(value) < 1e6:
            raise ValueError
    except ValueError:
        raise FormatError(f"{text!r} is not a number of seconds", file=path, row=row, field="offset_s") from None
    return round(value * 1e6)


def check_names(overrides: dict[str, Override], sessions: Iterable[str], path: Path) -> None:
    """Raise FormatError for a session that does not exist, naming the nearest."""
    known = list(sessions)
    for name in overrides:
        if name not in known:
            near = get_close_matches(name, known, 1)
            raise FormatError(f"no session {name!r}", file=path, hint=f"did you mean: {near[0]}?" if near else "")


def template(rows: Iterable[tuple[str, str, str]]) -> bytes:
    """CSV with one row (session, best track or empty, why it was refused as a fourth column) to fill in."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow((*HEADER, "why"))
    for session, track, why in rows:
        writer.writerow((session, track, "", why))
    return out.getvalue().encode()
