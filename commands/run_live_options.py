"""The options of `choreo run-live`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from choreo_cli import options

LEARN_S = 10.0


class LearnsFor(TyperCommand):
    """A command whose `--learn` may stand without its seconds."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """See `click.Command`."""
        end = args.index("--") if "--" in args else len(args)
        for k in [k for k, a in enumerate(args[:end]) if a == "--learn"]:
            if k + 1 == end or not re.fullmatch(r"[0-9+.][0-9.eE+-]*|nan|inf", args[k + 1]):
                args = [*args[:k], f"--learn={LEARN_S:g}", *args[k + 1 :]]
        return super().parse_args(ctx, args)


Show = Annotated[Path | None, typer.Option("--show", metavar="FILE", help="A show; options win over it.")]
Checkpoint = Annotated[
    Path | None, typer.Option("--checkpoint", metavar="RUN", help="Run of train mapper, or a folder rps/ + mapper/.")
]
Sources = Annotated[
    list[str] | None, typer.Option("--source", metavar="S", help="FILE, -, osc:PORT, lsl:NAME...; repeatable.")
]
Ports = Annotated[
    list[str] | None, typer.Option("--out", metavar="PORT", help="midi:NAME, osc:HOST:PORT, ws:, loop:; repeatable.")
]
Record = Annotated[Path | None, typer.Option("-o", "--record", metavar="DIR", help="Record into this folder.")]
Style = Annotated[
    str | None, typer.Option("--osc-style", metavar="choreo|vector|wek|tidal|sonicpi", help="Layout of OSC messages.")
]
Maps = Annotated[
    list[str] | None,
    typer.Option(
        "--map", metavar="FILE|ADDR:IDX=FEATURE",
        help="control_map.yaml, reloads on change; or what an argument of OSC sources is, repeatable.",
    ),
]  # fmt: skip
Body = Annotated[
    str | None, typer.Option("--body", metavar="LAYOUT", help="Joints of poses over OSC or stdin: coco17:2...")
]
Learn = Annotated[
    float | None,
    typer.Option(
        "--learn", metavar="[SECONDS]", min=0.1, max=3600, callback=options.finite,
        help="List what arrives at --source osc:PORT and how to use it; 10 s if not said.",
    ),
]  # fmt: skip
Realtime = Annotated[
    bool | None, typer.Option("--realtime", help="Ask for a real-time priority; a refusal is only told.")
]
Require = Annotated[
    bool | None, typer.Option("--require", help="End with 69 when a port or sensor is away for --wait, else 10 s.")
]
Wait = Annotated[
    float,
    typer.Option(
        "--wait", min=0, metavar="SECONDS", callback=options.finite,
        help="Wait this long for a port that is not there yet, or a locked folder.",
    ),
]  # fmt: skip
Bpm = Annotated[
    float | None, typer.Option("--bpm", min=20, max=400, help="Tempo at the start.", callback=options.finite)
]
Leader = Annotated[
    str | None, typer.Option("--leader", metavar="choreo|tap|midi-clock|osc|audio|recording", help="Whose beat it is.")
]
ForSeconds = Annotated[
    float | None, typer.Option("--for", min=0.02, metavar="SECONDS", help="Length.", callback=options.finite)
]
EventsTo = Annotated[Path | None, typer.Option("--events", metavar="FILE", help="Events as JSON Lines; - is stdout.")]
Session = Annotated[str | None, typer.Option("--session", help="Of a folder: play this one.")]
Scale = Annotated[Path | None, typer.Option("--scale", metavar="FILE", help="Motion scale of calibrate body.")]
Listen = Annotated[str | None, typer.Option("--listen", metavar="ADDRESS", help="Where OSC sources bind.")]
Planner = Annotated[bool | None, typer.Option("--planner", help="Tell of drops, breaks, builds, fills.")]
Gesture = Annotated[Path | None, typer.Option("--gesture", metavar="RUN", help="Gestures become messages and notes.")]
Lookahead = Annotated[
    Path | None, typer.Option("--lookahead", metavar="RUN", help="The planner hears of the coming bar.")
]
Offset = Annotated[
    Path | None,
    typer.Option(
        "--offset", metavar="FILE",
        help="Of calibrate latency: announced plans go out earlier by it, at most a beat; all else at once.",
    ),
]  # fmt: skip
SendClock = Annotated[bool | None, typer.Option("--send-clock", help="MIDI clock to the MIDI ports, 24 to a beat.")]
Targets = Annotated[
    str | None, typer.Option("--record-targets", metavar="midi:PORT|osc:PORT", help="Faders to learn from.")
]
Engine = Annotated[str | None, typer.Option("--engine", metavar="auto|onnx|numpy", help="What runs the model.")]
Speed = Annotated[str, typer.Option("--speed", metavar="1|N|max", help="How fast a file is played.")]
List = Annotated[bool, typer.Option("--list", help="MIDI ports, audio inputs, sensors heard in 3 s.")]
Soundcheck = Annotated[bool, typer.Option("--soundcheck", help="Walk each control 0-1-0 on each port.")]
Solo = Annotated[
    str | None, typer.Option("--solo", metavar="CONTROL", help="Walk one control until Ctrl-C, for MIDI learn.")
]
