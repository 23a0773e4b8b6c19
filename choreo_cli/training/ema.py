"""A moving average of a model's weights, without the pull towards where it started."""

from __future__ import annotations

import copy

import torch
from torch import nn


class MovingAverage:
    """The exponential moving average of every floating value of a model: weights, and statistics in buffers.

    After t updates it is sum over i of (1 - d) d^(t-i) w_i / (1 - d^t): the bias correction of Adam (Kingma and Ba,
    ICLR 2015, section 3) written as one step, average += (1 - d) / (1 - d^t) * (w_t - average). So the first weights
    weigh no more than their age allows, whatever the decay. A decay of 1 is the plain mean (Polyak and Juditsky 1992).
    Whole numbers (counters) are copied.

    Args:
        model: What is averaged.
        decay: d, 0..1.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.model = copy.deepcopy(model).requires_grad_(False)
        mean = self.model.state_dict()
        self._floats = [name for name, value in mean.items() if value.is_floating_point()]
        self._others = [name for name, value in mean.items() if not value.is_floating_point()]
        self._mean = mean

    def update(self, model: nn.Module, updates: int) -> None:
        """Take in the weights of `model` as they are now; `updates` counts this one too (1, 2...)."""
        share = 1 / updates if self.decay == 1 else (1 - self.decay) / (1 - self.decay**updates)
        now = model.state_dict()
        torch._foreach_lerp_([self._mean[name] for name in self._floats], [now[name] for name in self._floats], share)
        for name in self._others:
            self._mean[name].copy_(now[name])
