"""Strict JSON: no NaN, no duplicate keys, no trailing data, no lone surrogates, no runaway nesting."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from formats.errors import FormatError
from formats.foreign.source import Source


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"duplicate key {key!r}")
            seen.add(key)
    return found


def loads(data: bytes | str, *, file: str | Path | None = None, row: int | None = None) -> Any:
    """Parse one JSON document.

    Raises:
        FormatError: anything that RFC 8259 forbids or leaves undefined, naming file and line.
    """
    try:
        text = data.decode("utf-8-sig") if isinstance(data, bytes) else data
        value = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_no_duplicates)
        if "\\u" in text:
            # A lone surrogate parses but cannot be written back as UTF-8.
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except json.JSONDecodeError as e:
        raise FormatError(f"not JSON: {e.msg}, column {e.colno}", file=file, row=row or e.lineno) from None
    except RecursionError:
        raise FormatError("JSON nested too deeply", file=file, row=row) from None
    except UnicodeDecodeError as e:
        raise FormatError(f"not UTF-8 text at byte {e.start}", file=file, row=row) from None
    except UnicodeEncodeError:
        raise FormatError("text with half of a surrogate pair", file=file, row=row) from None
    except ValueError as e:
        raise FormatError(f"not JSON: {e}", file=file, row=row) from None
    return value


def iter_lines(source: Source) -> Iterator[tuple[int, Any]]:
    """Yield (1-based line, value) of a JSON Lines file; blank lines are skipped."""
    for row, line in enumerate(source.read_bytes().splitlines(), 1):
        if line.strip():
            yield row, loads(line, file=source.path, row=row)
