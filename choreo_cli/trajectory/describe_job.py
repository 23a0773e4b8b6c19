"""The work of `choreo describe trajectories`: points of a set or of a run's predictions, told and judged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import DataError, UsageError
from choreo_cli.metrics.trajectory import clustered, error_share, interval
from choreo_cli.trajectory import describe, predictions, solver, views
from choreo_cli.trajectory.camera import to_world
from choreo_cli.trajectory.curves import FAMILIES, SHOWN, TIMES, canonical
from choreo_cli.trajectory.language import LanguageModel
from choreo_cli.trajectory.sets import TrajectorySet
from formats import tables
from formats.metrics import entry
from formats.trajectory import DESCRIPTIONS

F64 = NDArray[np.float64]
DRAWS = 10_000


@dataclass(frozen=True, slots=True)
class Described:
    """What was told: columns of `choreo.descriptions/1`, entries of `choreo.metrics/1`, and remarks."""

    columns: dict[str, Any]
    entries: list[dict[str, Any]]
    notes: list[str]


def describe_set(
    of: TrajectorySet, split: str, rows: int, engine: str, model: LanguageModel | None, *, seen: Path | None = None,
    seed: int = 0, on_progress: Callable[[int, int], None] | None = None,
) -> Described:  # fmt: skip
    """Fit, tell and judge the trajectories of a split.

    Args:
        of: The set. split: Whose views. rows: The first so many, 0 for all.
        engine: `fit`, `template` or `llm`. model: Of `llm`.
        seen: Predictions of a run on this split: the solver then reads the points that the model saw.
        seed: Of the bootstrap, and given to the model.
        on_progress: `(done, total)`.

    Raises:
        UsageError: no such split.
        DataError: predictions of other videos, or without points.
    """
    if split not in of.looks:
        raise UsageError(f"--split {split}: the set has {', '.join(of.looks)}")
    count = min(rows or len(of.looks[split]), len(of.looks[split]))
    some = slice(0, count)
    looks = of.looks[split].take(some)
    clean = of.clean(split, some)
    points = of.shown(split, some) if seen is None else _seen(seen, of, split, count)
    fits = solver.fit(points)
    told = describe.tell_all(fits, engine, model, seed=seed, on_progress=on_progress)
    shapes = views.seen_curves(of.drawn.curves, looks)
    diagonal = np.linalg.norm(np.ptp(clean[:, :SHOWN], axis=1), axis=-1)
    scores = [describe.score(t, canonical(shapes, k), float(diagonal[k])) for k, t in enumerate(told)]
    ahead = np.stack([fits.form(k).at(TIMES[SHOWN:]) for k in range(count)]) if count else np.empty((0, 4, 3))
    share = error_share(ahead, clean[:, SHOWN:], diagonal)
    return Described(
        _columns(told, scores, looks.base), _entries(told, scores, fits, of, split, looks, share, seen, engine, seed),
        _notes(told, seen),
    )  # fmt: skip


def _seen(path: Path, of: TrajectorySet, split: str, count: int) -> F64:
    found = predictions.read(path)
    looks = of.looks[split]
    if found.shown is None:
        raise DataError(f"{path.name} holds no shown points", hint="train the branch with --set shown=1")
    if len(found.curve_id) != len(looks) or not np.array_equal(found.curve_id, looks.base):
        raise DataError(f"{path} is of other videos than the {split} views of this set")
    return to_world(found.shown[:count].astype(np.float64), looks.take(slice(0, count)).cameras)


def _columns(told: list[describe.Told], scores: list[describe.Score], base: NDArray[Any]) -> dict[str, Any]:
    return {
        "row": np.arange(len(told)), "curve_id": base, "engine": [t.engine for t in told],
        "family": [t.family for t in told], "equation": [t.equation for t in told],
        "description": [t.text for t in told], "asked": np.array([t.asked for t in told], np.int32),
        "fallback": [t.fallback for t in told], "parsed": [s.parsed for s in scores], "form": [s.form for s in scores],
        "numeric": [s.numeric for s in scores], "error": [s.error for s in scores],
        "within_5": [s.within_5 for s in scores], "within_10": [s.within_10 for s in scores],
        "within_3se": [s.within_3se for s in scores], "wrong_slots": [list(s.wrong_slots) for s in scores],
    }  # fmt: skip


def _entries(
    told: list[describe.Told], scores: list[describe.Score], fits: solver.Fits, of: TrajectorySet, split: str,
    looks: Any, share: F64, seen: Path | None, engine: str, seed: int,
) -> list[dict[str, Any]]:  # fmt: skip
    if not told:
        return [entry("describe.form", None, "1", "higher", n=0, status="insufficient", why="no trajectories")]
    rng = np.random.default_rng(seed)
    params: dict[str, Any] = {
        "engine": engine,
        "split": split,
        "points": "noisy truth" if seen is None else "of a model",
    }
    family = of.drawn.curves.family[looks.base]
    values = {"family": (fits.family == family).astype(np.float64), **describe.rates(scores)}
    values["told_by_model"] = np.array([t.engine == "llm" for t in told], np.float64)
    goals = {"family": (">=", 0.99), "within_10": (">=", 0.97)} if seen is None and engine != "llm" else {}
    found = []
    for name, v in values.items():
        if name == "told_by_model" and engine != "llm":
            continue
        chance = 1 / len(FAMILIES) if name == "family" else None
        found.append(_one(f"describe.{name}", v, "1", "higher", looks.base, rng, params, chance))
        if name in goals:
            found += _by_noise(name, v, looks, rng, params, goals[name])
    found.append(_one("describe.forecast_mae_pct", share, "%", "lower", looks.base, rng, params))
    return found


def _by_noise(
    name: str, values: F64, looks: Any, rng: np.random.Generator, params: dict[str, Any], goal: tuple[str, float]
) -> list[dict[str, Any]]:
    """The gates of the solver hold for noise up to 0.02; at 0.05 the family alone has one, 0.97."""
    low, high = looks.sigma <= 0.02, looks.sigma == 0.05
    found = []
    if low.any():
        about = {**params, "sigma": "<= 0.02"}
        found.append(
            _one(f"describe.{name}_low_noise", values[low], "1", "higher", looks.base[low], rng, about, goal=goal)
        )
    if high.any() and name == "family":
        about = {**params, "sigma": 0.05}
        found.append(
            _one(
                f"describe.{name}_high_noise",
                values[high],
                "1",
                "higher",
                looks.base[high],
                rng,
                about,
                goal=(">=", 0.97),
            )
        )
    return found


def _one(
    name: str, values: F64, unit: str, better: str, cluster: NDArray[Any], rng: np.random.Generator,
    params: dict[str, Any], chance: float | None = None, goal: tuple[str, float] | None = None,
) -> dict[str, Any]:  # fmt: skip
    several = len(np.unique(cluster)) > 1
    ci = interval(clustered(values, cluster, rng, DRAWS)) if several else None
    return entry(
        name, float(values.mean()), unit, better, n=len(values), ci=ci, chance=chance, goal=goal, params=params
    )


def _notes(told: list[describe.Told], seen: Path | None) -> list[str]:
    fallen = [t.fallback for t in told if t.fallback]
    notes = [f"{len(fallen)} of {len(told)} are told by template, not by the model: {fallen[0]}"] if fallen else []
    return notes + (["the solver reads the points that a model saw, not the true ones"] if seen is not None else [])


def write(path: Path, found: Described, metadata: dict[str, str]) -> str:
    """Write descriptions.parquet; returns its sha256."""
    return tables.write_table(path, DESCRIPTIONS, found.columns, metadata)
