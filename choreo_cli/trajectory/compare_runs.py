"""Trained branches as evaluation and comparison read them: whose run, on which set, what it predicted, what it cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from choreo_cli.errors import DataError, NoInputError, UsageError
from choreo_cli.metrics.run_inputs import Run, runs_of
from choreo_cli.training.runlog import validations
from choreo_cli.trajectory import compare_told, predictions
from choreo_cli.trajectory.compare_told import Telling
from choreo_cli.trajectory.predictions import Predictions
from choreo_cli.trajectory.sets import SET, TrajectorySet, open_set
from formats import sealed, status
from formats.errors import FormatError
from formats.manifest import Manifest, decode, safe_join

RUN, STATUS, LOG = "run.json", "status.json", "log.jsonl"
RECIPE = "video"
DEPTH = 3  # folders below a named one in which runs are looked for
HELD_OUT = tuple(predictions.FILES)


@dataclass(frozen=True, slots=True)
class Trained:
    """One finished run of a branch.

    Args:
        run: As it was read. branch: Its name. seed: Its seed.
    """

    run: Run
    branch: str
    seed: int

    @property
    def folder(self) -> Path:
        return self.run.folder

    @property
    def name(self) -> str:
        return f"{self.branch} seed {self.seed}"

    @property
    def data_sha256(self) -> str:
        """Of the set it was trained on."""
        return str(self.run.entry["data"]["sha256"])

    @property
    def cost(self) -> dict[str, Any]:
        """What it took: `parameters`, `steps`, `epochs`, and `cpu_s` (or `wall_s`) where it is on record."""
        e = self.run.entry
        found = {k: e[k] for k in ("parameters", "steps", "epochs") if e.get(k) is not None}
        record = _record(self.folder)
        if record is not None:
            found["wall_s"] = round(float(record["ended"]) - float(record["started"]), 1)
            found["device"] = str(e.get("device", "cpu"))
        spent = _cpu_s(self)
        return found if spent is None else {**found, "cpu_s": spent}


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A run folder without its manifest: what its status says."""

    name: str
    state: str
    said: str


@dataclass(slots=True)
class Found:
    """What lies in the folders that were named.

    Args:
        runs: Finished ones, by branch in the order of their names, then by seed.
        unfinished: Run folders that are not done. told: What describe told of them. notes: Remarks.
    """

    runs: list[Trained] = field(default_factory=list)
    unfinished: list[Unfinished] = field(default_factory=list)
    told: list[Telling] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def branches(self) -> dict[str, list[Trained]]:
        """Runs by branch."""
        found: dict[str, list[Trained]] = {}
        for r in self.runs:
            found.setdefault(r.branch, []).append(r)
        return found


def find(named: Sequence[Path | Manifest], roots: Mapping[str, str]) -> Found:
    """Every run below the named folders, files or manifests.

    Raises:
        NoInputError: nothing there.
        DataError: a run of another recipe, two different runs of one branch and seed, seeds of one branch with other
            settings, or runs that were trained on different sets.
        FormatError: a damaged manifest.
    """
    found, manifests = Found(), list[Manifest]()
    for one in named:
        if isinstance(one, Manifest):
            manifests.append(one)
            continue
        if not one.exists():
            raise NoInputError(f"no folder {one}", hint="need run folders of choreo train video")
        here = list(_manifests(one, found, 0))
        if not here and not found.unfinished and not found.told:
            raise NoInputError(f"no run in {one}", hint="need run folders of choreo train video")
        manifests += here
    seen: dict[tuple[str, int], Trained] = {}
    for m in manifests:
        for run in runs_of(m, roots):
            _add(seen, _trained(run), found.notes)
    found.runs = [seen[k] for k in sorted(seen)]
    _alike(found.runs)
    return found


def _manifests(path: Path, found: Found, depth: int) -> Iterable[Manifest]:
    """The manifests of runs at or below a folder; run folders without one are noted in `found`."""
    file = path / RUN if path.is_dir() else path
    if file.is_file():
        manifest = decode(file.read_bytes(), source=str(file), file=file)
        if manifest.kind != "choreo.run":
            raise FormatError(f"the file holds {manifest.schema}, need choreo.run/1", file=file)
        yield manifest
        return
    if compare_told.is_telling(path):
        found.told.append(compare_told.read(path))
        return
    if (path / LOG).is_file() or (path / "checkpoints").is_dir():
        found.unfinished.append(_unfinished(path))
        return
    if depth < DEPTH and path.is_dir():
        for below in sorted(p for p in path.iterdir() if p.is_dir() and p.name not in ("logs", "results", "state")):
            yield from _manifests(below, found, depth + 1)


def _unfinished(path: Path) -> Unfinished:
    name = f"{path.parent.name}/{path.name}"
    try:
        s = status.read(path / STATUS)
    except (FormatError, OSError):
        return Unfinished(name, "unknown", "no status")
    said = f"step {s.done} of {s.total}" if s.total else s.step
    return Unfinished(name, s.state, " ".join(said.split())[:120])


def _trained(run: Run) -> Trained:
    e = run.entry
    if e["recipe"] != RECIPE:
        raise DataError(f"{run.folder} is a run of {e['recipe']}", hint="need runs of choreo train video")
    config, data = e["config"], e["data"]
    if not isinstance(config, dict) or not isinstance(data, dict) or not isinstance(data.get("sha256"), str):
        raise FormatError("the run does not say what it was trained on", file=run.folder / RUN, field="data")
    return Trained(run, str(config.get("branch") or config.get("encoder") or RECIPE), int(e["seed"]))


def _add(seen: dict[tuple[str, int], Trained], one: Trained, notes: list[str]) -> None:
    key = one.branch, one.seed
    before = seen.setdefault(key, one)
    if before is one:
        return
    if before.run.entry["id"] != one.run.entry["id"]:
        raise DataError(
            f"two different runs of {one.name}: {before.folder} and {one.folder}",
            hint="name one of them, or give the branch another name",
        )
    if before.folder.resolve() != one.folder.resolve():
        notes.append(f"{one.name} is there twice: the first counts")


def _alike(runs: Sequence[Trained]) -> None:
    """Raises DataError when runs cannot be compared."""
    # Imported here: the loop's settings module belongs to training, which not every reader of predictions needs.
    from choreo_cli.training.job import NOT_DECIDING

    first: dict[str, tuple[Trained, dict[str, Any]]] = {}
    for r in runs:
        settings = {k: v for k, v in r.run.entry["config"].items() if k not in NOT_DECIDING}
        other, usual = first.setdefault(r.branch, (r, settings))
        odd = sorted(k for k in settings.keys() | usual.keys() if settings.get(k) != usual.get(k))
        if odd:
            raise DataError(
                f"{r.name} has {odd[0]} {settings.get(odd[0])}, {other.name} has {usual.get(odd[0])}",
                hint="seeds of one branch share their settings: train again, or give it another name",
            )
        if r.data_sha256 != runs[0].data_sha256:
            raise DataError(
                f"{r.name} was trained on another set than {runs[0].name}", hint="compare branches of one set"
            )


def need_split(split: str) -> None:
    """Raises UsageError for a split that models learn from or that is none."""
    if split not in HELD_OUT:
        why = "models learn from it" if split in ("train", "val") else "there is no such split"
        raise UsageError(f"--split {split}: {why}", hint=f"choose from {', '.join(HELD_OUT)}")


def own_set(one: Trained, roots: Mapping[str, str]) -> TrajectorySet:
    """The set that a run was trained on.

    Raises:
        NoInputError: it is not where it was.
        DataError, FormatError: it is another one, or damaged.
    """
    data = one.run.entry["data"]
    name = str(data.get("root", "data"))
    known = {r.id: r.path for r in one.run.manifest.roots if not r.self}
    place = roots.get(name) or known.get(name)
    if place is None:
        raise NoInputError("the run does not say where its set lies", hint=f"give --root {name}=DIR")
    file = safe_join(Path(place), str(data.get("path", SET)))
    if not file.is_file():
        raise NoInputError(f"no file {file}", hint=f"say where the set lies: --root {name}=DIR, or --on DIR")
    manifest = decode(file.read_bytes(), source=str(file), file=file)
    if manifest.sha256 != one.data_sha256:
        raise DataError(f"{file.parent} is not the set that {one.name} was trained on", hint=f"give --root {name}=DIR")
    return open_set(manifest)


def told(one: Trained, of: TrajectorySet, split: str) -> Predictions:
    """What a run predicted of a held-out split of its own set.

    Raises:
        NoInputError: the run wrote no predictions of it.
        FormatError: they are not the ones that it wrote.
        DataError: they are of another set or split.
    """
    from formats.atomic import sha256_file

    need_split(split)
    name = predictions.FILES[split]
    stated = one.run.entry["files"]
    path = one.folder / name
    if name not in stated or not path.is_file():
        raise NoInputError(f"no {name} of {one.name} in {one.folder}", hint="train it again, or show it the set: --on")
    if sha256_file(path) != stated[name]:
        raise FormatError("not the predictions that the run wrote: damaged or changed", file=path)
    found = predictions.read(path)
    if found.facts.get("choreo.set") != of.sha256 or found.facts.get("choreo.split") != split:
        raise DataError(f"{path} holds predictions of another set", hint="judge a run on its own set, or --on another")
    if split not in of.looks:
        raise DataError(f"{of.folder} has no {split} views")
    return found


def shown(one: Trained, of: TrajectorySet, split: str, learnt: TrajectorySet | None) -> Predictions:
    """What a trained model says of a held-out split of another set: the videos are drawn and shown to it.

    Args:
        one: The run. of: The set. split: `test` or `grid`.
        learnt: The set it was trained on, where that is known: none of its curves may be judged.

    Raises:
        DataError: no such views, curves it learned from, or a set that is drawn otherwise.
        UnavailableError: torch is not installed.
    """
    need_split(split)
    if split not in of.looks or not len(of.looks[split]):
        raise DataError(f"{of.folder} has no {split} views", hint="synth trajectories --test N --grid N")
    if learnt is not None:
        _need_unseen(one, of, split, learnt)
    try:
        from choreo_cli.trajectory.video_recipe_torch import read_model, tell
    except ModuleNotFoundError as e:
        from choreo_cli.errors import UnavailableError

        raise UnavailableError(f"{e.name} is not installed", hint="pip install 'choreo[train]'") from None
    model, card = read_model(one.folder)
    if card.arch.get("size") != of.size:
        raise DataError(f"{one.name} sees videos of {card.arch.get('size')} px, the set has {of.size}")
    return tell(model, of, of.looks[split], of.shown(split))


def _need_unseen(one: Trained, of: TrajectorySet, split: str, learnt: TrajectorySet) -> None:
    known = np.isin(learnt.drawn.split, ("train", "val"))
    learned = set(zip(learnt.drawn.seed[known].tolist(), learnt.drawn.row[known].tolist(), strict=True))
    ids = np.unique(of.looks[split].base)
    again = sum((s, r) in learned for s, r in zip(of.drawn.seed[ids].tolist(), of.drawn.row[ids].tolist(), strict=True))
    if again:
        raise DataError(
            f"{one.name} learned from {again} of the {len(ids)} curves", hint="judge on a set of another seed"
        )


def curve_of(one: Trained) -> list[dict[str, float]]:
    """Its validations in order: `step`, `epoch`, `loss`, `accuracy`, `mae_pct`; empty without a log."""
    names = ("step", "epoch", "loss", "accuracy", "mae_pct")
    found = [{k: said[k] for k in names if _finite(said.get(k))} for said in validations(one.folder / LOG)]
    return [f for f in found if "step" in f]


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))


def _record(folder: Path) -> dict[str, Any] | None:
    try:
        found = sealed.parse((folder / "run.run.json").read_bytes())
    except (OSError, FormatError):
        return None
    return found if _finite(found.get("started")) and _finite(found.get("ended")) else None


def _cpu_s(one: Trained) -> float | None:
    """CPU seconds by the last results that `train video --branch` kept of it."""
    place = one.folder.parent.parent / "results" / one.branch / one.folder.name
    files = sorted(place.glob("*.json")) if place.is_dir() else []
    for file in reversed(files):
        try:
            entries = decode(file.read_bytes(), source=str(file), file=file).entries
        except (OSError, FormatError):
            continue
        for e in entries:
            if e["name"] == "video.train.cpu_s" and e["value"] is not None:
                return round(float(e["value"]), 1)
    return None


def settings_of(one: Trained) -> dict[str, Any]:
    """What a run's settings differ in from the recipe's own, without what decides nothing."""
    from choreo_cli.training.job import NOT_DECIDING
    from choreo_cli.trajectory.video_config import changed

    return {k: v for k, v in changed(one.run.entry["config"]).items() if k not in NOT_DECIDING}


def train_command(branch: str, runs: Sequence[Trained]) -> str:
    """The command that trains a branch again, into `runs/BRANCH`."""
    import shlex

    from choreo_cli.training.settings import set_words

    sets = set_words(settings_of(runs[0]))
    seeds = ",".join(str(r.seed) for r in runs)
    words = ["choreo", "train", "video", "trajectories", *sets, "--seeds", seeds, "-o", f"runs/{branch}"]
    return shlex.join(words)


def set_command(of: TrajectorySet) -> str:
    """The command that makes the set again, into `trajectories`; empty when it does not say."""
    file = of.folder / SET
    try:
        made_by = decode(file.read_bytes(), source=str(file), file=file).created_by
    except (OSError, FormatError):
        return ""
    given = made_by.get("params")
    if made_by.get("command") != "synth trajectories" or not isinstance(given, dict):
        return ""
    words = ["choreo synth trajectories"]
    words += [f"--{k.replace('_', '-')} {given[k]}" for k in ("num", "test", "grid", "seed", "size", "size_cue")]
    words += [] if given.get("augment", True) else ["--no-augment"]
    return " ".join([*words, "-o trajectories"])


def need_finished(found: Found) -> None:
    """Raises NoInputError, naming what is unfinished, when no run is there to be judged."""
    if not found.runs:
        said = "; ".join(f"{u.name} is {u.state}, {u.said}" for u in found.unfinished)
        raise NoInputError(f"no finished run{f': {said}' if said else ''}", hint="see choreo status")
