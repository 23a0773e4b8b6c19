"""Generated dances as Markdown: arms, gates as restated, what was chosen, tuned and decided."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from choreo_cli.report.run_markdown import span, table, text
from choreo_cli.report.run_metrics import SYMBOL, number


def page(g: Mapping[str, Any]) -> str:
    """The section."""
    parts = ["## Generated dances"]
    for d in g["decisions"]:
        parts.append(f"- {text(d['run'])}, seed {d['seed']}: {text(d['sentence'])}")
    for t in g["tables"]:
        parts += [f"### {text(t['name'])}", _about(t), _arms(t), _gates(t), _tuned(t)]
    return "\n\n".join(p for p in parts if p)


def _about(t: Mapping[str, Any]) -> str:
    a = t["about"]
    lines = f"{number(a['clips_per_seed'])} clips a seed and arm from {number(a['conditions'])} held-out windows of"
    lines += f" {number(a['frames'])} frames at {number(a['fps'])} fps; beats {text(a['beats'])}."
    lines += f" Intervals over {text(t['over'])}."
    if t["chosen"]:
        lines += f" Chosen: {number(t['chosen']['steps'])} steps. {text(t['chosen']['reason'])}."
    return lines


def _arms(t: Mapping[str, Any]) -> str:
    head = ("arm", "evaluations", "cfg", *map(text, t["columns"].values()))
    rows = [
        (text(r["arm"]), number(r["nfe"]) if r["nfe"] else "–", number(r["cfg"]),
         *(number(r["cells"][c]["value"]) for c in t["columns"]))
        for r in t["rows"]
    ]  # fmt: skip
    floors = [number(t["floors"][c]) for c in t["columns"]]
    return table(head, [*rows, ("real half against real half", "–", "–", *floors)])


def _gates(t: Mapping[str, Any]) -> str:
    rows = [
        (text(g["restated"]) if k == 0 else "", text(r["name"]), number(r["value"]), span(r["interval"]),
         text(r["gate"]) or "–", f"{SYMBOL[r['verdict']]} {r['verdict']}" + (f": {text(r['why'])}" if r["why"] else ""))
        for g in t["gates"] for k, r in enumerate(g["rows_of"])
    ]  # fmt: skip
    return table(("gate as restated", "figure", "value", "95 % interval", "goal", "verdict"), rows) if rows else ""


def _tuned(t: Mapping[str, Any]) -> str:
    lines = []
    for u in t["tuned"]:
        how = f"tuned on validation windows alone, {len(u['tried'])} tried" if u["tuned"] else "as given"
        shift = "" if u["shift"] is None else f", time shift {number(u['shift'])}"
        lines.append(f"- {text(u['recipe'])}: weight of the music {number(u['cfg'])}{shift} ({how})")
    return "\n".join(lines)
