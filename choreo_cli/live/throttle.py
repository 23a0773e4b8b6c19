"""How often a port hears: at most once a cell of a fixed grid, what changed, and everything now and then."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from choreo_cli.live.port import Outgoing

MS_NS = 1_000_000
_TOUCH = 1e-6
"""A change this much below the quantum counts as one: steps of 1/127 in float32 are not all equal."""


class Throttle:
    """One port's. The grid is absolute: a late tick does not push the later ones back, a missed cell is not made up.

    Values that come while a cell has been served are superseded by the next ones: the newest wins, nothing queues.

    Args:
        period_ms: Width of a cell, `ControlMap.throttle_ms`.
        quantum: Least change in 0..1 that is sent at once, `Port.quantum`. Whatever reaches 0 or 1 is sent, too.
        refresh_s: All values are sent at the first call and this long after they last were: a receiver that came late,
            or lost a packet, is right again.
        origin_ns: Clock reading at which a cell begins: the loop's start, so that its ticks fall into cells of their
            own. Without it the first call lies in the middle of its cell, half a period from both edges.
    """

    def __init__(
        self, period_ms: float, quantum: float, refresh_s: float = 1.0, *, origin_ns: int | None = None
    ) -> None:
        self.quantum = quantum
        self.superseded = 0
        self.skipped = 0
        self._refresh_ns = round(refresh_s * 1000 * MS_NS)
        self._origin = origin_ns
        self._period = round(period_ms * MS_NS)
        self._last = np.zeros(0, np.float32)
        self._cell: int | None = None
        self._full_ns: int | None = None

    @property
    def period_ms(self) -> float:
        """Width of a cell in ms."""
        return self._period / MS_NS

    def retime(self, period_ms: float) -> None:
        """Take another period, as a reloaded map asks for; nothing is sent twice or lost by it."""
        period = round(period_ms * MS_NS)
        if period != self._period:
            self._period, self._cell = period, None

    def resend(self) -> None:
        """Everything is sent at the next call, whatever the grid says: the receiver is new."""
        self._cell = self._full_ns = None

    def due(self, out: Outgoing, now_ns: int) -> Outgoing | None:
        """What to hand to the port now: `out` with `send` marking what it needs, None when there is nothing.

        Args:
            out: The newest values.
            now_ns: The loop's clock.
        """
        if self._origin is None:
            self._origin = now_ns - self._period // 2
        cell = (now_ns - self._origin) // self._period
        if self._cell is not None and cell <= self._cell:
            self.superseded += 1
            return None
        self.skipped += 0 if self._cell is None else cell - self._cell - 1
        self._cell = cell
        # Half a cell of slack: the refresh falls on a cell, not on the first one after a whole second.
        if self._full_ns is None or now_ns - self._full_ns + self._period // 2 >= self._refresh_ns:
            self._full_ns = now_ns
            self._last = out.unit.copy()
            return replace(out, send=np.ones(len(out.unit), bool))
        send = self._changed(out.unit)
        if not send.any():
            return None
        self._last[send] = out.unit[send]
        return replace(out, send=send)

    def _changed(self, unit: NDArray[np.float32]) -> NDArray[np.bool_]:
        at_end = ((unit <= 0) | (unit >= 1)) & (unit != self._last)
        return np.asarray((np.abs(unit - self._last) >= self.quantum - _TOUCH) | at_end)
