"""Latency on a phone: what a `device-bench.json` says, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from choreo_cli.generate.config import FPS, FRAMES
from formats import device_bench
from formats.metrics import entry

NOT_MEASURED = "not measured: no --device-file; Bench.swift of choreo export swift writes one"
GOAL_MS = 100.0
JUDGED = ("sampler4", "palette6", "all")  # the graph, precision and processors of the goal, where they were measured


def bench(*, device_file: Path | None = None) -> list[dict[str, Any]]:
    """Metric entries of a device, one a graph, precision and choice of processors; `generate.phone` is judged.

    Args:
        device_file: What the device has written; without one nothing is claimed.

    Raises:
        FormatError: a file that breaks its contract.
    """
    if device_file is None:
        return [entry("generate.phone", None, "ms", "lower", goal=("<=", GOAL_MS), why=NOT_MEASURED)]
    found = device_bench.read(device_file)
    where = {
        "device": found.device.model, "os": found.device.os, "thermal": found.device.thermal,
        "low_power": found.device.low_power, "simulator": found.device.simulator, "weights_sha256": found.weights,
        "clip_s": round(found.frames / found.fps, 4),
    }  # fmt: skip
    rows = []
    for one in found.measured:
        params = {**where, "p95_ms": one.p95_ms, "load_ms": one.load_ms, "warmup": one.warmup}
        name = f"generate.phone.{one.graph}.{one.precision}.{one.units}"
        rows.append(entry(name, one.p50_ms, "ms", "lower", n=one.n, params=params))
    return [_judged(found, where), *rows]


def _judged(found: device_bench.DeviceBench, where: dict[str, Any]) -> dict[str, Any]:
    goal = ("<=", GOAL_MS)
    mine = [m for m in found.measured if (m.graph, m.precision, m.units) == JUDGED]
    if found.device.simulator:
        return entry("generate.phone", None, "ms", "lower", goal=goal, params=where, why="a simulator is no phone")
    if not mine:
        why = f"the file has no {' '.join(JUDGED)}"
        return entry("generate.phone", None, "ms", "lower", goal=goal, params=where, why=why)
    one = mine[0]
    unfit = _unfit(found)
    params = {**where, "p95_ms": one.p95_ms, "graph": one.graph, "precision": one.precision, "units": one.units}
    return entry("generate.phone", one.p50_ms, "ms", "lower", n=one.n, goal=goal, params=params, why=unfit)


def _unfit(found: device_bench.DeviceBench) -> str | None:
    """Why a file's latency says nothing about the goal, which is a cool phone that draws a whole window."""
    if not found.device.model.startswith("iPhone"):
        return f"{found.device.model} is no phone"
    if found.frames != FRAMES or abs(found.fps - FPS) > 1e-6:
        return f"{found.frames} frames at {found.fps:g} fps, the goal is about {FRAMES} at {FPS:g}"
    if found.device.low_power:
        return "low power mode was on"
    if found.device.thermal in ("serious", "critical"):
        return f"the phone was hot: {found.device.thermal}"
    return None
