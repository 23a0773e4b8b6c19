"""Palettes: the values of a weight as 64 numbers and an index each, for the whole of it or for groups of its rows.

The first and the last product have 256 numbers: with 64 they made half of the error of a sample (.0083 of a standard
deviation against .0040: 4 guided steps, a network of some hundred training steps), and
they are a hundredth of the weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
BITS = 6
FINE, FINE_BITS = ("tokens", "head"), 8
GROUP = 16  # rows that share a palette, where the platform can
FEWEST = 2048  # values; smaller weights stay as they are
ROUNDS = 40


@dataclass(frozen=True, slots=True)
class Palette:
    """A weight (out, in) in palettes.

    Args:
        indices: (out, in) uint8, below 2^bits.
        values: (groups, 2^bits) float16, ascending.
    """

    indices: NDArray[np.uint8]
    values: NDArray[np.float16]

    @property
    def groups(self) -> int:
        return len(self.values)

    @property
    def bits(self) -> int:
        """Of an index."""
        return int(self.values.shape[1]).bit_length() - 1

    def weight(self) -> NDArray[np.float16]:
        """The weight that the palettes stand for, (out, in)."""
        rows = len(self.indices) // self.groups
        group = np.repeat(np.arange(self.groups), rows)[:, None]
        return np.asarray(self.values[group, self.indices])


def taken(weight: NDArray[Any]) -> bool:
    """Whether a weight is large enough for a palette."""
    return weight.ndim == 2 and weight.size >= FEWEST


def palette(weight: F32, *, grouped: bool, bits: int = BITS) -> Palette:
    """Palettes of a weight by k-means on its values (Lloyd, started at quantiles, deterministic).

    Args:
        weight: (out, in).
        grouped: A palette for every 16 rows where the rows divide; else one for all.
        bits: Of an index.
    """
    groups = len(weight) // GROUP if grouped and len(weight) % GROUP == 0 else 1
    rows = weight.astype(np.float64).reshape(groups, -1)
    values = np.stack([_centres(row, 2**bits) for row in rows]).astype(np.float16)
    middle = (values[:, 1:].astype(np.float64) + values[:, :-1].astype(np.float64)) / 2
    indices = np.stack([np.searchsorted(m, row) for m, row in zip(middle, rows, strict=True)])
    return Palette(indices.reshape(weight.shape).astype(np.uint8), values)


def _centres(values: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Ascending centres of sorted runs: each round moves borders half way between centres, and centres to the means."""
    ordered = np.sort(values)
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    # Between quantiles and an even grid: the tails of a weight are rare and matter.
    share = (np.arange(count) + 0.5) / count
    grid = ordered[0] + share * (ordered[-1] - ordered[0])
    centres = (np.quantile(ordered, share) + grid) / 2
    for _ in range(ROUNDS):
        borders = np.searchsorted(ordered, (centres[1:] + centres[:-1]) / 2)
        starts, ends = np.concatenate([[0], borders]), np.concatenate([borders, [len(ordered)]])
        size = ends - starts
        means = (sums[ends] - sums[starts]) / np.maximum(size, 1)
        after = np.sort(np.where(size > 0, means, centres))
        if np.array_equal(after, centres):
            break
        centres = after
    return np.asarray(centres, np.float64)
