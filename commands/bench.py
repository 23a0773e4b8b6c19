"""`choreo bench`: measure speed and memory beside a baseline and a floor."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from choreo_cli import options, streams
from choreo_cli.errors import ExitCode, NoInputError, UsageError
from choreo_cli.metrics.suites import LANES, SUITES

app = options.app()
EXITS = (ExitCode.NO, ExitCode.PARTIAL, ExitCode.DATA, ExitCode.NOINPUT, ExitCode.CANTCREAT, ExitCode.IO)
EXAMPLES = (
    ("choreo bench data --table", "Everything the data lane promises"),
    ("choreo bench data --only data.feed --only data.pair_rows -o feed.json", "Two rows, kept"),
    ("choreo bench data --quick | choreo inspect - --lines", "Small sizes, one row a line"),
    ("choreo bench train --table", "What training promises: time in arithmetic, memory over a thousand hours"),
    ("choreo bench generate --table", "A clip in 1 to 10 steps and by DDIM-50, beside the arithmetic floor"),
    ("choreo bench trajectory --quick --table", "Drawing beside the memory writes it cannot beat, steps, solver"),
    ("choreo bench live --table", "What run-live promises: model step, loop, cadence, OSC, memory"),
)


@app.command()
def bench(
    suite: Annotated[
        str, typer.Argument(metavar="data|train|motion|generate|trajectory|live", help="Which lane to measure.")
    ],
    *,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="NAME", help="This row, or all below it; repeatable.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes: whether it works, not how fast it is.")] = False,
    install: Annotated[
        bool, typer.Option("--install", help="Also install into fresh environments with pip; minutes, disk, network.")
    ] = False,
    device_file: Annotated[
        Path | None,
        typer.Option("--device-file", metavar="FILE", help="device-bench.json of a phone, for generate."),
    ] = None,
    listing: Annotated[bool, typer.Option("--list", help="Name the rows and leave.")] = False,
    out: options.OutFile = None,
    json: options.Json = False,
    table: options.TableOut = False,
    quiet: options.Quiet = False,
    log_json: options.LogJson = None,
) -> int:
    """Measure speed and memory of a lane: data (start-up, discover, features, pair, feed, memory), train, motion,
    generate, trajectory or live.

    Each row stands beside a baseline measured in the same run and beside its floor, the least it could cost. Nothing
    else should run on the machine. Exit 1 when a goal is missed; a row that cannot be judged says why and does not
    count; exit 3 when a measurement failed. Figures change from run to run, so the bytes do too.
    """
    if suite not in LANES:
        raise UsageError(f"no suite {suite!r}", hint=f"choose from {', '.join(LANES)}")
    if listing:
        streams.write_stdout("".join(f"{n}  {text}\n" for n, text in rows_of(suite).items()).encode())
        return ExitCode.OK
    names = chosen(only or [], suite)
    _need_device_file(device_file, suite)
    from choreo_cli import runtime
    from choreo_cli.progress import Progress
    from choreo_cli.report import bench_table
    from formats.manifest import Manifest, encode

    runtime.limit_threads(1)
    made_by = runtime.provenance(
        f"bench {suite}", {"only": names, "quick": quick, "install": install}, _inputs(device_file)
    )
    made_by["deterministic"] = False
    with Progress(f"bench {suite}", quiet=quiet, log=log_json) as bar:
        entries = measure(names or [suite], quick, install, bar, device_file)
        for line in bench_table.remarks(entries):
            bar.note(line)
    doc = encode(Manifest("choreo.metrics/1", made_by, entries))
    shown = partial(streams.columns, bench_table.rows(entries), bench_table.HEADER)
    streams.emit(doc, shown, out=out, json=json, as_table=table, keep="keep it with -o FILE, or pipe it on")
    if any(e["pass"] is False for e in entries):
        return ExitCode.NO
    return ExitCode.PARTIAL if any((e["why"] or "").startswith("failed: ") for e in entries) else ExitCode.OK


def _need_device_file(file: Path | None, suite: str) -> None:
    """Refuse a file that does not apply or cannot be read, before minutes are spent."""
    if file is None:
        return
    if suite != "generate":
        raise UsageError(f"--device-file does not apply to {suite}", hint="choreo bench generate")
    from formats import device_bench

    try:
        device_bench.read(file)
    except FileNotFoundError:
        raise NoInputError(f"no file {file}", hint="Bench.swift of choreo export swift writes one") from None


def _inputs(device_file: Path | None) -> list[dict[str, Any]]:
    if device_file is None:
        return []
    from formats.atomic import sha256_file
    from formats.device_bench import SCHEMA

    return [{"role": "device", "sha256": sha256_file(device_file), "schema": SCHEMA}]


def measure(
    names: list[str], quick: bool, install: bool, on_progress: Any, device_file: Path | None = None
) -> list[dict[str, Any]]:
    """Entries of the chosen rows, sorted by name; a package is measured only when a row of it is wanted."""
    from importlib import import_module

    from choreo_cli.errors import StorageError
    from formats.metrics import entry

    wanted = {m: s for m, s in SUITES.items() if any(covers(n, r) for n in names for r in s[1])}
    found = [load(names[0].split(".")[0])]
    for done, (module, (small, rows)) in enumerate(wanted.items()):
        on_progress(done, len(wanted), module)
        chosen_sizes = dict(small) if quick else {}
        if module.endswith(".bench_start"):
            chosen_sizes["lines"] = list(help_lines())
        if module.endswith(".bench_install"):
            chosen_sizes["install"] = install
        if module.endswith(".bench_device"):
            chosen_sizes["device_file"] = device_file
        try:
            found += import_module(module).bench(**chosen_sizes)
        except StorageError as e:  # a program that was measured failed: the other figures are kept
            found += [entry(r, None, "", "lower", status="insufficient", why=f"failed: {e}") for r in rows]
    on_progress(len(wanted), len(wanted))
    kept = [e for e in found[1:] if any(covers(n, e["name"]) for n in names)]
    return sorted([*kept, found[0]], key=lambda e: e["name"])


def load(suite: str) -> dict[str, Any]:
    """How busy the machine was before anything was measured, and which machine it is: in every document."""
    import os

    from choreo_cli.runtime import core_count, surroundings
    from formats.metrics import entry

    params = {**surroundings(), "cores": core_count(0), "threads": 1}
    return entry(f"{suite}.load", os.getloadavg()[0], "processes", "lower", params=params)


def rows_of(suite: str) -> dict[str, str]:
    """Rows of one suite and what they mean."""
    return {n: text for _, rows in SUITES.values() for n, text in rows.items() if n.startswith(f"{suite}.")}


def chosen(only: list[str], suite: str = "data") -> list[str]:
    """The names of `--only`, sorted. Raises UsageError for one that names no row."""
    rows = list(rows_of(suite))
    for name in only:
        if not any(covers(name, r) for r in rows):
            from difflib import get_close_matches

            near = get_close_matches(name, rows, 1)
            hint = f"did you mean: {near[0]}?" if near else f"see choreo bench {suite} --list"
            raise UsageError(f"--only {name!r} names no row", hint=hint)
    return sorted(set(only))


def covers(name: str, row: str) -> bool:
    """Whether a name means a row: the row, one above it (`data`), or one below it (`data.start_help.pair`)."""
    return row == name or row.startswith(f"{name}.") or name.startswith(f"{row}.")


def help_lines() -> Iterable[list[str]]:
    """Every command line that has a help page."""
    from choreo_cli.app import COMMANDS, load

    yield []
    for name in COMMANDS:
        yield [name]
        yield from ([name, sub] for sub in getattr(load(name), "commands", None) or ())
