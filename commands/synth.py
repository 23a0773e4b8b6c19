"""`choreo synth`: make openly synthetic material with known truth."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from choreo_cli import options, streams
from choreo_cli.errors import ExitCode, UsageError
from commands.synth_motions import motions
from commands.synth_out import Made, numbers, write
from commands.synth_trajectories import trajectories

if TYPE_CHECKING:
    from choreo_cli.progress import Progress

app = options.app()
EXITS = (ExitCode.CANTCREAT, ExitCode.IO, ExitCode.TEMPFAIL)
EXAMPLES = (
    (
        "choreo synth sessions --sessions 5 --minutes 3 --bpm 120 --seed 0 -o demo",
        "Five sessions with their recordings",
    ),
    (
        "choreo synth sessions --minutes 1 -o demo >/dev/null; choreo discover demo | choreo pair -o paired",
        "Pair them again",
    ),
    (
        "choreo synth sessions --minutes 1 --offset-s 0.12 --drift-ppm 80 --scratch-snr 5 -o hard",
        "Clocks that are wrong",
    ),
    ("choreo synth sessions --minutes 1 --decoupled -o control", "The negative control of every metric"),
    ("choreo synth motions --clips 8 --seconds 5 -o dances", "Dances with their music, to train on"),
    ("choreo synth trajectories --num 40 --test 40 --grid 4 -o curves", "Curves in space and the rows of their videos"),
)


@app.callback()
def synth() -> None:
    """Make openly synthetic material with known truth."""


app.command()(motions)


@app.command()
def sessions(
    *,
    out: options.OutDir,
    count: Annotated[int, typer.Option("--sessions", help="How many sessions.")] = 5,
    minutes: Annotated[float, typer.Option("--minutes", help="Length of each.")] = 3.0,
    bpm: Annotated[str, typer.Option("--bpm", metavar="BPM[,BPM...]", help="Tempi; they cycle over sessions.")] = "120",
    seed: options.Seed = 0,
    decoupled: Annotated[bool, typer.Option("--decoupled", help="Motion and heart of another performance.")] = False,
    dropout: Annotated[
        list[str] | None, typer.Option("--dropout", metavar="MODALITY=FRACTION", help="mot, hr, aud, ctx; repeatable.")
    ] = None,
    nan_bursts: Annotated[int, typer.Option("--nan-bursts", help="Short runs of nulls in single columns.")] = 0,
    ramp: Annotated[float, typer.Option("--ramp", help="Tempo change over a session: 0.1 ends 10 % faster.")] = 0.0,
    hr_tau: Annotated[float, typer.Option("--hr-tau", metavar="SECONDS", help="How slowly the heart follows.")] = 1.5,
    pose_fps: Annotated[float, typer.Option("--pose-fps", help="Rate of the pose log.")] = 30.0,
    pose_noise: Annotated[float, typer.Option("--pose-noise", metavar="METRES", help="Noise of the pose log.")] = 0.0,
    offset_s: Annotated[
        str, typer.Option("--offset-s", metavar="S[,S...]", help="True clock offset minus what the clocks say.")
    ] = "0",
    drift_ppm: Annotated[
        str, typer.Option("--drift-ppm", metavar="PPM[,PPM...]", help="Drift of the device's clock.")
    ] = "0",
    scratch_snr: Annotated[
        float | None,
        typer.Option("--scratch-snr", metavar="DB", help="Also record the music in a room, at this level."),
    ] = None,
    still: Annotated[bool, typer.Option("--still", help="The person stands still.")] = False,
    wrong_track: Annotated[bool, typer.Option("--wrong-track", help="Another track than stated was played.")] = False,
    frames_only: Annotated[bool, typer.Option("--frames-only", help="No recordings, no music: frames alone.")] = False,
    jobs: options.Jobs = 1,
    force: options.Force = False,
    wait: options.Wait = 0.0,
    json: options.Json = False,
    table: options.TableOut = False,
    quiet: options.Quiet = False,
    log_json: options.LogJson = None,
) -> int:
    """Make synthetic sessions: frames, the recordings they could have come from, and the truth.

    OUT receives sessions.json (last), music/ with tracks and a playlist, and a folder per session with frames.parquet,
    meta.json, metadata.json, poses.jsonl, heart_rate.csv, device.wav (with --scratch-snr) and truth/. Session N depends
    on the seed and N alone, so more sessions leave the first ones as they were.
    """
    from dataclasses import asdict

    from choreo_cli.runtime import core_count
    from choreo_cli.sessions.synth import SynthOptions, write_sessions

    asked = SynthOptions(
        sessions=count, minutes=minutes, bpm=numbers("--bpm", bpm), seed=seed, hr_tau_s=hr_tau, decoupled=decoupled,
        wrong_track=wrong_track, still=still, dropout=fractions(dropout or []), nan_bursts=nan_bursts, ramp=ramp,
        material=not frames_only, pose_fps=pose_fps, pose_noise_m=pose_noise, offset_s=numbers("--offset-s", offset_s),
        drift_ppm=numbers("--drift-ppm", drift_ppm), scratch_snr_db=scratch_snr,
    )  # fmt: skip

    def make(_: dict[str, Any], bar: Progress) -> Made:
        made = write_sessions(asked, out, bar, jobs=core_count(jobs))
        names = made.files.items()
        return made.entries, (("frames" if n.endswith(".parquet") else "recording", n, sha) for n, sha in names)

    doc, keep = write("sessions", make, asdict(asked), seed, out, force=force, wait=wait, quiet=quiet, log=log_json)
    streams.emit(doc, partial(sessions_table, doc), out=None, json=json, as_table=table, keep=keep)
    return int(ExitCode.OK)


app.command()(trajectories)


def sessions_table(document: bytes) -> list[str]:
    """The sessions for a person."""
    from formats.manifest import decode

    header = ("session", "minutes", "bpm", "frames", "seed", "files")
    rows = [
        (e["session_id"], f"{e['duration_us'] / 6e7:.2f}", f"{e['bpm']:g}", str(e["n_frames"]), str(e["seed"]),
         str(len(e["files"])))
        for e in decode(document).entries
    ]  # fmt: skip
    return streams.columns(rows, header)


def fractions(values: list[str]) -> tuple[tuple[str, float], ...]:
    """`mot=0.1` values as sorted pairs. Raises UsageError when one is not that, or comes twice."""
    found: dict[str, float] = {}
    for value in values:
        name, eq, number = value.partition("=")
        if not eq or name in found:
            raise UsageError(f"--dropout {value!r} is not MODALITY=FRACTION, once each")
        found[name] = numbers("--dropout", number)[0] if number.strip() else -1.0
    return tuple(sorted(found.items()))
