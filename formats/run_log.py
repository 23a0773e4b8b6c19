"""`log.jsonl` of a run: one JSON object per logged step or validation, in the order of the run, no time of day.

Its own text cannot tell that lines are missing at its end; `run.json` names its sha256.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from formats.errors import FormatError
from formats.foreign.source import Source
from formats.jsonstrict import loads

NAME = "run log"
KINDS = ("step", "validation")
_STARTS = tuple(b'{"kind":"%s","step":' % kind.encode() for kind in KINDS)


def is_run_log(head: bytes) -> bool:
    """Whether a file begins like one."""
    return head.startswith(_STARTS)


def decode(data: bytes, *, file: str | Path | None = None) -> list[dict[str, Any]]:
    """The records in order: `kind`, `step`, and figures, null where they were not finite.

    Raises:
        FormatError: cut, damaged, or steps that go back (with the line).
    """
    if data and not data.endswith(b"\n"):
        raise FormatError("the last line is cut", file=file)
    found: list[dict[str, Any]] = []
    for row, line in enumerate(data.splitlines(), 1):
        item = loads(line, file=file, row=row)
        if not isinstance(item, dict) or item.get("kind") not in KINDS or type(item.get("step")) is not int:
            raise FormatError("not a record with kind and step", file=file, row=row)
        if found and item["step"] < found[-1]["step"]:
            raise FormatError("a step before the one above", file=file, row=row, field="step")
        found.append(item)
    return found


def read(path: str | Path) -> list[dict[str, Any]]:
    """The records of a file. Raises FormatError (see `decode`) or OSError."""
    return decode(Source.of(path).read_bytes(), file=path)
