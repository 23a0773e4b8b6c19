"""`choreo train video --branch`: several branches and seeds, each run in a process of its own."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

from choreo_cli import options, streams
from choreo_cli.errors import ExitCode, UsageError

REFUSED = (
    "only", "config", "seed", "split", "fold", "rps", "targets", "mode", "form", "latents", "controls", "pairs",
)  # fmt: skip


def train_branches(given: dict[str, Any]) -> int:
    """Train every branch file with every seed.

    Args:
        given: The options of `choreo train`, by name.
    """
    if given["recipe"] != "video" or not given["branch"]:
        what = "--branch" if given["branch"] else "--per-device"
        raise UsageError(f"{what} is for choreo train video SET --branch FILE")
    for name in REFUSED:
        if given[name] not in (None, 0):
            raise UsageError(
                f"--{name} does not go with --branch", hint="what a branch is lies in its file; see --seeds"
            )
    if given["resume"] not in ("auto", "no"):
        raise UsageError(f"--resume {given['resume']} is not auto or no")
    if given["out"] is None and not given["dry_run"]:
        raise UsageError("missing option '-o' / '--out'", hint="see choreo train --help")
    from choreo_cli.training import track

    track.need(given["tensorboard"], given["wandb"])
    wish = _wish(given)
    if given["dry_run"]:
        return _show_plan(wish, given)
    doc = _train(wish, given)
    from choreo_cli.training.table import run_table

    lines = partial(run_table, doc, wish.out, streams.columns)
    keep = f"kept in {wish.out}; see choreo status {wish.out}"
    streams.emit(doc, lines, out=None, json=given["json"], as_table=given["table"], keep=keep)
    return int(ExitCode.OK)


def _wish(given: dict[str, Any]) -> Any:
    """Everything checked before anything is started: files, settings, set, devices."""
    import msgspec

    import choreo_cli
    from choreo_cli.runtime import process_count
    from choreo_cli.training.settings import parse_sets, resolve, seeds_of
    from choreo_cli.trajectory.branches import read_branches
    from choreo_cli.trajectory.parallel_job import Wish
    from choreo_cli.trajectory.sets import open_set, set_file
    from choreo_cli.trajectory.video_config import READS

    if process_count() > 1:
        raise UsageError("--branch starts its own processes", hint="leave out torchrun")
    seeds = seeds_of(given["seeds"], None, 0) or [0]
    epochs = [f"epochs={given['epochs']}"] if given["epochs"] else []
    changes = parse_sets([*(given["sets"] or []), *epochs])
    if "branch" in changes:
        raise UsageError("--set branch: each branch has the name in its file")
    branches = read_branches(given["branch"])
    branches = [msgspec.structs.replace(b, train=resolve(type(b.train), b.train, changes)) for b in branches]
    manifest = streams.read_manifest(set_file(given["source"] or Path("-")), "train video", READS)
    of = open_set(manifest, options.root_overrides(given["root"]))
    out = given["out"] if given["out"] is not None else Path("OUT")
    return Wish(
        of.folder.resolve(), of.sha256, branches, seeds, out.resolve(), _devices(given["device"]), given["per_device"],
        (sys.executable, "-P", "-m", "choreo_cli"), _passed(given), Path(choreo_cli.__file__).resolve().parent.parent,
        given["force"],
    )  # fmt: skip


def _devices(asked: str) -> list[str]:
    """The devices, each of them there; torch itself, which takes seconds to load, is asked about accelerators only."""
    from importlib.util import find_spec

    from choreo_cli.errors import UnavailableError
    from choreo_cli.runtime import TORCH_LINE, choose_device
    from choreo_cli.trajectory.parallel import slots_of

    names = asked.split(",")
    slots_of(names, 1)
    if find_spec("torch") is None:
        raise UnavailableError("torch is not installed", hint=TORCH_LINE)
    return [name if name == "cpu" else choose_device(name)[0] for name in names]


def _passed(given: dict[str, Any]) -> tuple[str, ...]:
    """What every child gets as it was given here."""
    words = ["--resume", given["resume"]]
    words += ["--overfit", str(given["overfit"])] if given["overfit"] else []
    words += ["--tensorboard"] if given["tensorboard"] else []
    return tuple(words + (["--wandb"] if given["wandb"] else []))


def _show_plan(wish: Any, given: dict[str, Any]) -> int:
    from choreo_cli.trajectory.parallel_job import plan, plan_rows
    from formats.sealed import dumps

    found = plan(wish)
    lines = partial(streams.columns, plan_rows(found), ("run", "settings"))
    keep = "nothing was written; -o DIR trains them"
    streams.emit(dumps(found), lines, out=None, json=given["json"], as_table=given["table"], keep=keep)
    return int(ExitCode.OK)


def _train(wish: Any, given: dict[str, Any]) -> bytes:
    from choreo_cli.outputs import output_folder
    from choreo_cli.progress import Progress
    from choreo_cli.training.sync import Sync
    from choreo_cli.trajectory import parallel_job

    with (
        output_folder(wish.out, "run", parallel_job.provenance(wish), wait_s=given["wait"]) as folder,
        Progress("train video", quiet=given["quiet"], log=given["log_json"]) as bar,
    ):
        copy = Sync(wish.out, given["sync"], os.environ, bar.note) if given["sync"] else None
        heard = parallel_job.Listeners(sys.argv[1:], bar.note, bar, copy)
        return parallel_job.train(wish, folder, heard, os.environ)
