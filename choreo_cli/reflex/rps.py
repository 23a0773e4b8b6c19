"""M1 without torch: frames to 104 latents, four blocks of which each can stand in for a missing one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.reflex.inputs import (
    BLOCK_SLICES,
    COLUMN_SLICES,
    COLUMNS,
    LATENT,
    MODES,
    OF_LATENT,
    WIDTH,
    Standard,
)
from choreo_cli.reflex.normalizer import LatentNormalizer
from choreo_cli.reflex.prox import ALPHA, Translators, proxstep
from formats import checkpoint
from formats.columns import BLOCKS, MODALITIES
from formats.errors import FormatError

F32 = NDArray[np.float32]
Bool = NDArray[np.bool_]

RECIPE = "rps"
HIDDEN = 128
CHUNK = 8192


def arch(hidden: int = HIDDEN, alpha: float = ALPHA) -> dict[str, Any]:
    """The explicit scalars that an RPS checkpoint is built from."""
    return {
        "modalities": {m: list(names) for m, names in MODALITIES.items()},
        "blocks": dict(BLOCKS),
        "hidden": hidden,
        "alpha": alpha,
    }


def shapes(hidden: int = HIDDEN) -> dict[str, tuple[int, ...]]:
    """Name and shape of every array of an RPS checkpoint; encoders are stored with their normalisation folded in."""
    found: dict[str, tuple[int, ...]] = {"input.mean": (WIDTH,), "input.std": (WIDTH,)}
    for m, width in BLOCKS.items():
        found[f"encoder.{m}.hidden.weight"] = (hidden, len(MODALITIES[m]))
        found[f"encoder.{m}.hidden.bias"] = (hidden,)
        found[f"encoder.{m}.out.weight"] = (width, hidden)
        found[f"encoder.{m}.out.bias"] = (width,)
        found[f"translator.{m}.weight"] = (width, LATENT)
        found[f"translator.{m}.bias"] = (width,)
    return found | {"normalizer.count": (1,), "normalizer.mean": (LATENT,), "normalizer.square": (LATENT,)}


@dataclass(frozen=True, slots=True)
class Rps:
    """Encoders, translators, prox step and normaliser; made by `Rps.read` or `Rps.of`.

    The four encoders lie in one pair of block matrices, so that a live frame costs two products.

    Args:
        standard: Constants that standardise the inputs.
        hidden: (4 hidden, 11) and (4 hidden,) first layers of all encoders.
        out: (104, 4 hidden) and (104,) second layers.
        translators: Stacked translators.
        alpha: Step of the prox map.
        seen: (4,) modalities that were in the training data; others count as missing wherever they appear.
        normalizer: Frozen statistics of the latents of the training rows.
        facts: What the checkpoint says of its training.
        sha256: The checkpoint's identity.
        blocks: Columns of each block.
    """

    standard: Standard
    hidden: tuple[F32, F32]
    out: tuple[F32, F32]
    translators: Translators
    alpha: float
    seen: Bool
    normalizer: LatentNormalizer
    facts: Mapping[str, Any] = field(default_factory=dict)
    sha256: str = ""
    blocks: Mapping[str, slice] = field(default_factory=lambda: dict(BLOCK_SLICES))

    @classmethod
    def read(cls, folder: str | Path) -> Rps:
        """Open a checkpoint.

        Raises:
            FormatError: no checkpoint, of another recipe or architecture, or damaged.
        """
        return cls.of(checkpoint.read(folder, RECIPE))

    @classmethod
    def of(cls, model: checkpoint.Checkpoint) -> Rps:
        """Build from a checkpoint in memory. Raises FormatError for another architecture."""
        width, alpha = _checked(model)
        checkpoint.need(model, shapes(width))
        a = model.arrays
        first, second = np.zeros((4 * width, WIDTH), np.float32), np.zeros((LATENT, 4 * width), np.float32)
        for k, m in enumerate(MODES):
            units = slice(k * width, (k + 1) * width)
            first[units, COLUMN_SLICES[m]] = a[f"encoder.{m}.hidden.weight"]
            second[BLOCK_SLICES[m], units] = a[f"encoder.{m}.out.weight"]
        if not (a["input.std"] > 0).all():
            raise FormatError("a deviation that is not positive", file=model.folder, field="input.std")
        never = model.facts.get("never_seen", [])
        return cls(
            Standard(_f32(a["input.mean"]), _f32(a["input.std"])),
            (first, _f32(np.concatenate([a[f"encoder.{m}.hidden.bias"] for m in MODES]))),
            (second, _f32(np.concatenate([a[f"encoder.{m}.out.bias"] for m in MODES]))),
            Translators(*(_f32(np.concatenate([a[f"translator.{m}.{p}"] for m in MODES])) for p in ("weight", "bias"))),
            alpha,
            np.array([m not in never for m in MODES]),
            LatentNormalizer.of({k: a[f"normalizer.{k}"] for k in ("count", "mean", "square")}),
            dict(model.facts),
            model.files.get(checkpoint.WEIGHTS, ""),
        )

    def encode(self, x: F32, mask: Bool) -> tuple[F32, Bool]:
        """Latents of the measured modalities, before any prediction.

        Args:
            x: (N, 11) raw frames, NaN = missing.
            mask: (N, 4) masks of the frames.

        Returns:
            (N, 104) float32, zero in the block of a modality that is not measured, and (N, 4) bool which ones are.
        """
        value, measured = self.standard.apply(x, mask)
        measured &= self.seen
        z = np.maximum(value @ self.hidden[0].T + self.hidden[1], 0) @ self.out[0].T + self.out[1]
        z *= measured[..., OF_LATENT]
        return z, measured

    def fill(self, z: F32, measured: Bool) -> F32:
        """(N, 104) latents in which every missing block is what the measured ones predict of it (blend 1).

        A modality that was never seen in training has a translator of zeros: its block stays at its mean, 0.
        """
        if measured.all():
            return z
        return np.where(measured[..., OF_LATENT], z, self.translators(z))

    def latents(self, x: F32, mask: Bool) -> F32:
        """(N, 104) float32 latents of (N, 11) raw frames and (N, 4) masks: encoded, filled, after the prox step.

        They are not normalised (`normalizer.apply`). Which block was encoded and which predicted is `measured`.
        """
        n = len(x)
        z = np.empty((n, LATENT), np.float32)
        for at in range(0, n, CHUNK):
            part = slice(at, at + CHUNK)
            z[part] = self._latents(np.asarray(x[part]), np.asarray(mask[part]))
        return z

    def step(self, x: F32, mask: Bool) -> F32:
        """(104,) latents of one frame: (11,) values, (4,) masks."""
        return self._latents(x, mask)

    def measured(self, x: F32, mask: Bool) -> Bool:
        """(N, 4) which blocks are encoded from (N, 11) raw frames; the others are predicted."""
        from choreo_cli.reflex.inputs import measured

        return measured(x, mask) & self.seen

    def _latents(self, x: F32, mask: Bool) -> F32:
        z, measured = self.encode(x, mask)
        return proxstep(self.fill(z, measured), self.translators, self.alpha)


def _f32(array: NDArray[Any]) -> F32:
    return np.ascontiguousarray(array, np.float32)


def _checked(model: checkpoint.Checkpoint) -> tuple[int, float]:
    """Hidden width and alpha of a checkpoint whose architecture is this one's."""
    file = (model.folder or Path()) / checkpoint.CARD
    want = arch()
    for key in ("modalities", "blocks"):
        if model.arch.get(key) != want[key]:
            raise FormatError("another architecture than the reflex lane's", file=file, field=f"arch.{key}")
    hidden, alpha = model.arch.get("hidden"), model.arch.get("alpha")
    if not isinstance(hidden, int) or isinstance(hidden, bool) or not 1 <= hidden <= 65536:
        raise FormatError(f"a hidden width of {hidden!r}", file=file, field="arch.hidden")
    if not isinstance(alpha, int | float) or isinstance(alpha, bool) or not 0 <= alpha <= 1:
        raise FormatError(f"a prox step of {alpha!r}, need 0..1", file=file, field="arch.alpha")
    never = model.facts.get("never_seen", [])
    if not isinstance(never, list) or set(map(str, never)) - set(COLUMN_SLICES):
        raise FormatError("names no modality", file=file, field="facts.never_seen")
    return hidden, float(alpha)


__all__ = ["COLUMNS", "HIDDEN", "MODES", "Rps", "arch", "shapes"]
