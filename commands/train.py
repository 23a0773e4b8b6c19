"""`choreo train`: train one recipe on frames, or on a model that was trained before."""

from __future__ import annotations

import os

from choreo_cli import options
from choreo_cli.errors import ExitCode, UsageError
from commands import train_options as opt
from commands.train_out import job_of, show_plan, show_run, train_all

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
    recipe: opt.Recipe,
    source: opt.Input = None,
    *,
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
    split: options.Split = None,
    fold: options.Fold = None,
    rps: options.RpsRun = None,
    targets: opt.Targets = None,
    pairs: opt.Pairs = None,
    mode: opt.Mode = None,
    form: opt.Form = None,
    latents: opt.Latents = None,
    controls: opt.Controls = None,
    sync: opt.Sync = "",
    branch: opt.Branch = None,
    per_device: opt.PerDevice = 0,
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
    """Train one recipe: rps, mapper, lookahead, gesture, video, lifting, reward, flow or ddim.

    rps learns from frames (of pair, of synth sessions, a pack, a Parquet); the others read the run of rps, or frames
    with --rps. lifting learns from motions seen by random cameras, --pairs, or --set dancers=60; flow and ddim from
    motions with music. OUT receives the model, its twins, metrics.json, log.jsonl, status.json and, last, run.json.

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
    job = job_of(module, recipe, source, resolved, chosen, several[0] if several else seed, root)
    asked = Asked(recipe, module, job, place, reason, overfit, resume == "auto", force)
    if out is None or dry_run:
        return show_plan(asked, json=json, table=table)
    if wandb:
        os.environ.update(track.WANDB_ENV)
    trackers = track.makers(tensorboard, wandb, resolved)
    doc = train_all(asked, several, only, out, (sync, trackers), wait=wait, quiet=quiet, log=log_json)
    if doc:
        show_run(doc, out, json=json, table=table)
    return int(ExitCode.OK)
