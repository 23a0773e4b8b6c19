"""How well a model sees trajectories: class, forecast, calibration, with intervals over curves and honest baselines.

Forecasts are judged in the orientation of the camera. The baselines of the forecast are an oracle: they see the noisy
true points in space, which the model does not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from formats.metrics import entry

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
FAMILIES = ("linear", "circular", "helical", "parabolic")
BINS = 10
DRAWS = 10_000
_CHUNK = 500
CHANCE = 1 / len(FAMILIES)


@dataclass(frozen=True, slots=True)
class Judged:
    """What was predicted of N videos, and the truth.

    Args:
        cluster: (N,) curve of each video: intervals are over curves.
        family: (N,) 0..3. probabilities: (N, 4).
        future, predicted: (N, 4, 3) world units, in the orientation of the camera.
        noisy: (N, 16, 3) the noisy shown points there, for the baselines.
        diagonal: (N,) diagonal of the axis-aligned box of the 16 clean shown points in the world.
    """

    cluster: I64
    family: I64
    probabilities: F64
    future: F64
    predicted: F64
    noisy: F64
    diagonal: F64

    def take(self, rows: NDArray[Any]) -> Judged:
        """Some of the videos."""
        return Judged(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))

    @property
    def right(self) -> F64:
        """(N,) 1 where the most probable family is the true one."""
        hit: F64 = (self.probabilities.argmax(1) == self.family).astype(np.float64)
        return hit


def error_share(predicted: F64, truth: F64, diagonal: F64) -> F64:
    """`mae_pct` of each video: 100 x mean absolute error over 4 steps and 3 axes, over the diagonal. (N,)"""
    share: F64 = 100 * np.abs(predicted - truth).mean((1, 2)) / diagonal
    return share


def persistence(noisy: F64, steps: int = 4) -> F64:
    """The last shown point stays: (N, 4, 3)."""
    found: F64 = np.repeat(noisy[:, -1:], steps, axis=1)
    return found


def constant_velocity(noisy: F64, steps: int = 4) -> F64:
    """The last step goes on: (N, 4, 3)."""
    ahead = np.arange(1, steps + 1)[None, :, None]
    found: F64 = noisy[:, -1:] + ahead * (noisy[:, -1:] - noisy[:, -2:-1])
    return found


def least_squares(noisy: F64, steps: int = 4, over: int = 4) -> F64:
    """A line through the last four points goes on: (N, 4, 3)."""
    x = np.arange(over) - (over - 1)
    design = np.stack([np.ones(over), x], axis=-1)
    line = np.einsum("ck,nki->nci", np.linalg.pinv(design), noisy[:, -over:])
    ahead = np.arange(1, steps + 1)
    found: F64 = line[:, :1] + ahead[None, :, None] * line[:, 1:]
    return found


BASELINES: dict[str, Callable[[F64], F64]] = {
    "persistence": persistence, "constant velocity": constant_velocity, "least squares over 4": least_squares,
}  # fmt: skip


def calibration_error(probabilities: F64, right: F64, bins: int = BINS) -> float:
    """Expected calibration error of the top class over bins of equal width (Guo et al., 2017)."""
    found = reliability(probabilities, right, bins)
    return float(sum(b["n"] / len(right) * abs(b["accuracy"] - b["confidence"]) for b in found))


def reliability(probabilities: F64, right: F64, bins: int = BINS) -> list[dict[str, Any]]:
    """Accuracy beside confidence in bins of equal width; empty bins are left out."""
    top = probabilities.max(1)
    held = np.minimum((top * bins).astype(int), bins - 1)
    return [
        {
            "lo": k / bins, "hi": (k + 1) / bins, "n": int((held == k).sum()),
            "confidence": float(top[held == k].mean()), "accuracy": float(right[held == k].mean()),
        }
        for k in range(bins) if (held == k).any()
    ]  # fmt: skip


def confusion(family: I64, told: I64) -> I64:
    """Counts (4, 4): row the truth, column what was said."""
    counts: I64 = np.bincount(family * 4 + told, minlength=16).reshape(4, 4)
    return counts


def macro_f1(counts: NDArray[Any]) -> float:
    """Mean F1 over the families; one that is never there nor said counts 0."""
    hit = np.diagonal(counts).astype(np.float64)
    both = counts.sum(0) + counts.sum(1)
    return float(np.mean(np.where(both > 0, 2 * hit / np.maximum(both, 1), 0.0)))


def clustered(values: F64, cluster: I64, rng: np.random.Generator, draws: int = DRAWS) -> F64:
    """Bootstrap means of per-video values, resampling whole curves: (draws,).

    Args:
        values: (N,).
        cluster: (N,) curve of each.
        rng: Draws. draws: Resamples.
    """
    _, held = np.unique(cluster, return_inverse=True)
    sums, counts = np.bincount(held, values), np.bincount(held).astype(np.float64)
    m = len(sums)
    out = np.empty(draws)
    for start in range(0, draws, _CHUNK):
        picked = rng.integers(0, m, (min(_CHUNK, draws - start), m))
        out[start : start + len(picked)] = sums[picked].sum(1) / counts[picked].sum(1)
    return out


def interval(draws: F64) -> tuple[float, float]:
    """The middle 95 %."""
    lo, hi = np.quantile(draws, (0.025, 0.975))
    return float(lo), float(hi)


def entries_of(
    judged: Judged,
    *,
    prefix: str = "video",
    seed: int = 0,
    draws: int = DRAWS,
    goals: dict[str, tuple[str, float]] | None = None,
) -> list[dict[str, Any]]:
    """Every figure of a model on a test set.

    Args:
        judged: Predictions and truth.
        prefix: Of the names.
        seed: Of the bootstrap.
        draws: Resamples.
        goals: `accuracy`, `mae_pct`, `skill`: (op, value).
    """
    goals = goals or {}
    n = len(judged.family)
    if n == 0:
        return [entry(f"{prefix}.accuracy", None, "1", "higher", n=0, status="insufficient", why="no videos")]
    rng = np.random.default_rng(seed)
    params = {"curves": len(np.unique(judged.cluster)), "interval": "bootstrap over curves", "draws": draws}
    told = judged.probabilities.argmax(1)
    counts = confusion(judged.family, told)
    share = error_share(judged.predicted, judged.future, judged.diagonal)
    said = {"confusion": counts.tolist(), "families": list(FAMILIES)}
    how = (judged, rng, draws, params)
    found = [
        _mean(f"{prefix}.accuracy", judged.right, "1", "higher", *how, CHANCE, goals.get("accuracy"), extra=said),
        entry(f"{prefix}.macro_f1", macro_f1(counts), "1", "higher", n=n, params=params),
        entry(
            f"{prefix}.calibration_error", calibration_error(judged.probabilities, judged.right), "1", "lower", n=n,
            params={**params, "bins": BINS},
        ),
    ]  # fmt: skip
    rivals = {name: error_share(of(judged.noisy), judged.future, judged.diagonal) for name, of in BASELINES.items()}
    best = min(("persistence", "constant velocity"), key=lambda name: rivals[name].mean())
    means = {name: float(values.mean()) for name, values in rivals.items()}
    oracle = (f"{best} on the noisy true points (an oracle)", means[best])
    goal = goals.get("mae_pct")
    found.append(
        _mean(f"{prefix}.mae_pct", share, "%", "lower", *how, None, goal, baseline=oracle, extra={"baselines": means})
    )
    found.append(
        _skill(f"{prefix}.skill", share, rivals[best], judged, rng, draws, {**params, "reference": best}, goals)
    )
    found += _forecast_parts(prefix, judged, rng, draws, params)
    return found


def _mean(
    name: str, values: F64, unit: str, better: str, judged: Judged, rng: np.random.Generator, draws: int,
    params: dict[str, Any], chance: float | None = None, goal: tuple[str, float] | None = None,
    baseline: tuple[str, float] | None = None, extra: dict[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    one = len(np.unique(judged.cluster)) < 2
    ci = None if one else interval(clustered(values, judged.cluster, rng, draws))
    return entry(
        name, float(values.mean()), unit, better, n=len(values), ci=ci, chance=chance, goal=goal, baseline=baseline,
        params={**params, **(extra or {})},
    )  # fmt: skip


def _skill(
    name: str, share: F64, rival: F64, judged: Judged, rng: np.random.Generator, draws: int, params: dict[str, Any],
    goals: dict[str, tuple[str, float]],
) -> dict[str, Any]:  # fmt: skip
    """1 - error / error of the reference, with an interval from resampling both together."""
    again = np.random.default_rng(rng.integers(2**32))
    state = again.bit_generator.state
    ours = clustered(share, judged.cluster, again, draws)
    again.bit_generator.state = state
    theirs = clustered(rival, judged.cluster, again, draws)
    value = 1 - float(share.mean() / rival.mean())
    return entry(
        name, value, "1", "higher", n=len(share), ci=interval(1 - ours / theirs), chance=0.0, goal=goals.get("skill"),
        params=params,
    )  # fmt: skip


def _forecast_parts(
    prefix: str, judged: Judged, rng: np.random.Generator, draws: int, params: dict[str, Any]
) -> list[dict[str, Any]]:
    off = judged.predicted - judged.future
    far = np.linalg.norm(off, axis=-1)
    share = 100 / judged.diagonal
    parts: list[tuple[str, F64, str]] = [
        *((f"mae_pct_step{k + 1}", np.abs(off[:, k]).mean(1) * share, "%") for k in range(off.shape[1])),
        ("mae_pct_lateral", np.abs(off[..., :2]).mean((1, 2)) * share, "%"),
        ("mae_pct_depth", np.abs(off[..., 2]).mean(1) * share, "%"),
        ("ade", far.mean(1), "world units"),
        ("fde", far[:, -1], "world units"),
    ]
    found = [_mean(f"{prefix}.{name}", v, unit, "lower", judged, rng, draws, params) for name, v, unit in parts]
    square = (off**2).mean((1, 2))
    ci = np.sqrt(interval(clustered(square, judged.cluster, rng, draws)))
    rmse = entry(
        f"{prefix}.rmse", float(np.sqrt(square.mean())), "world units", "lower", n=len(off),
        ci=(float(ci[0]), float(ci[1])), params=params,
    )  # fmt: skip
    return [*found, rmse]


def pixel_error(predicted: F64, truth: F64, project: Callable[[F64], F64]) -> F64:
    """Mean distance in the image after projection, per video: (N,) pixels. `project` takes (N, 4, 3) to (N, 4, 2)."""
    gap: F64 = np.linalg.norm(project(predicted) - project(truth), axis=-1).mean(1)
    return gap


def breakdown(judged: Judged, groups: dict[str, NDArray[Any]], seed: int = 0) -> list[dict[str, Any]]:
    """Accuracy and error by group: sigma, style, camera... Each group is a row of a report, with its own interval.

    Args:
        judged: Predictions and truth.
        groups: Name to (N,) values that split the videos.
        seed: Of the bootstrap.
    """
    rows: list[dict[str, Any]] = []
    for name, values in groups.items():
        for value in np.unique(values):
            some = judged.take(np.flatnonzero(values == value))
            rng = np.random.default_rng(seed)
            share = error_share(some.predicted, some.future, some.diagonal)
            rows.append({
                "group": name, "value": value.item() if hasattr(value, "item") else value, "n": len(share),
                "accuracy": float(some.right.mean()), "mae_pct": float(share.mean()),
                "accuracy_ci": interval(clustered(some.right, some.cluster, rng, 2000)),
                "mae_pct_ci": interval(clustered(share, some.cluster, rng, 2000)),
            })  # fmt: skip
    return rows


def holm(p: Sequence[float]) -> list[float]:
    """Adjusted p-values of Holm's step-down procedure (1979), in the order given."""
    order = np.argsort(p)
    out = np.empty(len(p))
    high = 0.0
    for rank, k in enumerate(order):
        high = max(high, min(1.0, (len(p) - rank) * p[k]))
        out[k] = high
    return [float(v) for v in out]


def paired_difference(
    a: F64, b: F64, cluster: I64, seed: int = 0, draws: int = DRAWS
) -> tuple[float, tuple[float, float], float]:
    """Mean of a - b over the same videos, its 95 % interval over curves, and a two-sided bootstrap p-value.

    Args:
        a, b: (N,) or (S, N) with S seeds: then seeds are drawn as well as curves, each side its own.
        cluster: (N,).
        seed: Of the draws. draws: Resamples.
    """
    a, b = np.atleast_2d(a), np.atleast_2d(b)
    rng = np.random.default_rng(seed)
    _, held = np.unique(cluster, return_inverse=True)
    sums = [np.stack([np.bincount(held, row) for row in side]) for side in (a, b)]
    counts = np.bincount(held).astype(np.float64)
    m = len(counts)
    out = np.empty(draws)
    for k in range(draws):
        weight = np.bincount(rng.integers(0, m, m), minlength=m).astype(np.float64)
        total = weight @ counts
        mine, theirs = ((side[rng.integers(0, len(side), len(side))].mean(0) @ weight) / total for side in sums)
        out[k] = mine - theirs
    value = float(a.mean() - b.mean())
    tail = min(float((out <= 0).mean()), float((out >= 0).mean()))
    return value, interval(out), min(1.0, 2 * max(tail, 1 / draws))
