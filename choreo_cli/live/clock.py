"""The clocks of the live loop: monotonic nanoseconds, really passing, faster, or as fast as the work is done."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

SECOND_NS = 1_000_000_000


class Clock(Protocol):
    """Where the loop takes its time from; nothing in `live` reads another clock."""

    def now_ns(self) -> int:
        """Nanoseconds since an arbitrary moment, never going back."""
        ...

    def wait_until(self, deadline_ns: int) -> None:
        """Return at `deadline_ns` or as soon after it as can be; at once when it has passed."""
        ...


class MonotonicClock:
    """Real time, `speed` times as fast.

    Args:
        speed: Session seconds in a real second.
    """

    def __init__(self, speed: float = 1.0) -> None:
        self.speed = speed
        self._start = time.monotonic_ns()

    def now_ns(self) -> int:
        """See `Clock`."""
        passed = time.monotonic_ns() - self._start
        return self._start + (passed if self.speed == 1.0 else round(passed * self.speed))

    def wait_until(self, deadline_ns: int) -> None:
        """See `Clock`."""
        left = (deadline_ns - self.now_ns()) / self.speed
        if left > 0:
            time.sleep(left / SECOND_NS)


class VirtualClock:
    """Time that passes only by waiting: hours in seconds, the same every time.

    Args:
        start_ns: First reading.
        late: Called with a deadline, gives the nanoseconds by which a waiter wakes late; None is never.
    """

    def __init__(self, start_ns: int = 0, late: Callable[[int], int] | None = None) -> None:
        self._now = start_ns
        self._late = late

    def now_ns(self) -> int:
        """See `Clock`."""
        return self._now

    def wait_until(self, deadline_ns: int) -> None:
        """See `Clock`."""
        woken = deadline_ns + (self._late(deadline_ns) if self._late else 0)
        self._now = max(self._now, woken)

    def jump(self, by_ns: int) -> None:
        """Let time pass by itself, as while something blocks."""
        self._now += max(0, by_ns)
