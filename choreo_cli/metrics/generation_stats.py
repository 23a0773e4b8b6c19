"""Figures of generated clips over seeds and conditions: means, differences and ratios with paired bootstrap intervals.

Every arm makes the same clips: clip k of every seed and arm has the same noise and the same held-out condition. So a
table of one arm is (S, N), seeds by clips, and two arms are compared clip by clip. A bootstrap draw takes seeds with
replacement and, independently, whole units (dancers, or conditions) with replacement, the same units for every seed
and for both arms (Efron & Tibshirani 1993, chapter 8; crossed factors as in Owen 2007).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

DRAWS = 4999
FEWEST_GROUPS = 8  # below it a bootstrap over dancers is far too narrow


@dataclass(frozen=True, slots=True)
class Units:
    """What a bootstrap draws besides seeds.

    Args:
        index: (N,) unit of each clip.
        count: How many units there are.
        what: In words, for the record.
    """

    index: I64
    count: int
    what: str


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % interval.

    Args:
        value: Mean over all clips and seeds; None when nothing was measured.
        ci: None when there are not two units to draw from.
        n: Clips with a value, over all seeds.
        seeds: The figure of every seed.
    """

    value: float | None
    ci: tuple[float, float] | None
    n: int
    seeds: tuple[float | None, ...]

    @property
    def half(self) -> float | None:
        """Half the width of the interval."""
        return None if self.ci is None else (self.ci[1] - self.ci[0]) / 2


def units_of(groups: Sequence[str], conditions: Sequence[int]) -> Units:
    """Dancers (what a split keeps together) when there are at least 8 of them, else conditions.

    Args:
        groups: What each clip's condition was kept together with in the split.
        conditions: Number of each clip's condition.
    """
    names, index = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) >= FEWEST_GROUPS:
        return Units(index.astype(np.int64), len(names), f"{len(names)} held-out groups")
    rows, index = np.unique(np.asarray(conditions), return_inverse=True)
    what = f"{len(rows)} held-out windows ({len(names)} group{'s' * (len(names) != 1)}: too few to draw from)"
    return Units(index.astype(np.int64), len(rows), what)


def mean(values: F64, units: Units, rng: np.random.Generator, draws: int = DRAWS) -> Estimate:
    """Mean of a table (S, N), NaN where a clip has no value."""
    table = np.atleast_2d(np.asarray(values, np.float64))
    return _estimate(table, np.ones_like(table), units, rng, draws)


def difference(a: F64, b: F64, units: Units, rng: np.random.Generator, draws: int = DRAWS) -> Estimate:
    """Mean of a - b over the clips that have both; tables (S, N) of the same seeds, clip by clip.

    Raises:
        ValueError: tables of two shapes.
    """
    x, y = (np.atleast_2d(np.asarray(v, np.float64)) for v in (a, b))
    if x.shape != y.shape:
        raise ValueError(f"tables of {x.shape} and {y.shape} are not paired")
    apart = x - y
    return _estimate(apart, np.ones_like(apart), units, rng, draws)


def ratio(a: F64, b: F64, units: Units, rng: np.random.Generator, draws: int = DRAWS) -> Estimate:
    """Mean of a over mean of b, over the clips that have both; None where b sums to nothing."""
    x, y = (np.atleast_2d(np.asarray(v, np.float64)) for v in (a, b))
    if x.shape != y.shape:
        raise ValueError(f"tables of {x.shape} and {y.shape} are not paired")
    return _estimate(np.where(np.isfinite(y), x, np.nan), np.where(np.isfinite(x), y, np.nan), units, rng, draws)


def unpaired(a: F64, b: F64, units: Units, rng: np.random.Generator, draws: int = DRAWS) -> Estimate:
    """Mean of a - mean of b: the same conditions, but seeds that have nothing to do with each other."""
    drawn = [_drawn(np.atleast_2d(np.asarray(v, np.float64)), units, rng, draws, shared=7) for v in (a, b)]
    values = [np.nanmean(np.asarray(v, np.float64)) if np.isfinite(v).any() else np.nan for v in (a, b)]
    value = float(values[0] - values[1])
    if not np.isfinite(value):
        return Estimate(None, None, 0, ())
    n = int(min(np.isfinite(np.asarray(v)).sum() for v in (a, b)))
    return Estimate(value, _interval(drawn[0] - drawn[1]) if units.count > 1 else None, n, ())


def _estimate(above: F64, below: F64, units: Units, rng: np.random.Generator, draws: int) -> Estimate:
    """Sum of `above` over sum of `below` where above is known."""
    known = np.isfinite(above)
    top, bottom = np.where(known, above, 0.0), np.where(known, below, 0.0)
    n = int(known.sum())
    if not n or abs(bottom.sum()) < 1e-12:
        return Estimate(None, None, n, tuple(None for _ in above))
    seeds = tuple(float(t.sum() / b.sum()) if abs(b.sum()) > 1e-12 else None for t, b in zip(top, bottom, strict=True))
    value = float(top.sum() / bottom.sum())
    if units.count < 2:
        return Estimate(value, None, n, seeds)
    weights = _weights(units, rng, draws)
    who = rng.integers(0, len(above), (draws, len(above)))
    parts = [np.take_along_axis(weights @ _per_unit(m, units).T, who, 1).sum(1) for m in (top, bottom)]
    good = np.abs(parts[1]) > 1e-12
    return Estimate(value, _interval(parts[0][good] / parts[1][good]) if good.any() else None, n, seeds)


def _drawn(table: F64, units: Units, rng: np.random.Generator, draws: int, shared: int) -> F64:
    """(draws,) means of a table; `shared` seeds the draws of units, so that two tables draw the same ones."""
    known = np.isfinite(table)
    weights = _weights(units, np.random.default_rng(shared), draws)
    who = rng.integers(0, len(table), (draws, len(table)))
    top = np.take_along_axis(weights @ _per_unit(np.where(known, table, 0.0), units).T, who, 1).sum(1)
    bottom = np.take_along_axis(weights @ _per_unit(known.astype(np.float64), units).T, who, 1).sum(1)
    return np.asarray(top / np.maximum(bottom, 1e-12))


def _weights(units: Units, rng: np.random.Generator, draws: int) -> F64:
    """(draws, units) how often each unit was drawn."""
    return rng.multinomial(units.count, np.full(units.count, 1 / units.count), size=draws).astype(np.float64)


def _per_unit(table: F64, units: Units) -> F64:
    """(S, units) sums of a table (S, N)."""
    return np.stack([np.bincount(units.index, row, units.count) for row in table])


def _interval(values: F64) -> tuple[float, float]:
    lo, hi = np.quantile(values, [0.025, 0.975])
    return float(lo), float(hi)


def clips_needed(found: Estimate, margin: float) -> int | None:
    """How many clips a seed would bring the interval's lower half down to a margin, all else equal; None if unknown."""
    if found.half is None or not found.seeds or margin <= 0 or found.half <= 0:
        return None
    return int(np.ceil(found.n / len(found.seeds) * (found.half / margin) ** 2))
