"""Training items of the mapper: which rows they hold, the latents of those rows, and the targets beside them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from choreo_cli.reflex.mapper import BLOCK, model_latents
from choreo_cli.reflex.targets import Taught, target_store
from formats.columns import CONTROL_NAMES, INPUTS, LATENT_NAMES, MODALITIES

if TYPE_CHECKING:
    from choreo_cli.dataset.frameset import FrameSet
    from choreo_cli.reflex.rps import Rps

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
SPREAD_ROWS = 200_000
"""Rows that the spread of the targets is read from, evenly over the training rows."""
LEAST_SPREAD = 2.5e-4
_PHASE = [c.name for c in INPUTS].index("beat_phase")
_CTX = list(MODALITIES).index("ctx")


@dataclass(frozen=True, slots=True)
class Items:
    """Equal lengths of neighbouring rows at a stride, numbered; none crosses a gap, a session or a split.

    Args:
        runs: (R, 2) unbroken rows [start, stop).
        length: Rows of an item.
        stride: Rows between the starts of neighbouring items.
    """

    runs: I64
    length: int
    stride: int
    _before: I64 = field(init=False)

    def __post_init__(self) -> None:
        count = np.maximum(0, (self.runs[:, 1] - self.runs[:, 0] - self.length) // self.stride + 1)
        object.__setattr__(self, "_before", np.concatenate([[0], np.cumsum(count)]))

    def __len__(self) -> int:
        return int(self._before[-1])

    def starts(self, items: I64) -> I64:
        """First row (B,) of each item."""
        which = np.searchsorted(self._before, items, side="right") - 1
        return np.asarray(self.runs[which, 0] + self.stride * (items - self._before[which]))


def auto_stride(rows: int, want: int) -> int:
    """A stride from 1 to 16 that makes about `want` items of so many rows: neighbouring items are much alike."""
    return int(np.clip(rows // max(want, 1), 1, 16))


def evenly(n: int, most: int) -> I64:
    """At most so many of the numbers 0..n-1, evenly spread."""
    return np.arange(min(n, most), dtype=np.int64) * n // max(1, min(n, most))


class MapperData:
    """Latents and targets of rows, from memory when they fit a budget and else worked out batch by batch.

    Both ways give the same numbers to the last few bits (a matrix product rounds by its shape).

    Args:
        rps: The frozen M1.
        frames: Frames, mapped from disk when they come from a pack.
        taught: What is taught.
        normalized: Whether M2 is applied to the latents.
        margin: Targets by rule are kept this far from 0 and 1. A rule rests on a bound for a third of the time; a
            network that follows it there is clipped as often as its teacher.
        budget: Most bytes to keep in memory.
    """

    def __init__(
        self, rps: Rps, frames: FrameSet, taught: Taught, *, normalized: bool, budget: int, margin: float = 0.0
    ) -> None:
        self._rps, self._frames, self._taught, self._normalized = rps, frames, taught, normalized
        self._budget = budget
        off = np.array([0.0 if c in taught.learned else margin for c in CONTROL_NAMES], np.float32)
        self._low, self._high = off, 1 - off
        self._latents: F32 | None = None
        self._targets: F32 | None = None

    @property
    def in_memory(self) -> bool:
        """Whether the latents of every row fit the budget."""
        return len(self._frames.t_us) * (len(LATENT_NAMES) + 5) * 4 <= self._budget

    def latents(self, rows: I64) -> F32:
        """(..., 104) latents of any rows (...)."""
        if self.in_memory:
            return np.asarray(self._all_latents()[rows])
        flat, back = np.unique(rows, return_inverse=True)
        return np.asarray(self._made(self._frames.x[flat], self._frames.mask[flat])[back.reshape(rows.shape)])

    def targets(self, rows: I64) -> F32:
        """(..., 5) targets of any rows (...), a margin off the bounds, NaN = none."""
        if self._targets is None:
            self._targets = target_store(self._frames, self._taught, self._budget)
        return np.clip(self._targets[rows], self._low, self._high)

    def weights(self) -> F32:
        """(5,) by which squared errors count: all controls alike, measured in the spread of their own targets.

        Mean variance over variance, so that the whole keeps its size; a nearly constant target counts no more than one
        with a deviation of .016 would.
        """
        rows = Items(self._taught.train, 1, 1)
        y = self.targets(rows.starts(evenly(len(rows), SPREAD_ROWS))).astype(np.float64)
        there = np.isfinite(y)
        n = np.maximum(there.sum(axis=0), 1)
        mean = np.where(there, y, 0.0).sum(axis=0) / n
        spread = np.where(there, np.square(y - mean), 0.0).sum(axis=0) / n
        return np.asarray(spread.mean() / np.maximum(spread, LEAST_SPREAD), np.float32)

    def phase(self, rows: I64) -> F32:
        """(...) beat phase of any rows, NaN = not known."""
        known = self._frames.mask[rows, _CTX]
        return np.where(known, self._frames.x[rows, _PHASE], np.float32(np.nan)).astype(np.float32)

    def _made(self, x: F32, mask: NDArray[np.bool_]) -> F32:
        return model_latents(self._rps, x, mask, self._normalized)

    def _all_latents(self) -> F32:
        """(N, 104) latents of the rows that are used; other rows stay empty pages."""
        if self._latents is None:
            out = np.zeros((len(self._frames.t_us), len(LATENT_NAMES)), np.float32)
            for first, last in np.concatenate([self._taught.train, self._taught.val]):
                for a in range(int(first), int(last), BLOCK):
                    b = min(a + BLOCK, int(last))
                    out[a:b] = self._made(self._frames.x[a:b], self._frames.mask[a:b])
            self._latents = out
        return self._latents
