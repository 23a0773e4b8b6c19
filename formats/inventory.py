"""Entries of the inventory manifest: what `discover` writes down of one recording."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from formats.columns import RECORDING

if TYPE_CHECKING:
    from formats.foreign.model import Clock, Facts

Entry = dict[str, Any]
# What is known of a file's content, as plain values that a cache or another process can hold: kind, format, n,
# rate_num, rate_den, duration_us, channels, t0_utc_us, t0_source, t0_sigma_us, t0_naive, reason, problems, synthetic,
# meta. A list and not a Facts: a hundred thousand of them are made, kept and compared.
Row = list[Any]
SCHEMA = RECORDING.schema
KIND, FORMAT, REASON, PROBLEMS, META = 0, 1, 11, 12, 14
_TEXT_LIMIT = 4_000
_NO_PROBLEMS: list[str] = []


def plain_row(kind: str, format: str, reason: str | None, meta: dict[str, Any]) -> Row:
    """The row of a file that has nothing to say but what it is."""
    return [kind, format, None, None, None, None, None, None, "none", None, False, reason, _NO_PROBLEMS, False, meta]


def row_of(facts: Facts) -> Row:
    """Facts as a row; what JSON cannot hold in them is made into what it can."""
    rate, clock = facts.rate or (None, None), facts.clock
    meta = {k: _json(v) for k, v in facts.meta.items() if k != "synthetic"}
    return [
        facts.kind, _text(facts.format), _int(facts.n), _int(rate[0]), _int(rate[1]), _int(facts.duration_us),
        _int(facts.channels), _int(clock.t0_utc_us), clock.source, _int(clock.sigma_us), bool(clock.naive),
        None if facts.reason is None else _text(facts.reason), [_text(p) for p in facts.problems],
        bool(facts.meta.get("synthetic")), meta,
    ]  # fmt: skip


def entry_of(row: Row, root: str, path: str, size: int, sha256: str | None) -> Entry:
    """The entry of a row, keys in the order of the table. `id` and `session` are filled in by who knows the others."""
    return {
        "id": "", "kind": row[0], "format": row[1], "root": root, "path": path, "bytes": size, "sha256": sha256,
        "session": None, "n": row[2], "rate_num": row[3], "rate_den": row[4], "duration_us": row[5], "channels": row[6],
        "t0_utc_us": row[7], "t0_source": row[8], "t0_sigma_us": row[9], "t0_naive": row[10], "reason": row[11],
        "acknowledged": False, "problems": row[12], "synthetic": row[13], "meta": row[14],
    }  # fmt: skip


def entry(facts: Facts, root: str, path: str, size: int, sha256: str | None) -> Entry:
    """One entry from facts; see `entry_of`."""
    return entry_of(row_of(facts), root, path, size, sha256)


def set_clock(found: Entry, clock: Clock) -> None:
    """Give an entry a clock it does not have itself."""
    found["t0_utc_us"], found["t0_source"] = clock.t0_utc_us, clock.source
    found["t0_sigma_us"], found["t0_naive"] = clock.sigma_us, clock.naive


def shown_path(path: str) -> str:
    """A path as it may stand in a manifest: bytes that are not UTF-8 are shown as they are written in Python."""
    if path.isascii():
        return path
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _int(value: Any) -> int | None:
    return None if value is None else int(value)


def _text(value: str) -> str:
    """Text that UTF-8 can hold and a person can read in one go."""
    value = value if len(value) <= _TEXT_LIMIT else value[: _TEXT_LIMIT - 1] + "~"
    return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode("utf-8")


def _json(value: Any, depth: int = 0) -> Any:
    """JSON values only: array scalars become numbers, NaN becomes null."""
    if value is None or isinstance(value, bool) or type(value) is int:
        return value
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if depth > 8:
        return None
    if isinstance(value, dict):
        return {_text(str(k)): _json(v, depth + 1) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_json(v, depth + 1) for v in value]
    item = getattr(value, "item", None)  # a scalar of numpy, which this module does without
    return _json(item(), depth + 1) if callable(item) and getattr(value, "ndim", 1) == 0 else _text(str(value))
