"""Is one file whole: its digest, its schema, its bounds, its promises. One sentence for every doubt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from choreo_cli.report import recognise as known
from choreo_cli.report import rules
from formats import manifest as manifests
from formats.errors import FormatError
from formats.foreign.source import Source

NPZ_BYTES = 2**31
NO_SEAL = "the sha256 inside it is missing: the file is damaged or was not made by choreo"


@dataclass(slots=True)
class Verdict:
    """What was found out about one file.

    Args:
        path: As the person named it.
        schema: `choreo.KIND/1`, the format of a foreign file, or None.
        problems: What is wrong; empty when all is well.
        notes: Remarks that are no failure.
    """

    path: str
    schema: str | None = None
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.problems

    def record(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "ok": self.ok,
            "schema": self.schema,
            "problems": self.problems,
            "notes": self.notes,
        }


def check_file(path: Path, shown: str, *, hashed: bool = False, named: bool = True) -> Verdict:
    """Check one file by what it is; manifests and checksum lists are checked as documents only.

    Args:
        path: The file.
        shown: How to call it.
        hashed: Its sha256 was compared with a manifest already: foreign content is then not parsed again.
        named: The person named it, so a kind nobody knows is a problem instead of a remark.
    """
    verdict = Verdict(shown)
    try:
        source = Source.of(path)
        kind = known.recognise(source)
        if kind.family == "unknown" or (kind.reader is not None and kind.reader.format == "plain"):
            _unknown(source, kind.reader, verdict, named, hashed)
        elif kind.reader is not None:
            verdict.schema = kind.reader.format
            if not hashed:
                _foreign(kind.reader, source, verdict)
        else:
            _FAMILIES[kind.family](path, verdict, hashed)
    except FormatError as e:
        verdict.problems.append(_sentence(e, path))
    except OSError as e:
        verdict.problems.append(e.strerror or type(e).__name__)
    return verdict


def _sentence(e: FormatError, path: Path) -> str:
    """The error without the name of the file, which stands before it already."""
    file = None if e.file in (str(path), path.name) else e.file
    where = [w for w in (file, f"row {e.row}" if e.row is not None else "", e.field) if w]
    return f"{e.message} ({', '.join(where)})" if where else e.message


def _unknown(source: Source, reader: Any, verdict: Verdict, named: bool, hashed: bool) -> None:
    """A file that nobody reads: a remark, and a problem when somebody asked for it or it is not what it says.

    One that a manifest vouches for (`hashed`), such as left_out.jsonl, is whole whatever it is.
    """
    facts = reader.facts(source) if reader is not None else None
    if facts is not None and facts.reason is not None and not hashed:
        raise FormatError(facts.reason, file=source.path)
    if source.suffix == ".json":
        from formats.jsonstrict import loads

        loads(source.read_bytes(), file=source.path)
    note = str(facts.meta.get("note", facts.format)) if facts is not None else "unknown content"
    (verdict.problems if named and not hashed else verdict.notes).append(f"{note}: nothing here that can be checked")


def _foreign(reader: Any, source: Source, verdict: Verdict) -> None:
    facts = reader.facts(source)
    verdict.notes += list(facts.problems)
    if facts.reason is not None:
        target = verdict.notes if reader.read is None else verdict.problems
        target.append(facts.reason)
    elif reader.format == "brace-beats":
        from formats.foreign.beat_text import read_sequences

        read_sequences(source)
    elif reader.read is not None:
        found = reader.read(source)
        if hasattr(found, "blocks"):  # sound: damage may lie in the last block
            with found:
                for _ in found.blocks(0, None, 1 << 16):
                    pass
            verdict.notes += [p for p in found.problems if p not in verdict.notes]


def _parquet(path: Path, verdict: Verdict, hashed: bool) -> None:
    from formats import tables, wholeness

    whole = hashed or wholeness.verify(path)
    schema = tables.schema_name(path)
    verdict.schema = schema
    table = known.table_of(schema, path)
    data = tables.read_table(path, table)
    if not whole:
        raise FormatError(NO_SEAL, file=path)
    verdict.problems += tables.bounds(table, data)
    verdict.problems += rules.broken(table, data)


def _npz(path: Path, verdict: Verdict, hashed: bool) -> None:
    from formats import audio_npz

    verdict.schema = audio_npz.AUDIO_NPZ.schema
    audio_npz.decode(Source.of(path).read_bytes(NPZ_BYTES), file=path)


def _motion_npz(path: Path, verdict: Verdict, hashed: bool) -> None:
    from formats import motion_npz

    verdict.schema = motion_npz.MOTION_NPZ.schema
    clip = motion_npz.decode(Source.of(path).read_bytes(NPZ_BYTES), file=path)
    outside = motion_npz.out_of_range(clip.channels)
    verdict.notes += [f"{name}: {n} values beyond the hard range" for name, n in outside.items()]
    if clip.header.flags.get("inverted"):
        verdict.notes.append("inverted: the pelvis is not upright in every frame")


def _tensors(path: Path, verdict: Verdict, hashed: bool) -> None:
    from formats import tensors, wholeness

    verdict.schema = "safetensors"
    whole = hashed or wholeness.verify(path)
    _, metadata = tensors.read(path)
    if not whole and any(k.startswith("choreo") for k in metadata):
        raise FormatError(NO_SEAL, file=path)
    if not whole:
        verdict.notes.append("no sha256 inside: a flipped weight would not show")


def _npy(path: Path, verdict: Verdict, hashed: bool) -> None:
    from choreo_cli.report.arrays import open_npy

    array = open_npy(path)
    verdict.schema = "npy"
    verdict.notes.append(f"{array.dtype} {array.shape}")


def _png(path: Path, verdict: Verdict, hashed: bool) -> None:
    from formats import wholeness

    verdict.schema = "png"
    if not hashed and not wholeness.verify(path):
        raise FormatError("not a PNG: its first bytes are damaged", file=path)


def _manifest(path: Path, verdict: Verdict, hashed: bool) -> None:
    document(path.read_bytes(), str(path), path, verdict)


def document(data: bytes, source: str, file: Path | None, verdict: Verdict) -> manifests.Manifest:
    """Decode a manifest and check what its entries promise each by itself."""
    verdict.schema = manifests.peek(data)
    found = manifests.decode(data, source=source, file=file)
    if found.schema not in manifests.ENTRY_TABLES:
        raise FormatError(f"{found.schema} is not a manifest this version knows", file=file)
    if found.kind == "choreo.metrics":
        from formats.metrics import validate

        for row, entry in enumerate(found.entries):
            validate(entry, source, row)
    if found.kind == "choreo.run":
        from formats.metrics import validate

        for row, e in enumerate(found.entries):
            for metric in e["metrics"] if isinstance(e["metrics"], list) else []:
                validate(metric, source, row)
    if found.kind == "choreo.inventory":
        for row, e in enumerate(found.entries):
            if e["sha256"] is not None and e["id"].partition(":")[2].partition(".")[0] != e["sha256"][:16]:
                raise FormatError("the id does not follow from sha256", file=file, row=row, field="id")
    return found


def _sealed(path: Path, verdict: Verdict, hashed: bool) -> None:
    from formats import checkpoint, sealed, status
    from formats.columns import STATUS

    doc = sealed.parse(Source.of(path).read_bytes(), file=path)
    verdict.schema = str(doc.get("schema")) if "schema" in doc else None
    if verdict.schema == STATUS.schema:
        status.decode(path.read_bytes(), file=path)
    if verdict.schema == checkpoint.SCHEMA:
        checkpoint.read_card(path)


def _packets(path: Path, verdict: Verdict, hashed: bool) -> None:
    from formats import packet_log

    verdict.schema = packet_log.SCHEMA
    packet_log.read(path)


def _events(path: Path, verdict: Verdict, hashed: bool) -> None:
    from formats import event_log

    verdict.schema = event_log.SCHEMA
    event_log.read(path)


def _run_log(path: Path, verdict: Verdict, hashed: bool) -> None:
    from formats import run_log

    verdict.schema = run_log.NAME
    run_log.read(path)


def _sums(path: Path, verdict: Verdict, hashed: bool) -> None:
    from choreo_cli.report.checksums import parse

    verdict.schema = "sha256sums"
    parse(path)


def _control_map(path: Path, verdict: Verdict, hashed: bool) -> None:
    from formats import control_map

    verdict.schema = "control_map"
    control_map.load(path)


_FAMILIES: dict[str, Callable[[Path, Verdict, bool], None]] = {
    "parquet": _parquet,
    "npz": _npz,
    "motion_npz": _motion_npz,
    "npy": _npy,
    "tensors": _tensors,
    "png": _png,
    "manifest": _manifest,
    "sealed": _sealed,
    "packets": _packets,
    "events": _events,
    "run_log": _run_log,
    "sums": _sums,
    "control_map": _control_map,
}
