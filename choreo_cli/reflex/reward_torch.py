"""M6 as a torch module: the same network as `reward.Reward`, for training."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from choreo_cli.reflex.clips import FEATURES


class RewardNet(nn.Module):
    """Two hidden layers, one number without a bias: only differences are ever compared.

    Args:
        hidden: Units of each layer.
        dropout: Share of hidden units that are dropped in training.
    """

    def __init__(self, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.first = nn.Linear(len(FEATURES), hidden)
        self.second = nn.Linear(hidden, hidden)
        self.last = nn.Linear(hidden, 1, bias=False)
        self.dropout = dropout

    def forward(self, x: Tensor, draws: torch.Generator | None = None) -> Tensor:
        """Scores (...,) of standardised statistics (..., F); with `draws`, hidden units are dropped."""
        h = x
        for layer in (self.first, self.second):
            h = torch.relu(layer(h))
            if draws is not None and self.dropout > 0:
                keep = torch.rand(h.shape, generator=draws, device=draws.device) >= self.dropout
                h = h * keep.to(h.device) / (1 - self.dropout)
        out: Tensor = self.last(h)[..., 0]
        return out


def preference_loss(better: Tensor, other: Tensor, choice: Tensor) -> Tensor:
    """Bradley-Terry: mean cross entropy of sigmoid(better - other) against 1 (first), 0 (second) or .5 (the same)."""
    return nn.functional.binary_cross_entropy_with_logits(better - other, choice)


def arrays_of(model: RewardNet) -> dict[str, NDArray[np.float32]]:
    """Weights by the names of `reward.shapes`."""
    return {k: v.detach().to("cpu", torch.float32).numpy().copy() for k, v in model.named_parameters()}
