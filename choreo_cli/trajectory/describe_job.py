"""The work of `choreo describe trajectories`: points of a set or of a run's predictions, told and judged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import DataError, UsageError
from choreo_cli.trajectory import describe, describe_figures, predictions, solver, views
from choreo_cli.trajectory.camera import to_camera, to_world
from choreo_cli.trajectory.curves import FAMILIES, SHOWN, TIMES, canonical
from choreo_cli.trajectory.describe_figures import Asked, Work
from choreo_cli.trajectory.language import OpenAiServer
from choreo_cli.trajectory.sets import TrajectorySet
from formats import tables
from formats.trajectory import DESCRIPTIONS

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
MAX_REASONS = 5


@dataclass(frozen=True, slots=True)
class Described:
    """What was told: columns of `choreo.descriptions/1`, entries of `choreo.metrics/1`, and remarks."""

    columns: dict[str, Any]
    entries: list[dict[str, Any]]
    notes: list[str]


@dataclass(frozen=True, slots=True)
class Seen:
    """What a branch saw of N videos.

    Args:
        points: (N, 16, 3) shown points, world. named: (N,) the family it named.
        future: (N, 4, 3) its own forecast, camera orientation.
    """

    points: F64
    named: I64
    future: F64


def describe_set(
    of: TrajectorySet, split: str, rows: int, engine: str, model: OpenAiServer | None, *, seen: Path | None = None,
    seed: int = 0, on_progress: Callable[[int, int], None] | None = None,
) -> Described:  # fmt: skip
    """Fit, tell and judge the trajectories of a split.

    Args:
        of: The set. split: Whose views. rows: The first so many, 0 for all.
        engine: `fit`, `template` or `llm`. model: Of `llm`.
        seen: Predictions of a run on this split: the solver then reads the points that the branch saw, the curve is
            told in the family that the branch named, and the errors of seeing and of solving are reported apart.
        seed: Of the bootstrap, and given to the model.
        on_progress: `(done, total)`.

    Raises:
        UsageError: no such split.
        DataError: predictions of other videos, or without points.
        UnavailableError: the language model did not answer at all.
    """
    if split not in of.looks:
        raise UsageError(f"--split {split}: the set has {', '.join(of.looks)}")
    count = min(rows or len(of.looks[split]), len(of.looks[split]))
    some = slice(0, count)
    looks = of.looks[split].take(some)
    clean, noisy = of.clean(split, some), of.shown(split, some)
    saw = None if seen is None else _seen(seen, of, split, count)
    fits = solver.fit(noisy if saw is None else saw.points)
    used = fits if saw is None else replace(fits, family=saw.named)
    told = describe.tell_all(used, engine, model, seed=seed, on_progress=on_progress)
    shapes = views.seen_curves(of.drawn.curves, looks)
    diagonal = np.linalg.norm(np.ptp(clean[:, :SHOWN], axis=1), axis=-1)
    scores = [describe.score(t, canonical(shapes, k), float(diagonal[k])) for k, t in enumerate(told)]
    asked = None if model is None or engine != "llm" else Asked(model.name, describe.PROMPT, model.temperature, seed)
    work = Work(
        told, scores, fits.family, of.drawn.curves.family[looks.base], looks.base, looks.sigma, diagonal,
        to_camera(clean, looks.cameras), _ahead(used, looks.cameras),
        {"engine": engine, "split": split, "points": "noisy truth" if saw is None else "of a branch"}, asked,
    )  # fmt: skip
    entries = describe_figures.entries(work, seed)
    if saw is not None and count:
        alone = solver.fit(noisy)
        entries += describe_figures.apart(
            work, to_camera(saw.points, looks.cameras), saw.named, saw.future, alone.family,
            _ahead(alone, looks.cameras), seed,
        )  # fmt: skip
    return Described(_columns(work, saw), entries, _notes(told, saw, engine))


def _ahead(fits: solver.Fits, cameras: Any) -> F64:
    """The next four points of each fitted curve: (N, 4, 3), camera orientation."""
    if not len(fits):
        return np.empty((0, len(TIMES) - SHOWN, 3))
    found: F64 = to_camera(np.stack([fits.form(k).at(TIMES[SHOWN:]) for k in range(len(fits))]), cameras)
    return found


def _seen(path: Path, of: TrajectorySet, split: str, count: int) -> Seen:
    found = predictions.read(path)
    looks = of.looks[split]
    if found.shown is None:
        raise DataError(f"{path.name} holds no shown points", hint="train the branch with --set shown=1")
    known = found.facts.get("choreo.set"), found.facts.get("choreo.split")
    if known != (of.sha256, split) or not np.array_equal(found.curve_id, looks.base):
        raise DataError(
            f"{path} is of other videos than the {split} views of this set", hint="--split, or the set of the run"
        )
    cameras = looks.take(slice(0, count)).cameras
    return Seen(
        to_world(found.shown[:count].astype(np.float64), cameras), found.probabilities[:count].argmax(1),
        found.future[:count].astype(np.float64),
    )  # fmt: skip


def _columns(work: Work, saw: Seen | None) -> dict[str, Any]:
    told, scores, asked = work.told, work.scores, work.asked
    n = len(told)
    return {
        "row": np.arange(n), "curve_id": work.cluster, "engine": [t.engine for t in told],
        "model": [asked.model if asked else None] * n, "prompt": [asked.prompt if asked else None] * n,
        "family": [t.family for t in told], "fit_family": [FAMILIES[k] for k in work.solved],
        "branch_family": [None] * n if saw is None else [FAMILIES[k] for k in saw.named],
        "equation": [t.equation for t in told],
        "description": [t.text for t in told], "asked": np.array([t.asked for t in told], np.int32),
        "fallback": [t.fallback for t in told], "parsed": [s.parsed for s in scores], "form": [s.form for s in scores],
        "numeric": [s.numeric for s in scores], "error": [s.error for s in scores],
        "within_5": [s.within_5 for s in scores], "within_10": [s.within_10 for s in scores],
        "within_3se": [s.within_3se for s in scores], "wrong_slots": [list(s.wrong_slots) for s in scores],
    }  # fmt: skip


def _notes(told: list[describe.Told], saw: Seen | None, engine: str) -> list[str]:
    notes = []
    if engine == "llm":
        reasons = Counter(t.fallback for t in told if t.fallback)
        fallen = sum(reasons.values())
        notes.append(f"{len(told) - fallen} of {len(told)} are told by the model, {fallen} by template in its place")
        notes += [f"{n} by template: {why}" for why, n in reasons.most_common(MAX_REASONS)]
    if saw is not None:
        notes.append("the solver reads the points that the branch saw, and tells them in the family that it named")
    return notes


def write(path: Path, found: Described, metadata: dict[str, str]) -> str:
    """Write descriptions.parquet; returns its sha256."""
    return tables.write_table(path, DESCRIPTIONS, found.columns, metadata)
