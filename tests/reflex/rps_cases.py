"""Frames, files and a short fit for the tests of M1."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from formats.columns import FRAMES, INPUTS, MASKS

STEP_US = 20_000


def waves(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Frames (n, 11) whose modalities share one slow curve and one beat, and masks (n, 4)."""
    rng = np.random.default_rng(seed)
    t = np.arange(n) / 50
    level = 0.5 + 0.35 * np.sin(2 * np.pi * t / (7 + seed % 5) + rng.uniform(0, 6))
    phase = ((1.83 + 0.11 * (seed % 4)) * t + rng.uniform()) % 1
    pulse = np.exp(-phase / 0.2)
    x = np.zeros((n, 11), np.float32)
    x[:, 0] = level * (0.3 + 0.6 * pulse)
    x[:, 1] = 2 + 0.3 * level
    x[:, 2] = 0.8 * pulse
    x[:, 3] = 0.5 * np.sin(2 * np.pi * phase)
    x[:, 4] = 0.5 * np.cos(2 * np.pi * phase)
    x[:, 5] = 0.6 + 0.3 * level
    x[:, 6] = 80 + 60 * level
    x[:, 7] = 3 * (level - 0.5)
    x[:, 8] = 0.2 + 0.6 * level
    x[:, 9] = 0.3 + 0.3 * level + 0.2 * pulse
    x += 0.02 * rng.standard_normal(x.shape) * np.array([1, 1, 1, 1, 1, 1, 20, 1, 1, 1, 0])
    x[:, 10] = phase
    for k, c in enumerate(INPUTS):
        x[:, k] = np.clip(x[:, k], c.lo, np.nextafter(np.float32(c.hi), np.float32(0)))
    return x, np.ones((n, 4), bool)


def write_frames(file: Path, sessions: dict[str, tuple[np.ndarray, np.ndarray]]) -> Path:
    """A frames Parquet of named (x, mask)."""
    from formats.tables import write_table

    x = np.concatenate([v[0] for v in sessions.values()])
    mask = np.concatenate([v[1] for v in sessions.values()])
    columns: dict[str, Any] = {
        "session_id": [name for name, v in sessions.items() for _ in range(len(v[0]))],
        "t_us": np.concatenate([STEP_US * np.arange(len(v[0]), dtype=np.int64) for v in sessions.values()]),
        "beat_idx": np.zeros(len(x), np.int32),
        "synthetic": np.ones(len(x), bool),
        **{c.name: x[:, k] for k, c in enumerate(INPUTS)},
        **{name: mask[:, k] for k, name in enumerate(MASKS)},
    }
    write_table(file, FRAMES, columns)
    return file


def four_sessions(file: Path, n: int = 1500) -> Path:
    """Two sessions to train on, one to validate, one to test."""
    return write_frames(file, {f"s{k}": waves(n, k) for k in range(4)})


class Folder:
    """Where a recipe puts its files, without a command around it."""

    def __init__(self, path: Path) -> None:
        self.path, self.created_by, self.written = path, {"run_id": "0" * 12}, []

    def target(self, relative: str) -> Path:
        path = self.path / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def add(self, role: str, relative: str, sha256: str) -> None:
        del sha256
        self.written.append((role, relative))

    def write(self, role: str, relative: str, data: bytes) -> None:
        self.target(relative).write_bytes(data)
        self.written.append((role, relative))


def opened(source: Path, seed: int = 0, options: dict[str, Any] | None = None, **config: Any) -> Any:
    """The recipe on a source."""
    from choreo_cli.reflex import rps_recipe_torch as lane
    from choreo_cli.training.recipe import Job

    return lane.open_recipe(Job(source, None, lane.Config(**config), seed, options or {}))


def fitted(recipe: Any, folder: Path) -> Any:
    """The network after the recipe's own training, by the real loop."""
    from choreo_cli.training.loop import fit

    return fit(recipe, folder, identity="0" * 12, seed=recipe.seed).model
