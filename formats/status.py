"""Heartbeat of a running command: one sealed JSON document, replaced as a whole, without fsync."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from formats.atomic import write_bytes
from formats.columns import STATUS
from formats.errors import FormatError
from formats.manifest import check_entry
from formats.sealed import dumps, parse


@dataclass(frozen=True, slots=True)
class Status:
    """The fields of `formats.columns.STATUS`, in its order."""

    command: str
    state: str
    pid: int
    step: str
    done: int
    total: int | None
    updated_us: int
    message: str | None = None
    loss: float | None = None
    eta_s: float | None = None
    path: str = "."
    age_s: float | None = None


def encode(status: Status) -> bytes:
    """The document. Raises FormatError when a field breaks its table."""
    fields = asdict(status)
    check_entry(fields, STATUS, "status", 0)
    return dumps({"schema": STATUS.schema, **fields})


def decode(data: bytes, *, file: str | Path | None = None) -> Status:
    """Parse and verify a status document.

    Raises:
        FormatError: damaged, another schema, or a field that breaks its table.
    """
    doc = parse(data, file=file)
    schema = doc.pop("schema", None)
    if schema != STATUS.schema:
        raise FormatError(f"the file holds {schema or 'no choreo document'}, need {STATUS.schema}", file=file)
    check_entry(doc, STATUS, str(file or "status"), 0)
    known: dict[str, Any] = doc
    return Status(**known)


def write(path: str | Path, status: Status) -> None:
    """Replace the status file; a reader sees the old one or the new one, never a part.

    Not synced: after a power cut the last heartbeat may be an older one.
    """
    write_bytes(path, encode(status), sync=False)


def read(path: str | Path) -> Status:
    """The status in a file. Raises FormatError (see `decode`) or OSError."""
    return decode(Path(path).read_bytes(), file=path)
