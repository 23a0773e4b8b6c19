"""Packets of a live session in one file: JSON Lines, the schema first, the count and the sha256 of all before last."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from formats.errors import FormatError
from formats.foreign.source import Source
from formats.jsonstrict import loads
from formats.packets import PACKETS, Packet, from_dict, to_dict

SCHEMA = "choreo.packets/1"
_KINDS: dict[str, Any] = {k.__name__: k for k in PACKETS}


def encode(packets: Sequence[Packet]) -> bytes:
    """The file: `{"schema"}`, one `{"kind","packet"}` a line, `{"end","n","sha256"}`.

    Raises:
        FormatError: a packet breaks its contract.
    """
    lines = [{"schema": SCHEMA}, *({"kind": type(p).__name__, "packet": to_dict(p)} for p in packets)]
    body = b"".join(json.dumps(x, separators=(",", ":"), allow_nan=False).encode() + b"\n" for x in lines)
    return body + _last(len(packets), body)


def _last(n: int, body: bytes) -> bytes:
    return b'{"end":true,"n":%d,"sha256":"%s"}\n' % (n, hashlib.sha256(body).hexdigest().encode())


def decode(data: bytes, *, file: str | Path | None = None) -> list[Packet]:
    """The packets in order.

    Raises:
        FormatError: cut, damaged, of another schema, or a packet that breaks its contract (with its line).
    """
    body, _, last = data.removesuffix(b"\n").rpartition(b"\n")
    lines = body.split(b"\n")
    if last + b"\n" != _last(len(lines) - 1, body + b"\n") or not data.endswith(b"\n"):
        raise FormatError("the last line does not match the lines before it: cut or damaged", file=file)
    if loads(lines[0], file=file, row=1) != {"schema": SCHEMA}:
        raise FormatError(f"not {SCHEMA}", file=file, row=1)
    found: list[Packet] = []
    for row, line in enumerate(lines[1:], 2):
        item = loads(line, file=file, row=row)
        if not isinstance(item, dict) or set(item) != {"kind", "packet"} or item["kind"] not in _KINDS:
            raise FormatError("not a line of kind and packet", file=file, row=row)
        try:
            found.append(from_dict(_KINDS[item["kind"]], item["packet"]))
        except FormatError as e:
            raise FormatError(e.message, file=file, row=row, field=e.field) from None
    return found


def read(path: str | Path) -> list[Packet]:
    """The packets of a file. Raises FormatError (see `decode`) or OSError."""
    return decode(Source.of(path).read_bytes(), file=path)


def is_packets(head: bytes, tail: bytes) -> bool:
    """Whether a file claims to be one, by either end."""
    return head.startswith(b'{"schema":"choreo.packets/') or b'\n{"end":true,"n":' in tail[-120:]
