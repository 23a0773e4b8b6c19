"""Measure the whole loop on a real clock beside a bare deadline loop, tick by tick in turns, with a receiver outside.

The bare loop is a process of its own: in ours it would wait for the interpreter whenever another thread of the
performance holds it, and look late for our reasons. Its absolute deadlines have the same period and lie half a period
from ours: between any two of our ticks lies one of its. It wakes, hands one packet of the same size to a raw socket,
and that is all. A frame counts from the moment its tick is due, so that the lateness of the wake is in every figure;
where ticks were skipped it counts from when the first of them was due.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import StorageError
from choreo_cli.live.bare_loop import END
from choreo_cli.live.clock import MonotonicClock
from choreo_cli.live.contest import Spread, spread
from choreo_cli.live.latency import NONE, column
from choreo_cli.live.loop import PERIOD_US
from formats.metrics import entry

I64 = NDArray[np.int64]

SECONDS = 40.0
OUT_P99_MS, SLOW_MS, CALM_MS, RATIO = 5.0, 50.0, 1.0, 1.5
PERIOD_NS = PERIOD_US * 1000
BARE = "bare deadline loop"


class Marks(NamedTuple):
    """One run, a row a tick, monotonic nanoseconds; -2**63 is none.

    Args:
        due: When our tick was due.
        woke: When the wait for it ended.
        first_due: When the first of the ticks was due that this one stands for, where some were skipped.
        sent: When the packet had left.
        bare: (N, 3) due, woke and sent of the bare loop.
        start: Where our grid begins.
        arrived: sequence number -> when the packet came to the process outside; the bare ones are -1, -2...
        facts: Counters.
    """

    due: I64
    woke: I64
    first_due: I64
    sent: I64
    bare: I64
    start: int
    arrived: dict[int, int]
    facts: dict[str, Any]


class Telling(MonotonicClock):
    """A real clock that tells once when the first tick is due, while there is time."""

    def __init__(self, tell: Callable[[int], None]) -> None:
        super().__init__()
        self._tell: Callable[[int], None] | None = tell

    def wait_until(self, deadline_ns: int) -> None:
        """See `Clock`."""
        if self._tell is not None:
            self._tell(deadline_ns)
            self._tell = None
        super().wait_until(deadline_ns)


def bench(*, seconds: float = SECONDS) -> list[dict[str, Any]]:
    """Metric entries of the loop.

    Args:
        seconds: How long it plays; the bundled session has 45.
    """
    return rows(play(seconds))


def play(seconds: float, *, recorded: bool = True) -> Marks:
    """`run-live` as it is on the bundled session, to a socket that another process reads.

    Args:
        seconds: How long.
        recorded: Whether it is recorded, as with `-o`.
    """
    from choreo_cli.live.events import Events
    from choreo_cli.live.performance import Around, Performance
    from choreo_cli.live.recording import Recording
    from choreo_cli.live.show import Show

    count = round(seconds * 1e6 / PERIOD_US)
    with tempfile.TemporaryDirectory(prefix="choreo-bench-") as name, receiver() as (port, arrivals):
        folder = Path(name) / "recorded"
        show = Show(out=f"osc:127.0.0.1:{port}", osc_style="vector")
        recording = Recording(folder, show, 1.0) if recorded else None
        events = Events() if recording is None else recording.events(None)
        with beside(f"keep_time({port}, {PERIOD_NS}, {count})", subprocess.PIPE) as bare:

            def tell(first_ns: int) -> None:
                assert bare.stdin is not None
                bare.stdin.write(f"{first_ns + PERIOD_NS // 2}\n")
                bare.stdin.flush()

            around = Around(out=folder if recorded else None)
            performance = Performance(show, around, events, recording, Telling(tell))
            summary = performance.play(performance.loop.origin_us + count * PERIOD_US)
            events.close()
            bare_marks = np.array(_told(bare), np.int64).reshape(-1, 3)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as raw:
            raw.sendto(END, ("127.0.0.1", port))
        arrived = arrivals()
    ledger = performance.loop.ring.newest(summary.ticks)
    due = summary.start_ns + 1000 * (column(ledger, "t_us") - summary.first_us)
    facts = {"ticks": summary.ticks, "missed": summary.missed, "troubles": dict(summary.troubles), "recorded": recorded}
    return Marks(
        due, due + column(ledger, "late_ns"), due - PERIOD_NS * column(ledger, "missed"), column(ledger, "t_sent_ns"),
        bare_marks, summary.start_ns, arrived, facts,
    )  # fmt: skip


@contextmanager
def beside(call: str, stdin: int) -> Iterator[subprocess.Popen[str]]:
    """A process that does a call of `live.bare_loop` and is ready. Raises StorageError when it does not come up."""
    top = str(Path(__file__).resolve().parents[2])
    code = f"import sys; sys.path.insert(0, sys.argv[1]); from choreo_cli.live.bare_loop import *; {call}"
    words, pipe = [sys.executable, "-c", code, top], subprocess.PIPE
    with subprocess.Popen(words, stdin=stdin, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            assert process.stdout is not None and process.stderr is not None
            if not process.stdout.readline():
                said = process.stderr.read().strip().rpartition("\n")[2]
                raise StorageError("a process beside the loop ended", hint=f"it said: {said[-200:]}")
            yield process
        finally:
            process.kill()


def _told(process: subprocess.Popen[str]) -> Any:
    """The line of JSON that a process ends with."""
    assert process.stdout is not None
    return json.loads(process.stdout.readline() or "[]")


@contextmanager
def receiver() -> Iterator[tuple[int, Callable[[], dict[int, int]]]]:
    """A process that reads a UDP port of this machine; its port, and what came when, to be asked after `END`."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind(("127.0.0.1", 0))
        with beside("listen()", bound.fileno()) as process:
            yield bound.getsockname()[1], lambda: {int(k): int(v) for k, v in dict(_told(process)).items()}


def drift_ms(due: I64, woke: I64, start: int) -> float:
    """How far the quickest wakes of the last tenth are from those of the first, on the grid, to 0.1 ms.

    The quickest, because they tell where the deadlines are; how late the others are is `live.cadence`.
    """
    slot = np.round((due - start) / PERIOD_NS)
    late = (woke - start - slot * PERIOD_NS) / 1e6
    tenth = max(1, len(late) // 10)
    return abs(round(float(late[-tenth:].min() - late[:tenth].min()), 1)) if len(late) else float("nan")


def rows(marks: Marks) -> list[dict[str, Any]]:
    """Entries of one run."""
    left = marks.sent != NONE
    out = (marks.sent - marks.first_due)[left] / 1e9
    late = (marks.woke - marks.first_due) / 1e9
    bare_late, bare_out = (marks.bare[:, 1] - marks.bare[:, 0]) / 1e9, (marks.bare[:, 2] - marks.bare[:, 0]) / 1e9
    ours, theirs = spread(out, 1e3), spread(bare_out, 1e3)
    lateness, bare = spread(late, 1e3), spread(bare_late, 1e3)
    calm = bare.p99 <= CALM_MS
    slow, bare_slow = int((out > SLOW_MS / 1e3).sum()), int((bare_out > SLOW_MS / 1e3).sum())
    params = {
        **marks.facts, "calm": calm, "judged": f"p99 <= {OUT_P99_MS} ms" if calm else f"{RATIO}x the bare loop",
        "ms": ours.facts(), "bare_ms": theirs.facts(), "work_ms": _work(marks).facts(), "outside": _outside(marks),
    }  # fmt: skip
    floor = ("raw socket: the bare loop's send alone, p99", spread(bare_out - bare_late, 1e3).p99)
    cadence = {"ms": lateness.facts(), "bare_ms": bare.facts(), "goal_ratio": RATIO, **marks.facts}
    drift, bare_drift = (drift_ms(d, w, s) for d, w, s in _grids(marks))
    return [
        entry(
            "live.loop", ours.p99, "ms", "lower", n=ours.n, baseline=(f"{BARE} and raw socket, p99", theirs.p99),
            floor=floor, goal=("<=", OUT_P99_MS if calm else RATIO * theirs.p99), params=params,
        ),
        entry(
            "live.loop_slow", slow, "frames", "lower", n=ours.n, baseline=(f"{BARE} and raw socket", bare_slow),
            floor=("none", 0), goal=("<=", 0 if calm else RATIO * bare_slow * ours.n / theirs.n),
            params={"over_ms": SLOW_MS, "calm": calm, "max_ms": round(float(out.max() * 1e3), 3)},
        ),
        entry(
            "live.cadence", lateness.p99, "ms", "lower", n=lateness.n, baseline=(f"{BARE}, p99", bare.p99),
            floor=(f"{BARE}, p50", bare.p50), goal=("<=", RATIO * bare.p99), params=cadence,
        ),
        entry(
            "live.drift", drift, "ms", "lower", n=lateness.n, baseline=(BARE, bare_drift), floor=("none", 0),
            goal=("<=", 0), params={"minutes": round(lateness.n * PERIOD_US / 6e7, 3), "to_ms": 0.1},
        ),
    ]  # fmt: skip


def _work(marks: Marks) -> Spread:
    """From the wake to the packet."""
    left = marks.sent != NONE
    return spread((marks.sent - marks.woke)[left] / 1e9, 1e3)


def _grids(marks: Marks) -> tuple[tuple[I64, I64, int], tuple[I64, I64, int]]:
    bare = marks.bare
    return (marks.due, marks.woke, marks.start), (bare[:, 0], bare[:, 1], marks.start + PERIOD_NS // 2)


def _outside(marks: Marks) -> dict[str, Any]:
    """What the other process saw: how many packets of how many, and how long after they had left."""
    sent = {k: int(t) for k, t in enumerate(marks.sent.tolist()) if t != NONE}
    took = np.array([marks.arrived[k] - t for k, t in sent.items() if k in marks.arrived], np.float64) / 1e9
    raw = np.array(
        [marks.arrived[-1 - k] - t for k, t in enumerate(marks.bare[:, 2].tolist()) if -1 - k in marks.arrived],
        np.float64,
    ) / 1e9  # fmt: skip
    told: dict[str, Any] = {"sent": len(sent), "received": len(took), "bare_received": len(raw)}
    if len(took) and len(raw):
        told |= {"sent_to_received_ms": spread(took, 1e3).facts(), "bare_ms": spread(raw, 1e3).facts()}
    return told
