"""Our own pose table: one row per pose of one person, joints named once in the metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from formats import jsonstrict
from formats.columns import Column, Table
from formats.errors import FormatError
from formats.foreign.model import T0_SOURCES, Clock, PoseStream

if TYPE_CHECKING:
    import pyarrow as pa

POSES = Table(
    "choreo.poses/1",
    "One row per pose of one person, at the rate it was recorded; joints, units and up are in the metadata.",
    (
        Column(
            "recording_id", "str", doc="recording the row belongs to; rows are sorted by (recording_id, person, t_us)"
        ),
        Column("t_us", "int64", "us", lo=0, doc="time from the recording's own zero, strictly increasing"),
        Column("person", "int32", lo=0, doc="0 is the person followed"),
        Column("xyz", "list<float32>", doc="joints x dims positions, NaN where a joint is missing"),
        Column(
            "confidence", "list<float32>", lo=0, nullable=True, doc="one per joint, NaN where unknown; null without any"
        ),
    ),
)
METADATA_KEY = "choreo.poses"
UNITS = ("m", "px", "norm", "unknown")
UPS = ("+y", "-y", "+z")
RATE_SOURCES = ("timestamps", "header", "declared", "format", "user", "none")
# A score belongs beside a position; what a source calls confidence may be any number.
_JOINT_LIMIT = 4096


def columns(stream: PoseStream, recording_id: str, person: int = 0) -> dict[str, Any]:
    """The columns of a stream for `tables.write_table(path, POSES, ...)`.

    Args:
        stream: T poses of J joints in D dimensions.
        recording_id: Identity of the recording.
        person: Which person of it.
    """
    n = len(stream.t_us)
    scores = stream.confidence
    return {
        "recording_id": [recording_id] * n,
        "t_us": np.asarray(stream.t_us, np.int64),
        "person": np.full(n, person, np.int32),
        "xyz": np.asarray(stream.xyz, np.float32).reshape(n, -1),
        "confidence": [None] * n if scores is None else np.maximum(np.asarray(scores, np.float32), 0.0),
    }


def metadata(stream: PoseStream, recording_id: str, synthetic: bool = False) -> dict[str, str]:
    """What the rows cannot say of themselves, for the file's key-value metadata."""
    clock = stream.clock
    fields = {
        "recording_id": recording_id, "joints": list(stream.joints), "dims": int(stream.xyz.shape[2]),
        "units": stream.units, "up": stream.up, "rate": None if stream.rate is None else list(stream.rate),
        "rate_source": stream.rate_source, "t0_utc_us": clock.t0_utc_us, "t0_source": clock.source,
        "t0_sigma_us": clock.sigma_us, "t0_naive": clock.naive, "problems": list(stream.problems),
        "assumptions": list(stream.assumptions), "synthetic": synthetic,
    }  # fmt: skip
    return {METADATA_KEY: json.dumps(fields, ensure_ascii=False, sort_keys=True, separators=(",", ":"))}


def stream(table: pa.Table, texts: Mapping[str, str] | None = None, person: int = 0) -> PoseStream:
    """The stream in a table that `tables.read_table(path, POSES)` gave.

    Args:
        table: Rows of one recording.
        texts: The file's metadata (`tables.read_metadata`); by default the table's own.
        person: Which person.

    Raises:
        FormatError: the metadata is missing or does not fit the rows, or the times do not increase.
    """
    fields = _fields(texts if texts is not None else _own_texts(table))
    of_person = np.asarray(table.column("person").to_numpy()) == person
    rows = np.flatnonzero(of_person)
    if len(rows) < len(of_person):
        table = table.take(rows)
    joints, dims = tuple(fields["joints"]), fields["dims"]
    xyz = _lists(table, "xyz", len(joints) * dims)
    if xyz is None:
        raise FormatError("no positions", field="xyz")
    t_us = np.asarray(table.column("t_us").to_numpy(), np.int64)
    if len(t_us) and bool((np.diff(t_us) <= 0).any()):
        raise FormatError("times do not increase", row=int(np.argmax(np.diff(t_us) <= 0)) + 1, field="t_us")
    rate = fields["rate"]
    return PoseStream(
        t_us=t_us, xyz=xyz.reshape(len(t_us), len(joints), dims), joints=joints, units=fields["units"], up=fields["up"],
        confidence=_lists(table, "confidence", len(joints)), rate=None if rate is None else (rate[0], rate[1]),
        rate_source=fields["rate_source"], problems=tuple(fields["problems"]), assumptions=tuple(fields["assumptions"]),
        clock=Clock(fields["t0_utc_us"], fields["t0_source"], fields["t0_sigma_us"], fields["t0_naive"]),
    )  # fmt: skip


def _own_texts(table: pa.Table) -> dict[str, str]:
    found = table.schema.metadata or {}
    return {k.decode("utf-8", "replace"): v.decode("utf-8", "replace") for k, v in found.items()}


def _fields(texts: Mapping[str, str]) -> dict[str, Any]:
    """The metadata, every field checked."""
    if METADATA_KEY not in texts:
        raise FormatError(f"no metadata {METADATA_KEY!r}", hint="joints and units of the poses are unknown")
    fields = jsonstrict.loads(texts[METADATA_KEY])
    if not isinstance(fields, dict):
        raise FormatError("not an object", field=METADATA_KEY)
    joints, rate = fields.get("joints"), fields.get("rate")
    whole = (int, type(None))
    good = {
        "joints": isinstance(joints, list)
        and 0 < len(joints) <= _JOINT_LIMIT
        and all(isinstance(j, str) for j in joints)
        and len(set(joints)) == len(joints),
        "dims": fields.get("dims") in (2, 3),
        "units": fields.get("units") in UNITS,
        "up": fields.get("up") in UPS,
        "rate_source": fields.get("rate_source") in RATE_SOURCES,
        "t0_source": fields.get("t0_source") in T0_SOURCES,
        "rate": rate is None
        or (isinstance(rate, list) and len(rate) == 2 and all(isinstance(v, int) and v > 0 for v in rate)),
        "t0_utc_us": isinstance(fields.get("t0_utc_us", ""), whole),
        "t0_sigma_us": isinstance(fields.get("t0_sigma_us", ""), whole),
        "t0_naive": isinstance(fields.get("t0_naive"), bool),
        "problems": _texts_list(fields.get("problems")),
        "assumptions": _texts_list(fields.get("assumptions")),
    }
    for name, fine in good.items():
        if not fine:
            raise FormatError("missing or not legal", field=f"{METADATA_KEY}.{name}")
    return fields


def _texts_list(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(v, str) for v in value)


def _lists(table: pa.Table, name: str, width: int) -> np.ndarray[Any, np.dtype[np.float32]] | None:
    """(T, width) float32 of a list column; None when every row is null."""
    column = table.column(name).combine_chunks()
    if column.null_count == len(column) and len(column):
        return None
    if column.null_count:
        raise FormatError(f"{column.null_count} rows without values", field=name)
    offsets = np.asarray(column.offsets.to_numpy())
    if bool((np.diff(offsets) != width).any()):
        row = int(np.argmax(np.diff(offsets) != width))
        raise FormatError(f"{np.diff(offsets)[row]} values where {width} are due", row=row, field=name)
    return np.asarray(column.flatten().to_numpy(zero_copy_only=False), np.float32).reshape(-1, width)
