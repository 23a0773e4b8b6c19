"""Options of `choreo generate` and what their texts mean."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from choreo_cli import options
from choreo_cli.errors import UsageError

if TYPE_CHECKING:
    from choreo_cli.generate.guidance import Guidance

Model = Annotated[
    Path, typer.Argument(metavar="MODEL", help="Run of train flow, ddim or distill, or an ONNX export; - reads stdin.")
]
Music = Annotated[
    list[Path] | None, typer.Argument(metavar="MUSIC...", help="Sound, or features as .npz; one dance each.")
]
Out = Annotated[Path | None, typer.Option("-o", "--out", metavar="DIR", help="Folder to write into.")]
Task = Annotated[
    str | None, typer.Option("--task", metavar="gen|inbetween|predict", help="What is given; by --keyframes if unsaid.")
]
Keys = Annotated[
    Path | None, typer.Option("--keyframes", metavar="FILE", help="A clip to continue or fill, or poses as JSON.")
]
At = Annotated[
    str | None, typer.Option("--at", metavar="N[-N],...", help="Frames of that clip that are given, at their numbers.")
]
Places = Annotated[
    bool, typer.Option("--places", help="Lead the root to where the clip has those frames, after sampling.")
]
Clips = Annotated[int, typer.Option("--clips", min=1, max=100_000, help="Dances to each music.")]
Seconds = Annotated[
    float | None, typer.Option("--seconds", metavar="S", help="Length (default: all music).", callback=options.finite)
]
Fps = Annotated[
    float | None, typer.Option("--fps", metavar="HZ", help="Refuse a model of another rate.", callback=options.finite)
]
Steps = Annotated[
    int | None, typer.Option("--steps", min=1, max=1000, help="Steps of the solver (default: the model's).")
]
Solver = Annotated[
    str | None, typer.Option("--solver", metavar="NAME", help="euler, midpoint, heun2, heun3, rk4 or ab2.")
]
Cfg = Annotated[
    str | None,
    typer.Option(
        "--cfg", metavar="W|KEY=N,...", help="Weight of the music, 0 to 20; or audio=, text=, from=, to= of the way."
    ),
]
Join = Annotated[
    str, typer.Option("--join", metavar="overlap|chain", help="Long dances: windows that overlap, or follow.")
]
Overlap = Annotated[
    int | None, typer.Option("--overlap", min=0, metavar="N", help="Frames they share (default: half).")
]
To = Annotated[str, typer.Option("--to", metavar="npz|bvh|humanml3d|mp4", help="What is written; mp4 beside the clip.")]
NoLock = Annotated[bool, typer.Option("--no-lock", help="Leave standing feet as they were drawn.")]
Stream = Annotated[
    str | None,
    typer.Option("--stream", metavar="-|FILE|osc:[HOST:]PORT", help="Frames while they are made: JSON Lines or OSC."),
]
Pace = Annotated[
    str, typer.Option("--pace", metavar="auto|real|made", help="Of --stream: in real time (OSC), or as made.")
]
Backend = Annotated[str, typer.Option("--backend", metavar="auto|torch|onnx|mlx", help="What runs the model.")]
Threads = Annotated[int, typer.Option("--threads", min=1, max=256, help="Threads of the model.")]

_CFG = {"audio": "audio", "text": "text", "from": "low", "to": "high"}


def guidance(text: str | None, usual: Guidance | None) -> Guidance | None:
    """`2.5` or `audio=2,from=0.2` over the model's own. Raises UsageError for anything else."""
    if text is None:
        return None
    from dataclasses import replace

    from choreo_cli.generate.guidance import PLAIN

    changes: dict[str, float] = {}
    for part in text.split(","):
        name, eq, value = part.strip().rpartition("=")
        key = _CFG.get(name if eq else "audio")
        try:
            number = float(value)
        except ValueError:
            key = None
        if key is None or key in changes:
            raise UsageError(f"--cfg {text!r}", hint=f"a number, or {'=, '.join(_CFG)}= with one")
        changes[key] = number
    try:
        return replace(usual or PLAIN, **changes)
    except UsageError as e:
        raise UsageError(f"--cfg {text}: {e.message}", hint=e.hint) from None
