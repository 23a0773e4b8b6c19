"""`choreo inspect`: look inside any file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from choreo_cli import options, streams
from choreo_cli.errors import ExitCode, NoInputError, UsageError

if TYPE_CHECKING:
    from choreo_cli.report.content import Content

app = options.app()
EXITS = (ExitCode.NO, ExitCode.DATA, ExitCode.NOINPUT, ExitCode.CANTCREAT, ExitCode.IO, ExitCode.CONFIG)
EXAMPLES = (
    ("choreo inspect dataset/frames.parquet", "Ranges, gaps, masks and histograms"),
    ("choreo inspect dataset/frames.parquet --plot frames.png", "Motion energy, heart rate and beat in one picture"),
    ("choreo inspect dataset/pairs.json --lines | head -n 3", "Entries for jq, miller or duckdb"),
    ("choreo inspect dataset/frames.parquet --to csv -o frames.csv", "A spreadsheet"),
    (
        "choreo inspect poses.json --suggest-map > map.yaml; choreo inspect poses.json --map map.yaml",
        "Keys of your own",
    ),
)


@app.command()
def inspect(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="Any file, or an output folder; - or nothing reads stdin.")
    ] = None,
    plot: Annotated[Path | None, typer.Option("--plot", metavar="PNG", help="Draw it into this picture.")] = None,
    session: Annotated[
        str | None, typer.Option("--session", metavar="ID", help="Which session of a file with several to draw.")
    ] = None,
    lines: Annotated[bool, typer.Option("--lines", help="Print entries or rows as JSON Lines.")] = False,
    to: Annotated[Literal["csv"] | None, typer.Option("--to", metavar="csv", help="Print rows as CSV.")] = None,
    out: options.OutFile = None,
    map: Annotated[
        Path | None, typer.Option("--map", metavar="YAML", help="Read poses through a map of your own keys.")
    ] = None,
    suggest_map: Annotated[bool, typer.Option("--suggest-map", help="Print a guessed map of FILE's keys.")] = False,
    fps: Annotated[
        float | None,
        typer.Option("--fps", min=0.01, help="Rate of poses whose file has none.", callback=options.finite),
    ] = None,
    json: options.Json = False,
    table: options.TableOut = False,
) -> int:
    """Look inside any file: schema, ranges, gaps, histograms, a picture.

    Reads every artefact of choreo and every foreign format that discover knows. The events of a performance are
    diagnosed: a lost port, a silent sensor, a late clock and so on, when, for how long, and what to do. Exit 1 when a
    bound of the file's own schema is broken.
    """
    from choreo_cli.report.content import How, open_content

    if sum((lines, to is not None, suggest_map)) > 1:
        raise UsageError("--lines, --to and --suggest-map each print something else", hint="choose one")
    with streams.named_input(file, "inspect", "file") as path:
        if suggest_map:
            return _suggest(path, out)
        content = open_content(path, How(_load_map(map), fps, session))
        if plot is not None:
            _draw(content, plot, session)
        if lines or to is not None:
            from choreo_cli.report import rows

            _print(rows.lines(content) if lines else rows.to_csv(content), out)
        elif plot is None or json or table or out is not None:
            _show(content, out, json, table)
        return ExitCode.NO if content.problems else ExitCode.OK


def _load_map(path: Path | None) -> dict[str, object] | None:
    if path is None:
        return None
    from formats.foreign.mapping import load_map

    if not path.exists():
        raise NoInputError(f"no map {path}", hint="choreo inspect FILE --suggest-map prints one")
    return load_map(path)


def _suggest(file: Path, out: Path | None) -> int:
    from formats.foreign.mapping_suggest import dump_map, suggest_map
    from formats.foreign.source import Source

    _print([dump_map(suggest_map(Source.of(file))).encode("utf-8", "replace")], out)
    return ExitCode.OK


def _draw(content: Content, target: Path, session: str | None) -> None:
    from choreo_cli.report.plots import picture

    streams.write_file(target, picture(content, session))


def _print(blocks: Iterable[bytes], out: Path | None) -> None:
    if out is not None and str(out) != "-":
        streams.write_file(out, b"".join(blocks))
        return
    for block in blocks:
        streams.write_stdout(block)


def _show(content: Content, out: Path | None, json: bool, table: bool) -> None:
    from json import dumps

    from choreo_cli.report import listing

    found = listing.record(content)
    lines = listing.facts_lines(found)
    rows = listing.column_rows(found)
    if rows:
        lines += ["", *streams.columns(rows, listing.HEADER)]
    lines += listing.problem_lines(found)
    document = (dumps(found, ensure_ascii=False, indent=1, allow_nan=False) + "\n").encode("utf-8", "replace")
    keep = "keep it with -o FILE.json, draw it with --plot FILE.png"
    streams.emit(document, lines, out=out, json=json, as_table=table, keep=keep)
