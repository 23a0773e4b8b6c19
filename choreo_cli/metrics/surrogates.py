"""Null distributions: stretched clocks, blind clocks, circular shifts; and their p-values.

Peaks of one control are not independent of one another, so tests that count them one by one are too sure. A surrogate
keeps everything about the control but its relation to the music.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

STRETCH = (0.02, 0.08)
DRAWS = 999


def p_value(null: F64, observed: float) -> float:
    """(1 + count(null >= observed)) / (1 + draws): never 0 (Phipson & Smyth, SAGMB 9(1):39, 2010)."""
    return float((1 + np.count_nonzero(null >= observed - 1e-12)) / (1 + len(null)))


def level(null: F64) -> float:
    """The null's 95 % quantile."""
    return float(np.quantile(null, 0.95))


def stretched(times_s: F64, period_s: float, draws: int, rng: np.random.Generator) -> F64:
    """(draws, n) times with the axis stretched by 2-8 % either way about its middle, started at a random beat phase.

    What the surrogate keeps: the control's own rhythm. What it loses: that it runs at the music's tempo.
    """
    by = rng.uniform(*STRETCH, draws) * rng.choice([-1.0, 1.0], draws)
    middle = (times_s[0] + times_s[-1]) / 2 if len(times_s) else 0.0
    start = rng.uniform(0, period_s, draws)
    return np.asarray(middle + start[:, None] + (times_s - middle)[None, :] * (1 + by[:, None]))


def blind_clocks(resultants: Sequence[complex], draws: int, rng: np.random.Generator) -> F64:
    """(draws,) mean of v over sessions when each session's control keeps its exact tempo but starts at a random phase.

    A stretched clock is no match for a metronome that happens to run at the music's tempo: this one is. The session is
    the unit, because inside one a constant phase is a single observation however many peaks repeat it.

    Args:
        resultants: mean e^{i theta} of each session.
        draws: How many.
        rng: Draws.
    """
    z = np.asarray(resultants, np.complex128)
    turn = np.exp(2j * np.pi * rng.random((draws, len(z))))
    return np.asarray((z[None, :] * turn).real.mean(axis=1))


def mean_of(nulls: Sequence[F64], draws: int, rng: np.random.Generator) -> F64:
    """Null of the mean over sessions from each session's own null, drawn independently (a stratified permutation).

    With one session its null is returned as it is, thinned to `draws`.
    """
    if len(nulls) == 1:
        only = np.asarray(nulls[0])
        return only if len(only) <= draws else rng.choice(only, draws, replace=False)
    return np.asarray(np.mean([rng.choice(null, draws) for null in nulls], axis=0))
