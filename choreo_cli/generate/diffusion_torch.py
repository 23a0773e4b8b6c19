"""What a diffusion network learns: the data, or the noise, at 1000 levels of a cosine schedule."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from choreo_cli.generate.diffusion import FARTHEST, STEPS, signal_share


@dataclass(frozen=True, slots=True)
class DdimObjective:
    """Denoising (Ho et al., NeurIPS 2020) at evenly drawn levels; time is the step over 1000.

    Args:
        predict: `x0`, the data, or `eps`, the noise.
    """

    predict: str = "x0"

    def times(self, count: int, draws: torch.Generator) -> Tensor:
        """Times (B,) of evenly drawn steps 0..999."""
        return torch.randint(STEPS, (count,), generator=draws).to(torch.float64) / STEPS

    def stratified(self, count: int) -> Tensor:
        """The step in the middle of `count` equal parts of the schedule, as times (B,)."""
        return torch.floor((torch.arange(count, dtype=torch.float64) + 0.5) / count * STEPS) / STEPS

    def noisy(self, x1: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        """sqrt(a) data + sqrt(1 - a) noise, (B, T, 25)."""
        signal, noise = self._shares(t, x1)
        return signal * x1 + noise * x0

    def data(self, out: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """The data as the network sees it, (B, T, 25)."""
        if self.predict == "x0":
            return out
        signal, noise = self._shares(t, x)
        return ((x - noise * out) / signal).clamp(-FARTHEST, FARTHEST)

    def error(self, out: Tensor, x1: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        """Squared error of the target, (B, T, 25)."""
        return (out - (x1 if self.predict == "x0" else x0)).square()

    def signal(self, t: Tensor) -> Tensor:
        """Weight of the structure terms, (B,): the share of the data's variance that is left."""
        return self._alpha(t)

    def _alpha(self, t: Tensor) -> Tensor:
        index = torch.round(t * STEPS).long().clamp(0, STEPS - 1)
        share = torch.tensor(signal_share(), dtype=torch.float32, device=t.device)
        return share[index]

    def _shares(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        a = self._alpha(t).to(like.dtype)[:, None, None]
        return a.sqrt(), (1 - a).sqrt()
