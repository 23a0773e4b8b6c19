"""Figures of what the controls do on held-out sessions: against the beat, against the body, over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.report.run_draw import Palette
from choreo_cli.report.run_metrics import number
from choreo_cli.report.run_series import Peaks, Trace, envelope, lags, peaks, signed_phase
from formats.columns import CONTROL_NAMES

F64 = NDArray[np.float64]
BINS = 24
EXCERPT_S = 12.0
COLUMNS = 260
BOUND = 0.01  # within 1 % of a bound counts as clipped
NEED = {"phase": 16, "drift": 64}
TITLES = {
    "phase": "Density peaks inside the beat",
    "energy": "Density follows the body",
    "drift": "Drift against the beat",
    "controls": "Controls of a held-out session",
}


def figures(held: Sequence[Trace]) -> list[dict[str, Any]]:
    """Fields of the `Figure`s of held-out sessions; the first session is the one shown in detail."""
    found = [(t, p) for t in held if (p := peaks(t)) is not None]
    return [_phase(found), _energy(held[0]), _drift(found), _controls(held[0])]


def _missing(name: str, why: str) -> dict[str, Any]:
    return {"name": name, "title": TITLES[name], "text": f"MISSING: {why}."}


def _phase(found: Sequence[tuple[Trace, Peaks]]) -> dict[str, Any]:
    where = [signed_phase(p.phases) for _, p in found]
    phases = np.concatenate(where) if where else np.empty(0)
    if len(phases) < NEED["phase"]:
        return _missing("phase", f"{len(phases)} peaks whose beat is known, need {NEED['phase']}")
    v = float(np.cos(2 * np.pi * phases).mean())
    late = float(np.mean([np.angle(np.exp(2j * np.pi * p.phases).mean()) / (2 * np.pi) * p.period_s for _, p in found]))
    lo, hi = _uniform_band(len(phases))
    text = (
        f"{len(phases)} peaks of the density control in {_sessions(len(found))}, by their distance from the nearest"
        f" beat. The band is where 95 % of bars would lie if peaks fell anywhere. Lock at the beat v = {v:.2f};"
        f" the mean peak comes {abs(late) * 1e3:.0f} ms {'after' if late >= 0 else 'before'} it."
    )
    facts = {"n": len(phases), "v": round(v, 6), "mean_ms": round(late * 1e3, 3), "band": [lo, hi]}
    return {
        "name": "phase", "title": TITLES["phase"], "text": text, "height_mm": 62.0, "facts": facts,
        "draw": lambda f, p: _draw_phase(f, p, phases, (lo, hi), v),
    }  # fmt: skip


def _uniform_band(n: int) -> tuple[float, float]:
    """Shares of the lower and upper end of a bar's 95 % interval under uniform phases."""
    from scipy.stats import binom

    lo, hi = binom.ppf([0.025, 0.975], n, 1 / BINS)
    return float(lo) / n, float(hi) / n


def _draw_phase(figure: Any, p: Palette, phases: F64, band: tuple[float, float], v: float) -> None:
    ax = figure.add_subplot()
    edges = np.linspace(-0.5, 0.5, BINS + 1)
    share = np.histogram(phases, edges)[0] / len(phases)
    ax.axhspan(*band, color=p.band, alpha=0.8, linewidth=0)
    middle = (edges[:-1] + edges[1:]) / 2
    ax.bar(middle, share, 0.9 / BINS, color=[p.b if s > band[1] else p.soft for s in share], alpha=0.9)
    ax.axvline(0, color=p.ink, linewidth=0.8, linestyle=(0, (4, 2)))
    ax.set_xlim(-0.5, 0.5)
    ax.set_xticks([-0.5, -0.25, 0, 0.25, 0.5], ["−½", "−¼", "beat", "+¼", "+½"])
    ax.set_ylim(0, max(float(share.max()) * 1.12, band[1] * 1.6))
    ax.yaxis.set_major_formatter(lambda y, _: f"{100 * y:.0f} %")
    ax.set_xlabel("position of the peak, beats")
    ax.annotate("expected if uniform", (0.49, band[1]), (0, 2), textcoords="offset points", ha="right",
                color=p.soft, fontsize=7)  # fmt: skip
    ax.annotate(f"v = {v:.2f}", (0.02, 0.95), xycoords="axes fraction", va="top", color=p.ink)


def _energy(t: Trace) -> dict[str, Any]:
    found = lags(t)
    if found is None or t.energy is None:
        return _missing("energy", "the frames of the held-out session are not where the run says they are")
    lag, r = found
    best = int(np.nanargmax(r))
    text = (
        f"Motion energy and density of {t.session}: {EXCERPT_S:.0f} s of it above; below, their correlation over the"
        f" whole session for every lag within ±100 ms. Highest at {signed(lag[best] * 1e3)} ms (r = {r[best]:.2f};"
        f" r = {_at_zero(lag, r):.2f} without a lag). Positive: density comes after the body."
    )
    facts = {"session": t.session, "lag_ms": round(float(lag[best]) * 1e3, 3), "r": round(float(r[best]), 6)}
    return {
        "name": "energy", "title": TITLES["energy"], "text": text, "height_mm": 84.0, "double": True, "facts": facts,
        "draw": lambda f, p: _draw_energy(f, p, t, lag, r),
    }  # fmt: skip


def _at_zero(lag: F64, r: F64) -> float:
    return float(r[int(np.argmin(np.abs(lag)))])


def _draw_energy(figure: Any, p: Palette, t: Trace, lag: F64, r: F64) -> None:
    above, below = figure.subplots(2, 1, height_ratios=[3, 2])
    assert t.energy is not None
    start = max(0.0, t.t_s[-1] / 2 - EXCERPT_S / 2)
    shown = (t.t_s >= start) & (t.t_s < start + EXCERPT_S)
    density = t.controls[:, CONTROL_NAMES.index("density")]
    above.fill_between(t.t_s[shown], 0, t.energy[shown], color=p.soft, alpha=0.28, linewidth=0, label="motion energy")
    above.plot(t.t_s[shown], density[shown], color=p.b, linewidth=1.1, label="density")
    for at in _beats(t, shown):
        above.axvline(at, color=p.grid, linewidth=0.6, zorder=0)
    above.set_xlim(start, start + EXCERPT_S)
    above.set_ylim(0, 1.02)
    above.set_yticks([0, 0.5, 1])
    above.set_xlabel("s")
    above.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2)
    best = int(np.nanargmax(r))
    below.plot(lag * 1e3, r, color=p.b, marker="o", markersize=2.4)
    below.plot(lag[best] * 1e3, r[best], "o", color=p.a, markersize=4.5)
    below.axvline(0, color=p.soft, linewidth=0.6)
    below.annotate(f"{signed(lag[best] * 1e3)} ms", (lag[best] * 1e3, r[best]), (6, 5), textcoords="offset points",
                   color=p.a, va="center")  # fmt: skip
    below.set_xlim(lag[0] * 1e3 - 4, lag[-1] * 1e3 + 4)
    below.margins(y=0.2)
    below.set_ylabel("r")
    below.set_xlabel("lag of density, ms")


def _beats(t: Trace, shown: NDArray[np.bool_]) -> F64:
    if t.phase is None:
        return np.empty(0)
    phase, at = t.phase[shown], t.t_s[shown]
    return at[1:][np.diff(phase) < -0.5]


def _drift(found: Sequence[tuple[Trace, Peaks]]) -> dict[str, Any]:
    from choreo_cli.metrics.drift import measure

    if not found:
        return _missing("drift", "the beat of the held-out sessions is not known")
    t, p = found[0]
    d = measure(p.t_s, p.phases, p.index, p.period_s, p.beats)
    if d is None:
        return _missing("drift", f"{p.beats} beats in {t.session}, need {NEED['drift']}")
    lo, hi = d.ppm_ci
    text = (
        f"Distance of each density peak of {t.session} from its beat, and the line through them (Theil-Sen):"
        f" {signed(d.ppm)} ppm, 95 % interval {signed(lo)} to {signed(hi)}. A control that holds the tempo lies level."
    )
    facts = {"session": t.session, "ppm": round(d.ppm, 3), "ci": [round(lo, 3), round(hi, 3)]}
    return {
        "name": "drift", "title": TITLES["drift"], "text": text, "height_mm": 62.0, "facts": facts,
        "draw": lambda f, q: _draw_drift(f, q, d.t_s, d.d_s, (d.ppm, d.intercept_s, lo, hi)),
    }  # fmt: skip


def _draw_drift(figure: Any, p: Palette, t_s: F64, d_s: F64, line: tuple[float, float, float, float]) -> None:
    ax = figure.add_subplot()
    every = -(-len(t_s) // 500)
    ax.plot(t_s[::every], d_s[::every] * 1e3, "o", color=p.soft, markersize=2.2, alpha=0.6, markeredgewidth=0)
    ppm, start, lo, hi = line
    ends, pivot = np.array([t_s[0], t_s[-1]]), float(np.median(t_s))
    middle = start + ppm * 1e-6 * ends
    fan = np.linspace(t_s[0], t_s[-1], 24)
    at_pivot = start + ppm * 1e-6 * pivot
    edges = np.stack([at_pivot + s * 1e-6 * (fan - pivot) for s in (lo, hi)]) * 1e3
    ax.fill_between(fan, edges.min(axis=0), edges.max(axis=0), color=p.b, alpha=0.22, linewidth=0)
    ax.plot(ends, middle * 1e3, color=p.b, linewidth=1.4)
    ax.axhline(0, color=p.ink, linewidth=0.6)
    spread = float(np.quantile(np.abs(d_s * 1e3), 0.98)) * 1.4
    ax.set_ylim(-max(spread, 20), max(spread, 20))
    ax.set_xlabel("s")
    ax.set_ylabel("ms from the beat")
    ax.annotate(f"{signed(ppm)} ppm", (0.02, 0.95), xycoords="axes fraction", va="top", color=p.b)


def _controls(t: Trace) -> dict[str, Any]:
    clipped = _clipped(t)
    worst = max(clipped, key=lambda k: clipped[k])
    held = float(t.held.mean())
    text = (
        f"The five controls over {t.session} ({t.split}): range and mean of each stretch of"
        f" {t.t_s[-1] / COLUMNS:.1f} s between the bounds 0 and 1. At most {100 * clipped[worst]:.1f} % of frames lie"
        f" within 1 % of a bound ({worst}); {100 * held:.1f} % are held because nothing was measured (shaded)."
    )
    facts = {"session": t.session, "clipped": {k: round(v, 6) for k, v in clipped.items()}, "held": round(held, 6)}
    return {
        "name": "controls", "title": TITLES["controls"], "text": text, "height_mm": 110.0, "double": True,
        "facts": facts, "draw": lambda f, p: _draw_controls(f, p, t, clipped),
    }  # fmt: skip


def _clipped(t: Trace) -> dict[str, float]:
    live = t.controls[~t.held] if (~t.held).any() else t.controls
    share = ((live < BOUND) | (live > 1 - BOUND)).mean(axis=0)
    return {name: float(share[k]) for k, name in enumerate(CONTROL_NAMES)}


def _draw_controls(figure: Any, p: Palette, t: Trace, clipped: dict[str, float]) -> None:
    axes = figure.subplots(len(CONTROL_NAMES), 1, sharex=True)
    for k, (name, ax) in enumerate(zip(CONTROL_NAMES, axes, strict=True)):
        at, low, mean, high = envelope(t.t_s, t.controls[:, k], COLUMNS)
        colour = p.series[k]
        for a, b in _spans(t):
            ax.axvspan(a, b, color=p.band, alpha=0.7, linewidth=0)
        ax.fill_between(at, low, high, color=colour, alpha=0.3, linewidth=0)
        ax.plot(at, mean, color=colour, linewidth=1.0)
        ax.set_ylim(-0.04, 1.04)
        ax.set_yticks([0, 1])
        ax.set_title(name.replace("_", " "), pad=2.0, fontsize=7)
        ax.annotate(f"{number(100 * clipped[name])} % at a bound", (1, 1), (0, 2), xycoords="axes fraction",
                    textcoords="offset points", ha="right", va="bottom", color=p.soft, fontsize=7)  # fmt: skip
        ax.tick_params(axis="x", length=0 if k < len(axes) - 1 else 2.5)
        ax.spines["bottom"].set_visible(k == len(axes) - 1)
    axes[-1].set_xlim(t.t_s[0], t.t_s[-1])
    axes[-1].set_xlabel("s")


def _spans(t: Trace) -> list[tuple[float, float]]:
    """Held stretches in seconds."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], t.held.astype(np.int8), [0]])))
    return [(float(t.t_s[a]), float(t.t_s[min(b, len(t.t_s) - 1)])) for a, b in edges.reshape(-1, 2)]


def signed(value: float) -> str:
    """A whole number with its sign."""
    return f"{value:+.0f}".replace("-", "−") if round(value) else "0"


def _sessions(n: int) -> str:
    return f"{n} held-out session{'' if n == 1 else 's'}"
