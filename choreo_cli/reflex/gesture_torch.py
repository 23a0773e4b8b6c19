"""M5 as a torch module: the same stack of convolutions as `gesture.Gesture`, for training."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from choreo_cli.reflex.gesture import CHANNELS, Shape


class GestureNet(nn.Module):
    """Dilated convolutions without padding, then one linear layer per frame.

    Args:
        shape: Architecture.
        rate: Log odds of an onset at a frame: the bias the head starts from (Lin et al. 2017, focal loss).
    """

    def __init__(self, shape: Shape, rate: float = -4.0) -> None:
        super().__init__()
        self.shape = shape
        wide = [CHANNELS, *[shape.width] * len(shape.dilations)]
        self.convs = nn.ModuleList(
            nn.Conv1d(wide[k], shape.width, shape.kernel, dilation=d) for k, d in enumerate(shape.dilations)
        )
        self.head = nn.Linear(shape.width, len(shape.classes))
        nn.init.constant_(self.head.bias, rate)

    def forward(self, x: Tensor) -> Tensor:
        """Log odds (B, T - reach, K) of channels (B, T, 15)."""
        h = x.transpose(1, 2)
        for conv in self.convs:
            h = torch.relu(conv(h))
        out: Tensor = self.head(h.transpose(1, 2))
        return out


def onset_loss(logits: Tensor, target: Tensor, weight: Tensor, positive: float) -> Tensor:
    """Mean binary cross entropy against soft targets; frames near an onset count up to `positive` times as much.

    Args:
        logits: (B, T, K).
        target: (B, T, K) 0..1, 1 at the frame that speaks of an onset.
        weight: (B, T) 1 for frames that count, 0 for padding.
        positive: Weight of a frame with target 1.
    """
    each = nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    scale = (1 + (positive - 1) * target) * weight[..., None]
    return (each * scale).sum() / (weight.sum() * logits.shape[-1]).clamp(min=1)


def arrays_of(model: GestureNet) -> dict[str, NDArray[np.float32]]:
    """Weights by the names of `gesture.Shape.shapes`."""
    named = {k.replace("convs.", "conv"): v for k, v in model.named_parameters()}
    return {k: v.detach().to("cpu", torch.float32).numpy().copy() for k, v in named.items()}
