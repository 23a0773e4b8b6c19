"""`choreo run-live`: body in, music out, in real time."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from choreo_cli import options, streams
from choreo_cli.errors import CantCreateError, ExitCode, StorageError, UnavailableError, UsageError
from commands import run_live_options as o
from commands.run_live_looks import learn_osc, list_here, walk

if TYPE_CHECKING:
    from choreo_cli.live.performance import Around
    from choreo_cli.live.show import Show

app = options.app()
EXITS = (
    ExitCode.NO, ExitCode.DATA, ExitCode.NOINPUT, ExitCode.UNAVAILABLE, ExitCode.CANTCREAT, ExitCode.IO,
    ExitCode.TEMPFAIL, ExitCode.CONFIG,
)  # fmt: skip
EXAMPLES = (
    ("choreo run-live --speed max --for 5 -o played", "The bundled models on a bundled session, recorded"),
    ("choreo run-live --speed max --for 5 --out loop: --events -", "What happens, as JSON Lines"),
    ("choreo run-live --list", "Ports and sensors that are here"),
)


@app.command(cls=o.LearnsFor)
def run_live(
    *,
    show: o.Show = None,
    checkpoint: o.Checkpoint = None,
    source: o.Sources = None,
    session: o.Session = None,
    out: o.Ports = None,
    record: o.Record = None,
    osc_style: o.Style = None,
    maps: o.Maps = None,
    body: o.Body = None,
    scale: o.Scale = None,
    listen: o.Listen = None,
    bpm: o.Bpm = None,
    leader: o.Leader = None,
    send_clock: o.SendClock = None,
    planner: o.Planner = None,
    gesture: o.Gesture = None,
    lookahead: o.Lookahead = None,
    offset: o.Offset = None,
    targets: o.Targets = None,
    engine: o.Engine = None,
    speed: o.Speed = "1",
    seconds: o.ForSeconds = None,
    events: o.EventsTo = None,
    learn: o.Learn = None,
    realtime: o.Realtime = None,
    require: o.Require = None,
    list_all: o.List = False,
    soundcheck: o.Soundcheck = False,
    solo: o.Solo = None,
    root: options.Roots = None,
    wait: o.Wait = 0.0,
    json: options.Json = False,
    table: options.TableOut = False,
    quiet: options.Quiet = False,
    log_json: options.LogJson = None,
) -> int:
    """Play: a body moves, five controls go out, fifty times a second.

    Without a source it plays a bundled session; without a checkpoint the bundled models. On a terminal it shows meters
    and takes keys: f freeze, n neutral, p panic, t tap, r record a lesson, u undo, q quit. SIGUSR1 reads the models
    again.
    """
    from choreo_cli.live.show import split_maps
    from choreo_cli.runtime import limit_threads, spare_memory

    limit_threads()
    spare_memory()
    map_file, entries = split_maps(maps or [])
    given: dict[str, Any] = {
        "checkpoint": _text(checkpoint), "source": source or None, "session": session, "out": out or None,
        "osc_style": osc_style, "map": map_file, "osc_map": entries or None, "body": body,
        "scale": _text(scale), "listen": listen, "bpm": bpm,
        "leader": leader, "planner": planner or None, "gesture": _text(gesture), "lookahead": _text(lookahead),
        "realtime": realtime or None, "require": require or None,
        "targets": targets, "engine": engine, "offset": _text(offset), "send_clock": send_clock or None,
    }  # fmt: skip
    asked = _show(show, given)
    if list_all:
        return list_here(asked, json=json, table=table)
    if learn is not None:
        return learn_osc(asked, learn, quiet=quiet, json=json, table=table)
    if soundcheck or solo is not None:
        return walk(asked, solo, wait, json=json, table=table)
    around = _around(asked, speed, record, root, wait)
    return _perform(asked, around, seconds, events, log_json, quiet=quiet, json=json, table=table)


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _show(file: Path | None, given: dict[str, Any]) -> Show:
    from choreo_cli.config import load
    from choreo_cli.live.show import Show, beside, checked, with_options

    base = Show() if file is None else beside(load(file, Show), file)
    return checked(with_options(base, given))


def _around(show: Show, speed: str, record: Path | None, root: Any, wait: float) -> Around:
    from choreo_cli.live.performance import Around, speed_of

    reads_stdin = "-" in show.sources
    if reads_stdin and streams.is_terminal(sys.stdin):
        raise UsageError("source -: stdin is a terminal", hint="pipe JSON Lines of SensorPacket into it")
    return Around(
        speed=speed_of(speed), out=record, roots=options.root_overrides(root), wait_s=wait,
        stdin=sys.stdin.buffer if reads_stdin and sys.stdin else None,
        program=(sys.executable, "-m", "choreo_cli"), env=dict(os.environ),
    )  # fmt: skip


def _perform(
    show: Show,
    around: Around,
    seconds: float | None,
    events_to: Path | None,
    log: Path | None,
    *,
    quiet: bool,
    **how: Any,
) -> int:
    """Play, recorded or not; a signal ends it in order, and what was played is kept."""
    from contextlib import ExitStack

    from choreo_cli.live.events import Events
    from choreo_cli.live.performance import Performance
    from choreo_cli.live.recording import Recording, rows
    from choreo_cli.outputs import output_folder
    from choreo_cli.progress import Progress
    from choreo_cli.runtime import deferred_signals
    from choreo_cli.terminal import Stage

    to_stdout = events_to is not None and str(events_to) == "-"
    keep, document = "nothing was recorded; -o DIR keeps it", b""
    with ExitStack() as stack:
        bar = stack.enter_context(Progress("run-live", quiet=True, log=log))
        told = Events(sys.stdout.buffer if to_stdout else events_to)
        stack.callback(told.close)
        if told.fault and not told.opened:
            raise CantCreateError(f"cannot write the events: {told.fault}", hint="name another file")
        if around.out is None:
            performance = Performance(show, around, told)
        else:
            folder = stack.enter_context(output_folder(around.out, "sessions", {}, wait_s=around.wait_s))
            recording = Recording(around.out, show, around.speed)
            events = recording.events(told if events_to is not None else None)
            stack.callback(events.close)
            performance = Performance(show, around, events, recording)
        signals = stack.enter_context(deferred_signals())
        with Stage(performance, signals, quiet=quiet or to_stdout) as stage:
            until_us = None if seconds is None else performance.loop.origin_us + round(seconds * 1e6)
            summary = performance.play(until_us, partial(stage.attend, progress=bar))
            bar(summary.ticks, summary.ticks)
        if around.out is not None:
            performance.events.close()
            made = recording.finish()
            folder.created_by |= recording.created_by
            for name, (role, sha) in made.files.items():
                folder.add(role, name, sha)
            document = folder.finish(made.entries, summary.exit_code, sys.argv[1:])
            keep = f"kept in {around.out}: choreo evaluate groove {around.out}"
    if not to_stdout:
        lines = partial(streams.columns, rows(summary), ("what", "value"))
        forced = how["table"] or (not document and not how["json"] and streams.is_terminal(sys.stdout))
        if document or forced:
            streams.emit(document, lines, out=None, json=how["json"], as_table=forced, keep=keep)
    if told.fault and not told.deaf:
        raise StorageError(f"events were lost: {told.fault}", hint="the performance itself was played to its end")
    if summary.lost:
        raise UnavailableError(summary.lost, hint="without --require the performance goes on")
    return int(summary.exit_code)
