"""Manifests: one JSON document, one entry per line, `count` and `sha256` last; a cut pipe is never accepted.

The bytes on stdout are the bytes of the file. `sha256` covers the entry lines; `head_sha256` covers the first line,
so that a flipped bit is noticed anywhere while equal entries keep equal digests on every machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from formats.columns import METRIC, PAIR, RECORDING, RUN, SESSION, STATUS, Table
from formats.errors import FormatError
from formats.jsonstrict import loads
from formats.media import MOTION, VIDEO
from formats.trajectory import TRAJECTORIES

MAX_BYTES = 2**31
_KINDS = (RECORDING, PAIR, SESSION, MOTION, VIDEO, TRAJECTORIES, RUN, METRIC, STATUS)
ENTRY_TABLES: dict[str, Table] = {t.schema: t for t in _KINDS}
# Which command makes and which reads a kind, for the sentence that names a wrong one.
MADE_BY = {
    "choreo.inventory": "choreo discover",
    "choreo.pairs": "choreo pair",
    "choreo.sessions": "choreo synth sessions",
    "choreo.trajectories": "choreo synth trajectories",
    "choreo.motions": "choreo retarget",
    "choreo.videos": "choreo render",
    "choreo.run": "choreo train",
    "choreo.metrics": "choreo evaluate",
    "choreo.status": "choreo status",
}


@dataclass(frozen=True, slots=True)
class Root:
    """A folder that entry paths are relative to. `self` is the manifest's own folder."""

    id: str
    path: str
    self: bool = False


@dataclass(slots=True)
class Manifest:
    """A manifest in memory.

    Args:
        schema: `choreo.KIND/MAJOR`.
        created_by: Provenance (protocol.md), outside the digest.
        roots: Where entry paths start.
        entries: Records of `ENTRY_TABLES[schema]`, in order.
        sha256: Digest of the entry lines, set by `encode` and `decode`.
        file: Where it was read from, None for a pipe.
    """

    schema: str
    created_by: dict[str, Any]
    entries: list[dict[str, Any]]
    roots: list[Root] = field(default_factory=list)
    sha256: str = ""
    file: Path | None = None

    @property
    def kind(self) -> str:
        return self.schema.split("/")[0]


_encoder = msgspec.json.Encoder()


def entry_line(entry: Any) -> bytes:
    """The bytes of one entry: compact JSON, keys in the order of its table."""
    return _encoder.encode(entry)


def encode(manifest: Manifest) -> bytes:
    """The document. Sets `manifest.sha256`."""
    head = b'{"schema":' + _encoder.encode(manifest.schema)
    head += b',"created_by":' + _encoder.encode(manifest.created_by)
    roots = [{"id": r.id, "path": r.path, **({"self": True} if r.self else {})} for r in manifest.roots]
    head += b',"roots":' + _encoder.encode(roots) + b',"entries":[\n'
    lines = [entry_line(e) + b",\n" for e in manifest.entries]
    if lines:
        lines[-1] = lines[-1].removesuffix(b",\n")
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line)
    manifest.sha256 = digest.hexdigest()
    tail = b'\n],"head_sha256":"%s","count":%d,"sha256":"%s"}\n' % (
        hashlib.sha256(head).hexdigest().encode(),
        len(manifest.entries),
        manifest.sha256.encode(),
    )
    return b"".join([head, *lines, tail])


def decode(data: bytes, *, source: str = "the manifest", file: Path | None = None) -> Manifest:
    """Parse and verify a manifest.

    Args:
        data: The whole document.
        source: How to call it in errors (`stdin` or the file's name).
        file: Where it lies, for roots marked `self`.

    Raises:
        FormatError: empty, cut, damaged, edited, of an unknown major version, or with entries that break their table.
    """
    if not data.strip():
        raise FormatError("no manifest arrived", file=source, hint="did the command before it fail?")
    start, end = _split(data, source)
    _verify(data, start, end, source)
    top = loads(data[:start] + b"]}", file=source)
    if not isinstance(top, dict):
        raise FormatError("not a choreo manifest", file=source)
    schema = str(top.get("schema", ""))
    known = {s.split("/")[0]: s for s in ENTRY_TABLES}
    kind, _, major = schema.partition("/")
    if kind in known and major != known[kind].split("/")[1]:
        wrote = top.get("created_by", {}).get("choreo", "another version")
        raise FormatError(
            f"{schema} was written by choreo {wrote}", file=source, hint=f"this version reads {known[kind]}"
        )
    entries = _entries(data, start, end, schema, source)
    roots = [_root(r, source) for r in top.get("roots", [])]
    return Manifest(schema, top.get("created_by", {}), entries, roots, _digest(data, start, end), file)


def peek(data: bytes) -> str | None:
    """The schema named at the start of a document, None when there is none."""
    prefix = b'{"schema":"'
    if not data.startswith(prefix):
        return None
    return data[len(prefix) : data.find(b'"', len(prefix))].decode("utf-8", "replace")


def _split(data: bytes, source: str) -> tuple[int, int]:
    """Where the entry lines begin and end. They are looked at in place: a copy of a large manifest costs its size."""
    start = data.find(b"\n") + 1
    end = data.rfind(b'\n],"head_sha256":')
    cut = FormatError("the manifest is cut or is not one", file=source, hint="run the command before it again")
    if peek(data) is None or not data[:start].endswith(b'"entries":[\n') or end < start or not data.endswith(b"}\n"):
        raise cut
    return start, end


def _digest(data: bytes, start: int, end: int) -> str:
    return hashlib.sha256(memoryview(data)[start:end]).hexdigest()


def _verify(data: bytes, start: int, end: int, source: str) -> None:
    count = data.count(b"\n", start, end) + 1 if end > start else 0
    want = b'\n],"head_sha256":"%s","count":%d,"sha256":"%s"}\n' % (
        _digest(data, 0, start).encode(),
        count,
        _digest(data, start, end).encode(),
    )
    if data[end:] != want:
        raise FormatError(
            "the manifest does not match its count and sha256: it is damaged or was edited",
            file=source,
            hint="run the command that made it again",
        )


def _lines(data: bytes, start: int, end: int) -> Iterator[memoryview]:
    """The entry lines without their commas."""
    view = memoryview(data)
    while start < end:
        stop = data.find(b"\n", start, end)
        stop = end if stop < 0 else stop
        yield view[start : stop - 1 if data.endswith(b",", start, stop) else stop]
        start = stop + 1


def _entries(data: bytes, start: int, end: int, schema: str, source: str) -> list[dict[str, Any]]:
    table = ENTRY_TABLES.get(schema)
    decoder = msgspec.json.Decoder(dict[str, Any])
    found = []
    for row, line in enumerate(_lines(data, start, end)):
        try:
            entry = decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as e:
            raise FormatError(f"entry is not JSON: {e}", file=source, row=row) from None
        if table is not None:
            check_entry(entry, table, source, row)
        found.append(entry)
    return found


def check_entry(entry: dict[str, Any], table: Table, source: str, row: int) -> None:
    """Raise FormatError when an entry breaks its table: keys, types, bounds, choices."""
    if tuple(entry) != table.names:
        odd = set(entry) ^ set(table.names)
        raise FormatError(f"keys differ from {table.schema}", file=source, row=row, field=min(odd) if odd else "order")
    for c in table.columns:
        value = entry[c.name]
        if value is None:
            if not c.nullable:
                raise FormatError("null where a value is needed", file=source, row=row, field=c.name)
            continue
        if not _fits(value, c.dtype):
            raise FormatError(f"{value!r} is not {c.dtype}"[:200], file=source, row=row, field=c.name)
        if c.choices and value not in c.choices:
            raise FormatError(f"{value!r} is none of {', '.join(c.choices)}", file=source, row=row, field=c.name)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if number and ((c.lo is not None and value < c.lo) or (c.hi is not None and value > c.hi)):
            raise FormatError(f"{value} is outside its bounds", file=source, row=row, field=c.name)


def _fits(value: Any, dtype: str) -> bool:
    if dtype == "json":
        return True
    if dtype == "str":
        return isinstance(value, str)
    if dtype == "bool":
        return isinstance(value, bool)
    if dtype == "int64":
        return type(value) is int
    if dtype == "float64":
        return type(value) in (int, float)
    inner = dtype[5:-1] if dtype.startswith("list<") else dtype.partition("[")[0]
    return isinstance(value, list) and all(_fits(v, inner) for v in value)


def _root(raw: Any, source: str) -> Root:
    if not isinstance(raw, dict) or not isinstance(raw.get("id"), str) or not isinstance(raw.get("path"), str):
        raise FormatError("a root needs id and path", file=source, field="roots")
    return Root(raw["id"], raw["path"], bool(raw.get("self", False)))


def resolve_roots(manifest: Manifest, overrides: dict[str, str]) -> dict[str, Path]:
    """Root id -> folder. `self` roots follow the manifest's file; `overrides` (`--root r0=DIR`) win.

    Raises:
        FormatError: an override names no root.
    """
    unknown = set(overrides) - {r.id for r in manifest.roots}
    if unknown:
        have = ", ".join(r.id for r in manifest.roots)
        raise FormatError(f"--root names {min(unknown)}, the manifest has {have}")
    found = {}
    for r in manifest.roots:
        if r.id in overrides:
            found[r.id] = Path(overrides[r.id])
        elif r.self and manifest.file is not None:
            found[r.id] = manifest.file.resolve().parent
        else:
            found[r.id] = Path(r.path)
    return found


def home_and_roots(manifest: Manifest, overrides: Mapping[str, str]) -> tuple[Path, dict[str, Path]]:
    """The folder that the paths of the entries are relative to (the `self` root, else the first, else the manifest's
    own folder), and all roots by id.

    Raises:
        FormatError: an override names no root, or there is no folder at all.
    """
    folders = resolve_roots(manifest, dict(overrides))
    own = next((r.id for r in manifest.roots if r.self), next(iter(folders), None))
    if own is not None:
        return folders[own], folders
    if manifest.file is None:
        raise FormatError("the manifest names no folder of its clips", hint="read it from its file")
    return manifest.file.resolve().parent, folders


def find_file(path: str | None, folders: Iterable[Path]) -> Path | None:
    """The first of some folders in which a relative path from data is a file; None without one, or without a path."""
    for folder in folders if path is not None else ():
        try:
            there = safe_join(folder, str(path))
        except FormatError:
            continue
        if there.is_file():
            return there
    return None


def safe_join(root: Path, path: str) -> Path:
    """`root / path` for a path that came from data.

    Raises:
        FormatError: absolute, with `..` or NUL, or through a link that leaves the root.
    """
    pure = PurePosixPath(path)
    if "\0" in path or pure.is_absolute() or ".." in pure.parts or not path:
        raise FormatError("a path that could leave its root is refused", file=path[:200].replace("\0", "\\0"))
    joined = root / pure
    try:
        inside = joined.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError):
        inside = False
    if not inside:
        raise FormatError("a link that leaves the root is refused", file=path)
    return joined


def sort_entries(entries: Iterable[dict[str, Any]], keys: Sequence[str]) -> list[dict[str, Any]]:
    """Entries in the order of a manifest: by the bytes of `keys`."""
    return sorted(entries, key=lambda e: tuple(str(e[k]).encode("utf-8", "surrogateescape") for k in keys))


ALL_TABLES = tuple(ENTRY_TABLES.values())
