"""ONNX graph of a causal stack of dilated convolutions over frames with missing values, built from its arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
OPSET = 17
IR_VERSION = 8


@dataclass(frozen=True, slots=True)
class FrameConv:
    """A convolutional scorer of frames.

    Args:
        mean: (C,) what is subtracted.
        std: (C,) what is divided by.
        limit: Standardised values are clipped to +- this.
        circular: Column that holds a phase in cycles, moved to -.5 .. .5; None for none.
        masks: Mask columns that are laid beside the values.
        layers: (weight (out, in, taps), bias (out,), dilation) of every hidden layer, ReLU after each.
        head: (weight (K, in), bias (K,)), a logistic function after it.
    """

    mean: F32
    std: F32
    limit: float
    circular: int | None
    masks: int
    layers: Sequence[tuple[F32, F32, int]]
    head: tuple[F32, F32]


def frame_conv_model(net: FrameConv, properties: Mapping[str, str]) -> bytes:
    """A model with inputs `frames` (N, C) float32 (NaN = missing) and `mask` (N, M), output `scores` (N, K).

    Nodes and initialisers are named by their place, so equal arrays give equal bytes.

    Args:
        net: The network.
        properties: Metadata of the model: recipe, hash of the weights.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    made = _nodes(net)
    constants = [numpy_helper.from_array(np.asarray(v), k) for k, v in made.constants.items()]
    columns = len(net.mean)
    graph = helper.make_graph(
        made.nodes,
        "frame_conv",
        [
            helper.make_tensor_value_info("frames", TensorProto.FLOAT, ["n", columns]),
            helper.make_tensor_value_info("mask", TensorProto.FLOAT, ["n", net.masks]),
        ],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", len(net.head[1])])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="choreo")
    model.ir_version = IR_VERSION
    helper.set_model_props(model, dict(sorted(properties.items())))
    onnx.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


class _Build:
    """Nodes in order, and the constants they name."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}

    def const(self, name: str, value: Any) -> str:
        self.constants[name] = value
        return name

    def node(self, op: str, inputs: list[str], out: str, **attributes: Any) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(op, inputs, [out], name=f"{op}_{out}", **attributes))
        return out


def _nodes(net: FrameConv) -> _Build:
    g = _Build()
    values = "frames"
    if net.circular is not None:
        values = _unwrapped(g, net.circular, len(net.mean))
    scaled = g.node("Div", [g.node("Sub", [values, g.const("mean", net.mean)], "less"), g.const("std", net.std)], "z")
    missing = g.node("IsNaN", ["frames"], "missing")
    filled = g.node("Where", [missing, g.const("zero", np.float32(0)), scaled], "filled")
    low, high = g.const("low", np.float32(-net.limit)), g.const("high", np.float32(net.limit))
    joined = g.node("Concat", [g.node("Clip", [filled, low, high], "clipped"), "mask"], "joined", axis=1)
    turned = g.node("Transpose", [joined], "turned", perm=[1, 0])
    h = g.node("Unsqueeze", [turned, g.const("first_axis", np.array([0], np.int64))], "batch")
    reach = sum((w.shape[2] - 1) * d for w, _, d in net.layers)
    pads = g.const("pads", np.array([0, 0, reach, 0, 0, 0], np.int64))
    h = g.node("Pad", [h, pads, "zero"], "padded", mode="constant")
    for k, (weight, bias, dilation) in enumerate(net.layers):
        w, b = g.const(f"conv{k}_weight", weight), g.const(f"conv{k}_bias", bias)
        h = g.node("Conv", [h, w, b], f"conv{k}", dilations=[dilation], kernel_shape=[weight.shape[2]])
        h = g.node("Relu", [h], f"hidden{k}")
    w, b = g.const("head_weight", net.head[0][:, :, None]), g.const("head_bias", net.head[1])
    h = g.node("Sigmoid", [g.node("Conv", [h, w, b], "logits", kernel_shape=[1])], "odds")
    h = g.node("Squeeze", [h, "first_axis"], "rows")
    g.node("Transpose", [h], "scores", perm=[1, 0])
    return g


def _unwrapped(g: _Build, column: int, columns: int) -> str:
    """The frames with one phase column taken from 0..1 to -.5...5; the others pass through unchanged."""
    is_phase = np.zeros(columns, bool)
    is_phase[column] = True
    half = g.const("half", np.float32(0.5))
    moved = g.node("Mod", [g.node("Add", ["frames", half], "ahead"), g.const("one", np.float32(1))], "turn", fmod=1)
    return g.node(
        "Where", [g.const("is_phase", is_phase), g.node("Sub", [moved, half], "around"), "frames"], "unwrapped"
    )
