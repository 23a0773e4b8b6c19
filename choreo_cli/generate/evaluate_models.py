"""Models that an evaluation names: runs of one or several seeds, checkpoints, exported packages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from choreo_cli.errors import NoInputError, UsageError
from choreo_cli.generate.config import MotionConfig
from choreo_cli.generate.evaluate_arms import identity_of
from choreo_cli.generate.model_files import defaults_of, open_export, open_model
from choreo_cli.generate.open_model import EXPORT, schema_of
from choreo_cli.metrics.run_inputs import Run, read_run, runs_of
from formats.errors import FormatError

if TYPE_CHECKING:
    from formats.manifest import Manifest

RUN = "run.json"


@dataclass(frozen=True, slots=True)
class Tested:
    """One model.

    Args:
        name: What a person calls it.
        recipe: `flow`, `ddim` or `distilled`, as its card says.
        seed: Of its training.
        folder: Where it lies.
        identity: sha256 of its files.
        frames, fps, audio_width: Of what it makes and hears.
        steps, solver: Its own defaults.
        baked: Guidance is part of it.
        tasks: Of the tasks that it was trained on.
        run: Its run, None for a lone checkpoint or an export.
        facts: Of its card.
    """

    name: str
    recipe: str
    seed: int
    folder: Path
    identity: str
    frames: int
    fps: float
    audio_width: int
    steps: int
    solver: str
    baked: bool
    tasks: tuple[str, ...]
    run: Run | None
    facts: Mapping[str, Any]

    @property
    def exported(self) -> bool:
        """Whether it is a package of `choreo export`."""
        return schema_of(self.folder).startswith(EXPORT)

    @property
    def source(self) -> dict[str, Any]:
        """Provenance, `{role, sha256, schema}`."""
        if self.run is not None:
            return self.run.source
        role = "export" if self.exported else self.recipe
        return {"role": role, "sha256": self.identity, "schema": schema_of(self.folder)}


def models_of(paths: Sequence[Path], roots: Mapping[str, str], piped: Sequence[Manifest] = ()) -> list[Tested]:
    """Models of run folders, `run.json` files and checkpoints, by seed.

    Args:
        paths: What was named.
        roots: `--root` overrides.
        piped: Manifests of runs that came through a pipe.

    Raises:
        NoInputError, FormatError: nothing there, or no motion network.
        UsageError: models of several recipes.
    """
    found: list[Tested] = []
    for manifest in piped:
        found += [opened(r.folder, r) for r in runs_of(manifest, roots)]
    for path in paths:
        if (path / RUN if path.is_dir() else path).name == RUN and (path / RUN if path.is_dir() else path).is_file():
            found += [opened(r.folder, r) for r in runs_of(read_run(path), roots)]
        elif not path.exists():
            raise NoInputError(f"no run {path}", hint="name what choreo train flow or ddim, or distill, has written")
        else:
            found.append(opened(path, None))
    recipes = sorted({m.recipe for m in found})
    if len(recipes) > 1:
        raise UsageError(
            f"runs of {' and '.join(recipes)} side by side",
            hint="give ddim with --against-ddim, distilled with --distilled",
        )
    kept = {(m.seed, m.identity): m for m in found}
    return sorted(kept.values(), key=lambda m: m.seed)


def opened(path: Path, run: Run | None) -> Tested:
    """One model with what its card says. Raises FormatError, NoInputError."""
    folder, identity = identity_of(path)
    if schema_of(folder).startswith(EXPORT):
        exported = open_export(folder)
        recipe, facts, shape = exported.recipe, exported.facts, exported.shape
    else:
        model = open_model(folder)
        recipe, facts, shape = model.recipe, model.facts, model.shape
    own = defaults_of(facts)
    trained = facts.get("trained_tasks")
    tasks = tuple(str(t).lower() for t in trained) if isinstance(trained, list) else ()
    seed = int(run.entry["seed"]) if run is not None else int(facts.get("seed", 0))
    return Tested(
        _name(folder), recipe, seed, folder, identity, shape.frames, float(facts["fps"]), shape.audio_width, own.steps,
        own.solver, bool(facts.get("baked", False)), tasks, run, facts,
    )  # fmt: skip


def is_model(path: Path) -> bool:
    """Whether a path is a run, a checkpoint or an export, and not motions."""
    if path.is_dir():
        return any((path / name).is_file() for name in (RUN, "model.json")) or any(path.glob("seed-*/model.json"))
    return path.name in (RUN, "model.json") and path.is_file()


def _name(folder: Path) -> str:
    here = folder.resolve()
    return f"{here.parent.name}/{here.name}" if here.name.startswith("seed-") else here.name


def need(models: Sequence[Tested], recipe: str, option: str) -> None:
    """Raise UsageError when models are not of one recipe."""
    for m in models:
        if m.recipe != recipe:
            raise UsageError(
                f"{m.name} is {m.recipe}, {option} takes {recipe}", hint="see choreo evaluate generation -h"
            )


def motions_of(model: Tested) -> Path:
    """The motions a run was trained on, from its own record.

    Raises:
        UsageError: the run does not say.
        NoInputError: they are not there.
    """
    from choreo_cli.training.source import root_of
    from formats.manifest import safe_join

    data = model.run.entry["data"] if model.run is not None else None
    if (
        model.run is None
        or not isinstance(data, dict)
        or not all(isinstance(data.get(k), str) for k in ("root", "path"))
    ):
        raise UsageError(f"{model.name} does not say what it was trained on", hint="name the motions too")
    name = str(data["root"])
    top = root_of(_own_manifest(model.run), name, model.run.roots)
    file = top if data["path"] == "." else safe_join(top, str(data["path"]))
    if not file.exists():
        raise NoInputError(f"nothing at {file}", hint=f"say where the motions lie: --root {name}=DIR, or name them")
    return file


def _own_manifest(run: Run) -> Manifest:
    """The run's own manifest: a summary over seeds may lack its roots."""
    from formats.manifest import decode

    file = run.folder / RUN
    try:
        return decode(file.read_bytes(), source=str(file), file=file)
    except (OSError, FormatError):
        return run.manifest


RUNNING = frozenset((
    "epochs", "steps", "patience", "validate_every", "checkpoint_s", "checkpoint_epochs", "accumulate", "threads",
    "val_windows",
))  # fmt: skip
"""Settings of a run that do not decide what is learned from how much."""


def unlike(flow: Sequence[Tested], ddim: Sequence[Tested]) -> str | None:
    """Why two trainings were not alike in network, data and steps; None when they were, or nobody says."""
    if any(m.run is None for m in (*flow, *ddim)):
        return "a lone checkpoint does not say how it was trained"
    told = [[_budget(m) for m in models] for models in (flow, ddim)]
    for key in told[0][0]:
        one, other = ({str(t[key]) for t in side} for side in told)
        if one != other:
            return f"not trained alike: {key} {', '.join(sorted(one))[:80]} against {', '.join(sorted(other))[:80]}"
    return None


def _budget(m: Tested) -> dict[str, Any]:
    assert m.run is not None
    e = m.run.entry
    config = e["config"] if isinstance(e["config"], dict) else {}
    data = e["data"] if isinstance(e["data"], dict) else {}
    alike = [k for k in MotionConfig.__struct_fields__ if k not in RUNNING]
    return {"data": str(data.get("sha256"))[:12], "steps": e["steps"], **{k: config.get(k) for k in alike}}
