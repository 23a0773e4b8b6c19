"""`choreo capture stream`: sensors to choreo25 while they run, with the time that each frame took."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from choreo_cli import options, streams
from choreo_cli.errors import DataError, ExitCode, NoInputError, UsageError
from commands import capture_out as done
from commands.capture_options import Height, LifterRun, Rate

if TYPE_CHECKING:
    from choreo_cli.motion.capture_log import CaptureHead
    from choreo_cli.motion.capture_stream import Capture, Frame
    from choreo_cli.runtime import Signals
    from formats.motion_npz import Skeleton

FORMS = "osc:PORT, jsonl:FILE or -"


def stream(
    *,
    source: Annotated[str, typer.Option("--source", metavar="osc:PORT|jsonl:FILE|-", help="Where readings come from.")],
    out: Annotated[Path | None, typer.Option("-o", "--out", metavar="DIR", help="Keep clip and ledger here.")] = None,
    rows: Annotated[
        str | None, typer.Option("--rows", metavar="FILE|-", help="Frames as JSON Lines while they are made.")
    ] = None,
    fps: Rate = 60.0,
    height: Height = None,
    skeleton: Annotated[
        Path | None, typer.Option("--skeleton", metavar="CLIP", help="A clip whose body this is.")
    ] = None,
    lifter: LifterRun = None,
    wrist: Annotated[str, typer.Option("--wrist", metavar="l|r", help="Which wears the watch, over OSC.")] = "l",
    raw: Annotated[bool, typer.Option("--raw", help="Fuse only: no smoothing, no foot lock.")] = False,
    seconds: Annotated[
        float | None, typer.Option("--for", min=0, metavar="SECONDS", help="Stop then.", callback=options.finite)
    ] = None,
    listen: Annotated[str, typer.Option("--listen", metavar="ADDRESS", help="Of this machine, for OSC.")] = "127.0.0.1",
    wait: options.Wait = 0.0,
    json: options.Json = False,
    table: options.TableOut = False,
    quiet: options.Quiet = False,
) -> int:
    """Lift, fuse and clean sensor streams to choreo25, frame by frame, with a ledger of how late each frame was.

    A frame shows the body 25 ms ago. Recorded streams (jsonl:, -) are played in the time of their arrivals, as fast as
    the work is done.
    """
    from choreo_cli.runtime import limit_threads

    limit_threads()
    if out is None and rows is None:
        raise UsageError("nothing to do with the frames", hint="keep them with -o DIR, or --rows - prints them")
    if out is not None and rows == "-":
        raise UsageError("stdout is for the manifest of -o", hint="--rows FILE, or leave out -o")
    if wrist not in ("l", "r"):
        raise UsageError(f"--wrist {wrist!r} is not l or r")
    return _Stream(source, fps, height, skeleton, lifter, f"{wrist}_wrist", raw, seconds, listen).run(
        out, rows, wait=wait, quiet=quiet, json=json, table=table
    )


class _Stream:
    """One stream from its source to where its frames go."""

    def __init__(
        self, source: str, fps: float, height: float | None, skeleton: Path | None, lifter: Path | None, point: str,
        raw: bool, seconds: float | None, listen: str,
    ) -> None:  # fmt: skip
        from choreo_cli.motion.capture_log import Refused

        self.source, self.fps, self.height, self.file, self.lifter = source, fps, height, skeleton, lifter
        self.point, self.raw, self.seconds, self.listen = point, raw, seconds, listen
        self.refused = Refused()
        self.capture: Capture
        self.head: CaptureHead
        self.body: Skeleton

    def run(self, out: Path | None, rows: str | None, *, wait: float, quiet: bool, json: bool, table: bool) -> int:
        from choreo_cli.runtime import deferred_signals

        with ExitStack() as stack:
            if out is not None:
                from choreo_cli.outputs import output_folder

                folder = stack.enter_context(output_folder(out, "motions", {}, wait_s=wait))
            sink = None if rows is None else self._sink(rows, stack)
            signals = stack.enter_context(deferred_signals())
            frames = list(self._told(self._frames(stack, signals, quiet), sink))
            if not frames:
                raise DataError("no frame came out: no whole pose arrived", hint="one camera must see the whole body")
            document = None if out is None else self._keep(folder, frames)
        self._tell(quiet)
        if document is not None:
            done.emit(document, f"kept in {out}", json=json, table=table)
        return int(ExitCode.OK)

    def _sink(self, rows: str, stack: ExitStack) -> BinaryIO:
        return sys.stdout.buffer if rows == "-" else stack.enter_context(Path(rows).open("wb"))

    def _begin(self, head: CaptureHead) -> Capture:
        from choreo_cli.motion.capture_job import body_of
        from choreo_cli.motion.capture_stream import Capture

        self.head, self.body = head, body_of(self.height, head, self.file)
        lifters = done.lifters(head, self.lifter, self.height)
        self.capture = Capture(head, self.body, self.fps, lifters=lifters, clean=not self.raw)
        return self.capture

    def _frames(self, stack: ExitStack, signals: Signals, quiet: bool) -> Iterator[Frame]:
        kind, _, rest = self.source.partition(":")
        if kind == "osc" and rest.isdigit() and int(rest) < 65536:
            return self._osc(int(rest), stack, signals, quiet)
        from choreo_cli.motion.capture_job import open_log
        from choreo_cli.motion.capture_stream import play

        if self.source == "-":
            if sys.stdin is None or streams.is_terminal(sys.stdin):
                raise UsageError("source -: nothing is on stdin", hint="pipe recorded streams into it")
            lines: BinaryIO = sys.stdin.buffer
        elif kind == "jsonl" and rest:
            if not Path(rest).is_file():
                raise NoInputError(f"no file {rest}", hint="need recorded streams, see man 7 choreo-capture")
            lines = stack.enter_context(Path(rest).open("rb"))  # noqa: SIM115
        else:
            raise UsageError(f"no source {self.source!r}", hint=f"a source is {FORMS}")
        head, readings = open_log(lines, self.refused, rest or "stdin")
        until = None if self.seconds is None else round(self.seconds * 1e6)
        return play(self._begin(head), (h for h in readings if not signals.asked), self.fps, for_us=until)

    def _osc(self, port: int, stack: ExitStack, signals: Signals, quiet: bool) -> Iterator[Frame]:
        import time

        from choreo_cli.live.capture_osc import OscCapture, osc_head
        from choreo_cli.live.clock import MonotonicClock
        from choreo_cli.motion.capture_stream import live

        clock = MonotonicClock()
        found = OscCapture(port, clock, self.listen)
        stack.callback(found.close)
        if not quiet:
            print(*found.said(), sep="\n", file=sys.stderr)
        capture = self._begin(osc_head(self.height, self.point))
        end = None if self.seconds is None else clock.now_ns() + round(self.seconds * 1e9)

        def stop() -> bool:
            return bool(signals.asked) or (end is not None and clock.now_ns() >= end)

        return live(capture, found.poll, self.fps, lambda: clock.now_ns() // 1000, time.sleep, stop)

    def _told(self, frames: Iterator[Frame], sink: BinaryIO | None) -> Iterator[Frame]:
        from choreo_cli.motion.capture_job import row_line, rows_head

        n = 0
        for frame in frames:
            if sink is not None:
                if not n:
                    start = (float(frame.q[3]), float(frame.q[0]), float(frame.q[2]))
                    sink.write(rows_head(start, self.body, self.fps))
                sink.write(row_line(frame.t_us, frame.channels))
                sink.flush()
            n += 1
            yield frame
        if sink is not None and n:
            sink.write(b'{"end":true,"n":%d}\n' % n)
            sink.flush()

    def _keep(self, folder: Any, frames: list[Frame]) -> bytes:
        from choreo_cli.motion.capture_job import keep_stream
        from choreo_cli.runtime import provenance

        asked = {"fps": self.fps, "height": self.height, "raw": self.raw, "wrist": self.point}
        asked |= {"lifter": done.sha_of(self.lifter), "skeleton": done.sha_of(self.file)}
        kind, _, rest = self.source.partition(":")
        shas = [done.sha_of(Path(rest))] if kind == "jsonl" else []
        inputs = [{"role": "streams", "sha256": sha, "schema": "choreo.capture/1"} for sha in shas]
        made_by = provenance("capture stream", asked, inputs)
        # What is kept says how late each frame was: two runs are never alike.
        folder.created_by |= {**made_by, "deterministic": False}
        folder.invalidate()
        entries = keep_stream(self.capture, self.refused, frames, self.fps, folder, self.source)
        return bytes(folder.finish(entries, ExitCode.OK, sys.argv[1:]))

    def _tell(self, quiet: bool) -> None:
        if quiet:
            return
        told = self.capture.ledger.summary()
        late = told["sensor_to_choreo25"]
        print(
            f"{told['n']} frames; sensor to choreo25 p50 {late['p50']} p95 {late['p95']} p99 {late['p99']} ms "
            f"(budget {told['budget_ms']:g}), work p50 {told['work']['p50']} p99 {told['work']['p99']} ms",
            file=sys.stderr,
        )  # fmt: skip
