"""ONNX graphs of a one-layer GRU with a sigmoid head, built from its arrays: over a window, or carrying its state."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from choreo_cli.export.onnx import Graph

F32 = NDArray[np.float32]


def gru_window_model(weights: Mapping[str, F32], properties: Mapping[str, str]) -> bytes:
    """A model with input `z` (batch, frames, x) and output `controls` (batch, out): the last frame, from a zero state.

    Args:
        weights: `gru.weight_ih_l0`... and `head.*` with torch's names and gate order.
        properties: Metadata of the model: recipe, hash of the weights.
    """
    g = Graph("gru_window")
    turned = g.node("Transpose", ["z"], "frames_first", perm=[1, 0, 2])
    _controls(g, _gru(g, turned, weights, "", "state"), weights)
    x_dim, out_dim = weights["gru.weight_ih_l0"].shape[1], len(weights["head.bias"])
    return g.model({"z": ["batch", "frames", x_dim]}, {"controls": ["batch", out_dim]}, properties)


def gru_stream_model(weights: Mapping[str, F32], properties: Mapping[str, str]) -> bytes:
    """A model with inputs `z` (1, 1, x), `h` (1, 1, hidden) and outputs `controls` (1, out), `h_next` (1, 1, hidden).

    Args:
        weights: See `gru_window_model`.
        properties: Metadata of the model.
    """
    g = Graph("gru_stream")
    _controls(g, _gru(g, "z", weights, "h", "h_next"), weights)
    state = [1, 1, weights["gru.weight_hh_l0"].shape[1]]
    inputs = {"z": [1, 1, weights["gru.weight_ih_l0"].shape[1]], "h": state}
    return g.model(inputs, {"controls": [1, len(weights["head.bias"])], "h_next": state}, properties)


def _gru(g: Graph, x: str, weights: Mapping[str, F32], before: str, after: str) -> str:
    """State (1, batch, hidden) after the frames x (frames, batch, x), from the state `before` or zero."""
    from onnx import helper

    names = [
        g.const("w", _swapped(weights["gru.weight_ih_l0"])[None]),
        g.const("r", _swapped(weights["gru.weight_hh_l0"])[None]),
        g.const("b", np.concatenate([_swapped(weights[f"gru.bias_{k}_l0"]) for k in ("ih", "hh")])[None]),
    ]
    inputs = [x, *names, *(["", before] if before else [])]
    hidden = weights["gru.weight_hh_l0"].shape[1]
    # The states of all frames are left out: only the last one is asked for.
    g.nodes.append(helper.make_node("GRU", inputs, ["", after], name="gru", hidden_size=hidden, linear_before_reset=1))
    g.values.add(after)
    return after


def _controls(g: Graph, state: str, weights: Mapping[str, F32]) -> None:
    rows = g.node("Squeeze", [state, g.const("direction", np.array([0], np.int64))], "rows")
    g.node("Sigmoid", [g.linear(rows, weights["head.weight"], weights["head.bias"], "head")], "controls")


def _swapped(gates: F32) -> F32:
    """Torch's gate order r, z, n as ONNX's z, r, h."""
    r, z, n = np.split(gates, 3)
    return np.concatenate([z, r, n])
