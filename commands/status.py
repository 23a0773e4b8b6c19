"""`choreo status`: how the runs under a folder are doing, and what this machine offers."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from choreo_cli import options, streams
from choreo_cli.errors import ExitCode, UsageError

app = options.app()
EXITS = (ExitCode.NO, ExitCode.NOINPUT, ExitCode.UNAVAILABLE)
EXAMPLES = (
    ("choreo train rps dataset --epochs 1 -q -o runs/rps > /dev/null; choreo status runs", "How all runs are doing"),
    ("choreo status runs --follow", "Until all of them have ended"),
    ("choreo status --env", "What this machine offers, and why"),
)


@app.command()
def status(
    folders: Annotated[
        list[Path] | None, typer.Argument(metavar="DIR...", help="Run folders, or folders above them.")
    ] = None,
    *,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until no run is at work; Ctrl-C ends it.")] = False,
    interval: Annotated[
        float,
        typer.Option(
            "--interval",
            min=0.1,
            metavar="SECONDS",
            help="Of --follow: time between two looks.",
            callback=options.finite,
        ),
    ] = 5.0,
    stale_after: Annotated[
        float,
        typer.Option(
            "--stale-after",
            min=1,
            metavar="SECONDS",
            help="A heartbeat older than this is stale.",
            callback=options.finite,
        ),
    ] = 60.0,
    env: Annotated[
        bool, typer.Option("--env", help="Accelerators, torch, memory, and the device that is taken.")
    ] = False,
    device: Annotated[
        str, typer.Option("--device", metavar="auto|cpu|cuda|mps", help="Of --env: is this one there?")
    ] = "auto",
    json: options.Json = False,
    table: options.TableOut = False,
) -> int:
    """Tell how the trainings under DIR are doing, from the heartbeats in their status.json.

    A run is stale when it says that it is running but its heartbeat is old, or its process on this machine is gone. A
    copy made by --sync is judged by its heartbeat alone. Exit 1 when a run failed or is stale.

    In a pipe: one JSON document; with --follow JSON Lines, a line for every run that changed.
    """
    if env:
        if folders or follow:
            raise UsageError("--env looks at this machine, not at runs", hint="leave out DIR and --follow")
        return _environment(device, json=json, table=table)
    if not folders:
        raise UsageError("a folder is needed", hint="name the -o of choreo train, or see choreo status --env")
    from choreo_cli.training import status as runs

    look = partial(runs.find, folders, stale_s=stale_after)
    as_lines = not table and (json or not streams.is_terminal(sys.stdout))
    if follow:
        return _follow(look, interval, as_lines)
    found = look()
    lines = partial(streams.columns, [runs.row(e) for e in found], runs.HEADER)
    keep = f"{len(found)} run{'s' if len(found) > 1 else ''}; --follow goes on looking"
    streams.emit(runs.document(found), lines, out=None, json=json, as_table=table, keep=keep)
    return runs.exit_code(found)


def _follow(look: Any, interval: float, as_lines: bool) -> int:
    """JSON Lines of what changed, or the table each time it changed."""
    from choreo_cli.training import status as runs
    from formats.manifest import entry_line

    told: dict[str, Any] = {}
    count = 0
    if as_lines:
        streams.write_stdout(entry_line({"schema": "choreo.status/1"}) + b"\n")
    found: list[dict[str, Any]] = []
    for found in runs.follow(look, interval):
        changed = [e for e in found if told.get(e["path"]) != _said(e)]
        told = {e["path"]: _said(e) for e in found}
        if as_lines:
            streams.write_stdout(b"".join(entry_line(e) + b"\n" for e in changed))
        elif changed:
            rows = streams.columns([runs.row(e) for e in found], runs.HEADER)
            streams.write_stdout(("\n".join([*rows, ""]) + "\n").encode("utf-8", "replace"))
        count += len(changed)
    if as_lines:
        streams.write_stdout(entry_line({"end": True, "n": count}) + b"\n")
    return runs.exit_code(found)


def _said(entry: dict[str, Any]) -> tuple[Any, ...]:
    """What makes a new line worth printing: everything but the age and the heartbeat itself."""
    return tuple(v for k, v in entry.items() if k not in ("age_s", "updated_us", "eta_s"))


def _environment(device: str, *, json: bool, table: bool) -> int:
    from choreo_cli.runtime import choose_device
    from choreo_cli.training import environment
    from formats.sealed import dumps

    found = environment.survey(os.environ)
    lines = partial(streams.columns, environment.rows(found), ("what", "value"))
    streams.emit(dumps(found), lines, out=None, json=json, as_table=table, keep="--device cuda checks one of them")
    if device != "auto":
        choose_device(device)
    return int(ExitCode.OK)
