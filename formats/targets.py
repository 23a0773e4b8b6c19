"""Recorded faders: what a performer did with the five controls while dancing, as events on the music clock.

Four files are read, told apart by their first bytes:

    our controls Parquet   columns of `formats.columns.CONTROLS`; a row is an event of all five, `held` rows are none
    a MIDI file            CC 20-24 on any channel are the five controls in order, value / 127; the file's tempo map
                           turns ticks into time, and its start is the start of the music
    CSV                    a header, one time column `t_us` or `t_s`, and any of the five names; an empty cell is no
                           event; `;` and tab work too, `#` starts a comment
    JSON Lines             {"t_us" or "t_s", "address": "/choreo/density", "value": 0.7} a line, as a log of OSC; other
                           addresses are passed over

A fader holds its last value until its next event (zero-order hold). Before its first event and outside the recording
there is no value.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from formats.columns import CONTROL_NAMES, CONTROLS
from formats.errors import FormatError
from formats.foreign.guard import contained
from formats.foreign.source import Source

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
FIRST_CC = 20
PREFIX = "/choreo/"
CAP = 64 * 2**20
LATEST_US = 10 * 365 * 86_400 * 10**6
_TIMES = {"t_us": 1.0, "t_s": 1e6}


@dataclass(frozen=True, slots=True)
class Faders:
    """Events of one recording.

    Args:
        events: (times in us, values in 0..1) of each control that moved, times not decreasing.
        end_us: End of the recording; later there is no value.
    """

    events: Mapping[str, tuple[I64, F32]]
    end_us: int

    @property
    def names(self) -> tuple[str, ...]:
        """Controls with at least one event, in the order of `CONTROL_NAMES`."""
        return tuple(c for c in CONTROL_NAMES if c in self.events)

    def at(self, t_us: ArrayLike, offset_us: int = 0) -> F32:
        """Values (N, 5) at each time, NaN where a fader has none.

        Args:
            t_us: (N,) times on the music clock.
            offset_us: Added to the times of the recording.
        """
        t = np.asarray(t_us, np.int64) - offset_us
        out = np.full((len(t), len(CONTROL_NAMES)), np.nan, np.float32)
        for k, name in enumerate(CONTROL_NAMES):
            if name in self.events:
                times, values = self.events[name]
                last = np.searchsorted(times, t, side="right") - 1
                live = (last >= 0) & (t <= self.end_us)
                out[live, k] = values[last[live]]
        return out


def read(path: str | Path) -> dict[str | None, Faders]:
    """Recordings in a file by session; the key is None where the file does not name a session.

    Raises:
        FormatError: none of the four kinds, damaged, a value outside 0..1, a time that goes back (with row and field),
            or no event of any control.
    """
    source = Source.of(path)
    reader: Callable[[Source], dict[str | None, Faders]]
    if source.head[:4] == b"MThd":
        reader = _midi
    elif source.head[:4] == b"PAR1":
        reader = _parquet
    else:
        reader = _json_lines if source.head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"{" else _csv
    found: dict[str | None, Faders] = contained(reader)(source)
    if not any(f.events for f in found.values()):
        raise FormatError(
            "no control is moved in it", file=path, hint=f"need {', '.join(CONTROL_NAMES)} or CC {FIRST_CC}-24"
        )
    return found


def _faders(raw: Mapping[str, list[tuple[int, float]]], end_us: int) -> Faders:
    events = {}
    for name in CONTROL_NAMES:
        if raw.get(name):
            times, values = zip(*raw[name], strict=True)
            events[name] = (np.array(times, np.int64), np.array(values, np.float32))
    return Faders(events, end_us)


def _parquet(source: Source) -> dict[str | None, Faders]:
    from formats.tables import read_table, validate

    table = read_table(source.path, CONTROLS)
    validate(CONTROLS, table, source.path)
    owner = np.asarray(table.column("session_id").to_pylist(), dtype=object)
    t_us = np.asarray(table.column("t_us").to_numpy(), np.int64)
    live = ~np.asarray(table.column("held").to_numpy(zero_copy_only=False), bool)
    found: dict[str | None, Faders] = {}
    for session in dict.fromkeys(owner.tolist()):
        own = np.flatnonzero(owner == session)
        if (np.diff(t_us[own]) <= 0).any():
            row = int(own[1:][np.diff(t_us[own]) <= 0][0])
            raise FormatError("time does not increase", file=source.path, row=row, field="t_us")
        rows = own[live[own]]
        columns = {c: np.asarray(table.column(c).to_numpy(), np.float32)[rows] for c in CONTROL_NAMES}
        events = {c: (t_us[rows], v) for c, v in columns.items()} if len(rows) else {}
        found[str(session)] = Faders(events, int(t_us[own[-1]]))
    return found


def _midi(source: Source) -> dict[str | None, Faders]:
    import mido

    from formats.foreign.midi_tempo import read_map

    tempo = read_map(source)  # refuses what has no usable time
    midi = mido.MidiFile(file=io.BytesIO(source.read_bytes(CAP)), clip=False)
    raw: dict[str, list[tuple[int, float]]] = {}
    for track in midi.tracks:
        tick = 0
        for message in track:
            tick += message.time
            if message.type == "control_change" and 0 <= message.control - FIRST_CC < len(CONTROL_NAMES):
                name = CONTROL_NAMES[message.control - FIRST_CC]
                raw.setdefault(name, []).append((tick, message.value / 127))
    for name, found in raw.items():
        found.sort(key=lambda e: e[0])  # stable: of events at one tick the last one holds
        times = np.round(tempo.seconds(np.array([float(t) for t, _ in found])) * 1e6)
        raw[name] = [(int(t), v) for t, (_, v) in zip(times, found, strict=True)]
    end = float(tempo.seconds(np.array([float(tempo.end_tick)]))[0])
    return {None: _faders(raw, round(end * 1e6))}


def _csv(source: Source) -> dict[str | None, Faders]:
    from formats.foreign.delimited import cells, content_lines, delimiter_of, number, text_bytes

    lines = content_lines(text_bytes(source))
    row, head = next(lines, (0, ""))
    mark = delimiter_of(head)
    names = [c.lower() for c in cells(head, mark)]
    clock = next((c for c in _TIMES if c in names), None)
    if clock is None:
        raise FormatError("no time column", file=source.path, row=row, hint="need t_us or t_s")
    if len(set(names)) != len(names):
        twice = next(n for n in names if names.count(n) > 1)
        raise FormatError("a column comes twice", file=source.path, row=row, field=twice)
    raw: dict[str, list[tuple[int, float]]] = {}
    end = -LATEST_US
    for row, line in lines:
        parts = cells(line, mark)
        if len(parts) != len(names):
            raise FormatError(f"{len(parts)} columns, the header has {len(names)}", file=source.path, row=row)
        found = dict(zip(names, parts, strict=True))
        try:
            t_us = _time(number(found[clock]), clock, end, source, row)
            values = {c: number(found[c]) for c in CONTROL_NAMES if c in found}
        except ValueError as e:
            raise FormatError(f"{str(e)[:80]}: not a number", file=source.path, row=row) from None
        end = t_us
        for name, value in values.items():
            if value == value:  # an empty cell is no event
                raw.setdefault(name, []).append((t_us, _value(value, name, source, row)))
    return {None: _faders(raw, end)}


def _json_lines(source: Source) -> dict[str | None, Faders]:
    from formats.jsonstrict import iter_lines

    raw: dict[str, list[tuple[int, float]]] = {}
    end = -LATEST_US
    for row, item in iter_lines(source):
        if not isinstance(item, dict) or not isinstance(item.get("address"), str):
            raise FormatError("a line needs an address", file=source.path, row=row, field="address")
        clock = next((c for c in _TIMES if c in item), None)
        if clock is None:
            raise FormatError("a line needs t_us or t_s", file=source.path, row=row, field="t_us")
        end = _time(item[clock], clock, end, source, row)
        name = item["address"].removeprefix(PREFIX)
        if item["address"].startswith(PREFIX) and name in CONTROL_NAMES:
            raw.setdefault(name, []).append((end, _value(item.get("value"), "value", source, row)))
    return {None: _faders(raw, end)}


def _time(value: Any, clock: str, before: int, source: Source, row: int) -> int:
    if type(value) not in (int, float) or not abs(value * _TIMES[clock]) < LATEST_US:
        raise FormatError(f"{str(value)[:40]} is no time", file=source.path, row=row, field=clock)
    t_us = round(float(value) * _TIMES[clock])
    if t_us < before:
        raise FormatError("time goes back", file=source.path, row=row, field=clock)
    return t_us


def _value(value: Any, field: str, source: Source, row: int) -> float:
    if type(value) not in (int, float) or not 0 <= value <= 1:
        raise FormatError(f"{str(value)[:40]} is outside 0..1", file=source.path, row=row, field=field)
    return float(value)
