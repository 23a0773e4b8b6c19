"""Is B worse than A: figure by figure, paired over seeds or sessions where both have them, beyond the interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from choreo_cli.errors import UsageError
from choreo_cli.report.run_artefact import Artefact
from choreo_cli.report.run_metrics import student_interval

Entry = Mapping[str, Any]
BySession = Mapping[str, Mapping[str, float]]
Pair = tuple[str, Mapping[str, float], Mapping[str, float]]
SESSION = ".session"  # ends the name of a figure of one session
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
    by_session = (_by_session(inputs[0]), _by_session(inputs[1]))
    rows = [_judge(key, a[key], b[key], by_session) for key in gated or shared]
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


def _key(e: Entry, count: dict[str, int]) -> tuple[str, int]:
    """A figure by its name and occurrence."""
    name = str(e["name"])
    count[name] = count.get(name, -1) + 1
    return name, count[name]


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
            found.setdefault(_key(e, count), {})[seed] = e
    return found


def _judge(
    key: tuple[str, int], a: Mapping[str, Entry], b: Mapping[str, Entry], by_session: tuple[BySession, BySession]
) -> dict[str, Any]:
    first = next(iter(a.values()))
    sign = 1.0 if first["better"] == "higher" else -1.0
    left, right = (s.get(key[0], {}) for s in by_session)
    pairs = [("seeds", _by_seed(a), _by_seed(b)), ("sessions", left, right)]
    gain, interval, how = _difference(a, b, sign, pairs)
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
    a: Mapping[str, Entry],
    b: Mapping[str, Entry],
    sign: float,
    pairs: Sequence[Pair],
) -> tuple[float | None, list[float] | None, str]:
    """(gain of B over A, its 95 % interval, how it was found)."""
    for what, x, y in pairs:
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


def _by_seed(x: Mapping[str, Entry]) -> dict[str, float]:
    """Values by seed: of several runs, or of one entry that was brought together over seeds."""
    if len(x) == 1:
        params = next(iter(x.values()))["params"]
        if isinstance(params, dict) and params.get("over") == "seeds":
            both = zip(params.get("seeds") or [], params.get("values") or [], strict=False)
            return {str(k): float(v) for k, v in both if isinstance(v, int | float)}
    return {k: float(e["value"]) for k, e in x.items() if k and e["value"] is not None}


def _by_session(a: Artefact) -> BySession:
    """Of every figure that is also stated for each session: its values by session."""
    found: dict[str, dict[str, float]] = {}
    for e in a.manifest.entries if a.kind == "metrics" else []:
        name, session = str(e["name"]), e["params"].get("session") if isinstance(e["params"], dict) else None
        if name.endswith(SESSION) and isinstance(session, str) and e["value"] is not None:
            found.setdefault(name.removesuffix(SESSION), {})[session] = float(e["value"])
    return found


def _half(x: Mapping[str, Entry]) -> float | None:
    """Half the width of the interval: over seeds when there are several, else the entry's own."""
    values = [float(e["value"]) for e in x.values() if e["value"] is not None]
    own = student_interval(values) or (next(iter(x.values()))["ci"] if len(x) == 1 else None)
    return None if own is None else (own[1] - own[0]) / 2


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return math.fsum(known) / len(known) if known else None
