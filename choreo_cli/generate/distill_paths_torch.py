"""The way from noise to data as a distillation needs it: points of it, jumps along it, for flow and diffusion alike.

Both ways are `x = a(u) data + s(u) noise` with u from 0 (noise) to 1 (data): straight lines for flow matching, the
cosine schedule for diffusion. A jump of DDIM (Song et al., ICLR 2021, eta 0) and an Euler step of a flow that knows its
data are then one formula: keep the noise that the data leave of x, and mix both anew.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from choreo_cli.generate.diffusion import FARTHEST, STEPS, signal_share
from choreo_cli.generate.flow import velocity
from choreo_cli.generate.solvers import solve, time_grid

LEAST = 1e-5  # a share of noise or data that is divided by
# Network: (x, u (B,)) -> what it says.
Says = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Given:
    """Values that are known: `known` (B, T, 25) normalised where `flags` (B, T, 25) is 1."""

    known: Tensor
    flags: Tensor

    def put(self, x: Tensor, values: Tensor) -> Tensor:
        """x with `values` where something is given."""
        return torch.where(self.flags > 0.5, values, x)


@dataclass(frozen=True, slots=True)
class Way:
    """One process in numbers.

    Args:
        process: `flow` or `ddim`.
        predict: What the network says: `x1` or `x0` (the data), `v`, or `eps`.
        shift: Of a flow's grid, see `solvers.time_grid`.
    """

    process: str
    predict: str
    shift: float = 1.0

    def shares(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Shares of data and noise at u (B,): two of (B, 1, 1)."""
        if self.process == "flow":
            return u[:, None, None], (1 - u)[:, None, None]
        # One more entry, for the data themselves: step -1 of the schedule is all data.
        table = torch.tensor([*signal_share(), 1.0], dtype=torch.float64, device=u.device)
        a = table[self._index(u)].to(torch.float32)[:, None, None]
        return a.sqrt(), (1 - a).sqrt()

    def time(self, u: Tensor) -> Tensor:
        """What the network is told of u, (B,)."""
        if self.process == "flow":
            return u
        return self._index(u).clamp(min=0).to(torch.float64) / STEPS

    def _index(self, u: Tensor) -> Tensor:
        """Step of the schedule, 999 at u = 0 and -1 at u = 1, as `diffusion.visited` rounds it."""
        return torch.round(STEPS - 1 - STEPS * u.to(torch.float64)).long().clamp(-1, STEPS - 1)

    def noisy(self, data: Tensor, noise: Tensor, u: Tensor) -> Tensor:
        """The point at u (B,) between noise and data, (B, T, 25)."""
        a, s = self.shares(u)
        return a * data + s * noise

    def data(self, out: Tensor, x: Tensor, u: Tensor) -> Tensor:
        """The data that a network means at x, (B, T, 25)."""
        if self.predict in ("x1", "x0"):
            return out
        a, s = self.shares(u)
        if self.predict == "v":
            return x + s * out
        return ((x - s * out) / a.clamp(min=LEAST)).clamp(-FARTHEST, FARTHEST)

    def jump(self, x: Tensor, data: Tensor, u: Tensor, to: Tensor) -> Tensor:
        """Where x is at `to` (B,) when `data` is where it goes: the noise in x is kept."""
        a, s = self.shares(u)
        a_to, s_to = self.shares(to)
        return a_to * data + s_to / s.clamp(min=LEAST) * (x - a * data)

    def aim(self, x: Tensor, there: Tensor, u: Tensor, to: Tensor) -> Tensor:
        """The data for which `jump` from x at u comes to `there` at `to`: what one step says that does as two do."""
        a, s = self.shares(u)
        a_to, s_to = self.shares(to)
        kept = s_to / s.clamp(min=LEAST)
        return (there - kept * x) / (a_to - kept * a).clamp(min=LEAST)

    def grid(self, steps: int) -> list[float]:
        """steps + 1 values of u that a sampler visits."""
        return [float(u) for u in time_grid(steps, self.shift if self.process == "flow" else 1.0)]

    def sample(self, says: Says, noise: Tensor, given: Given | None, steps: int, solver: str = "euler") -> Tensor:
        """Carry noise (B, T, 25) to data as `flow.Flow` and `diffusion.Ddim` do, on tensors; known values kept."""
        rows = len(noise)

        def full(u: float) -> Tensor:
            return torch.full((rows,), u, dtype=noise.dtype, device=noise.device)

        def held(x: Tensor, u: float) -> Tensor:
            return x if given is None else given.put(x, self.noisy(given.known, noise, full(u)))

        if self.process == "flow":

            def v(x: Tensor, t: float) -> Tensor:
                x = held(x, t)
                out: Tensor = velocity(says(x, full(t)), x, t, self.predict)
                return out if given is None else given.put(out, given.known - noise)

            found: Tensor = solve(v, noise, self.grid(steps), solver)
        else:
            found = noise
            for u, to in itertools.pairwise(self.grid(steps)):
                x = held(found, u)
                out = says(x, full(u))
                data = self.data(out, x, full(u))
                data = data if given is None else given.put(data, given.known)
                if self.predict == "eps":  # data that were held at their bound do not say what the noise was
                    a, s = self.shares(full(to))
                    found = a * data + s * out
                else:
                    found = self.jump(x, data, full(u), full(to))
        return found if given is None else given.put(found, given.known)


def student_predicts(way: Way) -> str:
    """What a student says: as its teacher, but never the noise, of which one step cannot make data."""
    return "x0" if way.predict == "eps" else way.predict
