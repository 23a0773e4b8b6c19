"""A sampler as a table: where the network is asked, and which sums of noise and answers lie in between.

Solvers and processes are plain arithmetic on whole arrays, so a fixed number of steps is a sum of the noise and the
network's answers with fixed weights. The weights are not written a second time here: the process itself is run on unit
vectors, one column a symbol, and what it hands to the network is read off. A process that bends its values on the way
(a clip) is noticed and refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import DataError
from choreo_cli.generate.config import CHANNELS
from choreo_cli.generate.flow import Held
from choreo_cli.generate.sampling import Process

COLUMNS = 256
TOLERANCE = 1e-4
KNOWN = "known"
Sum = Mapping[str, float]
"""Weights of `noise0`, `noise1`... (fresh draws), `out0`, `out1`... (answers of the network), and `known`."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One question to the network.

    Args:
        time: What it is told of the time.
        way: 0 noise, 1 data: decides whether guidance holds.
        free: What it is given where nothing is known.
        held: What it is given where something is.
    """

    time: float
    way: float
    free: Sum
    held: Sum


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole sample.

    Args:
        steps: Steps of the solver.
        stages: Questions in their order.
        end: The result where nothing is known; elsewhere it is what is known.
        draws: Normal arrays that are needed.
    """

    steps: int
    stages: tuple[Stage, ...]
    end: Sum
    draws: int


class _Unit:
    """Hands out unit vectors (1, COLUMNS, 25), a row for each symbol in the order of asking."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.asked: list[tuple[float, float, NDArray[Any]]] = []
        self.draws = 0

    def symbol(self, name: str) -> NDArray[np.float64]:
        if name not in self.names:
            self.names.append(name)
        row = self.names.index(name)
        if row >= COLUMNS:
            raise DataError("a sampler of too many steps for one graph", hint="choose 1, 2 or 4 steps")
        out = np.zeros((1, COLUMNS, CHANNELS))
        out[:, row] = 1.0
        return out

    def draw(self, number: int) -> NDArray[Any]:
        self.draws = max(self.draws, number + 1)
        return self.symbol(f"noise{number}")

    def predict(self, x: NDArray[Any], time: float, way: float) -> NDArray[Any]:
        self.asked.append((float(time), float(way), np.array(x)))
        return self.symbol(f"out{len(self.asked) - 1}")

    def sum_of(self, x: NDArray[Any]) -> dict[str, float]:
        weights = np.asarray(x, np.float64)[0, : len(self.names), 0]
        return {name: float(w) for name, w in zip(self.names, weights, strict=True) if abs(w) > 1e-12}


def plan_of(process: Process, steps: int, solver: str) -> Plan:
    """The plan of a process.

    Args:
        process: How the model is sampled.
        steps: Steps of the solver.
        solver: See `solvers.solve`.

    Raises:
        DataError: a process that is no fixed sum, or lets answers into what is known.
    """
    free, held = _Unit(), _Unit()
    end: Any = process.run(free.predict, free.draw, None, steps, solver)
    known: Any = held.symbol(KNOWN)
    process.run(held.predict, held.draw, Held(known, np.ones(known.shape, bool)), steps, solver)
    stages = tuple(
        Stage(t, way, free.sum_of(x), held.sum_of(y))
        for (t, way, x), (_, _, y) in zip(free.asked, held.asked, strict=True)
    )
    plan = Plan(steps, stages, free.sum_of(end), free.draws)
    _check(plan, process, solver)
    return plan


def evaluate(total: Sum, values: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """A sum in numbers."""
    return np.asarray(sum(weight * values[name] for name, weight in total.items()))


def _check(plan: Plan, process: Process, solver: str) -> None:
    """Run the process on random numbers, a part of them known, and compare all that it does with the plan."""
    if any(name.startswith("out") for stage in plan.stages for name in stage.held):
        raise DataError(f"{process.name} lets the network into what is known: it has no whole-sampler graph")
    rng = np.random.default_rng(0)
    shape = (1, 8, CHANNELS)
    given = rng.random(shape) < 0.4
    values = {KNOWN: rng.standard_normal(shape)}
    asked: list[NDArray[Any]] = []

    def draw(number: int) -> Any:
        return values.setdefault(f"noise{number}", rng.standard_normal(shape))

    def predict(x: Any, time: float, way: float) -> Any:
        asked.append(np.array(x))
        # Far out, so that a clip cannot hide.
        return values.setdefault(f"out{len(asked) - 1}", 12 * rng.standard_normal(shape))

    end = process.run(predict, draw, Held(values[KNOWN], given), plan.steps, solver)  # type: ignore[arg-type]
    pairs = [
        (x, np.where(given, evaluate(s.held, values), evaluate(s.free, values)))
        for x, s in zip(asked, plan.stages, strict=True)
    ]
    pairs.append((np.where(given, 0, end), np.where(given, 0, evaluate(plan.end, values))))
    worst = max(float(np.abs(a - b).max() / (1 + np.abs(b).max())) for a, b in pairs)
    if not worst <= TOLERANCE:
        raise DataError(
            f"sampling by {process.name} is no fixed sum of noise and answers: it has no whole-sampler graph",
            hint="the step graph has; models that predict the data fold",
        )
