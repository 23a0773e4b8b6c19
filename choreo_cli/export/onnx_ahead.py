"""ONNX graph of a stack of dilated convolutions over one window, added to a weighted comb of the window's own rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
OPSET = 17
IR_VERSION = 8


def ahead_model(
    arrays: Mapping[str, F32], lags: Sequence[Sequence[int]], window: int, properties: Mapping[str, str]
) -> bytes:
    """A model with input `x` (1, window, C), output `ahead` (1, H, dim): what follows the window's last row.

    `ahead[h] = head(...)[h] + last[h] * x[-1] + sum_j comb[h, j] * x[-1 - lags[h][j]]`, with the first `dim` columns
    of x. Nodes and initialisers are named by their place, so equal arrays give equal bytes.

    Args:
        arrays: `inlet.*`, `layers.<k>.reach.*`, `layers.<k>.mix.*` (dilation 2^k), `head.*`, `comb` (H, J, dim) and
            `last` (H, dim), named and laid out as in torch.
        lags: (H, J) rows back from the last.
        window: Rows of the input; the convolutions must use them up to one.
        properties: Metadata of the model: recipe, hash of the weights.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes, constants = _nodes(arrays, lags, window)
    horizons, _, dim = arrays["comb"].shape
    graph = helper.make_graph(
        nodes,
        "ahead",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, window, arrays["inlet.weight"].shape[1]])],
        [helper.make_tensor_value_info("ahead", TensorProto.FLOAT, [1, horizons, dim])],
        [numpy_helper.from_array(np.ascontiguousarray(v), k) for k, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="choreo")
    model.ir_version = IR_VERSION
    helper.set_model_props(model, dict(sorted(properties.items())))
    onnx.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _nodes(
    arrays: Mapping[str, F32], lags: Sequence[Sequence[int]], window: int
) -> tuple[list[Any], dict[str, NDArray[Any]]]:
    from onnx import helper

    nodes: list[Any] = []
    horizons, teeth, dim = arrays["comb"].shape
    rows = np.array([[window - 1 - lag for lag in row] for row in lags], np.int64)
    constants: dict[str, NDArray[Any]] = {
        **arrays, "ends": np.array([2**31], np.int64), "time": np.array([2], np.int64),
        "rows": rows.reshape(-1), "newest": np.array([window - 1], np.int64), "beat_axis": np.array([2], np.int64),
        "comb_shape": np.array([1, horizons, teeth, dim], np.int64),
        "out_shape": np.array([1, horizons, dim], np.int64),
        "dims_from": np.array([0], np.int64), "dims_to": np.array([dim], np.int64),
    }  # fmt: skip

    def node(op: str, inputs: list[str], out: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(op, inputs, [out], name=f"{op}_{out}", **attributes))
        return out

    def conv(at: str, name: str, out: str, dilation: int = 1) -> str:
        taps = arrays[f"{name}.weight"].shape[2]
        return node("Conv", [at, f"{name}.weight", f"{name}.bias"], out, kernel_shape=[taps], dilations=[dilation])

    h = conv(node("Transpose", ["x"], "channels_first", perm=[0, 2, 1]), "inlet", "inlet")
    layers = sum(k.endswith("reach.weight") for k in arrays)
    for k in range(layers):
        lost = (arrays[f"layers.{k}.reach.weight"].shape[2] - 1) * 2**k
        constants[f"lost{k}"] = np.array([lost], np.int64)
        y = node("Relu", [conv(h, f"layers.{k}.reach", f"reach{k}", 2**k)], f"active{k}")
        kept = node("Slice", [h, f"lost{k}", "ends", "time"], f"kept{k}")
        h = node("Add", [kept, conv(y, f"layers.{k}.mix", f"mix{k}")], f"layer{k}")
    head = node("Reshape", [conv(node("Relu", [h], "active"), "head", "flat"), "out_shape"], "correction")
    z = node("Slice", ["x", "dims_from", "dims_to", "time"], "z")
    past = node("Reshape", [node("Gather", [z, "rows"], "gathered", axis=1), "comb_shape"], "past")
    mixed = node("ReduceSum", [node("Mul", [past, "comb"], "weighed"), "beat_axis"], "mixed", keepdims=0)
    now = node("Mul", [node("Gather", [z, "newest"], "now", axis=1), "last"], "held")
    node("Add", [node("Add", [head, mixed], "with_comb"), now], "ahead")
    return nodes, constants
