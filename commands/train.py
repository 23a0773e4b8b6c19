"""`choreo train`: train one recipe on frames, or on a model that was trained before."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from choreo_cli import options, streams
from choreo_cli.errors import ExitCode, UsageError
from commands import train_options as o

if TYPE_CHECKING:
    from choreo_cli.training.job import Around, Asked
    from choreo_cli.training.recipe import Job

app = options.app()
EXITS = (
    ExitCode.DATA, ExitCode.NOINPUT, ExitCode.UNAVAILABLE, ExitCode.CANTCREAT, ExitCode.IO, ExitCode.TEMPFAIL,
    ExitCode.CONFIG,
)  # fmt: skip
EXAMPLES = (
    ("choreo train rps dataset --dry-run", "What it would do, and how long it would take"),
    ("choreo train rps dataset --epochs 1 -o rps", "Train the latents"),
    ("choreo train rps dataset --epochs 1 --seeds 0,1 -o rps-seeds", "Two seeds and their summary"),
    ("choreo train rps dataset --epochs 1 --set batch=128 -o small | choreo check -", "Hand the run on"),
    ("choreo synth trajectories --num 20 --test 20 --grid 0 -q -o tiny > /dev/null;"
     " printf 'name: quick\\nabout: moments\\ntrain: {encoder: moments, epochs: 1, pool: 1}\\n' > quick.yaml;"
     " choreo train video tiny --branch quick.yaml --seeds 0,1 --device cpu -q -o raced",
     "A branch with two seeds, each in a process of its own; more --branch run beside it"),
    ("choreo train lifting --set dancers=4 --epochs 1 -o lift", "Image points to joints, from synthetic dances"),
)  # fmt: skip
# Options that a recipe may take or not.
CHOSEN = ("split", "fold", "rps", "targets", "mode", "form", "latents", "controls", "pairs")


@app.command()
def train(
    recipe: o.Recipe,
    source: o.Input = None,
    *,
    out: o.Out = None,
    sets: options.Sets = None,
    config: options.ConfigFile = None,
    epochs: o.Epochs = None,
    seed: options.Seed = 0,
    seeds: o.Seeds = "",
    only: o.Only = None,
    device: options.Device = "auto",
    resume: o.Resume = "auto",
    overfit: o.Overfit = 0,
    dry_run: o.DryRun = False,
    split: options.Split = None,
    fold: options.Fold = None,
    rps: options.RpsRun = None,
    targets: o.Targets = None,
    pairs: o.Pairs = None,
    mode: o.Mode = None,
    form: o.Form = None,
    latents: o.Latents = None,
    controls: o.Controls = None,
    sync: o.Sync = "",
    branch: o.Branch = None,
    per_device: o.PerDevice = 0,
    tensorboard: o.TensorBoard = False,
    wandb: o.Wandb = False,
    root: options.Roots = None,
    force: options.Force = False,
    wait: options.Wait = 0.0,
    json: options.Json = False,
    table: options.TableOut = False,
    quiet: options.Quiet = False,
    log_json: options.LogJson = None,
) -> int:
    """Train one recipe: rps, mapper, lookahead, gesture, video, lifting or reward.

    rps learns from frames (of pair, of synth sessions, a pack, a Parquet); the others read the run of rps, or frames
    with --rps. lifting learns from motions seen by random cameras, --pairs, or, synthetic, --set dancers=60. OUT
    receives the model, its deployable twins, metrics.json, log.jsonl, status.json and, last, run.json.

    A run that is stopped or killed keeps its state: the same command goes on from there, to the same result.
    With --branch each branch and seed is a run in a process of its own, over --device cuda:0,cuda:1 and --per-device K.
    """
    given = dict(locals())  # what was asked for, by name
    if branch or per_device:
        from commands.train_branches import train_branches

        return train_branches(given)
    from choreo_cli.config import load
    from choreo_cli.runtime import choose_device
    from choreo_cli.training import settings, track
    from choreo_cli.training.job import Asked
    from choreo_cli.training.seeds import need_free

    if resume not in ("auto", "no"):
        raise UsageError(f"--resume {resume} is not auto or no")
    several = settings.seeds_of(seeds, only, seed)
    need_free(None if dry_run or wait else out, several, only)
    module = settings.lane(recipe)
    chosen = settings.options_of(recipe, module, {name: given[name] for name in CHOSEN})
    changes = settings.parse_sets([*(sets or []), *([f"epochs={epochs}"] if epochs else [])])
    resolved = settings.resolve(module.Config, None if config is None else load(config, module.Config), changes)
    if out is None and not dry_run:
        raise UsageError("missing option '-o' / '--out'", hint="see choreo train --help")
    track.need(tensorboard, wandb)
    place, reason = choose_device(device)
    job = _job(module, recipe, source, resolved, chosen, several[0] if several else seed, root)
    asked = Asked(recipe, module, job, place, reason, overfit, resume == "auto", force)
    if out is None or dry_run:
        return _show_plan(asked, json=json, table=table)
    if wandb:
        os.environ.update(track.WANDB_ENV)
    trackers = track.makers(tensorboard, wandb, resolved)
    doc = _train_all(asked, several, only, out, (sync, trackers), wait=wait, quiet=quiet, log=log_json)
    if doc:
        _show_run(doc, out, json=json, table=table)
    return int(ExitCode.OK)


def _job(
    module: Any, recipe: str, source: Path | None, config: Any, chosen: dict[str, Any], seed: int, root: Any
) -> Job:
    from choreo_cli.training.recipe import Job
    from choreo_cli.training.source import manifest_of, stands_alone

    named = source if source is not None and str(source) != "-" else None
    file = manifest_of(named, module.READS) if named is not None else None
    read = file or (named is None and not (source is None and stands_alone(module, config, chosen)))
    manifest = streams.read_manifest(file, f"train {recipe}", module.READS) if read else None
    return Job(named, manifest, config, seed, chosen, options.root_overrides(root))


def _show_plan(asked: Asked, *, json: bool, table: bool) -> int:
    from choreo_cli.training import plan
    from choreo_cli.training.job import open_job
    from formats.sealed import dumps

    found = plan.dry_run(open_job(asked))
    lines = partial(streams.columns, plan.rows(found), ("what", "value"))
    streams.emit(dumps(found), lines, out=None, json=json, as_table=table, keep="nothing was written; -o DIR trains it")
    return int(ExitCode.OK)


def _show_run(doc: bytes, out: Path, *, json: bool, table: bool) -> None:
    from choreo_cli.training.table import run_table

    lines = partial(run_table, doc, out, streams.columns)
    streams.emit(doc, lines, out=None, json=json, as_table=table, keep=f"kept in {out}; see choreo report {out}")


def _train_all(
    asked: Asked, seeds: list[int], only: int | None, out: Path, carried: tuple[str, Any], *, wait: float, quiet: bool,
    log: Path | None,
) -> bytes:  # fmt: skip
    """One run, or each seed in a folder of its own and then the summary; with `--only` the run itself."""
    from choreo_cli.outputs import OutputFolder
    from choreo_cli.progress import Progress
    from choreo_cli.training import job, sync
    from choreo_cli.training import seeds as many

    with Progress(f"train {asked.recipe}", quiet=quiet, log=log) as bar:
        copy = sync.Sync(out, carried[0], os.environ, bar.note) if carried[0] else None
        around = job.Around(sys.argv[1:], bar, bar.note, copy, carried[1])
        if not seeds:
            return _train(asked, out, around, wait)
        around = replace(around, starting=partial(many.invalidate, out))
        for number in seeds if only is None else [only]:
            doc = _train(asked.with_seed(number), out / many.folder_of(number), around, wait)
        if not doc:
            return doc
        whole = many.summarise(doc, out, seeds, partial(OutputFolder, out, "run"), around, wait)
        return whole if only is None else doc


def _train(asked: Asked, out: Path, around: Around, wait: float) -> bytes:
    """One run; empty in the processes of a torchrun launch that do not write."""
    from choreo_cli.outputs import OutputFolder, output_folder
    from choreo_cli.runtime import process_rank
    from choreo_cli.training import job

    opened = job.open_job(asked)
    if process_rank():
        job.follow(opened, OutputFolder(out, "run", opened.created_by))
        return b""
    with output_folder(out, "run", opened.created_by, wait_s=wait) as folder:
        return job.run(opened, folder, around)
