"""Solvers of dx/dt = v(x, t) with one signature; arrays of numpy or torch alike.

`rk4` is the 3/8 rule (Kutta 1901), not the classical one; `heun3` is Heun's third-order method; `ab2` is
Adams-Bashforth with two values, started by one step of `heun2`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import UsageError
from choreo_cli.generate.config import SOLVERS

Field = Callable[[Any, float], Any]
F64 = NDArray[np.float64]

_STAGES = {"euler": 1, "midpoint": 2, "heun2": 2, "heun3": 3, "rk4": 4}


def solve(v: Field, x0: Any, grid: Sequence[float] | F64, solver: str = "euler") -> Any:
    """Follow a field along a grid.

    Args:
        v: `v(x, t)` of the shape of x; t is a number.
        x0: Start, numpy or torch, at grid[0].
        grid: Times, at least two; see `time_grid`.
        solver: euler, midpoint, heun2, heun3, rk4 (3/8 rule) or ab2.

    Returns:
        x at the last time.

    Raises:
        UsageError: an unknown solver, or a grid of one time.
    """
    need_solver(solver)
    times = [float(t) for t in grid]
    if len(times) < 2:
        raise UsageError(f"a grid of {len(times)} times", hint="at least one step is needed")
    if solver == "ab2":
        return _ab2(v, x0, times)
    step, x = _ONE_STEP[solver], x0
    for t, after in itertools.pairwise(times):
        x = step(v, x, t, after - t)
    return x


def evaluations(solver: str, steps: int) -> int:
    """Field evaluations of so many steps (NFE). Raises UsageError for an unknown solver."""
    need_solver(solver)
    return steps + 1 if solver == "ab2" else _STAGES[solver] * steps


def time_grid(steps: int, shift: float = 1.0) -> F64:
    """steps + 1 times from 0 to 1, `t' = s t / (1 + (s - 1) t)`: s above 1 spends more steps near the data.

    Raises:
        UsageError: no steps, or a shift that is not above 0.
    """
    if steps < 1:
        raise UsageError(f"{steps} steps", hint="at least one is needed")
    if not shift > 0:
        raise UsageError(f"shift {shift} is not above 0")
    t = np.linspace(0.0, 1.0, steps + 1)
    return np.asarray(shift * t / (1 + (shift - 1) * t))


def need_solver(solver: str) -> None:
    """Raise UsageError for an unknown solver."""
    if solver not in SOLVERS:
        raise UsageError(f"no solver {solver!r}", hint=f"choose from {', '.join(SOLVERS)}")


def _euler(v: Field, x: Any, t: float, h: float) -> Any:
    return x + h * v(x, t)


def _midpoint(v: Field, x: Any, t: float, h: float) -> Any:
    return x + h * v(x + h / 2 * v(x, t), t + h / 2)


def _heun2(v: Field, x: Any, t: float, h: float) -> Any:
    k1 = v(x, t)
    return x + h / 2 * (k1 + v(x + h * k1, t + h))


def _heun3(v: Field, x: Any, t: float, h: float) -> Any:
    k1 = v(x, t)
    k2 = v(x + h / 3 * k1, t + h / 3)
    k3 = v(x + 2 * h / 3 * k2, t + 2 * h / 3)
    return x + h / 4 * (k1 + 3 * k3)


def _rk4(v: Field, x: Any, t: float, h: float) -> Any:
    k1 = v(x, t)
    k2 = v(x + h / 3 * k1, t + h / 3)
    k3 = v(x + h * (k2 - k1 / 3), t + 2 * h / 3)
    k4 = v(x + h * (k1 - k2 + k3), t + h)
    return x + h / 8 * (k1 + 3 * (k2 + k3) + k4)


def _ab2(v: Field, x: Any, times: Sequence[float]) -> Any:
    """x + h ((1 + r/2) k - r/2 k_before), r the ratio of this step to the one before: grids need not be even."""
    h = times[1] - times[0]
    before = v(x, times[0])
    x = x + h / 2 * (before + v(x + h * before, times[1]))
    for t, after in itertools.pairwise(times[1:]):
        half, k = (after - t) / h / 2, v(x, t)
        h = after - t
        x = x + h * ((1 + half) * k - half * before)
        before = k
    return x


_ONE_STEP: dict[str, Callable[[Field, Any, float, float], Any]] = {
    "euler": _euler, "midpoint": _midpoint, "heun2": _heun2, "heun3": _heun3, "rk4": _rk4,
}  # fmt: skip
