"""Timing in turns: contestants that meet the same disturbances, each with its median and its 95 % point."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from choreo_cli.metrics.timing import turns

F64 = NDArray[np.float64]
Turn = Callable[[int], F64]
"""Does its work so often and gives what each time took, in seconds."""


class Spread(NamedTuple):
    """Of n durations, in the unit they were scaled to."""

    p50: float
    p95: float
    p99: float
    n: int

    def facts(self) -> dict[str, Any]:
        """For `params`, rounded."""
        return {"p50": round(self.p50, 5), "p95": round(self.p95, 5), "p99": round(self.p99, 5), "n": self.n}


def spread(seconds: F64, scale: float) -> Spread:
    """Quantiles of durations, times `scale`: 1e3 for ms, 1e6 for us."""
    p50, p95, p99 = (np.percentile(seconds, (50, 95, 99)) * scale).tolist()
    return Spread(p50, p95, p99, len(seconds))


def timed(work: Callable[[int], object], per: int = 1) -> Turn:
    """A turn of work in this process.

    Args:
        work: Called with 0, 1, 2... from turn to turn.
        per: How many units one call does; durations are those of a unit.
    """
    done = 0

    def turn(count: int) -> F64:
        nonlocal done
        now, took = time.perf_counter_ns, np.empty(count, np.int64)
        for k in range(count):
            start = now()
            work(done)
            took[k] = now() - start
            done += 1
        return took / (1e9 * per)

    return turn


def in_turns(runs: Mapping[str, Turn], rounds: int, count: int) -> dict[str, F64]:
    """Durations of every contestant over all rounds (see `turns`).

    Args:
        runs: Contestants by name.
        rounds: Rounds that are kept.
        count: Times a contestant does its work in a round.
    """
    found: dict[str, list[F64]] = {name: [] for name in runs}
    for name, kept in turns(runs, rounds):
        took = runs[name](count)
        if kept:
            found[name].append(took)
    return {name: np.concatenate(parts) for name, parts in found.items()}
