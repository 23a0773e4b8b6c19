"""Frames as the encoders see them: wrapped phase, standardised columns, zero for what is missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from formats.columns import BLOCKS, INPUTS, MODALITIES

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

COLUMNS: tuple[str, ...] = tuple(c.name for c in INPUTS)
MODES: tuple[str, ...] = tuple(MODALITIES)
PHASE = COLUMNS.index("beat_phase")
# Columns that may be null in a row whose modality is measured; only these are dropped in training.
OPTIONAL: tuple[int, ...] = tuple(
    COLUMNS.index(n) for n in ("hip_sway", "hip_bounce", "symmetry", "hr_slope", "audio_brightness")
)
WIDTH = len(COLUMNS)
LATENT = sum(BLOCKS.values())
# A column whose deviation is below this share of its legal range counts as constant.
CONSTANT = 1e-3


def _slices(widths: Mapping[str, int]) -> dict[str, slice]:
    ends = np.cumsum(list(widths.values())).tolist()
    return {name: slice(end - widths[name], end) for name, end in zip(widths, ends, strict=True)}


COLUMN_SLICES: dict[str, slice] = _slices({m: len(names) for m, names in MODALITIES.items()})
BLOCK_SLICES: dict[str, slice] = _slices(BLOCKS)


def membership(slices: Mapping[str, slice], width: int) -> F32:
    """(4, width) one where a column belongs to a modality, zero elsewhere."""
    out = np.zeros((len(slices), width), np.float32)
    for k, part in enumerate(slices.values()):
        out[k, part] = 1
    return out


OF_COLUMN = np.repeat(np.arange(len(MODES)), [len(names) for names in MODALITIES.values()])
OF_LATENT = np.repeat(np.arange(len(MODES)), list(BLOCKS.values()))


@dataclass(frozen=True, slots=True)
class Standard:
    """Constants of the training split that bring every column to mean 0 and variance 1.

    Args:
        mean: (11,) float32, of the wrapped columns (`wrap`).
        std: (11,) float32, positive.
    """

    mean: F32
    std: F32

    def apply(self, x: F32, mask: Bool, out: F32 | None = None) -> tuple[F32, Bool]:
        """Standardised values, and which modalities are measured.

        Args:
            x: (N, 11) raw frames, NaN = missing.
            mask: (N, 4) the frames' masks.
            out: (N, 11) float32 to write into.

        Returns:
            (N, 11) float32 with 0 (the training mean) for every missing value, and (N, 4) bool: the mask is set and
            at least one column of the modality holds a value.
        """
        value = wrap(x, out)
        given = present(value, mask)
        value -= self.mean
        value /= self.std
        np.copyto(value, 0, where=~given)
        return value, measured_of(given)


def wrap(x: F32, out: F32 | None = None) -> F32:
    """A copy of (N, 11) raw frames whose beat phase lies in [-0.5, 0.5): the jump falls on the off-beat."""
    value = np.array(x, np.float32) if out is None else out
    if out is not None:
        value[...] = x
    phase = value[..., PHASE]
    phase += np.float32(0.5)
    phase -= np.floor(phase)
    phase -= np.float32(0.5)
    return value


def present(x: F32, mask: Bool) -> Bool:
    """(N, 11) which values are real: not NaN, and their modality's mask is set."""
    return np.asarray(np.asarray(mask, bool)[..., OF_COLUMN] & ~np.isnan(x), bool)


def measured_of(given: Bool) -> Bool:
    """(N, 4) modalities with at least one real value."""
    starts = [part.start for part in COLUMN_SLICES.values()]
    return np.logical_or.reduceat(given, starts, axis=-1)


def measured(x: F32, mask: Bool) -> Bool:
    """(N, 4) which modalities of raw frames are measured: masked in, and not NaN in every column."""
    return measured_of(present(x, mask))


@dataclass(frozen=True, slots=True)
class Fitted:
    """Statistics of a training split.

    Args:
        standard: Constants for `Standard.apply`.
        counts: (11,) values that were seen.
        constant: Columns that never change; they are scaled by the spread of a uniform value over their bounds.
        never_seen: Modalities without one measured row.
    """

    standard: Standard
    counts: NDArray[np.int64]
    constant: tuple[str, ...]
    never_seen: tuple[str, ...]


def fit_standard(chunks: Iterable[tuple[F32, Bool]]) -> Fitted:
    """Mean and deviation of every column over the real values of chunks of (x (n, 11), mask (n, 4)).

    Chunks are merged pairwise in float64 (Chan, Golub & LeVeque 1979), so their size hardly matters.
    """
    count, mean, square = np.zeros(WIDTH), np.zeros(WIDTH), np.zeros(WIDTH)
    for x, mask in chunks:
        value = wrap(x)
        given = present(value, mask)
        n = given.sum(axis=0).astype(np.float64)
        wide = np.where(given, value, 0).astype(np.float64)
        m = wide.sum(axis=0) / np.maximum(n, 1)
        s = (np.where(given, wide - m, 0) ** 2).sum(axis=0)
        total = np.maximum(count + n, 1)
        step = m - mean
        square += s + step**2 * count * n / total
        mean += step * n / total
        count += n
    return _judged(count, mean, np.sqrt(square / np.maximum(count, 1)))


def _judged(count: F64, mean: F64, std: F64) -> Fitted:
    reach = np.array([(c.hi or 0) - (c.lo or 0) for c in INPUTS])
    flat = std < CONSTANT * reach
    scale = np.where(flat, reach / np.sqrt(12), std)
    seen = {m: bool(count[part].any()) for m, part in COLUMN_SLICES.items()}
    constant = tuple(c for c, f, n in zip(COLUMNS, flat, count, strict=True) if f and n)
    standard = Standard(mean.astype(np.float32), scale.astype(np.float32))
    return Fitted(standard, count.astype(np.int64), constant, tuple(m for m in MODES if not seen[m]))
