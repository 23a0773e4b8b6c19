"""`choreo retarget`: any motion into choreo25, and choreo25 into what other programs read."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from choreo_cli import options, streams
from choreo_cli.errors import ExitCode, NoInputError, UsageError
from commands.motion_input import work_of

if TYPE_CHECKING:
    from choreo_cli.motion.retarget import How
    from choreo_cli.motion.retarget_plan import Work

app = options.app()
EXITS = (
    ExitCode.PARTIAL, ExitCode.DATA, ExitCode.NOINPUT, ExitCode.CANTCREAT, ExitCode.IO, ExitCode.TEMPFAIL,
    ExitCode.UNAVAILABLE,
)  # fmt: skip
EXAMPLES = (
    ("choreo synth sessions --sessions 1 --minutes 0.2 -o dances >/dev/null; choreo retarget dances -o clips --table",
     "Every motion of a folder, with its round trip"),
    ("choreo retarget clips/motions.json --to bvh -o bvh", "For an animation program"),
    ("choreo retarget clips --to joints --resample 60 -o joints | choreo check -", "Smooth joints for display"),
    ("choreo retarget clips --mirror -o mirrored", "The same dances on the other side"),
)  # fmt: skip
LAYOUTS = ("choreo25", "bvh", "humanml3d", "smpl", "joints")


@app.command()
def retarget(
    source: Annotated[
        Path | None, typer.Argument(metavar="IN", help="A motion, a folder of them, or a manifest; - reads stdin.")
    ] = None,
    *,
    out: options.OutDir,
    to: Annotated[str, typer.Option("--to", metavar="|".join(LAYOUTS), help="Layout of what is written.")] = "choreo25",
    fps: Annotated[
        float | None,
        typer.Option("--fps", help="Frames per second of IN, instead of its own.", callback=options.finite),
    ] = None,
    scale: Annotated[
        float | None, typer.Option("--scale", help="Metres per unit of IN.", callback=options.finite)
    ] = None,
    height: Annotated[
        float | None,
        typer.Option("--height", metavar="M", help="Stature to scale to; 1.70 for training.", callback=options.finite),
    ] = None,
    map: Annotated[
        Path | None, typer.Option("--map", metavar="FILE", help="Names of joints or channels, YAML or JSON.")
    ] = None,
    body: Annotated[
        Path | None, typer.Option("--body", metavar="FILE", help="Offsets of the SMPL body IN was made with.")
    ] = None,
    mirror: Annotated[bool, typer.Option("--mirror", help="Left becomes right.")] = False,
    resample: Annotated[
        float | None, typer.Option("--resample", metavar="HZ", help="Rate of what is written.", callback=options.finite)
    ] = None,
    unit: Annotated[str, typer.Option("--unit", metavar="cm|m", help="Unit of a BVH that is written.")] = "cm",
    target: Annotated[
        Path | None, typer.Option("--target", metavar="FILE", help="Offsets of the body for humanml3d.")
    ] = None,
    root: options.Roots = None,
    jobs: options.Jobs = 1,
    keep_going: options.KeepGoing = False,
    force: options.Force = False,
    wait: options.Wait = 0.0,
    json: options.Json = False,
    table: options.TableOut = False,
    quiet: options.Quiet = False,
    log_json: options.LogJson = None,
) -> int:
    """Turn motion of any format into choreo25, or choreo25 into another.

    Reads BVH, ASF/AMC, AIST++ and AMASS, HumanML3D, C3D, TRC, MATLAB, arrays of joints, pose logs and choreo25. OUT
    receives a file per motion and, last, motions.json: where each came from, what was assumed, and the round trip in
    mm per joint. What cannot be read is listed in left_out.jsonl, and the exit code is then 3.

    Joints with names that nobody knows are named by --map: joints: {map: {theirs: ours}}.
    """
    from choreo_cli.runtime import provenance

    how = _how(to, fps, scale, height, map, body, mirror, resample, unit, target)
    work = work_of(source, out, root, "retarget")
    _spare(work, out, to)
    made_by = provenance("retarget", _parameters(how, map, body, target), work.inputs)
    shared: dict[str, Any] = {"jobs": jobs, "force": force, "wait": wait, "quiet": quiet, "log": log_json}
    doc, keep, code = _write(work, how, out, made_by, **shared)
    streams.emit(doc, partial(motions_table, doc), out=None, json=json, as_table=table, keep=keep)
    return ExitCode.OK if keep_going and code == ExitCode.PARTIAL else code


def _how(
    to: str, fps: float | None, scale: float | None, height: float | None, map: Path | None, body: Path | None,
    mirror: bool, resample: float | None, unit: str, target: Path | None,
) -> How:  # fmt: skip
    from choreo_cli.motion.export_joints import load_target
    from choreo_cli.motion.retarget import How
    from choreo_cli.motion.retarget_inputs import Asked, check_asked, load_map_file

    if to not in LAYOUTS:
        raise UsageError(f"no layout {to!r}", hint=f"choose from {', '.join(LAYOUTS)}")
    if unit not in ("cm", "m"):
        raise UsageError(f"--unit {unit!r} is not cm or m")
    if target is not None and to != "humanml3d":
        raise UsageError(f"--target does not apply to {to}", hint="it is for --to humanml3d")
    for name, file in (("map", map), ("body", body), ("target", target)):
        if file is not None and not file.is_file():
            raise NoInputError(f"--{name}: no file {file}")
    found = None if map is None else load_map_file(map)
    asked = Asked(fps, scale, height, found, None if body is None else str(body))
    check_asked(asked, resample)
    return How(to, asked, mirror, resample, unit, None if target is None else load_target(target))


def _parameters(how: How, *files: Path | None) -> dict[str, Any]:
    """What decides the result beside the inputs; files by their content."""
    from formats.atomic import sha256_file

    a = how.asked
    hashes = {k: sha256_file(f) for k, f in zip(("map", "body", "target"), files, strict=True) if f is not None}
    return {
        "to": how.to, "fps": a.fps, "scale": a.scale, "height": a.height, "mirror": how.mirror,
        "resample": how.resample, "unit": how.unit if how.to == "bvh" else None, **hashes,
    }  # fmt: skip


def _spare(work: Work, out: Path, to: str) -> None:
    from choreo_cli.motion.retarget import SUFFIX
    from choreo_cli.outputs import spare_inputs

    spare_inputs((i.path for i in work.items), out, "motions", (i.name + SUFFIX[to] for i in work.items))


def _write(
    work: Work, how: How, out: Path, made_by: dict[str, Any], *, jobs: int, force: bool, wait: float, quiet: bool,
    log: Any,
) -> tuple[bytes, str, int]:  # fmt: skip
    from choreo_cli.motion import retarget_job
    from choreo_cli.outputs import output_folder
    from choreo_cli.progress import Progress
    from choreo_cli.runtime import core_count

    with (
        output_folder(out, "motions", made_by, wait_s=wait) as folder,
        Progress("retarget", quiet=quiet, log=log) as bar,
    ):
        before = None if force else folder.done_before()
        if before is not None:
            return before, folder.already, folder.exit_before()
        done = retarget_job.run(work, how, folder, jobs=core_count(jobs), progress=bar, starting=folder.invalidate)
        for line in (*done.lines, *(f"left out {name}: {why}" for name, why in done.left_out)):
            bar.note(line)
        code = streams.partial(len(done.left_out), 0, False)
        return folder.finish(done.entries, code, sys.argv[1:], work.roots), f"kept in {out}", int(code)


def motions_table(document: bytes) -> list[str]:
    """The motions for a person."""
    from choreo_cli.motion.retarget_job import HEADER, table

    return streams.columns(table(document), HEADER)
