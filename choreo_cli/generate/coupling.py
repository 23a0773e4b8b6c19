"""Which noise goes to which clip of a batch: by chance, or by optimal transport among those that are told the same.

Exact minibatch optimal transport (Pooladian et al., ICML 2023; Tong et al., TMLR 2024) as a permutation. Paired
across different conditions it would make the noise depend on the condition, which sampling cannot know.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import UnavailableError

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]


def pair_costs(x0: NDArray[Any], x1: NDArray[Any]) -> F64:
    """Squared Euclidean distances (N, M) of all pairs, over all numbers of an item."""
    a = np.asarray(x0, np.float64).reshape(len(x0), -1)
    b = np.asarray(x1, np.float64).reshape(len(x1), -1)
    found = (a * a).sum(1)[:, None] + (b * b).sum(1)[None] - 2 * a @ b.T
    return np.asarray(np.maximum(found, 0.0))


def optimal_permutation(x0: NDArray[Any], x1: NDArray[Any]) -> I64:
    """perm[i] is the row of x1 that row i of x0 belongs to at the least total cost; every row is used once."""
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError:
        raise UnavailableError("optimal transport needs scipy", hint="pip install 'choreo[train]'") from None
    return np.asarray(linear_sum_assignment(pair_costs(x0, x1))[1], np.int64)


def noise_order(x0: NDArray[Any], x1: NDArray[Any], labels: Sequence[int] | I64) -> I64:
    """Order of the noise rows that pairs x0[order] with x1, transported only among rows of one label.

    Args:
        x0: Noise (B, ...).
        x1: Data (B, ...).
        labels: (B,) equal for items whose conditions are equal.
    """
    told = np.asarray(labels)
    order = np.arange(len(x0))
    for label in np.unique(told).tolist():
        rows = np.flatnonzero(told == label)
        if len(rows) > 1:
            order[rows[optimal_permutation(x0[rows], x1[rows])]] = rows
    return order
