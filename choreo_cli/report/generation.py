"""Generated dances in a report: arms side by side, the gates as they were restated, what was tuned, chosen, decided."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from choreo_cli.report.run_artefact import Artefact
from choreo_cli.report.run_decision import Evidence
from choreo_cli.report.run_groups import Group
from choreo_cli.report.run_metrics import row

Entry = Mapping[str, Any]
COMMAND = "evaluate generation"
RECIPES = ("flow", "ddim")
DECISION = "generation.distance_to_held_out"
# Columns of the table of arms: figure -> its heading.
COLUMNS: Mapping[str, str] = {
    "sanity": "sane", "musicality": "musicality", "beat_alignment": "beats above chance", "fid_k": "FID_k",
    "fid_g": "FID_g", "kernel_distance_k": "kernel k", "kernel_distance_g": "kernel g", "diversity_k": "diversity k",
    "diversity_g": "diversity g", "slide": "slide m/s", "slide_after_lock": "after lock m/s", "jerk": "jerk m/s³",
    "clamp_rate": "clamp rate",
}  # fmt: skip


def section(evaluations: Iterable[Artefact], groups: Sequence[Group]) -> dict[str, Any] | None:
    """What the page shows of generation: `{tables, decisions}`; None when nothing here generates."""
    tables = [_table(a) for a in evaluations if a.made_by.get("command") == COMMAND]
    decisions = early_decisions(groups)
    return {"tables": tables, "decisions": decisions} if tables or decisions else None


def early_decisions(groups: Iterable[Group]) -> list[dict[str, Any]]:
    """What each training said of itself at its end: does the held-out loss fall, and what to run when it does not."""
    found = []
    for g in groups:
        for run in g.runs:
            entries = run.entry["metrics"] if isinstance(run.entry["metrics"], list) else []
            for e in entries:
                sentence = e["params"].get("decision") if isinstance(e["params"], dict) else None
                if e["name"] == DECISION and isinstance(sentence, str):
                    pose = e["baseline"]["value"] if isinstance(e["baseline"], dict) else None
                    found.append({"run": run.label, "seed": run.entry["seed"], "sentence": sentence,
                                  "distance": e["value"], "mean_pose": pose})  # fmt: skip
    return found


def _table(a: Artefact) -> dict[str, Any]:
    entries = {str(e["name"]): e for e in a.manifest.entries}
    arms = _arms(entries)
    rows = []
    for arm in arms:
        first = entries[f"generation.sanity.{arm}"]
        cells = {c: _cell(entries.get(f"generation.{c}.{arm}")) for c in COLUMNS}
        p = first["params"]
        rows.append({"arm": arm, "n": first["n"], "nfe": p.get("nfe"), "rows": p.get("rows_per_clip"),
                     "cfg": p.get("cfg"), "shift": p.get("shift"), "cells": cells})  # fmt: skip
    steps = entries.get("generation.steps")
    about = first_params(a)
    return {
        "name": a.name,
        "rows": rows,
        "columns": {c: title for c, title in COLUMNS.items() if any(r["cells"][c]["value"] is not None for r in rows)},
        "floors": {c: _floor(entries, arms, c) for c in COLUMNS},
        "gates": _gates(a),
        "chosen": None if steps is None else {"steps": steps["value"], "reason": str(steps["params"].get("reason"))},
        "tuned": [_tuned(e) for n, e in entries.items() if n.startswith("generation.guidance.")],
        "about": {k: about.get(k) for k in ("fps", "frames", "conditions", "clips_per_seed", "beats", "noise_seed")},
        "over": about.get("interval_over"),
    }  # fmt: skip


def _gates(a: Artefact) -> list[dict[str, Any]]:
    """Gates by the row of the mission they come from: `{restated, rows_of}`."""
    found: dict[str, list[dict[str, Any]]] = {}
    for e in a.manifest.entries:
        restated = e["params"].get("gate") if isinstance(e["params"], dict) else None
        if isinstance(restated, str):
            r = row(e, a.name, "judged")
            kept = {k: r[k] for k in ("name", "value", "unit", "interval", "gate", "verdict", "why", "n")}
            found.setdefault(restated, []).append(kept)
    return [{"restated": text, "rows_of": rows} for text, rows in found.items()]


def first_params(a: Artefact) -> Mapping[str, Any]:
    """Parameters that all arms share, from the first of them."""
    for e in a.manifest.entries:
        if isinstance(e["params"], dict) and "interval_over" in e["params"]:
            return dict(e["params"])
    return {}


def _arms(entries: Mapping[str, Entry]) -> list[str]:
    head = "generation.sanity."
    return [n.removeprefix(head) for n in entries if n.startswith(head)]


def _cell(e: Entry | None) -> dict[str, Any]:
    if e is None:
        return {"value": None, "interval": None, "why": "not measured"}
    return {"value": e["value"], "interval": e["ci"], "why": e["why"] if e["value"] is None else None}


def _floor(entries: Mapping[str, Entry], arms: Sequence[str], column: str) -> float | None:
    """What real half against real half has: the noise floor of a set distance."""
    for arm in arms:
        e = entries.get(f"generation.{column}.{arm}")
        if e is not None and isinstance(e["floor"], dict) and "real half" in str(e["floor"].get("name")):
            return float(e["floor"]["value"])
    return None


def _tuned(e: Entry) -> dict[str, Any]:
    p = e["params"]
    return {"recipe": str(e["name"]).rsplit(".", 1)[1], "cfg": e["value"], "shift": p.get("shift"),
            "tuned": bool(p.get("tuned")), "tried": list(p.get("tried") or [])}  # fmt: skip


def evidence(groups: Sequence[Group], evaluations: Sequence[Artefact]) -> list[Evidence]:
    """What claims about a generator rest on: an evaluation, the diffusion beside the flow, and the early decision."""
    recipes = {g.recipe for g in groups if not g.beside}
    if "flow" not in recipes:
        return []
    mine = [a for a in evaluations if a.made_by.get("command") == COMMAND]
    found = []
    if mine:
        found.append(Evidence("generated dances", True, f"judged in {', '.join(a.name for a in mine)}"))
    else:
        found.append(Evidence("generated dances", False, "not judged; choreo evaluate generation RUN does it"))
    names = [str(e["name"]) for a in mine for e in a.manifest.entries]
    if any("_vs_ddim" in n for n in names):
        found.append(Evidence("DDIM-50", True, "made the same clips from the same noise and conditions"))
    else:
        how = "choreo evaluate generation RUN --against-ddim DDIM"
        found.append(Evidence("DDIM-50", False, f"no diffusion beside the flow; {how} compares them"))
    decided = early_decisions(groups)
    text = "; ".join(sorted({d["sentence"] for d in decided}))
    found.append(Evidence("early decision", bool(decided), text or "no run says whether its held-out loss falls"))
    return found
