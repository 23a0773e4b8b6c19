"""A lane of one tiny recipe for the tests of the job: a line through noisy points, quick and deterministic."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from choreo_cli.training.config import Positive, TrainConfig
from choreo_cli.training.recipe import Finished, Job, RunFiles
from formats import checkpoint
from formats.metrics import entry

READS = ("choreo.sessions", "choreo.pairs")
TAKES = ("split", "latents")


class Config(TrainConfig, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of the toy. TOY_SLOW_MS in the environment stretches a step: then it can be stopped in the middle."""

    epochs: Positive = 3
    batch: Positive = 16
    width: Positive = 4
    fail_at: int = -1
    nan_at: int = -1
    taps: tuple[int, ...] = (1, 2)


class Toy:
    """See `training.recipe.Recipe`."""

    name = "toy"
    n_items = 160
    synthetic = True

    def __init__(self, job: Job) -> None:
        self.config, self.job = job.config, job
        self.parents: list[dict[str, Any]] = []
        data = b"" if job.manifest is None else job.manifest.sha256.encode()
        sha = hashlib.sha256(data).hexdigest()
        self.inputs = [{"role": "frames", "sha256": sha, "schema": "choreo.sessions/1"}]
        self.data = {
            "schema": "choreo.sessions/1", "sha256": sha, "root": "data", "path": "sessions.json",
            "sessions": {"train": ["a"], "test": ["b"]}, "rows": {"train": 160, "test": 40}, "leaks": [], "notes": [],
            "synthetic": True,
        }  # fmt: skip
        self.roots = {"data": Path(job.source or ".")}
        draws = np.random.default_rng(5)
        self.x = draws.normal(size=(200, 3)).astype(np.float32)
        self.y = (self.x @ np.array([1.0, -2.0, 0.5], np.float32) + 0.1 * draws.normal(size=200)).astype(np.float32)

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(3, self.config.width), nn.Tanh(), nn.Linear(self.config.width, 1))

    def batch(self, items: Any, epoch: int) -> dict[str, Tensor]:
        time.sleep(float(os.environ.get("TOY_SLOW_MS", 0)) / 1000)
        if self.config.fail_at == epoch:
            raise ValueError("a broken recipe")
        if 0 <= self.config.nan_at <= epoch:
            return {"x": torch.from_numpy(self.x[items]) * torch.nan, "y": torch.from_numpy(self.y[items])}
        return {"x": torch.from_numpy(self.x[items]), "y": torch.from_numpy(self.y[items])}

    def loss(
        self, model: nn.Module, batch: Mapping[str, Tensor], draws: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        noise = 0.01 * torch.randn(batch["x"].shape, generator=draws)
        fit = ((model(batch["x"] + noise)[:, 0] - batch["y"]) ** 2).mean()
        return fit, {"fit": fit}

    def after_step(self, model: nn.Module) -> None:
        pass

    def validate(self, model: nn.Module) -> dict[str, float]:
        return {"loss": self._error(model, slice(160, 180))}

    def finish(self, model: nn.Module, files: RunFiles) -> Finished:
        arrays = {name: value.detach().numpy() for name, value in model.state_dict().items()}
        arch = {"width": self.config.width}
        made = checkpoint.encode(checkpoint.Checkpoint("toy", arch, arrays, created_by=files.created_by))
        for name, data in made.items():
            files.write("model", name, data)
        error = self._error(model, slice(180, 200))
        found = entry("toy.error", error, "1", "lower", n=20, goal=("<=", 10.0))
        return Finished([found], ["the toy was judged on 20 points"])

    def _error(self, model: nn.Module, rows: slice) -> float:
        with torch.no_grad():
            x, y = torch.from_numpy(self.x[rows]), torch.from_numpy(self.y[rows])
            return float(((model(x)[:, 0] - y) ** 2).mean())


def open_recipe(job: Job) -> Toy:
    return Toy(job)


def score(folder: Path, frames: Any, roots: Any = None) -> list[dict[str, Any]]:
    return []
