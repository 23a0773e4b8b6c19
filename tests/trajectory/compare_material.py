"""Run folders of made-up branches on a real small set: how often they are right and how far off is chosen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from choreo_cli.outputs import OutputFolder
from choreo_cli.runtime import provenance
from choreo_cli.trajectory import predictions, sets
from choreo_cli.trajectory.camera import to_camera
from choreo_cli.trajectory.predictions import FILES, Predictions
from choreo_cli.trajectory.video_config import VideoConfig


def predicted(of: sets.TrajectorySet, split: str, seed: int, right: float, off: float, branch: str) -> Predictions:
    """Right in a share `right` of the videos, forecasts off by normal noise `off`."""
    rng = np.random.default_rng((seed, len(branch)))
    looks, family = of.looks[split], of.family(split)
    n = len(looks)
    said = np.where(rng.random(n) < right, family, (family + 1 + rng.integers(0, 3, n)) % 4)
    chance = np.full((n, 4), 0.05, np.float32)
    chance[np.arange(n), said] = 0.85
    future = of.future(split) + off * rng.normal(size=(n, 4, 3))
    shown = to_camera(of.clean(split)[:, :16], looks.cameras) + 0.002 * rng.normal(size=(n, 16, 3))
    facts = {"choreo.set": of.sha256, "choreo.split": split, "choreo.branch": branch}
    return Predictions(looks.base, chance, future.astype(np.float32), shown.astype(np.float32), facts)


def make_run(
    top: Path, of: sets.TrajectorySet, branch: str, seed: int, *, right: float = 0.9, off: float = 0.05,
    splits: tuple[str, ...] = ("test", "grid"), **settings: Any,
) -> Path:  # fmt: skip
    """A finished run folder `top/BRANCH/seed-N`."""
    folder = top / branch / f"seed-{seed}"
    folder.mkdir(parents=True)
    config = VideoConfig(encoder="moments", branch=branch, **settings)
    made_by = provenance("train video", {"config": msgspec.to_builtins(config)}, [], seed=seed)
    out = OutputFolder(folder, "run", made_by)
    for split in splits:
        out.add(
            "predictions",
            FILES[split],
            predictions.write(folder / FILES[split], predicted(of, split, seed, right, off, branch)),
        )
    lines = [
        {
            "kind": "validation",
            "step": 10 * k,
            "epoch": k,
            "loss": 2.0 / k,
            "accuracy": min(0.3 * k, right),
            "mae_pct": 20 / k,
        }
        for k in (1, 2, 3)
    ]
    out.write("log", "log.jsonl", "".join(json.dumps(line) + "\n" for line in lines).encode())
    entry = {
        "id": made_by["run_id"], "recipe": "video", "seed": seed, "path": ".", "state": "done", "steps": 30,
        "epochs": 3.0, "parameters": 1000, "device": "cpu", "config": msgspec.to_builtins(config),
        "data": {"schema": "choreo.trajectories/1", "sha256": of.sha256, "root": "data", "path": "trajectories.json"},
        "parents": [], "files": {n: sha for n, (_, sha) in out.files.items()}, "metrics": [], "synthetic": True,
    }  # fmt: skip
    out.finish([entry], 0, [], {"data": of.folder})
    return folder


def make_branch(top: Path, of: sets.TrajectorySet, branch: str, seeds: int = 3, **how: Any) -> None:
    """A branch of several seeds."""
    for seed in range(seeds):
        make_run(top, of, branch, seed, **how)
