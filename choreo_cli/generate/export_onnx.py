"""The motion network as ONNX: standard operations of opset 20, a free batch, a fixed number of frames.

What moved, in ms of one core (best of 120 turns, Tiny, T=64, one clip / two; arithmetic .996 / 1.99, torch eager 3.30 /
9.56): rotation as two products on swapped halves, q and k together, 1.68 / 3.34 -> 1.52 / 3.28. What did not: products
as MatMul and Add instead of Gemm 1.66 / 3.44, weights left transposed 1.59 / 3.34, tokens kept flat 1.78, gelu by a
sigmoid 1.62 / 3.56, ONNX Runtime's own fused attention and rotation 1.58 / 3.22, its FastGelu on top 1.49 / 3.17. The
Attention and RotaryEmbedding of opset 23 give 1.45 / 3.10; 5 % are not worth refusing every runtime below it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.export.onnx import Graph, properties_of
from choreo_cli.generate.config import CHANNELS
from choreo_cli.generate.export_graph import EPS, F32, Network, Packed, step, step_inputs
from choreo_cli.generate.export_sampler import Way, sample

OPSET, IR_VERSION = 20, 9
OUTPUT = "out"
ALLOWED = frozenset({
    "Add", "Concat", "Gelu", "Gemm", "Identity", "LayerNormalization", "MatMul", "Mul", "Reshape", "Sigmoid", "Softmax",
    "Split", "Transpose",
})  # fmt: skip


class OnnxOps:
    """`export_graph.Ops` on names of an ONNX graph. Constants of one name are one constant."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def _new(self, op: str, inputs: Sequence[str], **attributes: Any) -> str:
        return self.graph.node(op, inputs, f"v{len(self.graph.nodes)}", **attributes)

    def const(self, name: str, value: NDArray[Any]) -> str:
        return name if name in self.graph.constants else self.graph.const(name, value)

    def _ints(self, *values: int) -> str:
        return self.const("shape_" + "_".join(str(v) for v in values), np.array(values, np.int64))

    def linear(self, x: str, name: str, weight: F32, bias: F32 | None, frames: int | None) -> str:
        flat = x if frames is None else self.reshape(x, (-1, weight.shape[1]))
        # Kept as (in, out): ONNX Runtime packs them once, and a transposed product was no faster.
        inputs = [flat, self.const(f"{name}.weight", weight.T)]
        inputs += [] if bias is None else [self.const(f"{name}.bias", bias)]
        out = self._new("Gemm", inputs)
        return out if frames is None else self.reshape(out, (-1, frames, weight.shape[0]))

    def add(self, a: str, b: str) -> str:
        return self._new("Add", [a, b])

    def mul(self, a: str, b: str) -> str:
        return self._new("Mul", [a, b])

    def matmul(self, a: str, b: str, *, transpose: bool = False) -> str:
        return self._new("MatMul", [a, self._new("Transpose", [b], perm=[0, 1, 3, 2]) if transpose else b])

    def concat(self, parts: Sequence[str], axis: int) -> str:
        return self._new("Concat", list(parts), axis=axis)

    def halves(self, x: str) -> tuple[str, str]:
        a, b = self._split([x], 2, axis=0, num_outputs=2)
        return a, b

    def split(self, x: str, sizes: Sequence[int], axis: int) -> list[str]:
        return self._split([x, self._ints(*sizes)], len(sizes), axis=axis)

    def _split(self, inputs: Sequence[str], count: int, **attributes: Any) -> list[str]:
        from onnx import helper

        at = len(self.graph.nodes)
        outs = [f"v{at}_{k}" for k in range(count)]
        self.graph.nodes.append(helper.make_node("Split", list(inputs), outs, name=f"Split_{at}", **attributes))
        self.graph.values.update(outs)
        return outs

    def reshape(self, x: str, shape: Sequence[int]) -> str:
        return self._new("Reshape", [x, self._ints(*shape)])

    def transpose(self, x: str, perm: Sequence[int]) -> str:
        return self._new("Transpose", [x], perm=list(perm))

    def softmax(self, x: str) -> str:
        return self._new("Softmax", [x], axis=-1)

    def norm(self, x: str, width: int) -> str:
        ones = self.const("ones", np.ones(width, np.float32))
        return self._new("LayerNormalization", [x, ones], axis=-1, epsilon=EPS)

    def gelu(self, x: str) -> str:
        return self._new("Gelu", [x], approximate="tanh")

    def silu(self, x: str) -> str:
        return self.mul(x, self._new("Sigmoid", [x]))


def step_model(packed: Packed, recipe: str, weights_sha256: str) -> bytes:
    """The step graph: inputs of `export_graph.step_inputs`, output `out` (B, T, 25)."""
    graph = Graph("step")
    inputs = step_inputs(packed.shape)
    out = step(Network(OnnxOps(graph), packed), _named(inputs))
    return _finished(graph, out, inputs, packed, properties_of(recipe, weights_sha256))


def sampler_model(packed: Packed, way: Way, recipe: str, weights_sha256: str) -> bytes:
    """A whole-sampler graph: inputs of `Way.inputs`, output `out` (B, T, 25) normalised."""
    graph = Graph(f"sampler{way.plan.steps}")
    inputs = way.inputs(packed.shape)
    out = sample(Network(OnnxOps(graph), packed), _named(inputs), way)
    return _finished(graph, out, inputs, packed, properties_of(recipe, weights_sha256))


def operations(data: bytes) -> set[str]:
    """Operations of a model, the ones outside the standard with their domain."""
    import onnx

    return {f"{n.domain}.{n.op_type}".lstrip(".") for n in onnx.load_from_string(data).graph.node}


def _named(inputs: Mapping[str, Any]) -> dict[str, str]:
    return {name: name for name in inputs}


def _finished(
    graph: Graph, out: str, inputs: Mapping[str, Sequence[Any]], packed: Packed, properties: Mapping[str, str]
) -> bytes:
    graph.node("Identity", [out], OUTPUT)
    shape: list[int | str] = ["batch", packed.shape.frames, CHANNELS]
    return graph.model(inputs, {OUTPUT: shape}, properties, opset=OPSET, ir_version=IR_VERSION)
