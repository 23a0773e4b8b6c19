"""Distances between sets of feature vectors: Frechet distance, diversity, kernel distance, floors of real halves.

Frechet distance: Heusel et al., NeurIPS 2017. Kernel distance: Binkowski et al., ICLR 2018. A Frechet distance of
fewer samples than twice the dimensions is biased upwards and says little; then the distance of the means and the kernel
distance stand in its place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

SUBSETS = 20
EPS = {"compat:bailando": 1e-5, "compat:mint": 1e-6}
_FLAT = 1e-8  # standard deviation below which a real feature never varies and cannot be scaled


@dataclass(frozen=True, slots=True)
class SetDistance:
    """A distance between two sets over matched subsets, beside what two halves of the real set have.

    Args:
        value: Mean over subsets; None when it cannot be had.
        sd: Spread over subsets.
        ci: 2.5 and 97.5 % of the subsets.
        floor: Mean over real half against real half at the same n.
        floor_sd: Its spread.
        n: Samples of either side.
        dims: Features that vary in the real set.
        dropped: Features left out because they never vary there.
        why: Why there is no value.
    """

    value: float | None
    sd: float | None
    ci: tuple[float, float] | None
    floor: float | None
    floor_sd: float | None
    n: int
    dims: int
    dropped: int
    why: str | None = None


def normalised(real: F64, generated: F64) -> tuple[F64, F64]:
    """Both sets less the mean and over the standard deviation (ddof 0, + 1e-10) of the real one, as published."""
    mean, sd = real.mean(axis=0), real.std(axis=0) + 1e-10
    return (real - mean) / sd, (generated - mean) / sd


def frechet_published(a: F64, b: F64, reference: str = "compat:bailando") -> float | None:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 sqrtm(C1 C2)) with the square root of the product, as published.

    Args:
        a: (n, D) real features, normalised when the protocol asks for it.
        b: (m, D) generated features.
        reference: `compat:bailando` adds 1e-5 to the diagonals when the root is not finite and drops imaginary parts,
            `compat:mint` adds 1e-6 and gives up (None) when they are large.

    Returns:
        None with fewer than two samples, or where the reference stops.
    """
    from scipy.linalg import sqrtm

    if min(len(a), len(b)) < 2:
        return None
    m1, m2, c1, c2 = a.mean(axis=0), b.mean(axis=0), np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    c1, c2 = np.atleast_2d(c1), np.atleast_2d(c2)
    root = np.asarray(_quiet(sqrtm, c1 @ c2))
    if not np.isfinite(root).all():
        more = np.eye(len(c1)) * EPS[reference]
        root = np.asarray(_quiet(sqrtm, (c1 + more) @ (c2 + more)))
    if np.iscomplexobj(root):
        if reference == "compat:mint" and not np.allclose(np.diagonal(root).imag, 0, atol=1e-3):
            return None
        root = root.real
    value = float((m1 - m2) @ (m1 - m2) + np.trace(c1) + np.trace(c2) - 2 * np.trace(root))
    return value if np.isfinite(value) else None


def _quiet(root: Callable[[F64], F64], product: F64) -> F64:
    """The square root without its warning about singular matrices: the caller looks at the result."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return root(product)


def frechet(a: F64, b: F64) -> float:
    """Frechet distance with a symmetric square root: real, and 0 for equal sets.

    tr sqrtm(C1 C2) = sum of square roots of the eigenvalues of C1^(1/2) C2 C1^(1/2).
    """
    c1, c2 = np.atleast_2d(np.cov(a, rowvar=False)), np.atleast_2d(np.cov(b, rowvar=False))
    values, vectors = np.linalg.eigh(c1)
    half = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(half @ c2 @ half), 0)).sum()
    gap = a.mean(axis=0) - b.mean(axis=0)
    return float(max(0.0, gap @ gap + np.trace(c1) + np.trace(c2) - 2 * cross))


def kernel_mmd(a: F64, b: F64) -> float:
    """Unbiased squared maximum mean discrepancy with the kernel (x.y / D + 1)^3; may be slightly below 0."""
    d, n, m = a.shape[1], len(a), len(b)
    kaa, kbb, kab = ((x @ y.T / d + 1) ** 3 for x, y in ((a, a), (b, b), (a, b)))
    within = (kaa.sum() - np.trace(kaa)) / (n * (n - 1)) + (kbb.sum() - np.trace(kbb)) / (m * (m - 1))
    return float(within - 2 * kab.mean())


def mean_distance(a: F64, b: F64) -> float:
    """Euclidean distance of the means."""
    return float(np.linalg.norm(a.mean(axis=0) - b.mean(axis=0)))


def diversity(features: F64) -> float | None:
    """Mean Euclidean distance over all pairs; None below two samples."""
    from scipy.spatial.distance import pdist

    return float(pdist(features).mean()) if len(features) > 1 else None


def scaled(real: F64, generated: F64) -> tuple[F64, F64, int]:
    """Both sets scaled by the real mean and sd without the features that never vary there, and how many those are."""
    sd = real.std(axis=0)
    live = sd > _FLAT * np.maximum(np.abs(real).max(axis=0, initial=0.0), 1e-30)
    mean = real.mean(axis=0)
    return (real - mean)[:, live] / sd[live], (generated - mean)[:, live] / sd[live], int((~live).sum())


def compared(
    real: F64,
    generated: F64,
    distance: Callable[[F64, F64], float],
    rng: np.random.Generator,
    *,
    least: Callable[[int], int] = lambda dims: 2 * dims,
    subsets: int = SUBSETS,
) -> SetDistance:
    """A distance over matched subsets of both sets, beside the floor of real halves at the same n.

    n = min(generated, half the real set); the same n is drawn without replacement from the generated set, from the
    real set, and twice (disjoint) from the real set for the floor.

    Args:
        real: (N, D) features of real clips.
        generated: (M, D).
        distance: Of two (n, D') sets.
        rng: Draws.
        least: Smallest n for D' dimensions.
        subsets: Draws.
    """
    a, b, dropped = scaled(real, generated) if len(real) else (real, generated, 0)
    dims, n = a.shape[1], min(len(generated), len(real) // 2)
    need = max(2, least(dims))
    if n < need or not dims:
        why = (
            "no feature varies in the real set"
            if len(real) > 1 and not dims
            else f"{n} clips a side (the smaller of generated and half the real ones), needs {need} for {dims} features"
        )
        return SetDistance(None, None, None, None, None, n, dims, dropped, why)
    values, floors = [], []
    for _ in range(subsets):
        mixed = rng.permutation(len(a))
        mine = rng.permutation(len(b))[:n]
        values.append(distance(a[mixed[:n]], b[mine]))
        floors.append(distance(a[mixed[:n]], a[mixed[n : 2 * n]]))
    lo, hi = np.quantile(values, [0.025, 0.975])
    return SetDistance(
        float(np.mean(values)), float(np.std(values)), (float(lo), float(hi)), float(np.mean(floors)),
        float(np.std(floors)), n, dims, dropped,
    )  # fmt: skip
