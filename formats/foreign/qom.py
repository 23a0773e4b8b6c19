"""Quantity-of-motion tables made from video: `frame,time_s,qom,centroid_x,...`, on their own times."""

from __future__ import annotations

import re

import numpy as np

from formats.errors import FormatError
from formats.foreign.model import Facts, Series
from formats.foreign.pose_clock import TIME_KEYS, clean, parse_times
from formats.foreign.pose_sniff import csv_cells
from formats.foreign.pose_table import column_of, floats, read_table
from formats.foreign.registry import Reader
from formats.foreign.source import Source

_QOM = ("qom", "quantity_of_motion", "quantity of motion", "quantityofmotion")
_NAMES = {
    **dict.fromkeys(_QOM, "qom"), "comx": "centroid_x", "com_x": "centroid_x", "centroidx": "centroid_x",
    "comy": "centroid_y", "com_y": "centroid_y", "centroidy": "centroid_y",
}  # fmt: skip
_UNITS = {"qom": "1", "centroid_x": "px", "centroid_y": "px"}
MAX_VALUE_COLUMNS = 64


def read(source: Source) -> Series:
    """Read a quantity-of-motion table. Its time column is used; time is never rebuilt from frame / fps.

    Raises:
        FormatError: no time column, no qom column, no rows, or rows of different lengths.
    """
    try:
        return _read(source)
    except (ValueError, IndexError, KeyError, OverflowError, TypeError) as e:
        raise FormatError(f"not a quantity-of-motion table: {type(e).__name__}", file=source.path) from e


def _read(source: Source) -> Series:
    header, rows, problems = read_table(source)
    time_at = column_of(header, TIME_KEYS)
    if column_of(header, _QOM) is None or time_at is None:
        raise FormatError("needs a time column and a qom column", file=source.path, row=1)
    if not rows:
        raise FormatError("no rows", file=source.path)
    columns = list(zip(*rows, strict=True))
    skip = {time_at, column_of(header, ("frame", "frame_index", "index"))}
    at = [i for i in range(len(header)) if i not in skip][:MAX_VALUE_COLUMNS]
    names = [_NAMES.get(header[i].lower(), header[i]) for i in at]
    values = np.stack([floats(list(columns[i])) for i in at], axis=1)
    times = parse_times(list(columns[time_at]), header[time_at])
    found = clean(times, values)
    if not len(found.keep):
        raise FormatError("no row with a usable time", file=source.path)
    return Series(
        t_us=found.t_us, values=values[found.keep].astype(np.float32), names=tuple(names),
        units=tuple(_UNITS.get(n, "px" if re.search(r"(bbox|px|aom|box)", n, re.I) else "") for n in names),
        rate=found.rate, clock=found.clock, problems=(*problems, *found.problems), assumptions=times.assumptions,
    )  # fmt: skip


def facts(source: Source) -> Facts:
    """The facts of a quantity-of-motion table."""
    series = read(source)
    period = round(1e6 * series.rate[1] / series.rate[0]) if series.rate else 0
    first = int(series.t_us[1]) if len(series.t_us) > 1 else None
    return Facts(
        "motion", "qom-csv", n=len(series.t_us), rate=series.rate, duration_us=int(series.t_us[-1]) + period,
        channels=len(series.names), clock=series.clock, problems=series.problems,
        meta={"names": list(series.names), "fps_source": "timestamps", "first_step_us": first},
    )  # fmt: skip


def sniff(head: bytes, name: str, size: int) -> bool:
    """Whether the header line names a time and a quantity of motion."""
    line = head.split(b"\n", 1)[0]
    if b"qom" not in line[:512].lower() and b"quantity" not in line[:512].lower():
        return False
    low = [c.lower().lstrip("\ufeffï»¿") for c in csv_cells(line.decode("latin-1"))]
    return any(c in _QOM for c in low) and any(c in TIME_KEYS for c in low)


READERS: tuple[Reader, ...] = (Reader("qom-csv", "motion", sniff, facts, read, 44),)
