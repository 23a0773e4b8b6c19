"""Measure the whole loop on a real clock beside a bare deadline loop, tick by tick in turns, with a receiver outside.

The bare loop waits for absolute deadlines of the same period, half a period from ours, in the same thread: between
any two of our ticks lies one of its. It wakes, hands one packet of the same size to a raw socket, and that is all.
A frame counts from the moment its tick is due, so that the lateness of the wake is in every figure; where ticks were
skipped it counts from when the first of them was due.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import StorageError
from choreo_cli.live.clock import MonotonicClock
from choreo_cli.live.contest import Spread, spread
from choreo_cli.live.latency import NONE, column
from choreo_cli.live.loop import PERIOD_US
from choreo_cli.live.osc import encode
from formats.metrics import entry

I64 = NDArray[np.int64]

SECONDS = 40.0
OUT_P99_MS, SLOW_MS, CALM_MS, RATIO = 5.0, 50.0, 1.0, 1.5
PERIOD_NS = PERIOD_US * 1000
BARE = "bare deadline loop"
END = b"end\0"
ADDRESS = "/choreo/frame"


class Marks(NamedTuple):
    """One run, a row a tick, monotonic nanoseconds; -2**63 is none.

    Args:
        due: When our tick was due.
        woke: When the wait for it ended.
        first_due: When the first of the ticks was due that this one stands for, where some were skipped.
        sent: When the packet had left.
        bare: (N, 3) due, woke and sent of the bare loop; only ticks that it was not kept from by our own work.
        start: Where the grid begins.
        arrived: sequence number -> when the packet came to the process outside; the bare ones are the negative.
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


class InTurns(MonotonicClock):
    """A real clock whose waits are shared with the bare loop.

    Args:
        raw: Connected socket that takes the bare loop's packets.
        ticks: How many it has room for.
    """

    def __init__(self, raw: socket.socket, ticks: int) -> None:
        super().__init__()
        self._raw = raw
        self._packets = [_packet(-1 - k) for k in range(ticks)]
        self.ours, self.bare = np.zeros((ticks, 2), np.int64), np.zeros((ticks, 3), np.int64)
        self.n_ours = self.n_bare = 0

    def wait_until(self, deadline_ns: int) -> None:
        """See `Clock`."""
        half = deadline_ns - PERIOD_NS // 2
        if self.now_ns() < half and self.n_bare < len(self.bare):
            super().wait_until(half)
            woke = self.now_ns()
            self._raw.send(self._packets[self.n_bare])
            self.bare[self.n_bare] = (half, woke, self.now_ns())
            self.n_bare += 1
        super().wait_until(deadline_ns)
        if self.n_ours < len(self.ours):
            self.ours[self.n_ours] = (deadline_ns, self.now_ns())
            self.n_ours += 1


def _packet(number: int) -> bytes:
    return encode(ADDRESS, (number, 0.1, 0.2, 0.3, 0.4, 0.5))


def bench(*, seconds: float = SECONDS) -> list[dict[str, Any]]:
    """Metric entries of the loop.

    Args:
        seconds: How long it plays; the bundled session has 45.
    """
    return rows(play(seconds))


def play(seconds: float) -> Marks:
    """`run-live` as it is, recorded, on the bundled session, to a socket that another process reads."""
    from choreo_cli.live.performance import Around, Performance
    from choreo_cli.live.recording import Recording
    from choreo_cli.live.show import Show

    with tempfile.TemporaryDirectory(prefix="choreo-bench-") as name, receiver() as (port, arrivals):
        folder = Path(name) / "recorded"
        show = Show(out=f"osc:127.0.0.1:{port}", osc_style="vector")
        recording = Recording(folder, show, 1.0)
        events = recording.events(None)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as raw:
            raw.connect(("127.0.0.1", port))
            clock = InTurns(raw, round(seconds * 1e6 / PERIOD_US) + 2)
            performance = Performance(show, Around(out=folder), events, recording, clock)
            summary = performance.play(performance.loop.origin_us + round(seconds * 1e6))
            events.close()
            raw.send(END)
        arrived = arrivals()
    ledger = performance.loop.ring.newest(summary.ticks)
    ours = clock.ours[: summary.ticks]
    bare = clock.bare[: clock.n_bare]
    bare = bare[bare[:, 0] < ours[-1, 0]]  # without those while we say goodbye
    due = summary.start_ns + 1000 * (column(ledger, "t_us") - summary.first_us)
    facts = {
        "ticks": summary.ticks, "missed": summary.missed, "troubles": dict(summary.troubles), "recorded": True,
        "bare_kept_away": summary.ticks - len(bare),
    }  # fmt: skip
    return Marks(
        due, ours[:, 1], due - PERIOD_NS * column(ledger, "missed"), column(ledger, "t_sent_ns"), bare,
        summary.start_ns, arrived, facts,
    )  # fmt: skip


@contextmanager
def receiver() -> Iterator[tuple[int, Any]]:
    """A process that reads a UDP port of this machine; its port, and a call that waits for its end and tells.

    The call gives sequence number -> time of arrival; `END` ends it.
    """
    top = str(Path(__file__).resolve().parents[2])
    code = "import sys; sys.path.insert(0, sys.argv[1]); from choreo_cli.live.bench_loop import listen; listen()"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind(("127.0.0.1", 0))
        pipe = subprocess.PIPE
        with subprocess.Popen(
            [sys.executable, "-c", code, top], stdin=bound.fileno(), stdout=pipe, stderr=pipe, text=True
        ) as process:
            try:
                assert process.stdout is not None
                if not process.stdout.readline():
                    raise StorageError("the receiver in a process of its own ended")

                def arrivals() -> dict[int, int]:
                    return {int(k): int(v) for k, v in json.loads(process.communicate(timeout=10)[0]).items()}

                yield bound.getsockname()[1], arrivals
            finally:
                process.kill()


def listen() -> None:
    """What the receiver does: standard input is its socket."""
    import struct
    import time

    arrived: dict[int, int] = {}
    at = len(_packet(0)) - 24
    with socket.socket(fileno=0) as bound, open(1, "w", encoding="utf-8") as answer:
        answer.write("ready\n")
        answer.flush()
        while (packet := bound.recv(4096)) != END:
            arrived[struct.unpack_from(">i", packet, at)[0]] = time.monotonic_ns()
        answer.write(json.dumps(arrived))


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
    return (marks.due, marks.woke, marks.start), (bare[:, 0], bare[:, 1], marks.start - PERIOD_NS // 2)


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
