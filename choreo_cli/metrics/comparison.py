"""Branches compared fairly: paired over curves and seeds, corrected for how often one looks, a winner or none.

The rule is fixed before any number is seen: (1) highest mean accuracy over seeds; (2) branches whose paired interval
against it includes 0 are tied, broken by the forecast error, then by CPU cost; (3) when all are tied there is no
significant winner.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.metrics.trajectory import clustered, holm, interval, paired_difference

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

RULE = (
    "1. The highest mean accuracy over seeds leads.",
    "2. Branches whose paired 95 % interval against the leader includes 0 are tied with it; ties are broken by the"
    " forecast error (mae_pct), then by CPU cost.",
    "3. When every branch is tied there is no significant winner.",
    "Intervals resample seeds and base trajectories; p-values of the pairs are corrected by Holm.",
)
MIN_SEEDS = 3
BASELINE = "branch0"


@dataclass(frozen=True, slots=True)
class Branch:
    """What is known of one branch on one test set.

    Args:
        name: As the reports call it.
        right: (S, N) 1 where seed s names the family of video n. share: (S, N) mae_pct.
        probabilities: (S, N, 4).
        cost: `parameters`, `cpu_s` (of training, mean over seeds), or what else is known.
        seeds: Their numbers.
    """

    name: str
    right: F64
    share: F64
    probabilities: F64
    cost: dict[str, Any] = field(default_factory=dict)
    seeds: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Pair:
    """Two branches on the same videos: a - b, 95 % interval, p by bootstrap and by Holm; McNemar where it applies."""

    a: str
    b: str
    accuracy: float
    accuracy_ci: tuple[float, float]
    p: float
    p_holm: float
    mae_pct: float
    mae_pct_ci: tuple[float, float]
    mcnemar_p: float | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Who won, and why.

    Args:
        winner: A branch, None when no one did. tied: Who cannot be told from the leader. reasons: Sentences.
        complete: Every branch has three seeds.
    """

    winner: str | None
    tied: tuple[str, ...]
    reasons: tuple[str, ...]
    complete: bool


def pairs_of(branches: Sequence[Branch], cluster: I64, seed: int = 0, draws: int = 2000) -> list[Pair]:
    """Every two branches, paired; Holm over all of them.

    Args:
        branches: At least two, on the same N videos. cluster: (N,) curve of each video.
        seed: Of the draws. draws: Resamples.
    """
    found = []
    for a, b in itertools.combinations(branches, 2):
        accuracy, ci, p = paired_difference(a.right, b.right, cluster, seed, draws)
        share, share_ci, _ = paired_difference(a.share, b.share, cluster, seed, draws)
        found.append((a, b, accuracy, ci, p, share, share_ci))
    corrected = holm([f[4] for f in found])
    once = len(np.unique(cluster)) == len(cluster)
    return [
        Pair(a.name, b.name, accuracy, ci, p, ph, share, share_ci, mcnemar(a.right[0], b.right[0]) if once else None)
        for (a, b, accuracy, ci, p, share, share_ci), ph in zip(found, corrected, strict=True)
    ]


def mcnemar(a: F64, b: F64) -> float:
    """Exact two-sided p-value of McNemar's test (1947): each video once, right or wrong by either."""
    from scipy.stats import binomtest

    only_a, only_b = int(((a > 0.5) & (b < 0.5)).sum()), int(((b > 0.5) & (a < 0.5)).sum())
    return 1.0 if only_a + only_b == 0 else float(binomtest(only_a, only_a + only_b).pvalue)


def verdict(branches: Sequence[Branch], pairs: Sequence[Pair]) -> Verdict:
    """The winner by the rule, or none."""
    complete = all(len(b.right) >= MIN_SEEDS for b in branches)
    short = [f"{b.name} has {len(b.right)} of {MIN_SEEDS} seeds" for b in branches if len(b.right) < MIN_SEEDS]
    if len(branches) < 2:
        return Verdict(None, (), ("one branch alone is compared with nothing", *short), False)
    lead = max(branches, key=lambda b: float(b.right.mean()))
    tied = [lead.name]
    for p in pairs:
        if lead.name in (p.a, p.b) and p.accuracy_ci[0] <= 0 <= p.accuracy_ci[1]:
            tied.append(p.b if p.a == lead.name else p.a)
    reasons = [f"{lead.name} leads with {100 * lead.right.mean():.2f} % over {len(lead.right)} seeds"]
    if not complete:
        return Verdict(None, tuple(tied), (*reasons, *short, "no winner before every branch has its seeds"), False)
    if len(tied) == 1:
        return Verdict(lead.name, (lead.name,), (*reasons, "no other branch is within its interval"), True)
    if len(tied) == len(branches):
        return Verdict(None, tuple(tied), (*reasons, "every branch is tied with it: no significant winner"), True)
    first, why = _break_tie([b for b in branches if b.name in tied], pairs)
    return Verdict(first, tuple(tied), (*reasons, f"tied with it: {', '.join(tied[1:])}", why), True)


def _break_tie(tied: Sequence[Branch], pairs: Sequence[Pair]) -> tuple[str, str]:
    best = min(tied, key=lambda b: float(b.share.mean()))
    close = [best]
    for p in pairs:
        names = {p.a, p.b}
        other = next((b for b in tied if b.name in names and b is not best), None)
        if best.name in names and other is not None and p.mae_pct_ci[0] <= 0 <= p.mae_pct_ci[1]:
            close.append(other)
    if len(close) == 1:
        return best.name, f"the forecast error of {best.name} is the lowest, beyond its interval"
    cheap = min(close, key=lambda b: float(b.cost.get("cpu_s", np.inf)))
    return cheap.name, f"forecast errors are tied as well; {cheap.name} cost the least CPU time"


def summary(branch: Branch, cluster: I64, seed: int = 0, draws: int = 2000) -> dict[str, Any]:
    """One row of the comparison: means over seeds with intervals over seeds and curves, calibration, cost."""
    from choreo_cli.metrics.trajectory import calibration_error

    rng = np.random.default_rng(seed)
    drawn = {
        name: np.concatenate([clustered(row, cluster, rng, max(1, draws // len(values))) for row in values])
        for name, values in (("accuracy", branch.right), ("mae_pct", branch.share))
    }
    calibration = [calibration_error(p, r) for p, r in zip(branch.probabilities, branch.right, strict=True)]
    return {
        "branch": branch.name, "seeds": list(branch.seeds), "n": branch.right.shape[1],
        "accuracy": float(branch.right.mean()), "accuracy_ci": interval(drawn["accuracy"]),
        "mae_pct": float(branch.share.mean()), "mae_pct_ci": interval(drawn["mae_pct"]),
        "calibration_error": float(np.mean(calibration)), "cost": dict(branch.cost),
    }  # fmt: skip


def ensemble(branches: Sequence[Branch], futures: Sequence[F64], family: I64, future: F64, diagonal: F64) -> Branch:
    """All branches and seeds together: mean probabilities and mean forecasts.

    Args:
        branches: Members. futures: Their forecasts, (S, N, 4, 3) each, camera orientation.
        family: (N,). future: (N, 4, 3). diagonal: (N,).
    """
    from choreo_cli.metrics.trajectory import error_share

    probabilities = np.mean([b.probabilities.mean(0) for b in branches], axis=0)
    told = np.mean([f.mean(0) for f in futures], axis=0)
    right = (probabilities.argmax(1) == family).astype(np.float64)
    return Branch(
        "ensemble", right[None], error_share(told, future, diagonal)[None], probabilities[None],
        {"members": [b.name for b in branches]},
    )  # fmt: skip
