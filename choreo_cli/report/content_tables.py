"""Open our own artefacts: tables, manifests, sealed documents, tensors, arrays, control maps, pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from choreo_cli.report import recognise, rules
from choreo_cli.report.content import Content, Signal, texts
from formats.columns import Column, Table
from formats.errors import FormatError
from formats.foreign.model import Series
from formats.foreign.source import Source

_NUMERIC = ("int32", "int64", "float32", "float64", "bool")
_MASKS = {"m_mot": "motion", "m_hr": "heart rate", "m_aud": "audio", "m_ctx": "beat"}


def ours(source: Source, family: str) -> Content:
    """Open an artefact of a family of `recognise`. Raises FormatError when it is damaged or has no inside."""
    opened = {
        "parquet": parquet, "manifest": manifest, "sealed": sealed, "npz": npz, "tensors": tensors, "npy": npy,
        "motion_npz": motion_clip,
        "packets": packets, "events": events, "run_log": run_log, "control_map": control_map, "png": png, "sums": sums,
    }.get(family)  # fmt: skip
    if opened is None:
        raise FormatError("not a kind of file choreo knows", file=source.path, hint="choreo discover lists the rest")
    return opened(source.path)


def parquet(path: Path) -> Content:
    """A table of ours: every scalar column a signal, broken bounds and promises as problems."""
    from formats import tables

    table = recognise.table_of(tables.schema_name(path), path)
    data = tables.read_table(path, table)
    signals = [_column(c, data.column(c.name)) for c in table.columns if c.dtype in (*_NUMERIC, "str")]
    found = Content(path, table.schema.split("/")[0].removeprefix("choreo."), table.schema, data.num_rows, signals)
    found.problems = tables.bounds(table, data) + rules.broken(table, data)
    found.body = data
    if "t_us" in table.names:
        found.t_us = np.asarray(data.column("t_us").to_numpy(), np.int64)
    if "session_id" in table.names and data.num_rows:
        found.group = rules.session_codes(data)
        found.facts["sessions"] = len(found.group[0])
    for mask, what in _MASKS.items():
        if mask in table.names and data.num_rows:
            real = float(np.mean(data.column(mask).to_numpy(zero_copy_only=False)))
            found.facts[f"{what} is real"] = f"{100 * real:.1f} %"
    found.facts |= _metadata(data.schema.metadata)
    return found


def _column(c: Column, values: Any) -> Signal:
    if c.dtype == "str":
        return Signal(c.name, values.to_pylist(), c.unit, c)
    array = values.to_numpy(zero_copy_only=False)
    return Signal(c.name, array, c.unit, c, missing=0 if array.dtype.kind == "f" else values.null_count)


def _metadata(raw: dict[bytes, bytes] | None) -> dict[str, Any]:
    """Key-value metadata of a Parquet file, JSON opened; provenance shortened to what a person asks for."""
    import json

    found: dict[str, Any] = {}
    for key, value in sorted((raw or {}).items()):
        name, text = key.decode("utf-8", "replace"), value.decode("utf-8", "replace")
        if name in ("ARROW:schema", "choreo.schema"):
            continue
        try:
            found[name] = json.loads(text)
        except ValueError:
            found[name] = text[:500]
    made = found.pop("choreo", None)
    if isinstance(made, dict) and made:
        found["made by"] = f"choreo {made.get('command')} {made.get('choreo')}, run {made.get('run_id')}"
    return found


def manifest(path: Path) -> Content:
    """A manifest: its entries as rows."""
    from choreo_cli.report.verify import Verdict, document
    from formats.manifest import ENTRY_TABLES

    found = document(path.read_bytes(), str(path), path, Verdict(str(path)))
    made = found.created_by
    content = Content(path, found.kind.removeprefix("choreo."), found.schema, len(found.entries), [])
    content.signals = entry_signals(ENTRY_TABLES[found.schema], found.entries)
    content.body = found
    content.facts = {
        "made by": f"choreo {made.get('command')} {made.get('choreo')}, run {made.get('run_id')}",
        "inputs": len(made.get("inputs", [])),
        "outputs": len(made.get("outputs", [])),
        "roots": {r.id: r.path for r in found.roots},
        "sha256": found.sha256,
    }
    return content


def entry_signals(table: Table, entries: list[dict[str, Any]]) -> list[Signal]:
    """Scalar fields of manifest entries as signals."""
    found = []
    for c in table.columns:
        values = [e[c.name] for e in entries]
        if c.dtype == "str":
            found.append(Signal(c.name, texts(values), c.unit, c))
        elif c.dtype in _NUMERIC and any(v is not None for v in values):
            array = np.array([np.nan if v is None else float(v) for v in values])
            found.append(Signal(c.name, array, c.unit, c))
    return found


def sealed(path: Path) -> Content:
    """A sealed document: its fields as facts."""
    from formats.sealed import parse

    doc = parse(Source.of(path).read_bytes(), file=path)
    schema = str(doc.get("schema", "sealed JSON"))
    found = Content(path, "document", schema, 1, [], body=doc)
    found.facts = {k: v for k, v in doc.items() if k != "schema"}
    return found


def npz(path: Path) -> Content:
    """Audio features of ours."""
    from choreo_cli.report.content_foreign import of_object
    from formats.audio_npz import AUDIO_NPZ, decode

    arrays, made = decode(Source.of(path).read_bytes(2**31), file=path)
    found = of_object(path, AUDIO_NPZ.schema, arrays)
    for s in found.signals:
        s.spec = AUDIO_NPZ.column(s.name)
        s.unit = s.spec.unit
    if made:
        found.facts["made by"] = f"choreo {made.get('command')} {made.get('choreo')}, run {made.get('run_id')}"
    return found


def motion_clip(path: Path) -> Content:
    """A choreo25 clip: its channels as signals, its header as facts."""
    from formats.motion_npz import CHANNELS, MOTION_NPZ, decode, out_of_range

    clip = decode(Source.of(path).read_bytes(2**31), file=path)
    h, n = clip.header, len(clip.channels)
    signals = [Signal(c.name, clip.channels[:, k], c.unit, c) for k, c in enumerate(CHANNELS)]
    t_us = np.round(np.arange(n) * (1e6 / h.fps)).astype(np.int64)
    series = Series(t_us, clip.channels, tuple(c.name for c in CHANNELS), tuple(c.unit for c in CHANNELS))
    found = Content(path, "series", MOTION_NPZ.schema, n, signals, t_us, body=series)
    found.facts = {
        "layout": f"{h.layout} version {h.layout_version}", "rate": f"{h.fps:.6g} Hz", "duration": f"{n / h.fps:.3f} s",
        "height": f"{h.height_m:.3f} m", "start": f"x {h.x0:.3f} m, z {h.z0:.3f} m, yaw {h.yaw0:.3f} rad",
        "scale applied": h.scale_applied, "licence": h.licence or "unknown", "origin": h.origin or "unknown",
        "source": h.source, "flags": h.flags,
    }  # fmt: skip
    if clip.created_by:
        made = clip.created_by
        found.facts["made by"] = f"choreo {made.get('command')} {made.get('choreo')}, run {made.get('run_id')}"
    found.notes += [f"{name}: {k} values beyond the hard range" for name, k in out_of_range(clip.channels).items()]
    return found


def tensors(path: Path) -> Content:
    """A safetensors file: each array a signal."""
    from formats.tensors import read

    arrays, metadata = read(path)
    signals = [Signal(name, a.reshape(-1), "") for name, a in sorted(arrays.items())]
    found = Content(path, "tensors", "safetensors", len(arrays), signals, body=arrays)
    found.facts = {name: f"{a.dtype} {list(a.shape)}" for name, a in sorted(arrays.items())}
    found.facts |= {k: v for k, v in metadata.items() if k != "choreo.sha256"}
    return found


def npy(path: Path) -> Content:
    """One array: its last axis of at most 64 columns as signals, else all of it as one."""
    from choreo_cli.report.arrays import open_npy

    array = open_npy(path)
    signals = [Signal("values", np.asarray(array).reshape(-1))] if array.dtype.kind in "fiub" else []
    if array.dtype.kind in "fiub" and array.ndim == 2 and array.shape[1] <= 64:
        signals = [Signal(f"[:, {k}]", np.asarray(array[:, k])) for k in range(array.shape[1])]
    rows = array.shape[0] if array.ndim else 1
    return Content(
        path, "array", "npy", rows, signals, facts={"array": f"{array.dtype} {list(array.shape)}"}, body=array
    )


def packets(path: Path) -> Content:
    """Packets of a live session: their kinds and their times."""
    from formats.packet_log import SCHEMA, read
    from formats.packets import to_dict

    found = read(path)
    kinds = [type(p).__name__ for p in found]
    content = Content(path, "packets", SCHEMA, len(found), [Signal("kind", texts(kinds))])
    content.signals.append(Signal("t_us", np.array([p.t_us for p in found], np.int64), "us"))
    content.body = [{"kind": k, **to_dict(p)} for k, p in zip(kinds, found, strict=True)]
    return content


def events(path: Path) -> Content:
    """Events of a performance: their kinds and their times, and what went wrong in it.

    A log without its end, of a performance that was killed, is broken and read as far as it goes.
    """
    from choreo_cli.report.diagnosis import diagnose
    from formats.event_log import MAX_BYTES, SCHEMA, decode, events_of

    data = Source.of(path).read_bytes(MAX_BYTES)
    problems: list[str] = []
    try:
        found = decode(data, file=path)
    except FormatError as e:
        found = events_of(data, file=path)
        problems.append(e.message)
    kinds = [e["kind"] for e in found]
    content = Content(path, "packets", SCHEMA, len(found), [Signal("kind", texts(kinds))], problems=problems)
    content.signals.append(Signal("t_us", np.array([e["t_us"] for e in found], np.int64), "us"))
    content.facts |= {k: kinds.count(k) for k in dict.fromkeys(kinds)}
    faults = diagnose(found, whole=not problems)
    content.facts["faults"] = {f"{f.fault} {f.about}".strip(): len(f.spells) for f in faults} or "none"
    content.notes += [f.sentence() for f in faults]
    content.body = [
        {"t_us": e["t_us"], "kind": e["kind"], "facts": {k: v for k, v in e.items() if k not in ("t_us", "kind")}}
        for e in found
    ]
    return content


def run_log(path: Path) -> Content:
    """The curves of a training: every figure of its steps."""
    from formats.run_log import NAME, read

    found = read(path)
    steps = [r for r in found if r["kind"] == "step"]
    names = [k for k in (steps[0] if steps else {}) if k != "kind"]
    signals = [Signal(k, np.array([np.nan if r.get(k) is None else r[k] for r in steps], np.float64)) for k in names]
    facts = {"steps": len(steps), "validations": len(found) - len(steps)}
    return Content(path, "document", NAME, len(found), signals, facts=facts, body=found)


def control_map(path: Path) -> Content:
    """A control map: one row for each control."""
    from formats import control_map as maps

    doc = maps.to_dict(maps.load(path))
    facts = {k: v for k, v in doc.items() if not isinstance(v, dict) or "cc" not in v}
    facts |= {k: _control(v) for k, v in doc.items() if isinstance(v, dict) and "cc" in v}
    return Content(path, "document", "control map", 5, [], facts=facts, body=doc)


def _control(v: dict[str, Any]) -> str:
    ease = v["ease"]
    return (
        f"{v['min']:g}..{v['max']:g}, neutral {v['neutral']:g}, ease {ease['kind']} {ease['ms']:g} ms, "
        f"CC {v['cc']}, at most {v['rate_per_s']:g}/s"
    )


def png(path: Path) -> Content:
    """A picture: its size and its texts."""
    import struct
    import zlib

    from formats import wholeness

    wholeness.verify(path)
    data, at = Source.of(path).read_bytes(), 8
    if data[:8] != wholeness.PNG_START:
        raise FormatError("not a PNG: its first bytes are damaged", file=path)
    facts: dict[str, Any] = {}
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + 8 + length]
        if kind == b"IHDR" and length == 13:
            facts["size"] = "{} x {} pixels".format(*struct.unpack(">II", body[:8]))
        elif kind == b"tEXt":
            key, _, text = body.partition(b"\0")
            facts[key.decode("latin-1")] = text.decode("latin-1")[:2000]
        at += 12 + length
    facts["crc32 of all chunks"] = f"{zlib.crc32(data):08x}"
    return Content(path, "document", "png", 1, [], facts=facts, body=facts)


def sums(path: Path) -> Content:
    """A list of checksums."""
    from choreo_cli.report.checksums import parse

    found = parse(path)
    return Content(path, "document", "sha256sums", len(found), [], facts=dict(found), body=found)
