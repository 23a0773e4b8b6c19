"""The gradient of one step: a process's items at once, or in parts one after the other, to need less memory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from choreo_cli.training.accelerator import Crew
from choreo_cli.training.order import I64, mix
from choreo_cli.training.recipe import Recipe


def backward(
    recipe: Recipe,
    model: nn.Module,
    crew: Crew,
    items: I64,
    epoch: int,
    seed: tuple[int, ...],
    lap: Callable[..., None],
) -> tuple[Tensor, dict[str, Tensor]]:
    """Add up the gradients of `items` in the weights.

    Args:
        recipe: Its `config` says `accumulate` and `bf16`.
        model: The network.
        crew: Where to compute.
        items: (B,) this process's items of the step, 1 or more.
        epoch: Epoch the draws of the items belong to.
        seed: Words that the step's draws follow from; part 0 has the draws of an undivided step.
        lap: `Meter.lap`: told `data` with the number of items when a part has come, `step` before the next.

    Returns:
        Mean loss over the items (), and its parts by name.
    """
    config, draws = recipe.config, torch.Generator()
    told: list[tuple[float, Tensor, dict[str, Tensor]]] = []
    for number, some in enumerate(np.array_split(items, min(config.accumulate, len(items)))):
        if number:
            lap("step")
        batch = crew.place(recipe.batch(some, epoch))
        lap("data", len(some))
        drawn = mix(*seed, *([number] if number else []))
        crew.seed(drawn)
        with torch.autocast(crew.device.type, torch.bfloat16, enabled=config.bf16):
            loss, parts = recipe.loss(model, batch, draws.manual_seed(drawn))
        weight = len(some) / len(items)
        (loss if weight == 1 else loss * weight).backward()  # type: ignore[no-untyped-call]
        told.append((weight, loss.detach(), parts))
    if len(told) == 1:
        return told[0][1], told[0][2]
    whole = torch.stack([weight * loss for weight, loss, _ in told]).sum()
    named = told[0][2]
    return whole, {k: torch.stack([w * parts[k].detach() for w, _, parts in told]).sum() for k in named}
