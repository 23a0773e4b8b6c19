"""Results of a run that is not finished yet, from its log alone: a small file of figures, and what they have cost."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from choreo_cli.runtime import provenance
from choreo_cli.training.runlog import LOG, validations
from formats.atomic import write_bytes
from formats.manifest import Manifest, encode
from formats.metrics import entry

CHANCE = {"accuracy": 0.25}
HIGHER = ("accuracy",)
UNITS = {"mae_pct": "%"}


def latest(folder: Path, cpu_s: float, starts: int) -> list[dict[str, Any]]:
    """Entries of `choreo.metrics/1`: the last validation in the run's log, and its CPU seconds so far.

    Args:
        folder: The run. cpu_s: Of its processes that have ended. starts: How many there were.
    """
    found = []
    known = validations(folder / LOG)
    if known:
        last = known[-1]
        about = {"step": last["step"], "epoch": last.get("epoch"), "split": "val"}
        for name, value in last.items():
            if name in ("kind", "step", "epoch", "best") or not isinstance(value, int | float):
                continue
            better = "higher" if name in HIGHER else "lower"
            unit = UNITS.get(name, "1")
            found.append(entry(f"video.val.{name}", float(value), unit, better, chance=CHANCE.get(name), params=about))
    found.append(entry("video.train.cpu_s", cpu_s, "s", "lower", params={"starts": starts}))
    return found


def write(folder: Path, entries: list[dict[str, Any]], now_s: float) -> Path:
    """Write them into `folder`, named by the time (UTC); returns the path. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    stamp = datetime.fromtimestamp(now_s, UTC).strftime("%Y%m%dT%H%M%SZ")
    path = folder / f"{stamp}.json"
    made_by = {**provenance("train video --branch", {"results": folder.name}, []), "deterministic": False}
    write_bytes(path, encode(Manifest("choreo.metrics/1", made_by, entries)))
    return path
