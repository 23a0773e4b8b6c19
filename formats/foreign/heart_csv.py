"""Read heart-rate tables with a header, and logs of Bluetooth heart-rate sensors (JSON Lines, JSON, CSV)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from formats import jsonstrict
from formats.errors import FormatError
from formats.foreign.delimited import (
    CUT,
    TABLE_CAP,
    cells,
    content_lines,
    delimiter_of,
    head_lines,
    number,
    plain_name,
    text_bytes,
)
from formats.foreign.guard import contained
from formats.foreign.jsonpeek import mentions, peek, plain_key
from formats.foreign.model import F64, Facts, Series
from formats.foreign.registry import Reader
from formats.foreign.source import Source
from formats.foreign.timeline import TimeColumn, mixed_times, nominal_rate, text_times, unwrap
from formats.foreign.wearable import HR_NAMES, RR_NAMES, heart_rate, interval_ms, series_facts

# Best first: a table may hold both a Unix time and an elapsed time.
TIME_NAMES = (
    "t_unix_us", "t_unix_ms", "t_unix_s", "unix_time", "unix_timestamp", "unix", "epoch", "epoch_ms", "t_us",
    "timestamp_us", "timestamp_ns", "timestamp_ms", "timestamp_s", "timestamp", "phone_timestamp", "sensor_timestamp",
    "datetime", "date_time", "iso_time", "utc", "time_utc", "ts", "time", "t", "t_ms", "time_ms", "time_s", "t_s",
    "seconds", "elapsed_s", "elapsed_ms", "elapsed", "elapsed_time", "date",
)  # fmt: skip
OTHER_NAMES = {
    "acc_x": "acc_x", "acc_y": "acc_y", "acc_z": "acc_z", "ax": "acc_x", "ay": "acc_y", "az": "acc_z",
    "accel_x": "acc_x", "accel_y": "acc_y", "accel_z": "acc_z",
}  # fmt: skip
UNITS = {"hr": "beats/min", "rr": "ms", "acc_x": "", "acc_y": "", "acc_z": ""}
# A table with one of these is about music, videos or our own frames, not about a heart.
NOT_WEARABLE = frozenset(
    ("title", "artist", "track", "song", "file", "filename", "video_id", "session_id", "beat_phase", "motion_energy")
)
_JSON_HR = frozenset(plain_key(n) for n in HR_NAMES)
_JSON_RR = frozenset(plain_key(n) for n in RR_NAMES)
_JSON_TIME = {plain_key(n): n for n in TIME_NAMES}
_NOT_HEART_JSON = frozenset(("joints", "keypoints", "landmarks", "pose", "poses", "people", "frames", "tracks"))
_HINTS = (b"hr", b"heart", b"bpm", b"pulse", b"rr", b"ibi", b"beats_per")
_LIST_SEPARATORS = re.compile(r"[\s;|/]+")


def _columns(names: list[str]) -> tuple[int, dict[str, int]] | None:
    """Index of the time column and of each signal; None when the header is not that of a heart-rate table."""
    if NOT_WEARABLE & set(names):
        return None
    time = next((names.index(n) for n in TIME_NAMES if n in names), None)
    found: dict[str, int] = {}
    for i, name in enumerate(names):
        signal = "hr" if name in HR_NAMES else "rr" if name in RR_NAMES else OTHER_NAMES.get(name)
        if signal is not None and i != time:
            found.setdefault(signal, i)
    return (time, found) if time is not None and {"hr", "rr"} & set(found) else None


def _sniff_csv(head: bytes, name: str, size: int) -> bool:
    first = head[:1024].split(b"\n", 1)[0].lower()
    if first[:1] != b"#" and not any(hint in first for hint in _HINTS):
        return False
    lines = head_lines(head, 2)
    if not lines or len(lines[0]) > 1024:
        return False
    delimiter = delimiter_of(lines[0])
    names = [plain_name(c) for c in cells(lines[0], delimiter)]
    return len(names) > 1 and _columns(names) is not None


def _mean_of_list(cell: str) -> float:
    """Mean of a cell that holds one interval, or several between blanks, `;` or `|`."""
    parts = [number(p) for p in _LIST_SEPARATORS.split(cell.strip("[] ")) if p]
    finite = [p for p in parts if p == p and p > 0]
    return sum(finite) / len(finite) if finite else float("nan")


def _series(times: TimeColumn, columns: dict[str, F64], problems: tuple[str, ...]) -> Series:
    said = times.assumptions
    if "hr" in columns:
        columns["hr"] = heart_rate(columns["hr"])
    if "rr" in columns:
        columns["rr"], more = interval_ms(columns["rr"])
        said += more
    names = tuple(n for n in columns if n in ("hr", "rr") or np.isfinite(columns[n]).any())
    t_us, values, found, spread = unwrap(times.t_us, np.stack([columns[n] for n in names], axis=1))
    t0 = int(t_us[0])
    units = tuple(UNITS[n] for n in names)
    rate = nominal_rate(t_us)
    return Series(t_us - t0, values, names, units, rate, times.clock(t0), problems + found, said + spread)


@contained
def read_csv(source: Source) -> Series:
    """Read a table whose header names a time and a heart rate (or beat intervals), in any order and delimiter.

    Raises:
        FormatError: no such header, no rows, or a cell that is neither number nor time.
    """
    data = text_bytes(source)
    lines = content_lines(data)
    header = next(lines, (0, ""))[1]
    delimiter = delimiter_of(header)
    titles = cells(header, delimiter)
    found = _columns([plain_name(c) for c in titles])
    if found is None:
        raise FormatError("the header names no time and heart rate", row=1)
    time, signals = found
    last = data.count(b"\n") + 1
    texts: list[str] = []
    rows: list[int] = []
    values: dict[str, list[float]] = {name: [] for name in signals}
    problems: tuple[str, ...] = ()
    for row, line in lines:
        parts = cells(line, delimiter)
        if len(parts) < len(titles):
            if row == last and texts:
                problems = (CUT,)
                break
            raise FormatError(f"{len(parts)} columns where {len(titles)} were expected", row=row)
        texts.append(parts[time])
        rows.append(row)
        for name, i in signals.items():
            try:
                values[name].append(_mean_of_list(parts[i]) if name == "rr" else number(parts[i]))
            except ValueError:
                raise FormatError(f"{parts[i][:40]!r} is not a number", row=row, field=titles[i]) from None
    if not texts:
        raise FormatError("no rows after the header")
    unit = re.search(r"\[(s|ms|us|ns)\]|\((s|ms|us|ns)\)", titles[time].lower())
    label = plain_name(titles[time]) + (f"_{unit.group(1) or unit.group(2)}" if unit else "")
    try:
        times = text_times(texts, label)
    except FormatError as e:
        at = rows[e.row - 1] if e.row is not None and 0 < e.row <= len(rows) else e.row
        raise FormatError(e.message, row=at, field=titles[time], hint=e.hint) from None
    return _series(times, {n: np.array(v, np.float64) for n, v in values.items()}, problems)


def _sniff_json(head: bytes, name: str, size: int) -> bool:
    if not mentions(head, _HINTS):
        return False
    found = peek(head)
    if found is None or _NOT_HEART_JSON & (found.keys | found.nested):
        return False
    return bool((_JSON_HR | _JSON_RR) & found.keys) and any(k in _JSON_TIME for k in found.keys)


def _interval(value: object) -> float:
    parts = value if isinstance(value, list) else [value]
    numbers = [float(p) for p in parts if isinstance(p, (int, float)) and not isinstance(p, bool) and p > 0]
    return sum(numbers) / len(numbers) if numbers else float("nan")


def _json_rows(source: Source) -> tuple[list[tuple[int, Mapping[str, Any]]], tuple[str, ...]]:
    """Rows of JSON Lines or of one array; a cut last line is dropped and said."""
    data = source.read_bytes(TABLE_CAP)
    found = peek(data[:4096])
    if found is not None and found.root == "[":
        whole = jsonstrict.loads(data, file=source.path)
        rows = list(enumerate(whole, 1))
        problems: tuple[str, ...] = ()
    else:
        rows, problems = [], ()
        parts = data.split(b"\n")
        for row, line in enumerate(parts, 1):
            try:
                if line.strip():
                    rows.append((row, jsonstrict.loads(line, file=source.path, row=row)))
            except FormatError:
                if row != len(parts) or not rows:
                    raise
                problems = (CUT,)
    for row, item in rows:
        if not isinstance(item, dict):
            raise FormatError("not an object with a time and a heart rate", row=row)
    return rows, problems


def _pick(item: Mapping[str, Any], wanted: dict[str, str] | frozenset[str]) -> str | None:
    keys = {plain_key(k): k for k in item}
    return next((keys[w] for w in wanted if w in keys), None)


@contained
def read_json(source: Source) -> Series:
    """Read rows `{t, hr, rr[]}`; the intervals of one packet become their mean.

    Raises:
        FormatError: not JSON, a row without a time, or a heart rate that is no number.
    """
    rows, problems = _json_rows(source)
    if not rows:
        raise FormatError("no rows")
    time = _pick(rows[0][1], _JSON_TIME)
    if time is None:
        raise FormatError("no time in the first row", row=rows[0][0])
    stamps: list[object] = []
    hr, rr = np.full(len(rows), np.nan), np.full(len(rows), np.nan)
    for i, (row, item) in enumerate(rows):
        if time not in item:
            raise FormatError("a row without a time", row=row, field=time)
        stamps.append(item[time])
        beat = item.get(_pick(item, _JSON_HR) or "")
        if isinstance(beat, bool) or not isinstance(beat, (int, float, type(None))):
            raise FormatError("a heart rate that is no number", row=row)
        hr[i] = float("nan") if beat is None else float(beat)
        rr[i] = _interval(item.get(_pick(item, _JSON_RR) or ""))
    columns = {"hr": hr, "rr": rr} if np.isfinite(rr).any() else {"hr": hr}
    return _series(mixed_times(stamps, _JSON_TIME[plain_key(time)]), columns, problems)


def _facts_csv(source: Source) -> Facts:
    return series_facts(read_csv, source, "heart-csv")


def _facts_json(source: Source) -> Facts:
    return series_facts(read_json, source, "heart-json")


READERS: tuple[Reader, ...] = (
    Reader("heart-csv", "wearable", _sniff_csv, _facts_csv, read_csv, order=30),
    Reader("heart-json", "wearable", _sniff_json, _facts_json, read_json, order=31),
)
