"""Arms of generated clips as entries of `choreo.metrics/1`, and the gates of a generator.

Not every row of the mission can be read literally ("zero foot sliding"), so each gate names the row as it was
restated, in `params.gate`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.metrics import generation_sets
from choreo_cli.metrics import generation_stats as stats
from choreo_cli.metrics.generation_clip import FIGURES
from choreo_cli.metrics.generation_stats import Estimate, Units
from formats.metrics import entry

F64 = NDArray[np.float64]
Entry = dict[str, Any]

FEATURES = (("k", "kinetic"), ("g", "manual"))  # of set distances: the letter in a name, and the field of an arm
PASS_MARGIN, SCORE_MARGIN = 0.01, 0.01
LEAST_SANE, LEAST_COMPUTE = 0.9, 12.0
WITHIN, LEAST_DIVERSITY = 0.95, 0.9
LOCKED_M_S = 0.001
LEAST_ABOVE = 0.001  # above chance: a body that never moves is exactly at it
AT_CHANCE = 0.15  # of a perfect score: an interval that reaches this far from chance cannot say that it is there
UNITS: Mapping[str, tuple[str, str]] = {
    "sanity": ("1", "higher"), "musicality": ("1", "higher"), "beat_alignment": ("1", "higher"),
    "shuffled": ("1", "lower"), "slide": ("m/s", "lower"), "slide_after_lock": ("m/s", "lower"),
    "contact_fraction": ("1", "higher"), "jerk": ("m/s3", "lower"), "jerk_p99": ("m/s3", "lower"),
    "clamp_rate": ("1", "lower"), "limits_after_clamp": ("1", "lower"),
}  # fmt: skip
GATES: Mapping[str, str] = {
    "against_ddim": "Flow 4-step must match or beat DDIM-50: same network, data, steps of training, conditions and"
    " seeds; lower bound of (flow4 - ddim50) >= -1 point pass rate and >= -0.01 score; the score is the mean of the"
    " parts of musicality that clips of this length have (params.parts): beat alignment alone below 5 s",
    "sane": "sanity >= 90 %",
    "sliding": "Zero foot sliding: after foot lock ankle slide in contact frames <= 1 mm/s",
    "sliding_before": "Zero foot sliding, before the lock: metres slid per second of contact <= held-out real clips",
    "contact": "A model that floats has no skating: feet down at least half as often as held-out real ones",
    "limits": "Zero joint-limit violations: violation fraction 0 after clamp",
    "music": "Music matters: beat alignment above chance by more than its interval",
    "shuffled": "Music matters: with shuffled music it falls to chance; its interval holds 0 and is short enough",
    "distilled": "Distilled 1 step within 5 % of 4 steps on sanity and musicality, diversity ratio >= 0.9",
    "known": "In-betweening and prediction: known frames exact",
    "between": "In-betweening: better than interpolation beyond the interval",
    "predict": "Prediction: better than repeat-last and constant velocity beyond the interval",
    "not_worse": "No worse than the run it is compared with, beyond the interval",
}


@dataclass(frozen=True, slots=True)
class Arm:
    """One way of generating, over seeds and clips.

    Args:
        name: `flow4`, `ddim50`, `distilled1`, `onnx`, `held_out`...
        seeds: Of the runs, (S,).
        figures: Name -> (S, N); NaN where a clip has no value.
        kinetic, manual: (S, N, 66) and (S, N, 32) features.
        rows: Network rows a clip: evaluations times guidance branches.
        nfe: Evaluations a clip.
        facts: Settings, for the records.
        failures: Check -> clips that failed it.
        parts: Part of the musicality -> its mean.
    """

    name: str
    seeds: tuple[int, ...]
    figures: Mapping[str, F64]
    kinetic: F64
    manual: F64
    rows: float = 0.0
    nfe: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)
    failures: Mapping[str, int] = field(default_factory=dict)
    parts: Mapping[str, float] = field(default_factory=dict)

    def of(self, seeds: Sequence[int]) -> Arm:
        """The arm of some of its seeds, in that order."""
        rows = [self.seeds.index(s) for s in seeds]
        figures = {k: v[rows] for k, v in self.figures.items()}
        return Arm(self.name, tuple(seeds), figures, self.kinetic[rows], self.manual[rows], self.rows, self.nfe,
                   self.facts, self.failures, self.parts)  # fmt: skip


@dataclass(slots=True)
class Bench:
    """What every entry is measured with.

    Args:
        units: What the bootstrap draws.
        conditions: (N,) condition of each clip.
        groups: (K,) group of each condition.
        real: Held-out clips of the conditions: an arm with one row of K clips.
        rng: Draws.
        params: Kept in every entry: fps, frames, split...
        synthetic: The held-out clips were made by a program.
        far, far_groups: Features of all held-out windows and their groups, `{"kinetic": (R, 66), ...}`.
    """

    units: Units
    conditions: NDArray[np.int64]
    groups: Sequence[str]
    real: Arm
    rng: np.random.Generator
    params: Mapping[str, Any]
    synthetic: bool
    far: Mapping[str, F64]
    far_groups: Sequence[str]

    def about(self, arm: Arm, **more: Any) -> dict[str, Any]:
        return {
            **self.params, "arm": arm.name, "model_seeds": list(arm.seeds), "nfe": arm.nfe, "rows_per_clip": arm.rows,
            "interval_over": f"{len(arm.seeds)} seed{'s' * (len(arm.seeds) != 1)} x {self.units.what}", **arm.facts,
            **more,
        }  # fmt: skip

    def level(self, figure: str) -> float | None:
        """Mean of the held-out clips."""
        x = self.real.figures[figure]
        return float(np.nanmean(x)) if np.isfinite(x).any() else None


def figure_entries(arm: Arm, bench: Bench, *, sets: bool = True) -> list[Entry]:
    """Every figure of an arm beside that of the held-out clips: name `generation.FIGURE.ARM`; and its set metrics."""
    out = []
    for name in FIGURES:
        unit, better = UNITS[name]
        found = stats.mean(arm.figures[name], bench.units, bench.rng)
        level = bench.level(name)
        more: dict[str, Any] = {"values": list(found.seeds)}
        if name == "sanity":
            more["failures"] = dict(arm.failures)
        if name == "musicality":
            more["parts"] = dict(arm.parts)
        out.append(entry(
            f"generation.{name}.{arm.name}", found.value, unit, better, n=found.n, ci=found.ci,
            chance=0.0 if name in ("beat_alignment", "shuffled") and found.value is not None else None,
            floor=None if level is None or found.value is None else ("held-out clips", level),
            status="ok" if found.value is not None else "insufficient",
            why=None if found.value is not None else _no_value(name), params=bench.about(arm, **more),
        ))  # fmt: skip
    return out + (set_entries(arm, bench) if sets else [])


def _no_value(name: str) -> str:
    return {
        "musicality": "no music with beats in the clips", "beat_alignment": "no music with beats in the clips",
        "shuffled": "one song: there is no other to shuffle with",
    }.get(name, "no clip has a value")  # fmt: skip


def set_entries(arm: Arm, bench: Bench) -> list[Entry]:
    """Distances of an arm's windows to the held-out ones beside the noise floor, and its diversity."""
    out = []
    for letter, feature in FEATURES:
        far = bench.far[feature]
        mine: F64 = getattr(arm, feature)
        for kernel, name in ((False, f"fid_{letter}"), (True, f"kernel_distance_{letter}")):
            each = [generation_sets.apart(far, bench.far_groups, m, bench.rng, kernel=kernel) for m in mine]
            out.append(_apart_entry(f"generation.{name}.{arm.name}", each, bench.about(arm, features=feature)))
        k = len(bench.groups)
        real = getattr(bench.real, feature)[0]
        found = [generation_sets.diversity_ratio(m[:k], real, far, bench.rng) for m in mine]
        within = [w for m in mine if (w := _within(m, bench, far)) is not None]
        out.append(_ratio_entry(
            f"generation.diversity_{letter}.{arm.name}", found,
            bench.about(arm, of="held-out clips of the same conditions",
                        within_one_condition=float(np.mean(within)) if within else None),
        ))  # fmt: skip
    return out


def _within(features: F64, bench: Bench, far: F64) -> float | None:
    good = np.isfinite(features).all(1)
    return (
        generation_sets.within_condition(features[good], bench.conditions[good].tolist(), far) if good.any() else None
    )


def _apart_entry(name: str, each: Sequence[generation_sets.Apart], params: Mapping[str, Any]) -> Entry:
    values = [d.value for d in each if d.value is not None]
    if len(values) < len(each):
        why = next(d.why for d in each if d.why)
        return entry(name, None, "1", "lower", n=each[0].n, status="insufficient", why=why, params=params)
    lows, highs = ([d.ci[k] for d in each if d.ci is not None] for k in (0, 1))
    floors = [d.floor for d in each if d.floor is not None]
    more = {"values": values, "dims": each[0].dims, "floor_ci": each[0].floor_ci and list(each[0].floor_ci),
            "ci_of": "20 draws of halves by dancer; the widest over seeds"}  # fmt: skip
    return entry(
        name, float(np.mean(values)), "1", "lower", n=each[0].n, ci=(min(lows), max(highs)),
        floor=("real half against real half", float(np.mean(floors))), params={**params, **more},
    )  # fmt: skip


def _ratio_entry(name: str, each: Sequence[generation_sets.Diversity], params: Mapping[str, Any], **more: Any) -> Entry:
    found = [d for d in each if d.ratio is not None and d.ci is not None]
    if len(found) < len(each) or not found:
        return entry(name, None, "1", "higher", n=0, status="insufficient", why="too few windows with features",
                     params=params, **more)  # fmt: skip
    ratios = [d.ratio for d in found if d.ratio is not None]
    lows, highs = ([d.ci[k] for d in found if d.ci is not None] for k in (0, 1))
    return entry(
        name, float(np.mean(ratios)), "1", "higher", n=found[0].n, ci=(float(np.mean(lows)), float(np.mean(highs))),
        params={**params, "values": ratios}, **more,
    )  # fmt: skip


def bound_entry(
    name: str, found: Estimate, unit: str, goal: tuple[str, float], gate: str, params: Mapping[str, Any], *,
    side: int, better: str = "higher", why: str | None = None,
) -> Entry:  # fmt: skip
    """A gate on one end of an interval: the entry's value is that end, the mean stands in `params.mean`.

    Args:
        name: Of the entry.
        found: A difference or a mean.
        unit: Its unit.
        goal: What the end has to meet.
        gate: Key of `GATES`.
        params: For the record.
        side: 0 the lower end, 1 the upper one.
        better: Of the entry.
        why: Why it cannot be judged although there is a value.
    """
    about = {**params, "gate": GATES[gate], "mean": found.value, "bound": ("lower", "upper")[side],
             "values": list(found.seeds)}  # fmt: skip
    if found.ci is None:
        reason = why or ("no interval: one held-out window" if found.value is not None else "no clip has both figures")
        return entry(name, found.value, unit, better, n=found.n, goal=goal, status="insufficient", why=reason,
                     params=about)  # fmt: skip
    return entry(name, found.ci[side], unit, better, n=found.n, ci=found.ci, goal=goal, params=about, why=why)
