"""Where the time of a training run goes, and when to speak of it."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

BEAT_S = 2.0
MINUTE_S = 60.0
PARTS = ("data", "step", "validation", "checkpoint", "other")


class Meter:
    """A stopwatch that gives every moment to one part: `lap` ends a part, and the next begins.

    On an accelerator the parts are those of the CPU, which hands over work and goes on.

    Args:
        step: Steps done before the watch starts.
        total: Steps of the run.
        before: Seconds that earlier starts of the run took.
        clock: Seconds that only grow.
    """

    def __init__(
        self, step: int, total: int, before: float = 0.0, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._clock = clock
        self._total = total
        self._at = self._beat = self._saved = clock()
        self._origin = self._at - before
        self._restart(step)

    @property
    def seconds(self) -> float:
        """Time of the run up to the last lap, over all its starts."""
        return self._at - self._origin

    def lap(self, part: str, items: int = 0) -> None:
        """Give the time since the last lap to `part`. `items` counts what was trained on."""
        now = self._clock()
        self._spent[part] += now - self._at
        self._items += items
        self._at = now

    def is_checkpoint_due(self, every_s: float) -> bool:
        return self._at - self._saved >= every_s

    def saved(self) -> None:
        self._saved = self._at

    def is_beat_due(self) -> bool:
        """Whether a few seconds have gone since the last beat; asking starts the next few when they have."""
        due = self._at - self._beat >= BEAT_S
        if due:
            self._beat = self._at
        return due

    def is_minute_over(self) -> bool:
        return self._at - self._since >= MINUTE_S

    def record(self, step: int, accelerator_bytes: int | None, *, restart: bool = False) -> dict[str, Any]:
        """Speed, shares of the time and memory since the minute began; `restart` begins the next one.

        Keys: `step`, `steps`, `seconds`, `items_per_s`, `steps_per_s`, `share_data` (waiting for batches), `share_step`
        (forward, backward, optimiser), `share_validation`, `share_checkpoint`, `share_other`, `rss_bytes`,
        `accelerator_bytes` (None on the CPU) and `eta_s` (None before the first step).
        """
        seconds = max(self._at - self._since, 1e-9)
        done = step - self._first
        found = {
            "step": step,
            "steps": self._total,
            "seconds": seconds,
            "items_per_s": self._items / seconds,
            "steps_per_s": done / seconds,
            **{f"share_{part}": spent / seconds for part, spent in self._spent.items()},
            "rss_bytes": resident_bytes(),
            "accelerator_bytes": accelerator_bytes,
            "eta_s": (self._total - step) * seconds / done if done else None,
        }
        if restart:
            self._restart(step)
        return found

    def _restart(self, step: int) -> None:
        self._since = self._at
        self._first = step
        self._items = 0
        self._spent = dict.fromkeys(PARTS, 0.0)


def resident_bytes() -> int:
    """Memory of this process that lies in RAM; where the system does not tell, the most it ever was."""
    try:
        return int(Path("/proc/self/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
