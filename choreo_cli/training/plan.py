"""What a training would do, tried on a few real steps: nothing of it is kept."""

from __future__ import annotations

import itertools
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from choreo_cli.training.job import Opened

SCHEMA = "choreo.plan/1"
STEPS = 12
TRY_S = 6.0
WARM = 2
ROW = 5  # settings on a line


def dry_run(opened: Opened) -> dict[str, Any]:
    """Configuration, data, steps and parameters as they would be, and what a few steps say of memory and time.

    The steps run in the real loop, with its checkpoints in a temporary folder that is gone afterwards.

    Raises:
        ChoreoError: what the real training would raise in its first steps.
    """
    import msgspec

    from choreo_cli.training.loop import fit, plan_of

    asked, recipe = opened.asked, opened.recipe
    plan = plan_of(recipe, asked.overfit)
    ticks = [time.perf_counter()]

    def enough() -> bool:
        ticks.append(time.perf_counter())
        return len(ticks) > STEPS + 2 or (ticks[-1] - ticks[0] > TRY_S and len(ticks) > 3)

    with tempfile.TemporaryDirectory(prefix="choreo-dry-") as folder:
        fitted = fit(
            recipe, Path(folder), identity=opened.created_by["run_id"], seed=asked.job.seed, device=asked.device,
            resume=False, overfit=asked.overfit, stop=enough,
        )  # fmt: skip
    judged_s = _validation_s(recipe, fitted.model) if plan.every else 0.0
    step_s = _step_s(ticks)
    judgements = -(-plan.steps // plan.every) if plan.every else 0
    return {
        "schema": SCHEMA,
        "run_id": opened.created_by["run_id"],
        "recipe": asked.recipe,
        "seed": asked.job.seed,
        "config": msgspec.to_builtins(recipe.config),
        "device": asked.device,
        "device_reason": asked.reason,
        "data": {k: recipe.data.get(k) for k in ("schema", "path", "sessions", "rows", "leaks", "notes", "synthetic")},
        "items": plan.items,
        "steps": plan.steps,
        "steps_per_epoch": plan.per_epoch,
        "validations": judgements,
        "parameters": fitted.parameters,
        "tried": {"steps": fitted.steps, "step_s": step_s, "validation_s": judged_s},
        "estimate": {
            "seconds": plan.steps * step_s + judgements * judged_s,
            "memory_bytes": _peak_bytes(),
            "accelerator_bytes": _accelerator_bytes(asked.device),
        },
    }


def rows(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The plan for a person: (what, value)."""
    data, estimate = found["data"], found["estimate"]
    sessions, frames = data["sessions"] or {}, data["rows"] or {}
    split = [f"{k} {len(names)} sessions, {frames.get(k, 0)} frames" for k, names in sessions.items()]
    config = [f"{k}={v}" for k, v in found["config"].items()]
    memory = f"{estimate['memory_bytes'] / 2**20:.0f} MiB"
    if estimate["accelerator_bytes"]:
        memory += f", {estimate['accelerator_bytes'] / 2**20:.0f} MiB on the device"
    return [
        ("recipe", f"{found['recipe']}, seed {found['seed']}, run {found['run_id']}"),
        ("data", "; ".join(split) or str(data["path"])),
        *(("leak", text) for text in data["leaks"] or ()),
        *(("note", text) for text in data["notes"] or ()),
        ("items", str(found["items"])),
        ("steps", f"{found['steps']}, {found['steps_per_epoch']} an epoch, {found['validations']} validations"),
        ("parameters", str(found["parameters"])),
        ("device", f"{found['device']}: {found['device_reason']}"),
        ("time", f"about {estimate['seconds']:.0f} s, {1e3 * found['tried']['step_s']:.1f} ms a step"),
        ("memory", f"about {memory}"),
        *(("config", ", ".join(config[k : k + ROW])) for k in range(0, len(config), ROW)),
    ]


def _step_s(ticks: list[float]) -> float:
    """Seconds of a usual step: the median of those after the first, which load and compile."""
    spent = [b - a for a, b in itertools.pairwise(ticks)]
    return statistics.median(spent[WARM:] or spent)


def _validation_s(recipe: Any, model: Any) -> float:
    import torch

    start = time.perf_counter()
    with torch.no_grad():
        recipe.validate(model)
    return time.perf_counter() - start


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _accelerator_bytes(device: str) -> int | None:
    import torch

    return int(torch.cuda.max_memory_allocated()) if device.startswith("cuda") else None
