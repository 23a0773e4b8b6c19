"""Turn a column of times, as found, into a strictly increasing time line; what was wrong with it is said."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from formats.errors import FormatError
from formats.foreign.model import F32, F64, I64, T0_SIGMA_US, Clock
from formats.foreign.times import UNIT_NAMES, parse_iso, unix_power

_LONGEST_S = 10 * 366 * 86_400
_HMS = re.compile(r"([0-9]{1,3}):([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]{1,9}))?)?")
_UNIT_OF_NAME = (("_us", 6), ("_ns", 9), ("_ms", 3), ("millis", 3), ("msec", 3), ("_s", 0), ("_sec", 0), ("seconds", 0))


@dataclass(frozen=True, slots=True)
class TimeColumn:
    """Times of the rows.

    Args:
        t_us: (T,) int64 microseconds since 1970 UTC when `source` is not `none`, else since an unknown zero.
        source: `unix_time`, `iso_time` or `none`.
        naive: The text had no offset.
        assumptions: What was taken for granted.
    """

    t_us: I64
    source: str
    naive: bool = False
    assumptions: tuple[str, ...] = ()

    def clock(self, t0_us: int) -> Clock:
        """Clock of a time line that starts at `t0_us` of this column."""
        return Clock() if self.source == "none" else Clock(t0_us, self.source, T0_SIGMA_US[self.source], self.naive)


def scale_to_us(values: F64, power: int) -> I64:
    """Convert numbers in units of 10^-power s to integer microseconds.

    Whole and fraction are scaled apart: the product of a large float would round away microseconds.
    """
    if power > 6:
        # Whole nanoseconds of this century fit an int64 exactly.
        unit = 10 ** (power - 6)
        exact: I64 = np.rint(values).astype(np.int64)
        return np.asarray((exact + unit // 2) // unit, np.int64)
    factor = 10 ** (6 - power)
    whole = np.floor(values)
    us: I64 = whole.astype(np.int64) * factor + np.rint((values - whole) * factor).astype(np.int64)
    return us


def _relative_power(values: F64, name: str) -> tuple[int, tuple[str, ...]]:
    lowered = f"_{name.lower()}"
    for ending, power in _UNIT_OF_NAME:
        if lowered.endswith(ending):
            return power, ()
    steps = np.diff(values)
    steps = steps[steps > 0]
    if steps.size and float(np.median(steps)) >= 15.0 and float(values.max()) > 3600.0:
        return 3, ("a time column without unit was read as milliseconds",)
    return 0, ("a time column without unit was read as seconds",)


def numeric_times(values: F64, name: str = "") -> TimeColumn:
    """Read numbers as Unix time (by magnitude), else as time since an unknown zero (unit from `name` or guessed).

    Raises:
        FormatError: not finite, units mixed, or more than ten years long.
    """
    if values.size == 0:
        return TimeColumn(np.zeros(0, np.int64), "none")
    if not np.isfinite(values).all():
        raise FormatError("a time is missing", row=int(np.flatnonzero(~np.isfinite(values))[0]) + 1)
    power = unix_power(float(np.median(values)))
    if power is not None:
        if unix_power(float(values.min())) != power or unix_power(float(values.max())) != power:
            raise FormatError(f"Unix times in {UNIT_NAMES[power]} are mixed with other numbers", field=name or None)
        return TimeColumn(scale_to_us(values, power), "unix_time")
    power, said = _relative_power(values, name)
    if float(np.abs(values).max()) > _LONGEST_S * 10**power:
        raise FormatError("times span more than ten years", field=name or None)
    return TimeColumn(scale_to_us(values, power), "none", False, said)


def _clock_times(texts: Sequence[str]) -> TimeColumn | None:
    """Times of day `hh:mm:ss.fff`, midnight unwrapped; None when they are not."""
    out = np.empty(len(texts), np.int64)
    day = 0
    for i, text in enumerate(texts):
        match = _HMS.fullmatch(text.strip())
        if match is None:
            return None
        hours, minutes, seconds, digits = match.groups()
        us = (int(hours) * 3600 + int(minutes) * 60 + int(seconds or 0)) * 1_000_000
        us += int((digits or "0").ljust(6, "0")[:6]) + day
        if i and us < out[i - 1] - 43_200_000_000:
            day += 86_400_000_000
            us += 86_400_000_000
        out[i] = us
    return TimeColumn(out, "none", False, ("times of day without a date were read as time since an unknown zero",))


def text_times(texts: Sequence[str], name: str = "") -> TimeColumn:
    """Read a column of text: numbers, ISO times, or times of day.

    Raises:
        FormatError: an entry that is no time (row = its 1-based position), or offsets on some entries only.
    """
    try:
        return numeric_times(np.array([float(text) for text in texts], np.float64), name)
    except ValueError:
        pass
    of_day = _clock_times(texts)
    if of_day is not None:
        return of_day
    out = np.empty(len(texts), np.int64)
    naive: bool | None = None
    for i, text in enumerate(texts):
        try:
            stamp = parse_iso(text)
        except FormatError as e:
            raise FormatError(e.message, row=i + 1, field=name or None, hint=e.hint) from None
        if naive is not None and stamp.naive != naive:
            raise FormatError("times with and without an offset are mixed", row=i + 1, field=name or None)
        naive = stamp.naive
        out[i] = stamp.us
    return TimeColumn(out, "iso_time", bool(naive))


def mixed_times(values: Sequence[object], name: str = "") -> TimeColumn:
    """Read JSON values, all numbers or all text. Raises FormatError for anything else."""
    for row, value in enumerate(values, 1):
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise FormatError(f"{type(value).__name__} is not a time", row=row, field=name or None)
    if all(isinstance(v, (int, float)) for v in values):
        try:
            return numeric_times(np.array([float(v) for v in values], np.float64), name)  # type: ignore[arg-type]
        except OverflowError:
            raise FormatError("a time is larger than any clock", field=name or None) from None
    if not all(isinstance(v, str) for v in values):
        raise FormatError("numbers and text are mixed in the times", field=name or None)
    return text_times([str(v) for v in values], name)


def spread_batches(t_us: I64) -> tuple[I64, int]:
    """Spread runs of one repeated stamp evenly over the interval before it; the input is sorted.

    A sensor that delivers k samples at once stamps them all with the moment of delivery; the samples lie before it.
    After a pause a run reaches back no further than 1.5 usual sample periods a sample.

    Returns:
        Non-decreasing times, and how many rows were moved.
    """
    stamps, first, counts = np.unique(t_us, return_index=True, return_counts=True)
    if stamps.size == t_us.size:
        return t_us, 0
    gaps = np.diff(stamps)
    period = max(1, int(np.median(gaps / counts[1:]))) if gaps.size else 1_000_000
    span = np.concatenate((counts[:1] * period, np.minimum(gaps, counts[1:] * (period * 3 // 2 + 1))))
    later = np.repeat(counts, counts) - 1 - (np.arange(t_us.size) - np.repeat(first, counts))
    moved = t_us - later * np.repeat(span, counts) // np.repeat(counts, counts)
    return moved.astype(np.int64), int((later > 0).sum())


def _without_duplicates(t_us: I64, rows: F32) -> tuple[I64, F32, int]:
    """Keep one row of every stamp whose rows are all equal; a stamp with different rows is a batch and stays whole."""
    same_time = np.diff(t_us) == 0
    if not same_time.any():
        return t_us, rows, 0
    equal = ((rows[1:] == rows[:-1]) | (np.isnan(rows[1:]) & np.isnan(rows[:-1]))).all(axis=1)
    run = np.concatenate(([0], np.cumsum(~same_time)))
    is_batch = np.zeros(int(run[-1]) + 1, bool)
    is_batch[run[1:][same_time & ~equal]] = True
    keep = np.concatenate(([True], ~same_time)) | is_batch[run]
    return t_us[keep], rows[keep], int((~keep).sum())


def unwrap(
    t_us: I64, values: NDArray[np.float64] | F32, *, spread: bool = True
) -> tuple[I64, F32, tuple[str, ...], tuple[str, ...]]:
    """Sort by time, drop exact duplicates, spread batches (or keep the first of each stamp).

    Args:
        t_us: (T,) int64. values: (T, C).
        spread: Spread rows of one stamp; otherwise only the first is kept.

    Returns:
        Strictly increasing times, float32 values, problems, assumptions.
    """
    problems: list[str] = []
    said: list[str] = []
    back = int((np.diff(t_us) < 0).sum())
    if back:
        problems.append(f"backward_steps: time runs backward {back} times, rows were sorted")
        order = np.argsort(t_us, kind="stable")
        t_us, values = t_us[order], values[order]
    # Numbers beyond float32 are no measurement of a body; they become missing, like NaN.
    with np.errstate(over="ignore", invalid="ignore"):
        rows = values.astype(np.float32)
    rows[~np.isfinite(rows)] = np.nan
    t_us, rows, dropped = _without_duplicates(t_us, rows)
    if dropped:
        problems.append(f"duplicate_rows: {dropped} repeated rows were dropped")
    if t_us.size > 1 and bool((np.diff(t_us) == 0).any()):
        if spread:
            t_us, moved = spread_batches(t_us)
            said.append(f"{moved} rows that share a time stamp were spread over the interval before it")
        keep = np.concatenate(([True], np.diff(t_us) > 0))
        if not keep.all():
            problems.append(f"repeated_times: {int((~keep).sum())} further rows with one time stamp were dropped")
            t_us, rows = t_us[keep], rows[keep]
    return t_us, rows, tuple(problems), tuple(said)


def nominal_rate(t_us: I64) -> tuple[int, int] | None:
    """Rate in Hz as (numerator, denominator) when 80 % of the steps lie within 10 % of the median, else None."""
    steps = np.diff(t_us)
    if steps.size < 2:
        return None
    median = float(np.median(steps))
    if median <= 0 or float((np.abs(steps - median) <= 0.1 * median).mean()) < 0.8:
        return None
    steady = steps[np.abs(steps - median) <= 0.1 * median]
    rate = Fraction(1e6 / float(steady.mean())).limit_denominator(1000)
    snapped = rate.limit_denominator(1) if rate > 2 else rate.limit_denominator(10)
    if snapped and abs(float(snapped / rate) - 1) < 0.005:
        rate = snapped
    return (rate.numerator, rate.denominator) if rate > 0 else None
