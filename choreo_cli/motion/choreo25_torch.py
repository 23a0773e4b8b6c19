"""choreo25 in torch: the numbers of `choreo25`, batched and differentiable.

The formulas are those of the numpy modules, called with another array namespace; nothing is written twice.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from choreo_cli.errors import DataError
from choreo_cli.motion.algebra import dot, heading
from choreo_cli.motion.choreo25 import MIRROR_NEGATED, MIRROR_ORDER, N_CHANNELS, SWIVELS
from choreo_cli.motion.forward_kinematics import Body, body_of, joints_in_heading
from choreo_cli.motion.inverse_kinematics import pelvis_of, posture
from choreo_cli.motion.joint_checks import ANKLE_HEIGHT, CONTACT_HEIGHT, CONTACT_SPEED
from choreo_cli.motion.limbs import elbow_distance
from formats.motion_npz import NORMS, Skeleton

__all__ = ["clamp_channels", "decode_channels", "encode_channels", "integrate_root", "mirror_channels", "swivel_loss"]

Start = float | Tensor


def _exact(x: Tensor) -> torch.dtype:
    """float64 where the device has it: rates are summed in it (MPS has none)."""
    return x.dtype if x.device.type == "mps" else torch.float64


def _body(skeleton: Skeleton | Tensor, like: Tensor, dtype: torch.dtype) -> Body:
    """Body whose arrays broadcast against (..., B, T): one skeleton, or one for each clip (B, 58)."""
    raw = torch.from_numpy(skeleton.to_vector()) if isinstance(skeleton, Skeleton) else skeleton
    vector = raw.to(device=like.device, dtype=dtype)
    if vector.ndim == 1:
        vector = vector[None]
    if vector.shape[-1] != 58:
        raise DataError(f"skeletons of shape {tuple(vector.shape)}", hint="(58,) or (batch, 58) is needed")
    return body_of(torch, vector.movedim(-1, 0)[..., None])


def integrate_root(
    channels: Tensor, fps: float, yaw0: Start = 0.0, x0: Start = 0.0, z0: Start = 0.0
) -> tuple[Tensor, Tensor]:
    """Sum the rates of change in float64: (..., T, 25) -> yaw (..., T) rad and root (..., T, 3) metres."""
    rates = channels[..., :-1, [0, 1, 3]].to(_exact(channels)) / fps

    def begin(value: Start) -> Tensor:
        lead = torch.as_tensor(value, dtype=rates.dtype, device=rates.device)
        return lead.expand(channels.shape[:-2])[..., None]

    yaw = torch.cat([begin(yaw0), begin(yaw0) + torch.cumsum(rates[..., 2], -1)], -1)
    x, z = heading(torch.cos(yaw[..., :-1]), torch.sin(yaw[..., :-1]), rates[..., 0], rates[..., 1])
    root_x = torch.cat([begin(x0), begin(x0) + torch.cumsum(x, -1)], -1)
    root_z = torch.cat([begin(z0), begin(z0) + torch.cumsum(z, -1)], -1)
    return yaw, torch.stack([root_x, channels[..., 2].to(rates.dtype), root_z], -1)


def decode_channels(
    channels: Tensor,
    skeleton: Skeleton | Tensor,
    fps: float,
    yaw0: Start = 0.0,
    x0: Start = 0.0,
    z0: Start = 0.0,
) -> Tensor:
    """Decode clips.

    Args:
        channels: (..., T, 25), T >= 1.
        skeleton: One body, (58,), or one for each clip, (B, 58), with channels (B, T, 25).
        fps: Frame rate.
        yaw0, x0, z0: Start; numbers, or tensors of the leading shape.

    Returns:
        (..., T, 22, 3) metres, in the type of the channels.

    Raises:
        DataError: another shape.
    """
    if channels.ndim < 2 or channels.shape[-1] != N_CHANNELS or not channels.shape[-2]:
        raise DataError(f"channels of shape {tuple(channels.shape)}", hint="(..., frames, 25) is needed")
    yaw, root = integrate_root(channels, fps, yaw0, x0, z0)
    t = channels.shape[-2]
    c = channels.reshape(-1, t, N_CHANNELS).movedim(-1, 0)
    body = _body(skeleton, channels, channels.dtype)
    ahead = channels.new_tensor([[0.0, 0.0], [1.0, 1.0]])[..., None, None]
    local, flat, own = joints_in_heading(torch, body, c, ahead)
    if not bool(own.all()):
        index = torch.where(own, torch.arange(t, device=c.device), -1)
        last = torch.cummax(index, -1).values
        kept = torch.gather(flat, -1, last.clamp(min=0).expand_as(flat))
        local, _, _ = joints_in_heading(torch, body, c, torch.where(last >= 0, kept, ahead))
    yaw, root = yaw.reshape(-1, t), root.reshape(-1, t, 3)
    exact = local.to(yaw.dtype)
    x, z = heading(torch.cos(yaw), torch.sin(yaw), exact[0], exact[2])
    world = torch.stack([x + root[..., 0], exact[1] + root[..., 1], z + root[..., 2]], 0)
    return world.permute(2, 3, 1, 0).reshape(*channels.shape[:-1], 22, 3).to(channels.dtype)


def encode_channels(joints: Tensor, fps: float, skeleton: Skeleton | Tensor) -> tuple[Tensor, Tensor]:
    """Encode clips; worked out in float64, returned in the type of the joints.

    Contacts are 0 or 1 and carry no gradient.

    Args:
        joints: (..., T, 22, 3) metres, y up, floor at 0, finite.
        fps: Frame rate.
        skeleton: One body, (58,), or one for each clip, (B, 58), with joints (B, T, 22, 3).

    Returns:
        Channels (..., T, 25); yaw0, x0, z0 (..., 3).

    Raises:
        DataError: another shape.
    """
    if joints.ndim < 3 or joints.shape[-2:] != (22, 3) or not joints.shape[-3]:
        raise DataError(f"joints of shape {tuple(joints.shape)}", hint="(..., frames, 22, 3) is needed")
    t = joints.shape[-3]
    exact = joints.to(_exact(joints)).reshape(-1, t, 22, 3)
    j = exact.permute(3, 2, 0, 1)
    body = _body(skeleton, joints, exact.dtype)
    pelvis = pelvis_of(torch, body, j)
    yaw = pelvis.yaw[0]
    rest = torch.cat([j[1, :1], _contacts(exact, fps), posture(torch, body, pelvis)], 0)
    zero = torch.zeros_like(rest[:1])
    if t == 1:
        rates = zero.expand(3, *zero.shape[1:])
    else:
        turned = torch.diff(yaw, dim=-1)
        turned = turned - 2 * math.pi * torch.round(turned.detach() / (2 * math.pi))
        step = torch.diff(exact[:, :, 0], dim=1) * fps
        x, z = heading(torch.cos(yaw[:, :-1]), -torch.sin(yaw[:, :-1]), step[..., 0], step[..., 2])
        rates = torch.stack([x, z, turned * fps], 0)
        rates = torch.cat([rates, rates[..., -1:]], -1)
    channels = torch.cat([rates[:2], rest[:1], rates[2:], rest[1:]], 0).movedim(0, -1)
    start = torch.stack([yaw[:, 0], exact[:, 0, 0, 0], exact[:, 0, 0, 2]], -1)
    shape = joints.shape[:-3]
    return channels.reshape(*shape, t, N_CHANNELS).to(joints.dtype), start.reshape(*shape, 3).to(joints.dtype)


def _contacts(joints: Tensor, fps: float) -> Tensor:
    """The rule of `joint_checks.contacts_of`: (B, T, 22, 3) -> (2, B, T), 0 or 1."""
    ankle, toe = joints.detach()[:, :, 7:9], joints.detach()[:, :, 10:12]
    speed = torch.zeros_like(ankle[..., 0])
    if joints.shape[1] > 1:
        moved = [torch.linalg.vector_norm(torch.diff(p, dim=1), dim=-1) * fps for p in (ankle, toe)]
        slower = torch.minimum(moved[0], moved[1])
        speed = torch.cat([slower[:, :1], slower], 1)
    height = torch.minimum(ankle[..., 1] - ANKLE_HEIGHT, toe[..., 1])
    return ((speed < CONTACT_SPEED) & (height < CONTACT_HEIGHT)).to(joints.dtype).permute(2, 0, 1)


def mirror_channels(channels: Tensor) -> Tensor:
    """Channels (..., 25) of the mirror image (x reflected)."""
    sign = channels.new_ones(N_CHANNELS)
    sign[list(MIRROR_NEGATED)] = -1.0
    return channels[..., list(MIRROR_ORDER)] * sign


def clamp_channels(channels: Tensor) -> Tensor:
    """Hard ranges of `formats.motion_npz.CHANNELS` and norms of the vectors; swivels wrap into (-pi, pi]."""
    from formats.motion_npz import CHANNELS

    parts = list(torch.unbind(channels, -1))
    for k in SWIVELS:
        parts[k] = parts[k] - 2 * math.pi * torch.ceil((parts[k].detach() - math.pi) / (2 * math.pi))
    for part, most in NORMS:
        size = torch.sqrt(torch.clamp(torch.stack([p * p for p in parts[part]]).sum(0), min=1e-18))
        share = torch.clamp(most / size, max=1.0)
        parts[part] = [p * share for p in parts[part]]
    found = [p.clamp(c.lo, c.hi) for p, c in zip(parts, CHANNELS, strict=True)]
    return torch.stack(found, -1)


def swivel_loss(channels: Tensor, target: Tensor, skeleton: Skeleton | Tensor) -> Tensor:
    """Mean of `d (1 - cos(delta))` over frames and arms, metres: wrap-safe, and no weight on a straight arm.

    `d` is the target elbow's distance from the line shoulder to wrist, so the loss grows with how far the elbow
    really is from where it should be.

    Args:
        channels: (..., T, 25) of a model.
        target: (..., T, 25) of data.
        skeleton: As in `decode_channels`.
    """
    t = target.shape[-2]
    c = target.reshape(-1, t, N_CHANNELS).movedim(-1, 0)
    body: Any = _body(skeleton, target, target.dtype)
    wrist = torch.stack([c[11:14], c[15:18]], 1)
    distance = elbow_distance(torch, torch.sqrt(torch.clamp(dot(wrist, wrist), min=1e-18)) * body.arm, body)
    swivels = list(SWIVELS)
    delta = (channels[..., swivels] - target[..., swivels]).reshape(-1, t, 2).movedim(-1, 0)
    loss: Tensor = (distance * (1 - torch.cos(delta))).mean()
    return loss
