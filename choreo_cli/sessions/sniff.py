"""Look at one file: hash it, recognise it by content, and write down its facts; nothing may escape."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from formats.errors import FormatError
from formats.foreign import registry
from formats.foreign.model import Facts
from formats.foreign.source import HEAD_BYTES, Source, open_regular

# Raised when a reader changes what it says of a file: cached facts of another version are not used.
READER_VERSION = "1"
SMALL = 64 * 1024
_OWN_JSON = b'{"schema":"choreo.'
_OWN_SEALED = b'{\n "schema": "choreo.'

Seen = tuple[str | None, dict[str, Any]]


def look(path: str, size: int, fps: float | None = None) -> tuple[str | None, Facts]:
    """sha256 (hex) and facts of one file. A file that cannot be used has a reason; no exception leaves.

    Args:
        path: The file.
        size: From its stat; a file that grew since is listed as such.
        fps: Rate of recordings that state none.
    """
    try:
        with open_regular(path) as f:
            data = f.read(SMALL + 1) if size <= SMALL else f.read(HEAD_BYTES)
            if len(data) <= SMALL and size <= SMALL:
                sha = hashlib.sha256(data).hexdigest()
                source = Source(Path(path), len(data), data[:HEAD_BYTES], data)
            else:
                f.seek(0)
                sha = hashlib.file_digest(f, "sha256").hexdigest()
                source = Source(Path(path), os.fstat(f.fileno()).st_size, data[:HEAD_BYTES])
    except FormatError as e:
        return None, Facts("other", "unreadable", reason=e.message)
    except OSError as e:
        return None, Facts("other", "unreadable", reason=(e.strerror or "cannot be read").lower())
    return sha, _facts(source)


def _facts(source: Source) -> Facts:
    own = _own(source)
    if own is not None:
        return own
    reader = registry.recognise(source.head, source.name, source.size)
    try:
        return reader.facts(source)
    except FormatError as e:
        where = f" (row {e.row})" if e.row is not None else ""
        return Facts(reader.kind, reader.format, reason=f"{e.message}{where}")
    except OSError as e:
        return Facts(reader.kind, reader.format, reason=(e.strerror or "cannot be read").lower())
    except (MemoryError, RecursionError) as e:
        return Facts(reader.kind, reader.format, reason=f"too large or too deep to read ({type(e).__name__})")


def _own(source: Source) -> Facts | None:
    """Our artefacts: frames are what `train` reads, the rest is not a recording."""
    head = source.head
    if head.startswith((_OWN_JSON, _OWN_SEALED)):
        name = head.split(b'"', 4)[3].decode("ascii", "replace")
        return Facts(
            "other", name, meta={"note": f"a {name} document of choreo", "synthetic": b'"synthetic": true' in head}
        )
    if head[:4] != b"PAR1":
        return None
    from formats.tables import read_metadata

    try:
        texts = read_metadata(source.path)
    except FormatError as e:
        return Facts("other", "parquet", reason=e.message)
    name = texts.get("choreo.schema", "")
    if name.startswith("choreo.frames/"):
        return Facts("frames", name, meta={"note": "ready frames: train reads them as they are"})
    return Facts("other", name or "parquet", meta={"note": f"a {name} table" if name else "a table of another program"})


def strict(facts: Facts) -> Facts:
    """With --strict a doubt is a reason."""
    return facts if facts.reason or not facts.problems else replace(facts, reason=facts.problems[0])
