"""`choreo capture`: sensors and recordings of a body into clean choreo25, offline and live."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from choreo_cli import options, streams
from choreo_cli.errors import ExitCode, NoInputError, UsageError
from commands import capture_out as done
from commands.capture_options import Fps, Height, LifterRun, Rate, Source
from commands.capture_stream import stream

app = options.app()
EXITS = (
    ExitCode.NO, ExitCode.PARTIAL, ExitCode.DATA, ExitCode.NOINPUT, ExitCode.UNAVAILABLE, ExitCode.CANTCREAT,
    ExitCode.IO, ExitCode.TEMPFAIL,
)  # fmt: skip
EXAMPLES = (
    ("choreo synth sessions --sessions 1 --minutes 0.2 -o demo >/dev/null; choreo capture clean demo -o clean --table",
     "Smooth, limit the jerk, ground, lock the feet"),
    ("choreo capture sync clean -o synced --music demo/music/*.wav", "Warp it gently onto the beats of its music"),
)  # fmt: skip


@app.callback()
def capture() -> None:
    """Turn sensors and recordings of a body into clean choreo25."""


@app.command()
def lift(
    source: Source = None,
    *,
    out: options.OutDir,
    lifter: LifterRun = None,
    height: Height = None,
    fps: Fps = None,
    focal: Annotated[
        float | None, typer.Option("--focal", min=1, metavar="PX", help="Focal length.", callback=options.finite)
    ] = None,
    root: options.Roots = None,
    keep_going: options.KeepGoing = False,
    force: options.Force = False,
    wait: options.Wait = 0.0,
    json: options.Json = False,
    table: options.TableOut = False,
    quiet: options.Quiet = False,
) -> int:
    """Lift recordings of image points (OpenPose, COCO, MediaPipe) to 22 joints in space, with a trained network.

    Depth and scale of one camera are a guess from the stature (--height, 1.70 m).
    """
    from choreo_cli.motion.capture_lift import lifter_change
    from choreo_cli.motion.lifting import Lifter

    if lifter is None:
        raise UsageError("needs --lifter RUN", hint="choreo train lifting -o RUN makes one")
    change = lifter_change(
        lambda stature: Lifter.open(lifter, height_m=stature), height_m=height or 1.70, fps=fps, focal_px=focal
    )
    asked = {"height": height or 1.70, "fps": fps, "focal": focal, "lifter": done.sha_of(lifter)}
    job = done.Job("lift", asked, change, out, force, wait, keep_going)
    return job.run(done.work(source, out, root, "lift"), json=json, table=table, quiet=quiet)


@app.command()
def fuse(
    source: Source = None,
    *,
    out: options.OutDir,
    fps: Rate = 60.0,
    height: Height = None,
    lifter: LifterRun = None,
    keep_going: options.KeepGoing = False,
    force: options.Force = False,
    wait: options.Wait = 0.0,
    json: options.Json = False,
    table: options.TableOut = False,
    quiet: options.Quiet = False,
) -> int:
    """Fuse recorded streams of cameras, a watch and head tracking into one clip, by their times.

    IN is JSON Lines as man 7 choreo-capture describes: what each stream is, then one reading a line.
    """
    from choreo_cli.motion.capture_job import fuser

    change = fuser(fps, height, lambda head: done.lifters(head, lifter, height))
    asked = {"fps": fps, "height": height, "lifter": None if lifter is None else done.sha_of(lifter)}
    job = done.Job("fuse", asked, change, out, force, wait, keep_going)
    with streams.named_input(source, "capture fuse", "recording of streams") as path:
        return job.run(done.recordings(path, out), json=json, table=table, quiet=quiet)


@app.command()
def clean(
    source: Source = None,
    *,
    out: options.OutDir,
    smooth: Annotated[
        float, typer.Option("--smooth", min=0, max=2, metavar="S", help="Window; 0: none.", callback=options.finite)
    ] = 0.18,
    jerk: Annotated[
        float | None,
        typer.Option(
            "--jerk",
            min=0,
            metavar="M/S3",
            help="Limit; 0: none. Default: 2 x p99 of real clips at the frame rate.",
            callback=options.finite,
        ),
    ] = None,
    no_ground: Annotated[bool, typer.Option("--no-ground", help="Leave the floor where it is.")] = False,
    no_lock: Annotated[bool, typer.Option("--no-lock", help="Leave the feet as they are.")] = False,
    fps: Fps = None,
    root: options.Roots = None,
    keep_going: options.KeepGoing = False,
    force: options.Force = False,
    wait: options.Wait = 0.0,
    json: options.Json = False,
    table: options.TableOut = False,
    quiet: options.Quiet = False,
) -> int:
    """Clean motions: smooth without lag, limit the jerk, put the floor to 0, hold standing feet exactly.

    Contacts stay as they are and bones keep their lengths; slide and jerk before and after stand in motions.json.
    """  # fmt: skip
    from choreo_cli.motion.capture_job import cleaner
    from choreo_cli.motion.cleanup import CleanOptions

    change = cleaner(CleanOptions(smooth, jerk, not no_ground, not no_lock), fps)
    asked = {"smooth": smooth, "jerk": jerk, "ground": not no_ground, "lock": not no_lock, "fps": fps}
    job = done.Job("clean", asked, change, out, force, wait, keep_going)
    return job.run(done.work(source, out, root, "clean"), json=json, table=table, quiet=quiet)


@app.command()
def sync(
    source: Source = None,
    *,
    out: options.OutDir,
    music: Annotated[Path | None, typer.Option("--music", metavar="FILE", help="Sound that was danced to.")] = None,
    beats: Annotated[Path | None, typer.Option("--beats", metavar="FILE", help="Its beats, one time a line.")] = None,
    offset: Annotated[
        float, typer.Option("--offset", metavar="S", help="Music's time at the first frame.", callback=options.finite)
    ] = 0.0,
    least: Annotated[
        float, typer.Option("--least-gain", min=0, max=1, help="Gain asked for.", callback=options.finite)
    ] = 0.05,
    seed: options.Seed = 0,
    fps: Fps = None,
    root: options.Roots = None,
    keep_going: options.KeepGoing = False,
    force: options.Force = False,
    wait: options.Wait = 0.0,
    json: options.Json = False,
    table: options.TableOut = False,
    quiet: options.Quiet = False,
) -> int:
    """Warp motions in time, by .8 to 1.25, until their movement beats fall on the music's; the map lies beside each.

    Refused, with exit code 1, where random grids could be met as well: that dance does not follow these beats.
    """
    from choreo_cli.motion.capture_job import syncer

    if music is not None and beats is not None:
        raise UsageError("--music and --beats exclude each other", hint="give one")
    for name, file in (("music", music), ("beats", beats)):
        if file is not None and not file.is_file():
            raise NoInputError(f"--{name}: no file {file}")
    work = done.work(source, out, root, "sync")
    change = syncer(done.beats_of(work, music, beats), offset_s=offset, least=least, seed=seed, fps=fps)
    asked = {"offset": offset, "least": least, "fps": fps, "beats": done.sha_of(beats or music)}
    job = done.Job("sync", asked, change, out, force, wait, keep_going, seed)
    return job.run(work, json=json, table=table, quiet=quiet)


app.command()(stream)
