"""Events of a performance: JSON Lines, the schema first, one event a line, `{"end":true,"n":N}` last.

A performance that was killed leaves a log without its last line: `decode` says so, `events_of` reads what there is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from formats.columns import EVENT_KINDS, EVENTS
from formats.errors import FormatError
from formats.foreign.source import Source
from formats.jsonstrict import loads

SCHEMA = EVENTS.schema
FIRST = b'{"schema":"%s"}\n' % SCHEMA.encode()
MAX_BYTES = 2**30
_LAST_US = 2**63 - 1


def event_line(t_us: int, kind: str, facts: Mapping[str, Any]) -> bytes:
    """One event as its line. A fact that is no JSON value is written as text, a number that is not finite as null."""
    return json.dumps({"t_us": t_us, "kind": kind, **{k: _plain(v) for k, v in facts.items()}}).encode() + b"\n"


def last_line(n: int) -> bytes:
    """The line after `n` events."""
    return b'{"end":true,"n":%d}\n' % n


def _plain(value: Any) -> Any:
    if isinstance(value, bool) or value is None or isinstance(value, int | str):
        return value
    if isinstance(value, float):
        return value if value - value == 0.0 else None
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return str(value)


def is_events(head: bytes) -> bool:
    """Whether a file begins like one."""
    return head.startswith(b'{"schema":"choreo.events/')


def decode(data: bytes, *, file: str | Path | None = None) -> list[dict[str, Any]]:
    """The events in order.

    Raises:
        FormatError: cut, another schema, an unknown kind, or a count that does not match (with the line).
    """
    body, _, last = data.removesuffix(b"\n").rpartition(b"\n")
    found = events_of(body + b"\n", file=file)
    if last + b"\n" != last_line(len(found)) or not data.endswith(b"\n"):
        raise FormatError("the last line is not the count of the events: the log is cut", file=file)
    return found


def events_of(data: bytes, *, file: str | Path | None = None) -> list[dict[str, Any]]:
    """The events of a log that may lack its end; a last line that was cut is left out.

    Raises:
        FormatError: another schema, or a line that is no event.
    """
    whole = data[: data.rfind(b"\n") + 1]
    lines = whole.splitlines()
    if not whole.startswith(FIRST):
        raise FormatError(f"not {SCHEMA}", file=file, row=1)
    found: list[dict[str, Any]] = []
    for row, line in enumerate(lines[1:], 2):
        item = loads(line, file=file, row=row)
        if isinstance(item, dict) and item.get("end") is True and row == len(lines):
            break
        if not isinstance(item, dict) or type(item.get("t_us")) is not int or item.get("kind") not in EVENT_KINDS:
            raise FormatError("not an event with t_us and a known kind", file=file, row=row)
        if abs(item["t_us"]) > _LAST_US:
            raise FormatError("a time beyond 64 bits", file=file, row=row, field="t_us")
        found.append(item)
    return found


def read(path: str | Path) -> list[dict[str, Any]]:
    """The events of a file. Raises FormatError (see `decode`) or OSError."""
    return decode(Source.of(path).read_bytes(MAX_BYTES), file=path)
