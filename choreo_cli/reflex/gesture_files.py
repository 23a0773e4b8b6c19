"""The files of a gesture detector: checkpoint, ONNX twin, arrays for numpy; all say the same to 1e-5."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.reflex.gesture import LIMIT, PHASE, RECIPE, Gesture
from choreo_cli.reflex.gesture_held_out import latency_ms
from formats import tensors
from formats.checkpoint import CARD, WEIGHTS, Checkpoint, encode
from formats.columns import INPUTS, MASKS

if TYPE_CHECKING:
    from choreo_cli.export.onnx_conv import FrameConv

ROLES = {WEIGHTS: "weights", "model.onnx": "model", "model.npz": "model", CARD: "checkpoint"}


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
    from choreo_cli.export.onnx_conv import frame_conv_model

    shape, rules = model.shape, model.rules
    card = {
        "inputs": [c.name for c in INPUTS], "masks": list(MASKS), "classes": list(shape.classes),
        "delay": rules.delay, "hold": rules.hold, "refractory": rules.refractory, "threshold": rules.threshold,
        "latency_ms": latency_ms(rules), "reach": shape.reach, **facts,
    }  # fmt: skip
    arch = {"width": shape.width, "kernel": shape.kernel, "dilations": list(shape.dilations)}
    arch["classes"] = list(shape.classes)
    kept = dict(arrays)
    sha = hashlib.sha256(tensors.encode(kept, {"choreo.recipe": RECIPE})).hexdigest()
    onnx = frame_conv_model(graph_of(model, kept), {"choreo.recipe": RECIPE, "choreo.weights_sha256": sha})
    files = encode(
        Checkpoint(RECIPE, arch, kept, card, created_by), {"model.onnx": onnx, "model.npz": npz_bytes(kept)}
    )
    return [(ROLES[name], name, files[name]) for name in sorted(files, key=lambda n: (n == CARD, n))]


def graph_of(model: Gesture, arrays: Mapping[str, NDArray[Any]]) -> FrameConv:
    """The arrays as the ONNX builder wants them."""
    from choreo_cli.export.onnx_conv import FrameConv

    layers = [(arrays[f"conv{k}.weight"], arrays[f"conv{k}.bias"], d) for k, d in enumerate(model.shape.dilations)]
    head = arrays["head.weight"], arrays["head.bias"]
    return FrameConv(model.mean, model.std, LIMIT, PHASE, len(MASKS), layers, head)


def npz_bytes(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Named arrays as an npz in the order of their names; equal arrays give equal bytes."""
    out = io.BytesIO()
    np.savez(out, **{k: arrays[k] for k in sorted(arrays)})  # type: ignore[arg-type]
    return out.getvalue()
