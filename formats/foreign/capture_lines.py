"""JSON Lines of a capture: the streams that come in (`choreo.capture/1`), the frames that go out (`choreo.rows/1`)."""

from __future__ import annotations

import json
import math
from typing import Any

from formats import jsonstrict
from formats.errors import FormatError
from formats.foreign.model import Facts
from formats.foreign.pose_clock import rate_of
from formats.foreign.registry import Reader
from formats.foreign.source import Source

START = b'{"schema":"choreo.'
ROWS, CAPTURE = b"rows/1", b"capture/1"
CHANNELS = 25


def is_lines(head: bytes) -> bool:
    """Whether a file begins with the first line of a capture or of its frames."""
    return head.startswith((START + ROWS + b'"', START + CAPTURE + b'"'))


def facts(source: Source) -> Facts:
    """Frames and rate of rows, the number of readings of a capture.

    Raises:
        FormatError: a frame of rows that is none, or a file without a whole first line. Bad readings of a capture are
            counted: whoever fuses them leaves them out.
    """
    rows = source.head.startswith(START + ROWS)
    with source.open() as lines:
        first = lines.readline(2**20)
        head = jsonstrict.loads(first, file=source.path)
        if not isinstance(head, dict) or not first.endswith(b"\n"):
            raise FormatError("the first line is cut", file=source.path, row=1)
        return _rows(source, head, lines) if rows else _readings(lines)


def _rows(source: Source, head: dict[str, Any], lines: Any) -> Facts:
    fps, last, n, told = head.get("fps"), -math.inf, 0, None
    if not isinstance(fps, int | float) or not 1 <= fps <= 1000:
        raise FormatError("no frame rate", file=source.path, row=1, field="fps")
    for line in lines:
        frame = _object(line)
        if told is None and frame.get("end") is True:
            told = frame.get("n")
            continue
        t, values = frame.get("t_us"), frame.get("channels")
        whole = isinstance(values, list) and len(values) == CHANNELS and all(map(_finite, values))
        if not whole or not isinstance(t, int) or t <= last or told is not None:
            raise FormatError(f"not a frame of {CHANNELS} numbers after the one before", file=source.path, row=n + 2)
        last, n = t, n + 1
    if told != n:
        raise FormatError(f"ends after {n} frames without its last line: cut", file=source.path)
    return Facts("other", "choreo-rows", n=n, rate=rate_of(float(fps)), duration_us=round(n * 1e6 / fps),
                 meta={"layout": head.get("layout"), "height_m": head.get("height_m")})  # fmt: skip


def _readings(lines: Any) -> Facts:
    n, bad, told = 0, 0, None
    for line in lines:
        reading = _object(line)
        if reading.get("end") is True:
            told = reading.get("n")
        else:
            n, bad = n + 1, bad + (not reading)
    problems = [f"bad_lines: {bad} of {n} are no reading"] if bad else []
    problems += ["cut: its last line is missing"] if told is None else []
    return Facts("other", "choreo-capture", n=n, problems=tuple(problems), meta={"declared": told})


def _object(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


READERS: tuple[Reader, ...] = (
    Reader("choreo-rows", "other", lambda h, n, s: h.startswith(START + ROWS + b'"'), facts, None, 5),
    Reader("choreo-capture", "other", lambda h, n, s: h.startswith(START + CAPTURE + b'"'), facts, None, 5),
)
