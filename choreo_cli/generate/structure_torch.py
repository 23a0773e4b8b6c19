"""Terms of the loss on the body: joints, their speed, and feet that stand, from channels that are decoded."""

from __future__ import annotations

import torch
from torch import Tensor

from choreo_cli.generate.config import CONTACTS
from choreo_cli.motion.choreo25_torch import decode_channels
from choreo_cli.motion.skeleton import canonical_skeleton

ANKLES = [7, 8]
FLOOR = [0, 2]
TERMS = ("position", "velocity", "contact")


def structure_terms(found: Tensor, data: Tensor, fps: float, weight: Tensor) -> dict[str, Tensor]:
    """Errors of decoded clips, means over clips weighted by `weight`.

    Both are decoded with the canonical body of 1.70 m from one start, in metres and seconds: position is the mean
    squared error of joints (m^2), velocity that of their differences times fps (m^2/s^2), contact the predicted
    contact, taken as given, times the squared horizontal speed of that ankle (m^2/s^2). Swivels enter through the
    elbow alone. The three follow EDGE (Tseng et al., CVPR 2023), there on normalised channels.

    Args:
        found: (B, T, 25) raw channels of the network.
        data: (B, T, 25) raw channels.
        fps: Frame rate.
        weight: (B,).
    """
    body = canonical_skeleton()
    with torch.autocast(found.device.type, enabled=False):
        clips = found.float()
        joints = decode_channels(clips, body, fps)
        with torch.no_grad():
            true = decode_channels(data.float(), body, fps)
        gap = joints - true
        speed = (gap[:, 1:] - gap[:, :-1]) * fps
        feet = joints[:, :, ANKLES][..., FLOOR]
        slide = ((feet[:, 1:] - feet[:, :-1]) * fps).square().sum(-1)
        stands = clips[:, :-1, CONTACTS].detach().clamp(0, 1)
        terms = (gap.square(), speed.square(), stands * slide)
        return {name: (weight * term.flatten(1).mean(1)).mean() for name, term in zip(TERMS, terms, strict=True)}
