"""Is everything whole: manifests against the files they name, folders walked, lists of checksums followed."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from choreo_cli.errors import NoInputError
from choreo_cli.report import recognise as known
from choreo_cli.report.checksums import parse as parse_sums
from choreo_cli.report.verify import Verdict, check_file, document
from formats import checkpoint, export_card
from formats import manifest as manifests
from formats.atomic import LOCK_NAME
from formats.errors import FormatError
from formats.foreign.source import Source, open_regular

OnFile = Callable[[int], None]


class Inspector:
    """Collects a verdict for every file it meets; each file is hashed once.

    Args:
        roots: `--root ID=DIR`: where the roots of manifests lie now.
        on_file: Called with the number of files looked at so far.
    """

    def __init__(self, roots: dict[str, str] | None = None, on_file: OnFile | None = None) -> None:
        self.roots = roots or {}
        self.on_file = on_file or (lambda n: None)
        self.found: dict[str, Verdict] = {}
        self._hashes: dict[Path, str] = {}
        self._outputs: set[Path] = set()

    def path(self, path: Path) -> None:
        """Check a file or everything in a folder.

        Raises:
            NoInputError: it does not exist.
        """
        if not path.exists() and not path.is_symlink():
            raise NoInputError(f"no file or folder {path}")
        if path.is_dir():
            self._folder(path)
        else:
            self._one(path, named=True)

    def stdin(self, data: bytes) -> None:
        """Check a manifest that came through a pipe; its absolute roots are followed."""
        if not data.strip():
            raise FormatError("no manifest arrived", file="stdin", hint="did the command before it fail?")
        verdict = self._verdict(None, "stdin")
        try:
            self._references(document(data, "stdin", None, verdict), verdict)
        except FormatError as e:
            verdict.problems.append(e.message)

    def verdicts(self) -> list[Verdict]:
        """All of them, sorted by path bytes."""
        return [self.found[k] for k in sorted(self.found, key=os.fsencode)]

    def _verdict(self, path: Path | None, shown: str) -> Verdict:
        if shown not in self.found:
            self.found[shown] = Verdict(shown)
            self.on_file(len(self.found))
        return self.found[shown]

    def _one(self, path: Path, *, named: bool, hashed: bool = False) -> None:
        shown = str(path)
        if shown in self.found:
            return
        verdict = check_file(path, shown, hashed=hashed, named=named)
        self.found[shown] = verdict
        self.on_file(len(self.found))
        if not verdict.ok:
            return
        try:
            if verdict.schema == "sha256sums":
                self._sums(path, verdict)
            elif verdict.schema == checkpoint.SCHEMA:
                self._checkpoint(path, verdict)
            elif verdict.schema == export_card.SCHEMA:
                self._files_of(export_card.read(path).files, path, verdict)
            elif verdict.schema in manifests.ENTRY_TABLES:
                data = path.read_bytes()
                if manifests.peek(data) is not None:  # a heartbeat is sealed, a list of heartbeats is a manifest
                    self._references(manifests.decode(data, source=shown, file=path), verdict)
                    self._run_record(path, data)
        except FormatError as e:
            verdict.problems.append(str(e))
        except OSError as e:
            verdict.problems.append(e.strerror or type(e).__name__)

    def _folder(self, folder: Path) -> None:
        files = list(_walk(folder, lambda p, why: self._verdict(p, str(p)).notes.append(why)))
        # What others vouch for comes first: a file they name is then judged by its hash.
        leading = [p for p in files if p.name == "SHA256SUMS" or _is_manifest(p)]
        for path in (*leading, *files):
            if str(path) not in self.found and not self._stranger(path):
                self._one(path, named=False)

    def _stranger(self, path: Path) -> bool:
        """Whether a file that no manifest names lies in an output folder and is not of ours: a remark, no failure."""
        if not any(folder in self._outputs for folder in path.parents):
            return False
        try:
            family = known.recognise(Source.of(path)).family
        except (OSError, FormatError):
            return False
        if family in ("foreign", "unknown"):
            self._verdict(path, str(path)).notes.append("no manifest names it")
        return family in ("foreign", "unknown")

    def _sums(self, path: Path, verdict: Verdict) -> None:
        for name, sha in sorted(parse_sums(path).items()):
            self._named_file(path.parent, name, sha, path.name, verdict)

    def _references(self, manifest: manifests.Manifest, verdict: Verdict) -> None:
        overrides = {k: v for k, v in self.roots.items() if k in {r.id for r in manifest.roots}}
        folders = manifests.resolve_roots(manifest, overrides)
        own = next((folders[r.id] for r in manifest.roots if r.self), None)
        piped = manifest.file is None and not overrides
        outputs = manifest.created_by.get("outputs", [])
        name = manifest.file.name if manifest.file else "stdin"
        if outputs and (own is None or piped):
            verdict.notes.append("its folder is unknown: --root out=DIR says where its files lie")
        elif own is not None:
            shown_own = manifest.file.parent if manifest.file and own == manifest.file.resolve().parent else own
            if outputs:
                self._outputs.add(shown_own)
            for row, item in enumerate(outputs):
                if not isinstance(item, dict) or not isinstance(item.get("path"), str):
                    verdict.problems.append(f"output {row} of created_by has no path")
                    continue
                self._named_file(shown_own, item["path"], item.get("sha256"), name, verdict)
        if manifest.kind == "choreo.inventory":
            self._inventory(manifest, folders, verdict)
        if manifest.kind == "choreo.run" and own is not None and not piped:
            self._runs(manifest, own if manifest.file is None else manifest.file.parent, verdict)
        if manifest.kind == "choreo.sessions" and own is not None and not piped:
            self._sessions(manifest, own if manifest.file is None else manifest.file.parent, verdict)

    def _inventory(self, manifest: manifests.Manifest, folders: dict[str, Path], verdict: Verdict) -> None:
        absent = set()
        for r in manifest.roots:
            if r.self and manifest.file is not None and r.id not in self.roots:
                folders[r.id] = manifest.file.parent
            if not folders[r.id].is_dir():
                absent.add(r.id)
                verdict.problems.append(f"root {r.id}: no folder {folders[r.id]} (--root {r.id}=DIR says where it is)")
        for row, e in enumerate(manifest.entries):
            folder = folders.get(e["root"])
            if folder is None:
                verdict.problems.append(f"entry {row}: root {e['root']!r} is not in the manifest")
            elif e["root"] not in absent:
                self._named_file(folder, _content_path(e), e["sha256"], _name(manifest), verdict)

    def _sessions(self, manifest: manifests.Manifest, folder: Path, verdict: Verdict) -> None:
        for row, e in enumerate(manifest.entries):
            files = e["files"] if isinstance(e["files"], dict) else {}
            if files.get(e["frames"], e["frames_sha256"]) != e["frames_sha256"]:
                verdict.problems.append(f"entry {row}: frames_sha256 and files disagree about {e['frames']}")
            for name, sha in sorted({e["frames"]: e["frames_sha256"], **files}.items()):
                self._named_file(folder, name, sha, _name(manifest), verdict)

    def _runs(self, manifest: manifests.Manifest, folder: Path, verdict: Verdict) -> None:
        for e in manifest.entries:
            for name, sha in sorted(e["files"].items() if isinstance(e["files"], dict) else ()):
                place = name if e["path"] in (".", "") else f"{e['path']}/{name}"
                self._named_file(folder, place, sha, _name(manifest), verdict)

    def _checkpoint(self, path: Path, verdict: Verdict) -> None:
        """A model's card against the files it names."""
        self._files_of(checkpoint.read_card(path)["files"], path, verdict)

    def _files_of(self, files: Mapping[str, str], card: Path, verdict: Verdict) -> None:
        for name, sha in sorted(files.items()):
            self._named_file(card.parent, name, sha, card.name, verdict)

    def _named_file(self, folder: Path, name: str, sha: Any, by: str, verdict: Verdict) -> None:
        """Compare one file with what `by` says of it, then look inside when it is one of ours."""
        try:
            manifests.safe_join(folder, name)
        except FormatError as e:
            verdict.problems.append(str(e))
            return
        path = folder / name
        own = self.found.get(str(path))
        if not path.exists():
            self._verdict(path, str(path)).problems.append(f"{by} names it, but it is not there")
            return
        if path.is_dir():
            self._named_folder(path, sha, by)
            return
        try:
            differs = sha is not None and self._sha256(path) != sha
        except (OSError, FormatError) as e:
            self._verdict(path, str(path)).problems.append(getattr(e, "strerror", None) or str(e))
            return
        if differs:
            kind = _format(path)
            own = self._verdict(path, str(path))
            own.schema = own.schema or kind
            text = f"its sha256 differs from the one in {by}: it was damaged or changed"
            if text not in own.problems:
                own.problems.append(text)
        elif own is None:
            self._one(path, named=False, hashed=sha is not None)

    def _named_folder(self, path: Path, sha: Any, by: str) -> None:
        """A recording that is a folder: its hash covers the hashes of its files."""
        verdict = self._verdict(path, str(path))
        if sha is None:
            return
        if self._folder_sha256(path) != sha:
            verdict.problems.append(f"the sha256 over its files differs from the one in {by}")

    def _folder_sha256(self, folder: Path) -> str:
        """The hash of a recording that is one JSON per frame: over the hashes of its frames, in the order of names."""
        frames = []
        for path in sorted(folder.iterdir(), key=os.fsencode):
            if path.suffix.lower() == ".json" and path.is_file() and not path.is_symlink():
                reader = known.recognise(Source.of(path)).reader
                if reader is not None and reader.format == "openpose":
                    frames.append(self._sha256(path))
        return hashlib.sha256("\n".join(frames).encode()).hexdigest()

    def _sha256(self, path: Path) -> str:
        if path not in self._hashes:
            with open_regular(path) as f:
                digest = hashlib.file_digest(f, "sha256")  # type: ignore[arg-type]  # a BinaryIO is a buffered file here
            self._hashes[path] = digest.hexdigest()
        return self._hashes[path]

    def _run_record(self, path: Path, data: bytes) -> None:
        """The record beside a manifest names the manifest's hash."""
        from formats.sealed import parse

        record = path.with_name(f"{path.stem}.run.json")
        if not record.exists():
            return
        self._one(record, named=False)
        verdict = self.found[str(record)]
        if verdict.ok and parse(record.read_bytes()).get("manifest_sha256") != hashlib.sha256(data).hexdigest():
            verdict.problems.append(f"it was written for another {path.name}: its manifest_sha256 differs")


def _content_path(entry: dict[str, Any]) -> str:
    """Where the content lies whose hash an entry holds: of a session folder, its metadata file."""
    inside = entry["meta"].get("metadata") if isinstance(entry["meta"], dict) else None
    if entry["kind"] == "session" and isinstance(inside, str):
        return f"{entry['path']}/{inside}" if entry["path"] != "." else inside
    return str(entry["path"])


def _name(manifest: manifests.Manifest) -> str:
    return manifest.file.name if manifest.file else "stdin"


def _format(path: Path) -> str | None:
    try:
        kind = known.recognise(Source.of(path))
    except (OSError, FormatError):
        return None
    return kind.reader.format if kind.reader else kind.family


def _is_manifest(path: Path) -> bool:
    if path.suffix != ".json":
        return False
    try:
        return known.recognise(Source.of(path)).family == "manifest"
    except (OSError, FormatError):
        return False


def _walk(folder: Path, remark: Callable[[Path, str], None]) -> Iterator[Path]:
    """Regular files below a folder in byte order; links and special files are remarked on, not followed."""
    for entry in sorted(os.scandir(folder), key=lambda e: os.fsencode(e.name)):
        path = folder / entry.name
        mode = entry.stat(follow_symlinks=False).st_mode
        if entry.name == LOCK_NAME or entry.name == ".git":
            continue
        if stat.S_ISDIR(mode):
            yield from _walk(path, remark)
        elif stat.S_ISREG(mode):
            yield path
        else:
            remark(path, "a link, not followed" if stat.S_ISLNK(mode) else "not a regular file")
