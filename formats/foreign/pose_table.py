"""Poses in CSV: one row per frame (`nose_x,nose_y,...`) or one row per joint."""

from __future__ import annotations

import csv
import io
from array import array
from collections.abc import Hashable
from typing import Any

import numpy as np

from formats.errors import FormatError
from formats.foreign.model import F64
from formats.foreign.pose_clock import FRAME_KEYS, TIME_KEYS
from formats.foreign.pose_frames import LABEL_KEYS, RawPose, assemble
from formats.foreign.pose_points import NAME_KEYS, NAN, Pose, flat_columns
from formats.foreign.pose_sniff import is_long
from formats.foreign.source import Source

MAX_COLUMNS = 16_384
MAX_CELLS = 32 * 2**20
_JOINT_COLUMNS = (*NAME_KEYS, "landmark_id", "landmark_index", "joint_id", "keypoint_id", "joint_index")


def read_table(source: Source) -> tuple[list[str], list[list[str]], list[str]]:
    """The header, the rows and the problems of a CSV with a header line; `,` `;` or tab, `#` comments on top.

    Raises:
        FormatError: a row in the middle has another number of cells, or there are too many columns or cells.
    """
    text = source.read_text()
    start = 0
    while text.startswith("#", start) or text.startswith(("\n", "\r"), start):
        end = text.find("\n", start)
        if end < 0:
            raise FormatError("only comments", file=source.path)
        start = end + 1
    end = text.find("\n", start)
    first = text[start : end if end >= 0 else len(text)]
    if max(first.count(c) for c in ",;\t") >= MAX_COLUMNS:
        raise FormatError(f"more than {MAX_COLUMNS} columns", file=source.path)
    delimiter = max(",;\t", key=first.count)
    skipped = text.count("\n", 0, start)
    rows: list[list[str]] = []
    problems: list[str] = []
    header: list[str] = []
    cells = bad = 0
    try:
        for line, row in enumerate(csv.reader(io.StringIO(text[start:]), delimiter=delimiter), skipped + 1):
            if not header:
                header = [c.strip() for c in row]
                continue
            if not any(row):
                continue
            if bad:
                raise FormatError(
                    f"{len(rows[-1])} cells where the header has {len(header)}", file=source.path, row=bad
                )
            if len(row) == len(header) + 1 and not row[-1].strip():
                row = row[:-1]
            bad = line if len(row) != len(header) else 0
            cells += len(row)
            if cells > MAX_CELLS:
                raise FormatError(f"more than {MAX_CELLS} cells", file=source.path)
            rows.append(row)
    except csv.Error as e:
        raise FormatError(f"not CSV: {e}", file=source.path) from None
    if bad:
        problems.append(f"truncated: row {bad} has {len(rows[-1])} of {len(header)} cells and is dropped")
        rows.pop()
    if delimiter != "," and rows and "," in "".join(rows[0]) and "." not in "".join(rows[0]):
        rows = [[c.replace(",", ".") for c in row] for row in rows]
    return header, rows, problems


def floats(cells: list[str]) -> F64:
    """Numbers of one column; empty, text, non-finite and beyond +-1e9 are NaN."""
    try:
        values = np.array(cells, dtype=np.float64)
    except (ValueError, OverflowError):
        values = np.array([_cell(c) for c in cells], np.float64)
    with np.errstate(invalid="ignore"):
        return np.where(np.abs(values) < 1e9, values, np.nan)


def _cell(text: str) -> float:
    try:
        return float(text[:64])
    except ValueError:
        return NAN


def column_of(header: list[str], keys: tuple[str, ...]) -> int | None:
    """Index of the first column whose name is one of `keys`, in the order of `keys`."""
    low = [h.lower() for h in header]
    return next((low.index(k) for k in keys if k in low), None)


def read_pose_table(source: Source) -> RawPose:
    """Read the poses of a CSV.

    Raises:
        FormatError: there are no joints in the header, no rows, or rows of different lengths.
    """
    header, rows, problems = read_table(source)
    if not rows:
        raise FormatError("no rows", file=source.path)
    time_at = column_of(header, TIME_KEYS)
    frame_at = column_of(header, FRAME_KEYS)
    label_at = [i for i, h in enumerate(header) if h.lower() in LABEL_KEYS]
    if is_long([h.lower() for h in header]):
        raw = _long(header, rows, time_at, frame_at, label_at)
    else:
        raw = _wide(source, header, rows)
        raw.labels = [_label(row, label_at) for row in rows]
        raw.time = [None if time_at is None else _value(row[time_at]) for row in rows]
        raw.frame = [None if frame_at is None else _whole(row[frame_at]) for row in rows]
        if time_at is None and frame_at is not None and None not in raw.frame and len(set(raw.frame)) < len(raw.frame):
            raw.frame_of_row = [n or 0 for n in raw.frame]
    raw.time_key = None if time_at is None else header[time_at].lower()
    raw.problems += problems
    return raw


def _wide(source: Source, header: list[str], rows: list[list[str]]) -> RawPose:
    groups = flat_columns(tuple(dict.fromkeys(header)))
    if not groups:
        raise FormatError("no joint columns such as nose_x, nose_y", file=source.path, row=1)
    at = {name: i for i, name in reversed(list(enumerate(header)))}
    values = np.full((len(rows), len(groups), 4), np.nan)
    columns = list(zip(*rows, strict=True))
    for j, axes in enumerate(groups.values()):
        for k, axis in enumerate("xyzc"):
            if axis in axes:
                values[:, j, k] = floats(list(columns[at[axes[axis]]]))
    none: list[Any] = [None] * len(rows)
    return RawPose(
        tuple(groups), values[:, :, :3], values[:, :, 3], none, None, list(none), list(range(len(rows))), list(none)
    )


def _long(
    header: list[str], rows: list[list[str]], time_at: int | None, frame_at: int | None, label_at: list[int]
) -> RawPose:
    joint_at = column_of(header, _JOINT_COLUMNS)
    axes = [column_of(header, (a,)) for a in "xyz"]
    axes.append(column_of(header, ("confidence", "conf", "score", "visibility", "likelihood", "presence", "c", "v")))
    columns = list(zip(*rows, strict=True))
    data = np.stack([np.full(len(rows), np.nan) if a is None else floats(list(columns[a])) for a in axes], axis=1)
    key_at = [i for i in (time_at, frame_at) if i is not None]
    labels_at = [i for i in label_at if i != joint_at and i not in key_at]
    groups: dict[tuple[Hashable, ...], dict[str, int]] = {}
    for i, row in enumerate(rows):
        key = (tuple(row[k] for k in key_at), _label(row, labels_at))
        groups.setdefault(key, {}).setdefault(row[joint_at or 0].strip(), i)
    poses = [Pose(tuple(g), array("d", data[list(g.values())].ravel().tolist())) for g in groups.values()]
    raw = assemble(poses)
    first = [next(iter(g.values())) for g in groups.values()]
    raw.time = [None if time_at is None else _value(rows[i][time_at]) for i in first]
    raw.frame = [None if frame_at is None else _whole(rows[i][frame_at]) for i in first]
    raw.labels = [_label(rows[i], labels_at) for i in first]
    moments: dict[tuple[str, ...], int] = {}
    raw.frame_of_row = [moments.setdefault(tuple(rows[i][k] for k in key_at), len(moments)) for i in first]
    return raw


def _label(row: list[str], at: list[int]) -> Hashable:
    return tuple(row[i] for i in at) if at else None


def _value(text: str) -> str | None:
    return text.strip() or None


def _whole(text: str) -> int | None:
    value = _cell(text)
    return int(value) if abs(value) < 1e15 else None
