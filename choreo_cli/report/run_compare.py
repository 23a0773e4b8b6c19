"""Is B worse than A: figure by figure, paired over seeds or sessions where both have them, beyond the interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from choreo_cli.errors import UsageError
from choreo_cli.report.run_artefact import Artefact
from choreo_cli.report.run_metrics import student_interval

Entry = Mapping[str, Any]
MIN_PAIRS = 3
MAX_INPUTS = 2


def compare(inputs: Sequence[Artefact]) -> dict[str, Any]:
    """Compare two runs or two documents of figures.

    Returns:
        `{a, b, rows, worse, better, same, unjudged}`; a row holds the figure, both values, the difference with its
        interval (positive = B is better), how it was judged, and `worse`, `better`, `same` or `not judged`.

    Raises:
        UsageError: not two inputs, or two that share no figure.
    """
    if len(inputs) != MAX_INPUTS:
        raise UsageError(f"--fail-if-worse compares two inputs, got {len(inputs)}", hint="choreo report A B")
    a, b = (_observed(x) for x in inputs)
    shared = [key for key in a if key in b]
    if not shared:
        raise UsageError("the two have no figure in common", hint="compare runs of one recipe, or two evaluations")
    gated = [key for key in shared if any(e["goal"] is not None for e in (*a[key].values(), *b[key].values()))]
    rows = [_judge(key, a[key], b[key]) for key in gated or shared]
    count = {word: sum(r["verdict"] == word for r in rows) for word in ("worse", "better", "same", "not judged")}
    return {
        "a": inputs[0].name,
        "b": inputs[1].name,
        "rows": rows,
        "worse": count["worse"],
        "better": count["better"],
        "same": count["same"],
        "unjudged": count["not judged"],
    }


def _observed(a: Artefact) -> dict[tuple[str, int], dict[str, Entry]]:
    """Entries by (name, occurrence), then by seed (runs) or under one key (figures)."""
    found: dict[tuple[str, int], dict[str, Entry]] = {}
    if a.kind == "run":
        lists = [(str(e["seed"]), e["metrics"] or []) for e in a.manifest.entries]
    elif a.kind == "metrics":
        lists = [("", a.manifest.entries)]
    else:
        raise UsageError(f"{a.name} is a dataset: it has no figures", hint="compare runs or metrics.json files")
    for seed, entries in lists:
        count: dict[str, int] = {}
        for e in entries:
            name = str(e["name"])
            found.setdefault((name, count.get(name, 0)), {})[seed] = e
            count[name] = count.get(name, 0) + 1
    return found


def _judge(key: tuple[str, int], a: Mapping[str, Entry], b: Mapping[str, Entry]) -> dict[str, Any]:
    first = next(iter(a.values()))
    sign = 1.0 if first["better"] == "higher" else -1.0
    gain, interval, how = _difference(a, b, sign)
    if interval is None:
        verdict = "not judged"
    else:
        verdict = "worse" if interval[1] < 0 else "better" if interval[0] > 0 else "same"
    return {
        "name": key[0],
        "unit": first["unit"],
        "better": first["better"],
        "a": _mean([e["value"] for e in a.values()]),
        "b": _mean([e["value"] for e in b.values()]),
        "gain": gain,
        "interval": interval,
        "how": how,
        "verdict": verdict,
    }


def _difference(
    a: Mapping[str, Entry], b: Mapping[str, Entry], sign: float
) -> tuple[float | None, list[float] | None, str]:
    """(gain of B over A, its 95 % interval, how it was found)."""
    for what, x, y in (("seeds", _values(a), _values(b)), ("sessions", _sessions(a), _sessions(b))):
        both = sorted(set(x) & set(y))
        if len(both) >= MIN_PAIRS:
            gains = [sign * (y[k] - x[k]) for k in both]
            return _mean(gains), student_interval(gains), f"paired over {len(both)} {what}"
    left, right = _mean([e["value"] for e in a.values()]), _mean([e["value"] for e in b.values()])
    if left is None or right is None:
        return None, None, "no value"
    gain = sign * (right - left)
    halves = [_half(x) for x in (a, b)]
    if halves[0] is None or halves[1] is None:
        same = left == right and set(a) == set(b)
        return gain, [0.0, 0.0] if same else None, "equal values" if same else "no interval: train at least 3 seeds"
    half = math.hypot(halves[0], halves[1])
    return gain, [gain - half, gain + half], "both intervals"


def _values(x: Mapping[str, Entry]) -> dict[str, float]:
    return {k: float(e["value"]) for k, e in x.items() if k and e["value"] is not None}


def _sessions(x: Mapping[str, Entry]) -> dict[str, float]:
    """Per-session values that a single entry keeps in its parameters."""
    if len(x) != 1:
        return {}
    params = next(iter(x.values()))["params"]
    stated = params.get("by_session", params.get("sessions")) if isinstance(params, dict) else None
    if not isinstance(stated, dict):
        return {}
    found = {str(k): v.get("value") if isinstance(v, dict) else v for k, v in stated.items()}
    return {k: float(v) for k, v in found.items() if isinstance(v, int | float) and not isinstance(v, bool)}


def _half(x: Mapping[str, Entry]) -> float | None:
    """Half the width of the interval: over seeds when there are several, else the entry's own."""
    values = [float(e["value"]) for e in x.values() if e["value"] is not None]
    own = student_interval(values) or (next(iter(x.values()))["ci"] if len(x) == 1 else None)
    return None if own is None else (own[1] - own[0]) / 2


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return math.fsum(known) / len(known) if known else None
