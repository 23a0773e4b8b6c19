"""`choreo distill --method shortcut`: a step that knows its size does what two steps of half the size do.

Shortcut models (Frans et al., "One step diffusion via shortcut models", ICLR 2025) with a teacher: the smallest step
learns what the teacher says with guidance, a share of each batch learns larger ones from the student itself.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from choreo_cli.generate.distill_config import ShortcutConfig
from choreo_cli.generate.distill_recipe_torch import READS, TAKES, DistillRecipe, Learned, opened, score
from choreo_cli.generate.distill_torch import Student, Told
from choreo_cli.training.recipe import Job

__all__ = ["READS", "TAKES", "Config", "open_recipe", "score"]

Config = ShortcutConfig


def open_recipe(job: Job) -> DistillRecipe:
    """The recipe of a job. Raises what `distill_recipe_torch.opened` raises."""
    c: ShortcutConfig = job.config
    return opened(job, "shortcut", learn, target=c.target, sized=True)


def learn(
    recipe: DistillRecipe, student: Student, batch: Mapping[str, Tensor], told: Told, noise: Tensor,
    draws: torch.Generator,
) -> Learned:  # fmt: skip
    """Squared distance to the teacher for the smallest step, to two half steps of the average for the others."""
    assert isinstance(recipe.config, ShortcutConfig)
    c, way, rows = recipe.config, student.way, len(noise)
    larger = round(c.bootstrap * rows)
    # Two half steps make a step of 1, 1/2 ... 2/ladder; 1/ladder is the smallest, which is told as size 0.
    rungs = c.ladder.bit_length() - 1
    size = torch.pow(0.5, torch.randint(rungs, (rows,), generator=draws).to(torch.float32))
    size[larger:] = 1 / c.ladder
    u = (torch.floor(torch.rand(rows, generator=draws) / size) * size).clamp(max=1 - 1 / c.ladder)
    size, u = size.to(noise), u.to(noise)
    with torch.no_grad():
        x = told.given.put(way.noisy(batch["x"], noise, u), way.noisy(told.known, noise, u))
        some = torch.arange(rows, device=noise.device)
        first, rest = some[:larger], some[larger:]
        goals = [_two(student, x[first], u[first], size[first], told.rows(first), noise[first], c.ladder)]
        goals += [recipe.teacher.data(x[rest], u[rest], told.rows(rest))]
        goal = torch.cat(goals)
    asked = torch.where(some < larger, size, torch.zeros_like(size))
    found = student.data(x, u, told, asked)
    return Learned(found, goal, (found - goal).square())


def _two(student: Student, x: Tensor, u: Tensor, size: Tensor, told: Told, noise: Tensor, ladder: int) -> Tensor:
    """The data that one step of `size` has to say so that it ends where two half steps of the average end."""
    if not len(x):
        return x
    way, half = student.way, size / 2
    asked = torch.where(half <= 1 / ladder, torch.zeros_like(half), half)
    middle, end = u + half, u + size
    first = told.given.put(student.data(x, u, told, asked, average=True), told.known)
    there = told.given.put(way.jump(x, first, u, middle), way.noisy(told.known, noise, middle))
    second = told.given.put(student.data(there, middle, told, asked, average=True), told.known)
    return way.aim(x, way.jump(there, second, middle, end), u, end)
