"""Timing in turns on one core: what the wall says, what the processor was busy with, and how fast it multiplies."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from choreo_cli.metrics.timing import turns

F64 = NDArray[np.float64]
Job = Callable[[], object]
SIDE = 512
FLOPS = 2.0 * SIDE**3


class Took(NamedTuple):
    """Milliseconds of n calls: the wall clock's, and the calling thread's own."""

    wall: F64
    cpu: F64

    @property
    def p50(self) -> float:
        return float(np.median(self.wall))

    @property
    def p95(self) -> float:
        return float(np.percentile(self.wall, 95))

    @property
    def busy(self) -> float:
        """Median of the thread's own time: another program on the core does not lengthen it."""
        return float(np.median(self.cpu))

    def facts(self) -> dict[str, Any]:
        """For `params`."""
        return {"p50_ms": round(self.p50, 4), "p95_ms": round(self.p95, 4), "core_ms": round(self.busy, 4)}


def in_turns(jobs: Mapping[str, Job], rounds: int, count: int = 1) -> dict[str, Took]:
    """Times of every job; they take turns (see `turns`), so that a busy moment hits all alike.

    Args:
        jobs: Contestants.
        rounds: Rounds that are kept.
        count: Calls of a turn.
    """
    wall: dict[str, list[float]] = {n: [] for n in jobs}
    cpu: dict[str, list[float]] = {n: [] for n in jobs}
    for name, kept in turns(jobs, rounds):
        for _ in range(count):
            a, b = time.perf_counter_ns(), time.thread_time_ns()
            jobs[name]()
            c, d = time.thread_time_ns(), time.perf_counter_ns()
            if kept:
                wall[name].append((d - a) / 1e6)
                cpu[name].append((c - b) / 1e6)
    return {n: Took(np.array(wall[n]), np.array(cpu[n])) for n in jobs}


def matrix_jobs() -> dict[str, Job]:
    """Products of 512 x 512 float32 matrices by every library that is here: the fastest one is the rate."""
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((SIDE, SIDE)).astype(np.float32) for _ in range(2))
    out = np.empty_like(a)
    jobs: dict[str, Job] = {"matrix numpy": lambda: np.dot(a, b, out=out)}
    try:
        import torch
    except ImportError:
        return jobs
    x, y, z = (torch.from_numpy(m) for m in (a, b, out.copy()))
    jobs["matrix torch"] = lambda: torch.mm(x, y, out=z)
    return jobs


def rate(took: Mapping[str, Took]) -> tuple[float, dict[str, Any]]:
    """Operations a millisecond of the fastest library, at the median of its turns; and what was measured, GFLOP/s."""
    found = {n: t for n, t in took.items() if n.startswith("matrix ")}
    best = min(found, key=lambda n: found[n].busy)
    told = {n.removeprefix("matrix "): round(FLOPS / t.busy / 1e6, 1) for n, t in found.items()}
    top = round(FLOPS / float(found[best].cpu.min()) / 1e6, 1)
    facts = {"matrix_gflops": round(FLOPS / found[best].busy / 1e6, 1), "matrix_gflops_best": top, "matrix_by": told}
    return FLOPS / found[best].busy, facts
