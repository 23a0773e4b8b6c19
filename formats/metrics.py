"""Entries of `choreo.metrics/1`: every key present, ratio and verdict computed in one place."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from formats.columns import METRIC
from formats.errors import FormatError
from formats.manifest import check_entry

Named = tuple[str, float]
OPS = (">=", "<=")


def entry(
    name: str,
    value: float | None,
    unit: str,
    better: str,
    *,
    n: int | None = None,
    ci: Sequence[float] | None = None,
    chance: float | None = None,
    baseline: Named | None = None,
    floor: Named | None = None,
    goal: tuple[str, float] | None = None,
    p: float | None = None,
    p_max: float | None = None,
    status: str = "ok",
    params: Mapping[str, Any] | None = None,
    why: str | None = None,
) -> dict[str, Any]:
    """One metric with all keys of its table; `ratio` and `pass` follow from the rest.

    Args:
        name: What was measured.
        value: The figure, None when there is none.
        unit: Unit of value, interval, chance, baseline, floor and goal.
        better: `higher` or `lower`.
        n: Observations.
        ci: 95 % interval.
        chance: Level of the null.
        baseline: (name, value) measured in the same run.
        floor: (name, value): the least it could cost.
        goal: (`>=` or `<=`, value) that `value` has to meet.
        p: p-value against the null.
        p_max: The goal also asks for p at most this; kept in `params`.
        status: `ok`, `edge`, `degenerate` or `insufficient`; the last two cannot be judged.
        params: Parameters of the measurement, JSON values.
        why: Why it cannot be judged; `pass` is then null.

    Raises:
        FormatError: a value that is not finite, or breaks its table.
    """
    kept = dict(params or {})
    if p_max is not None:
        kept["p_max"] = p_max
    verdict, why = _verdict(value, goal, p, p_max, status, why)
    found = {
        "name": name,
        "value": value,
        "unit": unit,
        "better": better,
        "n": n,
        "ci": None if ci is None else list(ci),
        "chance": chance,
        "baseline": _named(baseline),
        "ratio": _ratio(value, baseline, better),
        "floor": _named(floor),
        "goal": None if goal is None else {"op": goal[0], "value": goal[1]},
        "p": p,
        "status": status,
        "params": kept,
        "pass": verdict,
        "why": why,
    }
    validate(found)
    return found


def validate(found: dict[str, Any], source: str = "metrics", row: int = 0) -> None:
    """Raise FormatError when an entry breaks its table, holds a value that is not finite, or contradicts itself."""
    check_entry(found, METRIC, source, row)
    for key, value in found.items():
        for number in _numbers(value):
            if not math.isfinite(number):
                raise FormatError("a figure that is not finite", file=source, row=row, field=key)
    for key in ("baseline", "floor"):
        if found[key] is not None and not _is_named(found[key]):
            raise FormatError("needs {name, value}", file=source, row=row, field=key)
    goal = found["goal"]
    if goal is not None and (not isinstance(goal, dict) or set(goal) != {"op", "value"} or goal["op"] not in OPS):
        raise FormatError("needs {op, value} with op >= or <=", file=source, row=row, field="goal")
    if found["ci"] is not None and (len(found["ci"]) != 2 or found["ci"][0] > found["ci"][1]):
        raise FormatError("needs [low, high]", file=source, row=row, field="ci")
    if found["pass"] is not None and (goal is None or found["value"] is None or found["why"] is not None):
        raise FormatError("a verdict needs a goal, a value and no excuse", file=source, row=row, field="pass")


def _verdict(
    value: float | None,
    goal: tuple[str, float] | None,
    p: float | None,
    p_max: float | None,
    status: str,
    why: str | None,
) -> tuple[bool | None, str | None]:
    if why is not None:
        return None, why
    if goal is None:
        return None, "no goal"
    if value is None:
        return None, "no value"
    if status in ("degenerate", "insufficient"):
        return None, status
    if p_max is not None and p is None:
        return None, "no p-value"
    met = value >= goal[1] if goal[0] == ">=" else value <= goal[1]
    return met and (p_max is None or (p is not None and p <= p_max)), None


def _ratio(value: float | None, baseline: Named | None, better: str) -> float | None:
    """How many times better than the baseline; None where that means nothing (zero or below)."""
    if value is None or baseline is None or value <= 0 or baseline[1] <= 0:
        return None
    return value / baseline[1] if better == "higher" else baseline[1] / value


def _named(pair: Named | None) -> dict[str, Any] | None:
    return None if pair is None else {"name": pair[0], "value": pair[1]}


def _is_named(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and set(value) == {"name", "value"}
        and isinstance(value["name"], str)
        and type(value["value"]) in (int, float)
    )


def _numbers(value: Any) -> list[float]:
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return []
    if isinstance(value, int | float):
        return [float(value)]
    inside = value.values() if isinstance(value, dict) else value
    return [number for item in inside for number in _numbers(item)]
