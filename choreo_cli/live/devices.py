"""What is here, and whether it hears us: `run-live --list` and `--soundcheck`, before a show."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import asdict

from choreo_cli.errors import UsageError
from choreo_cli.live.clock import MonotonicClock
from choreo_cli.live.guards import Guards
from choreo_cli.live.keeper import Keeper
from choreo_cli.live.opening import control_map_of, ports_of
from choreo_cli.live.performance import BESIDE_S, STEP_US
from choreo_cli.live.show import Show
from choreo_cli.live.soundcheck import Delivery, Soundcheck


def listed(show: Show) -> tuple[bytes, list[str]]:
    """Everything that is here, as a document and for a person; listens for 3 s for sensors."""
    from choreo_cli.live import inventory
    from formats.sealed import dumps

    found = inventory.take(inventory.sensors(show.listen, show.sources))
    return dumps(found.to_dict()), found.lines()


def learned(
    show: Show, seconds: float, told: Callable[[list[str]], None], asked: Callable[[], bool]
) -> tuple[bytes, list[tuple[str, ...]], str, dict[str, int]]:
    """What arrives at the OSC source of a show.

    Gives a document, a table that begins with its head, the line that would play it, and packets refused by reason.

    Args:
        show: Its source and where it listens.
        seconds: For so long.
        told: Is given the lines that name the bound address.
        asked: Whether to stop.

    Raises:
        UsageError: its source is not one OSC port. UnavailableError: that port is taken.
    """
    from choreo_cli.live import osc_guess, osc_learn
    from choreo_cli.live.sources import osc_port
    from formats.sealed import dumps

    if len(show.sources) != 1:
        raise UsageError("--learn listens at one OSC source", hint="name it: --source osc:PORT")
    port, _ = osc_port(show.sources[0])
    learner = osc_learn.listen(seconds, show.listen, port, stop=asked, told=told)
    found = osc_guess.arguments(learner.heard)
    line = osc_guess.command_line(port, learner.heard, show.listen)
    document = {
        "schema": "choreo.learn/1", "source": f"osc:{port}", "arguments": [asdict(f) for f in found],
        "proposed": osc_guess.propose(learner.heard), "line": line,
        "refused": dict(sorted(learner.decoder.refused.items())), "overlooked": learner.overlooked,
    }  # fmt: skip
    rows: list[tuple[str, ...]] = [osc_guess.HEAD, *(f.cells() for f in found)] if found else []
    return dumps(document), rows, line, learner.decoder.refused


def sounded(show: Show, solo: str | None, wait_s: float, asked: Callable[[], bool]) -> tuple[bytes, list[str], bool]:
    """A soundcheck as a document and for a person, and whether everything arrived. Raises as `walk`."""
    from formats.sealed import dumps

    told = walk(show, solo, wait_s, asked)
    whole = bool(told) and all(d.ok for d in told)
    records = [{**asdict(d), "ok": d.ok, "verdict": d.verdict} for d in told]
    return dumps({"schema": "choreo.soundcheck/1", "deliveries": records}), [d.line() for d in told], whole


def walk(show: Show, solo: str | None, wait_s: float, asked: Callable[[], bool]) -> list[Delivery]:
    """Walk every control, or one until it is stopped, 0-1-0 on every port of a show.

    Args:
        show: Its ports and its map.
        solo: This control alone, again and again.
        wait_s: How long to wait for a port that is not there yet.
        asked: Whether to stop, looked at ten times a second.

    Raises:
        UsageError: no port, or no such control. UnavailableError: a port is not there.
    """
    if not show.ports:
        raise UsageError("a soundcheck needs a port", hint="name one: --out midi:NAME, see --list")
    found, clock, stop, ended = control_map_of(show), MonotonicClock(), threading.Event(), threading.Event()

    def watch() -> None:
        while not ended.wait(BESIDE_S):
            if asked():
                stop.set()

    keepers = [Keeper(port, clock) for port in ports_of(show, found)]
    check = Soundcheck(keepers, Guards(found, STEP_US), clock, solo=solo)
    helper = threading.Thread(target=watch, name="beside", daemon=True)
    helper.start()
    try:
        for keeper in keepers:
            keeper.open(wait_s)
        return check.run(stop, rounds=0 if solo else 1)
    finally:
        ended.set()
        for keeper in keepers:
            keeper.close()
