"""`SHA256SUMS` lists as coreutils writes them: `<64 hex>  <path>`, one file a line."""

from __future__ import annotations

import re
from pathlib import Path

from formats.errors import FormatError
from formats.foreign.source import Source

_LINE = re.compile(r"([0-9a-f]{64}) [ *](\S.*)")


def parse(path: Path) -> dict[str, str]:
    """Relative path -> sha256. Raises FormatError naming the line that is not one."""
    found: dict[str, str] = {}
    for row, line in enumerate(Source.of(path).read_text().split("\n"), 1):
        m = _LINE.fullmatch(line)
        if m:
            found[m[2]] = m[1]
        elif line:
            raise FormatError("not a line of sha256 and path", file=path, row=row)
    return found
