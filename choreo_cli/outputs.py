"""An output folder: locked, swept, written data first and manifest last, and left alone when it is already done."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from choreo_cli.errors import CantCreateError, UsageError
from choreo_cli.runtime import surroundings

TRIES = 20
"""A folder that others take away while it is made is made again so many times."""


@dataclass(slots=True)
class OutputFolder:
    """Collects what a command writes into `path`; `finish` writes `<kind>.json` last.

    Args:
        path: The folder.
        kind: `pairs`, `sessions`...: the manifest is `<kind>.json`, what varies lies in `<kind>.run.json`.
        created_by: Provenance; `outputs` is filled in here.
    """

    path: Path
    kind: str
    created_by: dict[str, Any]
    started: float = field(default_factory=time.time)
    files: dict[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def manifest_path(self) -> Path:
        return self.path / f"{self.kind}.json"

    def target(self, relative: str) -> Path:
        """Path of an output file; its folders are made."""
        path = self.path / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def add(self, role: str, relative: str, sha256: str) -> None:
        """Record a file that was written."""
        self.files[relative] = (role, sha256)

    def write(self, role: str, relative: str, data: bytes) -> None:
        """Write one file atomically and record it."""
        from formats.atomic import write_bytes

        self.add(role, relative, write_bytes(self.target(relative), data))

    def done_before(self) -> bytes | None:
        """The manifest's bytes when this very run was finished here and every file is still whole, else None."""
        from formats import manifest
        from formats.atomic import sha256_file
        from formats.errors import FormatError

        try:
            data = self.manifest_path.read_bytes()
            old = manifest.decode(data, source=str(self.manifest_path))
            if old.created_by.get("run_id") != self.created_by["run_id"]:
                return None
            for item in old.created_by.get("outputs", []):
                if sha256_file(self.path / item["path"]) != item["sha256"]:
                    return None
        except (OSError, FormatError, KeyError, TypeError):
            return None
        return data

    def begin(self, force: bool) -> bytes | None:
        """The manifest's bytes when the work is done already; else None, with the old manifest taken away."""
        before = None if force else self.done_before()
        if before is None:
            self.invalidate()
        return before

    @property
    def already(self) -> str:
        """What a person is told when there was nothing to do."""
        return f"already in {self.path}; --force does it again"

    def exit_before(self) -> int:
        """Exit code of the run that was finished here; 0 when its record is gone."""
        from formats import sealed
        from formats.errors import FormatError

        try:
            return int(sealed.parse((self.path / f"{self.kind}.run.json").read_bytes())["exit"])
        except (OSError, FormatError, KeyError, TypeError, ValueError):
            return 0

    def invalidate(self) -> None:
        """Take the old manifest away before its data changes: its presence means complete."""
        from formats.atomic import sync_folder

        if self.manifest_path.exists():
            os.unlink(self.manifest_path)
            sync_folder(self.path)

    def finish(
        self,
        entries: list[dict[str, Any]],
        exit_code: int,
        argv: list[str],
        roots: Mapping[str, Path] | None = None,
    ) -> bytes:
        """Remove what an earlier run left, write the run record and, last, the manifest; returns its bytes.

        Args:
            entries: Records of the manifest.
            exit_code: How the command will end.
            argv: Its arguments, for the run record.
            roots: Folders outside this one that entries refer to, by root id; they lie outside every digest.
        """
        from formats.atomic import write_bytes
        from formats.manifest import ENTRY_TABLES, Manifest, Root, encode
        from formats.sealed import dumps

        self._drop_stale()
        self.created_by["outputs"] = [
            {"role": role, "path": name, "sha256": sha} for name, (role, sha) in sorted(self.files.items())
        ]
        schema = next(s for s in ENTRY_TABLES if s.startswith(f"choreo.{self.kind}/"))
        # Read from a file, the first root is the folder itself, wherever it was moved; a pipe needs where it lies now.
        others = [Root(name, str(folder.resolve())) for name, folder in sorted((roots or {}).items())]
        doc = encode(Manifest(schema, self.created_by, entries, [Root("out", str(self.path.resolve()), True), *others]))
        run = {
            "schema": "choreo.run-record/1",
            "manifest_sha256": hashlib.sha256(doc).hexdigest(),
            "files": sorted(self.files),
            "argv": argv,
            "started": self.started,
            "ended": time.time(),
            "exit": exit_code,
            "env": surroundings(),
        }
        write_bytes(self.path / f"{self.kind}.run.json", dumps(run))
        write_bytes(self.manifest_path, doc)
        return doc

    def _drop_stale(self) -> None:
        """Files of an earlier run that this one did not write: listed in its record, so never a user's own."""
        from formats import sealed
        from formats.errors import FormatError
        from formats.manifest import safe_join

        try:
            old = sealed.parse((self.path / f"{self.kind}.run.json").read_bytes())
            stale = [safe_join(self.path, name) for name in old["files"] if name not in self.files]
        except (OSError, FormatError, KeyError, TypeError):
            return
        for path in stale:
            path.unlink(missing_ok=True)
            parent = path.parent
            while parent != self.path and not any(parent.iterdir()):
                parent.rmdir()
                parent = parent.parent


def make_folder(path: Path) -> None:
    """Make a folder to write into. Raises CantCreateError when it cannot be made, or is a file."""
    for _ in range(TRIES):
        try:
            path.mkdir(parents=True, exist_ok=True)
            return
        except FileExistsError:
            raise CantCreateError(f"{path} is a file", hint="name a folder") from None
        except NotADirectoryError:
            raise CantCreateError(f"cannot create {path}: a parent is a file", hint="name another folder") from None
        except FileNotFoundError:  # a run that failed took a parent away, or a file system makes no folders of ours
            continue
    raise CantCreateError(f"cannot create {path}", hint="name another folder")


def spare_inputs(read: Iterable[Path], out: Path, kind: str, results: Iterable[str]) -> None:
    """Make sure that no result takes the place of what is read, and that no input goes with the results before.

    Args:
        read: Files that are read.
        out: Folder of the results.
        kind: Of the manifest, as for `output_folder`.
        results: Paths of the results in it.

    Raises:
        UsageError: one would: the recording would be lost.
    """
    lost = _written_before(out, kind) | {(out / name).resolve() for name in results}
    for path in read:
        if path.resolve() in lost:
            raise UsageError(f"the result would replace {path}, which is read", hint="name another output")


def _written_before(out: Path, kind: str) -> set[Path]:
    """Files of an earlier result in `out`: those that the next one does not write are removed."""
    from formats import sealed
    from formats.errors import FormatError
    from formats.manifest import safe_join

    try:
        names = sealed.parse((out / f"{kind}.run.json").read_bytes())["files"]
        return {safe_join(out, str(name)).resolve() for name in names}
    except (OSError, FormatError, KeyError, TypeError):
        return set()


@contextmanager
def output_folder(path: Path, kind: str, created_by: dict[str, Any], *, wait_s: float = 0.0) -> Iterator[OutputFolder]:
    """Make the folder, hold its lock, sweep dead temps, and yield it; of a failure with nothing in it nothing stays.

    Raises:
        CantCreateError: it cannot be made, or is a file.
        formats.atomic.Locked: another run holds it.
    """
    from formats import atomic

    with ExitStack() as stack:
        made = _hold(path, wait_s, stack)
        atomic.sweep(path)
        try:
            yield OutputFolder(path, kind, created_by)
        except BaseException:  # a stopped worker could not remove its own
            atomic.sweep(path)
            if made:
                atomic.discard(path)
                _remove_empty(made[1:])
            raise


def _hold(path: Path, wait_s: float, stack: ExitStack) -> list[Path]:
    """Make the folder and enter its lock; returns which folders were made, the deepest first."""
    from formats import atomic

    for _ in range(TRIES):
        made = [p for p in (path, *path.parents) if not p.exists()]
        make_folder(path)
        try:
            stack.enter_context(atomic.lock(path, wait_s=wait_s, argv=" ".join(sys.argv[1:])[:200]))
            return made
        except FileNotFoundError:  # the run that we waited for failed, and took away what it had made
            continue
    raise CantCreateError(f"cannot create {path}: others take it away again", hint="name another folder")


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return
