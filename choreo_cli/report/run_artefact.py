"""What a report reads: manifests with the folder they lie in and the record of how they were made."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from choreo_cli.errors import NoInputError
from formats import manifest as manifests
from formats import sealed
from formats.errors import FormatError

KINDS = ("choreo.run", "choreo.metrics", "choreo.pairs", "choreo.sessions", "choreo.motions")
# What a folder is asked for, in this order: a run folder also holds metrics.json, which its run.json repeats.
NAMES = ("run.json", "metrics.json", "pairs.json", "sessions.json", "motions.json")


@dataclass(frozen=True, slots=True)
class Artefact:
    """One manifest and what surrounds it.

    Args:
        manifest: Verified.
        folder: The folder that its own root means, None when that is not there.
        name: What a person calls it: the folder's name, or the file's without its ending.
        record: `<kind>.run.json` beside it (argv, env), empty when there is none.
        roots: Where each of its roots lies now.
    """

    manifest: manifests.Manifest
    folder: Path | None
    name: str
    record: Mapping[str, Any] = field(default_factory=dict)
    roots: Mapping[str, Path] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """`run`, `metrics`, `pairs`, `sessions` or `motions`."""
        return self.manifest.kind.removeprefix("choreo.")

    @property
    def sha256(self) -> str:
        """Digest of the entries: equal content has an equal one wherever it lies."""
        return self.manifest.sha256

    @property
    def made_by(self) -> dict[str, Any]:
        return self.manifest.created_by

    @property
    def file_name(self) -> str:
        """Name of the manifest's file inside its folder."""
        return self.manifest.file.name if self.manifest.file is not None else f"{self.kind}.json"


def open_path(path: Path, roots: Mapping[str, str] | None = None) -> Artefact:
    """Open a manifest, or the one in an output folder.

    Raises:
        NoInputError: nothing is there.
        FormatError: damaged, or a kind that a report does not read.
    """
    file = named(path)
    return open_bytes(file.read_bytes(), file, str(path), roots)


def open_bytes(data: bytes, file: Path | None, source: str, roots: Mapping[str, str] | None = None) -> Artefact:
    """Open a manifest from its bytes.

    Args:
        data: The document.
        file: Where it lies, None for a pipe.
        source: How to call it in errors.
        roots: `--root` overrides; ids that it does not have are left to others.

    Raises:
        FormatError: empty, cut, damaged, or a kind that a report does not read.
    """
    schema = manifests.peek(data)
    kind = (schema or "").split("/")[0]
    if schema is not None and kind not in KINDS:
        raise FormatError(f"{source} is {schema}, need choreo.run/1 or choreo.metrics/1", hint="did you mean: inspect?")
    found = manifests.decode(data, source=source, file=file)
    mine = {k: v for k, v in (roots or {}).items() if k in {r.id for r in found.roots}}
    folders = manifests.resolve_roots(found, mine)
    own = next((folders[r.id] for r in found.roots if r.self), file.resolve().parent if file is not None else None)
    if own is not None and not own.is_dir():
        own = None
    return Artefact(found, own, _name(file, own, kind), _record(file, own, kind, data), folders)


def named(path: Path) -> Path:
    """The manifest file that a path means.

    Raises:
        NoInputError: nothing is there, or a folder without a manifest.
    """
    if not path.exists():
        raise NoInputError(f"no file or folder {path}", hint="name a run folder, a metrics.json or a dataset")
    if not path.is_dir():
        return path
    for name in NAMES:
        if (path / name).is_file():
            return path / name
    raise NoInputError(f"{path} holds none of {', '.join(NAMES)}", hint="was its command interrupted?")


def inside(folder: Path | None, path: str) -> Path | None:
    """A file or folder named by data, when it is there and does not leave its root."""
    if folder is None:
        return None
    try:
        found = folder if path == "." else manifests.safe_join(folder, path)
    except FormatError:
        return None
    return found if found.exists() else None


def _name(file: Path | None, own: Path | None, kind: str) -> str:
    folder = own if own is not None else (file.resolve().parent if file is not None else None)
    if file is not None and file.name not in NAMES:
        return file.stem
    return folder.name if folder is not None else kind.removeprefix("choreo.")


def _record(file: Path | None, own: Path | None, kind: str, data: bytes) -> dict[str, Any]:
    """The run record beside a manifest, empty when it is missing, damaged or of another manifest."""
    folder = file.parent if file is not None else own
    stem = file.stem if file is not None else kind.removeprefix("choreo.")
    if folder is None:
        return {}
    try:
        record = sealed.parse((folder / f"{stem}.run.json").read_bytes())
    except (OSError, FormatError):
        return {}
    same = record.get("manifest_sha256") == hashlib.sha256(data).hexdigest()
    return record if same and isinstance(record.get("argv"), list) else {}
