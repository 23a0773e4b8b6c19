"""Read the semicolon logs of Garmin devices (events and acceleration); recognise FIT files without reading them."""

from __future__ import annotations

from array import array

import numpy as np

from formats.errors import FormatError
from formats.foreign.delimited import CUT, cells, content_lines, head_lines, is_number, number, text_bytes
from formats.foreign.guard import contained
from formats.foreign.model import F32, I64, Facts, Series
from formats.foreign.registry import Reader
from formats.foreign.source import Source
from formats.foreign.timeline import TimeColumn, nominal_rate, unwrap
from formats.foreign.times import parse_iso
from formats.foreign.wearable import heart_rate, series_facts

# Event names of the log and the signal each becomes; the log's "variability" is the single beat interval in ms.
EVENTS = {"HEART_RATE": "hr", "HEART_RATE_VARIABILITY": "rr"}
UNITS = {"hr": "beats/min", "rr": "ms"}


def _is_iso(cell: str) -> bool:
    if len(cell) < 16 or not cell[:4].isdigit():
        return False
    try:
        parse_iso(cell)
    except FormatError:
        return False
    return True


def _sniff_events(head: bytes, name: str, size: int) -> bool:
    if b";" not in head[:80] or not head[:1].isdigit():
        return False
    rows = [cells(line, ";") for line in head_lines(head, 8)]
    return bool(rows) and all(
        len(r) == 3 and r[1].replace("_", "").isalpha() and r[1].isupper() and is_number(r[2]) and _is_iso(r[0])
        for r in rows
    )


def _sniff_acc(head: bytes, name: str, size: int) -> bool:
    if b";" not in head[:80] or not head[:1].isdigit():
        return False
    rows = [cells(line, ";") for line in head_lines(head, 8)]
    return bool(rows) and all(len(r) == 4 and _is_iso(r[0]) and all(map(is_number, r[1:])) for r in rows)


def _sniff_fit(head: bytes, name: str, size: int) -> bool:
    return head[8:12] == b".FIT" and head[:1] in (b"\x0c", b"\x0e")


def _column(stamps: array[int], naive: set[bool]) -> TimeColumn:
    if len(naive) > 1:
        raise FormatError("times with and without an offset are mixed")
    return TimeColumn(np.frombuffer(stamps, np.int64).copy(), "iso_time", naive == {True})


def _iso_rows(source: Source, what: str, width: int) -> tuple[list[list[str]], array[int], set[bool], tuple[str, ...]]:
    """Rows of `width` cells whose first is an ISO time, their times, and whether they are naive.

    Raises:
        FormatError: a row of another form; only an unfinished last line is dropped and said.
    """
    data = text_bytes(source)
    last = data.count(b"\n") + 1
    rows: list[list[str]] = []
    stamps, naive = array("q"), set[bool]()
    for row, line in content_lines(data):
        parts = cells(line, ";")
        if len(parts) != width or not _is_iso(parts[0]) or not is_number(parts[-1]):
            if row == last and rows:
                return rows, stamps, naive, (CUT,)
            raise FormatError(f"not a row of {what}", row=row)
        stamp = parse_iso(parts[0])
        rows.append(parts[1:])
        stamps.append(stamp.us)
        naive.add(stamp.naive)
    return rows, stamps, naive, ()


def _merged(signals: dict[str, tuple[I64, F32]]) -> tuple[I64, F32]:
    """Lay signals with times of their own on the union of their times, NaN where one has no sample."""
    t_us = np.unique(np.concatenate([t for t, _ in signals.values()]))
    values = np.full((len(t_us), len(signals)), np.nan, np.float32)
    for i, (t, rows) in enumerate(signals.values()):
        values[np.searchsorted(t_us, t), i] = rows[:, 0]
    return t_us, values


@contained
def read_events(source: Source) -> Series:
    """Read heart rate and beat intervals from an event log `time;EVENT;value`.

    Raises:
        FormatError: a row that is no event, or neither signal in it.
    """
    rows, stamps, naive, problems = _iso_rows(source, "time;EVENT;value", 3)
    times = _column(stamps, naive)
    signals: dict[str, tuple[I64, F32]] = {}
    said: tuple[str, ...] = ()
    for event, name in EVENTS.items():
        mine = np.array([i for i, row in enumerate(rows) if row[0] == event], np.int64)
        values = heart_rate(np.array([float(rows[i][1]) for i in mine], np.float64))
        if np.isfinite(values).any():
            t, column, more, spread = unwrap(times.t_us[mine], values[:, None])
            signals[name] = (t, column)
            problems, said = problems + more, said + spread
    if not signals:
        raise FormatError("no heart rate and no beat intervals among the events")
    t_us, merged = _merged(signals)
    t0 = int(t_us[0])
    units = tuple(UNITS[name] for name in signals)
    return Series(t_us - t0, merged, tuple(signals), units, None, times.clock(t0), problems, said)


@contained
def read_acc(source: Source) -> Series:
    """Read acceleration rows `time;x;y;z` in 1/1000 g.

    Raises:
        FormatError: a row of another form.
    """
    rows, stamps, naive, problems = _iso_rows(source, "time;x;y;z", 4)
    if not rows:
        raise FormatError("no acceleration rows")
    times = _column(stamps, naive)
    values = np.array([[number(cell) for cell in row] for row in rows], np.float64) / 1000.0
    t_us, kept, more, said = unwrap(times.t_us, values)
    t0 = int(t_us[0])
    names, units = ("acc_x", "acc_y", "acc_z"), ("g", "g", "g")
    return Series(t_us - t0, kept, names, units, nominal_rate(t_us), times.clock(t0), problems + more, said)


def _facts_events(source: Source) -> Facts:
    return series_facts(read_events, source, "garmin-events")


def _facts_acc(source: Source) -> Facts:
    return series_facts(read_acc, source, "garmin-acc")


def _facts_fit(source: Source) -> Facts:
    return Facts("wearable", "garmin-fit", reason="Garmin FIT files are not read yet; export the activity as CSV")


READERS: tuple[Reader, ...] = (
    Reader("garmin-fit", "wearable", _sniff_fit, _facts_fit, None, order=20),
    Reader("garmin-events", "wearable", _sniff_events, _facts_events, read_events, order=23),
    Reader("garmin-acc", "wearable", _sniff_acc, _facts_acc, read_acc, order=24),
)
