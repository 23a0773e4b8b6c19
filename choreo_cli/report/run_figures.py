"""The figures of a report: what each shows, in words and as a drawing, or why it is missing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from choreo_cli.report import run_figures_groove as groove
from choreo_cli.report.run_draw import Draw, Palette
from choreo_cli.report.run_groups import Group
from choreo_cli.report.run_metrics import Row, is_m2, number
from choreo_cli.report.run_series import Curve, Trace, curve, traces

MODALITIES = ("mot", "hr", "aud", "ctx")
ALIVE = 1.0  # normalised error of predicting the mean


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure.

    Args:
        name: File name and id, `[a-z-]+`.
        title: What it shows, in a few words.
        text: The caption, which also stands for the drawing where it cannot be seen.
        draw: Draws it; None when it is missing.
        height_mm: Height at screen width.
        double: Two columns wide in print.
        facts: The numbers it shows, JSON values.
    """

    name: str
    title: str
    text: str
    draw: Draw | None = None
    height_mm: float = 70.0
    double: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)


def make_figures(groups: Sequence[Group], rows: Sequence[Row]) -> list[Figure]:
    """Every figure these runs give rise to, in the order of the page; one that cannot be drawn says why."""
    found = []
    judged = [g for g in groups if not g.beside]
    mapper = next((g for g in judged if g.recipe == "mapper"), None)
    if mapper is not None:
        found += _groove(mapper)
    if any(g.recipe == "rps" for g in groups):
        found.append(_forms(groups))
    if mapper is not None:
        found.append(_m2(groups, rows))
    found += [_loss(g, f"loss-{_slug(g.recipe)}") for g in judged]
    return list({f.name: f for f in found}.values())


def _slug(text: str) -> str:
    """A name from data as part of a file name and of an id."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40] or "run"


def _groove(g: Group) -> list[Figure]:
    held: list[Trace] = []
    for run in g.runs:
        held = traces(run)
        if held:
            break
    if not held:
        why = "the run folders hold no controls of a held-out session"
        return [Figure(n, t, f"MISSING: {why}.") for n, t in groove.TITLES.items()]
    return [Figure(**made) for made in groove.figures(held)]


def _loss(g: Group, name: str) -> Figure:
    curves = [c for c in (curve(r) for r in g.runs) if c is not None]
    title = f"Loss of {g.recipe}"
    if not curves:
        return Figure(name, title, "MISSING: no log.jsonl with a step in it in the run folders.")
    last = [float(c.val[-1, 1]) for c in curves if len(c.val)]
    shown = f"Validation ends at {number(float(np.mean(last)))} on average" if last else "There was no validation"
    text = f"Training loss (line) and validation loss (dots) of {_seeds(curves)}. {shown}; the scale is logarithmic."
    decided = sorted({s for r in g.runs if (s := _decision(r.entry))})
    text += f" Early decision: {'; '.join(decided)}." if decided else ""
    facts = {"seeds": [c.seed for c in curves], "validation": last}
    return Figure(name, title, text, lambda f, p: _draw_loss(f, p, curves), 62, facts=facts)


def _decision(entry: Mapping[str, Any]) -> str:
    """What a training said of its own held-out loss at its end, empty when it says nothing."""
    for e in entry["metrics"] if isinstance(entry["metrics"], list) else []:
        sentence = e["params"].get("decision") if isinstance(e["params"], dict) else None
        if isinstance(sentence, str):
            return sentence
    return ""


def _seeds(curves: Sequence[Curve]) -> str:
    return f"{len(curves)} seeds" if len(curves) > 1 else f"seed {curves[0].seed}"


def _draw_loss(figure: Any, p: Palette, curves: Sequence[Curve]) -> None:
    ax = figure.add_subplot()
    for k, c in enumerate(curves):
        colour = p.series[k % len(p.series)]
        if len(c.train):
            t, _, mean, _ = _thin(c.train)
            ax.plot(t, mean, color=colour, linewidth=0.9, alpha=0.8)
        if len(c.val):
            ax.plot(c.val[:, 0], c.val[:, 1], "o", color=colour, markersize=3.2, markeredgewidth=0)
        ax.plot([], [], color=colour, label=f"seed {c.seed}")
    values = np.concatenate([np.concatenate([c.train[:, 1], c.val[:, 1]]) for c in curves])
    if (values > 0).all():
        log_scale(ax, float(values.min()), float(values.max()))
    figure.legend(loc="outside upper left", ncols=5)
    ax.set_xlabel("optimiser step")
    ax.set_ylabel("loss")
    ax.margins(x=0.0)
    ax.set_xlim(0, max(float(c.train[-1, 0] if len(c.train) else c.val[-1, 0]) for c in curves) * 1.02)


def _thin(pairs: Any, points: int = 240) -> tuple[Any, Any, Any, Any]:
    from choreo_cli.report.run_series import envelope

    return envelope(pairs[:, 0], pairs[:, 1], points)


def _forms(groups: Sequence[Group]) -> Figure:
    """Normalised cross-prediction error by modality: the default beside the literal form."""
    name, title = "rps-forms", "RPS: the default beside the literal loss"
    shown = [g for g in groups if g.recipe == "rps" and (not g.beside or "literal" in g.ablation)]
    sets = {g.title: errors for g in shown if (errors := _errors(g))}
    if not sets:
        return Figure(name, title, "MISSING: no rps run states its normalised error by modality.")
    if len(sets) < 2:
        return Figure(name, title, "MISSING: only one form was trained; name a run of the literal loss too.")
    parts = [f"{t}: " + ", ".join(f"{m} {number(float(np.mean(v)))}" for m, v in e.items()) for t, e in sets.items()]
    text = (
        "Held-out error with the own block hidden, over the variance of the latent: 1 is what predicting the mean"
        f" scores (chance), less is better. {'; '.join(parts)}. Dots are seeds; the scale is logarithmic."
    )
    facts = {t: {m: list(v) for m, v in e.items()} for t, e in sets.items()}
    gate = _gate_of(groups)
    return Figure(name, title, text, lambda f, p: _draw_forms(f, p, sets, gate), 66, facts=facts)


def _errors(g: Group) -> dict[str, list[float]]:
    """Normalised error of each modality over the seeds of a group."""
    found: dict[str, list[float]] = {}
    for run in g.runs:
        for e in run.entry["metrics"] if isinstance(run.entry["metrics"], list) else []:
            modality = modality_of(e)
            if modality and e["value"] is not None:
                found.setdefault(modality, []).append(float(e["value"]))
    return {m: found[m] for m in MODALITIES if m in found}


def modality_of(e: Mapping[str, Any]) -> str:
    """The modality whose normalised error an entry states, empty for any other entry."""
    low = str(e["name"]).lower()
    if "normali" not in low or not any(word in low for word in ("error", "mse")):
        return ""
    words = low.replace(".", "_").replace("/", "_").split("_")
    stated = e["params"].get("modality") if isinstance(e["params"], dict) else None
    return next((m for m in MODALITIES if m in words or m == stated), "")


def _gate_of(groups: Sequence[Group]) -> float | None:
    for g in groups:
        for e in g.runs[0].entry["metrics"] if isinstance(g.runs[0].entry["metrics"], list) else []:
            if modality_of(e) and e["goal"] is not None:
                return float(e["goal"]["value"])
    return None


def _draw_forms(figure: Any, p: Palette, sets: Mapping[str, Mapping[str, list[float]]], gate: float | None) -> None:
    ax = figure.add_subplot()
    width = 0.8 / len(sets)
    names = [m for m in MODALITIES if any(m in e for e in sets.values())]
    low = min(min(v) for e in sets.values() for v in e.values())
    floor = max(low * 0.5, 1e-4)
    for k, (title, errors) in enumerate(sets.items()):
        colour = p.series[(1, 0, 2, 3, 4)[k % 5]]
        at = np.arange(len(names)) + (k - (len(sets) - 1) / 2) * width
        means = [float(np.mean(errors[m])) if m in errors else np.nan for m in names]
        ax.bar(at, [m - floor for m in means], width * 0.9, bottom=floor, color=colour, alpha=0.85, label=plain(title))
        for x, m in zip(at, names, strict=True):
            ax.plot([x] * len(errors.get(m, [])), errors.get(m, []), "o", color=p.ink, markersize=2.2, alpha=0.7)
    log_scale(ax, floor, max(ALIVE, *(max(v) for e in sets.values() for v in e.values())), exact=True)
    ax.set_xticks(
        range(len(names)), [{"mot": "motion", "hr": "heart", "aud": "audio", "ctx": "beat"}[m] for m in names]
    )
    ax.set_xlim(-0.5, len(names) - 0.5)
    ax.axhline(ALIVE, color=p.soft, linewidth=0.8, linestyle=(0, (1, 2)))
    _beside_axis(ax, "chance", ALIVE, p.soft)
    if gate is not None:
        ax.axhline(gate, color=p.ink, linewidth=0.8, linestyle=(0, (4, 2)))
        _beside_axis(ax, f"gate {gate:g}", gate, p.ink)
    ax.set_ylabel("normalised error")
    figure.legend(loc="outside upper left", ncols=2, fontsize=7)


def _beside_axis(ax: Any, text: str, y: float, colour: str) -> None:
    """Name a level at the right of the drawing, where no bar is."""
    ax.annotate(text, (1.0, y), (3, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
                color=colour, fontsize=7, va="center")  # fmt: skip


def plain(text: str) -> str:
    """Text from data as a label: no formulas, and never taken for a hidden one."""
    return text.replace("$", r"\$").lstrip("_")[:60]


def log_scale(ax: Any, low: float, high: float, *, exact: bool = False) -> None:
    """A logarithmic y axis with plain numbers: 1, 2, 5 of each decade, fewer over many; `exact` starts it at `low`."""
    ax.set_yscale("log")
    ax.minorticks_off()
    low, high = (low if exact else low / 1.12), high * 1.12
    decades = np.log10(high / low)
    steps: tuple[float, ...] = (1, 2, 5) if decades < 2.2 else (1, 3) if decades < 3.2 else (1,)
    if decades < 0.5:
        steps = (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)
    powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    ticks = [s * 10.0**k for k in powers for s in steps if low <= s * 10.0**k <= high]
    ax.set_yticks(ticks, [f"{t:g}" for t in ticks])
    ax.set_ylim(low, high)


def _m2(groups: Sequence[Group], rows: Sequence[Row]) -> Figure:
    """Variance of the mapper's loss with and without M2, paired by seed."""
    name, title = "m2", "What the latent normaliser (M2) does"
    pairs, what, row = m2_pairs(groups, rows)
    if not pairs:
        return Figure(name, title, "MISSING: no paired seeds with and without M2.")
    better = sum(a < b for a, b in pairs)
    text = f"{what} with M2 and without it, one line per seed: lower with M2 in {better} of {len(pairs)} seeds."
    if row is not None and row["value"] is not None:
        interval = f" [{number(row['interval'][0])}, {number(row['interval'][1])}]" if row["interval"] else ""
        text += f" {row['name']}: {number(row['value'])}{interval}."
    facts = {"with": [a for a, _ in pairs], "without": [b for _, b in pairs]}
    return Figure(name, title, text, lambda f, p: _draw_m2(f, p, pairs, what), 62, facts=facts)


def m2_pairs(groups: Sequence[Group], rows: Sequence[Row]) -> tuple[list[tuple[float, float]], str, Row | None]:
    """((with, without) per seed, what was measured, the row that states it)."""
    row = next((r for r in rows if is_m2(r["name"])), None)
    if row is not None:
        a, b = row["params"].get("losses_with"), row["params"].get("losses_without")
        if isinstance(a, list) and isinstance(b, list) and len(a) == len(b) and all(_real(v) for v in (*a, *b)):
            return [(float(x), float(y)) for x, y in zip(a, b, strict=True)], "Held-out loss", row
    judged = next((g for g in groups if g.recipe == "mapper" and not g.beside), None)
    other = next((g for g in groups if g.recipe == "mapper" and g.beside and "norm" in g.ablation + g.title), None)
    if judged is None or other is None:
        return [], "", row
    ends = [{c.seed: _loss_variance(c) for r in g.runs if (c := curve(r)) is not None} for g in (judged, other)]
    both = sorted(set(ends[0]) & set(ends[1]))
    return [(ends[0][s], ends[1][s]) for s in both], "Variance of the training loss over the last half", row


def _loss_variance(c: Curve) -> float:
    tail = c.train[len(c.train) // 2 :, 1] if len(c.train) else c.val[:, 1]
    return float(np.var(tail))


def _real(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _draw_m2(figure: Any, p: Palette, pairs: Sequence[tuple[float, float]], what: str) -> None:
    ax = figure.add_subplot()
    for with_m2, without in pairs:
        colour = p.d if with_m2 < without else p.a
        ax.plot([0, 1], [without, with_m2], color=colour, linewidth=1.0, marker="o", markersize=3.5)
    ax.set_xticks([0, 1], ["without M2", "with M2"])
    ax.set_xlim(-0.35, 1.35)
    if min(min(pair) for pair in pairs) > 0:
        log_scale(ax, min(min(pair) for pair in pairs), max(max(pair) for pair in pairs))
    ax.set_ylabel(what.lower())
