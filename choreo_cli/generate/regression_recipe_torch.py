"""`choreo distill --method regression`: learn stored pairs of noise and what the guided teacher makes of it.

Straight lines between the two ends of a pair (Liu et al., "Flow straight and fast", ICLR 2023, its second round): at
pure noise and at the points that 2 and 4 steps come through, the student has to say the pair's end.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import torch
from torch import Tensor

from choreo_cli.generate.distill_config import RegressionConfig
from choreo_cli.generate.distill_pairs_torch import PairStore
from choreo_cli.generate.distill_recipe_torch import READS, TAKES, DistillRecipe, Learned, opened, score
from choreo_cli.generate.distill_torch import Student, Told
from choreo_cli.training.recipe import Job

__all__ = ["READS", "TAKES", "Config", "open_recipe", "score"]

Config = RegressionConfig
LATER = (0.25, 0.5, 0.75)  # where steps of 1/2 and 1/4 come through
VERSION = "pairs-1"


def open_recipe(job: Job) -> DistillRecipe:
    """The recipe of a job. Raises what `distill_recipe_torch.opened` raises."""
    c: RegressionConfig = job.config
    made = opened(job, "regression", learn)
    made.material = PairStore(made, c.pairs, identity_of(made))
    return made


def identity_of(recipe: DistillRecipe) -> str:
    """sha256 over what decides the pairs: another learning rate takes the same ones."""
    c = recipe.config
    told = {
        "version": VERSION, "teacher": recipe.inputs[0]["sha256"], "data": recipe.source.sha256, "seed": recipe.seed,
        "steps": recipe.steps, "solver": recipe.solver, "guidance": recipe.teacher.guidance.audio, "batch": c.batch,
        "inbetween": c.inbetween, "predict": c.predict, "drop_audio": c.drop_audio, "mirror": c.mirror,
        "stride": c.stride, "threads": c.threads,
    }  # fmt: skip
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def learn(
    recipe: DistillRecipe, student: Student, batch: Mapping[str, Tensor], told: Told, noise: Tensor,
    draws: torch.Generator,
) -> Learned:  # fmt: skip
    """Squared distance to the pair's end, from noise and from later points."""
    assert isinstance(recipe.config, RegressionConfig)
    c, way, rows = recipe.config, student.way, len(noise)
    goal = told.given.put(batch["data"], told.known)
    at = torch.tensor(LATER)[torch.randint(len(LATER), (rows,), generator=draws)]
    at[: round(c.noise_share * rows)] = 0.0
    own = (at > 0) & (torch.rand(rows, generator=draws) < c.own)
    u, end = at.to(noise), goal
    with torch.no_grad():
        mine = torch.nonzero(own).flatten().to(noise.device)
        if len(mine):
            some = told.rows(mine)
            end = goal.clone()
            end[mine] = some.given.put(student.data(noise[mine], torch.zeros_like(u[mine]), some), some.known)
        x = told.given.put(way.noisy(end, noise, u), way.noisy(told.known, noise, u))
    found = student.data(x, u, told)
    return Learned(found, goal, (found - goal).square())
