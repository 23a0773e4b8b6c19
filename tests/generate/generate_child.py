"""A small training in a process of its own, for tests that kill it or launch two: `FOLDER LOG KIND CONFIG`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dancing_windows import Windows, recipe
from killed_child import main, slow

from choreo_cli.training.loop import Fitted, fit

SMALL = {"epochs": 4, "batch": 8, "frames": 16, "structure_clips": 4, "accumulate": 2, "warmup": 4, "val_windows": 8}


def small_recipe(kind: str, **config: Any) -> Any:
    return recipe(kind, Windows(2, frames=16), **{**SMALL, **config})


def trained(folder: Path, kind: str, log: Any = lambda _: None, pause_s: float = 0.0, **config: Any) -> Fitted:
    made = small_recipe(kind, **config)
    slow(made, pause_s)
    return fit(made, folder, identity="small", seed=3, log=log)


if __name__ == "__main__":
    main(trained)
