"""JSON documents that carry the sha256 of their own text, so that any flipped bit is noticed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from formats.errors import FormatError
from formats.jsonstrict import loads

_SEAL = b',\n "sha256": "'


def dumps(doc: dict[str, Any]) -> bytes:
    """One document, indented, with `sha256` of all bytes before it as its last key."""
    body = json.dumps(doc, indent=1, ensure_ascii=False, allow_nan=False).encode()
    body = body.removesuffix(b"\n}")
    return body + _SEAL + hashlib.sha256(body).hexdigest().encode() + b'"\n}\n'


def is_sealed(data: bytes) -> bool:
    return _SEAL in data[-100:]


def parse(data: bytes, *, file: str | Path | None = None) -> dict[str, Any]:
    """The document without its seal.

    Raises:
        FormatError: no seal, or the text does not match it.
    """
    body, seal, tail = data.rpartition(_SEAL)
    if not seal:
        raise FormatError("the sha256 at its end is missing: the file is cut or was not made by choreo", file=file)
    if tail != hashlib.sha256(body).hexdigest().encode() + b'"\n}\n':
        raise FormatError("the content does not match its sha256: the file is damaged or was edited", file=file)
    doc = loads(body + b"\n}", file=file)
    assert isinstance(doc, dict)
    return doc
