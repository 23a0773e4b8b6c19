"""`choreo render trajectories`: videos of a trajectory set as pictures, films or tables."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from choreo_cli import options, streams
from choreo_cli.errors import ExitCode, UsageError
from commands import render_options as given

if TYPE_CHECKING:
    from choreo_cli.trajectory.render_job import Asked

EXAMPLES = (
    ("choreo synth trajectories --num 20 --test 40 --grid 0 -o paths | choreo render trajectories - -o seen",
     "A contact sheet and a moving mosaic of test videos"),
    ("choreo render trajectories paths --rows 8 --style trail --cameras 2 --materialize parquet -o stored",
     "The first eight as trails, each from two sides, stored pixel by pixel"),
)  # fmt: skip


def trajectories(
    source: Annotated[
        Path | None, typer.Argument(metavar="SET", help="Folder or manifest of synth trajectories; - reads stdin.")
    ] = None,
    *,
    out: options.OutDir,
    split: Annotated[str, typer.Option("--split", metavar="test|grid|val|train", help="Which views.")] = "test",
    rows: Annotated[int, typer.Option("--rows", min=0, help="The first so many views; 0 for all.")] = 0,
    preview: Annotated[int, typer.Option("--preview", help="Videos on the sheet and in the mosaic, 1..64.")] = 16,
    materialize: Annotated[
        str | None, typer.Option("--materialize", metavar="parquet|npz|mp4", help="Also store all of them.")
    ] = None,
    style: Annotated[
        str | None, typer.Option("--style", metavar="dot|trail", help="Instead of the style of each view.")
    ] = None,
    cameras: Annotated[
        str | None,
        typer.Option(
            "--cameras", metavar="N|AZ:EL[,AZ:EL...]", help="From N sides, the view's own first, or from here (rad)."
        ),
    ] = None,
    engine: given.Engine = "auto",
    root: options.Roots = None,
    force: options.Force = False,
    wait: options.Wait = 0.0,
    json: options.Json = False,
    table: options.TableOut = False,
    quiet: options.Quiet = False,
    log_json: options.LogJson = None,
) -> int:
    """Draw videos of a trajectory set: contact sheet, moving mosaic, and with --materialize the videos themselves.

    A video is drawn from its row whenever it is needed; only what is frozen is stored. parquet and npz hold the exact
    grey levels, with the curves and the views they were drawn from: a set of its own. mp4 needs the extra `video` and
    brings an annotation for each film. Files are drawn by the numpy engine, whose bytes depend on nothing that is
    installed; numba, within 1 grey level of it, when it is named.

    OUT receives sheet.png, preview.png and, last, videos.json, or trajectories.json with parquet and npz.
    """
    from choreo_cli.trajectory.render_job import Asked, check
    from choreo_cli.trajectory.sets import open_set, set_file

    seen, around = sides(cameras)
    asked = Asked(split, rows, preview, materialize or "none", style or "", seen, around, engine)
    manifest = streams.read_manifest(set_file(source or Path("-")), "render trajectories", ("choreo.trajectories",))
    of = open_set(manifest, options.root_overrides(root))
    check(asked, of)
    inputs = [{"role": "trajectories", "sha256": of.sha256, "schema": manifest.schema}]
    doc, keep = _write(asked, of, inputs, out, force=force, wait=wait, quiet=quiet, log=log_json)
    streams.emit(doc, partial(_table, doc), out=None, json=json, as_table=table, keep=keep)
    return int(ExitCode.OK)


def sides(text: str | None) -> tuple[tuple[tuple[float, float], ...], int]:
    """`--cameras` as (azimuth, elevation) pairs and a number of sides. Raises UsageError."""
    if text is None:
        return (), 1
    if text.isascii() and text.isdigit():
        return (), int(text[:6])
    wrong = UsageError(f"--cameras {text!r} is not N or AZ:EL[,AZ:EL...]", hint="angles in rad, elevation -1.4..1.4")
    found = []
    for one in text.split(","):
        try:
            azimuth, elevation = (float(part) for part in one.split(":"))
        except ValueError:
            raise wrong from None
        if not (abs(azimuth) <= 100 and abs(elevation) <= 1.4):
            raise wrong
        found.append((azimuth, elevation))
    return tuple(found), 1


def _write(
    asked: Asked, of: Any, inputs: list[dict[str, Any]], out: Path, *, force: bool, wait: float, quiet: bool, log: Any
) -> tuple[bytes, str]:
    from dataclasses import asdict
    from json import dumps

    from choreo_cli.outputs import output_folder
    from choreo_cli.progress import Progress
    from choreo_cli.runtime import provenance
    from choreo_cli.trajectory.render_job import kind_of, write

    params = {**asdict(asked), "engine": asked.drawn_by, "cameras": [list(c) for c in asked.cameras]}
    made_by = provenance("render trajectories", params, inputs)
    kind = kind_of(asked)
    if out.resolve() == of.folder.resolve():
        raise UsageError(f"-o {out} is the set itself", hint="name another folder")
    with (
        output_folder(out, kind, made_by, wait_s=wait) as folder,
        Progress("render trajectories", quiet=quiet, log=log) as bar,
    ):
        before = folder.begin(force)
        if before is not None:
            return before, folder.already
        made = write(of, asked, out, {"choreo": dumps(made_by, sort_keys=True)}, bar)
        for name, (role, sha) in made.files.items():
            folder.add(role, name, sha)
        return folder.finish(made.entries, ExitCode.OK, sys.argv[1:]), f"kept in {out}; see {out / 'sheet.png'}"


def _table(document: bytes) -> list[str]:
    """What was drawn, for a person."""
    from formats.manifest import decode

    found = decode(document)
    if found.kind == "choreo.trajectories":
        rows = [(e["id"], str(e["rows"]), f"{e['size']} px", e["path"]) for e in found.entries]
        return streams.columns(rows, ("table", "rows", "size", "file"))
    lines = [
        (e["source"], f"{e['camera']['azimuth']:.2f}", f"{e['camera']['elevation']:.2f}", e["path"] or "sheet.png")
        for e in found.entries
    ]
    return streams.columns(lines, ("video", "azimuth", "elevation", "file"))
