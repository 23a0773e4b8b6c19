"""Training items of M1: single frames of unbroken runs, found and drawn without a list of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from choreo_cli.reflex.inputs import MODES, OPTIONAL, Standard, present
from choreo_cli.training.order import mix

if TYPE_CHECKING:
    from choreo_cli.dataset.frameset import FrameSession, FrameSet

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

CHUNK = 1 << 18


@dataclass(frozen=True, slots=True)
class RowItems:
    """Rows of stretches, counted through: item k of `n` is one row.

    Args:
        start: (S,) first row of each stretch.
        before: (S + 1,) items before each stretch, and their number.
    """

    start: I64
    before: I64

    @property
    def n(self) -> int:
        return int(self.before[-1])

    def rows(self, items: I64) -> I64:
        """(B,) rows of (B,) items."""
        k = np.searchsorted(self.before, items, side="right") - 1
        return np.asarray(self.start[k] + items - self.before[k], np.int64)


def measured_rows(frames: FrameSet, split: str) -> RowItems:
    """Rows of a split's unbroken runs in which at least one modality is measured; memory follows the stretches."""
    starts: list[I64] = []
    stops: list[I64] = []
    for first, last in frames.runs(split).tolist():
        for at in range(first, last, CHUNK):
            some = np.zeros(min(CHUNK, last - at) + 2, np.int8)
            some[1:-1] = np.asarray(frames.mask[at : min(at + CHUNK, last)]).any(axis=1)
            edge = np.diff(some)
            starts.append(np.flatnonzero(edge == 1) + at)
            stops.append(np.flatnonzero(edge == -1) + at)
    start = np.concatenate([*starts, np.empty(0, np.int64)])
    stop = np.concatenate([*stops, np.empty(0, np.int64)])
    return RowItems(start, np.concatenate([[0], np.cumsum(stop - start)]).astype(np.int64))


def spread(items: RowItems, most: int) -> Iterator[I64]:
    """Chunks of rows, evenly spread over the items and at most `most` in all."""
    n = min(items.n, most)
    for at in range(0, n, CHUNK):
        k = np.arange(at, min(at + CHUNK, n), dtype=np.int64)
        # A quotient of Python's size would overflow for a billion items times a billion.
        yield items.rows(k if n == items.n else (k.astype(np.float64) * (items.n / n)).astype(np.int64))


def session_rows(session: FrameSession, most: int) -> I64:
    """At most `most` rows of a session, evenly spread."""
    step = max(1, -(-session.rows // most))
    return np.arange(session.row_start, session.row_start + session.rows, step, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Dropped:
    """Chances of hiding a feature that may be null, and of hiding a whole modality."""

    feature: float
    modality: float


@dataclass(frozen=True, slots=True)
class Draw:
    """A batch of frames as M1 is trained on them.

    Args:
        x: (B, 11) standardised inputs, 0 where missing or dropped.
        clean: (B, 11) the same without dropping.
        given: (B, 11) bool which are real.
        measured: (B, 4) bool which modalities are measured.
        kept: (B, 4) bool which of them are not dropped; at least one where any is measured.
    """

    x: F32
    clean: F32
    given: Bool
    measured: Bool
    kept: Bool


def draw(
    raw: F32, mask: Bool, standard: Standard, seen: Bool, chances: Dropped, key: tuple[int, int], items: I64
) -> Draw:
    """Standardise frames and drop from them; every draw follows from (seed, epoch, item) alone.

    Args:
        raw: (B, 11) frames, NaN = missing.
        mask: (B, 4) their masks.
        standard: Constants of the training split.
        seen: (4,) modalities to be used at all.
        chances: What is dropped how often.
        key: Seed and epoch.
        items: (B,) item numbers.
    """
    usable = np.asarray(mask, bool) & seen
    clean, measured = standard.apply(raw, usable)
    u = uniforms(key, items, len(OPTIONAL) + len(MODES))
    x = clean
    if chances.feature > 0:
        x = clean.copy()
        x[:, OPTIONAL] *= u[:, : len(OPTIONAL)] >= chances.feature
    luck = np.where(measured, u[:, len(OPTIONAL) :], -1.0)
    kept = luck >= np.minimum(chances.modality, luck.max(axis=1, keepdims=True))
    return Draw(x, clean, present(raw, usable), measured, kept & measured)


def uniforms(key: tuple[int, int], items: I64, n: int) -> NDArray[np.float64]:
    """(B, n) numbers in [0, 1), each from (seed, epoch, its column, item) alone."""
    keys = np.array([mix(*key, k) for k in range(n)], np.uint64)
    z = _scrambled(items.astype(np.uint64)[:, None] ^ keys)
    return np.asarray((_scrambled(z ^ keys) >> np.uint64(11)) * 2.0**-53, np.float64)


def _scrambled(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The output function of SplitMix64 (Steele, Lea & Flood, OOPSLA 2014)."""
    z = z + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
