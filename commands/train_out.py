"""What the commands that train have in common: the job, its plan, the runs and what is shown of them."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from choreo_cli import options, streams
from choreo_cli.errors import ExitCode

if TYPE_CHECKING:
    from choreo_cli.training.job import Around, Asked
    from choreo_cli.training.recipe import Job


def job_of(
    module: Any, recipe: str, source: Path | None, config: Any, chosen: dict[str, Any], seed: int, root: Any
) -> Job:
    """What is to be trained on: the named input or stdin, read as the recipe's module says."""
    from choreo_cli.training.recipe import Job
    from choreo_cli.training.source import manifest_of, stands_alone

    named = source if source is not None and str(source) != "-" else None
    file = manifest_of(named, module.READS) if named is not None else None
    read = file or (named is None and not (source is None and stands_alone(module, config, chosen)))
    manifest = streams.read_manifest(file, f"train {recipe}", module.READS) if read else None
    return Job(named, manifest, config, seed, chosen, options.root_overrides(root))


def show_plan(asked: Asked, *, json: bool, table: bool) -> int:
    """Say what would be done, from a few real steps."""
    from choreo_cli.training import plan
    from choreo_cli.training.job import open_job
    from formats.sealed import dumps

    found = plan.dry_run(open_job(asked))
    lines = partial(streams.columns, plan.rows(found), ("what", "value"))
    streams.emit(dumps(found), lines, out=None, json=json, as_table=table, keep="nothing was written; -o DIR trains it")
    return int(ExitCode.OK)


def show_run(doc: bytes, out: Path, *, json: bool, table: bool) -> None:
    """Show a finished run: its manifest, or a table for a person."""
    from choreo_cli.training.table import run_table

    lines = partial(run_table, doc, out, streams.columns)
    streams.emit(doc, lines, out=None, json=json, as_table=table, keep=f"kept in {out}; see choreo report {out}")


def train_all(
    asked: Asked, seeds: list[int], only: int | None, out: Path, carried: tuple[str, Any], *, wait: float, quiet: bool,
    log: Path | None,
) -> bytes:  # fmt: skip
    """One run, or each seed in a folder of its own and then the summary; with `--only` the run itself."""
    from choreo_cli.outputs import OutputFolder
    from choreo_cli.progress import Progress
    from choreo_cli.training import job, sync
    from choreo_cli.training import seeds as many

    with Progress(asked.command, quiet=quiet, log=log) as bar:
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
