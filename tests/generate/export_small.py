"""Small motion networks as checkpoints on disk, for tests of what is made from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from choreo_cli.dataset.motions_stats import Stats
from choreo_cli.generate import bench_network
from choreo_cli.generate.config import Shape
from choreo_cli.generate.guidance import Guidance
from choreo_cli.generate.model_files import Model, defaults_record, open_model
from formats import checkpoint

SMALL = Shape(blocks=1, width=32, heads=2, frames=16, audio_width=5)


def stats(audio_width: int) -> Stats:
    rng = np.random.default_rng(3)
    mean, std = rng.uniform(-0.3, 0.3, 25).astype(np.float32), rng.uniform(0.2, 0.9, 25).astype(np.float32)
    mean[4:6] = std[4:6] = 0.5
    return Stats(mean, std, np.full(audio_width, 0.1, np.float32), np.full(audio_width, 2.0, np.float32))


def written(
    folder: Path,
    shape: Shape = SMALL,
    process: str = "flow",
    predict: str = "x1",
    recipe: str = "",
    head: float = 1.0,
    **facts: Any,
) -> Model:
    """A checkpoint with random weights; `head` scales the last product, and with it what the network says."""
    told = {
        "process": process, "predict": predict, "fps": 30.0, "defaults": defaults_record(4, "euler", Guidance(2.0)),
        "stats": stats(shape.audio_width).to_dict(), "synthetic": True, "trained_tasks": ["GEN", "INBETWEEN", "PREDICT"],
        **facts,
    }  # fmt: skip
    import msgspec

    arrays = bench_network.arrays_of(shape, 5)
    arrays["head.weight"] *= np.float32(head)
    made = checkpoint.Checkpoint(
        recipe or process, msgspec.to_builtins(shape), arrays, told,
        {"params": {"config": {"ema": 0.999}}},
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in checkpoint.encode(made).items():
        (folder / name).write_bytes(data)
    return open_model(folder)
