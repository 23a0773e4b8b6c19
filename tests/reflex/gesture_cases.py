"""Small gesture detectors and labelled frames that the tests of M5 share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from choreo_cli.reflex.gesture import CHANNELS, Gesture, Rules, Shape


def random_detector(seed: int = 0, *, threshold: float = 0.5) -> tuple[Gesture, dict[str, Any]]:
    """A detector with random weights whose scores cross the threshold often, and its arrays."""
    rng = np.random.default_rng(seed)
    shape = Shape(width=7, kernel=3, dilations=(1, 2, 4), classes=("jump", "lean"))
    arrays = {
        name: rng.normal(0, 1.2 / np.sqrt(max(1, int(np.prod(size[1:])))), size).astype(np.float32)
        for name, size in shape.shapes().items()
    }
    arrays["std"] = np.abs(arrays["std"]) + np.float32(0.5)
    return Gesture(shape, Rules(delay=9, hold=2, refractory=5, threshold=threshold), arrays), arrays


def random_frames(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(n, 11) inputs with holes, (n, 4) masks and times from a start that is not zero."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 1, (n, CHANNELS - 4)).astype(np.float32)
    x[:, 10] = rng.random(n)
    x[rng.random(x.shape) < 0.1] = np.nan
    mask = rng.random((n, 4)) < 0.8
    return x, mask, 1_000_000 + 20_000 * np.arange(n, dtype=np.int64)


def synthetic_set(folder: Path, *, sessions: int, minutes: float, seed: int, decoupled: bool = False) -> Path:
    """Frames-only synthetic sessions at three tempi."""
    from choreo_cli.outputs import output_folder
    from choreo_cli.progress import Progress
    from choreo_cli.sessions.synth import SynthOptions, write_sessions

    options = SynthOptions(
        sessions=sessions, minutes=minutes, bpm=(92.0, 120.0, 140.0), seed=seed, material=False, decoupled=decoupled
    )
    with output_folder(folder, "sessions", {"run_id": "0" * 12}) as out, Progress("", quiet=True) as bar:
        made = write_sessions(options, folder, bar)
        out.finish(made.entries, 0, [])
    return folder


class Files:
    """Where a recipe puts its files, without a command around it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.created_by = folder, {"run_id": "0" * 12}
        self.written: list[str] = []

    def target(self, relative: str) -> Path:
        return self.folder / relative

    def add(self, role: str, relative: str, sha256: str) -> None:
        self.written.append(relative)

    def write(self, role: str, relative: str, data: bytes) -> None:
        self.target(relative).write_bytes(data)
        self.written.append(relative)


def fit_briefly(recipe: Any) -> Any:
    """A plain loop: Adam, cosine decay, one thread."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(recipe.seed)
    config, model = recipe.config, recipe.model()
    optimiser = torch.optim.Adam(model.parameters(), lr=config.lr)
    per_epoch = -(-recipe.n_items // config.batch)
    shape = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.epochs * per_epoch)
    step = 0
    for epoch in range(config.epochs):
        order = np.random.default_rng((recipe.seed, epoch)).permutation(recipe.n_items)
        for at in range(0, recipe.n_items, config.batch):
            draws = torch.Generator().manual_seed(step)
            value, _ = recipe.loss(model, recipe.batch(order[at : at + config.batch], epoch), draws)
            optimiser.zero_grad()
            value.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip or 1e9)
            optimiser.step()
            shape.step()
            recipe.after_step(model)
            step += 1
    return model
