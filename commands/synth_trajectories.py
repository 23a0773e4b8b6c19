"""`choreo synth trajectories`: curves in space and the recipes of their videos, with known truth."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from choreo_cli import options, streams
from choreo_cli.errors import ExitCode
from commands.synth_out import Made, write

if TYPE_CHECKING:
    from choreo_cli.progress import Progress


def trajectories(
    *,
    out: options.OutDir,
    num: Annotated[int, typer.Option("--num", help="Curves to train on; one in five validates.")] = 1200,
    test: Annotated[int, typer.Option("--test", help="New curves of the test set, one free view each.")] = 4000,
    grid: Annotated[int, typer.Option("--grid", help="New curves of the grid of noise, style and camera.")] = 200,
    seed: options.Seed = 42,
    size: Annotated[int, typer.Option("--size", metavar="PIXELS", help="Side of a frame.")] = 64,
    size_cue: Annotated[
        str, typer.Option("--size-cue", metavar="perspective|constant", help="Whether nearer dots are larger.")
    ] = "perspective",
    augment: Annotated[bool, typer.Option("--augment/--no-augment", help="180 views of each curve, or one.")] = True,
    materialize: Annotated[
        bool, typer.Option("--materialize", help="Also store the test videos, pixel by pixel.")
    ] = False,
    force: options.Force = False,
    wait: options.Wait = 0.0,
    json: options.Json = False,
    table: options.TableOut = False,
    quiet: options.Quiet = False,
    log_json: options.LogJson = None,
) -> int:
    """Make linear, circular, helical and parabolic curves, balanced, and the rows their videos are drawn from.

    OUT receives trajectories.json (last), curves.parquet (20 points, equation and sentence of each) and a table of
    views for train, val, test and grid. Curves are split before they are augmented. A video is drawn from its row when
    it is needed; --materialize keeps the test videos beside.
    """
    from dataclasses import asdict
    from json import dumps

    from choreo_cli.trajectory.sets import SetOptions, check_options, write_set

    asked = SetOptions(num=num, test=test, grid=grid, seed=seed, size=size, size_cue=size_cue, augment=augment)
    check_options(asked)
    params = {**asdict(asked), "materialize": materialize}

    def make(made_by: dict[str, Any], bar: Progress) -> Made:
        about = {"choreo": dumps(made_by, sort_keys=True)}
        made = write_set(asked, out, about, freeze=materialize, on_progress=bar)
        return made.entries, (("table", name, sha) for name, sha in made.files.items())

    doc, keep = write("trajectories", make, params, seed, out, force=force, wait=wait, quiet=quiet, log=log_json)
    streams.emit(doc, partial(set_table, doc), out=None, json=json, as_table=table, keep=keep)
    return int(ExitCode.OK)


def set_table(document: bytes) -> list[str]:
    """The tables of a set for a person."""
    from formats.manifest import decode

    rows = [
        (e["id"], str(e["rows"]), e["split"], f"{e['size']} px", e["size_cue"], e["path"])
        for e in decode(document).entries
    ]
    return streams.columns(rows, ("table", "rows", "split", "size", "size cue", "file"))
