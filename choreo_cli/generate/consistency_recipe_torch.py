"""`choreo distill --method consistency`: every point of the teacher's guided way leads to its end.

Consistency models (Song et al., ICML 2023) distilled with guidance built in (Luo et al., "Latent consistency models",
2023; MotionLCM, ECCV 2024). One step of the teacher leads from a point to the next; the student has to say at the first
what its own average says at the second, and at the last point what the teacher says.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from choreo_cli.generate.distill_config import ConsistencyConfig
from choreo_cli.generate.distill_recipe_torch import READS, TAKES, DistillRecipe, Learned, opened, score
from choreo_cli.generate.distill_torch import Student, Told
from choreo_cli.training.recipe import Job

__all__ = ["READS", "TAKES", "Config", "open_recipe", "score"]

Config = ConsistencyConfig
MOST_POINTS = 10  # of a teacher that takes more steps


def open_recipe(job: Job) -> DistillRecipe:
    """The recipe of a job. Raises what `distill_recipe_torch.opened` raises."""
    c: ConsistencyConfig = job.config
    return opened(job, "consistency", learn, target=c.target)


def learn(
    recipe: DistillRecipe, student: Student, batch: Mapping[str, Tensor], told: Told, noise: Tensor,
    draws: torch.Generator,
) -> Learned:  # fmt: skip
    """Pseudo-Huber distance between the student here and its average one step of the teacher further on."""
    assert isinstance(recipe.config, ConsistencyConfig)
    c, way, rows = recipe.config, student.way, len(noise)
    points = c.points or min(MOST_POINTS, recipe.steps)
    point = torch.randint(points, (rows,), generator=draws)
    point[: round(c.anchored * rows)] = 0
    u, to = (point / points).to(noise), ((point + 1) / points).to(noise)
    with torch.no_grad():
        x = told.given.put(way.noisy(batch["x"], noise, u), way.noisy(told.known, noise, u))
        end = told.given.put(recipe.teacher.data(x, u, told), told.known)
        there = way.jump(x, end, u, to)
        there = told.given.put(there, way.noisy(told.known, noise, to))
        further = student.data(there, to, told, average=True)
        goal = torch.where((point == points - 1).to(noise.device)[:, None, None], end, further)
    found = student.data(x, u, told)
    error = ((found - goal).square() + c.huber**2).sqrt() - c.huber
    return Learned(found, goal, error)
