"""M3: the GRU mapper, its loss, and the way into and out of a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from choreo_cli.reflex import mapper as twin
from formats.columns import CONTROL_NAMES, LATENT_NAMES
from formats.tensors import Arrays

STEP_S = 0.02


class GRUMapper(nn.Module):
    """Latents over time to controls in 0..1: one GRU layer and a sigmoid head (58,661 numbers by default).

    Args:
        x_dim: Width of the latents.
        hidden: Width of the state.
        out_dim: Number of controls.
    """

    def __init__(self, x_dim: int = len(LATENT_NAMES), hidden: int = 96, out_dim: int = len(CONTROL_NAMES)) -> None:
        super().__init__()
        self.arch = {"x_dim": x_dim, "hidden": hidden, "out_dim": out_dim}
        self.gru = nn.GRU(x_dim, hidden, batch_first=True)
        self.head = nn.Linear(hidden, out_dim)
        self._start(hidden)

    @torch.no_grad()
    def _start(self, hidden: int) -> None:
        """First weights: orthogonal between states, and units that forget over 1 to 50 frames.

        Biases of the update gate as in Tallec & Ollivier, ICLR 2018: with torch's own first weights every unit forgets
        within two frames, and the tempo of the beat is learned an order of magnitude later.
        """
        for gate in torch.split(self.gru.get_parameter("weight_hh_l0"), hidden):
            nn.init.orthogonal_(gate)
        nn.init.xavier_uniform_(self.gru.get_parameter("weight_ih_l0"))
        bias = self.gru.get_parameter("bias_ih_l0")
        nn.init.zeros_(bias)
        nn.init.zeros_(self.gru.get_parameter("bias_hh_l0"))
        spans = torch.empty(hidden).uniform_(1.0, twin.LONGEST - 1.0)
        bias[hidden : 2 * hidden] = torch.log(spans)

    def forward(self, z: Tensor, n: int = 0, carry: Tensor | None = None) -> Tensor:
        """Controls at the end of each window, from a zero state: (B, T, 104) -> (B, 5).

        Args:
            z: Latents.
            n: When positive, controls after each of the last n frames instead: (B, n, 5).
            carry: (B,) for a stream: 1 where the state that the first T - n frames leave is carried on, without a
                gradient through them (truncated back-propagation in time), 0 where the last n frames begin from zero.
        """
        if carry is None:
            states, _ = self.gru(z)
            return torch.sigmoid(self.head(states[:, -n:] if n else states[:, -1]))
        with torch.no_grad():
            _, before = self.gru(z[:, : z.shape[1] - n])
        return self.stream(z[:, z.shape[1] - n :], before * carry[None, :, None])[0]

    def stream(self, z: Tensor, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Controls at every frame and the state to carry on: (B, T, 104), (1, B, hidden) -> (B, T, 5), (1, B, hidden).

        Args:
            z: Latents.
            h: The state so far, zero when None.
        """
        states, after = self.gru(z, h)
        return torch.sigmoid(self.head(states)), after

    def arrays(self) -> Arrays:
        """Weights by name, float32 on the CPU."""
        return {k: v.detach().to("cpu", torch.float32).numpy().copy() for k, v in self.state_dict().items()}

    @classmethod
    def of(cls, found: twin.Mapper) -> GRUMapper:
        """The network of a checkpoint that was read."""
        out_dim, hidden = found.weights["head.weight"].shape
        model = cls(found.weights["gru.weight_ih_l0"].shape[1], hidden, out_dim)
        model.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in found.weights.items()})
        return model


def beat_weight(phase: Tensor) -> Tensor:
    """How much a control should rest at this beat phase: 0 on the beat, 1 on the off-beat, 0 where it is not known."""
    return torch.nan_to_num((1 - torch.cos(2 * math.pi * phase)) / 2)


def mapper_loss(
    made: Tensor,
    batch: Mapping[str, Tensor],
    smooth: float,
    beat: float,
    step_s: float = STEP_S,
    weight: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Masked MSE to the targets, plus the mean step of the controls, plus the same weighted towards the off-beat.

    Args:
        made: (B, n, 5) controls at neighbouring frames.
        batch: `y` (B, n, 5) targets, NaN = none; `phase` (B, n) beat phase, NaN = not known.
        smooth: Weight of the step.
        beat: Weight of the step off the beat.
        step_s: Time between frames; steps are per 20 ms whatever the rate.
        weight: (5,) how much the squared error of each control counts; alike when None.

    Returns:
        The loss and its parts, unweighted: `mse`, `smooth`, `beat`. Without a single target `mse` is 0.
    """
    y = batch["y"]
    there = torch.isfinite(y)
    error = torch.where(there, made - torch.nan_to_num(y), torch.zeros_like(made)).square()
    count = there.sum().clamp(min=1)
    fit = (error if weight is None else error * weight).sum() / count
    steps = (made[:, 1:] - made[:, :-1]).abs().mean(dim=-1) * (STEP_S / step_s)
    mean, off = steps.mean(), (steps * beat_weight(batch["phase"][:, 1:])).mean()
    parts = {"mse": error.sum() / count, "smooth": mean, "beat": off}
    return fit + smooth * mean + beat * off, {k: v.detach() for k, v in parts.items()}
