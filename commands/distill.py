"""`choreo distill`: a trained dancer into a small one that needs one to four steps and no guidance."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from choreo_cli import options, streams
from choreo_cli.errors import ExitCode, UsageError
from commands import train_options as opt

if TYPE_CHECKING:
    from choreo_cli.training.recipe import Job

app = options.app()
EXITS = (
    ExitCode.DATA, ExitCode.NOINPUT, ExitCode.UNAVAILABLE, ExitCode.CANTCREAT, ExitCode.IO, ExitCode.TEMPFAIL,
    ExitCode.CONFIG,
)  # fmt: skip
EXAMPLES = (
    ("choreo distill runs/flow --dry-run", "What it would do, and how long it would take"),
    ("choreo distill runs/flow --set steps=2 --set pairs=8 --set batch=4 -q -o runs/small | choreo check -",
     "On the motions that the teacher was trained on, in two steps: does it run?"),
    ("choreo distill runs/flow motions --method shortcut --set steps=2 --set batch=8 -q -o runs/short",
     "By another method, on motions that are named"),
)  # fmt: skip
MODEL = "model.json"

Teacher = Annotated[
    Path | None,
    typer.Argument(metavar="TEACHER", help="Run or checkpoint of train flow or ddim; - or nothing reads stdin."),
]
Motions = Annotated[
    Path | None, typer.Argument(metavar="[MOTIONS]", help="Motions to distil on; else the teacher's own.")
]
Method = Annotated[str, typer.Option("--method", metavar="consistency|regression|shortcut", help="How it is taught.")]


@app.command()
def distill(
    teacher: Teacher = None,
    motions: Motions = None,
    *,
    method: Method = "regression",
    out: opt.Out = None,
    sets: options.Sets = None,
    config: options.ConfigFile = None,
    epochs: opt.Epochs = None,
    seed: options.Seed = 0,
    seeds: opt.Seeds = "",
    only: opt.Only = None,
    device: options.Device = "auto",
    resume: opt.Resume = "auto",
    overfit: opt.Overfit = 0,
    dry_run: opt.DryRun = False,
    sync: opt.Sync = "",
    tensorboard: opt.TensorBoard = False,
    wandb: opt.Wandb = False,
    root: options.Roots = None,
    force: options.Force = False,
    wait: options.Wait = 0.0,
    json: options.Json = False,
    table: options.TableOut = False,
    quiet: options.Quiet = False,
    log_json: options.LogJson = None,
) -> int:
    """Distil a dancer into a small one: 1, 2 or 4 steps, guidance built in.

    regression learns stored samples of the teacher, consistency its way from noise to data, shortcut its own steps. OUT
    receives what choreo train writes, and with regression the teacher's samples in pairs/, kept for another try. All of
    them are made before the first step, however few steps follow: --set pairs=N makes fewer.

    A run that is stopped or killed keeps its state: the same command goes on from there, to the same result.
    """
    from choreo_cli.config import load
    from choreo_cli.generate.distill_config import CONFIGS
    from choreo_cli.runtime import choose_device
    from choreo_cli.training import settings, track
    from choreo_cli.training.job import Asked
    from choreo_cli.training.seeds import need_free
    from commands.train_out import show_plan, show_run, train_all

    if resume not in ("auto", "no"):
        raise UsageError(f"--resume {resume} is not auto or no")
    if method not in CONFIGS:
        raise UsageError(f"no method {method!r}", hint=f"choose from {', '.join(CONFIGS)}")
    several = settings.seeds_of(seeds, only, seed)
    need_free(None if dry_run or wait else out, several, only)
    kind = CONFIGS[method]
    changes = settings.parse_sets([*(sets or []), *([f"epochs={epochs}"] if epochs else [])])
    resolved = settings.resolve(kind, None if config is None else load(config, kind), changes)
    if out is None and not dry_run:
        raise UsageError("missing option '-o' / '--out'", hint="see choreo distill --help")
    track.need(tensorboard, wandb)
    module = _method(method)
    job = _job(teacher, motions, resolved, several[0] if several else seed, root)
    place, reason = choose_device(device)
    asked = Asked("distilled", module, job, place, reason, overfit, resume == "auto", force, f"distill {method}")
    if out is None or dry_run:
        return show_plan(asked, json=json, table=table)
    if wandb:
        os.environ.update(track.WANDB_ENV)
    trackers = track.makers(tensorboard, wandb, resolved)
    doc = train_all(asked, several, only, out, (sync, trackers), wait=wait, quiet=quiet, log=log_json)
    if doc:
        show_run(doc, out, json=json, table=table)
    return int(ExitCode.OK)


def _method(name: str) -> Any:
    """The module of a method. Raises UnavailableError without torch."""
    from choreo_cli.generate.distill_config import METHODS
    from choreo_cli.training import settings

    return settings.module_at(METHODS[name][0])


def _job(teacher: Path | None, motions: Path | None, config: Any, seed: int, root: Any) -> Job:
    """The teacher's run, named or piped in, and the motions."""
    from choreo_cli.training.recipe import Job
    from choreo_cli.training.source import manifest_of

    named = teacher if teacher is not None and str(teacher) != "-" else None
    named = named.parent if named is not None and named.name == MODEL else named
    file = manifest_of(named, ("choreo.run",)) if named is not None else None
    manifest = streams.read_manifest(file, "distill", ("choreo.run",)) if file or named is None else None
    chosen = {} if motions is None else {"motions": motions}
    return Job(named, manifest, config, seed, chosen, options.root_overrides(root))
