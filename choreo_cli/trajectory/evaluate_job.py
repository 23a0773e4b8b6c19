"""The work of `choreo evaluate video`: every figure of trained branches on views that none of them has seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import ConfigError, NoInputError
from choreo_cli.metrics.over_runs import over_runs
from choreo_cli.metrics.trajectory import (
    FAMILIES,
    Judged,
    breakdown,
    clustered,
    entries_of,
    interval,
    pixel_error,
    reliability,
)
from choreo_cli.trajectory import compare_runs, predictions, raster
from choreo_cli.trajectory.branches import Branch
from choreo_cli.trajectory.camera import Cameras
from choreo_cli.trajectory.compare_runs import Found, Trained
from choreo_cli.trajectory.sets import TrajectorySet
from formats.metrics import entry

F64 = NDArray[np.float64]
Entry = dict[str, Any]
Goals = dict[str, tuple[str, float]]
GOALS = {"accuracy": ">=", "mae_pct": "<=", "skill": ">="}
TILT = 0.45  # rad: elevations below and above it are told apart
QUARTERS = ("0-90 deg", "90-180 deg", "180-270 deg", "270-360 deg")


@dataclass(slots=True)
class Evaluated:
    """Entries of `choreo.metrics/1`, provenance of what was read, and remarks."""

    entries: list[Entry] = field(default_factory=list)
    inputs: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def goals_of(texts: Sequence[str], branches: Sequence[Branch]) -> dict[str, Goals]:
    """Gates by branch: what its YAML file expects, and `NAME=VALUE` for all (under the name ``).

    Raises:
        ConfigError: a text that is no goal.
    """
    found: dict[str, Goals] = {"": {}}
    for text in texts:
        name, _, number = text.partition("=")
        try:
            value = float(number)
        except ValueError:
            value = np.nan
        if name not in GOALS or not np.isfinite(value):
            raise ConfigError(f"--goal {text!r} is not NAME=VALUE", hint=f"names: {', '.join(GOALS)}")
        found[""][name] = (GOALS[name], value)
    for b in branches:
        mine: Goals = {}
        if b.expects.accuracy is not None:
            mine["accuracy"] = (">=", b.expects.accuracy[0] / 100)
        if b.expects.mae_pct is not None:
            mine["mae_pct"] = ("<=", b.expects.mae_pct[1])
        found[b.name] = mine
    return found


def evaluate(
    found: Found, on: TrajectorySet | None, split: str, roots: Mapping[str, str], *,
    goals: Mapping[str, Goals] | None = None, seed: int = 0, draws: int = 10_000,
    on_progress: Callable[..., None] | None = None,
) -> Evaluated:  # fmt: skip
    """Figures of every branch, its seeds together.

    Args:
        found: Runs. on: Judge on this set; None judges each on the test views of its own.
        split: `test` or `grid`. roots: `--root` overrides.
        goals: Gates by branch, those of all under ``. seed, draws: Of the bootstrap.
        on_progress: `(done, total, what)`.

    Raises:
        NoInputError: no finished run, or its set or predictions are not there.
        DataError: predictions of another set.
    """
    compare_runs.need_split(split)
    compare_runs.need_finished(found)
    made, done = Evaluated(notes=list(found.notes)), 0
    made.notes += [f"{u.name} is not finished ({u.state}: {u.said})" for u in found.unfinished]
    home: TrajectorySet | None = None
    for branch, runs in found.branches.items():
        gates = {**(goals or {}).get("", {}), **(goals or {}).get(branch, {})}
        scored = []
        for one in runs:
            if on_progress is not None:
                on_progress(done, len(found.runs), one.name)
            home = home or _home(one, on, roots, made.notes)
            judged, cameras, of = _judged(one, on, home, split)
            about = {"run": one.run.entry["id"], "recipe": branch, "seed": one.seed}
            entries = [*entries_of(judged, seed=seed, draws=draws, goals=gates)]
            entries += _more(judged, cameras, of, split, seed, draws)
            scored.append((about, [*entries, *_costs(one)]))
            made.inputs += [one.run.source, {"role": "trajectories", "sha256": of.sha256, "schema": SCHEMA}]
            done += 1
        made.entries += [
            {**e, "params": {**e["params"], "branch": branch, "split": split}} for e in _over_seeds(scored)
        ]
    made.inputs = [dict(t) for t in dict.fromkeys(tuple(sorted(i.items())) for i in made.inputs)]
    return made


SCHEMA = "choreo.trajectories/1"


def _over_seeds(scored: Sequence[tuple[Mapping[str, Any], list[Entry]]]) -> list[Entry]:
    """Seeds brought together entry by entry; a group's rows meet those of the same value, and keep saying which."""
    known: dict[str, Entry] = {}
    marked = []
    for about, entries in scored:
        mine = []
        for e in entries:
            name = f"{e['name']}\n{e['params'].get('value', '')}"
            known.setdefault(name, e)
            mine.append({**e, "name": name})
        marked.append((about, mine))
    found = []
    for e in over_runs(marked):
        first = known[e["name"]]
        group = {k: first["params"][k] for k in ("group", "value") if k in first["params"]}
        found.append({**e, "name": first["name"], "params": {**e["params"], **group}})
    return found


def _home(one: Trained, on: TrajectorySet | None, roots: Mapping[str, str], notes: list[str]) -> TrajectorySet | None:
    """The set that all runs were trained on; with another set to judge on it may be away, and that is said."""
    if on is not None and on.sha256 == one.data_sha256:
        return on
    try:
        return compare_runs.own_set(one, roots)
    except NoInputError as e:
        if on is None:
            raise
        notes.append(f"whether the runs learned from these curves cannot be checked: {e}")
        return None


def _judged(
    one: Trained, on: TrajectorySet | None, home: TrajectorySet | None, split: str
) -> tuple[Judged, Cameras, TrajectorySet]:
    if home is not None and (on is None or on.sha256 == home.sha256):
        of, said = home, compare_runs.told(one, home, split)
    else:
        assert on is not None
        of, said = on, compare_runs.shown(one, on, split, home)
    return predictions.judged(said, of, split), of.looks[split].cameras, of


def groups_of(of: TrajectorySet, split: str) -> dict[str, NDArray[Any]]:
    """What videos are told apart by: noise, style, where the camera stands, family."""
    looks = of.looks[split]
    quarter = np.minimum((np.mod(looks.azimuth, 2 * np.pi) / (np.pi / 2)).astype(int), 3)
    return {
        "sigma": looks.sigma,
        "style": np.array(raster.STYLES)[looks.style],
        "azimuth": np.array(QUARTERS)[quarter],
        "elevation": np.where(looks.elevation < TILT, f"below {TILT} rad", f"from {TILT} rad"),
        "family": np.array(FAMILIES)[of.family(split)],
    }


def _more(judged: Judged, cameras: Cameras, of: TrajectorySet, split: str, seed: int, draws: int) -> list[Entry]:
    """Pixel error, breakdowns and calibration by confidence: entries beside those of `entries_of`."""
    gap = pixel_error(judged.predicted, judged.future, lambda points: seen_at(points, cameras, of.size))
    rng = np.random.default_rng(seed)
    found = [
        entry(
            "video.pixel_error", float(gap.mean()), "px", "lower", n=len(gap),
            ci=interval(clustered(gap, judged.cluster, rng, min(draws, 2000))) if len(gap) > 1 else None,
        )
    ]  # fmt: skip
    for row in breakdown(judged, groups_of(of, split), seed):
        group = {"group": row["group"], "value": row["value"]}
        for name, unit, better, chance in (("accuracy", "1", "higher", 0.25), ("mae_pct", "%", "lower", None)):
            if row["group"] == "family" and name == "accuracy":
                chance = None  # of one family alone there is no chance level: whoever always says it is right
            found.append(
                entry(
                    f"video.{name}_by_{row['group'].replace(' ', '_')}", row[name], unit, better, n=row["n"],
                    ci=row[f"{name}_ci"], chance=chance, params=group,
                )
            )  # fmt: skip
    return [*found, *_reliability(judged)]


def _reliability(judged: Judged) -> list[Entry]:
    return [
        entry(
            "video.accuracy_by_confidence", r["accuracy"], "1", "higher", n=r["n"],
            params={"group": "confidence", "value": f"{r['lo']:.1f}-{r['hi']:.1f}", "confidence": r["confidence"]},
        )
        for r in reliability(judged.probabilities, judged.right)
    ]  # fmt: skip


def seen_at(points: F64, cameras: Cameras, size: int) -> F64:
    """Points in the orientation of the camera, about the world's origin, in the image: (N, T, 2) pixels."""
    away = points + np.array([0.0, 0.0, cameras.distance])
    depth = np.maximum(away[..., 2:], 0.1)  # a forecast may lie behind the camera
    found: F64 = (cameras.focal * away[..., :2] / depth / 2 + 0.5) * (size - 1)
    return found


def _costs(one: Trained) -> list[Entry]:
    units = {"parameters": "1", "cpu_s": "s", "wall_s": "s"}
    cost = one.cost
    return [
        entry(f"video.cost.{name}", float(cost[name]), unit, "lower", params={"device": cost.get("device", "cpu")})
        for name, unit in units.items() if name in cost
    ]  # fmt: skip
