"""Read the CSV files of an Empatica E4: Unix start in row 1, rate in Hz in row 2, one sensor a file."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from itertools import islice

import numpy as np

from formats.errors import FormatError
from formats.foreign.delimited import (
    NUMBERS_CAP,
    NUMBERS_ROWS,
    cells,
    content_lines,
    head_lines,
    is_number,
    numbers,
    text_bytes,
)
from formats.foreign.guard import contained
from formats.foreign.model import T0_SIGMA_US, Clock, Facts, Series
from formats.foreign.registry import Reader
from formats.foreign.source import Source
from formats.foreign.timeline import scale_to_us, unwrap
from formats.foreign.times import parse_unix, unix_power
from formats.foreign.wearable import heart_rate, series_facts

# Names, units and factor of each sensor; an E4 counts acceleration in 1/64 g.
SENSORS: dict[str, tuple[tuple[str, ...], tuple[str, ...], float]] = {
    "acc": (("acc_x", "acc_y", "acc_z"), ("g", "g", "g"), 1 / 64),
    "bvp": (("bvp",), ("nW",), 1.0),
    "eda": (("eda",), ("uS",), 1.0),
    "hr": (("hr",), ("beats/min",), 1.0),
    "temp": (("temp",), ("degC",), 1.0),
}
_BY_SHAPE = {(32, 3): "acc", (64, 1): "bvp", (1, 1): "hr"}
HIGHEST_RATE = 10_000


def _header(lines: list[str]) -> tuple[str, Fraction, int] | None:
    """Start as text, rate and column count of the two header rows; None when they are not there."""
    if len(lines) < 2:
        return None
    starts, rates = cells(lines[0], ","), cells(lines[1], ",")
    if len(starts) != len(rates) or len(starts) not in (1, 3) or len(set(starts)) != 1 or len(set(rates)) != 1:
        return None
    if not (is_number(starts[0]) and is_number(rates[0])) or unix_power(float(starts[0])) != 0:
        return None
    rate = float(rates[0])
    if not 0.01 <= rate <= HIGHEST_RATE:
        return None
    return starts[0], Fraction(rate).limit_denominator(1000), len(starts)


def _sensor(name: str, rate: Fraction, width: int) -> str | None:
    stem = name.rsplit(".", 1)[0].lower()
    for sensor, (names, _, _) in SENSORS.items():
        if (stem == sensor or stem.endswith((f"_{sensor}", f"-{sensor}"))) and len(names) == width:
            return sensor
    return _BY_SHAPE.get((int(rate), width)) if rate.denominator == 1 else None


def _sniff(head: bytes, name: str, size: int) -> bool:
    return head[:1].isdigit() and _header(head_lines(head, 2)) is not None


def _sniff_ibi(head: bytes, name: str, size: int) -> bool:
    first = head[:64].split(b"\n", 1)[0]
    start, comma, label = first.partition(b",")
    return bool(comma) and label.strip().upper() == b"IBI" and is_number(start.decode("latin-1"))


def _sniff_tags(head: bytes, name: str, size: int) -> bool:
    if name.lower().rsplit("/", 1)[-1] not in ("tags.csv", "tags_s.csv"):
        return False
    lines = head_lines(head, 3)
    return size == 0 or (bool(lines) and all(is_number(s) and unix_power(float(s)) == 0 for s in lines))


@contained
def read(source: Source) -> Series:
    """Read one sensor; t0 is row 1, the times are sample counts over the rate of row 2.

    Raises:
        FormatError: no header, no samples, or a cell that is no number.
    """
    data = text_bytes(source, NUMBERS_CAP, NUMBERS_ROWS)
    header = _header([line for _, line in islice(content_lines(data), 2)])
    if header is None:
        raise FormatError("rows 1 and 2 are not a Unix start and a rate")
    start, rate, width = header
    values, problems = numbers(data, 2, ",", width)
    if not len(values):
        raise FormatError("no samples after the two header rows")
    sensor = _sensor(source.name, rate, width)
    names, units, factor = (
        SENSORS[sensor] if sensor else (tuple(f"value_{i}" for i in range(width)), ("",) * width, 1.0)
    )
    if sensor == "hr":
        values = heart_rate(values)
    count = np.arange(len(values), dtype=np.int64)
    t_us = (count * (1_000_000 * rate.denominator) + rate.numerator // 2) // rate.numerator
    clock = Clock(parse_unix(start).us, "unix_time", T0_SIGMA_US["unix_time"])
    said = () if sensor else ("the sensor is named neither by the file nor by its rate",)
    scaled = (values * factor).astype(np.float32)
    return Series(t_us, scaled, names, units, (rate.numerator, rate.denominator), clock, problems, said)


@contained
def read_ibi(source: Source) -> Series:
    """Read beat-to-beat intervals: seconds after the start, and the interval before that beat in ms.

    Raises:
        FormatError: no start, no rows, or a cell that is no number.
    """
    data = text_bytes(source)
    start = cells(next(content_lines(data), (0, ""))[1], ",")[0]
    zero = parse_unix(start).us
    values, problems = numbers(data, 1, ",", 2)
    if not len(values):
        raise FormatError("no intervals after the header row")
    if np.isnan(values[:, 0]).any() or float(np.abs(values[:, 0]).max()) > 366 * 86_400:
        raise FormatError("a beat time is missing or longer than a year")
    t_us, rows, more, said = unwrap(scale_to_us(values[:, 0], 0), values[:, 1:] * 1000.0, spread=False)
    clock = Clock(zero + int(t_us[0]), "unix_time", T0_SIGMA_US["unix_time"])
    return Series(t_us - t_us[0], rows, ("rr",), ("ms",), None, clock, problems + more, said)


def _facts(source: Source) -> Facts:
    return series_facts(read, source, "e4")


def _facts_ibi(source: Source) -> Facts:
    return series_facts(read_ibi, source, "e4-ibi")


@contained
def _facts_tags(source: Source) -> Facts:
    times, _ = numbers(text_bytes(source), 0, ",", 1)
    note = "button marks of the wearer" if len(times) else "button marks of the wearer, none pressed"
    return Facts("other", "e4-tags", n=len(times), meta={"note": note})


def disagreements(files: Mapping[str, Facts]) -> tuple[str, ...]:
    """Say where the files of one E4 folder contradict each other; a known cause is a cut to equal line counts.

    Args:
        files: Facts by file name, e.g. {"ACC.csv": ..., "HR.csv": ...}.
    """
    spans = {
        name: (f.clock.t0_utc_us, f.clock.t0_utc_us + f.duration_us)
        for name, f in sorted(files.items())
        if f.format == "e4" and f.clock.t0_utc_us is not None and f.duration_us is not None
    }
    if len(spans) < 2:
        return ()
    ends = {name: end for name, (_, end) in spans.items()}
    first, last = min(ends, key=lambda k: ends[k]), max(ends, key=lambda k: ends[k])
    if ends[last] - ends[first] <= 30_000_000:
        return ()
    overlap = min(ends.values()) - max(start for start, _ in spans.values())
    return (
        f"duration_contradiction: {first} ends {(ends[last] - ends[first]) / 1e6:.1f} s before {last}, "
        f"all overlap for {max(0, overlap) / 1e6:.1f} s",
    )


READERS: tuple[Reader, ...] = (
    Reader("e4-ibi", "wearable", _sniff_ibi, _facts_ibi, read_ibi, order=20),
    Reader("e4", "wearable", _sniff, _facts, read, order=21),
    Reader("e4-tags", "other", _sniff_tags, _facts_tags, None, order=22),
)
