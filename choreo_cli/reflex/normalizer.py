"""M2: per-dimension mean and variance of the latents, merged exactly, frozen outside training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from choreo_cli.errors import DataError
from formats.errors import FormatError

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

STD_FLOOR = 1e-3
CLAMP = 6.0
KEYS = ("count", "mean", "square")


class LatentNormalizer:
    """Running statistics in float64; blocks are merged as in Chan, Golub & LeVeque (1979).

    Args:
        dim: Dimensions.

    Attributes:
        frozen: Statistics no longer change; a live session must not drift its own.
    """

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self.count = 0
        self.mean: F64 = np.zeros(dim)
        self.square: F64 = np.zeros(dim)
        self.frozen = False

    @property
    def std(self) -> F64:
        """(dim,) population deviation, at least `STD_FLOOR`; 1 before anything was seen."""
        if not self.count:
            return np.ones(self.dim)
        return np.maximum(np.sqrt(self.square / self.count), STD_FLOOR)

    def update(self, z: ArrayLike) -> None:
        """Take in (N, dim) latents.

        Raises:
            DataError: frozen, of another width, or not finite.
        """
        rows = np.asarray(z, np.float64)
        if rows.ndim != 2 or rows.shape[1] != self.dim:
            raise DataError(f"latents of shape {rows.shape}, need (N, {self.dim})")
        if not np.isfinite(rows).all():
            raise DataError("latents that are not finite: nothing was taken into the normaliser")
        mean = rows.mean(axis=0) if len(rows) else self.mean
        self._take(len(rows), mean, ((rows - mean) ** 2).sum(axis=0))

    def merge(self, other: LatentNormalizer) -> None:
        """Take in what another normaliser has seen.

        Raises:
            DataError: frozen, or of another width.
        """
        if other.dim != self.dim:
            raise DataError(f"a normaliser of {other.dim} dimensions cannot join one of {self.dim}")
        self._take(other.count, other.mean, other.square)

    def _take(self, n: int, mean: F64, square: F64) -> None:
        if self.frozen:
            raise DataError("the normaliser is frozen", hint="statistics are fitted in training only")
        total = self.count + n
        if not n:
            return
        step = mean - self.mean
        self.square = self.square + square + step**2 * (self.count * n / total)
        self.mean = self.mean + step * (n / total)
        self.count = total

    def freeze(self) -> LatentNormalizer:
        """The normaliser itself, from now on unchanging."""
        self.frozen = True
        return self

    def apply(self, z: ArrayLike) -> F32:
        """(..., dim) float32 of mean 0 and variance 1 on the training rows, clamped to +-6."""
        scaled = (np.asarray(z, np.float64) - self.mean) / self.std
        return np.clip(scaled, -CLAMP, CLAMP).astype(np.float32)

    def invert(self, y: ArrayLike) -> F32:
        """What `apply` was given, wherever it did not clamp."""
        return (np.asarray(y, np.float64) * self.std + self.mean).astype(np.float32)

    def state(self) -> dict[str, NDArray[Any]]:
        """Arrays `count`, `mean` and `square` (sum of squared deviations), float64 but for the count."""
        return {"count": np.array([self.count], np.int64), "mean": self.mean.copy(), "square": self.square.copy()}

    @classmethod
    def of(cls, state: Mapping[str, NDArray[Any]]) -> LatentNormalizer:
        """A frozen normaliser from its state.

        Raises:
            FormatError: keys are missing, shapes differ, or a value cannot be a statistic.
        """
        missing = [k for k in KEYS if k not in state]
        if missing:
            raise FormatError("missing from the normaliser", field=missing[0])
        mean, square = np.asarray(state["mean"], np.float64), np.asarray(state["square"], np.float64)
        count = np.asarray(state["count"]).reshape(-1)
        if mean.ndim != 1 or mean.shape != square.shape or count.shape != (1,):
            raise FormatError(f"a normaliser of shapes {mean.shape} and {square.shape}", field="mean")
        if not np.isfinite(mean).all() or not (np.isfinite(square) & (square >= 0)).all() or count[0] < 0:
            raise FormatError("a normaliser with values that cannot be statistics", field="square")
        made = cls(len(mean))
        made.count, made.mean, made.square = int(count[0]), mean.copy(), square.copy()
        return made.freeze()
