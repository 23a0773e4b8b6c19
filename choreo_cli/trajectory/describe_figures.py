"""Figures of what was told, as entries of `choreo.metrics/1`: intervals over curves, errors of one cause each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.metrics.trajectory import CHANCE, clustered, error_share, interval
from choreo_cli.trajectory import describe
from choreo_cli.trajectory.curves import SHOWN
from formats.metrics import entry

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Entry = dict[str, Any]
DRAWS = 10_000
LOW_NOISE, HIGH_NOISE = 0.02, 0.05
# The gates of the solver on the noisy true points: (name, of the noise up to 0.02?) -> least rate.
GATES = {("family", True): 0.99, ("family", False): 0.97, ("within_10", True): 0.97}


@dataclass(frozen=True, slots=True)
class Asked:
    """A language model as results name it: model, hash of the prompt, temperature and seed."""

    model: str
    prompt: str
    temperature: float
    seed: int


@dataclass(frozen=True, slots=True)
class Work:
    """N trajectories told, and the truth.

    Args:
        told, scores: Of each. solved: (N,) family that the fit chooses by itself. family: (N,) true one.
        cluster: (N,) curve: intervals are over curves. sigma: (N,) noise of the shown points.
        diagonal: (N,) of the box of the clean shown points.
        clean: (N, 20, 3) and ahead: (N, 4, 3) the forecast of the curve that was told, camera orientation.
        params: Of every entry. asked: The language model, None without one.
    """

    told: list[describe.Told]
    scores: list[describe.Score]
    solved: I64
    family: I64
    cluster: I64
    sigma: F64
    diagonal: F64
    clean: F64
    ahead: F64
    params: dict[str, Any]
    asked: Asked | None


def entries(work: Work, seed: int) -> list[Entry]:
    """Rates of family, parse, form, numbers, parameters and facts; forecast error of the curve; gates of the solver."""
    if not work.told:
        return [entry("describe.form", None, "1", "higher", n=0, status="insufficient", why="no trajectories")]
    rng = np.random.default_rng(seed)
    values = {"family": (work.solved == work.family).astype(np.float64), **describe.rates(work.scores)}
    gated = work.params["points"] == "noisy truth" and work.asked is None
    found = []
    for name, v in values.items():
        found.append(_one(work, rng, f"describe.{name}", v, chance=CHANCE if name == "family" else None))
        found += _gates(work, rng, name, v) if gated else []
    share = error_share(work.ahead, work.clean[:, SHOWN:], work.diagonal)
    found.append(_one(work, rng, "describe.forecast_mae_pct", share, "%", "lower"))
    return found + (_of_model(work, rng) if work.asked else [])


def apart(
    work: Work, points: F64, named: I64, future: F64, solved: I64, ahead: F64, seed: int
) -> list[Entry]:  # fmt: skip
    """What a branch saw beside what the solver makes of it, each with its own error.

    Args:
        work: What was told of the branch's points.
        points: (N, 16, 3) and future: (N, 4, 3) of the branch, camera orientation. named: (N,) its families.
        solved, ahead: (N,) and (N, 4, 3): the solver alone, on the noisy true points.
        seed: Of the bootstrap.
    """
    rng = np.random.default_rng((seed, 1))
    true = {**work.params, "points": "noisy truth"}
    later = work.clean[:, SHOWN:]
    seen = error_share(points, work.clean[:, :SHOWN], work.diagonal)
    return [
        _one(work, rng, "describe.branch_family", (named == work.family).astype(float), chance=CHANCE),
        _one(work, rng, "describe.points_mae_pct", seen, "%", "lower"),
        _one(work, rng, "describe.branch_forecast_mae_pct", error_share(future, later, work.diagonal), "%", "lower"),
        _one(work, rng, "describe.solver_family", (solved == work.family).astype(float), chance=CHANCE, params=true),
        _one(
            work, rng, "describe.solver_forecast_mae_pct", error_share(ahead, later, work.diagonal), "%", "lower",
            params=true,
        ),
    ]  # fmt: skip


def _of_model(work: Work, rng: np.random.Generator) -> list[Entry]:
    """How often the model could be used, at once and after a repair; and its own answers judged without the others."""
    assert work.asked is not None
    told = np.array([t.engine == "llm" for t in work.told])
    once = told & (np.array([t.asked for t in work.told]) == 1)
    a = work.asked
    named = {**work.params, "model": a.model, "prompt": a.prompt, "temperature": a.temperature, "seed": a.seed}
    found = [
        _one(work, rng, "describe.told_by_model", told.astype(float), params=named),
        _one(work, rng, "describe.first_answer_used", once.astype(float), params=named),
    ]
    rates = describe.rates(work.scores)
    for name in ("form", "numeric", "within_10", "slots"):
        if told.any():
            found.append(_one(work, rng, f"describe.model.{name}", rates[name], rows=told, params=named))
        else:
            why = "no answer of the model could be used"
            found.append(
                entry(f"describe.model.{name}", None, "1", "higher", n=0, status="insufficient", why=why, params=named)
            )
    return found


def _gates(work: Work, rng: np.random.Generator, name: str, values: F64) -> list[Entry]:
    """The gates of the solver hold for noise up to 0.02; at 0.05 the family alone has one."""
    found = []
    low, high = work.sigma <= LOW_NOISE, work.sigma == HIGH_NOISE
    for few, rows, said in ((True, low, f"<= {LOW_NOISE}"), (False, high, HIGH_NOISE)):
        least = GATES.get((name, few))
        if least is not None and rows.any():
            about = {**work.params, "sigma": said}
            whole = f"describe.{name}_{'low' if few else 'high'}_noise"
            found.append(_one(work, rng, whole, values, rows=rows, params=about, goal=(">=", least)))
    return found


def _one(
    work: Work, rng: np.random.Generator, name: str, values: F64, unit: str = "1", better: str = "higher", *,
    rows: NDArray[np.bool_] | None = None, chance: float | None = None, goal: tuple[str, float] | None = None,
    params: dict[str, Any] | None = None,
) -> Entry:  # fmt: skip
    kept, cluster = (values, work.cluster) if rows is None else (values[rows], work.cluster[rows])
    several = len(np.unique(cluster)) > 1
    ci = interval(clustered(kept, cluster, rng, DRAWS)) if several else None
    about = work.params if params is None else params
    return entry(name, float(kept.mean()), unit, better, n=len(kept), ci=ci, chance=chance, goal=goal, params=about)
