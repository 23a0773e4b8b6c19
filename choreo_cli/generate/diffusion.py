"""Denoising diffusion with a cosine schedule, sampled by DDIM: the baseline that flow matching is compared with.

Schedule: Nichol and Dhariwal, "Improved denoising diffusion probabilistic models", ICML 2021. Sampling: Song, Meng and
Ermon, "Denoising diffusion implicit models", ICLR 2021; eta 0 is deterministic, 1 is ancestral.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import UsageError
from choreo_cli.generate.flow import Draw, Held, Predict

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
STEPS = 1000
OFFSET = 0.008
LARGEST_BETA = 0.999
FARTHEST = 8.0  # standard deviations: an x0 that was divided out of pure noise is not believed beyond


@lru_cache(maxsize=1)
def signal_share() -> F64:
    """alpha-bar of steps 0..999: the share of the data's variance that is left, (1000,), falling."""
    angle = (np.arange(STEPS + 1) / STEPS + OFFSET) / (1 + OFFSET) * math.pi / 2
    curve = np.cos(angle) ** 2
    beta = np.minimum(1 - curve[1:] / curve[:-1], LARGEST_BETA)
    found = np.cumprod(1 - beta)
    found.setflags(write=False)
    return np.asarray(found)


def visited(steps: int) -> NDArray[np.int64]:
    """steps + 1 schedule steps from 999 down to -1, which is the data.

    Raises:
        UsageError: fewer than 1 or more than 1000 steps.
    """
    if not 1 <= steps <= STEPS:
        raise UsageError(f"{steps} steps of diffusion", hint=f"1 to {STEPS}")
    return np.rint(np.linspace(STEPS - 1, -1, steps + 1)).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Ddim:
    """How a diffusion network is sampled.

    Args:
        predict: What the network gives, `x0` (the data) or `eps` (the noise).
        eta: 0 deterministic, 1 ancestral.
    """

    predict: str = "x0"
    eta: float = 0.0
    name: str = "ddim"

    def evaluations(self, steps: int, solver: str) -> int:
        """Network evaluations of a sample (NFE)."""
        return steps

    def run(self, predict: Predict, draw: Draw, held: Held | None, steps: int, solver: str) -> F32:
        """Carry noise (B, T, 25) to data; known values follow the noise they began with. `solver` has no meaning."""
        share, noise = signal_share(), draw(0)
        x = noise
        path = visited(steps).tolist()
        for number, (k, after) in enumerate(itertools.pairwise(path)):
            a, b = float(share[k]), float(share[after]) if after >= 0 else 1.0
            if held is not None:
                x = np.where(held.given, math.sqrt(a) * held.known + math.sqrt(1 - a) * noise, x)
            data, eps = self._split(predict(x, k / STEPS, 1 - (k + 1) / STEPS), x, a)
            if held is not None:
                data = np.where(held.given, held.known, data)
            sigma = self.eta * math.sqrt((1 - b) / (1 - a) * max(0.0, 1 - a / b))
            x = math.sqrt(b) * data + math.sqrt(max(0.0, 1 - b - sigma**2)) * eps
            if sigma > 0:
                x = x + sigma * draw(number + 1)
        return np.asarray(x, np.float32)

    def _split(self, out: F32, x: F32, a: float) -> tuple[F32, F32]:
        """Data and noise of x at a signal share."""
        s, n = np.float32(math.sqrt(a)), np.float32(math.sqrt(1 - a))
        if self.predict == "x0":
            return out, np.asarray((x - s * out) / n, np.float32)
        return np.asarray(np.clip((x - n * out) / s, -FARTHEST, FARTHEST), np.float32), out
