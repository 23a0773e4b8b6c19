"""A block of text that is nothing but numbers: parsed at once, and counted line by line."""

from __future__ import annotations

import warnings

import numpy as np

from formats.foreign.model import F64, I64

_LARGE = 2**20  # from here on Arrow's parser pays for its import


def parse_numbers(block: bytes, counts: I64) -> F64:
    """All numbers of a block in order; fewer than there are tokens when one of them is none."""
    if not len(counts):
        return np.empty(0)
    if len(block) >= _LARGE and counts.min() == counts.max():
        table = _parse_table(block, int(counts[0]))
        if table is not None and table.size == counts.sum():
            return table.reshape(-1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            return np.fromstring(block, dtype=np.float64, sep=" ")
        except ValueError:
            return np.empty(0)


def _parse_table(block: bytes, width: int) -> F64 | None:
    """A block whose rows are separated by single blanks, by Arrow's parser (a third of the time); None if it is not."""
    import pyarrow as pa
    import pyarrow.csv as pc

    start = len(block) - len(block.lstrip())
    first = block[start : block.find(b"\n", start)].rstrip(b"\r")
    extra = int(first.endswith(b" "))
    names = [str(i) for i in range(width + extra)]
    types = {n: pa.float64() for n in names[:width]} | {n: pa.string() for n in names[width:]}
    try:
        table = pc.read_csv(
            pa.BufferReader(pa.py_buffer(memoryview(block)[start:])),
            read_options=pc.ReadOptions(column_names=names, use_threads=False, block_size=2**22),
            parse_options=pc.ParseOptions(delimiter=" ", quote_char=False, double_quote=False),
            convert_options=pc.ConvertOptions(column_types=types, null_values=[], strings_can_be_null=False),
        )
    except pa.ArrowInvalid:
        return None
    if any(c.null_count for c in table.columns[:width]) or any(table[n][0].as_py() for n in names[width:]):
        return None
    return np.column_stack([c.to_numpy() for c in table.columns[:width]])


def tokens_per_line(block: bytes) -> tuple[I64, I64]:
    """Values in each line that has any, and those lines' indices."""
    raw = np.frombuffer(block, np.uint8)
    if not len(raw):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    blank = raw <= 32
    start = ~blank
    start[1:] &= blank[:-1]
    starts = np.flatnonzero(start)
    # The tokens before each line's end, differenced: lines without any drop out.
    ends = np.searchsorted(starts, np.append(np.flatnonzero(raw == 10), len(raw)))
    counts = np.diff(ends, prepend=0)
    lines = np.flatnonzero(counts)
    return counts[lines].astype(np.int64), lines.astype(np.int64)
