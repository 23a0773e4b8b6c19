"""A student beside its teacher on held-out windows: error of the same noise, jerk, and whether it still varies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from choreo_cli.dataset.motions_stats import Stats
from choreo_cli.generate.config import Shape
from choreo_cli.generate.distill_config import STEPS, DistillConfig
from choreo_cli.generate.distill_torch import Student, Teacher, Told, tell
from choreo_cli.generate.dit_torch import cover
from choreo_cli.generate.tasks import draw_tasks
from choreo_cli.motion.choreo25_torch import decode_channels
from choreo_cli.motion.skeleton import canonical_skeleton
from formats.metrics import entry

I64 = NDArray[np.int64]

JUDGED_AT = 20  # seed of the noise and the tasks of a comparison: the same for every student
# Conditions, noise (B, T, 25) and the teacher's samples -> a figure of each window (B,).
Figure = Callable[[Told, Tensor, Tensor], Tensor]
ALIKE = 4  # neighbours whose noise differs under one condition: what diversity is measured on
DIVERSITY_GOAL = 0.9


class Pupil(Protocol):
    """What a comparison needs of a recipe."""

    @property
    def config(self) -> DistillConfig: ...
    @property
    def source(self) -> Any: ...
    @property
    def stats(self) -> Stats: ...
    @property
    def shape(self) -> Shape: ...
    @property
    def teacher(self) -> Teacher: ...
    @property
    def steps(self) -> int: ...
    @property
    def solver(self) -> str: ...
    def tensors(self, found: Mapping[str, NDArray[Any]]) -> dict[str, Tensor]: ...


@dataclass(frozen=True, slots=True)
class Compared:
    """A student beside its teacher.

    Args:
        errors: Mean squared error of normalised channels that were not given, by steps.
        teacher_one: The same of the teacher in one step: what a student has to be better than.
        diversity: By steps, mean distance of samples of one condition over the teacher's.
        jerk: By steps, mean jerk of the joints over the teacher's.
        windows: Windows that were compared.
        steps: The teacher's.
    """

    errors: Mapping[int, float]
    teacher_one: float
    diversity: Mapping[int, float]
    jerk: Mapping[int, float]
    windows: int
    steps: int

    def sentence(self) -> str:
        """The comparison for a person."""
        told = ", ".join(f"{e:.3f} in {k}" for k, e in self.errors.items())
        return (
            f"squared error against {self.steps} guided steps of the teacher: {told} (the teacher itself in 1:"
            f" {self.teacher_one:.3f}); diversity in 1 step {self.diversity[1]:.2f} of the teacher's"
        )

    def metrics(self) -> list[dict[str, Any]]:
        """As entries of `choreo.metrics/1`."""
        made = []
        for k in STEPS:
            told: dict[str, Any] = {"n": self.windows, "params": {"steps": k, "teacher_steps": self.steps}}
            one = ("teacher, one step", self.teacher_one)
            least = (">=", DIVERSITY_GOAL)
            made += [
                entry(f"distill.steps_{k}.error", self.errors[k], "1", "lower", baseline=one, **told),
                entry(f"distill.steps_{k}.diversity_ratio", self.diversity[k], "1", "higher", goal=least, **told),
                entry(f"distill.steps_{k}.jerk_ratio", self.jerk[k], "1", "lower", **told),
            ]
        return made


def judged_rows(rows: I64, most: int) -> I64:
    """Evenly spread windows of a split, at most so many."""
    return rows[:: max(1, -(-len(rows) // most))]


@dataclass(frozen=True, slots=True)
class Reference:
    """What the teacher makes of held-out windows: computed once.

    Args:
        parts: Conditions, noise (B, T, 25) and the teacher's samples (B, T, 25), a batch at a time.
        windows: How many there are.
        device: Where they lie.
    """

    parts: tuple[tuple[Told, Tensor, Tensor], ...]
    windows: int
    device: torch.device


@torch.no_grad()
def reference(recipe: Pupil, rows: I64, device: torch.device) -> Reference:
    """The teacher's samples of windows; the same noise and tasks every time."""
    rng, draws = np.random.default_rng(JUDGED_AT), torch.Generator().manual_seed(JUDGED_AT)
    c, frames = recipe.config, recipe.source.frames
    masks, tasks, _ = draw_tasks(rng, len(rows), frames, c.inbetween, c.predict)
    heard = np.full(len(rows), recipe.source.audio_width > 0)
    noise = torch.randn((len(rows), frames, 25), generator=draws).to(device)
    parts = []
    for start in range(0, len(rows), c.batch):
        s = slice(start, start + c.batch)
        batch = {k: v.to(device) for k, v in recipe.tensors(recipe.source.batch(rows[s], 0)).items()}
        told = tell(batch, cover(recipe.shape.groups), masks[s], tasks[s], heard[s])
        parts.append((told, noise[s], recipe.teacher.sample(noise[s], told, recipe.steps, recipe.solver)))
    return Reference(tuple(parts), len(rows), device)


@torch.no_grad()
def errors(student: Student, judged: Reference) -> dict[int, float]:
    """Mean squared error of 1, 2 and 4 steps against the teacher's samples, where nothing is given."""

    def away(k: int) -> Figure:
        return lambda told, noise, true: _away(student.sample(noise, told, k), true, told)

    return {k: _mean(judged, away(k)) for k in STEPS}


@torch.no_grad()
def compare(recipe: Pupil, student: Student, judged: Reference, rows: I64) -> Compared:
    """Everything that is said of a student when it is done."""

    def jerk(k: int) -> Figure:
        return lambda told, noise, true: _jerk(student.sample(noise, told, k), recipe)

    def teacher_in_one(told: Told, noise: Tensor, true: Tensor) -> Tensor:
        return _away(recipe.teacher.sample(noise, told, 1, "euler"), true, told)

    true_jerk = max(_mean(judged, lambda told, noise, true: _jerk(true, recipe)), 1e-9)
    alike = _alike(recipe, student, rows, judged.device)
    return Compared(
        errors(student, judged), _mean(judged, teacher_in_one), {k: alike[k] / max(alike[0], 1e-9) for k in STEPS},
        {k: _mean(judged, jerk(k)) / true_jerk for k in STEPS}, judged.windows, recipe.steps,
    )  # fmt: skip


def _mean(judged: Reference, figure: Figure) -> float:
    """Mean over windows of a figure (B,) of each batch."""
    return float(torch.cat([figure(*part) for part in judged.parts]).mean())


def _away(x: Tensor, true: Tensor, told: Told) -> Tensor:
    free = 1 - told.flags
    return ((x - true).square() * free).sum((1, 2)) / free.sum((1, 2)).clamp(min=1)


def _jerk(x: Tensor, recipe: Pupil) -> Tensor:
    """Mean length of the third difference of joints, (B,) m/s^3."""
    s, fps = recipe.stats, float(recipe.source.fps)
    mean, std = (torch.tensor(np.asarray(a, np.float32), device=x.device) for a in (s.mean, s.std))
    joints = decode_channels(x * std + mean, canonical_skeleton(), fps)
    found: Tensor = torch.diff(joints, n=3, dim=1).norm(dim=-1).mean((1, 2)) * fps**3
    return found


def _alike(recipe: Pupil, student: Student, rows: I64, device: torch.device) -> dict[int, float]:
    """Mean distance between samples that differ in their noise alone, by steps; 0 is the teacher."""
    chosen = judged_rows(rows, max(1, recipe.config.val_windows // ALIKE))
    batch = {k: v.to(device) for k, v in recipe.tensors(recipe.source.batch(np.repeat(chosen, ALIKE), 0)).items()}
    rng = np.random.default_rng(JUDGED_AT)
    masks, tasks, _ = draw_tasks(rng, len(batch["x"]), recipe.source.frames, 0.0, 0.0)
    heard = np.full(len(batch["x"]), recipe.source.audio_width > 0)
    told = tell(batch, cover(recipe.shape.groups), masks, tasks, heard)
    noise = torch.randn(batch["x"].shape, generator=torch.Generator().manual_seed(JUDGED_AT + 1)).to(device)
    made = {k: student.sample(noise, told, k) for k in STEPS}
    made[0] = recipe.teacher.sample(noise, told, recipe.steps, recipe.solver)
    return {k: _spread(x.reshape(len(chosen), ALIKE, -1)) for k, x in made.items()}


def _spread(x: Tensor) -> float:
    apart = (x[:, :, None] - x[:, None]).norm(dim=-1)
    return float(apart.sum() / (len(x) * ALIKE * (ALIKE - 1)))
