"""Tiny encoders of the four modalities, and the fixed scale of what they emit."""

from __future__ import annotations

import torch
from torch import Tensor, nn

EPS = 1e-5


class TinyEncoder(nn.Module):
    """Linear, ReLU, Linear: (N, n_in) standardised inputs to (N, n_out).

    Args:
        n_in: Inputs.
        n_out: Latents.
        n_hidden: Hidden units.
    """

    def __init__(self, n_in: int, n_out: int, n_hidden: int = 128) -> None:
        super().__init__()
        self.hidden = nn.Linear(n_in, n_hidden)
        self.out = nn.Linear(n_hidden, n_out)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.out(torch.relu(self.hidden(x)))
        return y


class UnitBlock(nn.Module):
    """Batch normalisation without affine part, divided by sqrt(dim): every block has norm 1 on average.

    Only rows of measured modalities count. Without it a loss that compares latents with latents is best served by
    constant ones.

    Args:
        dim: Latents of the block.
        momentum: Weight of a new batch in the running statistics, once there have been enough of them.
    """

    mean: Tensor
    var: Tensor
    batches: Tensor

    def __init__(self, dim: int, momentum: float = 0.02) -> None:
        super().__init__()
        self.dim, self.momentum = dim, momentum
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("var", torch.ones(dim))
        self.register_buffer("batches", torch.zeros(()))

    def forward(self, h: Tensor, rows: Tensor) -> Tensor:
        """(N, dim) of unit norm from (N, dim) and (N,) bool which rows are measured."""
        mean, var = self.mean, self.var
        if self.training and int(rows.sum()) > 1:
            real = h[rows]
            mean, var = real.mean(dim=0), real.var(dim=0, unbiased=False)
            with torch.no_grad():
                # A plain mean at first: otherwise a short training would end on what it began with.
                self.batches += 1
                weight = (1 / self.batches).clamp(min=self.momentum)
                self.mean.lerp_(mean, weight)
                self.var.lerp_(var, weight)
        z: Tensor = (h - mean) * torch.rsqrt(var + EPS) / float(self.dim) ** 0.5
        return z

    @torch.no_grad()
    def fold(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Weight and bias of a Linear that does what the given one followed by this block does, in float64."""
        scale = torch.rsqrt(self.var.double() + EPS) / self.dim**0.5
        return weight.double() * scale[:, None], (bias.double() - self.mean.double()) * scale
