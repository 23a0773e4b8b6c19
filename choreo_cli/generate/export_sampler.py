"""The whole sampler as one graph: noise and conditions in, normalised channels out, times and solver folded in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from choreo_cli.generate.conditioning import GUIDANCE_UNIT, extra_vector, time_features
from choreo_cli.generate.config import EXTRA_GUIDANCE, EXTRA_WIDTH, Shape
from choreo_cli.generate.export_graph import F32, Network, Packed, Value, step_inputs
from choreo_cli.generate.export_plan import KNOWN, Plan, Stage, Sum
from choreo_cli.generate.guidance import Guidance

NOISE, WEIGHT = "noise", "w"


@dataclass(frozen=True, slots=True)
class Way:
    """How a model is sampled as one graph.

    Args:
        plan: Questions and sums.
        guidance: Its interval; the weight is the input `w`.
        guided: `w` is told to the (distilled) network instead of weighing two answers.
        baked: There is no `w`.
        sized: The step size is told to the network.
    """

    plan: Plan
    guidance: Guidance
    guided: bool = False
    baked: bool = False
    sized: bool = False

    def weighs(self, shape: Shape) -> bool:
        """Whether there is an input `w`: a single step from noise lies outside the interval and has none."""
        told = self.guided and not self.baked and shape.audio_width > 0
        return told or any(self.two(s.way, shape) for s in self.plan.stages)

    def two(self, way: float, shape: Shape) -> bool:
        """Whether a stage asks twice, with and without conditions."""
        open_ = not self.baked and not self.guided and shape.audio_width > 0
        return open_ and self.guidance.low <= way <= self.guidance.high

    def rows(self, shape: Shape) -> int:
        """Rows that go through the network for a clip."""
        return sum(1 + self.two(s.way, shape) for s in self.plan.stages)

    def inputs(self, shape: Shape, batch: Any = "batch") -> dict[str, list[Any]]:
        """Inputs and their shapes: noise (several for samplers that draw anew), conditions, the weight `w` (1,)."""
        step = step_inputs(shape, batch)
        noises = {NOISE if k == 0 else f"{NOISE}{k}": step["x"] for k in range(self.plan.draws)}
        told = {k: v for k, v in step.items() if k not in ("x", "time", "extra")}
        return {**noises, **told, **({WEIGHT: [1]} if self.weighs(shape) else {})}


def sample(net: Network, inputs: Mapping[str, Value], way: Way) -> Value:
    """Noise and conditions to normalised channels (B, T, 25), known values kept exactly.

    `w` weighs music and text together: (1 - w) v0 + w v1 inside the interval of the guidance, v1 outside.

    Args:
        net: The network.
        inputs: See `Way.inputs`; `known` and `audio` normalised.
        way: How.
    """
    return _Sampling(net, inputs, way).run()


class _Sampling:
    """What the stages of one graph share."""

    def __init__(self, net: Network, inputs: Mapping[str, Value], way: Way) -> None:
        self.net, self.ops, self.inputs, self.way = net, net.ops, inputs, way
        self.mask, self.audio = inputs["mask"], inputs.get("audio")
        self.given = net.cover(self.mask)
        one = self.ops.const("one", _filled(1))
        self.free = self.ops.add(one, self.ops.mul(self.given, self.ops.const("minus_one", _filled(-1))))
        self.known = self.ops.mul(inputs["known"], self.given)
        self.values: dict[str, Value] = {KNOWN: self.known}
        for k in range(way.plan.draws):
            self.values[f"noise{k}"] = inputs[NOISE if k == 0 else f"{NOISE}{k}"]
        extra = self._extra()
        self.full = net.told(inputs.get("text"), inputs["task"], extra)
        if any(way.two(s.way, net.shape) for s in way.plan.stages):
            self._prepare_guidance(extra)

    def run(self) -> Value:
        ops, plan = self.ops, self.way.plan
        for k, stage in enumerate(plan.stages):
            free = ops.mul(self._sum(stage.free, f"stage{k}_free"), self.free)
            held = ops.mul(self._sum(stage.held, f"stage{k}_held"), self.given)
            self.values[f"out{k}"] = self._asked(ops.add(free, held), stage, k)
        return ops.add(ops.mul(self._sum(plan.end, "end"), self.free), self.known)

    def _asked(self, x: Value, stage: Stage, k: int) -> Value:
        ops = self.ops
        moment = ops.const(f"moment{k}", _moment(self.net.packed, stage.time))
        if not self.way.two(stage.way, self.net.shape):
            return self.net.answer(x, self.known, self.mask, self.audio, ops.add(self.full, moment))
        known, mask, audio, told, (less, more) = self.doubled
        both = self.net.answer(ops.concat([x, x], 0), known, mask, audio, ops.add(told, moment))
        without, full = ops.halves(both)
        return ops.add(ops.mul(without, less), ops.mul(full, more))

    def _prepare_guidance(self, extra: Value) -> None:
        ops = self.ops
        silent = ops.mul(self.audio, ops.const("silence", _filled(0)))
        text = self.inputs.get("text")
        wordless = None if text is None else ops.mul(text, ops.const("no_text", np.zeros((1, 1), np.float32)))
        told = self.net.told(wordless, self.inputs["task"], extra)
        w = ops.reshape(self.inputs[WEIGHT], (1, 1, 1))
        less = ops.add(ops.const("all", _filled(1)), ops.mul(w, ops.const("minus", _filled(-1))))
        self.doubled = (
            ops.concat([self.known] * 2, 0), ops.concat([self.mask] * 2, 0), ops.concat([silent, self.audio], 0),
            ops.concat([told, self.full], 0), (less, w),
        )  # fmt: skip

    def _extra(self) -> Value:
        """The vector of distilled models, (B, 32); zeros for the others."""
        ops, way = self.ops, self.way
        told = ops.const("extra_vector", extra_vector(1, step=1 / way.plan.steps if way.sized else None))
        if way.guided and way.weighs(self.net.shape):
            place = np.zeros((1, EXTRA_WIDTH), np.float32)
            place[0, EXTRA_GUIDANCE] = 1 / GUIDANCE_UNIT
            w = ops.mul(ops.reshape(self.inputs[WEIGHT], (1, 1)), ops.const("guidance_place", place))
            told = ops.add(w, told)
        # A row for each clip: added to the task times zeros, which has the batch's shape.
        zeros = ops.const("no_task", np.zeros((self.net.shape.tasks, EXTRA_WIDTH), np.float32))
        return ops.add(ops.matmul(self.inputs["task"], zeros), told)

    def _sum(self, total: Sum, name: str) -> Value:
        parts = []
        for symbol, weight in total.items():
            value = self.values[symbol]
            if weight != 1.0:
                value = self.ops.mul(value, self.ops.const(f"{name}_{symbol}", _filled(weight)))
            parts.append(value)
        out = parts[0]
        for part in parts[1:]:
            out = self.ops.add(out, part)
        return out


def _filled(value: float) -> F32:
    return np.full((1, 1, 1), value, np.float32)


def _moment(packed: Packed, time: float) -> F32:
    """What the time adds to the condition, worked out: (1, width). In half precision its angles would be lost."""
    a = {k: v.astype(np.float64) for k, v in packed.arrays.items() if k.startswith("time")}
    h = time_features(time, packed.shape.width).astype(np.float64) @ a["time0.weight"].T + a["time0.bias"]
    return np.asarray(h / (1 + np.exp(-h)) @ a["time2.weight"].T + a["time2.bias"], np.float32)
