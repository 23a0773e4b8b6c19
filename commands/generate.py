"""`choreo generate`: dances from music, of any length, between or after given frames, written or streamed."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from choreo_cli import options, streams
from choreo_cli.errors import DataError, ExitCode, UsageError
from commands import generate_options as given

if TYPE_CHECKING:
    from choreo_cli.generate.generate_job import How
    from choreo_cli.generate.generate_run import Music
    from choreo_cli.generate.sampling import Sampler

app = options.app()
EXITS = (
    ExitCode.PARTIAL, ExitCode.DATA, ExitCode.NOINPUT, ExitCode.UNAVAILABLE, ExitCode.CANTCREAT, ExitCode.IO,
    ExitCode.TEMPFAIL,
)  # fmt: skip
EXAMPLES = (
    ("choreo generate runs/flow recordings/music/track-0000.wav --seconds 6 -o dance", "Six seconds, one dance"),
    ("choreo generate runs/flow recordings/music/*.wav --clips 2 --seconds 3 --to bvh -o dances --table",
     "Two dances to each music, for an animation program"),
    ("choreo generate runs/flow recordings/music/track-0000.wav --seconds 3 --steps 2 --cfg 2.5 -o quick | "
     "choreo render motion - --make sheet -o seen >/dev/null", "Two steps, and a look at it"),
    ("choreo generate runs/flow recordings/music/track-0000.wav --seconds 4 --stream - | head -1 >/dev/null",
     "Frames for another program while they are made"),
)  # fmt: skip


@app.command()
def generate(
    model: given.Model,
    music: given.Music = None,
    *,
    out: given.Out = None,
    task: given.Task = None,
    keyframes: given.Keys = None,
    at: given.At = None,
    places: given.Places = False,
    clips: given.Clips = 1,
    seconds: given.Seconds = None,
    fps: given.Fps = None,
    steps: given.Steps = None,
    solver: given.Solver = None,
    cfg: given.Cfg = None,
    join: given.Join = "overlap",
    overlap: given.Overlap = None,
    to: given.To = "npz",
    no_lock: given.NoLock = False,
    stream: given.Stream = None,
    pace: given.Pace = "auto",
    backend: given.Backend = "auto",
    device: options.Device = "auto",
    threads: given.Threads = 1,
    seed: options.Seed = 0,
    keep_going: options.KeepGoing = False,
    force: options.Force = False,
    wait: options.Wait = 0.0,
    json: options.Json = False,
    table: options.TableOut = False,
    quiet: options.Quiet = False,
    log_json: options.LogJson = None,
) -> int:
    """Dance to music: clips of any length, without seams, with given frames kept exactly.

    A clip follows from the model, the music's content, the seed and its number, whatever else is made in the same
    call. Values are clamped to their ranges and standing feet are held still; how much is told in motions.json, which
    evaluate motion, render and retarget read. --task inbetween fills between the frames of --keyframes, predict goes
    on after them: of a whole clip, predict begins with its last 16 frames, inbetween fills between its first and its
    last 8. A place on the floor is no constraint on a pose: --places, or place in a keyframe file, leads the root
    there afterwards by the smallest change of its speeds.

    --stream needs no -o: the first frames leave as soon as one window is drawn. JSON Lines are those of capture
    stream, and the last one, with "end", is there only when the dance is whole; OSC sends /choreo/pose, which run-live
    and other programs read.
    """
    from choreo_cli.generate.generate_checks import Output, at_stake, check_output, check_stream
    from choreo_cli.generate.generate_job import How, need_same_fps
    from choreo_cli.generate.generate_run import record
    from choreo_cli.generate.open_model import card_schema
    from choreo_cli.outputs import spare_inputs
    from choreo_cli.runtime import provenance

    wanted = Output(out, stream, to, clips)
    check_output(wanted, join, overlap, music or [])
    place = _piped() if str(model) == "-" else model
    sampler = _opened(place, backend, device, threads)
    need_same_fps(fps, sampler)
    keys, task = _keys(keyframes, sampler, task, at, places)
    weights = given.guidance(cfg, sampler.cfg)
    asked = How(task, steps, solver, weights, seed, "chain" if stream else join, overlap, not no_lock, keys)
    found = _music(sampler, music or [], seconds, asked)
    read = [*(music or []), *([] if keyframes is None else [keyframes])]
    spare_inputs(*at_stake(wanted, read, place, found))
    told: dict[str, Any] = {"quiet": quiet, "log": log_json}
    if stream is not None:
        from commands.generate_stream import send

        check_stream(keys)
        send(sampler, found.heard[0], asked, stream, pace, quiet=quiet)
        return int(ExitCode.OK)
    assert out is not None
    params, inputs = record(sampler, found, asked, card_schema(place))
    made_by = provenance("generate", {**params, "clips": clips, "to": to, "seconds": seconds}, inputs, seed=seed)
    doc, code, keep = _write(sampler, found, asked, out, made_by, clips=clips, to=to, force=force, wait=wait, **told)
    streams.emit(doc, partial(dances_table, doc), out=None, json=json, as_table=table, keep=keep)
    return ExitCode.OK if keep_going and code == ExitCode.PARTIAL else code


def _piped() -> Path:
    """The run whose manifest stdin brings: where `choreo train flow` or `distill` has written it."""
    from formats.manifest import resolve_roots

    found = streams.read_manifest(None, "generate", ("choreo.run",))
    own = next((r.id for r in found.roots if r.self), None)
    if own is None:
        raise DataError("the manifest on stdin names no folder", hint="name the run")
    return resolve_roots(found, {})[own]


def _opened(model: Path, backend: str, device: str, threads: int) -> Sampler:
    from choreo_cli.generate.open_model import EXPORT, card_schema, open_sampler
    from choreo_cli.runtime import choose_device, limit_threads

    limit_threads(threads)
    elsewhere = backend in ("onnx", "mlx") or card_schema(model).startswith(EXPORT)
    place = "cpu" if elsewhere else choose_device(device)[0]
    sampler = open_sampler(model, backend=backend, threads=threads, device=place)
    if place != "cpu":
        sampler.together, sampler.padded = 64, True
    return sampler


def _keys(path: Path | None, sampler: Sampler, task: str | None, at: str | None, places: bool) -> tuple[Any, str]:
    if path is None:
        if at is not None or places:
            raise UsageError(f"--{'at' if at is not None else 'places'} is about --keyframes, which are missing")
        return None, task or "gen"
    from choreo_cli.generate.keyframes import read_keyframes

    return read_keyframes(path, sampler.fps, task, at, places)


def _music(sampler: Sampler, paths: list[Path], seconds: float | None, how: How) -> Music:
    from choreo_cli.generate import heard
    from choreo_cli.generate.generate_job import check_how
    from choreo_cli.generate.generate_run import Music, hear_all

    check_how(how, sampler)
    if how.keys is not None and how.keys.frames and seconds is None:
        seconds = how.keys.frames / sampler.fps
    if paths and sampler.audio_width:
        return hear_all(paths, sampler, seconds)
    if paths:
        raise UsageError("the model listens to no music", hint="leave it out, and say --seconds")
    return Music([heard.unheard(sampler, 0 if seconds is None else heard.frames_for(seconds, sampler.fps))])


def _write(
    sampler: Sampler, music: Music, how: How, out: Path, made_by: dict[str, Any], *, clips: int, to: str, force: bool,
    wait: float, quiet: bool, log: Any,
) -> tuple[bytes, int, str]:  # fmt: skip
    from choreo_cli.generate.generate_run import remarks, run
    from choreo_cli.outputs import output_folder
    from choreo_cli.progress import Progress

    with (
        output_folder(out, "motions", made_by, wait_s=wait) as folder,
        Progress("generate", quiet=quiet, log=log) as bar,
    ):
        before = None if force else folder.done_before()
        if before is not None:
            return before, folder.exit_before(), folder.already
        entries = run(sampler, music, how, folder, clips=clips, to=to, progress=bar, starting=folder.invalidate)
        for line in (*remarks(entries), *(f"left out {name}: {why}" for name, why in music.left_out)):
            bar.note(line)
        code = streams.partial(len(music.left_out), 0, False)
        root = music.root()
        roots = {} if root is None else {"music": root}
        return folder.finish(entries, code, sys.argv[1:], roots), int(code), f"kept in {out}"


def dances_table(document: bytes) -> list[str]:
    """The dances for a person."""
    from choreo_cli.generate.generate_run import HEADER, table

    return streams.columns(table(document), HEADER)
