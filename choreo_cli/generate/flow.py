"""Flow matching on straight paths: x_t = (1 - t) x0 + t x1, from noise x0 to data x1 (Lipman et al., ICLR 2023)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.generate.solvers import evaluations, need_solver, solve, time_grid

F32 = NDArray[np.float32]
# Network: (x, its time, way from noise 0 to data 1) -> what it predicts.
Predict = Callable[[F32, float, float], F32]
# Draws of the sampling by number: the n-th standard normal (B, T, 25); 0 is what the way begins with.
Draw = Callable[[int], F32]
NEAREST = 0.05  # a network that predicts x1 is not divided by less than this


def velocity(out: Any, x: Any, t: float, predict: str) -> Any:
    """The velocity at x_t of what a network says: itself for `v`, `(x1 - x_t) / max(1 - t, .05)` for `x1`."""
    return out if predict == "v" else (out - x) / max(1.0 - t, NEAREST)


@dataclass(frozen=True, slots=True)
class Held:
    """Values that are given: `known` (B, T, 25) normalised where `given` (B, T, 25) says so."""

    known: F32
    given: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Flow:
    """How a flow network is sampled.

    Args:
        predict: What the network gives, `x1` or `v`.
        shift: See `solvers.time_grid`.
    """

    predict: str = "x1"
    shift: float = 1.0
    name: str = "flow"

    def evaluations(self, steps: int, solver: str) -> int:
        """Network evaluations of a sample (NFE), each of one or more guidance branches."""
        return evaluations(solver, steps)

    def run(self, predict: Predict, draw: Draw, held: Held | None, steps: int, solver: str) -> F32:
        """Carry noise (B, T, 25) to data; known values stay on their own straight path all the way."""
        need_solver(solver)
        noise = draw(0)

        def v(x: F32, t: float) -> F32:
            if held is None:
                return np.asarray(velocity(predict(x, t, t), x, t, self.predict))
            x = np.where(held.given, (1 - t) * noise + t * held.known, x)
            out = velocity(predict(x, t, t), x, t, self.predict)
            return np.where(held.given, held.known - noise, out)

        return np.asarray(solve(v, noise, time_grid(steps, self.shift), solver), np.float32)
