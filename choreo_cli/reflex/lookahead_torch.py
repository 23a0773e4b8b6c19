"""M4 as a network: dilated causal convolutions on top of a mix of the same place in past beats."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from choreo_cli.reflex.lookahead import CLOCK, COMB, KERNEL, Shape


class Layer(nn.Module):
    """(B, C, T) to (B, C, T - 2 * dilation): a causal convolution, a mix, and the input's newest part added."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.reach = nn.Conv1d(channels, channels, KERNEL, dilation=dilation)
        self.mix = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = cast(Tensor, self.mix(torch.relu(self.reach(x))))
        return x[..., -y.shape[-1] :] + y


class BarAhead(nn.Module):
    """Latents and clock at T ticks (B, T, dim + CLOCK) to latents at H horizons (B, T - field + 1, H, dim).

    It starts as the mean of the last four beats: the head is zero, the mix is flat.

    Args:
        dim: Latents.
        channels: Width of the convolutions.
        layers: Residual layers; layer k has dilation 2^k.
        horizons: Ticks ahead, rising.
    """

    def __init__(self, dim: int, channels: int, layers: int, horizons: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = Shape(dim, channels, layers, horizons)
        self.inlet = nn.Conv1d(dim + CLOCK, channels, 1)
        self.layers = nn.ModuleList(Layer(channels, 2**k) for k in range(layers))
        self.head = nn.Conv1d(channels, len(horizons) * dim, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(cast(Tensor, self.head.bias))
        self.comb = nn.Parameter(torch.full((len(horizons), COMB, dim), 1.0 / COMB))
        self.last = nn.Parameter(torch.zeros(len(horizons), dim))
        self.lags: list[list[int]] = self.shape.lags().tolist()

    def forward(self, x: Tensor) -> Tensor:
        n = x.shape[1] - self.shape.field + 1
        y = self.inlet(x.transpose(1, 2))
        for layer in self.layers:
            y = layer(y)
        h, dim = len(self.shape.horizons), self.shape.dim
        out = self.head(torch.relu(y)).transpose(1, 2).reshape(x.shape[0], n, h, dim)
        z, first = x[..., :dim], x.shape[1] - n
        mixed = [
            sum((w[j] * z[:, first - lag : first - lag + n] for j, lag in enumerate(lags)), torch.zeros(()))
            for w, lags in zip(self.comb, self.lags, strict=True)
        ]
        return cast(Tensor, out + torch.stack(mixed, dim=2) + self.last * z[:, first:, None, :])
