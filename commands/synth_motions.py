"""`choreo synth motions`: a procedural dancer for training, with its music."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from choreo_cli import options, streams
from choreo_cli.errors import ExitCode
from commands.synth_out import Made, numbers, write

if TYPE_CHECKING:
    from choreo_cli.progress import Progress


def motions(
    *,
    out: options.OutDir,
    count: Annotated[int, typer.Option("--clips", help="How many clips.")] = 64,
    seconds: Annotated[float, typer.Option("--seconds", help="Length of each.", callback=options.finite)] = 10.0,
    fps: Annotated[float, typer.Option("--fps", help="Frames per second.", callback=options.finite)] = 30.0,
    bpm: Annotated[
        str, typer.Option("--bpm", metavar="BPM[,BPM...]", help="Tempi that cycle over clips; drawn when left out.")
    ] = "",
    styles: Annotated[
        str, typer.Option("--styles", metavar="NAME[,NAME...]", help="groove, hiphop, house, latin, locking, lyrical.")
    ] = "",
    seed: options.Seed = 0,
    jobs: options.Jobs = 1,
    force: options.Force = False,
    wait: options.Wait = 0.0,
    json: options.Json = False,
    table: options.TableOut = False,
    quiet: options.Quiet = False,
    log_json: options.LogJson = None,
) -> int:
    """Make synthetic dances to train on: choreo25 clips that follow their own music.

    OUT receives clips/ (choreo25), music/ (WAV) and, last, motions.json with captions, splits by dancer and the truth:
    tempo, beats and phrases. Moves land on the beat, their size follows the music's energy and their figures its
    phrases; tempo, phase and form are drawn anew for every clip. Clip N depends on the seed and N alone.
    """
    from dataclasses import asdict

    from choreo_cli.motion.dancer_set import DanceSetOptions, check_options, write_dances
    from choreo_cli.runtime import core_count

    names = tuple(s.strip() for s in styles.split(",") if s.strip())
    asked = DanceSetOptions(count, seconds, fps, numbers("--bpm", bpm), names, seed)
    check_options(asked)

    def make(_: dict[str, Any], bar: Progress) -> Made:
        entries, files = write_dances(asked, out, bar, jobs=core_count(jobs))
        return entries, ((role, name, sha) for name, (role, sha) in files.items())

    doc, keep = write("motions", make, asdict(asked), seed, out, force=force, wait=wait, quiet=quiet, log=log_json)
    streams.emit(doc, partial(_rows, doc), out=None, json=json, as_table=table, keep=keep)
    return int(ExitCode.OK)


def _rows(document: bytes) -> list[str]:
    from formats.manifest import decode

    header = ("clip", "frames", "bpm", "style", "dancer", "split", "danced")
    rows = [
        (e["path"], str(e["n_frames"]), f"{e['report']['bpm']:.1f}", e["report"]["style"], e["performer"], e["split"],
         e["captions"][0])
        for e in decode(document).entries
    ]  # fmt: skip
    return streams.columns(rows, header)
