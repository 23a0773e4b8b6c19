"""Named arrays in one safetensors file: sealed, deterministic, finite; no code can ride in it."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from formats.atomic import write_bytes
from formats.errors import FormatError
from formats.foreign.source import open_regular
from formats.jsonstrict import loads
from formats.wholeness import seal_tensors

MAX_HEADER = 16 * 2**20
BUDGET_BYTES = 4 * 2**30
_DTYPES = {
    "BOOL": "|b1", "U8": "|u1", "I8": "|i1", "I16": "<i2", "U16": "<u2", "I32": "<i4", "U32": "<u4",
    "I64": "<i8", "U64": "<u8", "F16": "<f2", "F32": "<f4", "F64": "<f8",
}  # fmt: skip
_CODES = {np.dtype(v): k for k, v in _DTYPES.items()}
Arrays = dict[str, NDArray[Any]]


def encode(arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, str] | None = None) -> bytes:
    """A safetensors file: 8-byte length, JSON header, raw little-endian data in the order of the names.

    Raises:
        FormatError: a float array holds a value that is not finite, or a dtype has no code.
    """
    header: dict[str, Any] = {"__metadata__": {**(metadata or {}), "choreo.sha256": "0" * 64}}
    blocks, at = [], 0
    # Widest items first, then by name: every array then starts aligned.
    for name in sorted(arrays, key=lambda k: (-arrays[k].dtype.itemsize, k)):
        array = np.asarray(arrays[name], order="C")  # ascontiguousarray would give a scalar a dimension
        code = _CODES.get(array.dtype.newbyteorder("<"))
        if code is None:
            raise FormatError(f"{array.dtype} cannot be stored as a tensor", field=name)
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise FormatError("values that are not finite", field=name)
        raw = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
        header[name] = {"dtype": code, "shape": list(array.shape), "data_offsets": [at, at + len(raw)]}
        blocks.append(raw)
        at += len(raw)
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return seal_tensors(struct.pack("<Q", len(text)) + text + b"".join(blocks))


def write(path: str | Path, arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, str] | None = None) -> str:
    """Write the file whole or not at all and return its sha256 (hex)."""
    return write_bytes(path, encode(arrays, metadata))


def read(path: str | Path, *, budget: int = BUDGET_BYTES) -> tuple[Arrays, dict[str, str]]:
    """Arrays and metadata of a safetensors file.

    Raises:
        FormatError: a header that contradicts the file, an unknown dtype, more than `budget` bytes, or a float
            that is not finite.
    """
    with open_regular(path) as f:
        size = f.seek(0, 2)
        f.seek(0)
        header, start = _header(f.read(8), f, size, path)
        if size - start > budget:
            raise FormatError(f"{size - start} bytes of tensors, at most {budget} are read", file=path)
        metadata = _metadata(header.pop("__metadata__", {}), path)
        places = {name: _place(name, item, path) for name, item in header.items()}
        _no_holes(places, size - start, path)
        arrays: Arrays = {}
        for name, (dtype, shape, first, last) in places.items():
            f.seek(start + first)
            array = np.frombuffer(f.read(last - first), dtype=dtype).reshape(shape)
            if dtype.kind == "f" and not np.isfinite(array).all():
                raise FormatError("values that are not finite", file=path, field=name[:100])
            arrays[name] = array
    return arrays, metadata


def _header(raw: bytes, f: Any, size: int, path: str | Path) -> tuple[dict[str, Any], int]:
    length = struct.unpack("<Q", raw)[0] if len(raw) == 8 else 0
    if not 2 <= length <= min(size - 8, MAX_HEADER):
        raise FormatError(f"a header of {length} bytes in a file of {size}", file=path)
    header = loads(f.read(length), file=path)
    if not isinstance(header, dict):
        raise FormatError("the header is not an object", file=path)
    return header, 8 + length


def _metadata(raw: Any, path: str | Path) -> dict[str, str]:
    if not isinstance(raw, dict) or not all(isinstance(v, str) for v in raw.values()):
        raise FormatError("metadata needs text values", file=path, field="__metadata__")
    return raw


def _place(name: str, item: Any, path: str | Path) -> tuple[np.dtype[Any], tuple[int, ...], int, int]:
    try:
        dtype, shape, (first, last) = np.dtype(_DTYPES[item["dtype"]]), tuple(item["shape"]), item["data_offsets"]
        whole = all(type(v) is int and 0 <= v < 2**63 for v in (*shape, first, last))
    except (KeyError, TypeError, ValueError):
        raise FormatError("needs a known dtype, shape and data_offsets", file=path, field=name[:100]) from None
    if not whole or len(shape) > 16 or math.prod(shape) * dtype.itemsize != last - first:
        raise FormatError("shape and data_offsets contradict each other", file=path, field=name[:100])
    return dtype, shape, first, last


def _no_holes(places: Mapping[str, tuple[Any, Any, int, int]], size: int, path: str | Path) -> None:
    at = 0
    for name, (_, _, first, last) in sorted(places.items(), key=lambda p: p[1][2:]):
        if first != at:
            raise FormatError("the arrays overlap or leave a hole", file=path, field=name[:100])
        at = last
    if at != size:
        raise FormatError(f"the arrays end at byte {at} of {size}", file=path)
