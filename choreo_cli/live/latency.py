"""The latency ledger: one row a tick, written by the loop into a ring and drained by another thread.

The ring has room for a minute and a half. The loop never waits for the reader: a row that was not read in time is
overwritten (the newest win), and the reader counts it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from formats.metrics import entry

I64 = NDArray[np.int64]

NONE = -(2**63)
"""Stands for null in integers."""
INTS = (
    "t_us", "seq", "t_sensor_us", "t_arrival_ns", "t_frame_ns", "t_model_ns", "t_guard_ns", "t_sent_ns", "t_acked_ns",
    "late_ns", "missed", "held", "no_model", "mask", "ports", "beat_idx",
)  # fmt: skip
SEQ, ACKED = INTS.index("seq"), INTS.index("t_acked_ns")
ACK_TICKS = 100
"""Receivers may take 2 s to confirm a packet."""
FLOATS = 11 + 5 + 5
"""Inputs, controls of the model, values sent."""
X, Y, OUT = slice(0, 11), slice(11, 16), slice(16, 21)
ROW = np.dtype([("ints", "<i8", (len(INTS),)), ("floats", "<f4", (FLOATS,)), ("clock", "<f8", (2,))])
"""One tick. `clock` is position and tempo of the transport, NaN without one."""
SIZE = 4096
NAN = float("nan")
CLAIM_MS = 50.0


class Ring:
    """Rows of the newest ticks. One thread puts, one takes; neither waits for the other.

    Args:
        size: Rows it keeps.
    """

    def __init__(self, size: int = SIZE) -> None:
        self.size = size
        self.put_count = 0
        self.dropped = 0
        self._rows = np.zeros(size, ROW)
        self._ints, self._floats = self._rows["ints"], self._rows["floats"]
        self._clock = self._rows["clock"]
        self._taken = 0
        self._early: tuple[int, int] | None = None

    def put(
        self,
        ints: tuple[int, ...],
        x: NDArray[np.float32],
        y: NDArray[np.float32],
        out: NDArray[np.float32],
        beat: float | None,
        bpm: float | None,
    ) -> None:
        """Write one row: `INTS`, inputs (11,), controls (5,), values sent (5,), and the transport."""
        at = self.put_count % self.size
        self._ints[at] = ints
        row = self._floats[at]
        row[X], row[Y], row[OUT] = x, y, out
        self._clock[at] = (NAN if beat is None else beat, NAN if bpm is None else bpm)
        early, self._early = self._early, None
        if early is not None and early[0] == ints[SEQ]:
            self._ints[at, ACKED] = early[1]
        self.put_count += 1  # last: the reader never sees half a row of the newest

    def ack(self, seq: int, t_ns: int) -> bool:
        """A receiver has the values of a tick; called from another thread. False when that tick is not kept any more.

        The first receiver counts. A row that was taken already stays without: see `take`.
        """
        if seq == self.put_count:  # faster than the loop writes its row
            self._early = seq, t_ns
            return True
        row = self._ints[seq % self.size]
        if not 0 <= seq < self.put_count or row[SEQ] != seq:
            return False
        if row[ACKED] == NONE:
            row[ACKED] = t_ns
        return True

    @property
    def waiting(self) -> int:
        """Rows that were not taken yet."""
        return self.put_count - self._taken

    def take(self, hold: int = 0) -> NDArray[Any]:
        """A copy of the rows since the last call, in order. Rows overwritten meanwhile are counted in `dropped`.

        Args:
            hold: Leave so many of the newest where they are, until receivers have confirmed them.
        """
        end = max(self._taken, self.put_count - hold)
        start = max(self._taken, end - self.size)
        index = np.arange(start, end) % self.size
        rows = self._rows[index]
        # The row being written now may be the oldest copied: it and what was overtaken meanwhile are left out.
        safe = max(start, self.put_count - self.size + 1)
        self.dropped += min(safe, end) - self._taken
        self._taken = end
        return rows[max(0, safe - start) :]

    def newest(self, n: int = 250) -> NDArray[Any]:
        """A copy of the last `n` rows at most, for a look from another thread; the last may be torn."""
        end = self.put_count
        return self._rows[np.arange(max(0, end - min(n, self.size - 1)), end) % self.size]


def column(rows: NDArray[Any], name: str) -> I64:
    """(N,) int64 of one of `INTS`."""
    found: I64 = rows["ints"][:, INTS.index(name)]
    return found


def span_ms(rows: NDArray[Any], start: str, stop: str) -> NDArray[np.float64]:
    """(M,) milliseconds from one stage to another, of the rows that have both."""
    a, b = column(rows, start), column(rows, stop)
    both = (a != NONE) & (b != NONE)
    return np.asarray((b[both] - a[both]) / 1e6, np.float64)


def spread(values: NDArray[np.float64]) -> dict[str, float]:
    """p50, p95, p99, max and n; NaN of nothing."""
    points = np.percentile(values, (50, 95, 99, 100)).tolist() if len(values) else [float("nan")] * 4
    return dict(zip(("p50", "p95", "p99", "max"), points, strict=True)) | {"n": float(len(values))}


SPANS = (
    ("live.arrival_to_sent", "t_arrival_ns", "t_sent_ns"),
    ("live.queue", "t_arrival_ns", "t_frame_ns"),
    ("live.compute", "t_frame_ns", "t_guard_ns"),
    ("live.model", "t_frame_ns", "t_model_ns"),
    ("live.sent_to_acked", "t_sent_ns", "t_acked_ns"),
)
POINTS = (("p50", 50.0), ("p95", 95.0), ("p99", 99.0), ("max", 100.0))


class Tally:
    """Durations of a whole performance, taken in piece by piece: eight hours are 12 MB a span."""

    def __init__(self) -> None:
        self._parts: dict[str, list[NDArray[np.float32]]] = {name: [] for name, _, _ in SPANS}
        self._parts |= {"live.lateness": [], "live.interval": []}
        self._last_sent = NONE
        self.ticks = self.missed = self.held = self.sent = 0

    def add(self, rows: NDArray[Any]) -> None:
        """Take in rows, in order."""
        for name, a, b in SPANS:
            self._parts[name].append(span_ms(rows, a, b).astype(np.float32))
        self._parts["live.lateness"].append((column(rows, "late_ns") / 1e6).astype(np.float32))
        sent = column(rows, "t_sent_ns")
        sent = sent[sent != NONE]
        chain = sent if self._last_sent == NONE else np.concatenate([[self._last_sent], sent])
        self._parts["live.interval"].append((np.diff(chain) / 1e6).astype(np.float32))
        if len(sent):
            self._last_sent = int(sent[-1])
        self.ticks += len(rows)
        self.sent += len(sent)
        self.missed += int(column(rows, "missed").sum())
        self.held += int(column(rows, "held").sum())

    def metrics(self, params: dict[str, Any], virtual: bool = False) -> list[dict[str, Any]]:
        """Entries of `choreo.metrics/1`.

        The 50 ms are those between the arrival of the newest sample and the hand-over to the last port; what a
        receiver takes is not in it.

        Args:
            params: What the figures hold for: period, receiver, source, session.
            virtual: The clock stood still while the loop worked: no figure means anything.
        """
        found: list[dict[str, Any]] = []
        about = {"ticks": self.ticks, "missed": self.missed, "held": self.held, **params}
        for name, parts in self._parts.items():
            values = np.concatenate(parts) if parts else np.empty(0, np.float32)
            if name == "live.interval":
                sd = float(values.std()) if len(values) else None
                found.append(_one(f"{name}.sd", sd, len(values), about, virtual=virtual))
                continue
            if name == "live.sent_to_acked" and not len(values):
                continue  # no receiver confirms anything
            for point, q in POINTS:
                value = float(np.percentile(values, q)) if len(values) else None
                goal = ("<=", CLAIM_MS) if (name, point) == ("live.arrival_to_sent", "p99") else None
                found.append(_one(f"{name}.{point}", value, len(values), about, goal, virtual))
        found.append(entry("live.missed", float(self.missed), "ticks", "lower", n=self.ticks, params=about))
        return found


def receiver_metrics(offset: Mapping[str, Any], params: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What `calibrate latency` measured of a receiver, as entries of their own: it is no part of the 50 ms.

    Args:
        offset: As `calibrate_latency.Offset` has it; empty gives nothing.
        params: As of the other entries of the performance.
    """
    if not offset:
        return []
    about = {**params, **{k: offset[k] for k in ("receiver", "period", "rate")}, "by": "calibrate latency"}
    return [
        entry(f"live.receiver.{point}", float(offset[point]), "ms", "lower", n=int(offset["n"]), params=about)
        for point in ("p50", "p95", "min", "max")
    ]


def _one(
    name: str,
    value: float | None,
    n: int,
    params: dict[str, Any],
    goal: tuple[str, float] | None = None,
    virtual: bool = False,
) -> dict[str, Any]:
    status = "degenerate" if virtual else "ok" if n else "insufficient"
    why = "virtual time: nothing takes any" if virtual else None
    rounded = None if value is None else round(value, 6)
    return entry(name, rounded, "ms", "lower", n=n, goal=goal, status=status, params=params, why=why)
