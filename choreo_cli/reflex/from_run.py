"""What a recipe that stands on M1 reads: the trained RPS, the frames it was trained on, and the record of both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from choreo_cli.errors import NoInputError, UsageError
from formats.errors import FormatError

if TYPE_CHECKING:
    from choreo_cli.dataset.frameset import FrameSet
    from choreo_cli.reflex.rps import Rps
    from choreo_cli.training.recipe import Job
    from formats.manifest import Manifest

CHECKPOINT = "choreo.checkpoint/1"
SPLIT_OPTIONS = ("split", "fold")


class Inputs(NamedTuple):
    """What `open_inputs` found.

    Args:
        rps: The frozen M1 with its normaliser.
        frames: Frames with the splits M1 was trained with, unless other ones were asked for.
        data: The `data` record of the new run.
        parents: Its `parents` record.
        roots: Folders both refer to, by root id.
        inputs: Provenance, `{role, sha256, schema}` each.
        notes: Sentences for the person: what was chosen, and held-out sessions that M1 has seen.
    """

    rps: Rps
    frames: FrameSet
    data: dict[str, Any]
    parents: list[dict[str, Any]]
    roots: dict[str, Path]
    inputs: list[dict[str, Any]]
    notes: list[str]


@dataclass(frozen=True, slots=True)
class FoundRun:
    """One trained RPS on disk.

    Args:
        folder: Its checkpoint folder.
        top: The folder that `path` starts from.
        path: The checkpoint folder relative to `top`, POSIX.
        entry: Its entry of `choreo.run/1`, None for a checkpoint that has no record of its run.
        notes: How it was chosen.
    """

    folder: Path
    top: Path
    path: str
    entry: dict[str, Any] | None
    notes: tuple[str, ...] = ()


def open_inputs(job: Job) -> Inputs:
    """Find M1 and its frames: from a `choreo.run/1` and its `data` record, or from DATA with the option `rps`.

    Raises:
        NoInputError: the frames or the run are not there; the message names what to give.
        UsageError: DATA without `--rps`, or a run of another recipe.
        FormatError: damaged, or data that is not what M1 was trained on.
    """
    manifest = job.manifest
    if manifest is not None and manifest.kind == "choreo.run":
        found = find_run(manifest, job.seed, job.roots)
        frames = _frames_of(found, manifest, job)
    else:
        option = job.options.get("rps")
        if option is None and job.source is not None and job.source.is_dir() and not any(job.source.iterdir()):
            raise NoInputError(f"nothing in {job.source}", hint="give a run of choreo train rps")
        if option is None:
            raise UsageError("these frames come without a trained rps", hint="give --rps RUN, or the run itself")
        found = find_run(_run_manifest(Path(option)), job.seed, {}, Path(option))
        frames = _frames_named(found, job)
    return _assemble(found, frames)


def find_run(
    manifest: Manifest | None, seed: int, roots: Mapping[str, str], folder: Path | None = None, recipe: str = "rps"
) -> FoundRun:
    """The run of one recipe that a manifest lists: the one of the same seed, else the first, and says so.

    Args:
        manifest: A `choreo.run/1`; None for a bare checkpoint folder.
        seed: The seed to prefer.
        roots: `--root` overrides.
        folder: The checkpoint folder when there is no manifest.
        recipe: What it must be.

    Raises:
        NoInputError: the run folder is not there.
        UsageError: the manifest lists runs of another recipe only.
    """
    if manifest is None:
        if folder is None or not folder.is_dir():
            raise NoInputError(f"no run folder {folder}", hint="give --rps RUN, a folder of choreo train rps")
        return FoundRun(folder, folder, ".", None, ("the rps has no run.json: its data is unknown",))
    fitting = [e for e in manifest.entries if e["recipe"] == recipe]
    if not fitting:
        have = manifest.entries[0]["recipe"] if manifest.entries else "nothing"
        raise UsageError(f"the run is {have}, need {recipe}", hint=f"give a run of choreo train {recipe}")
    chosen = next((e for e in fitting if e["seed"] == seed), fitting[0])
    notes = () if chosen["seed"] == seed else (f"no {recipe} of seed {seed}: took the one of seed {chosen['seed']}",)
    top = _own_folder(manifest, roots)
    return FoundRun(_inside(top, chosen["path"]), top, chosen["path"], chosen, notes)


def parent_folder(folder: Path, roots: Mapping[str, str] | None = None, role: str = "rps") -> tuple[Path, str]:
    """Folder and weights' hash of a parent of a finished run, found through the run's own `run.json`.

    Args:
        folder: The run folder.
        roots: `--root` overrides.
        role: The parent.

    Raises:
        NoInputError: the run has no record, or its parent is not there any more.
        FormatError: it names no such parent.
    """
    manifest = _run_manifest(folder)
    if manifest is None or not manifest.entries:
        raise NoInputError(f"no run.json in {folder}", hint="need a finished run: its parents are named there")
    parent = next((p for p in manifest.entries[0]["parents"] if p["role"] == role), None)
    if parent is None:
        raise FormatError(f"names no parent {role}", file=folder / "run.json", field="parents")
    return _inside(_root(manifest, parent["root"], roots or {}), parent["path"]), str(parent["sha256"])


def parent_sha256(folder: Path, role: str = "rps") -> str | None:
    """Hash of the weights of a run's parent; None when there is no record or no such parent. Raises FormatError."""
    manifest = _run_manifest(folder)
    entries = manifest.entries if manifest is not None else []
    parent = next((p for e in entries[:1] for p in e["parents"] if p["role"] == role), None)
    return None if parent is None else str(parent["sha256"])


def parent_rps(folder: Path, roots: Mapping[str, str] | None = None, role: str = "rps") -> Rps:
    """M1 of a finished run that stands on it; see `parent_folder`.

    Raises:
        NoInputError: the run has no record, or its parent is not there any more.
        FormatError: the parent is not the model this one was trained with.
    """
    from choreo_cli.reflex.rps import Rps

    found, sha256 = parent_folder(folder, roots, role)
    rps = Rps.read(found)
    if rps.sha256 != sha256:
        raise FormatError(f"not the {role} that this run was trained with: changed since", file=found)
    return rps


def _assemble(found: FoundRun, frames: FrameSet) -> Inputs:
    from choreo_cli.reflex.rps import Rps

    rps = Rps.read(found.folder)
    frames, notes = _tell_leaks(found, frames)
    run_id = found.entry["id"] if found.entry else ""
    parent = {"role": "rps", "run_id": run_id, "sha256": rps.sha256, "root": "rps", "path": found.path}
    inputs = [dict(frames.source), {"role": "rps", "sha256": rps.sha256, "schema": CHECKPOINT}]
    roots = {"data": frames.folder, "rps": found.top}
    return Inputs(rps, frames, frames.record("data"), [parent], roots, inputs, [*found.notes, *notes])


def _frames_of(found: FoundRun, manifest: Manifest, job: Job) -> FrameSet:
    """The frames a run names, with the run's own splits unless others were asked for."""
    record = (found.entry or {}).get("data") or {}
    for key in ("root", "path", "sha256"):
        if not isinstance(record.get(key), str):
            raise FormatError("the run does not say what it was trained on", file=found.folder, field=f"data.{key}")
    top = _root(manifest, record["root"], job.roots)
    file = _inside(top, record["path"], f"--root {record['root']}=DIR")
    if not file.exists():
        raise NoInputError(f"no frames at {file}", hint=f"say where they lie: --root {record['root']}=DIR")
    frames = _read(file, None, job)
    if frames.source["sha256"] != record["sha256"]:
        raise FormatError("not the frames that the rps was trained on: changed since", file=file)
    return frames if _asks_split(job) else with_splits(frames, record.get("sessions") or {})


def _frames_named(found: FoundRun, job: Job) -> FrameSet:
    """Frames named beside `--rps`; when they are the ones M1 was trained on, its splits are kept."""
    frames = _read(job.source, job.manifest, job)
    record = (found.entry or {}).get("data") or {}
    if record.get("sha256") == frames.source["sha256"] and not _asks_split(job):
        return with_splits(frames, record.get("sessions") or {})
    return frames


def _read(source: Path | None, manifest: Manifest | None, job: Job) -> FrameSet:
    from choreo_cli.dataset.frameset import read_frames

    split, fold = job.options.get("split") or "auto", job.options.get("fold")
    own = {} if manifest is None else dict(job.roots)
    return read_frames(source, manifest, roots=own, split=split, fold=fold)


def _asks_split(job: Job) -> bool:
    return any(job.options.get(k) not in (None, "auto") for k in SPLIT_OPTIONS)


def with_splits(frames: FrameSet, sessions: Mapping[str, list[str]]) -> FrameSet:
    """The frames with the splits of a `data` record; sessions it does not name take part in none."""
    split_of = {name: split for split, names in sessions.items() for name in names}
    if not split_of:
        return frames
    kept = tuple(replace(s, split=split_of.get(s.session_id, "none")) for s in frames.sessions)
    return replace(frames, sessions=kept, notes=("the splits are those the rps was trained with",))


def _tell_leaks(found: FoundRun, frames: FrameSet) -> tuple[FrameSet, list[str]]:
    """Held-out sessions that M1 was trained on are leaks, and are said to be."""
    record = (found.entry or {}).get("data") or {}
    if record.get("sha256") != frames.source["sha256"]:
        return frames, []
    seen = set((record.get("sessions") or {}).get("train", ()))
    torn = [s.session_id for s in frames.of(("val", "test")) if s.session_id in seen]
    told = tuple(f"{name} is held out here, and the rps was trained on it" for name in torn)
    return replace(frames, leaks=(*frames.leaks, *told)), list(told)


def _run_manifest(folder: Path) -> Manifest | None:
    """`run.json` of a run folder (or the file itself), None when there is none."""
    from formats.manifest import decode

    file = folder / "run.json" if folder.is_dir() else folder
    if not file.is_file():
        return None
    manifest = decode(file.read_bytes(), source=str(file), file=file)
    if manifest.kind != "choreo.run":
        raise FormatError(f"the file holds {manifest.schema}, need choreo.run/1", file=file)
    return manifest


def _own_folder(manifest: Manifest, roots: Mapping[str, str]) -> Path:
    own = next((r.id for r in manifest.roots if r.self), None)
    if own is None and manifest.file is not None:
        return manifest.file.resolve().parent
    if own is None:
        raise FormatError("the run manifest does not say where it lies", field="roots")
    return _root(manifest, own, roots)


def _root(manifest: Manifest, name: str, overrides: Mapping[str, str]) -> Path:
    from choreo_cli.training.source import root_of

    folder = root_of(manifest, name, overrides)
    if not folder.is_dir():
        raise NoInputError(f"no folder {folder}", hint=f"say where it lies: --root {name}=DIR")
    return folder


def _inside(top: Path, path: str, hint: str = "") -> Path:
    from formats.manifest import safe_join

    found = top if path == "." else safe_join(top, path)
    if not found.exists():
        raise NoInputError(f"nothing at {found}", hint=f"say where it lies: {hint}" if hint else "was it moved?")
    return found
