"""Sets of generated windows against held-out ones: distances beside the floor of real halves, and diversity.

Windows of one dancer are alike, so halves of the real set are halves of its groups: a window never stands against its
own neighbour, which would make the floor too low.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from choreo_cli.metrics.motion_sets import frechet, kernel_mmd, scaled

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

DRAWS = 20
BOOTSTRAP = 499
Distance = Callable[[F64, F64], float]


@dataclass(frozen=True, slots=True)
class Apart:
    """A distance between two sets over matched draws.

    Args:
        value: Mean over draws; None when it cannot be had.
        ci: 2.5 and 97.5 % of the draws.
        floor: The same of real half against real half, at the same n.
        floor_ci: Its spread.
        n: Windows of either side.
        dims: Features that vary in the real set.
        why: Why there is no value.
    """

    value: float | None
    ci: tuple[float, float] | None
    floor: float | None
    floor_ci: tuple[float, float] | None
    n: int
    dims: int
    why: str | None = None


def apart(
    real: F64, groups: Sequence[str], made: F64, rng: np.random.Generator, *, kernel: bool = False, draws: int = DRAWS
) -> Apart:
    """Frechet distance (or kernel distance) of made to real windows, beside real half against real half.

    Every draw splits the groups at random into two halves, takes n windows of either half and n of the made ones; the
    floor is the distance of the halves, the value that of the first half and the made ones. Both sets are scaled by
    the real spread. A Frechet distance needs n of twice the dimensions (it is biased below), a kernel distance 8.

    Args:
        real: (N, D) features of held-out windows; here and below, rows that are not finite are left out.
        groups: Their groups.
        made: (M, D) features of generated windows.
        rng: Draws.
        kernel: Kernel distance in place of the Frechet distance.
        draws: Draws.
    """
    fine = np.flatnonzero(np.isfinite(real).all(1))
    real, groups = real[fine], [groups[k] for k in fine.tolist()]
    made = made[np.isfinite(made).all(1)]
    names = sorted(set(groups))
    if len(names) < 2 or not len(made) or len(real) < 2:
        return Apart(None, None, None, None, 0, 0, f"{len(names)} held-out groups: two are needed for halves")
    a, b, _ = scaled(real, made)
    halves = [_halves(groups, names, rng) for _ in range(draws)]
    n = min(len(b), *(min(len(p), len(q)) for p, q in halves))
    dims = a.shape[1]
    need = 8 if kernel else 2 * dims
    if n < need or not dims:
        return Apart(None, None, None, None, n, dims, f"{n} windows a side, needs {need} for {dims} features")
    of: Distance = kernel_mmd if kernel else frechet
    values, floors = [], []
    for p, q in halves:
        one, other = rng.permutation(p)[:n], rng.permutation(q)[:n]
        values.append(of(a[one], b[rng.permutation(len(b))[:n]]))
        floors.append(of(a[one], a[other]))
    return Apart(float(np.mean(values)), _spread(values), float(np.mean(floors)), _spread(floors), n, dims)


def _halves(groups: Sequence[str], names: Sequence[str], rng: np.random.Generator) -> tuple[I64, I64]:
    """Window numbers of two random halves of the groups, as even as their sizes allow."""
    index = np.searchsorted(np.asarray(names), np.asarray(groups))
    sizes = np.bincount(index, minlength=len(names))
    side = np.zeros(len(names), bool)
    total = [0, 0]
    for g in rng.permutation(len(names)):
        less = int(total[1] < total[0])
        side[g] = bool(less)
        total[less] += int(sizes[g])
    return np.flatnonzero(~side[index]), np.flatnonzero(side[index])


def _spread(values: Sequence[float]) -> tuple[float, float]:
    lo, hi = np.quantile(values, [0.025, 0.975])
    return float(lo), float(hi)


@dataclass(frozen=True, slots=True)
class Diversity:
    """How far apart the windows of a set are, over how far those of another are.

    Args:
        ratio: Mean pairwise distance of the one over that of the other.
        ci: Bootstrap over windows, the same ones of both sets.
        n: Windows.
    """

    ratio: float | None
    ci: tuple[float, float] | None
    n: int


def diversity_ratio(made: F64, other: F64, real: F64, rng: np.random.Generator, draws: int = BOOTSTRAP) -> Diversity:
    """Mean pairwise distance of `made` over that of `other`, window k of both for the same condition.

    Args:
        made, other: (N, D) features; NaN rows are left out of both.
        real: (R, D) what both are scaled by.
        rng: Draws.
        draws: Of the bootstrap.
    """
    good = np.isfinite(made).all(1) & np.isfinite(other).all(1)
    if good.sum() < 3:
        return Diversity(None, None, int(good.sum()))
    tables = [_pairs(scaled(real, x[good])[1]) for x in (made, other)]
    n = int(good.sum())
    whole = [float(t.sum()) for t in tables]
    if whole[1] <= 0:
        return Diversity(None, None, n)
    weights = rng.multinomial(n, np.full(n, 1 / n), size=draws).astype(np.float64)
    drawn = [np.einsum("di,di->d", weights @ t, weights) for t in tables]
    ratios = drawn[0][drawn[1] > 0] / drawn[1][drawn[1] > 0]
    return Diversity(whole[0] / whole[1], _spread(ratios.tolist()), n)


def _pairs(x: F64) -> F64:
    """(N, N) Euclidean distances."""
    from scipy.spatial.distance import pdist, squareform

    return np.asarray(squareform(pdist(x)))


def within_condition(made: F64, conditions: Sequence[int], real: F64) -> float | None:
    """Mean distance of windows made for one condition, over the mean distance of held-out windows to each other.

    What a one-step model loses first: below one half it makes one dance a song. None when no condition comes twice.
    """
    a, b, _ = scaled(real, made)
    index = np.asarray(conditions)
    found = [_pairs(b[index == c]) for c in np.unique(index) if (index == c).sum() > 1]
    if not found or len(a) < 2:
        return None
    apart_mean = float(np.mean([t.sum() / (len(t) * (len(t) - 1)) for t in found]))
    whole = _pairs(a)
    spread = float(whole.sum() / (len(a) * (len(a) - 1)))
    return apart_mean / spread if spread > 0 else None
