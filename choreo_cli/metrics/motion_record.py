"""Records of motion metrics: one figure over clips, with its interval, chance, floor and what was left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from choreo_cli.metrics.bootstrap import DRAWS, ONE
from formats.metrics import entry

Entry = dict[str, Any]
HALVES = 200
MOST_DRAWN = 20_000_000
LISTED = 64  # clips up to which every value stands in the record


@dataclass(slots=True)
class Values:
    """A figure of every clip that has one.

    Args:
        name: Of the record, without `motion.`.
        unit, better, mode: As in the record.
        clips: Clip name -> value.
        left_out: Clip name -> why it has none.
        groups: Clip name -> performer or take, where known.
        fps: Rate it was measured at; None = each clip's own.
        frames: Frames that were measured.
        params: More for the record.
    """

    name: str
    unit: str
    better: str
    mode: str
    clips: dict[str, float] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    groups: dict[str, str | None] = field(default_factory=dict)
    fps: float | list[float] | None = None
    frames: int = 0
    params: dict[str, Any] = field(default_factory=dict)


def over_clips(
    values: Sequence[float], groups: Sequence[str | None], rng: np.random.Generator, draws: int = DRAWS
) -> tuple[float, tuple[float, float] | None, str | None]:
    """Mean with a 95 % percentile bootstrap over groups where they are known, else over clips; never over frames.

    Returns:
        (mean, interval or None, why there is none)
    """
    x = np.asarray(values, np.float64)
    names = [g if g is not None else f"\0{k}" for k, g in enumerate(groups)]
    kinds = sorted(set(names))
    if len(kinds) < 2:
        return (
            float(x.mean()),
            None,
            ONE.replace("session", "clip") if len(x) < 2 else "one group: no interval over groups",
        )
    index = np.array([kinds.index(n) for n in names])
    sums = np.bincount(index, x, len(kinds))
    counts = np.bincount(index, minlength=len(kinds))
    # Thousands of groups need fewer draws for the same accuracy of the mean, and the table of draws stays small.
    drawn = rng.integers(0, len(kinds), (min(draws, max(999, MOST_DRAWN // len(kinds))), len(kinds)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    lo, hi = np.quantile(means, [0.025, 0.975])
    return float(x.mean()), (float(lo), float(hi)), None


def half_difference(real: Sequence[float], rng: np.random.Generator, draws: int = HALVES) -> float | None:
    """Noise floor: mean absolute difference of the means of two random halves of the real clips; None below two."""
    x = np.asarray(real, np.float64)
    half = len(x) // 2
    if not half:
        return None
    mixed = rng.permuted(np.tile(x, (draws, 1)), axis=1)
    return float(np.abs(mixed[:, :half].mean(axis=1) - mixed[:, half : 2 * half].mean(axis=1)).mean())


def record(
    found: Values,
    rng: np.random.Generator,
    *,
    reference: Values | None = None,
    chance: float | None = None,
    p: float | None = None,
    goal: tuple[str, float] | None = None,
    status: str | None = None,
    why: str | None = None,
) -> Entry:
    """One `choreo.metrics/1` entry of a figure over clips.

    Args:
        found: The clips judged.
        rng: Draws of the bootstrap.
        reference: The same figure of real clips: the floor.
        chance: Mean of the null.
        p: Against it.
        goal: To be met.
        status: None derives it: `insufficient` when no clip has a value.
        why: Why it is not judged; None says why there is no value.
    """
    params: dict[str, Any] = {
        "variant": found.name, "mode": found.mode, "fps": found.fps, "frames": found.frames, **found.params,
        "left_out": dict(found.left_out),
    }  # fmt: skip
    if not found.clips:
        reasons = sorted(set(found.left_out.values()))
        return entry(
            f"motion.{found.name}", None, found.unit, found.better, n=0, goal=goal, status=status or "insufficient",
            why=why or "; ".join(reasons) or "no clip", params=params,
        )  # fmt: skip
    values = list(found.clips.values())
    mean, ci, ci_why = over_clips(values, [found.groups.get(n) for n in found.clips], rng)
    params |= {"ci_why": ci_why, "sd": float(np.std(values)), "range": [min(values), max(values)]}
    if len(values) <= LISTED:
        params["clips"] = dict(found.clips)
    floor = None
    if reference is not None and reference.clips:
        real = list(reference.clips.values())
        floor = ("real clips", float(np.mean(real)))
        params["reference"] = {
            "n": len(real), "sd": float(np.std(real)), "range": [min(real), max(real)],
            "half_difference": half_difference(real, rng),
        }  # fmt: skip
    return entry(
        f"motion.{found.name}", mean, found.unit, found.better, n=len(values), ci=ci, chance=chance, floor=floor, p=p,
        goal=goal, status=status or "ok", why=why, params=params,
    )  # fmt: skip


def of_each(found: Values) -> list[Entry]:
    """One entry a clip, indented under its name in a table."""
    return [
        entry(
            f"motion.{found.name}.clip", value, found.unit, found.better, n=1, why="judged over all clips",
            params={"session": name, "variant": found.name, "mode": found.mode, "fps": found.fps},
        )
        for name, value in found.clips.items()
    ]  # fmt: skip


def nothing(name: str, unit: str, better: str, mode: str, why: str, params: Mapping[str, Any] | None = None) -> Entry:
    """The record of a figure that could not be had, with the reason."""
    return entry(
        f"motion.{name}", None, unit, better, n=0, status="insufficient", why=why,
        params={"variant": name, "mode": mode, **(params or {})},
    )  # fmt: skip
