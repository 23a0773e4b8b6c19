"""Groove metrics over sessions: phase coherence, energy correlation and drift, each against its nulls.

A figure is the mean of per-session values, its interval a bootstrap over sessions, its p the largest of its nulls'
p-values; a null of the mean is built from the sessions' own nulls, drawn independently (a stratified permutation test:
Good, Permutation, Parametric and Bootstrap Tests of Hypotheses, 3rd ed. 2005, chapter 3).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.metrics.bootstrap import session_mean, two_level_mean
from choreo_cli.metrics.circular import v_test
from choreo_cli.metrics.drift import HOP, WINDOW, WITHIN_PPM
from choreo_cli.metrics.energy import MIN_SECONDS
from choreo_cli.metrics.groove_session import MIN_SHIFTS, SessionGroove, judge
from choreo_cli.metrics.surrogates import DRAWS, blind_clocks, level, mean_of, p_value
from choreo_cli.metrics.tracks import Track
from formats.metrics import entry

F64 = NDArray[np.float64]
Entry = dict[str, Any]

P_MAX = 0.01
COHERENCE, ENERGY, DRIFT = "groove.phase_coherence", "groove.energy_correlation", "groove.drift_stability"
GOALS = {COHERENCE: 0.6, ENERGY: 0.3, DRIFT: 0.95}
TOGETHER = "judged over the sessions together"
ONE_CLOCK = "one session cannot tell a locked control from a clock that started at a lucky phase: hold out two or more"


def groove(
    tracks: Sequence[Track],
    *,
    seed: int = 0,
    draws: int = DRAWS,
    left_out: Mapping[str, str] | None = None,
    params: dict[str, Any] | None = None,
    on_progress: Callable[..., None] | None = None,
) -> list[Entry]:
    """Entries of the three metrics, over all sessions and for each.

    Args:
        tracks: Sessions to judge, see `metrics.tracks.pair_up`; with none every entry is `insufficient`.
        seed: Seed of the nulls and bootstraps; a session's draws depend on its place alone.
        draws: Draws of each null.
        left_out: Sessions that could not be paired up and why, named in the entries over all sessions.
        params: Added to every entry's params.
        on_progress: Called as `on_progress(done, total)`.
    """
    found = []
    for k, track in enumerate(tracks):
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(k,)))
        found.append(judge(track, [o for o in tracks if o is not track], rng, draws))
        if on_progress is not None:
            on_progress(k + 1, len(tracks))
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(len(tracks), 1)))
    more = params or {}
    whole = [*_coherence(found, rng, draws), *_energy(found, rng, draws), *_drift(found, rng, draws)]
    for e in whole:
        e["params"]["left_out"] = {**(left_out or {}), **e["params"]["left_out"]}
    each = [e for s in found for e in _each(s)]
    return [{**e, "params": {**e["params"], **more}} for e in (*whole, *each)]


def _left_out(found: Sequence[SessionGroove], why: Callable[[SessionGroove], str | None]) -> dict[str, str]:
    return {s.track.session_id: text for s in found if (text := why(s)) is not None}


def _nothing(name: str, unit: str, n: int, reasons: dict[str, str], status: str) -> Entry:
    return entry(
        name, None, unit, "higher", n=n, goal=(">=", GOALS[name]), p_max=P_MAX, status=status,
        why="; ".join(f"{k}: {v}" for k, v in reasons.items()) or "no session is held out",
        params={"sessions": 0, "left_out": reasons},
    )  # fmt: skip


def _coherence(found: Sequence[SessionGroove], rng: np.random.Generator, draws: int) -> list[Entry]:
    used = [s for s in found if s.lock.stats is not None]
    reasons = _left_out(found, lambda s: s.lock.why)
    if not used:
        flat = bool(found) and all(s.lock.status == "degenerate" for s in found)
        return [_nothing(COHERENCE, "1", 0, reasons, "degenerate" if flat else "insufficient")]
    stats = [s.lock.stats for s in used if s.lock.stats is not None]
    mean, ci, ci_why = session_mean([c.v for c in stats], rng)
    n = sum(c.n for c in stats)
    stretch = mean_of([s.lock.null_v for s in used], draws, rng)
    clocks = blind_clocks([s.lock.resultant for s in used], 10 * draws, rng)
    ps = {
        "v_test": v_test(n, sum(c.n * c.v for c in stats) / n),
        "stretch": p_value(stretch, mean),
        "blind_clock": p_value(clocks, mean),
    }
    bins = [sum(c) for c in zip(*(s.lock.facts()["histogram"] for s in used), strict=True)]
    p = max(ps.values())
    alone = len(used) == 1 and mean >= GOALS[COHERENCE] and max(ps["v_test"], ps["stretch"]) <= P_MAX < p
    facts = {
        "sessions": len(used), "left_out": reasons, "nulls": {k: {"p": v} for k, v in ps.items()}, "ci_why": ci_why,
        "v": mean, "R_mean": float(np.mean([c.R for c in stats])),
        "R_2nd_mean": float(np.mean([c.R_2nd for c in stats])), "histogram": bins,
        "mean_phase_ms": float(np.mean([s.lock.facts()["mean_phase_ms"] or 0.0 for s in used])),
        "picking": used[0].lock.facts()["picking"],
        "all_peaks": {
            "n": sum(s.lock.every.n for s in used if s.lock.every),
            "v": float(np.mean([s.lock.every.v for s in used if s.lock.every])),
        },
    }  # fmt: skip
    facts["nulls"]["stretch"]["level95"], facts["nulls"]["blind_clock"]["level95"] = level(stretch), level(clocks)
    clipped = None if ci is None else (max(0.0, ci[0]), max(0.0, ci[1]))
    return [
        entry(
            COHERENCE, max(0.0, mean), "1", "higher", n=n, ci=clipped, chance=max(level(stretch), level(clocks), 0.0),
            goal=(">=", GOALS[COHERENCE]), p=p, p_max=P_MAX, why=ONE_CLOCK if alone else None, params=facts,
        )
    ]  # fmt: skip


def _energy(found: Sequence[SessionGroove], rng: np.random.Generator, draws: int) -> list[Entry]:
    def why(s: SessionGroove) -> str | None:
        if s.energy.degenerate:
            return "a constant signal, or nothing overlaps"
        return (
            None
            if s.energy_p is not None
            else f"fewer than {MIN_SECONDS:g} s of energy beside the control: too short for a null"
        )

    used, reasons = [s for s in found if why(s) is None], _left_out(found, why)
    if not used:
        flat = bool(found) and all(s.energy.degenerate for s in found)
        return [_nothing(ENERGY, "1", 0, reasons, "degenerate" if flat else "insufficient")]
    mean, ci, ci_why = session_mean([s.energy.r or 0.0 for s in used], rng)
    seen = float(np.mean([s.observed for s in used]))
    kinds = {"shift": [s.shifts for s in used], "whole_beats": [s.beats for s in used]}
    nulls = {k: mean_of(v, draws, rng) for k, v in kinds.items() if all(len(null) >= MIN_SHIFTS for null in v)}
    lags = used[0].energy_facts()["lags_ms"]
    alike = all(s.energy_facts()["lags_ms"] == lags for s in used)
    facts = {
        "sessions": len(used), "left_out": reasons, "ci_why": ci_why,
        "nulls": {k: {"p": p_value(v, seen), "level95": level(v)} for k, v in nulls.items()},
        "lag_ms": float(np.mean([(s.energy.lag_s or 0.0) * 1e3 for s in used])),
        "r0_mean": float(np.mean([s.energy.r0 or 0.0 for s in used])),
        "n_effective": float(sum(s.energy.n_effective or 0.0 for s in used)),
        "other_sessions": sum(s.others for s in used),
        "lags_ms": lags if alike else [],
        "curve": [float(r) for r in np.nanmean([s.energy.curve for s in used], axis=0)] if alike else [],
    }  # fmt: skip
    edge = 2 * sum(s.energy.edge for s in used) >= len(used)
    return [
        entry(
            ENERGY, mean, "1", "higher", n=sum(s.energy.n for s in used), ci=ci,
            chance=max(map(level, nulls.values())), goal=(">=", GOALS[ENERGY]),
            p=max(p_value(v, seen) for v in nulls.values()), p_max=P_MAX, status="edge" if edge else "ok", params=facts,
        )
    ]  # fmt: skip


def _drift(found: Sequence[SessionGroove], rng: np.random.Generator, draws: int) -> list[Entry]:
    used = [(s, s.drift) for s in found if s.drift is not None]
    reasons = _left_out(found, lambda s: s.drift_why)
    ppm, bound = f"{DRIFT}.ppm", f"{DRIFT}.ppm_bound"
    goal = ("<=", WITHIN_PPM)
    if not used:
        flat = bool(found) and all(s.lock.status == "degenerate" for s in found)
        empty = _nothing(DRIFT, "1", 0, reasons, "degenerate" if flat else "insufficient")
        params = {k: v for k, v in empty["params"].items() if k != "p_max"}
        more: dict[str, Any] = {"n": 0, "status": empty["status"], "why": empty["why"], "params": params}
        return [empty, entry(ppm, None, "ppm", "lower", **more), entry(bound, None, "ppm", "lower", goal=goal, **more)]
    mean, ci, ci_why = session_mean([d.stability for _, d in used], rng)
    null = mean_of([s.drift_null for s, _ in used], draws, rng)
    slope, slope_ci = two_level_mean([d.ppm for _, d in used], [d.ppm_ci for _, d in used], rng)
    n = sum(len(d.mean_phase_rad) for _, d in used)
    facts = {"sessions": len(used), "left_out": reasons, "window_beats": WINDOW, "hop_beats": HOP}
    peaks = sum(len(d.t_s) for _, d in used)
    return [
        entry(
            DRIFT, mean, "1", "higher", n=n, ci=ci, chance=level(null), goal=(">=", GOALS[DRIFT]),
            p=p_value(null, mean), p_max=P_MAX, params={**facts, "ci_why": ci_why},
        ),
        entry(ppm, slope, "ppm", "lower", n=peaks, ci=slope_ci, why=f"judged by {bound}", params=facts),
        entry(
            bound, max(abs(slope_ci[0]), abs(slope_ci[1])), "ppm", "lower", n=peaks, ci=slope_ci, goal=goal,
            params={**facts, "what": "the end of the slope's 95 % interval that lies farther from 0"},
        ),
    ]  # fmt: skip


def _energy_status(s: SessionGroove) -> str:
    if s.energy.degenerate:
        return "degenerate"
    return "insufficient" if s.energy_p is None else "edge" if s.energy.edge else "ok"


def _each(s: SessionGroove) -> list[Entry]:
    """The three metrics of one session; the verdict is over all of them."""
    who = {"session": s.track.session_id, "reference": s.track.reference}
    lock, e, d = s.lock, s.energy, s.drift
    ps = None if lock.stats is None else max(lock.stats.v_p, p_value(lock.null_v, lock.stats.v))
    clock = None if lock.stats is None else abs(lock.stats.mean_phase or 0.0) * 2
    n = 0 if lock.stats is None else lock.stats.n
    made = [
        entry(
            f"{COHERENCE}.session", None if lock.stats is None else lock.score, "1", "higher", n=n,
            chance=None if lock.stats is None else max(0.0, level(lock.null_v)), p=ps, status=lock.status,
            why=lock.why or TOGETHER, params={**who, **lock.facts(), "blind_clock_p": clock},
        ),
        entry(
            f"{ENERGY}.session", e.r, "1", "higher", n=e.n, p=s.energy_p, why=TOGETHER,
            chance=max((level(x) for x in (s.shifts, s.beats) if len(x)), default=None),
            status=_energy_status(s),
            params={**who, **s.energy_facts()},
        ),
    ]  # fmt: skip
    if d is None:
        status = "degenerate" if lock.status == "degenerate" else "insufficient"
        return [*made, entry(f"{DRIFT}.session", None, "1", "higher", n=0, status=status, why=s.drift_why, params=who)]
    facts = {
        **who, "ppm": d.ppm, "ppm_ci": list(d.ppm_ci), "intercept_ms": d.intercept_s * 1e3, "excursion": d.excursion,
        "fitted": len(d.t_s), "points": s.drift_points(),
    }  # fmt: skip
    stable = p_value(s.drift_null, d.stability)
    return [
        *made,
        entry(
            f"{DRIFT}.session", d.stability, "1", "higher", n=len(d.mean_phase_rad), chance=level(s.drift_null),
            p=stable, why=TOGETHER, params=facts,
        ),
    ]  # fmt: skip
