"""Augmentations of windows: mirror, time shift and noise, drawn from (seed, epoch, window) alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import UsageError
from formats.columns import INPUTS

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

# Left and right swap: the lateral pelvis displacement changes sign. `symmetry` measures the size of the left/right
# difference, everything else is the same for both sides.
MIRRORED = ("hip_sway",)
CIRCULAR = ("beat_phase",)
_BOUNDS = {c.name: (c.lo, c.hi) for c in INPUTS}
_MIRROR, _SHIFT = 0, 1
_BELOW_ONE = np.nextafter(np.float32(1), np.float32(0))


@dataclass(frozen=True, slots=True)
class Augment:
    """What may happen to a training window.

    Args:
        mirror: Probability of swapping left and right.
        shift: Most rows a window is moved by, both ways; it stays inside its unbroken run of rows.
        noise: Standard deviation of Gaussian noise in units of each column's training deviation; for the beat phase,
            which is circular, in units of a uniform phase (0.289 cycles).
    """

    mirror: float = 0.0
    shift: int = 0
    noise: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.mirror <= 1.0 or self.shift < 0 or not 0.0 <= self.noise < np.inf:
            raise UsageError(f"no augmentation with mirror {self.mirror}, shift {self.shift}, noise {self.noise}")


def _mixed(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The output function of SplitMix64 (Steele, Lea & Flood, OOPSLA 2014): a bijection that looks random."""
    z = z + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _uniform(seed: int, epoch: int, kind: int, windows: I64) -> NDArray[np.float64]:
    """(B,) numbers in [0, 1), each from (seed, epoch, kind, window) alone."""
    mask = 2**64 - 1
    z = _mixed(np.array([seed & mask], np.uint64))
    for part in (np.uint64(epoch & mask), np.uint64(kind), windows.astype(np.uint64)):
        z = _mixed(z ^ part)
    return np.asarray((z >> np.uint64(11)) * 2.0**-53, np.float64)


def _normals(seed: int, epoch: int, window: int, shape: tuple[int, ...]) -> F32:
    """Standard normal numbers of one window: a counter-based generator needs no state."""
    mask = 2**64 - 1
    key = np.array([seed & mask, epoch & mask], np.uint64)
    draws = np.random.Generator(np.random.Philox(key=key, counter=np.array([0, 0, 0, window], np.uint64)))
    return draws.standard_normal(shape, np.float32)


def shifts(augment: Augment, seed: int, epoch: int, windows: I64, starts: I64, runs: I64, length: int) -> I64:
    """Rows to move each window by, uniform over what its run allows.

    Args:
        windows: (B,) window numbers, the source of the draws.
        starts: (B,) their first rows.
        runs: (B, 2) the unbroken rows around each.
        length: Rows of a window.
    """
    low = np.maximum(-augment.shift, runs[:, 0] - starts)
    high = np.minimum(augment.shift, runs[:, 1] - length - starts)
    return np.asarray(low + np.floor(_uniform(seed, epoch, _SHIFT, windows) * (high - low + 1)), np.int64)


def mirrors(augment: Augment, seed: int, epoch: int, windows: I64) -> NDArray[np.bool_]:
    """(B,) whether each window is mirrored."""
    return _uniform(seed, epoch, _MIRROR, windows) < augment.mirror


def mirror(x: F32, which: NDArray[np.bool_], columns: Sequence[str]) -> None:
    """Swap left and right in the chosen windows of (B, L, C), in place; twice is the identity."""
    for k, name in enumerate(columns):
        if name in MIRRORED:
            x[which, :, k] *= -1


def add_noise(
    x: F32, augment: Augment, seed: int, epoch: int, windows: I64, columns: Sequence[str], deviation: F32
) -> None:
    """Add Gaussian noise to (B, L, C) in place; the missing stays missing, and every value stays legal.

    A value that leaves the bounds of its column is put on the bound; the beat phase goes round.

    Args:
        deviation: (C,) training deviation of each column.
    """
    for row, window in zip(x, windows.tolist(), strict=True):
        row += _normals(seed, epoch, window, row.shape) * (augment.noise * deviation)
    for k, name in enumerate(columns):
        if name in CIRCULAR:
            x[..., k] = np.minimum(np.mod(x[..., k], 1), _BELOW_ONE)
        elif name in _BOUNDS:
            np.clip(x[..., k], *_BOUNDS[name], out=x[..., k])
