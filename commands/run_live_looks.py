"""What `choreo run-live` does besides playing: look at what is here, learn what arrives, try the receivers."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from choreo_cli import streams
from choreo_cli.errors import ExitCode

if TYPE_CHECKING:
    from choreo_cli.live.show import Show


def learn_osc(show: Show, seconds: float, *, quiet: bool, json: bool, table: bool) -> int:
    """List what arrives; 1 when nothing did."""
    from choreo_cli.live.devices import learned
    from choreo_cli.runtime import deferred_signals

    def told(lines: list[str]) -> None:
        for line in () if quiet else lines:
            print(f"choreo run-live: {line}", file=sys.stderr, flush=True)

    with deferred_signals() as signals:
        document, rows, line, refused = learned(show, seconds, told, lambda: signals.asked != 0)
        lines = streams.columns(rows[1:], rows[0]) if rows else [f"nothing arrived in {seconds:g} s"]
        lines += [f"{n} packets were refused: {why}" for why, n in refused.items()]
        keep = f"use it: {line}" if line else "nothing to propose: see the last column, and --map ADDR:IDX=FEATURE"
        streams.emit(document, lines, out=None, json=json, as_table=table, keep=keep)
    return int(ExitCode.OK if rows else ExitCode.NO)


def list_here(show: Show, *, json: bool, table: bool) -> int:
    """Ports, inputs and sensors that are here."""
    from choreo_cli.live.devices import listed

    document, lines = listed(show)
    streams.emit(document, lines, out=None, json=json, as_table=table, keep="use one: --out midi:NAME")
    return int(ExitCode.OK)


def walk(show: Show, solo: str | None, wait: float, *, json: bool, table: bool) -> int:
    """Move every control on every port; 1 when one of them did not arrive."""
    from choreo_cli.live.devices import sounded
    from choreo_cli.runtime import deferred_signals

    with deferred_signals() as signals:
        document, lines, whole = sounded(show, solo, wait, lambda: signals.asked != 0)
        streams.emit(document, lines, out=None, json=json, as_table=table, keep="1 is the exit when one did not arrive")
    return int(ExitCode.OK if whole else ExitCode.NO)
