"""Intervals over sessions: the session is the unit, frames of one are never pooled with another's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

DRAWS = 9999
ONE = "one session: no interval over sessions"


def session_mean(
    values: Sequence[float], rng: np.random.Generator, draws: int = DRAWS
) -> tuple[float, tuple[float, float] | None, str | None]:
    """Mean of per-session values with a 95 % percentile bootstrap over sessions.

    Efron & Tibshirani, An Introduction to the Bootstrap (1993), chapter 13. With few sessions it is too narrow: with
    two it is no wider than their distance.

    Args:
        values: One per session, at least one.
        rng: Draws.
        draws: Resamples.

    Returns:
        (mean, interval or None, why there is none)
    """
    x = np.asarray(values, np.float64)
    if len(x) < 2:
        return float(x.mean()), None, ONE
    means = x[rng.integers(0, len(x), (draws, len(x)))].mean(axis=1)
    lo, hi = np.quantile(means, [0.025, 0.975])
    return float(x.mean()), (float(lo), float(hi)), None


def two_level_mean(
    values: Sequence[float], intervals: Sequence[tuple[float, float]], rng: np.random.Generator, draws: int = DRAWS
) -> tuple[float, tuple[float, float]]:
    """Mean of per-session estimates that have intervals of their own: sessions are drawn, then a value inside each.

    A session's estimate is drawn from a normal distribution with its 95 % interval (Davison & Hinkley, Bootstrap
    Methods, 1997, section 3.8). One session gives back its own interval.
    """
    x, ci = np.asarray(values, np.float64), np.asarray(intervals, np.float64)
    if len(x) < 2:
        return float(x[0]), (float(ci[0, 0]), float(ci[0, 1]))
    drawn = rng.integers(0, len(x), (draws, len(x)))
    spread = (ci[:, 1] - ci[:, 0]) / 3.919928
    means = (x[drawn] + spread[drawn] * rng.standard_normal(drawn.shape)).mean(axis=1)
    lo, hi = np.quantile(means, [0.025, 0.975])
    return float(x.mean()), (float(lo), float(hi))


def seed_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """95 % Student t interval of the mean over seeds; None for one seed."""
    from scipy.stats import t

    x = np.asarray(values, np.float64)
    if len(x) < 2:
        return None
    half = float(t.ppf(0.975, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x)))
    return float(x.mean()) - half, float(x.mean()) + half
