"""`choreo train ddim`: the same dancer by denoising diffusion, the baseline of flow matching."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from choreo_cli.generate.config import MotionConfig
from choreo_cli.generate.diffusion_torch import DdimObjective
from choreo_cli.generate.guidance import Guidance
from choreo_cli.generate.model_files import defaults_record
from choreo_cli.generate.recipe_torch import READS, TAKES, MotionRecipe, open_data, score
from choreo_cli.training.recipe import Job

__all__ = ["READS", "TAKES", "Config", "open_recipe", "score"]


class Config(MotionConfig, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of the diffusion.

    Args:
        learn: `x0`, the network gives the data; `eps`, the noise.
        steps_used, eta, guidance: What the checkpoint is sampled with unless it is said otherwise; eta 0 is
            deterministic.
    """

    learn: Literal["x0", "eps"] = "x0"
    steps_used: Annotated[int, Meta(ge=1, le=1000)] = 50
    eta: Annotated[float, Meta(ge=0, le=1)] = 0.0
    guidance: Annotated[float, Meta(ge=0, le=20)] = 2.0


def open_recipe(job: Job) -> MotionRecipe:
    """The recipe of a job. Raises what `recipe_torch.open_data` raises."""
    c: Config = job.config
    facts = {
        "process": "ddim", "predict": c.learn, "coupling": "independent", "eta": c.eta,
        "schedule": "cosine, 1000 steps",
        "defaults": defaults_record(c.steps_used, "euler", Guidance(c.guidance)),
    }  # fmt: skip
    return MotionRecipe(name="ddim", objective=DdimObjective(c.learn), facts=facts, **open_data(job))
