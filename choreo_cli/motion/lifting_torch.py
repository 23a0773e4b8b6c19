"""The lifting network as a torch module: the same numbers as `lifting.Lifter`, for training."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from choreo_cli.motion.lifting import JOINTS, OUTPUTS, SCALE
from choreo_cli.motion.lifting_points import FEATURES


class LiftingNet(nn.Module):
    """A window of image points to the joints of its last frame, through residual layers.

    Args:
        window: Frames.
        hidden: Units of each layer.
        blocks: Residual layers.
    """

    def __init__(self, window: int, hidden: int, blocks: int) -> None:
        super().__init__()
        self.first = nn.Linear(window * FEATURES, hidden)
        self.blocks = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(blocks))
        self.last = nn.Linear(hidden, OUTPUTS)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Joints (B, 22, 3) in statures, pelvis 0, and the log of stature over torso length over 3.3, (B,)."""
        h = torch.relu(self.first(x))
        for block in self.blocks:
            h = h + torch.relu(block(h))
        out = self.last(h)
        joints = out[:, :-1].reshape(len(x), JOINTS - 1, 3)
        return torch.cat([joints.new_zeros(len(x), 1, 3), joints], 1), out[:, -1]


def lifting_loss(joints: Tensor, scale: Tensor, true: Tensor, true_scale: Tensor) -> tuple[Tensor, Tensor]:
    """Mean distance of the joints in statures, and of the log scale.

    Args:
        joints: (B, 22, 3) of the network.
        scale: (B,) of the network.
        true: (B, 22, 3) statures; a joint that is NaN does not count.
        true_scale: (B,) stature over the longest torso of the window.
    """
    known = torch.isfinite(true).all(-1)
    gap = torch.where(known[..., None], joints - torch.nan_to_num(true), 0.0)
    away = torch.sqrt((gap**2).sum(-1) + 1e-12) * known
    place = away.sum() / known.sum().clamp(min=1)
    told = torch.isfinite(true_scale)
    aim = torch.log(torch.where(told, true_scale, SCALE) / SCALE)
    return place, ((scale - aim).abs() * told).sum() / told.sum().clamp(min=1)


def arrays_of(model: LiftingNet) -> dict[str, NDArray[np.float32]]:
    """Weights by the names of `lifting.shapes`."""
    return {k: v.detach().to("cpu", torch.float32).numpy().copy() for k, v in model.named_parameters()}
