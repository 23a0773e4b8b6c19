"""`choreo calibrate`: measure a body's range, or a receiver's latency, before a show."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from choreo_cli import options, streams
from choreo_cli.errors import ExitCode, UsageError
from choreo_cli.progress import Progress

app = options.app()
EXITS = (ExitCode.NO, ExitCode.DATA, ExitCode.NOINPUT, ExitCode.UNAVAILABLE, ExitCode.CANTCREAT, ExitCode.IO)
EXAMPLES = (
    (
        "choreo calibrate body --source recordings/session-0000/poses.jsonl --speed max -o scale.json",
        "From a recording",
    ),
)


@app.callback()
def calibrate() -> None:
    """Measure a body's range, or a receiver's latency, before a show."""


@app.command()
def body(
    *,
    source: Annotated[str, typer.Option("--source", metavar="S", help="Poses or an accelerometer, as in run-live.")],
    seconds: Annotated[
        float, typer.Option("--seconds", min=3, max=600, help="Length, in three parts.", callback=options.finite)
    ] = 30.0,
    speed: Annotated[str, typer.Option("--speed", metavar="1|N|max", help="How fast a file is played.")] = "1",
    listen: Annotated[str, typer.Option("--listen", metavar="ADDRESS", help="Where OSC sources bind.")] = "127.0.0.1",
    maps: Annotated[
        list[str] | None, typer.Option("--map", metavar="ADDR:IDX=FEATURE", help="As in run-live; repeatable.")
    ] = None,
    layout: Annotated[str | None, typer.Option("--body", metavar="LAYOUT", help="As in run-live.")] = None,
    out: options.OutFile = None,
    json: options.Json = False,
    table: options.TableOut = False,
    quiet: options.Quiet = False,
) -> int:
    """Stand still, move small, move as big as on stage: a third of the time each.

    The scale that comes of it goes to `run-live --scale`, so that the same movement gives the same inputs every night,
    whatever the sensor. Exit 1 when the body did not move.
    """
    from choreo_cli.live import calibrate_body
    from choreo_cli.live.opening import osc_of
    from choreo_cli.live.performance import clock_of, speed_of
    from choreo_cli.live.show import Show
    from choreo_cli.live.sources import open_source

    mapping, joints = osc_of(Show(source=source, osc_map=maps or [], body=layout or ""))
    found = open_source(source, listen=listen, mapping=mapping, body=joints)[0]
    with Progress("calibrate body", quiet=quiet) as bar:
        made = calibrate_body.run(found, clock_of(speed_of(speed)), seconds, bar.note)
    rows = [
        ("energy", f"{made.scale.energy_p95:.4g} {made.scale.units}/s"),
        ("jerk", f"{made.scale.jerk_p99:.4g} {made.scale.units}/s3"),
        ("height", f"{made.scale.height:.3g} {made.scale.units}"),
        ("big over still", f"{made.big / made.still:.1f}" if made.still > 0 else "-"),
        ("rate", f"{made.fps:.1f} Hz over {made.seconds:.1f} s"),
        *(("taken for granted", text) for text in made.assumptions),
    ]
    lines = partial(streams.columns, rows, ("what", "value"))
    streams.emit(made.to_json(), lines, out=out, json=json, as_table=table, keep="keep it: -o scale.json")
    return int(ExitCode.OK)


@app.command()
def latency(
    *,
    port: Annotated[str, typer.Option("--out", metavar="PORT", help="What the receiver listens to, as in run-live.")],
    capture: Annotated[
        list[str], typer.Option("--capture", metavar="JACKPORT", help="Its sound, e.g. fluid:left; repeatable.")
    ],
    control: Annotated[str, typer.Option("--control", help="The control that is stepped.")] = "density",
    pulses: Annotated[int, typer.Option("--pulses", "-n", min=60, max=2000, help="How many.")] = 60,
    map_file: Annotated[Path | None, typer.Option("--map", metavar="FILE", help="Control map of the port.")] = None,
    style: Annotated[str, typer.Option("--osc-style", metavar="STYLE", help="Layout of OSC messages.")] = "choreo",
    wait: Annotated[
        float,
        typer.Option(
            "--wait",
            metavar="SECONDS",
            min=0,
            help="Wait this long for a port that is not there yet.",
            callback=options.finite,
        ),
    ] = 0.0,
    out: Annotated[
        Path | None, typer.Option("-o", "--offset", metavar="FILE", help="Write the file here (default: stdout).")
    ] = None,
    json: options.Json = False,
    table: options.TableOut = False,
) -> int:
    """Time from a step of one control to the onset of its sound, heard through JACK.

    The receiver must sound when the control is high and be silent when it is low. Pulses are 250 to 300 ms apart; each
    has to be heard. The file goes to `run-live --offset`, which sends announced bar events earlier by its median.
    """
    from choreo_cli.live import calibrate_latency as work
    from choreo_cli.live.keeper import Keeper
    from choreo_cli.live.opening import control_map_of
    from choreo_cli.live.ports import open_ports
    from choreo_cli.live.show import Show, checked, with_options
    from formats.packets import CONTROLS
    from formats.sealed import dumps

    if control not in CONTROLS:
        raise UsageError(f"no control {control!r}", hint=f"one of: {', '.join(CONTROLS)}")
    show = checked(with_options(Show(out=port, map=str(map_file or "")), {"osc_style": style}))
    found = control_map_of(show)
    keeper = Keeper(open_ports(show.ports, found, style)[0])
    ear = work.JackCapture(capture)
    try:
        keeper.open(wait)
        made = work.measure_port(keeper, ear, control=control, control_map=found, n=pulses)
    finally:
        ear.close()  # first: to leave JACK by MIDI waits for a server that waits for this ear, for up to 10 s
        keeper.close()
    rows = [(k, f"{v:.2f} ms" if isinstance(v, float) else str(v)) for k, v in made.to_dict().items()]
    lines = partial(streams.columns, rows, ("what", "value"))
    streams.emit(dumps(made.to_dict()), lines, out=out, json=json, as_table=table, keep="keep it: -o offset.json")
    return int(ExitCode.OK)
