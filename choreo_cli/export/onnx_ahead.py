"""ONNX graph of a stack of dilated convolutions over one window, added to a weighted comb of the window's own rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from choreo_cli.export.onnx import Graph

F32 = NDArray[np.float32]


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
    g = Graph("ahead")
    horizons, _, dim = arrays["comb"].shape
    correction = _convolutions(g, arrays)
    z = g.node("Slice", ["x", _ints(g, "dims_from", 0), _ints(g, "dims_to", dim), "time"], "z")
    rows = np.array([[window - 1 - lag for lag in row] for row in lags], np.int64)
    gathered = g.node("Gather", [z, g.const("rows", rows.reshape(-1))], "gathered", axis=1)
    past = g.node("Reshape", [gathered, _ints(g, "comb_shape", 1, *arrays["comb"].shape)], "past")
    weighed = g.node("Mul", [past, g.const("comb", arrays["comb"])], "weighed")
    mixed = g.node("ReduceSum", [weighed, "time"], "mixed", keepdims=0)
    now = g.node("Gather", [z, _ints(g, "newest", window - 1)], "now", axis=1)
    held = g.node("Mul", [now, g.const("last", arrays["last"])], "held")
    g.node("Add", [g.node("Add", [correction, mixed], "with_comb"), held], "ahead")
    columns = arrays["inlet.weight"].shape[1]
    return g.model({"x": [1, window, columns]}, {"ahead": [1, horizons, dim]}, properties)


def _convolutions(g: Graph, arrays: Mapping[str, F32]) -> str:
    """The correction (1, H, dim). Axis 2 is time in the convolutions, the beats of the comb, and a row's columns."""
    g.const("time", np.array([2], np.int64))
    ends = _ints(g, "ends", 2**31)

    def conv(at: str, name: str, out: str, dilation: int = 1) -> str:
        weight = arrays[f"{name}.weight"]
        names = [at, g.const(f"{name}.weight", weight), g.const(f"{name}.bias", arrays[f"{name}.bias"])]
        return g.node("Conv", names, out, kernel_shape=[weight.shape[2]], dilations=[dilation])

    h = conv(g.node("Transpose", ["x"], "channels_first", perm=[0, 2, 1]), "inlet", "inlet")
    for k in range(sum(name.endswith("reach.weight") for name in arrays)):
        lost = (arrays[f"layers.{k}.reach.weight"].shape[2] - 1) * 2**k
        y = g.node("Relu", [conv(h, f"layers.{k}.reach", f"reach{k}", 2**k)], f"active{k}")
        kept = g.node("Slice", [h, _ints(g, f"lost{k}", lost), ends, "time"], f"kept{k}")
        h = g.node("Add", [kept, conv(y, f"layers.{k}.mix", f"mix{k}")], f"layer{k}")
    flat = conv(g.node("Relu", [h], "active"), "head", "flat")
    horizons, _, dim = arrays["comb"].shape
    return g.node("Reshape", [flat, _ints(g, "out_shape", 1, horizons, dim)], "correction")


def _ints(g: Graph, name: str, *values: int) -> str:
    return g.const(name, np.array(values, np.int64))
