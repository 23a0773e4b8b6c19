"""Read a .npy from strangers: its header against its size first, numbers only."""

from __future__ import annotations

import re

import numpy as np

from formats.errors import FormatError
from formats.foreign.model import F64
from formats.foreign.source import Source

BUDGET_BYTES = 512 * 2**20
_HEADER_CAP = 4096
_FIELD = re.compile(
    rb"^\s*\{\s*'descr':\s*'([<>|=]?[fiub]\d{1,2})',\s*'fortran_order':\s*(True|False),\s*'shape':\s*\(([\d,\s]{0,200})\),?"
    rb"\s*\}"
)


def npy_header(head: bytes) -> tuple[np.dtype[np.generic], bool, tuple[int, ...], int] | None:
    """dtype, Fortran order, shape and where the data starts; None when it is no array of plain numbers."""
    if head[:6] != b"\x93NUMPY" or len(head) < 12 or head[6] not in (1, 2, 3):
        return None
    width = 2 if head[6] == 1 else 4
    start = 8 + width
    length = int.from_bytes(head[8:start], "little")
    hit = _FIELD.match(head[start : start + min(length, _HEADER_CAP)])
    sizes = [v.strip() for v in hit[3].split(b",") if v.strip()] if hit else []
    if hit is None or len(sizes) > 8 or not all(v.isdigit() and len(v) < 16 for v in sizes):
        return None
    try:
        dtype = np.dtype(hit[1].decode())
    except TypeError:
        return None
    return dtype, hit[2] == b"True", tuple(map(int, sizes)), start + length


def load_array(source: Source) -> F64:
    """The array of a .npy as float64.

    Raises:
        FormatError: no array of numbers, cut, or larger than the budget.
    """
    found = npy_header(source.head)
    if found is None:
        raise FormatError("no .npy of plain numbers", file=source.path, hint="save it again without objects")
    dtype, fortran, shape, start = found
    count = 1
    for n in shape:
        count *= n
    if start + count * dtype.itemsize != source.size:
        raise FormatError(f"shape {shape} does not match its {source.size} bytes", file=source.path, hint="it is cut")
    if count * 8 > BUDGET_BYTES:
        raise FormatError(f"{count} numbers are more than are read", file=source.path)
    flat = np.frombuffer(source.read_bytes(BUDGET_BYTES), dtype, count=count, offset=start)
    return flat.reshape(shape, order="F" if fortran else "C").astype(np.float64)
