"""A finished run, or a summary over seeds, for a person."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from choreo_cli.training.runlog import LOG

RUNS = ("recipe", "seed", "steps", "loss", "goals met", "where")
FIGURES = ("held out", "value", "unit", "n", "goal", "verdict")
VERDICT = {True: "pass", False: "FAIL", None: "-"}


def run_table(document: bytes, out: Path, columns: Callable[..., list[str]]) -> list[str]:
    """Lines: one per run, then its held-out figures when there is one run. `columns` aligns rows to the terminal."""
    from formats.manifest import decode

    entries = decode(document).entries
    lines = columns([_run(e, out) for e in entries], RUNS)
    if len(entries) == 1 and entries[0]["metrics"]:
        lines += ["", *columns([_figure(m) for m in entries[0]["metrics"]], FIGURES)]
    return lines


def _run(entry: dict[str, Any], out: Path) -> tuple[str, ...]:
    folder = out if entry["path"] == "." else out / entry["path"]
    if not (folder / LOG).exists() and entry["path"] == ".":
        folder = out / f"seed-{entry['seed']}"
    verdicts = [m["pass"] for m in entry["metrics"] if m["pass"] is not None]
    met = f"{sum(verdicts)} of {len(verdicts)}" if verdicts else "-"
    loss = last_loss(folder / LOG)
    shown = "-" if loss is None else f"{loss:.4g}"
    return entry["recipe"], str(entry["seed"]), str(entry["steps"]), shown, met, str(folder)


def _figure(metric: dict[str, Any]) -> tuple[str, ...]:
    value = "-" if metric["value"] is None else f"{metric['value']:.4g}"
    goal = f"{metric['goal']['op']} {metric['goal']['value']:g}" if metric["goal"] else "-"
    verdict = VERDICT[metric["pass"]] if metric["why"] in (None, "no goal") else str(metric["why"])
    return metric["name"], value, metric["unit"], "-" if metric["n"] is None else str(metric["n"]), goal, verdict


def last_loss(log: Path) -> float | None:
    """Training loss of the last logged step, None when there is none."""
    try:
        lines = log.read_bytes().splitlines()
    except OSError:
        return None
    for line in reversed(lines):
        record = json.loads(line)
        if record.get("kind") == "step":
            loss: float | None = record.get("loss")
            return loss
    return None
