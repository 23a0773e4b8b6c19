"""`choreo render`: draw motion and trajectories as film and pictures."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from choreo_cli import options, streams
from choreo_cli.errors import ExitCode
from commands import render_options as given
from commands import render_trajectories

if TYPE_CHECKING:
    from choreo_cli.motion.video import Made, Options, Task
    from formats.manifest import Manifest

app = options.app()
EXITS = (
    ExitCode.PARTIAL, ExitCode.DATA, ExitCode.NOINPUT, ExitCode.UNAVAILABLE, ExitCode.CANTCREAT, ExitCode.IO,
    ExitCode.TEMPFAIL,
)  # fmt: skip
EXAMPLES = (
    ("choreo render motion recordings/session-0000/poses.jsonl --music recordings/music/track-0000.wav --seconds 2"
     " -o film", "A film with its music, and a contact sheet"),
    ("choreo render motion recordings/session-0000/poses.jsonl --reference recordings/session-0001/poses.jsonl"
     " --seconds 2 --make player,preview -o both", "Two dancers side by side, on a page that plays"),
    ("choreo render motion recordings/session-0000/poses.jsonl --seconds 2 --make sheet --plot --view front --follow"
     " -o stills", "Pictures alone: moments, and the 25 channels"),
    *render_trajectories.EXAMPLES,
)  # fmt: skip


@app.callback()
def render() -> None:
    """Draw motion and trajectories as film and pictures."""


@app.command()
def motion(
    clips: given.Motions = None,
    *,
    out: options.OutDir,
    reference: given.Reference = None,
    make: given.Make = "mp4,sheet",
    plot: given.Plot = False,
    music: given.Music = None,
    music_offset: given.MusicOffset = 0.0,
    beats: given.Beats = "auto",
    metrics: given.Metrics = None,
    view: given.View = "three-quarter",
    azimuth: given.Azimuth = None,
    elevation: given.Elevation = None,
    follow: given.Follow = False,
    ortho: given.Ortho = False,
    size: given.Size = "512",
    fps: given.Fps = None,
    source_fps: given.SourceFps = None,
    map: given.Map = None,
    start: given.Start = 0.0,
    seconds: given.Seconds = None,
    engine: given.Engine = "auto",
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
    """Draw clips of any format: film with music, contact sheet, preview, channel traces, player.

    Left limbs are orange, right ones blue; a foot that stands is green. Nearer limbs are brighter, beats tick on the
    time bar. With --reference both dancers stand side by side before the same camera. mp4 needs the extra `video`;
    everything else works without. The player is one file that needs nothing else, offline.

    OUT receives NAME.mp4, NAME.sheet.png, NAME.preview.png, NAME.plot.png, NAME.html and, last, videos.json.
    """
    from choreo_cli.motion import video
    from choreo_cli.motion.camera import VIEWS
    from choreo_cli.motion.scene import Look

    given.one_of("--view", view, VIEWS)
    given.one_of("--engine", engine, ("auto", "numba", "numpy"))
    width, height = given.pixels(size)
    look = Look(width, height, view, azimuth, elevation, not ortho, follow, engine=engine)
    asked = video.Options(
        given.kinds(make, plot, video.KINDS), look, fps, start, seconds, music, music_offset, given.annotated(beats),
        beats != "none", figures(metrics), source_fps, given.named(map),
    )  # fmt: skip
    tasks = _tasks(sources(clips), reference or [], options.root_overrides(root), out, asked)
    how: dict[str, Any] = {"jobs": jobs, "force": force, "wait": wait, "quiet": quiet, "log": log_json}
    doc, code, keep = _write(tasks, asked, out, **how)
    streams.emit(doc, partial(videos_table, doc), out=None, json=json, as_table=table, keep=keep)
    return ExitCode.OK if keep_going and code == ExitCode.PARTIAL else code


app.command()(render_trajectories.trajectories)


def _tasks(
    found: list[Path | Manifest], reference: list[Path], roots: dict[str, str], out: Path, asked: Options
) -> list[Task]:
    from choreo_cli.motion.video import Task
    from choreo_cli.motion.video_inputs import expand, paired

    items = expand(found, roots)
    beside = paired(items, expand(list(reference), roots) if reference else [])
    return [Task(item, other, out, asked) for item, other in zip(items, beside, strict=True)]


def _write(
    tasks: list[Task], asked: Options, out: Path, *, jobs: int, force: bool, wait: float, quiet: bool, log: Any
) -> tuple[bytes, int, str]:
    from choreo_cli.motion.video import inputs_of, params_of, render_all
    from choreo_cli.outputs import output_folder
    from choreo_cli.progress import Progress
    from choreo_cli.runtime import core_count, provenance

    made_by = provenance("render motion", params_of(asked), inputs_of(tasks), seed=None)
    with (
        output_folder(out, "videos", made_by, wait_s=wait) as folder,
        Progress("render motion", quiet=quiet, log=log) as bar,
    ):
        before = None if force else folder.done_before()
        if before is not None:
            return before, folder.exit_before(), folder.already
        made: list[Made] = render_all(tasks, jobs=core_count(jobs), on_progress=bar, starting=folder.invalidate)
        for m in made:
            for role, name, sha in m.files:
                folder.add(role, name, sha)
            for line in [m.problem] if m.problem else (m.entry or {})["notes"]:
                bar.note(f"{m.name} is left out: {line}" if m.problem else line)
        code = ExitCode.PARTIAL if any(m.problem for m in made) else ExitCode.OK
        doc = folder.finish([m.entry for m in made if m.entry], code, sys.argv[1:])
        return doc, code, f"kept in {out}; see {out / 'videos.json'}"


def sources(clips: list[Path] | None) -> list[Path | Manifest]:
    """The paths as named, stdin's manifest in place of `-` or of nothing."""
    named = clips or [Path("-")]
    return [streams.read_manifest(p, "render motion", ["choreo.motions"]) if str(p) == "-" else p for p in named]


def figures(path: Path | None) -> tuple[dict[str, Any], ...]:
    """The entries of a metrics manifest."""
    return () if path is None else tuple(streams.read_manifest(path, "render motion", ["choreo.metrics"]).entries)


def videos_table(document: bytes) -> list[str]:
    """The videos for a person."""
    from formats.manifest import decode

    header = ("clip", "beside", "seconds", "fps", "size", "beats", "files")
    rows = [
        (e["source"], e["reference"] or "-", f"{e['duration_us'] / 1e6:.2f}", f"{e['fps']:g}",
         f"{e['width']}x{e['height']}", str(e["n_beats"]), " ".join(e["files"]))
        for e in decode(document).entries
    ]  # fmt: skip
    return streams.columns(rows, header)
