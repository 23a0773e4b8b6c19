"""`choreo pair`: match sessions to music, align their clocks, write frames and windows."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from choreo_cli import options, streams
from choreo_cli.errors import ExitCode, NoInputError

app = options.app()
EXITS = (ExitCode.NO, ExitCode.PARTIAL, ExitCode.DATA, ExitCode.NOINPUT, ExitCode.CANTCREAT, ExitCode.TEMPFAIL)
EXAMPLES = (
    ("choreo discover recordings | choreo pair -o dataset", "Pair what lies in a folder"),
    ("choreo pair inventory.json --split loso --preview -o dataset", "Leave one session out, and draw each alignment"),
    ("choreo discover aist | choreo pair --profile aistpp -o dataset", "A published set, by its naming rule"),
    ("choreo pair inventory.json --todo todo.csv -o dataset", "List the sessions that need an offset by hand"),
)


@app.command()
def pair(
    inventory: Annotated[
        Path | None, typer.Argument(metavar="INVENTORY", help="Manifest of choreo discover; - or nothing reads stdin.")
    ] = None,
    *,
    out: options.OutDir,
    rate: Annotated[int, typer.Option("--rate", help="Frames per second; a divisor of 1000000.")] = 50,
    split: Annotated[
        str, typer.Option("--split", metavar="hash|loso", help="80/10/10 by hash, or leave one session out.")
    ] = "hash",
    group: Annotated[
        str, typer.Option("--group", metavar="component|session|track", help="What the split keeps together.")
    ] = "component",
    previous: Annotated[
        Path | None, typer.Option("--previous", metavar="FILE", help="An earlier pairs.json whose splits win.")
    ] = None,
    overrides: Annotated[
        Path | None, typer.Option("--overrides", metavar="CSV", help="Known offsets: session,track,offset_s.")
    ] = None,
    todo: Annotated[
        Path | None, typer.Option("--todo", metavar="CSV", help="Write an overrides template of the refused sessions.")
    ] = None,
    tz: Annotated[
        str, typer.Option("--tz", metavar="HOURS", help="Offset of local times from UTC, like +2 or -03:30.")
    ] = "",
    track: Annotated[str, typer.Option("--track", help="The music of every session: a path or a title.")] = "",
    profile: Annotated[
        str,
        typer.Option(
            "--profile", metavar="aistpp|finedance|motorica", help="Match by the naming rule of a published set."
        ),
    ] = "",
    bpm: Annotated[
        float | None,
        typer.Option("--bpm", min=20, max=400, help="Tempo of the music when it is known.", callback=options.finite),
    ] = None,
    window: Annotated[int, typer.Option("--window", min=1, help="Frames in a window.")] = 64,
    stride: Annotated[int, typer.Option("--stride", min=1, help="Frames between the starts of windows.")] = 16,
    synthetic: Annotated[
        bool, typer.Option("--synthetic", help="Allow synthetic and real recordings together.")
    ] = False,
    preview: Annotated[bool, typer.Option("--preview", help="Draw and sound out each alignment (PNG, WAV).")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Print one pair worked through, on stderr.")] = False,
    root: options.Roots = None,
    seed: options.Seed = 0,
    keep_going: options.KeepGoing = False,
    force: options.Force = False,
    wait: options.Wait = 0.0,
    json: options.Json = False,
    table: options.TableOut = False,
    quiet: options.Quiet = False,
    log_json: options.LogJson = None,
) -> int:
    """Match sessions to music, align their clocks, write frames and windows.

    For each body recording: which track was playing, the clock offset and drift with method, interval and p-value, and
    whether the recordings themselves fix it (yes), fix it up to a beat (mod_beat), or not (no).

    OUT receives pairs.json (last), frames.parquet, context.parquet, features/, pack/, report.md and README.md.
    """
    from choreo_cli.sessions import pair_job
    from formats.manifest import resolve_roots

    manifest = streams.read_manifest(inventory, "pair", ("choreo.inventory",))
    roots = resolve_roots(manifest, options.root_overrides(root))
    _check_roots(manifest, roots)
    chosen: dict[str, Any] = {
        "rate": rate, "split": split, "group": group, "tz": tz, "track": track, "bpm": bpm, "window": window,
        "stride": stride, "synthetic": synthetic, "preview": preview,
    }  # fmt: skip
    if profile:
        chosen["profile"] = profile
    job = pair_job.plan(manifest, roots, chosen, seed, previous, overrides)
    again = force or todo is not None
    doc, keep, code = _write(job, out, todo, force=again, wait=wait, explain=explain, quiet=quiet, log=log_json)
    streams.emit(doc, partial(pair_table, doc), out=None, json=json, as_table=table, keep=keep)
    return ExitCode.OK if keep_going and code == ExitCode.PARTIAL else code


def _check_roots(manifest: Any, roots: dict[str, Path]) -> None:
    """Raise NoInputError when the recordings of a root have moved: half a dataset would be made in silence."""
    for used in sorted({e["root"] for e in manifest.entries}):
        if used in roots and not roots[used].is_dir():
            raise NoInputError(f"root {used}: no folder {roots[used]}", hint=f"say where it lies: --root {used}=DIR")


def _write(
    job: Any, out: Path, todo: Path | None, *, force: bool, wait: float, explain: bool, quiet: bool, log: Path | None
) -> tuple[bytes, str, int]:
    """Do the work unless it was done before; (manifest, what to tell a person, exit code)."""
    from choreo_cli.outputs import output_folder
    from choreo_cli.progress import Progress
    from choreo_cli.sessions import pair_job

    with (
        output_folder(out, "pairs", job.created_by, wait_s=wait) as folder,
        Progress("pair", quiet=quiet, log=log) as bar,
    ):
        before = folder.begin(force)
        if before is not None:
            return before, folder.already, folder.exit_before()
        made = pair_job.run(job, folder, bar, todo)
        code = ExitCode.NO if made.split_conflict else streams.partial(made.skipped, made.acknowledged, False)
        doc = folder.finish(made.entries, code, sys.argv[1:], job.roots)
        for line in pair_job.remarks(made, explain):
            bar.note(line)
        return doc, f"kept in {out}; see {out / 'report.md'}", int(code)


def pair_table(document: bytes) -> list[str]:
    """The pairs for a person."""
    from choreo_cli.sessions import pair_job

    header, rows = pair_job.table(document)
    return streams.columns(rows, header)
