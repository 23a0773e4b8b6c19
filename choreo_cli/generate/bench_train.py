"""Measure training: optimiser steps a second of `choreo train flow`, beside the arithmetic that a step cannot avoid."""

from __future__ import annotations

import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.generate import bench_network as nets
from choreo_cli.generate.bench import NO_TORCH, SHAPE
from choreo_cli.generate.bench_turns import in_turns, matrix_jobs, rate
from choreo_cli.generate.config import CHANNELS, FPS
from choreo_cli.generate.export_proof import plain_stats
from formats.metrics import entry

F32 = NDArray[np.float32]
BATCH = 64
BACKWARD = 3.0  # a step is the forward products once, and two more products for each of them on the way back


class MadeWindows:
    """Windows of noise with what `dataset.motions.MotionSet` offers: how long a step takes does not depend on them."""

    synthetic = True

    def __init__(self, count: int = 4 * BATCH, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.fps, self.frames, self.audio_width = FPS, SHAPE.frames, SHAPE.audio_width
        self.x = (0.2 * rng.standard_normal((count, self.frames, CHANNELS))).astype(np.float32)
        self.audio = rng.standard_normal((count, self.frames, self.audio_width)).astype(np.float32)
        self.stats = plain_stats(self.audio_width)

    def windows(self, split: str) -> NDArray[np.int64]:
        return np.arange(len(self.x) if split == "train" else 0, dtype=np.int64)

    def batch(self, rows: NDArray[np.int64], epoch: int) -> dict[str, NDArray[Any]]:
        del epoch
        mirrored = np.zeros(len(rows), bool)
        return {"x": self.x[rows], "audio": self.audio[rows], "clip": rows, "mirrored": mirrored}

    def record(self) -> dict[str, Any]:
        return {"sha256": "0" * 64, "path": "made up", "notes": [], "schema": "choreo.motions/1", "audio": []}


def bench(*, steps: int = 30, rounds: int = 5) -> list[dict[str, Any]]:
    """Metric entry of training.

    Args:
        steps: Optimiser steps that are timed.
        rounds: Turns of the matrix product.
    """
    if find_spec("torch") is None:
        return [entry("generate.train", None, "steps/s", "higher", why=NO_TORCH)]
    seconds, core_s, config = trained(steps)
    per_ms, told = rate(in_turns(matrix_jobs(), rounds, 3))
    flop = BACKWARD * nets.operations(SHAPE, BATCH)
    params = {
        **told, "batch": BATCH, "gflop": round(flop / 1e9, 2), "core_s_per_step": round(core_s, 4), "threads": 1,
        "times_floor": round(core_s / (flop / per_ms / 1e3), 3), "structure_clips": config.structure_clips,
        "windows_per_s": round(BATCH / seconds, 1), "data": "noise", "device": "cpu",
    }  # fmt: skip
    floor = ("arithmetic at the measured matrix rate", 1e3 * per_ms / flop)
    return [entry("generate.train", 1 / core_s, "steps/s", "higher", n=steps, floor=floor, params=params)]


def trained(steps: int) -> tuple[float, float, Any]:
    """Median seconds of a step of the one training loop on one core, by the wall and by the core; and the settings."""
    import torch

    from choreo_cli.generate import flow_recipe_torch
    from choreo_cli.generate.flow_torch import FlowObjective
    from choreo_cli.generate.recipe_torch import MotionRecipe
    from choreo_cli.training.loop import fit

    torch.set_num_threads(1)
    config = flow_recipe_torch.Config(batch=BATCH, steps=steps + 1)
    source = MadeWindows()
    recipe = MotionRecipe("flow", config, 0, source, FlowObjective(config.learn, config.nearest), {})
    ticks = _Ticks(recipe)
    with tempfile.TemporaryDirectory(prefix="choreo-bench-") as name:
        fit(ticks, Path(name), identity="bench", seed=0)
    wall, core = (np.diff(np.array(t)) for t in (ticks.wall, ticks.core))
    return float(np.median(wall)), float(np.median(core)), config


class _Ticks:
    """A recipe that notes when its batches are asked for: from one to the next is a step of the loop."""

    def __init__(self, recipe: Any) -> None:
        self.recipe = recipe
        self.wall: list[float] = []
        self.core: list[float] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.recipe, name)

    def batch(self, items: Any, epoch: int) -> Any:
        import time

        self.wall.append(time.perf_counter())
        self.core.append(time.process_time())
        return self.recipe.batch(items, epoch)
