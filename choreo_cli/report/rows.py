"""An opened file row by row: JSON Lines for other programs, CSV for spreadsheets. Deterministic bytes."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np

from choreo_cli.errors import UsageError
from choreo_cli.report.content import Content
from choreo_cli.report.listing import plain

_BATCH = 10_000


def lines(content: Content) -> Iterator[bytes]:
    """Rows as JSON objects, one a line; missing is null. Raises UsageError when the file has no rows."""
    for record in _records(content):
        yield (
            json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8", "replace")
            + b"\n"
        )


def to_csv(content: Content) -> Iterator[bytes]:
    """Rows as CSV (RFC 4180, LF), missing is empty, nested values are JSON. Raises UsageError when there are none."""
    flat: list[str] | None = None
    buffer = io.StringIO()
    out = csv.writer(buffer, lineterminator="\n")
    for n, record in enumerate(_records(content)):
        cells = _flatten(content, record)
        if flat is None:
            flat = list(cells)
            out.writerow(flat)
        out.writerow([_cell(cells[k]) for k in flat])
        if n % _BATCH == _BATCH - 1:
            yield _taken(buffer)
    if flat is None:
        out.writerow([s.name for s in content.signals])
    yield _taken(buffer)


def _taken(buffer: io.StringIO) -> bytes:
    data = buffer.getvalue().encode("utf-8", "replace")
    buffer.seek(0)
    buffer.truncate()
    return data


def _flatten(content: Content, record: dict[str, Any]) -> dict[str, Any]:
    if content.kind != "pose":
        return record
    axes = "xyz"[: content.body.xyz.shape[2]]
    cells = {"t_us": record["t_us"]}
    for joint, point in record["joints"].items():
        for k, a in enumerate(axes):
            cells[f"{joint}_{a}"] = None if point is None else point[k]
    return cells


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return str(value)


def _records(content: Content) -> Iterator[dict[str, Any]]:
    body = content.body
    if content.kind == "pose":
        return _poses(body)
    if content.kind in ("series", "beats", "video"):
        return _timed(content)
    if content.kind == "playlist":
        return (asdict(i) for i in body)
    if content.schema.startswith("choreo.") and hasattr(body, "entries"):
        return iter(body.entries)
    if content.kind == "packets":
        return iter(body)
    if hasattr(body, "to_batches"):
        return _table(body)
    if content.kind in ("features", "audio"):
        return _features(content)
    if content.kind == "document" and isinstance(body, dict):
        return ({"key": str(k), "value": plain(v)} for k, v in body.items())
    if content.kind == "tensors":
        return ({"name": k, "dtype": str(a.dtype), "shape": list(a.shape)} for k, a in sorted(body.items()))
    raise UsageError(f"{content.path} has no rows to print", hint="see choreo inspect --help")


def shortest(value: Any) -> Any:
    """A number with the fewest digits that read back as the same value of its type; None when it is not finite."""
    if isinstance(value, np.float32):
        value = float(str(value))
    elif isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _poses(s: Any) -> Iterator[dict[str, Any]]:
    for t, points in zip(s.t_us.tolist(), s.xyz, strict=True):
        joints = {j: _point(p) for j, p in zip(s.joints, points, strict=True)}
        yield {"t_us": t, "joints": joints}


def _point(p: Any) -> list[Any] | None:
    return [shortest(v) for v in p] if np.isfinite(p).all() else None


def _timed(content: Content) -> Iterator[dict[str, Any]]:
    times = [] if content.t_us is None else content.t_us.tolist()
    if content.kind != "series":
        return ({"index": i, "t_us": t} for i, t in enumerate(times))
    names, values = content.body.names, content.body.values
    return (
        {"t_us": t, **{n: shortest(v) for n, v in zip(names, row, strict=True)}}
        for t, row in zip(times, values, strict=True)
    )


def _table(table: Any) -> Iterator[dict[str, Any]]:
    names = table.column_names
    for batch in table.to_batches(max_chunksize=_BATCH):
        columns = [_column(batch.column(k)) for k in range(len(names))]
        for row in zip(*columns, strict=True):
            yield dict(zip(names, row, strict=True))


def _column(values: Any) -> list[Any]:
    import pyarrow as pa

    kind = values.type
    if pa.types.is_float32(kind):
        array = values.to_numpy(zero_copy_only=False)
        return [shortest(v) for v in array]
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        single = pa.types.is_float32(kind.value_type)
        return [
            None if row is None else [shortest(np.float32(v)) if single else shortest(v) for v in row]
            for row in values.to_pylist()
        ]
    return list(values.to_pylist())


def _features(content: Content) -> Iterator[dict[str, Any]]:
    """Frame by frame: the one-dimensional features of equal length, with their time where the rate is known."""
    if content.kind == "audio":
        _, features, _ = content.body
        times = features.times_s
        arrays = {"onset": features.onset, "rms": features.rms, "centroid": features.centroid}
    else:
        arrays = {k: a for k, a in content.body.items() if isinstance(a, np.ndarray) and a.ndim == 1 and len(a) > 1}
        longest = max((len(a) for a in arrays.values()), default=0)
        arrays = {k: a for k, a in arrays.items() if len(a) == longest}
        times = None
        if not arrays:
            raise UsageError(f"{content.path} has no one-dimensional features", hint="see it with --plot FILE.png")
    for i in range(len(next(iter(arrays.values())))):
        start = {"frame": i} if times is None else {"frame": i, "t_s": round(float(times[i]), 6)}
        yield {**start, **{k: shortest(a[i]) for k, a in arrays.items()}}
