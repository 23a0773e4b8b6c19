"""One training from a user's wish to a finished run folder: provenance, the loop, the figures, the manifest last."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from choreo_cli import runtime
from choreo_cli.errors import CantCreateError, ChoreoError, ExitCode
from choreo_cli.training.recipe import Job, LaneModule, Prepares, Recipe, RunFiles
from choreo_cli.training.runlog import LOG, STATUS, Curves, Heartbeat
from choreo_cli.training.sync import TIMEOUT_S, Sync
from choreo_cli.training.track import Tracker

if TYPE_CHECKING:
    from choreo_cli.training.loop import Fitted

STATE = "state"
METRICS = "metrics.json"
STOPPED_S = 4.0  # a run that was told to stop ends soon, copied or not
# Options that decide the model beside its inputs and its configuration, which holds those that are settings too.
DECIDES = ("split", "fold")
TIMELINES = {"latents": "latent", "controls": "controls"}
# Of the last validation, in the heartbeat.
SHOWN_FIGURES = ("accuracy", "mae_pct")
# How often a state is kept changes nothing in the result.
NOT_DECIDING = ("checkpoint_s", "checkpoint_epochs")
PROCESSES = "processes"


class RunFolder(RunFiles, Protocol):
    """The output folder of the kernel, as far as a training needs it."""

    path: Path
    files: dict[str, tuple[str, str]]

    def done_before(self) -> bytes | None: ...

    def invalidate(self) -> None: ...

    def finish(
        self, entries: list[dict[str, Any]], exit_code: int, argv: list[str], roots: Mapping[str, Path] | None = None
    ) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Asked:
    """What a user asked to train, resolved and checked.

    Args:
        recipe: Its name.
        module: Its module.
        job: Source, configuration and options; the seed of a single run.
        device: Where to compute, as torch names it.
        reason: Why there.
        overfit: Train on this many items only, 0 for all.
        resume: Go on from a state that a stopped run left.
        force: Do it again although it was done.
        words: What is done, as provenance and progress name it; `train RECIPE` when empty.
    """

    recipe: str
    module: LaneModule
    job: Job
    device: str = "cpu"
    reason: str = ""
    overfit: int = 0
    resume: bool = True
    force: bool = False
    words: str = ""

    @property
    def command(self) -> str:
        return self.words or f"train {self.recipe}"

    def with_seed(self, seed: int) -> Asked:
        return replace(self, job=replace(self.job, seed=seed))


@dataclass(frozen=True, slots=True)
class Around:
    """Who listens to a training.

    Args:
        argv: The command's arguments, for the run record.
        progress: `progress(done, total, item)`.
        note: A remark for the person.
        sync: Where the run is copied.
        trackers: Makes what follows the curves of a run, from its folder and run id.
        starting: Called when there is work to do, before anything is changed.
    """

    argv: list[str] = field(default_factory=list)
    progress: Callable[..., None] = lambda *_: None
    note: Callable[[str], None] = lambda _: None
    sync: Sync | None = None
    trackers: Callable[[Path, str], list[Tracker]] = lambda *_: []
    starting: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True)
class Opened:
    """A recipe with its data open, and the provenance of what it will make."""

    asked: Asked
    recipe: Recipe
    created_by: dict[str, Any]

    @property
    def command(self) -> str:
        return self.asked.command

    @property
    def identity(self) -> str:
        """Run id of the same work whatever the number of processes: states of one are gone on with by several."""
        told = {k: v for k, v in self.created_by["params"].items() if k != PROCESSES}
        return runtime.run_id(self.command, told, self.recipe.inputs, self.asked.job.seed)


def open_job(asked: Asked) -> Opened:
    """Open the data of a recipe. Raises what its lane raises: FormatError, NoInputError, UsageError, DataError."""
    recipe = asked.module.open_recipe(asked.job)
    made_by = runtime.provenance(asked.command, parameters(asked, recipe.config), recipe.inputs, seed=asked.job.seed)
    made_by["deterministic"] = asked.device == "cpu"
    return Opened(asked, recipe, made_by)


def parameters(asked: Asked, resolved: Any) -> dict[str, Any]:
    """What decides the result beside the inputs and the seed; equal work has equal parameters.

    Args:
        asked: The wish.
        resolved: The recipe's own configuration: `--mode stream` and `--set mode=stream` are one.
    """
    import msgspec

    config = {k: v for k, v in msgspec.to_builtins(resolved).items() if k not in NOT_DECIDING}
    found: dict[str, Any] = {"config": config, "device": asked.device.partition(":")[0]}
    found |= {k: asked.job.options[k] for k in DECIDES if asked.job.options.get(k) not in (None, "auto")}
    if asked.overfit:
        found["overfit"] = asked.overfit
    if runtime.process_count() > 1:
        found[PROCESSES] = runtime.process_count()
    return found


def run(opened: Opened, folder: RunFolder, around: Around) -> bytes:
    """Train and write everything; returns the bytes of `run.json`, or those of an equal run that is there already.

    Raises:
        ChoreoError: what the recipe or the loop raises. After a signal the state is kept and the signal goes on.
    """
    before = done_before(opened, folder)
    if before is not None:
        shutil.rmtree(folder.path / STATE, ignore_errors=True)
        around.note(f"already in {folder.path}; --force does it again")
        return before
    _refuse_what_cannot_end(opened)
    around.starting()
    folder.invalidate()
    trackers = around.trackers(folder.path, opened.created_by["run_id"])
    whole = False
    try:
        with Heartbeat(folder.path / STATUS, opened.command) as pulse:
            doc = _train(opened, folder, around, Listeners(opened, pulse, around, trackers))
        whole = True
    finally:
        for tracker in trackers:
            tracker.close()
        if around.sync is not None:
            around.sync.push(last=True, timeout_s=TIMEOUT_S if whole else STOPPED_S)
    return doc


def _refuse_what_cannot_end(opened: Opened) -> None:
    """Before an earlier run in the folder is taken away, and not after hours of training.

    Raises:
        DataError: there is nothing to train on.
        CantCreateError: a folder for timelines is a file.
    """
    from choreo_cli.training.loop import plan_of

    plan_of(opened.recipe, opened.asked.overfit)
    for name in TIMELINES:
        folder = opened.asked.job.options.get(name)
        if folder is not None and Path(folder).exists() and not Path(folder).is_dir():
            raise CantCreateError(f"--{name} {folder} is a file", hint="name a folder")


def done_before(opened: Opened, folder: RunFolder) -> bytes | None:
    """`run.json` of an equal run that is whole, with the timelines that are asked for; None when there is work."""
    before = None if opened.asked.force else folder.done_before()
    return None if before is not None and _timelines_missing(opened, folder.path) else before


def follow(opened: Opened, folder: RunFolder) -> None:
    """Take part in a training that another process of the same launch leads: compute, write nothing."""
    if done_before(opened, folder) is None:
        with runtime.deferred_signals() as signals:
            if _prepare(opened, folder.path, lambda: signals.asked != 0, lambda *_: None):
                _fit(opened, folder.path, lambda: signals.asked != 0, {})


def _train(opened: Opened, folder: RunFolder, around: Around, heard: Listeners) -> bytes:
    pulse, curves = heard.pulse, heard.curves
    with runtime.deferred_signals() as signals:
        fitted = None
        if _prepare(opened, folder.path, lambda: signals.asked != 0, heard.making):
            fitted = _fit(opened, folder.path, lambda: signals.asked != 0, heard.hooks(lambda: signals.asked != 0))
        if fitted is None or fitted.state == "stopped":
            curves.close()
            pulse.end("stopped", "the state is kept: the same command goes on from there")
    if fitted is None or fitted.state == "stopped":
        raise ChoreoError("another process of the run was stopped", hint="start all of them again", code=ExitCode.TERM)
    pulse.say("judging the model on the held-out sessions", eta_s=None)
    pulse.write()
    finished = opened.recipe.finish(fitted.model, folder)
    for sentence in finished.notes:
        around.note(sentence)
    folder.write("metrics", METRICS, _metrics(opened.created_by, finished.metrics))
    folder.write("log", LOG, curves.close())
    doc = folder.finish([entry(opened, fitted, folder, finished.metrics)], 0, around.argv, opened.recipe.roots)
    shutil.rmtree(folder.path / STATE, ignore_errors=True)
    pulse.say(f"done: {fitted.steps} steps", done=fitted.steps, total=fitted.steps)
    return doc


def _prepare(opened: Opened, path: Path, stop: Callable[[], bool], say: Callable[[str, int, int], None]) -> bool:
    """What a recipe makes before its first step; False when it was stopped in between."""
    recipe = opened.recipe
    return not isinstance(recipe, Prepares) or recipe.prepare(path, opened.asked.device, stop, say)


def _fit(opened: Opened, path: Path, stop: Callable[[], bool], hooks: dict[str, Any]) -> Fitted:
    from choreo_cli.training.loop import fit

    asked = opened.asked
    return fit(
        opened.recipe, path, identity=opened.identity, seed=asked.job.seed, device=asked.device,
        resume=asked.resume, overfit=asked.overfit, stop=stop, **hooks,
    )  # fmt: skip


@dataclass(slots=True)
class Listeners:
    """What the loop says, told to whom it concerns: the heartbeat, the curves, the trackers, the person, the copy."""

    opened: Opened
    pulse: Heartbeat
    around: Around
    trackers: list[Tracker]
    curves: Curves = field(init=False)
    judged: str = ""

    def __post_init__(self) -> None:
        self.curves = Curves(self.pulse.path.with_name(LOG))

    def hooks(self, stopping: Callable[[], bool]) -> dict[str, Any]:
        """The callbacks of `fit`. While the run is being stopped nothing is copied: that has its own, shorter time."""
        sync = self.around.sync
        found: dict[str, Any] = {"log": self.log, "beat": self.speed}
        if sync is not None:
            found["after_checkpoint"] = lambda _: None if stopping() else sync.push()
        return found

    def making(self, what: str, done: int, total: int) -> None:
        """Parts of what a recipe makes before its first step."""
        self.pulse.say(what, done=done, total=total)
        self.around.progress(done, total, what)

    def log(self, record: dict[str, Any]) -> None:
        """One record of the loop; only steps and validations follow from the run alone and are kept."""
        kind = record["kind"]
        if kind == "start":
            self.curves.rewind(record["step"])
            self.pulse.say("training", done=record["step"], total=record["steps"])
            if record["step"]:
                self.around.note(f"going on from step {record['step']} of {record['steps']}")
        elif kind == "note":
            self.around.note(record["message"])
        elif kind in ("step", "validation"):
            self.curves(record)
            for tracker in self.trackers:
                tracker(record)
        if kind == "validation":
            figures = [(k, v) for k, v in record.items() if k in SHOWN_FIGURES and v is not None]
            self.judged = "".join(f", {k} {v:.4g}" for k, v in figures)
        if kind == "step":
            self.pulse.say(self._words(record), done=record["step"], loss=record["loss"])

    def speed(self, record: dict[str, Any]) -> None:
        """Speed, waiting and memory, every few seconds."""
        beat = self.pulse.beat
        self.pulse.say(beat.step, done=record["step"], eta_s=record["eta_s"])
        memory = record["rss_bytes"] + (record["accelerator_bytes"] or 0)
        told = (
            f"{beat.step}; {record['items_per_s']:.0f} windows/s, {record['share_data']:.0%} waiting for data,"
            f" {memory / 2**20:.0f} MiB"
        )
        self.around.progress(record["step"], record["steps"], told)

    def _words(self, record: dict[str, Any]) -> str:
        step, epoch, loss = record["step"], record["epoch"], record["loss"]
        epochs = (self.pulse.beat.total or step) * epoch / step
        where = f"epoch {math.ceil(epoch)}/{max(1, math.ceil(epochs - 1e-6))}"
        return (where if loss is None else f"{where}, loss {loss:.4g}") + self.judged


def entry(opened: Opened, fitted: Fitted, folder: RunFolder, metrics: list[dict[str, Any]]) -> dict[str, Any]:
    """The record of `choreo.run/1`."""
    import msgspec

    recipe = opened.recipe
    return {
        "id": opened.created_by["run_id"],
        "recipe": opened.asked.recipe,
        "seed": opened.asked.job.seed,
        "path": ".",
        "state": "done",
        "steps": fitted.steps,
        "epochs": float(fitted.epochs),
        "parameters": fitted.parameters,
        "device": opened.asked.device.partition(":")[0],
        "config": msgspec.to_builtins(opened.recipe.config),
        "data": {**recipe.data, **({"processes": [list(c) for c in fitted.crews]} if len(fitted.crews) > 1 else {})},
        "parents": recipe.parents,
        "files": {name: sha for name, (_, sha) in sorted(folder.files.items())},
        "metrics": metrics,
        "synthetic": bool(recipe.synthetic),
    }


def _metrics(created_by: Mapping[str, Any], entries: list[dict[str, Any]]) -> bytes:
    from formats.manifest import Manifest, encode
    from formats.metrics import validate

    for row, found in enumerate(entries):
        validate(found, METRICS, row)
    return encode(Manifest("choreo.metrics/1", {**created_by, "outputs": []}, entries))


def _timelines_missing(opened: Opened, path: Path) -> bool:
    """Whether timelines were asked for that this very model has not written: they lie outside the run's folder."""
    from formats.atomic import sha256_file
    from formats.checkpoint import WEIGHTS

    asked = {Path(opened.asked.job.options[k]): stem for k, stem in TIMELINES.items() if k in opened.asked.job.options}
    if not asked:
        return False
    model = f"choreo.model.{opened.asked.recipe}", sha256_file(path / WEIGHTS)
    return any(not _is_filled(folder, stem, *model) for folder, stem in asked.items())


def _is_filled(folder: Path, stem: str, key: str, sha256: str) -> bool:
    from formats.errors import FormatError
    from formats.tables import read_metadata

    files = sorted(folder.glob(f"*_{stem}.parquet")) if folder.is_dir() else []
    try:
        return bool(files) and all(read_metadata(f).get(key) == sha256 for f in files)
    except (FormatError, OSError):
        return False
