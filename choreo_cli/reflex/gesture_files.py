"""The files of a gesture detector: checkpoint, ONNX twin, arrays for numpy; all say the same to 1e-5."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.reflex.gesture import LIMIT, RECIPE, Gesture
from choreo_cli.reflex.gesture_held_out import latency_ms
from choreo_cli.reflex.inputs import WIDTH
from choreo_cli.reflex.inputs_onnx import standard_nodes
from choreo_cli.reflex.model_files import model_files
from formats.checkpoint import Checkpoint
from formats.columns import INPUTS, MASKS


def encode_gesture(
    model: Gesture, arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any], created_by: Mapping[str, Any]
) -> list[tuple[str, str, bytes]]:
    """(role, name, bytes) of every file, the card last.

    Args:
        model: The detector.
        arrays: Its weights and statistics, named as in `Shape.shapes`.
        facts: What else the card says.
        created_by: Provenance.
    """
    shape, rules = model.shape, model.rules
    card = {
        "inputs": [c.name for c in INPUTS], "masks": list(MASKS), "classes": list(shape.classes),
        "delay": rules.delay, "hold": rules.hold, "refractory": rules.refractory, "threshold": rules.threshold,
        "latency_ms": latency_ms(rules), "reach": shape.reach, **facts,
    }  # fmt: skip
    arch = {"width": shape.width, "kernel": shape.kernel, "dilations": list(shape.dilations)}
    arch["classes"] = list(shape.classes)
    return model_files(Checkpoint(RECIPE, arch, dict(arrays), card, created_by), partial(onnx_model, model))


def onnx_model(model: Gesture, weights_sha256: str) -> bytes:
    """A model with inputs `x` (n, 11) raw values, NaN = missing, and `mask` (n, 4) of 0 and 1; output `scores` (n, K).

    Row t of the scores speaks of onsets `delay` frames earlier; the frames before the first are taken as missing.
    """
    from choreo_cli.export.onnx import Graph, properties_of

    g = Graph(RECIPE)
    value, measured = standard_nodes(g, model.standard)
    low, high = g.const("low", np.float32(-LIMIT)), g.const("high", np.float32(LIMIT))
    joined = g.node("Concat", [g.node("Clip", [value, low, high], "clipped"), measured], "joined", axis=1)
    turned = g.node("Transpose", [joined], "turned", perm=[1, 0])
    h = g.node("Unsqueeze", [turned, g.const("first_axis", np.array([0], np.int64))], "batch")
    pads = g.const("pads", np.array([0, 0, model.shape.reach, 0, 0, 0], np.int64))
    h = g.node("Pad", [h, pads, "zero"], "padded", mode="constant")
    for k, (taps, bias, dilation) in enumerate(model.layers):
        weight = taps.reshape(model.shape.kernel, -1, taps.shape[1]).transpose(2, 1, 0)
        names = [h, g.const(f"conv{k}_weight", weight), g.const(f"conv{k}_bias", bias)]
        h = g.node("Conv", names, f"conv{k}", dilations=[dilation], kernel_shape=[model.shape.kernel])
        h = g.node("Relu", [h], f"hidden{k}")
    rows = g.node("Transpose", [g.node("Squeeze", [h, "first_axis"], "by_channel")], "rows", perm=[1, 0])
    g.node("Sigmoid", [g.linear(rows, model.head[0].T, model.head[1], "logits")], "scores")
    outputs: dict[str, list[int | str]] = {"scores": ["n", len(model.shape.classes)]}
    return g.model({"x": ["n", WIDTH], "mask": ["n", len(MASKS)]}, outputs, properties_of(RECIPE, weights_sha256))
