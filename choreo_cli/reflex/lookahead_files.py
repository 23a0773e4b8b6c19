"""The files of a look-ahead: checkpoint, ONNX twin, arrays for numpy; they are written only when all agree to 1e-5."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.reflex.lookahead import Lookahead, Shape, inputs_of
from choreo_cli.reflex.model_files import model_files
from formats.checkpoint import Checkpoint
from formats.tensors import Arrays

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

RECIPE = "lookahead"


def encode_lookahead(
    shape: Shape, arrays: Arrays, facts: Mapping[str, Any], created_by: Mapping[str, Any]
) -> list[tuple[str, str, bytes]]:
    """(role, name, bytes) of every file, the card last."""
    from choreo_cli.export.onnx import properties_of
    from choreo_cli.export.onnx_ahead import ahead_model

    network = {k: v for k, v in arrays.items() if k in shape.weights()}

    def onnx(sha: str) -> bytes:
        return ahead_model(network, shape.lags().tolist(), shape.field, properties_of(RECIPE, sha))

    arch = {
        "dim": shape.dim, "channels": shape.channels, "layers": shape.layers, "horizons": list(shape.horizons),
    }  # fmt: skip
    return model_files(Checkpoint(RECIPE, arch, arrays, facts, created_by), onnx)


def prove(model: Lookahead, onnx: bytes, z: F32, index: I64, rate: F32, expected: F32) -> float:
    """Largest difference of the twins from the network's own output on one window.

    Args:
        model: The numpy twin.
        onnx: The ONNX twin.
        z: (field, dim) latents, with `index` and `rate` as in `Lookahead.predict`.
        expected: (H, dim) what the network says.

    Raises:
        DataError: a twin differs by more than 1e-5.
    """
    from choreo_cli.export.parity import difference, parity

    ours = difference(model.predict(z, index, rate)[0], expected, "the look-ahead in numpy and torch")
    return max(ours, parity(onnx, {"x": inputs_of(z, index, rate)[None]}, {"ahead": expected[None]}))
