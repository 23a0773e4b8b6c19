"""The network written once over a handful of operations, for every graph format.

What depends on weights alone is worked out here: music joins the tokens' product, text, task and extra share one, the
modulations of all blocks and the head are one product with the 1 of `1 + scale` in its bias, attention's 1 / sqrt(d)
lies in the query weights, and turning by an angle is two products with constants on the halves swapped. What each was
worth: `export_onnx`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from choreo_cli.generate.config import CHANNELS, EXTRA_WIDTH, GROUPS, Shape

F32 = NDArray[np.float32]
Value = Any
THETA = 1e4
EPS = 1e-6


class Ops(Protocol):
    """Operations of a graph format on its own values; arrays are (B, ...) with a fixed number of frames."""

    def const(self, name: str, value: NDArray[Any]) -> Value: ...
    def linear(self, x: Value, name: str, weight: F32, bias: F32 | None, frames: int | None) -> Value:
        """x W^T + b of x (B, in), or (B, frames, in)."""
        ...

    def add(self, a: Value, b: Value) -> Value: ...
    def mul(self, a: Value, b: Value) -> Value: ...
    def matmul(self, a: Value, b: Value, *, transpose: bool = False) -> Value: ...
    def concat(self, parts: Sequence[Value], axis: int) -> Value: ...
    def halves(self, x: Value) -> tuple[Value, Value]:
        """The first and the second half of the batch."""
        ...

    def split(self, x: Value, sizes: Sequence[int], axis: int) -> list[Value]: ...
    def reshape(self, x: Value, shape: Sequence[int]) -> Value:
        """-1 for the batch."""
        ...

    def transpose(self, x: Value, perm: Sequence[int]) -> Value: ...
    def softmax(self, x: Value) -> Value: ...
    def norm(self, x: Value, width: int) -> Value:
        """Layer norm over the last axis without weights, eps 1e-6."""
        ...

    def gelu(self, x: Value) -> Value:
        """The tanh form."""
        ...

    def silu(self, x: Value) -> Value: ...


@dataclass(frozen=True, slots=True)
class Packed:
    """Weights as the graphs use them.

    Args:
        shape: The network.
        arrays: By name, `NAME.weight` (out, in) and `NAME.bias`.
        cos, sin: Of the rotation, (T, head), the first half of the sines negative.
        cover: (7, 25), channels of each mask column.
    """

    shape: Shape
    arrays: Mapping[str, F32]
    cos: F32
    sin: F32
    cover: F32

    @property
    def linears(self) -> list[str]:
        """Products by name, in the order of the network."""
        return [n.removesuffix(".weight") for n in self.arrays if n.endswith(".weight")]


def pack(shape: Shape, arrays: Mapping[str, F32]) -> Packed:
    """Weights of a checkpoint as the graphs use them; see the module."""
    width, head = shape.width, shape.width // shape.heads
    made: dict[str, F32] = {}
    music = [arrays["audio.weight"]] if shape.audio_width else []
    made["tokens.weight"] = np.concatenate([arrays["tokens.weight"], *music], 1)
    made["tokens.bias"] = arrays["tokens.bias"]
    for k in (0, 2):
        made |= {f"time{k}.{p}": arrays[f"time.{k}.{p}"] for p in ("weight", "bias")}
    text = [arrays["text.weight"]] if shape.text_width else []
    made["told.weight"] = np.concatenate([*text, arrays["task.weight"], arrays["extra.weight"]], 1)
    parts = [f"blocks.{k}.modulate" for k in range(shape.blocks)]
    made["modulate.weight"] = np.concatenate([arrays[f"{n}.weight"] for n in [*parts, "modulate"]])
    made["modulate.bias"] = np.concatenate(
        [_scales_from_one(arrays[f"{n}.bias"], width, (1, 4)) for n in parts]
        + [_scales_from_one(arrays["modulate.bias"], width, (1,))]
    )
    for k in range(shape.blocks):
        for part in ("qkv", "out", "up", "down"):
            for p in ("weight", "bias"):
                made[f"block{k}_{part}.{p}"] = np.array(arrays[f"blocks.{k}.{part}.{p}"])
        for p in ("weight", "bias"):
            made[f"block{k}_qkv.{p}"][:width] *= np.float32(1 / math.sqrt(head))
    made |= {f"head.{p}": arrays[f"head.{p}"] for p in ("weight", "bias")}
    rate = THETA ** (-np.arange(0, head, 2) / head)
    angle = np.arange(shape.frames)[:, None] * rate
    cos, sin = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
    cover = np.zeros((shape.groups, CHANNELS), np.float32)
    for k, (_, part_) in enumerate(GROUPS if shape.groups > 1 else (("all", slice(0, CHANNELS)),)):
        cover[k, part_] = 1.0
    return Packed(
        shape, {k: np.ascontiguousarray(v, np.float32) for k, v in made.items()},
        np.concatenate([cos, cos], 1), np.concatenate([-sin, sin], 1), cover,
    )  # fmt: skip


def _scales_from_one(bias: F32, width: int, scales: tuple[int, ...]) -> F32:
    out = np.array(bias).reshape(-1, width)
    out[list(scales)] += 1.0
    return out.reshape(-1)


def step_inputs(shape: Shape, batch: Any = "batch") -> dict[str, list[Any]]:
    """Inputs of the step graph and their shapes, in the order of the network's forward."""
    t = shape.frames
    made: dict[str, list[Any]] = {
        "x": [batch, t, CHANNELS], "time": [batch, shape.width], "audio": [batch, t, shape.audio_width],
        "known": [batch, t, CHANNELS], "mask": [batch, t, shape.groups], "text": [batch, shape.text_width],
        "task": [batch, shape.tasks], "extra": [batch, EXTRA_WIDTH],
    }  # fmt: skip
    return {k: v for k, v in made.items() if v[-1] != 0}


class Network:
    """The network on values of one format.

    Args:
        ops: The format.
        packed: Weights.
    """

    def __init__(self, ops: Ops, packed: Packed) -> None:
        self.ops, self.packed, self.shape = ops, packed, packed.shape

    def linear(self, x: Value, name: str, frames: int | None = None) -> Value:
        arrays = self.packed.arrays
        return self.ops.linear(x, name, arrays[f"{name}.weight"], arrays.get(f"{name}.bias"), frames)

    def cover(self, mask: Value) -> Value:
        """(B, T, 25): 1 where a channel is given."""
        return self.ops.matmul(mask, self.ops.const("cover", self.packed.cover))

    def told(self, text: Value, task: Value, extra: Value) -> Value:
        """What text, task and extra add to the condition, (B, width)."""
        parts = [text, task, extra] if self.shape.text_width else [task, extra]
        return self.linear(self.ops.concat(parts, 1), "told")

    def time(self, features: Value) -> Value:
        """What the time adds to the condition, (B, width)."""
        return self.linear(self.ops.silu(self.linear(features, "time0")), "time2")

    def answer(self, x: Value, known: Value, mask: Value, audio: Value, condition: Value) -> Value:
        """The network: x, known where it is known, mask, audio (B, T, ...), condition (B, width) -> (B, T, 25)."""
        ops, s = self.ops, self.shape
        parts = [x, known, mask, *([audio] if s.audio_width else [])]
        h = self.linear(ops.concat(parts, 2), "tokens", s.frames)
        many = 6 * s.blocks + 2
        turned = ops.reshape(self.linear(ops.silu(condition), "modulate"), (-1, 1, many * s.width))
        m = ops.split(turned, [s.width] * many, 2)
        for k in range(s.blocks):
            h = self._block(h, k, m[6 * k : 6 * k + 6])
        return self.linear(self._shifted(h, m[-2], m[-1]), "head", s.frames)

    def _shifted(self, h: Value, shift: Value, scale: Value) -> Value:
        return self.ops.add(self.ops.mul(self.ops.norm(h, self.shape.width), scale), shift)

    def _block(self, h: Value, k: int, m: Sequence[Value]) -> Value:
        ops, t = self.ops, self.shape.frames
        seen = self._attend(self.linear(self._shifted(h, m[0], m[1]), f"block{k}_qkv", t))
        h = ops.add(h, ops.mul(m[2], self.linear(seen, f"block{k}_out", t)))
        up = ops.gelu(self.linear(self._shifted(h, m[3], m[4]), f"block{k}_up", t))
        return ops.add(h, ops.mul(m[5], self.linear(up, f"block{k}_down", t)))

    def _attend(self, qkv: Value) -> Value:
        ops, s = self.ops, self.shape
        head = s.width // s.heads
        x = ops.transpose(ops.reshape(qkv, (-1, s.frames, 3 * s.heads, head)), (0, 2, 1, 3))
        qk, v = ops.split(x, [2 * s.heads, s.heads], 1)
        first, second = ops.split(qk, [head // 2] * 2, 3)
        cos, sin = ops.const("cos", self.packed.cos), ops.const("sin", self.packed.sin)
        qk = ops.add(ops.mul(qk, cos), ops.mul(ops.concat([second, first], 3), sin))
        q, k = ops.split(qk, [s.heads] * 2, 1)
        seen = ops.matmul(ops.softmax(ops.matmul(q, k, transpose=True)), v)
        return ops.reshape(ops.transpose(seen, (0, 2, 1, 3)), (-1, s.frames, s.width))


def step(net: Network, inputs: Mapping[str, Value]) -> Value:
    """The step graph: `MotionDiT.forward`."""
    ops = net.ops
    known = ops.mul(inputs["known"], net.cover(inputs["mask"]))
    condition = ops.add(net.time(inputs["time"]), net.told(inputs.get("text"), inputs["task"], inputs["extra"]))
    return net.answer(inputs["x"], known, inputs["mask"], inputs.get("audio"), condition)
