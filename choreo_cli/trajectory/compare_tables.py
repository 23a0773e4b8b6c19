"""Tables of a comparison: baselines, error by step, breakdowns by noise, style, camera and family, learning curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import NoInputError
from choreo_cli.metrics.trajectory import BASELINES, Judged, breakdown, clustered, error_share, interval
from choreo_cli.trajectory import compare_runs, predictions
from choreo_cli.trajectory.compare_runs import Found, Trained
from choreo_cli.trajectory.evaluate_job import groups_of
from choreo_cli.trajectory.sets import TrajectorySet
from formats.errors import FormatError

if TYPE_CHECKING:
    from choreo_cli.trajectory.compare import Column

F64 = NDArray[np.float64]
MAX_POINTS = 60  # of a learning curve


def baselines(judged: Judged, seed: int, draws: int) -> list[dict[str, Any]]:
    """What is reached without a model: persistence, constant velocity, a line through four points."""
    found = []
    for name, of in BASELINES.items():
        share = error_share(of(judged.noisy), judged.future, judged.diagonal)
        ci = interval(clustered(share, judged.cluster, np.random.default_rng(seed), draws))
        by_step = [float(v) for v in _by_step(of(judged.noisy), judged).mean(0)]
        found.append({"name": name, "mae_pct": float(share.mean()), "mae_pct_ci": list(ci), "steps": by_step})
    return found


def steps(columns: Sequence[Column], seed: int) -> list[dict[str, Any]]:
    """Forecast error of each of the four steps, all seeds together."""
    found = []
    for c in columns:
        both = c.all
        share = _by_step(both.predicted, both)
        for k in range(share.shape[1]):
            ci = interval(clustered(share[:, k], both.cluster, np.random.default_rng(seed), 1000))
            row = {"branch": c.name, "step": k + 1, "mae_pct": float(share[:, k].mean()), "mae_pct_ci": list(ci)}
            found.append(row)
    return found


def _by_step(predicted: F64, judged: Judged) -> F64:
    """`mae_pct` of each video and step: (N, 4)."""
    found: F64 = 100 * np.abs(predicted - judged.future).mean(2) / judged.diagonal[:, None]
    return found


def breakdowns(
    found: Found, columns: Sequence[Column], of: TrajectorySet, seed: int
) -> tuple[str, list[dict[str, Any]]]:
    """By noise, style, camera and family: on the grid where every run told it, else on the test views.

    Returns:
        (split, rows of branch, group, value, n, accuracy and mae_pct with intervals)
    """
    split = "grid" if "grid" in of.looks and len(of.looks["grid"]) else "test"
    judged: dict[str, list[Judged]] = {}
    if split == "grid":
        try:
            for c in columns:
                said = [compare_runs.told(one, of, split) for one in c.runs]
                judged[c.name] = [predictions.judged(s, of, split) for s in said]
        except (NoInputError, FormatError):
            found.notes.append("breakdowns are of the test views: not every run has its predictions of the grid")
            split = "test"
    rows = []
    for c in columns:
        mine = judged[c.name] if split == "grid" else c.judged
        both = Judged(*(np.concatenate([getattr(j, name) for j in mine]) for name in Judged.__dataclass_fields__))
        groups = {name: np.tile(v, len(mine)) for name, v in groups_of(of, split).items()}
        for row in breakdown(both, groups, seed):
            ci = {k: list(row[k]) for k in ("accuracy_ci", "mae_pct_ci")}
            rows.append({"branch": c.name, **row, "n": row["n"] // len(mine), **ci})
    return split, rows


def learning(one: Trained) -> dict[str, Any]:
    """Validations of one run, thinned to at most 60, the last one among them."""
    whole = compare_runs.curve_of(one)
    kept = whole
    if len(whole) > MAX_POINTS:
        kept = [whole[round(k)] for k in np.linspace(0, len(whole) - 1, MAX_POINTS)]
    return {"branch": one.branch, "seed": one.seed, "validations": len(whole), "points": kept}
