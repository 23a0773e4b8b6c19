"""The network that is trained for M1, and its loss: every block predicts every other one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from choreo_cli.reflex.encoders_torch import TinyEncoder, UnitBlock
from choreo_cli.reflex.inputs import BLOCK_SLICES, COLUMN_SLICES, MODES, Standard
from choreo_cli.reflex.normalizer import LatentNormalizer
from choreo_cli.reflex.translators_torch import Translators
from formats.columns import BLOCKS, MODALITIES


class RpsNet(nn.Module):
    """Encoders, translators, and decoders that serve the loss alone.

    Args:
        hidden: Hidden units of each encoder.
        unit: Whether latents are brought to a fixed scale (`UnitBlock`).
        hide_own: Whether a block is predicted from the other blocks alone.
        clamp: `stacked` or `block`, see `Translators`.
        limit: Largest spectral norm.
        scale: Factor on the usual initial weights of the translators.
        through: Whether the gradient runs through the clamp, see `Translators`.
    """

    def __init__(
        self,
        *,
        hidden: int = 128,
        unit: bool = True,
        hide_own: bool = True,
        clamp: str = "stacked",
        limit: float = 0.9,
        scale: float = 0.3,
        through: bool = True,
    ) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict({m: TinyEncoder(len(MODALITIES[m]), BLOCKS[m], hidden) for m in MODES})
        self.units = nn.ModuleDict({m: UnitBlock(BLOCKS[m]) for m in MODES} if unit else {})
        self.translators = Translators(
            BLOCKS, clamp=clamp, limit=limit, hide_own=hide_own, scale=scale, through=through
        )
        self.decoders = nn.ModuleDict({m: nn.Linear(BLOCKS[m], len(MODALITIES[m])) for m in MODES} if unit else {})

    def encode(self, x: Tensor, measured: Tensor) -> Tensor:
        """(N, 104) latents of (N, 11) standardised inputs; what stands in unmeasured blocks means nothing."""
        blocks = []
        for k, m in enumerate(MODES):
            z = self.encoders[m](x[:, COLUMN_SLICES[m]])
            blocks.append(self.units[m](z, measured[:, k]) if m in self.units else z)
        return torch.cat(blocks, dim=1)

    def decode(self, z: Tensor) -> Tensor:
        """(N, 11) inputs from (N, 104) latents, each modality from its own block scaled to unit variance."""
        return torch.cat([self.decoders[m](z[:, BLOCK_SLICES[m]] * BLOCKS[m] ** 0.5) for m in MODES], dim=1)

    def forward(self, x: Tensor, measured: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        """Latents (N, 104) and what the kept blocks predict of them (N, 104).

        Args:
            x: (N, 11) standardised inputs.
            measured: (N, 4) bool.
            kept: (N, 4) bool, the measured modalities that were not dropped.
        """
        z = self.encode(x, measured)
        return z, self.translators(z * over_latents(kept))


def over_latents(mask: Tensor) -> Tensor:
    """(N, 104) float of (N, 4) bool: one in the blocks of the modalities."""
    return torch.repeat_interleave(mask.float(), torch.tensor(list(BLOCKS.values()), device=mask.device), dim=1)


class Weights(NamedTuple):
    """How the parts of the loss are weighed.

    Args:
        literal: The roadmap's loss: mean square over latents, gradient into both sides.
        reconstruct: Weight of the inputs' reconstruction.
        into_target: Whether the gradient also moves the latents that are predicted towards what can be predicted.
    """

    literal: bool
    reconstruct: float
    into_target: bool = True


def rps_loss(net: RpsNet, batch: Mapping[str, Tensor], weights: Weights) -> tuple[Tensor, dict[str, Tensor]]:
    """Cross-prediction loss and its parts.

    Args:
        net: The network.
        batch: `x` (N, 11) standardised inputs with dropped features at 0, `clean` (N, 11) without, `given` (N, 11)
            bool which are real, `measured` and `kept` (N, 4) bool.
        weights: Which form.

    Returns:
        The loss, and `cross` (mean over blocks of the squared error relative to the block's nominal variance), `raw`
        (mean square over latents, the roadmap's number), `cross_<block>` and `reconstruct`.
    """
    measured = batch["measured"]
    z, guess = net(batch["x"], measured, batch["kept"])
    square = (guess - (z if weights.into_target or weights.literal else z.detach())) ** 2
    parts: dict[str, Tensor] = {}
    if not weights.literal:
        # A block counts where there is another one to predict it from.
        kept = batch["kept"].long()
        measured = measured & (kept.sum(dim=1, keepdim=True) > kept)
    rows = measured.sum(dim=0)
    seen = rows > 0
    block = torch.stack([square[:, BLOCK_SLICES[m]].sum(dim=1) for m in MODES], dim=1)
    # A block of unit norm: its summed square is already relative to its variance.
    cross = (block * measured).sum(dim=0) / rows.clamp(min=1)
    widths = torch.tensor([float(w) for w in BLOCKS.values()], device=cross.device)
    n = seen.sum().clamp(min=1)
    parts["raw"] = (cross / widths).sum() / n
    parts["cross"] = cross.sum() / n
    parts |= {f"cross_{m}": cross[k] for k, m in enumerate(MODES)}
    loss = parts["raw"] if weights.literal else parts["cross"]
    if weights.reconstruct > 0 and len(net.decoders):
        parts["reconstruct"] = reconstruction(net.decode(z), batch["clean"], batch["given"])
        loss = loss + weights.reconstruct * parts["reconstruct"]
    return loss, {k: v.detach() for k, v in parts.items()}


def reconstruction(guess: Tensor, x: Tensor, given: Tensor) -> Tensor:
    """Mean over modalities of the squared error of their given inputs, (N, 11) each."""
    square, total, n = (guess - x) ** 2 * given, guess.new_zeros(()), 0
    for part in COLUMN_SLICES.values():
        total, n = total + square[:, part].sum() / given[:, part].sum().clamp(min=1), n + 1
    return total / n


@torch.no_grad()
def calibrate(net: RpsNet, chunks: Iterable[tuple[np.ndarray, np.ndarray]]) -> None:
    """Set the scale of every block to what its encoder emits over training frames, instead of a running mean of it.

    Args:
        net: The network, changed in place.
        chunks: (n, 11) standardised inputs and (n, 4) bool measured modalities.
    """
    seen = {m: LatentNormalizer(BLOCKS[m]) for m in net.units}
    for x, measured in chunks:
        for k, m in enumerate(MODES):
            if m in seen:
                rows = torch.from_numpy(x[measured[:, k]][:, COLUMN_SLICES[m]])
                seen[m].update(net.encoders[m](rows).double().numpy())
    for m, moments in seen.items():
        unit = net.units[m]
        assert isinstance(unit, UnitBlock)
        if moments.count > 1:
            unit.mean.copy_(torch.from_numpy(moments.mean))
            unit.var.copy_(torch.from_numpy(moments.square / moments.count))


@torch.no_grad()
def arrays_of(net: RpsNet, never_seen: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    """Weights as a checkpoint holds them: encoders with their scale folded in, the clamped operator.

    A modality that was never seen has no meaning as source or as target: its rows and columns are zero.
    """
    arrays: dict[str, np.ndarray] = {}
    operator, bias = (t.detach().cpu().double().numpy().copy() for t in net.translators.operator())
    for m in never_seen:
        operator[:, BLOCK_SLICES[m]] = 0
        operator[BLOCK_SLICES[m]] = 0
        bias[BLOCK_SLICES[m]] = 0
    for m in MODES:
        encoder = net.encoders[m]
        assert isinstance(encoder, TinyEncoder)
        weight: Tensor = encoder.out.weight
        shift: Tensor = encoder.out.bias
        if m in net.units:
            unit = net.units[m]
            assert isinstance(unit, UnitBlock)
            weight, shift = unit.fold(weight, shift)
        part = BLOCK_SLICES[m]
        found = {
            f"encoder.{m}.hidden.weight": encoder.hidden.weight,
            f"encoder.{m}.hidden.bias": encoder.hidden.bias,
            f"encoder.{m}.out.weight": weight,
            f"encoder.{m}.out.bias": shift,
        }
        arrays |= {k: v.detach().cpu().numpy().astype(np.float32) for k, v in found.items()}
        arrays |= {f"translator.{m}.weight": operator[part].astype(np.float32)}
        arrays |= {f"translator.{m}.bias": bias[part].astype(np.float32)}
    return arrays


@torch.no_grad()
def latents_of(
    net: RpsNet, standard: Standard, x: np.ndarray, mask: np.ndarray, alpha: float, never_seen: tuple[str, ...] = ()
) -> np.ndarray:
    """(N, 104) what `Rps.latents` has to give, computed by the trained network itself.

    Args:
        net: The network, in evaluation mode.
        standard: Constants of its inputs.
        x: (N, 11) raw frames, NaN = missing.
        mask: (N, 4) masks.
        alpha: Step of the prox map.
        never_seen: Modalities whose blocks stay at zero.
    """
    usable = np.asarray(mask, bool) & np.array([m not in never_seen for m in MODES])
    value, measured = standard.apply(x, usable)
    real = over_latents(torch.from_numpy(measured))
    learnt = over_latents(torch.tensor([[m not in never_seen for m in MODES]]))
    z = net.encode(torch.from_numpy(value), torch.from_numpy(measured)) * real
    z = z + net.translators(z) * learnt * (1 - real)
    moved: np.ndarray = ((1 - alpha) * z + alpha * net.translators(z) * learnt).numpy()
    return moved
