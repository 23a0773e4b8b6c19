"""`choreo check`: verify schema, bounds and hashes of any artefact."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from choreo_cli import options, streams
from choreo_cli.errors import ExitCode, UsageError

app = options.app()
EXITS = (ExitCode.NO, ExitCode.DATA, ExitCode.NOINPUT)
EXAMPLES = (
    ("choreo check dataset", "Every file of an output folder against its manifest"),
    ("choreo check backup/inventory.json --root r0=recordings", "Recordings that have moved, against their inventory"),
    ("choreo discover recordings | choreo check", "What was just listed"),
)


@app.command()
def check(
    paths: Annotated[
        list[Path] | None, typer.Argument(metavar="PATH...", help="Files or folders; - or nothing reads stdin.")
    ] = None,
    root: options.Roots = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Verify schema, bounds and hashes of any artefact.

    Knows manifests, run records, tables, features, tensors, control maps, pictures, SHA256SUMS lists and every foreign
    format that discover reads. A manifest is followed to every file it names. One line for each thing that is wrong;
    exit 1 when there is any, 0 when all is whole.
    """
    from choreo_cli.progress import Progress
    from choreo_cli.report.verify_folder import Inspector

    with Progress("check", quiet=quiet) as progress:
        inspector = Inspector(options.root_overrides(root), lambda n: progress(n))
        piped = [str(p) for p in paths or []] in ([], ["-"])
        if piped:
            if sys.stdin is None or streams.is_terminal(sys.stdin):
                raise UsageError("needs a file or a folder: name one or pipe a manifest in", hint="see choreo check -h")
            inspector.stdin(sys.stdin.buffer.read())
        for path in [] if piped else paths or []:
            inspector.path(path)
    found = inspector.verdicts()
    bad = sum(not v.ok for v in found)
    if json:
        streams.write_stdout(_document([v.record() for v in found]))
    else:
        lines = [f"{v.path}: {problem}" for v in found for problem in v.problems]
        if streams.is_terminal(sys.stdout) and not quiet:
            lines += [f"{v.path}: note: {note}" for v in found for note in v.notes]
            lines.append(f"{len(found)} files, {bad} damaged" if bad else f"{len(found)} files, all whole")
        streams.write_stdout("".join(f"{line}\n" for line in lines).encode("utf-8", "replace"))
    return ExitCode.NO if bad else ExitCode.OK


def _document(records: list[dict[str, Any]]) -> bytes:
    """A JSON array, one file a line; bytes of a name that are not UTF-8 show as a replacement character."""
    from json import dumps

    lines = ",\n".join(dumps(r, ensure_ascii=False) for r in records)
    return f"[\n{lines}\n]\n".encode("utf-8", "replace")
