"""Small teachers and recipes of distillation in memory; and, as a program, one in a process that tests kill.

`python distill_small.py FOLDER LOG METHOD CONFIG`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from dancing_windows import Windows
from killed_child import main, slow

from choreo_cli.generate import consistency_recipe_torch, regression_recipe_torch, shortcut_recipe_torch
from choreo_cli.generate.config import Size
from choreo_cli.generate.distill_config import CONFIGS
from choreo_cli.generate.distill_pairs_torch import PairStore
from choreo_cli.generate.distill_paths_torch import Way
from choreo_cli.generate.distill_recipe_torch import DistillRecipe
from choreo_cli.generate.distill_torch import Teacher
from choreo_cli.generate.dit_torch import build
from choreo_cli.generate.guidance import Guidance
from choreo_cli.generate.model_files import shape_of
from choreo_cli.training.loop import Fitted, fit

SMALL = Size(2, 32, 2)
FRAMES = 16
QUICK = {"epochs": 3, "batch": 8, "structure_clips": 4, "warmup": 2, "val_windows": 6, "accumulate": 2}
LEARN = {
    "consistency": consistency_recipe_torch.learn,
    "regression": regression_recipe_torch.learn,
    "shortcut": shortcut_recipe_torch.learn,
}


def small_teacher(windows: Windows, process: str = "flow", predict: str = "x1", size: Size = SMALL) -> Teacher:
    """A teacher with weights by chance: what it says depends on everything that it is told."""
    torch.manual_seed(5)
    net = build(shape_of(size, windows.frames, windows.audio_width))
    for weight in net.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    return Teacher(net, Way(process, predict), Guidance(2.0))


def small_recipe(
    method: str, windows: Windows | None = None, *, process: str = "flow", predict: str = "x1", size: Size = SMALL,
    seed: int = 3, **config: Any,
) -> DistillRecipe:  # fmt: skip
    """A recipe on windows in memory."""
    source: Any = windows or Windows(2, frames=FRAMES)
    source.sha256 = source.record()["sha256"]
    more = {"pairs": 40} if method == "regression" else {}
    c: Any = CONFIGS[method](**{**QUICK, **more, **config})
    made = DistillRecipe(
        method=method, config=c, seed=seed, source=source, stats=source.stats,
        teacher=small_teacher(source, process, predict, size), steps=4, solver="euler",
        shape=shape_of(SMALL, source.frames, source.audio_width), learn=LEARN[method], facts={"process": process},
        target=getattr(c, "target", 0.0), sized=method == "shortcut",
        inputs=[{"role": "teacher", "sha256": "0" * 64, "schema": "choreo.checkpoint/1"}],
    )  # fmt: skip
    if method == "regression":
        made.material = PairStore(made, c.pairs, regression_recipe_torch.identity_of(made))
    return made


def trained(folder: Path, method: str, log: Any = lambda _: None, pause_s: float = 0.0, **config: Any) -> Fitted:
    """Prepare and train, slowly if asked."""
    made = small_recipe(method, **config)
    slow(made, pause_s)
    assert made.prepare(folder, "cpu", lambda: False, lambda *_: None)
    return fit(made, folder, identity="small", seed=3, log=log)


if __name__ == "__main__":
    main(trained)
