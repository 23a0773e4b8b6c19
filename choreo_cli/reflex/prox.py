"""The proximal step: every latent block moves a little towards what the other blocks predict of it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]

ALPHA = 0.2


class Translators(NamedTuple):
    """The linear translators of all blocks, stacked.

    A translator trained with its own block hidden has zeros in the columns of that block: hiding is part of the
    weights, so the same product serves training, evaluation and the prox step.

    Args:
        weight: (D, D) rows of the predicted blocks, columns of what they are predicted from.
        bias: (D,)
    """

    weight: F32
    bias: F32

    def __call__(self, z: F32) -> F32:
        """(N, D) predictions from (N, D) latents."""
        return np.asarray(z @ self.weight.T + self.bias)


def proxstep(z: F32, t: Translators, alpha: float = ALPHA) -> F32:
    """z <- (1 - alpha) z + alpha T(z), all blocks at once.

    Args:
        z: (N, D) latents.
        t: Translators.
        alpha: Step in 0..1.
    """
    return np.asarray((1 - alpha) * z + alpha * t(z), dtype=np.asarray(z).dtype)


def spectral_norm(weight: F32) -> float:
    """Largest singular value."""
    return float(np.linalg.svd(np.asarray(weight, np.float64), compute_uv=False)[0])


def lipschitz(t: Translators, alpha: float = ALPHA) -> float:
    """Bound (1 - alpha) + alpha ||T|| of the prox map; below 1 it is a contraction with one fixed point."""
    return (1 - alpha) + alpha * spectral_norm(t.weight)
