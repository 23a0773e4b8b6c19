"""Read delimited text: one delimiter, an optional header, `#` comments, a cut last line; memory stays bounded."""

from __future__ import annotations

import io
import re
from array import array
from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from formats.errors import FormatError
from formats.foreign.model import F64
from formats.foreign.source import Source

MISSING = frozenset(("", "nan", "na", "n/a", "null", "none", "-", "--"))
MAX_COLUMNS = 4096
NUMBERS_CAP = 96 * 2**20
NUMBERS_ROWS = 20_000_000
TABLE_CAP = 32 * 2**20
TABLE_ROWS = 2_000_000
CUT = "cut_last_line: the last line is incomplete and was dropped"
_UNITS_IN_NAME = re.compile(r"\[[^\]]{0,40}\]|\([^)]{0,40}\)")
_NAME_PART = re.compile(r"[a-z0-9]+")
_NUMBER_START = frozenset("0123456789+-.")


def text_bytes(source: Source, cap: int = TABLE_CAP, max_rows: int = TABLE_ROWS) -> bytes:
    """The content as UTF-8 bytes with `\\n` line ends and without a BOM.

    Raises:
        FormatError: larger than `cap`, more than `max_rows` lines, or NUL bytes.
    """
    data = source.read_bytes(cap)
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        data = source.read_text(cap).encode()
    data = data.removeprefix(b"\xef\xbb\xbf")
    if b"\x00" in data:
        raise FormatError("not text: it holds NUL bytes", file=source.path)
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if data.count(b"\n") > max_rows:
        raise FormatError(f"more than {max_rows} lines", file=source.path, hint="split it")
    return data


def content_lines(data: bytes) -> Iterator[tuple[int, str]]:
    """Yield (1-based row, stripped line) of the lines that are neither blank nor `#` comments.

    Raises:
        FormatError: a line that is not UTF-8.
    """
    for row, raw in enumerate(io.BytesIO(data), 1):
        stripped = raw.strip()
        if stripped and not stripped.startswith(b"#"):
            try:
                yield row, stripped.decode()
            except UnicodeDecodeError as e:
                raise FormatError(f"not UTF-8 text at byte {e.start} of the line", row=row) from None


@lru_cache(maxsize=2)
def _lines_of(head: bytes) -> tuple[str, ...]:
    if b"\x00" in head:
        return ()
    parts = head.decode("utf-8-sig", errors="replace").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if len(head) >= 4096:
        parts.pop()
    kept = (p.strip() for p in parts)
    return tuple(p for p in kept if p and not p.startswith("#"))


def head_lines(head: bytes, limit: int = 64) -> list[str]:
    """The first content lines of a file's head; a last line that the head may have cut is left out."""
    return list(_lines_of(head)[:limit])


def delimiter_of(line: str) -> str:
    """The most frequent of `,` `;` and tab in a line; a comma when there is none."""
    return max((",", ";", "\t"), key=line.count)


def plain_name(cell: str) -> str:
    """Column name without case, units and punctuation: `Heart Rate (bpm)` is `heart_rate`."""
    return "_".join(_NAME_PART.findall(_UNITS_IN_NAME.sub(" ", cell.lower())))


def cells(line: str, delimiter: str) -> list[str]:
    """Split a line; quotes around a cell are dropped (these formats hold no delimiter inside quotes)."""
    return [c.strip().strip("\"'") for c in line.split(delimiter, MAX_COLUMNS)]


def is_number(cell: str) -> bool:
    """Whether a cell is a finite decimal number."""
    if not cell or cell[0] not in _NUMBER_START or len(cell) > 64 or "_" in cell:
        return False
    try:
        return abs(float(cell)) < float("inf")
    except ValueError:
        return False


def number(cell: str) -> float:
    """Read a cell: NaN when it is empty, a word for missing, or infinite. Raises ValueError for other text."""
    if cell.strip().lower() in MISSING:
        return float("nan")
    if len(cell) > 64 or "_" in cell:
        raise ValueError(cell[:40])
    value = float(cell)
    return value if abs(value) < float("inf") else float("nan")


def _row_numbers(line: str, row: int, delimiter: str, width: int) -> list[float]:
    parts = cells(line, delimiter)
    if len(parts) == width + 1 and not parts[-1]:
        parts.pop()
    if len(parts) != width:
        raise FormatError(f"{len(parts)} columns where {width} were expected", row=row)
    try:
        return [number(cell) for cell in parts]
    except ValueError as e:
        raise FormatError(f"{str(e)[:80]}: not a number", row=row) from None


def numbers(data: bytes, skip: int, delimiter: str, width: int) -> tuple[F64, tuple[str, ...]]:
    """Read a table of numbers from its content line `skip` on.

    Returns:
        (N, width) float64 with NaN for missing, and problems: a cut last line is dropped and said.

    Raises:
        FormatError: a cell that is no number or a row of another width, naming the row.
    """
    problems: tuple[str, ...] = ()
    body, _, last = data.rpartition(b"\n")
    if last.strip() and last.count(delimiter.encode()) < width - 1:
        data, problems = body + b"\n", (CUT,)
    lines = content_lines(data)
    for _ in range(skip):
        next(lines, None)
    first = next(lines, None)
    if first is None:
        return np.zeros((0, width)), problems
    try:
        text = io.TextIOWrapper(io.BytesIO(data), "utf-8")
        values = np.loadtxt(text, delimiter=delimiter, ndmin=2, skiprows=first[0] - 1, comments="#", dtype=np.float64)
    except (ValueError, OverflowError, IndexError):
        values = np.zeros((0, 0))
    if values.shape[1] != width:
        flat = array("d", _row_numbers(first[1], first[0], delimiter, width))
        for row, line in lines:
            flat.extend(_row_numbers(line, row, delimiter, width))
        values = np.frombuffer(flat, np.float64).reshape(-1, width).copy()
    values[~np.isfinite(values)] = np.nan
    return values, problems
