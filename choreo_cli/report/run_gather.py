"""Collect what a report is about: runs, figures and datasets, each followed to where it came from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from choreo_cli.report.run_artefact import NAMES, Artefact, inside, open_bytes, open_path
from formats import manifest as manifests
from formats.errors import FormatError

MAX_LOOKED_AT = 4000  # directory entries that the search for origins may touch


@dataclass(frozen=True, slots=True)
class Run:
    """One trained model: an entry of a run manifest.

    Args:
        entry: The entry of `choreo.run/1`.
        source: The manifest it stands in.
        folder: Its run folder, None when that is not there.
    """

    entry: Mapping[str, Any]
    source: Artefact
    folder: Path | None

    @property
    def label(self) -> str:
        """What a person calls it: the folder, and the seed's folder below it."""
        path = str(self.entry["path"])
        return self.source.name if path == "." else f"{self.source.name}/{path}"

    def root(self, name: str) -> Path | None:
        """Where a root that its records name lies now; of a summary, as the seed's own manifest says it."""
        return self.source.roots.get(name)


@dataclass(frozen=True, slots=True)
class Dataset:
    """What was trained or judged on.

    Args:
        sha256: As runs name it.
        record: The `data` record of the first run that names it, empty when it was named on its own.
        source: Its manifest, None when it was not found (or is a pack or a lone frames Parquet).
        path: The manifest, pack or Parquet itself, None when it is not there.
    """

    sha256: str
    record: Mapping[str, Any]
    source: Artefact | None
    path: Path | None


@dataclass(frozen=True, slots=True)
class Gathered:
    """Everything a report is made from, in the order it was named.

    Args:
        named: The manifests named, in order, repetitions and all.
        inputs: The same without repetition.
        runs: Every trained model in them.
        evaluations: The `choreo.metrics/1` among the inputs.
        datasets: What the runs name, and what was named on its own.
        known: Every manifest found on the way, by digest of its entries.
    """

    named: tuple[Artefact, ...]
    inputs: tuple[Artefact, ...]
    runs: tuple[Run, ...]
    evaluations: tuple[Artefact, ...]
    datasets: tuple[Dataset, ...]
    known: Mapping[str, Artefact]


def gather(paths: Sequence[Path], piped: bytes | None, roots: Mapping[str, str]) -> Gathered:
    """Open everything named and follow it to its origins.

    Args:
        paths: Run folders, dataset folders, manifests.
        piped: A manifest from stdin, None without.
        roots: `--root` overrides.

    Raises:
        NoInputError: something named is not there.
        FormatError: damaged, or of a kind that a report does not read.
    """
    opened = [open_path(p, roots) for p in paths]
    if piped is not None:
        opened.append(open_bytes(piped, None, "stdin", roots))
    inputs = tuple({(a.sha256, a.folder): a for a in opened}.values())
    runs = tuple(_distinct(r for a in inputs if a.kind == "run" for r in _runs(a)))
    known = _search(inputs, roots)
    return Gathered(
        tuple(opened),
        inputs,
        runs,
        tuple(a for a in inputs if a.kind == "metrics"),
        tuple(_datasets(inputs, runs, known)),
        known,
    )


def parents_of(run: Run) -> list[Mapping[str, Any]]:
    """The `parents` records of a run, those that are well formed."""
    found = run.entry["parents"]
    return [p for p in found if isinstance(p, dict)] if isinstance(found, list) else []


def _runs(source: Artefact) -> Iterable[Run]:
    for entry in source.manifest.entries:
        folder = inside(source.folder, str(entry["path"]))
        yield Run(entry, _seed_source(source, folder, entry), folder)


def _seed_source(source: Artefact, folder: Path | None, entry: Mapping[str, Any]) -> Artefact:
    """The summary, with the roots that the seed's own manifest adds."""
    if folder is None or entry["path"] == "." or not (folder / "run.json").is_file():
        return source
    try:
        own = open_path(folder)
    except (OSError, FormatError):
        return source
    roots = {**own.roots, **source.roots}
    return Artefact(source.manifest, source.folder, source.name, source.record or own.record, roots)


def _distinct(runs: Iterable[Run]) -> list[Run]:
    """A run named twice (a summary and one of its seeds) counts once."""
    found: dict[tuple[str, str], Run] = {}
    for run in runs:
        weights = run.entry["files"].get("model.safetensors") if isinstance(run.entry["files"], dict) else None
        found.setdefault((str(run.entry["id"]), str(weights)), run)
    return list(found.values())


def _datasets(inputs: Iterable[Artefact], runs: Iterable[Run], known: Mapping[str, Artefact]) -> list[Dataset]:
    found: dict[str, Dataset] = {}
    for run in runs:
        record = run.entry["data"] if isinstance(run.entry["data"], dict) else {}
        sha = str(record.get("sha256", ""))
        if sha and sha not in found:
            path = inside(run.root(str(record.get("root", ""))), str(record.get("path", ".")))
            found[sha] = Dataset(sha, record, known.get(sha) or _at(path, known), path)
    for a in inputs:
        if a.kind in ("pairs", "sessions") and a.sha256 not in found:
            found[a.sha256] = Dataset(a.sha256, {}, a, a.manifest.file)
    return list(found.values())


def _at(path: Path | None, known: Mapping[str, Artefact]) -> Artefact | None:
    """The manifest of motions at a path: runs name those by what was made of them, not by the manifest's digest."""
    if path is None or not path.is_file():
        return None
    there = (a for a in known.values() if a.kind == "motions" and a.manifest.file is not None)
    return next((a for a in there if a.manifest.file is not None and a.manifest.file.resolve() == path.resolve()), None)


def _search(inputs: Sequence[Artefact], roots: Mapping[str, str]) -> dict[str, Artefact]:
    """Manifests that were named, that their roots lead to, and that lie beside those: whoever made what, by digest.

    Two rounds: a mapper leads to its rps, and that to its data.
    """
    known = {a.sha256: a for a in inputs}
    seen: set[Path] = set()
    fresh = list(inputs)
    budget = MAX_LOOKED_AT
    for _ in range(3):
        places = [p for a in fresh for p in _places(a)]
        fresh = []
        for folder in places:
            resolved = folder.resolve()
            if resolved in seen or not folder.is_dir() or budget <= 0:
                continue
            seen.add(resolved)
            files, cost = _manifests_in(folder)
            budget -= cost
            for file in files:
                a = _try(file, roots)
                if a is not None and a.sha256 not in known:
                    known[a.sha256] = a
                    fresh.append(a)
    return known


def _places(a: Artefact) -> list[Path]:
    own = [a.folder, a.folder.parent] if a.folder is not None else []
    above = [p for folder in a.roots.values() for p in (folder, folder.parent)]
    pack = [folder.parent.parent for folder in a.roots.values() if folder.parent.name == "pack"]
    return [*own, *above, *pack]


def _manifests_in(folder: Path) -> tuple[list[Path], int]:
    """Files in a folder, and one level below it, that could be manifests; and how many entries were looked at."""
    found, cost = [], 0
    try:
        for entry in sorted(folder.iterdir()):
            cost += 1
            if cost > MAX_LOOKED_AT // 4:
                break
            if entry.is_symlink():
                continue
            if entry.suffix == ".json" and not entry.name.endswith(".run.json") and entry.is_file():
                found.append(entry)
            elif entry.is_dir() and not entry.name.startswith("."):
                found += [entry / name for name in NAMES if (entry / name).is_file()]
    except OSError:
        return found, cost
    return found, cost


def _try(file: Path, roots: Mapping[str, str]) -> Artefact | None:
    """A manifest, or None for anything else: what was not asked for may be of any kind."""
    try:
        with open(file, "rb") as f:
            if manifests.peek(f.read(64)) is None:
                return None
        data = file.read_bytes()
        if (manifests.peek(data) or "").startswith("choreo.inventory"):
            return _inventory(file, data)
        return open_bytes(data, file, str(file), roots)
    except (OSError, FormatError):
        return None


def _inventory(file: Path, data: bytes) -> Artefact:
    found = manifests.decode(data, source=str(file), file=file)
    return Artefact(found, file.resolve().parent, file.stem, {}, manifests.resolve_roots(found, {}))
