"""F1 of detected onsets per class: one-to-one matches within a tolerance, a null of random onsets, a session bootstrap.

Events are matched as in onset detection (Bello et al. 2005; the conventions of MIREX): an estimate is right when it
lies within the tolerance of a reference, and each reference and each estimate is used once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from formats.metrics import entry

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]

GOAL = 0.85
TOLERANCE_MS = 200
MIN_SUPPORT = 16
DRAWS = 999
BOOTSTRAP = 2000


@dataclass(frozen=True, slots=True)
class Judged:
    """One class in one session.

    Args:
        session: Which.
        true_us: Onsets that happened, where the inputs were measured.
        found_us: Onsets that were detected.
        beats_us: Beats of the session, for the null; empty when unknown.
        spans_us: (R, 2) unbroken stretches that were searched.
    """

    session: str
    true_us: I64
    found_us: I64
    spans_us: I64
    beats_us: I64 = field(default_factory=lambda: np.empty(0, np.int64))


def match(true_us: ArrayLike, found_us: ArrayLike, tolerance_us: int) -> list[tuple[int, int]]:
    """Largest one-to-one matching of two sorted lists of times, at most `tolerance_us` apart.

    On a line, taking the earliest pair that fits is optimal: any matching can be untangled so that no two pairs cross.

    Returns:
        (index into `true_us`, index into `found_us`) pairs.
    """
    true, found = np.asarray(true_us, np.int64), np.asarray(found_us, np.int64)
    pairs, i, j = [], 0, 0
    while i < len(true) and j < len(found):
        apart = int(found[j] - true[i])
        if abs(apart) <= tolerance_us:
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif apart < 0:
            j += 1
        else:
            i += 1
    return pairs


def f1(hits: ArrayLike, true: ArrayLike, found: ArrayLike) -> F64:
    """2 hits / (true + found), 0 where there is nothing at all."""
    total = np.asarray(true, np.float64) + np.asarray(found, np.float64)
    return np.asarray(2 * np.asarray(hits, np.float64) / np.maximum(total, 1))


def counts(judged: Sequence[Judged], tolerance_us: int) -> I64:
    """(S, 3) hits, true and found events of every session."""
    rows = [(len(match(j.true_us, j.found_us, tolerance_us)), len(j.true_us), len(j.found_us)) for j in judged]
    return np.array(rows, np.int64).reshape(-1, 3)


def null_f1(judged: Sequence[Judged], tolerance_us: int, rng: np.random.Generator, draws: int = DRAWS) -> F64:
    """(2, draws) F1 of as many onsets as were found, at random times (row 0) and on random beats (row 1).

    Beats are the stronger null where gestures start on beats; without beats its row repeats row 0.
    """
    out = np.zeros((2, draws))
    true = sum(len(j.true_us) for j in judged)
    found = sum(len(j.found_us) for j in judged)
    for d in range(draws):
        hits = [0, 0]
        for j in judged:
            n = len(j.found_us)
            hits[0] += len(match(j.true_us, _anywhere(j, n, rng), tolerance_us))
            beats = np.sort(rng.choice(j.beats_us, min(n, len(j.beats_us)), replace=False)) if len(j.beats_us) else None
            hits[1] += len(match(j.true_us, _anywhere(j, n, rng) if beats is None else beats, tolerance_us))
        out[:, d] = f1(hits, true, found)
    return out


def _anywhere(judged: Judged, n: int, rng: np.random.Generator) -> I64:
    length = judged.spans_us[:, 1] - judged.spans_us[:, 0]
    if not n or not len(length) or length.sum() <= 0:
        return np.empty(0, np.int64)
    at = np.sort(rng.uniform(0, float(length.sum()), n))
    ends = np.cumsum(length)
    which = np.minimum(np.searchsorted(ends, at, side="right"), len(ends) - 1)
    return np.asarray(judged.spans_us[which, 0] + at - (ends - length)[which], np.int64)


def class_entry(
    label: str,
    judged: Sequence[Judged],
    *,
    tolerance_ms: int = TOLERANCE_MS,
    goal: float = GOAL,
    seed: int = 0,
    params: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """`gesture_f1_<label>`: F1 over all sessions, its interval over sessions, and chance.

    Counts are added over sessions before F1 is taken (a session may hold none of a class); the interval resamples
    whole sessions. `insufficient` below 16 true onsets or 2 sessions that hold them.

    Args:
        label: The class.
        judged: One item per held-out session.
        tolerance_ms: How far an onset may lie from the true one.
        goal: Least F1.
        seed: Seed of the null and of the bootstrap.
        params: Further parameters of the measurement.
    """
    tolerance_us = tolerance_ms * 1000
    table = counts(judged, tolerance_us)
    hits, true, found = (int(v) for v in table.sum(axis=0))
    errors = onset_errors_ms(judged, tolerance_us)
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(5, sum(map(ord, label)))))
    told = {
        "tolerance_ms": tolerance_ms, "support": true, "detected": found, "hits": hits,
        "precision": round(hits / found, 6) if found else None, "recall": round(hits / true, 6) if true else None,
        "sessions": len(table), "sessions_with_it": int((table[:, 1] > 0).sum()) if len(table) else 0,
        "onset_error_ms": {"median": round(float(np.median(errors)), 1), "p90_abs": _p90(errors)} if hits else None,
        **(params or {}),
    }  # fmt: skip
    name = f"gesture_f1_{label}"
    if not true:
        return entry(
            name, None, "1", "higher", n=0, goal=(">=", goal), status="insufficient", params=told,
            why=f"no {label} in the held-out sessions",
        )  # fmt: skip
    value = float(f1(hits, true, found))
    null = null_f1(judged, tolerance_us, rng)
    told |= {"chance_random": round(float(null[0].mean()), 4), "chance_on_beats": round(float(null[1].mean()), 4)}
    strong = null[int(null[1].mean() > null[0].mean())]
    enough = true >= MIN_SUPPORT and told["sessions_with_it"] >= 2
    return entry(
        name, value, "1", "higher", n=true, ci=interval(table, rng), chance=float(strong.mean()), goal=(">=", goal),
        p=float((1 + (strong >= value - 1e-12).sum()) / (1 + strong.size)), p_max=0.01,
        status="ok" if enough else "insufficient", params=told,
    )  # fmt: skip


def worst_entry(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """`gesture_f1_worst`: the least F1 of all classes; it cannot be judged while one of them cannot.

    Args:
        entries: From `class_entry`, one a class.
    """
    values = {e["name"].removeprefix("gesture_f1_"): e["value"] for e in entries}
    known = [v for v in values.values() if v is not None]
    weak = [e["name"].removeprefix("gesture_f1_") for e in entries if e["status"] != "ok"]
    told: dict[str, Any] = {"by_class": {k: v if v is None else round(v, 6) for k, v in values.items()}}
    told["tolerance_ms"] = entries[0]["params"]["tolerance_ms"] if entries else None
    return entry(
        "gesture_f1_worst", min(known) if known else None, "1", "higher", n=len(known), goal=(">=", GOAL),
        status="insufficient" if weak or not known else "ok", params=told,
        why=f"too few in the held-out sessions: {', '.join(weak)}" if weak else None,
    )  # fmt: skip


def interval(table: I64, rng: np.random.Generator, draws: int = BOOTSTRAP) -> tuple[float, float] | None:
    """95 % percentile interval of F1 over resampled sessions; None with fewer than two."""
    if len(table) < 2:
        return None
    sums = table[rng.integers(0, len(table), (draws, len(table)))].sum(axis=1)
    low, high = np.percentile(f1(*sums.T), (2.5, 97.5))
    return float(low), float(high)


def onset_errors_ms(judged: Sequence[Judged], tolerance_us: int) -> F64:
    """Detected minus true onset of every match, ms."""
    return np.array(
        [
            (j.found_us[b] - j.true_us[a]) / 1e3
            for j in judged
            for a, b in match(j.true_us, j.found_us, tolerance_us)
        ]
    )  # fmt: skip


def best_threshold(by_threshold: Mapping[float, float]) -> float:
    """The threshold of the highest F1; the middle one of the longest row of equals, so that it stands off the cliffs.

    Args:
        by_threshold: Mean F1 over the classes, by threshold.
    """
    grid = sorted(by_threshold)
    top = max(by_threshold.values())
    runs: list[list[float]] = [[]]
    for value in grid:
        if by_threshold[value] >= top - 1e-9:
            runs[-1].append(value)
        else:
            runs.append([])
    longest = max(runs, key=len)
    return longest[(len(longest) - 1) // 2]


def _p90(errors: F64) -> float:
    return round(float(np.percentile(np.abs(errors), 90)), 1)
