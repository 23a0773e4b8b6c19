"""`choreo evaluate motion`: clips against the literature's metrics, repaired or as published."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from choreo_cli import options, streams
from choreo_cli.errors import ExitCode, UsageError
from commands.evaluate_out import finish

if TYPE_CHECKING:
    from choreo_cli.metrics.motion_manual import Lengths

_SESSION = "recordings/session-0000"
EXAMPLES = (
    (
        f"choreo evaluate motion {_SESSION}/poses.jsonl --music recordings/music/track-0000.wav"
        f" --beats {_SESSION}/truth/beats.txt --table",
        "A dance: sanity, contact, smoothness, and how it follows its music",
    ),
    (f"choreo evaluate motion {_SESSION}/poses.jsonl --mode compat -o published.json", "As the literature measures it"),
)

Motions = Annotated[
    list[Path] | None,
    typer.Argument(metavar="MOTIONS|DIR|FILE...", help="Manifests, folders or clips; - or nothing reads stdin."),
]
Music = Annotated[
    Path | None, typer.Option("--music", metavar="FILE", help="Sound, features or beats all clips were danced to.")
]
Beats = Annotated[Path | None, typer.Option("--beats", metavar="FILE", help="Annotated beats of the music.")]
Reference = Annotated[
    list[Path] | None,
    typer.Option("--reference", metavar="MOTIONS", help="Real clips: floors and set distances; repeatable."),
]
Mode = Annotated[
    str,
    typer.Option("--mode", metavar="fixed|compat[:NAME]|all", help="Repaired, or as NAME published it."),
]
Fps = Annotated[float | None, typer.Option("--fps", metavar="N", help="Rate of files that do not say theirs.")]
Each = Annotated[bool, typer.Option("--each", help="Also an entry for every clip.")]
Require = Annotated[
    float | None, typer.Option("--require", min=0, max=1, metavar="SHARE", help="Exit 1 when fewer clips are sane.")
]
ManualLengths = Annotated[
    str | None,
    typer.Option("--manual-lengths", metavar="ARM,SHOULDERS,HIPS", help="Body lengths (m) of published manual32."),
]


def motion(
    motions: Motions = None,
    *,
    music: Music = None,
    beats: Beats = None,
    reference: Reference = None,
    mode: Mode = "fixed",
    fps: Fps = None,
    each: Each = False,
    require: Require = None,
    manual_lengths: ManualLengths = None,
    root: options.Roots = None,
    seed: options.Seed = 0,
    keep_going: options.KeepGoing = False,
    no_gate: Annotated[bool, typer.Option("--no-gate", help="Exit 0 although a gate failed.")] = False,
    out: options.OutFile = None,
    json: options.Json = False,
    table: options.TableOut = False,
    quiet: options.Quiet = False,
    log_json: options.LogJson = None,
) -> int:
    """Sanity, contact, skating, smoothness, limits, beat alignment and distances of clips from real ones.

    Fixed figures are comparable between rates and lengths: 30 fps, 5 s windows, SI units. Published ones (--mode
    compat:edge, popdg, motioncritic, motionlcm, lodge, bailando, mint, or compat for all) run at their own rate and
    keep their errors. Every figure has its number of clips, an interval over clips, and its chance level or the level
    of real clips. With --reference a contact fraction below half the real one fails the gate.
    """
    from choreo_cli.metrics.motion_evaluate import How, motion_entries
    from choreo_cli.metrics.motion_music import music_of_clips
    from choreo_cli.metrics.motion_read import read_clips
    from choreo_cli.progress import Progress

    how = How(mode, seed, each, require, lengths(manual_lengths))
    overrides = options.root_overrides(root)
    if fps is not None and not 1 <= fps <= 1000:
        raise UsageError(f"--fps {fps:g} is not 1..1000")
    known: dict[str, Any] = {}
    with Progress("evaluate motion", quiet=quiet, log=log_json) as bar:
        found = read_clips(_sources(motions), overrides, fps=fps)
        real = read_clips(reference, {}, fps=fps, role="reference") if reference else None
        heard, notes = music_of_clips([c.name for c in found.clips], found.music, music, beats)
        if real is not None:
            known, more = music_of_clips([c.name for c in real.clips], real.music, None, None)
            notes += more
        inputs = [*found.inputs, *(real.inputs if real else [])]
        inputs += [
            {"role": "music", "sha256": m.sha256, "schema": "music"}
            for m in {m.sha256: m for m in (*heard.values(), *known.values())}.values()
        ]
        entries = motion_entries(
            found.clips,
            music=heard,
            reference=real.clips if real else (),
            reference_music=known,
            how=how,
            on_progress=bar,
        )
        skipped = {**found.skipped, **(real.skipped if real else {})}
        notes += [f"{name} is left out: {why}" for name, why in skipped.items()]
    params = {"mode": mode, "fps": fps, "each": each, "require": require, "manual_lengths": manual_lengths}
    failed = finish("motion", entries, inputs, notes, params, seed, quiet, out=out, json=json, as_table=table)
    if failed and not no_gate:
        return ExitCode.NO
    return streams.partial(len(skipped), 0, keep_going)


def lengths(text: str | None) -> Lengths | None:
    """`0.26,0.39,0.12` as lengths. Raises UsageError for anything else."""
    if text is None:
        return None
    from choreo_cli.metrics.motion_manual import Lengths

    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != 3 or not all(0 < v < 3 for v in values):
        raise UsageError(f"--manual-lengths {text!r} is not ARM,SHOULDERS,HIPS", hint="three lengths in metres")
    return Lengths(*values)


def _sources(motions: list[Path] | None) -> list[Any]:
    """Paths, and the manifest on stdin in place of `-`."""
    named = motions or [Path("-")]
    return [streams.read_manifest(None, "evaluate motion", ("choreo.motions",)) if str(p) == "-" else p for p in named]
