"""Times as found in pose files: which unit they are in, when zero was, and a clean strictly increasing clock."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

import numpy as np

from formats.foreign.model import F64, I64, T0_SIGMA_US, Clock

TIME_KEYS: tuple[str, ...] = (
    "t_us", "t_ns", "t_ms", "t_s", "t", "time_us", "time_ns", "time_ms", "time_s", "time", "timestamp_us",
    "timestamp_ns",
    "timestamp_ms", "timestamp_s", "timestamp", "timestampms", "timestampus", "ts_us", "ts_ms", "ts", "unix_us",
    "unix_ms",
    "unix_s", "unix", "unix_time", "unixtime", "epoch_ms", "epoch", "utc", "iso", "datetime", "date_time", "created_at",
    "createdat", "captured_at", "capturedat", "recorded_at", "seconds", "millis", "milliseconds", "time_stamp",
    "frame_time", "device_time", "host_time", "time_sec", "time_seconds", "timestamp_sec", "elapsed", "elapsed_ms",
)  # fmt: skip
FRAME_KEYS: tuple[str, ...] = (
    "frame", "frame_id", "frameid", "frame_index", "frameindex", "frame_number", "framenumber", "frame_idx",
    "image_id", "index",
)  # fmt: skip
UNIT_US = {"s": 1_000_000, "ms": 1_000, "us": 1}
# Rates that cameras, phones and mocap systems run at; a rounded period is snapped to them within 0.1 %.
COMMON_RATES: tuple[tuple[int, int], ...] = (
    (1, 2), (1, 1), (2, 1), (4, 1), (5, 1), (8, 1), (10, 1), (12, 1), (15, 1), (20, 1), (24000, 1001), (24, 1), (25, 1),
    (30000, 1001), (30, 1), (50, 1), (60000, 1001), (60, 1), (90, 1), (100, 1), (120000, 1001), (120, 1), (200, 1),
    (240, 1),
)  # fmt: skip
GAP_PERIODS = 5
MAX_FRAMES = 10**9
RATE_TOLERANCE = 0.03
_US_LIMIT = 4_102_444_800_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Times:
    """Raw times in microseconds: absolute (UTC, or wall time when `naive`) or counted from an unknown zero."""

    us: I64
    valid: np.ndarray[Any, np.dtype[np.bool_]]
    absolute: bool
    naive: bool = False
    iso: bool = False
    assumptions: tuple[str, ...] = ()


def iso_us(text: str) -> tuple[int, bool] | None:
    """Microseconds since 1970 of an ISO 8601 time and whether it had no offset; None when it is not one."""
    try:
        when = datetime.fromisoformat(text.strip()[:64])
    except ValueError:
        return None
    naive = when.tzinfo is None
    delta = (when.replace(tzinfo=UTC) if naive else when) - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds, naive


def unit_of_key(key: str | None) -> str | None:
    """The unit a key names (`t_us`, `timestampMs`), None when it names none."""
    low = (key or "").lower()
    if re.search(r"(_ns|nanos|timestampns)", low):
        return "ns"
    if re.search(r"(_us|micros|timestampus)", low):
        return "us"
    if re.search(r"(_ms|millis|timestampms)", low):
        return "ms"
    return "s" if re.search(r"(_s|_sec|seconds?)$", low) else None


def parse_times(values: Sequence[Any], key: str | None = None, unit: str | None = None) -> Times:
    """Turn raw time values into integer microseconds.

    The unit is, in this order: `unit`, the one the key names, the magnitude (unix time in s, ms, us or ns), and
    for small whole numbers in steps above 5 milliseconds (an assumption), else seconds. Text may be ISO 8601.
    """
    unit = unit if unit in ("s", "ms", "us", "ns", "iso") else unit_of_key(key)
    n = len(values)
    us, valid = np.zeros(n, np.int64), np.zeros(n, bool)
    if (
        any(isinstance(v, str) for v in values)
        and unit != "iso"
        and all(_number(v) is None for v in values if v is not None)
    ):
        unit = "iso"
    if unit == "iso":
        naive = False
        for i, v in enumerate(values):
            found = iso_us(v) if isinstance(v, str) else None
            if found is not None and 0 <= found[0] < _US_LIMIT:
                us[i], valid[i] = found[0], True
                naive = naive or found[1]
        return Times(us, valid, True, naive, True)
    numbers = [_number(v) for v in values]
    real = [abs(v) for v in numbers if v is not None]
    notes: tuple[str, ...] = ()
    unit, note = (unit, "") if unit else _guess_unit(numbers, float(np.median(real)) if real else 0.0)
    if note:
        notes = (note,)
    for i, v in enumerate(numbers):
        if v is None:
            continue
        value = v // 1000 if unit == "ns" and isinstance(v, int) else v / 1000 if unit == "ns" else v * UNIT_US[unit]
        if abs(value) < _US_LIMIT:
            us[i], valid[i] = round(value), True
    absolute = bool(valid.any()) and float(np.median(us[valid])) >= 1e14
    return Times(us, valid, absolute, assumptions=notes)


def _number(value: Any) -> int | float | None:
    if isinstance(value, str):
        try:
            value = int(value) if re.fullmatch(r"[+-]?\d{1,19}", value.strip()) else float(value[:64])
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if value == value and abs(value) < 1e19 else None


def _guess_unit(numbers: Sequence[int | float | None], size: float) -> tuple[str, str]:
    for limit, unit in ((1e8, ""), (1e11, "s"), (1e14, "ms"), (1e17, "us"), (1e20, "ns")):
        if size < limit:
            if unit:
                return unit, ""
            break
    real = np.array([v for v in numbers if v is not None], np.float64)
    steps = np.abs(np.diff(real))
    if len(steps) and np.all(real == np.floor(real)) and float(np.median(steps)) > 5:
        return "ms", "time without a unit taken as milliseconds"
    return "s", ""


def snap_rate(period_us: float) -> tuple[int, int] | None:
    """The rate of a period, snapped to a common one within 0.1 % (29.97 and 30 are 0.1 % apart: the nearer wins)."""
    if not np.isfinite(period_us) or period_us < 1:
        return None
    hz = 1e6 / period_us
    near = min(COMMON_RATES, key=lambda r: abs(r[0] / r[1] / hz - 1))
    if abs(near[0] / near[1] / hz - 1) <= 1e-3:
        return near
    ratio = Fraction(1_000_000 / period_us).limit_denominator(100_000)
    return (ratio.numerator, ratio.denominator) if ratio > 0 else None


def rate_of(fps: float | None) -> tuple[int, int] | None:
    """A declared frame rate as a ratio; None unless it lies in 0.01..10000 Hz."""
    if fps is None or isinstance(fps, bool) or not isinstance(fps, int | float) or not 0.01 <= fps <= 10_000:
        return None
    return snap_rate(1e6 / fps)


def contradiction(declared: float | None, implied: float | None) -> str | None:
    """The problem `rate_contradiction` when a declared rate and the implied one differ by more than 3 %."""
    if not declared or not implied or abs(implied / declared - 1) <= RATE_TOLERANCE:
        return None
    return f"rate_contradiction: declared {declared:g} fps, implied {implied:.3g}"


@dataclass(frozen=True, slots=True)
class CleanTime:
    """A clean clock: which rows to keep, in which order, and their times from zero."""

    keep: I64
    t_us: I64
    rate: tuple[int, int] | None
    clock: Clock
    problems: tuple[str, ...]


def clean(times: Times, values: F64 | None, source: str = "", sigma_us: int | None = None) -> CleanTime:
    """Sort rows by time, drop those without a time and exact duplicates, and report what was found.

    Args:
        times: Raw times.
        values: (T, ...) content, to tell an exact duplicate from two rows with one time.
        source: Where absolute time comes from, overriding `iso_time` and `unix_time` (e.g. `ntp`).
        sigma_us: Stated uncertainty of the clock.
    """
    problems: list[str] = []
    rows = np.flatnonzero(times.valid)
    if len(rows) < len(times.valid):
        problems.append(f"no_time: {len(times.valid) - len(rows)} rows without a usable time dropped")
    raw = times.us[rows]
    back = int(np.count_nonzero(np.diff(raw) < 0))
    if back:
        problems.append(f"backward_time: {back} backward steps, rows sorted")
    order = np.argsort(raw, kind="stable")
    rows, raw = rows[order], raw[order]
    rows, raw, found = _drop_repeats(rows, raw, values)
    problems += found
    if not len(raw):
        return CleanTime(rows, raw, None, Clock(), tuple(problems))
    t = raw - raw[0]
    steps = np.diff(t)
    period = float(np.median(steps)) if len(steps) else float("nan")
    if len(steps):
        gaps = steps[steps > GAP_PERIODS * period]
        if len(gaps):
            problems.append(
                f"gaps: {len(gaps)} gaps longer than {GAP_PERIODS} median periods, longest {gaps.max() / 1e6:.3f} s"
            )
    clock = Clock()
    if times.absolute:
        origin = source or ("iso_time" if times.iso else "unix_time")
        clock = Clock(int(raw[0]), origin, sigma_us or T0_SIGMA_US.get(origin), times.naive)
    # Written times are often rounded: the mean of the steps near the median is a better period than the median.
    near = steps[np.abs(steps - period) <= 0.5 * period]
    rate = snap_rate(float(near.mean())) if len(near) else None
    return CleanTime(rows, t, rate, clock, tuple(problems))


def _drop_repeats(rows: I64, raw: I64, values: F64 | None) -> tuple[I64, I64, list[str]]:
    same = np.flatnonzero(np.diff(raw) == 0) + 1
    if not len(same):
        return rows, raw, []
    exact = 0
    if values is not None:
        exact = sum(bool(np.array_equal(values[rows[i]], values[rows[i - 1]], equal_nan=True)) for i in same[:100_000])
    keep = np.ones(len(rows), bool)
    keep[same] = False
    problems = [f"duplicates: {exact} exact duplicate rows dropped"] if exact else []
    if len(same) > exact:
        problems.append(f"duplicate_time: {len(same) - exact} rows with the time of another row dropped, first kept")
    return rows[keep], raw[keep], problems


def frame_times(frames: I64, rate: tuple[int, int] | None) -> I64:
    """Microseconds of increasing frame numbers counted from the first one.

    Without a rate time is unknown: the result then counts frames, one microsecond each, only to keep them in order.
    """
    first = frames - frames[0] if len(frames) else frames
    if len(first) and int(first[-1]) > MAX_FRAMES:
        # Numbers that cannot be frame numbers (a time in a file name) only give the order.
        first = np.arange(len(first), dtype=np.int64)
    if rate is None:
        return first.astype(np.int64)
    num, den = rate
    if len(first) and int(first[-1]) * 2_000_000 * den > 2**62:
        return np.asarray(np.rint(first * (1e6 * den / num)), np.int64)
    return ((first.astype(np.int64) * (2_000_000 * den) + num) // (2 * num)).astype(np.int64)
