"""`choreo train flow`: a dancer by flow matching."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from choreo_cli.generate.config import MotionConfig
from choreo_cli.generate.flow_torch import NEAREST_ERROR, FlowObjective
from choreo_cli.generate.guidance import Guidance
from choreo_cli.generate.model_files import defaults_record
from choreo_cli.generate.recipe_torch import READS, TAKES, MotionRecipe, open_data, score
from choreo_cli.training.recipe import Job

__all__ = ["READS", "TAKES", "Config", "open_recipe", "score"]


class Config(MotionConfig, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of flow matching.

    Args:
        learn: `x1`, the network gives the data; `v`, the velocity.
        nearest: With x1 its error is divided by max(1 - t, nearest); .05 is the velocity's own, see `FlowObjective`.
        coupling: `independent` noise, or `ot`: optimal transport in the batch among items of equal conditions.
        steps_used, solver, guidance: What the checkpoint is sampled with unless it is said otherwise.
        shift: Grid of those steps; above 1 spends more of them near the data.
    """

    learn: Literal["x1", "v"] = "x1"
    nearest: Annotated[float, Meta(gt=0, le=1)] = NEAREST_ERROR
    coupling: Literal["independent", "ot"] = "independent"
    steps_used: Annotated[int, Meta(ge=1, le=1000)] = 4
    solver: Literal["euler", "midpoint", "heun2", "heun3", "rk4", "ab2"] = "euler"
    guidance: Annotated[float, Meta(ge=0, le=20)] = 2.0
    shift: Annotated[float, Meta(gt=0, le=20)] = 1.0


def open_recipe(job: Job) -> MotionRecipe:
    """The recipe of a job. Raises what `recipe_torch.open_data` raises."""
    c: Config = job.config
    facts = {
        "process": "flow", "predict": c.learn, "coupling": c.coupling, "shift": c.shift,
        "defaults": defaults_record(c.steps_used, c.solver, Guidance(c.guidance)),
    }  # fmt: skip
    return MotionRecipe(
        name="flow",
        objective=FlowObjective(c.learn, c.nearest),
        facts=facts,
        transport=c.coupling == "ot",
        **open_data(job),
    )
