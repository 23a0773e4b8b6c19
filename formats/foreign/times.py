"""Read a moment as it is written in recordings: ISO 8601, or Unix seconds to nanoseconds by magnitude."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from functools import lru_cache

from formats.errors import FormatError
from formats.foreign.model import T0_SIGMA_US, Clock

# A recording of a dancer made before or after these years is a misread number, not a recording.
FIRST_YEAR, LAST_YEAR = 1990, 2099
_EPOCH_DAY = date(1970, 1, 1).toordinal()
LO_S = (date(FIRST_YEAR, 1, 1).toordinal() - _EPOCH_DAY) * 86_400
HI_S = (date(LAST_YEAR, 12, 31).toordinal() + 1 - _EPOCH_DAY) * 86_400
UNIT_NAMES = {0: "s", 3: "ms", 6: "us", 9: "ns"}

_ISO = re.compile(
    r"\s*([0-9]{4})([-/]?)([0-9]{2})\2([0-9]{2})[Tt _]+"
    r"([0-9]{2})([:-]?)([0-9]{2})(?:\6([0-9]{2})(?:[.,]([0-9]{1,12}))?)?"
    r"\s*(Z|z|UTC|GMT|[+-][0-9]{2}(?::?[0-9]{2})?)?\s*"
)
_MAX_TEXT = 64


@dataclass(frozen=True, slots=True)
class Stamp:
    """A moment: microseconds since 1970 UTC, or of the wall clock when `naive` (no offset was written).

    `source` is `iso_time` or `unix_time`.
    """

    us: int
    naive: bool
    source: str


@lru_cache(maxsize=64)
def _day(year: str, month: str, day: str) -> int:
    return date(int(year), int(month), int(day)).toordinal() - _EPOCH_DAY


def _fraction_us(digits: str | None) -> int:
    """Round decimal digits of a second to microseconds, half up."""
    if not digits:
        return 0
    padded = digits.ljust(7, "0")
    return int(padded[:6]) + (padded[6] >= "5")


@lru_cache(maxsize=64)
def _offset_us(zone: str | None) -> int:
    if not zone or zone[0] not in "+-":
        return 0
    digits = zone[1:].replace(":", "").ljust(4, "0")
    hours, minutes = int(digits[:2]), int(digits[2:])
    if hours > 14 or minutes > 59:
        raise ValueError(f"offset {zone} does not exist")
    return (1 if zone[0] == "+" else -1) * (hours * 60 + minutes) * 60_000_000


def parse_iso(text: str) -> Stamp:
    """Parse `2026-04-08T02:02:29.25+02:00` and its usual variants.

    Raises:
        FormatError: not such a time, or a year outside 1990..2099.
    """
    match = _ISO.fullmatch(text) if len(text) <= _MAX_TEXT else None
    if match is None:
        raise FormatError(f"{text[:40]!r} is not an ISO time", hint="write it like 2026-04-08T02:02:29Z")
    year, _, month, day, hour, _, minute, second, digits, zone = match.groups()
    try:
        days = _day(year, month, day)
        offset = _offset_us(zone)
    except ValueError as e:
        raise FormatError(f"{text[:40]!r} is not a date: {e}") from None
    clock = (int(hour), int(minute), int(second or 0))
    if clock[0] > 23 or clock[1] > 59 or clock[2] > 59:
        raise FormatError(f"{text[:40]!r} is not a time of day")
    seconds = days * 86_400 + clock[0] * 3600 + clock[1] * 60 + clock[2]
    if not LO_S <= seconds < HI_S:
        raise FormatError(f"year {year} is outside {FIRST_YEAR}..{LAST_YEAR}")
    return Stamp(seconds * 1_000_000 + _fraction_us(digits) - offset, zone is None, "iso_time")


def unix_power(value: float | Decimal) -> int | None:
    """Decimal power of the unit of a Unix time (0 s, 3 ms, 6 us, 9 ns); None when it cannot be one.

    The four ranges of 1990..2099 do not touch, so the magnitude alone decides.
    """
    return next((p for p in UNIT_NAMES if LO_S * 10**p <= value < HI_S * 10**p), None)


def parse_unix(value: int | float | str) -> Stamp:
    """Parse a Unix time; exact to the microsecond for integers and decimal text.

    Raises:
        FormatError: not a number, or outside 1990..2099 in every unit.
    """
    try:
        if isinstance(value, str) and len(value) > _MAX_TEXT:
            raise InvalidOperation
        number = Decimal(value)
    except (InvalidOperation, ValueError, TypeError):
        raise FormatError(f"{str(value)[:40]!r} is not a number") from None
    power = unix_power(number) if number.is_finite() else None
    if power is None:
        raise FormatError(f"{str(value)[:40]} is no Unix time of the years {FIRST_YEAR}..{LAST_YEAR}")
    return Stamp(round(number.scaleb(6 - power)), False, "unix_time")


def parse_time(value: object) -> Stamp:
    """Parse a moment of either kind.

    Raises:
        FormatError: neither kind fits.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise FormatError(f"{type(value).__name__} is not a time")
    if isinstance(value, str):
        text = value.strip()
        if not re.fullmatch(r"[0-9.eE+]+", text):
            return parse_iso(text)
        return parse_unix(text)
    return parse_unix(value)


def clock_of(stamp: Stamp | None, source: str | None = None) -> Clock:
    """Make a stamp a clock; `source` replaces the stamp's own, e.g. `metadata`. No stamp, no clock."""
    if stamp is None:
        return Clock()
    name = source or stamp.source
    return Clock(stamp.us, name, T0_SIGMA_US[name], stamp.naive)


_FOLDER = re.compile(
    r"(?<![0-9])([0-9]{4})([-_.]?)([0-9]{2})\2([0-9]{2})(?:[T _-]{1,3}|(?: at ))"
    r"([0-9]{2})([-_.:h]?)([0-9]{2})(?:[-_.:m]?)([0-9]{2})s?(?:[.,-]([0-9]{3})(?![0-9]))?"
    r"(Z|z|UTC|[+-][0-9]{4})?(?![0-9])"
)


def _folder_match(name: str) -> tuple[re.Match[str], Stamp] | None:
    for match in _FOLDER.finditer(name[:1024]):
        year, _, month, day, hour, _, minute, second, digits, zone = match.groups()
        text = f"{year}-{month}-{day}T{hour}:{minute}:{second}.{digits or 0}{zone or ''}"
        try:
            return match, parse_iso(text)
        except FormatError:
            continue
    return None


def folder_clock(name: str, source: str = "folder_name") -> Clock | None:
    """Clock from a name like `NAME-2026-04-08T02-02-29Z` (1 s resolution); None when it holds no time.

    Without `Z` or an offset the time is naive. `source` is `folder_name` or `file_name`.
    """
    found = _folder_match(name)
    return None if found is None else clock_of(found[1], source)


def folder_title(name: str) -> str:
    """Name of a session folder without its time: `Your Mix 3` for `Your Mix 3-2026-04-08T02-02-29Z`."""
    found = _folder_match(name)
    if found is None:
        return name.strip()
    before, after = name[: found[0].start()], name[found[0].end() :]
    return f"{before.rstrip(' -_.')} {after.strip(' -_.')}".strip()
