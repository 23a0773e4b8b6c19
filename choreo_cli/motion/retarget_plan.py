"""Which motions a retargeting is about: one file, a folder, an inventory, or a manifest of motions."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from choreo_cli.errors import NoInputError
from formats.atomic import sha256_file
from formats.errors import FormatError
from formats.foreign import registry
from formats.foreign.source import Source
from formats.manifest import Manifest, resolve_roots, safe_join

CARRIED = ("music", "group_id", "split", "performer", "captions", "licence", "synthetic")
Found = tuple[Path, str, dict[str, Any], str | None]  # file, what it is called, carried, expected sha256


@dataclass(frozen=True, slots=True)
class Item:
    """One motion to convert.

    Args:
        path: Where it lies.
        source: What the manifest calls it, relative to its root.
        name: Path of the result without its suffix.
        carried: Fields of `choreo.motions/1` that the input knew.
        expected: sha256 that a manifest names, None when none does.
    """

    path: Path
    source: str
    name: str
    carried: dict[str, Any] = field(default_factory=dict)
    expected: str | None = None


class Folder(Protocol):
    """Where results go; `choreo_cli.outputs.OutputFolder` is one."""

    path: Path
    created_by: dict[str, Any]

    def add(self, role: str, relative: str, sha256: str) -> None: ...

    def write(self, role: str, relative: str, data: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class Work:
    """All motions of a call.

    Args:
        items: In the order of their names.
        inputs: Provenance of the inputs.
        roots: Folders that sources are relative to, by root id.
        single: One file was named: its fault is the command's.
        skipped: Files of a folder that hold no motion.
    """

    items: list[Item]
    inputs: list[dict[str, Any]]
    roots: dict[str, Path]
    single: bool = False
    skipped: int = 0


def of_file(path: Path) -> Work:
    """One file; a link that was named is followed."""
    return _work([(path.resolve(), path.name, {}, None)], path.resolve().parent, single=True)


def of_folder(folder: Path, out: Path) -> Work:
    """Every motion under a folder, recognised by content; what was written into `out` before is none of it.

    Raises:
        NoInputError: there is none.
    """
    found: list[Found] = []
    skipped = 0
    for path in _files(folder, out.resolve()):
        if _is_motion(path):
            found.append((path, path.relative_to(folder).as_posix(), {}, None))
        else:
            skipped += 1
    if not found:
        raise NoInputError(
            f"no motion in {folder}", hint=f"{skipped} files of other kinds: see choreo discover {folder}"
        )
    return _work(found, folder.resolve(), skipped=skipped)


def of_manifest(manifest: Manifest, roots: Mapping[str, str]) -> Work:
    """The motions of an inventory, or of a manifest of motions.

    Raises:
        NoInputError: it lists none.
        FormatError: an entry's root is unknown, or its path leaves it.
    """
    folders = resolve_roots(manifest, dict(roots))
    own = folders.get("out") or (manifest.file.parent.resolve() if manifest.file else Path.cwd())
    found: list[Found] = []
    if manifest.kind == "choreo.motions":
        for e in manifest.entries:
            found.append((safe_join(own, e["path"]), e["path"], {k: e[k] for k in CARRIED}, e["sha256"]))
    else:
        for e in manifest.entries:
            if _is_body(e) and e["root"] not in folders:
                raise FormatError(f"the manifest has no root {e['root']!r}", file=e["path"])
            if _is_body(e):
                root = folders[e["root"]]
                path = root if e["path"] == "." else safe_join(root, e["path"])
                own = root if root.is_dir() else root.parent
                found.append((path, path.name if e["path"] == "." else e["path"], {}, e["sha256"]))
    if not found:
        raise NoInputError("the manifest lists no motion", hint="see choreo inspect on it")
    work = _work(found, own)
    inputs = [{"role": "manifest", "sha256": manifest.sha256, "schema": manifest.schema}, *work.inputs]
    return Work(work.items, inputs, work.roots)


def _is_body(e: Mapping[str, Any]) -> bool:
    """Whether an entry of an inventory is a motion, or poses in space, that nobody has put aside."""
    space = e["kind"] == "pose" and e["meta"].get("units") in ("m", "unknown")
    return (e["kind"] == "motion" or space) and not e["acknowledged"]


def _work(found: Sequence[Found], root: Path, *, single: bool = False, skipped: int = 0) -> Work:
    found = sorted(found, key=lambda f: f[1])
    names = _names([f[1] for f in found])
    items = [
        Item(path, source, name, carried, sha) for (path, source, carried, sha), name in zip(found, names, strict=True)
    ]
    digest = hashlib.sha256()
    for item in items:
        digest.update(f"{item.source} {_hash(item.path)}\n".encode())
    inputs = [{"role": "motions", "sha256": digest.hexdigest(), "schema": "motion"}]
    return Work(items, inputs, {"source": root}, single, skipped)


def _hash(path: Path) -> str:
    try:
        return sha256_file(path)
    except OSError:
        return "missing"  # told again, and in full, when it is opened


def _names(sources: Sequence[str]) -> list[str]:
    """A path for each result: the source's without its suffix, with it where two would meet."""
    stems = [_clean(PurePosixPath(s).with_suffix("")) for s in sources]
    out = [
        stem if stems.count(stem) == 1 else f"{stem}_{PurePosixPath(source).suffix[1:] or 'file'}"
        for stem, source in zip(stems, sources, strict=True)
    ]
    seen: dict[str, int] = {}
    for k, name in enumerate(out):
        seen[name] = seen.get(name, 0) + 1
        out[k] = name if seen[name] == 1 else f"{name}_{seen[name]}"
    return out


def _clean(path: PurePosixPath) -> str:
    """A relative path that stays inside; a file called only `.bvh` gets a name."""
    parts = [p for p in path.parts if p not in ("..", "/", ".")]
    name = "/".join(parts).lstrip(".") or "motion"
    return name


def _files(folder: Path, out: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        inside = path.resolve()
        if out != folder.resolve() and (inside == out or out in inside.parents):
            continue
        if (
            path.is_file()
            and not path.is_symlink()
            and not any(p.startswith(".") for p in path.relative_to(folder).parts[:-1])
        ):
            yield path


def _is_motion(path: Path) -> bool:
    try:
        source = Source.of(path)
        reader = registry.recognise(source.head, source.name, source.size)
    except (FormatError, OSError):
        return False
    return reader.kind == "motion" or (reader.kind == "pose" and reader.read is not None)
