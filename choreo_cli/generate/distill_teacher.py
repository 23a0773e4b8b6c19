"""The model that is distilled: found, checked against what it is asked to teach, and its data where it knows them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from choreo_cli.dataset.motions import MotionSet
from choreo_cli.errors import DataError, NoInputError, UsageError
from choreo_cli.generate.model_files import Model, open_model
from choreo_cli.training.recipe import Job
from formats.errors import FormatError
from formats.manifest import Manifest, decode, resolve_roots, safe_join

RUN = "run.json"
TEACHERS = ("flow", "ddim")


@dataclass(frozen=True, slots=True)
class Found:
    """A teacher with where it lies.

    Args:
        model: Its checkpoint.
        top: Folder that `path` starts from.
        path: The checkpoint relative to it, POSIX.
        entry: Its record in `run.json`, None for a bare checkpoint.
        roots: Where its data lay, by root id.
        notes: How it was chosen.
    """

    model: Model
    top: Path
    path: str
    entry: Mapping[str, Any] | None
    roots: Mapping[str, Path]
    notes: tuple[str, ...] = ()

    def parent(self) -> dict[str, Any]:
        """The `parents` record of the student's run."""
        run_id = None if self.entry is None else self.entry["id"]
        sha = self.model.checkpoint.sha256
        return {"role": "teacher", "run_id": run_id, "sha256": sha, "root": "teacher", "path": self.path}


def find_teacher(job: Job) -> Found:
    """The teacher that a job names: a run, one seed of it, a checkpoint, or a run that was piped in.

    Raises:
        NoInputError: nothing is there, or not where the manifest says.
        FormatError: no checkpoint of a motion network, or damaged.
        UsageError: a model that is a student itself.
    """
    manifest = job.manifest
    if manifest is None:
        folder = Path(job.source or "")
        if not folder.exists():
            raise NoInputError(f"no teacher {folder}", hint="name a run of choreo train flow or ddim")
        found = Found(open_model(folder if folder.is_dir() else folder.parent), folder, ".", None, {})
    else:
        found = _of_manifest(manifest, job)
    recipe = found.model.recipe
    if recipe not in TEACHERS:
        hint = "give the flow or ddim run that it was made from"
        raise UsageError(f"the teacher is {recipe} already", hint=hint)
    return found


def _of_manifest(manifest: Manifest, job: Job) -> Found:
    fitting = [e for e in manifest.entries if e["recipe"] in TEACHERS]
    if not fitting:
        have = manifest.entries[0]["recipe"] if manifest.entries else "nothing"
        raise UsageError(f"the run is {have}, need flow or ddim", hint="give a run of choreo train flow or ddim")
    chosen = next((e for e in fitting if e["seed"] == job.seed), fitting[0])
    said = f"no teacher of seed {job.seed}: took the one of seed {chosen['seed']}"
    notes = () if chosen["seed"] == job.seed or len(fitting) == 1 else (said,)
    folders = resolve_roots(manifest, {k: v for k, v in job.roots.items() if k in {r.id for r in manifest.roots}})
    own = next((r.id for r in manifest.roots if r.self), None)
    if own is None and manifest.file is None:
        raise FormatError("the run manifest does not say where it lies", field="roots")
    top = folders[own] if own is not None else manifest.file.resolve().parent  # type: ignore[union-attr]
    folder = top if chosen["path"] == "." else safe_join(top, chosen["path"])
    if not folder.is_dir():
        raise NoInputError(f"no folder {folder}", hint="was the run moved? name its folder instead of a pipe")
    model = open_model(folder)
    weights = chosen["files"].get("model.safetensors")
    if weights is not None and weights != model.checkpoint.sha256:
        raise FormatError(f"not the weights that {RUN} names: changed since", file=folder)
    return Found(model, top, chosen["path"], chosen, folders, notes)


def open_windows(found: Found, job: Job) -> MotionSet:
    """The windows to distil on: those that are named (option `motions`), else the ones the teacher was trained on.

    They have the teacher's frames and rate.

    Raises:
        NoInputError: the teacher's own data are not there, or it does not say where they lay.
        DataError: other audio features than the teacher's, or none; what `MotionSet.open` raises.
    """
    model, c = found.model, job.config
    named = job.options.get("motions")
    source = Path(named) if named is not None else _own_data(found, job)
    roots = {} if named is None else dict(job.roots)
    made = MotionSet.open(
        source, roots, frames=model.shape.frames, stride=c.stride, fps=float(model.facts["fps"]),
        audio=model.shape.audio_width > 0, mirror=c.mirror, seed=job.seed,
    )  # fmt: skip
    width = model.shape.audio_width
    if made.audio_width != width:
        raise DataError(
            f"{made.audio_width} audio features a frame, the teacher listens to {width}",
            hint="give motions with the features it was trained on",
        )
    names = tuple(model.facts.get("audio_features") or ())
    if names and names != made.audio_names:
        odd = next(a for a, b in zip(made.audio_names, names, strict=False) if a != b)
        raise DataError(f"audio feature {odd} is not one of the teacher's", hint="compute them as for its training")
    return made


def _own_data(found: Found, job: Job) -> Path:
    if found.entry is None:
        raise UsageError("the teacher does not say what it was trained on", hint="name the motions after it")
    told = found.entry["data"]
    root = told.get("root", "data")
    folder = Path(job.roots[root]) if root in job.roots else found.roots.get(root)
    if folder is None or not folder.is_dir():
        where = folder if folder is not None else "its folder"
        raise NoInputError(
            f"the teacher's motions are not at {where}", hint=f"name them after the teacher, or --root {root}=DIR"
        )
    return folder if told["path"] in (".", "-") else safe_join(folder, told["path"])


def read_run(folder: Path) -> Manifest | None:
    """`run.json` of a folder, or the file itself; None when there is none. Raises FormatError."""
    file = folder / RUN if folder.is_dir() else folder
    return decode(file.read_bytes(), source=str(file), file=file) if file.is_file() else None
