"""Parquet as written and read here: zstd, page checksums, exact schema, bounded memory."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from formats.atomic import writer
from formats.columns import Column, Table
from formats.errors import FormatError
from formats.wholeness import SEAL_BYTES, seal_bytes, verify_open

if TYPE_CHECKING:
    import pyarrow as pa

MAX_COLUMNS = 4096
MAX_STRING = 4096
BUDGET_BYTES = 4 * 2**30
ROW_GROUP = 128 * 1024
_LIST = re.compile(r"^list<(\w+)>$")
_FIXED = re.compile(r"^(\w+)\[(\d+)\]$")
_WIDTH = {"int8": 1, "uint8": 1, "int32": 4, "int64": 8, "float32": 4, "float64": 8, "bool": 1, "str": 16}


def arrow_type(dtype: str) -> pa.DataType:
    """The Arrow type of a column table's dtype."""
    import pyarrow as pa

    if m := _LIST.match(dtype):
        return pa.list_(pa.field("element", arrow_type(m[1]), nullable=False))
    if m := _FIXED.match(dtype):
        return pa.list_(pa.field("element", arrow_type(m[1]), nullable=False), int(m[2]))
    return {
        "int32": pa.int32(), "int64": pa.int64(), "float32": pa.float32(), "float64": pa.float64(),
        "bool": pa.bool_(), "str": pa.string(), "uint8": pa.uint8(),
    }[dtype]  # fmt: skip


def arrow_schema(table: Table) -> pa.Schema:
    """Names, types, order and nullability of a table; reading checks all four."""
    import pyarrow as pa

    return pa.schema([pa.field(c.name, arrow_type(c.dtype), nullable=c.nullable) for c in table.columns])


def to_arrow(table: Table, columns: Mapping[str, Any]) -> pa.Table:
    """Columns (numpy arrays, sequences or Arrow arrays) as an Arrow table; NaN in a nullable float becomes null.

    Raises:
        FormatError: a column is missing, unknown, or has nulls where none are legal.
    """
    import pyarrow as pa

    unknown = set(columns) - set(table.names)
    missing = [n for n in table.names if n not in columns]
    if unknown or missing:
        raise FormatError(f"{table.schema}: missing columns {missing}, unknown columns {sorted(unknown)}")
    schema = arrow_schema(table)
    arrays = [_array(c, columns[c.name], schema.field(c.name).type) for c in table.columns]
    for c, a in zip(table.columns, arrays, strict=True):
        if a.null_count and not c.nullable:
            raise FormatError(f"{table.schema}: {a.null_count} nulls in a column that may not have any", field=c.name)
    return pa.Table.from_arrays(arrays, schema=schema)


def _array(column: Column, values: Any, kind: pa.DataType) -> pa.Array:
    import pyarrow as pa

    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    if isinstance(values, np.ndarray) and values.ndim == 2:
        flat = pa.array(np.ascontiguousarray(values).reshape(-1), type=kind.value_type)
        if _FIXED.match(column.dtype):
            return pa.FixedSizeListArray.from_arrays(flat, type=kind)
        offsets = pa.array(np.arange(len(values) + 1, dtype=np.int32) * values.shape[1])
        return pa.ListArray.from_arrays(offsets, flat, type=kind)
    if isinstance(values, np.ndarray) and column.nullable and values.dtype.kind == "f":
        return pa.array(values, type=kind, mask=np.isnan(values))
    return pa.array(values, type=kind)


class _Sealing:
    """A file object that hashes what passes through it and puts the seal between the pages and the footer."""

    def __init__(self, f: Any) -> None:
        self._f, self.sha, self.closed = f, hashlib.sha256(), False
        self._at = 0
        self._footer: bytearray | None = None

    def write(self, data: Any) -> int:
        n = memoryview(data).nbytes
        self._at += n
        if self._footer is None:
            self.sha.update(data)
            self._f.write(data)
        else:
            self._footer += data
        return n

    def pages_done(self) -> None:
        """What comes now is the footer."""
        self._footer = bytearray()
        self._at += SEAL_BYTES

    def finish(self) -> None:
        footer = bytes(self._footer or b"")
        whole = self.sha.copy()
        whole.update(footer)
        tail = seal_bytes(whole) + footer
        self.sha.update(tail)
        self._f.write(tail)

    def flush(self) -> None:
        self._f.flush()

    def tell(self) -> int:
        return self._at

    def close(self) -> None:
        self.closed = True

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False


def write_table(
    path: str | Path, table: Table, columns: Mapping[str, Any] | pa.Table, metadata: Mapping[str, str] | None = None
) -> str:
    """Write a Parquet file whole or not at all and return its sha256 (hex).

    zstd level 1, no dictionary (7 times slower and larger on floats), CRC on every page, and a sha256 of the whole
    file before the footer (`formats.wholeness`): CRCs leave page headers and the footer uncovered.

    Args:
        path: Target file.
        table: The contract.
        columns: Arrays by column name, or a ready Arrow table.
        metadata: Text kept in the file's key-value metadata, e.g. `{"choreo": provenance}`.
    """
    return write_batches(path, table, [columns], metadata)


def write_batches(
    path: str | Path,
    table: Table,
    batches: Iterable[Mapping[str, Any] | pa.Table],
    metadata: Mapping[str, str] | None = None,
) -> str:
    """As `write_table`, for a table that comes in pieces: memory holds one of them at a time."""
    with writer(path) as f:
        return _into(f, table, batches, metadata)


def encode_table(table: Table, columns: Mapping[str, Any], metadata: Mapping[str, str] | None = None) -> bytes:
    """The bytes that `write_table` writes."""
    out = io.BytesIO()
    _into(out, table, [columns], metadata)
    return out.getvalue()


def _into(
    f: Any, table: Table, batches: Iterable[Mapping[str, Any] | pa.Table], metadata: Mapping[str, str] | None
) -> str:
    import pyarrow as pa
    import pyarrow.parquet as pq

    keep = {"choreo.schema": table.schema, **(metadata or {})}
    schema = arrow_schema(table)
    sink = _Sealing(f)
    out = pq.ParquetWriter(
        pa.PythonFile(sink, mode="w"), schema.with_metadata(keep), compression="zstd", compression_level=1,
        use_dictionary=False, write_page_checksum=True, store_schema=True, version="2.6",
    )  # fmt: skip
    try:
        for columns in batches:
            data = columns if isinstance(columns, pa.Table) else to_arrow(table, columns)
            out.write_table(data.cast(schema).replace_schema_metadata(keep), row_group_size=ROW_GROUP)
    finally:
        sink.pages_done()  # a writer that failed closes into memory
        out.close()
    sink.finish()
    return sink.sha.hexdigest()


def schema_name(path: str | Path) -> str | None:
    """The `choreo.schema` of a Parquet file's metadata, None when it has none.

    Raises:
        FormatError: not a readable Parquet file.
    """
    return read_metadata(path).get("choreo.schema")


class _File:
    """An opened, guarded Parquet file."""

    def __init__(
        self, path: str | Path, strings_as_dictionary: Sequence[str] | None = None, *, whole: bool = False
    ) -> None:
        import pyarrow.parquet as pq

        from formats.foreign.source import open_regular

        self.path = path
        self.handle = open_regular(path)
        try:
            if whole:
                verify_open(self.handle, path)
            _few_columns(self.handle, path)
            wanted = list(strings_as_dictionary or [])
            try:
                self.pq = pq.ParquetFile(self.handle, page_checksum_verification=True, read_dictionary=wanted)
            except KeyError:  # a column that is not there: another table, which the caller says better
                self.pq = pq.ParquetFile(self.handle, page_checksum_verification=True)
            self.schema = self.pq.schema_arrow
        except FormatError:
            self.handle.close()
            raise
        except Exception as e:
            self.handle.close()
            raise FormatError(f"not readable as Parquet: {_one_line(e)}", file=path) from None


def _few_columns(f: BinaryIO, path: str | Path) -> None:
    """Refuse a footer with more columns than are read before pyarrow spends 0.2 s on it.

    The Thrift compact footer starts with field 1, the version (0x15 and one byte), and field 2, the list of columns
    (0x19, then its length in four bits, or 0xF? and a varint).
    """
    size = f.seek(0, 2)
    f.seek(max(0, size - 8))
    start = size - 8 - int.from_bytes(f.read(4), "little")
    f.seek(max(0, start))
    head = f.read(8)
    f.seek(0)
    if start < 4 or head[:1] != b"\x15" or head[2:3] != b"\x19":
        return  # damaged: pyarrow says how
    n = head[3] >> 4
    if n == 15:
        n = sum((b & 0x7F) << 7 * k for k, b in enumerate(head[4 : 4 + _varint_bytes(head[4:])]))
    if n > 3 * MAX_COLUMNS:  # a list column counts three times
        raise FormatError(f"about {n} columns, at most {MAX_COLUMNS} are read", file=path)


def _varint_bytes(data: bytes) -> int:
    return next((k + 1 for k, b in enumerate(data) if b < 0x80), len(data))


def _texts(schema: pa.Schema) -> dict[str, str]:
    found = schema.metadata or {}
    return {
        k.decode("utf-8", "replace"): v.decode("utf-8", "replace") for k, v in found.items() if k != b"ARROW:schema"
    }


def _one_line(e: BaseException) -> str:
    return " ".join(str(e).split())[:200] or type(e).__name__


def read_metadata(path: str | Path) -> dict[str, str]:
    """Key-value metadata of a Parquet file."""
    f = _File(path)
    with f.handle:
        return _texts(f.schema)


def read_table(path: str | Path, table: Table, *, budget: int = BUDGET_BYTES) -> pa.Table:
    """Read a Parquet file that must be exactly `table`: names, types, order, nullability, checksums.

    Args:
        path: A regular file.
        table: The contract.
        budget: Most bytes the decoded columns may take.

    Raises:
        FormatError: damaged, another schema, or larger than the budget.
    """
    import pyarrow as pa

    strings = [c.name for c in table.columns if c.dtype == "str"]
    f = _File(path, strings, whole=True)  # a flipped row count in the footer passes every CRC
    with f.handle:
        _guard(f, table, budget)
        try:
            batches, used = [], 0
            for batch in f.pq.iter_batches(batch_size=64 * 1024, use_threads=False):
                used += batch.nbytes
                if used > budget:
                    raise FormatError(f"more than {budget} bytes once decoded", file=path)
                _short_strings(batch, strings, path)
                batches.append(batch)
            want = arrow_schema(table)
            data = pa.Table.from_batches(batches, schema=batches[0].schema) if batches else want.empty_table()
            data = data.cast(want) if batches else data
            data.validate(full=True)
        except FormatError:
            raise
        except Exception as e:
            raise FormatError(f"damaged Parquet data: {_one_line(e)}", file=path) from None
        return data.replace_schema_metadata(f.schema.metadata)


def _guard(f: _File, table: Table, budget: int) -> None:
    meta, path = f.pq.metadata, f.path
    if meta.num_columns > MAX_COLUMNS:
        raise FormatError(f"{meta.num_columns} columns, at most {MAX_COLUMNS} are read", file=path)
    found = _texts(f.schema).get("choreo.schema")
    if found != table.schema:
        raise FormatError(f"the file holds {found or 'no choreo table'}, need {table.schema}", file=path)
    names = f.schema.names
    if names != list(table.names):
        odd = [n for n in names if n not in table.names] or [n for n in table.names if n not in names] or ["order"]
        raise FormatError(f"columns differ from {table.schema}", file=path, field=odd[0])
    for c in table.columns:
        field = f.schema.field(c.name)
        kind = field.type.value_type if str(field.type).startswith("dictionary") else field.type
        if kind != arrow_type(c.dtype) or field.nullable != c.nullable:
            raise FormatError(f"column type is {field.type}, need {c.dtype}", file=path, field=c.name)
    width = sum(_WIDTH.get(c.dtype, 8) for c in table.columns)
    stated = sum(meta.row_group(i).total_byte_size for i in range(meta.num_row_groups))
    if meta.num_rows < 0 or meta.num_rows * width > budget or stated > budget:
        raise FormatError(f"{meta.num_rows} rows need more than the {budget} bytes allowed", file=path)


def _short_strings(batch: pa.RecordBatch, names: Sequence[str], path: str | Path) -> None:
    import pyarrow.compute as pc

    for name in names:
        values = batch.column(name)
        longest = pc.max(pc.binary_length(getattr(values, "dictionary", values))).as_py()
        if longest is not None and longest > MAX_STRING:
            raise FormatError(f"a text of {longest} bytes, at most {MAX_STRING} are read", file=path, field=name)


def bounds(table: Table, data: pa.Table, file: str | Path | None = None) -> list[str]:
    """Every broken bound of a table: one sentence each, naming column, count and the first row."""
    import pyarrow.compute as pc

    found = []
    for c in table.columns:
        values = data.column(c.name)
        bad: Any = None
        if c.choices:
            bad = pc.invert(pc.is_in(values, value_set=_value_set(c)))
            if c.nullable:
                bad = pc.and_(bad, pc.is_valid(values))
        elif c.dtype in ("int32", "int64", "float32", "float64"):
            array = values.to_numpy(zero_copy_only=False)
            with np.errstate(invalid="ignore"):
                bad = np.zeros(len(array), bool)
                if c.lo is not None:
                    bad |= array < c.lo
                if c.hi is not None:
                    bad |= (array >= c.hi) if c.open_hi else (array > c.hi)
                if c.dtype.startswith("float"):
                    live = np.asarray(values.is_valid().to_numpy(zero_copy_only=False), bool)
                    bad |= live & ~np.isfinite(array)
        if bad is None:
            continue
        rows = np.flatnonzero(np.asarray(bad))
        if len(rows):
            first = values[int(rows[0])].as_py()
            found.append(f"{c.name}: {len(rows)} values outside {_range(c)}, first {first} at row {int(rows[0])}")
    return found


def _value_set(c: Column) -> pa.Array:
    import pyarrow as pa

    return pa.array(list(c.choices))


def _range(c: Column) -> str:
    if c.choices:
        return "|".join(c.choices)
    lo = "-inf" if c.lo is None else f"{c.lo:g}"
    hi = "inf" if c.hi is None else f"{c.hi:g}"
    return f"[{lo}, {hi}{')' if c.open_hi else ']'} {c.unit}".strip()


def validate(table: Table, data: pa.Table, file: str | Path | None = None) -> None:
    """Raise FormatError for the first broken bound."""
    broken = bounds(table, data, file)
    if broken:
        name, _, text = broken[0].partition(": ")
        raise FormatError(text, file=file, field=name)
