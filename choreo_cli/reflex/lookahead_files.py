"""The files of a look-ahead: checkpoint, ONNX twin, arrays for numpy; they are written only when all agree to 1e-5."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import DataError
from choreo_cli.reflex.lookahead import Lookahead, Shape, inputs_of
from formats import tensors
from formats.checkpoint import CARD, WEIGHTS, Checkpoint, encode
from formats.tensors import Arrays

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

RECIPE = "lookahead"
ROLES = {WEIGHTS: "weights", "model.onnx": "model", "model.npz": "model", CARD: "checkpoint"}
ATOL = 1e-5


def encode_lookahead(
    shape: Shape, arrays: Arrays, facts: Mapping[str, Any], created_by: Mapping[str, Any]
) -> list[tuple[str, str, bytes]]:
    """(role, name, bytes) of every file, the card last."""
    from choreo_cli.export.onnx_ahead import ahead_model

    sha = hashlib.sha256(tensors.encode(arrays, {"choreo.recipe": RECIPE})).hexdigest()
    network = {k: v for k, v in arrays.items() if k in shape.weights()}
    about = {"choreo.recipe": RECIPE, "choreo.weights_sha256": sha}
    onnx = ahead_model(network, shape.lags().tolist(), shape.field, about)
    arch = {
        "dim": shape.dim, "channels": shape.channels, "layers": shape.layers, "horizons": list(shape.horizons),
    }  # fmt: skip
    files = encode(Checkpoint(RECIPE, arch, arrays, facts, created_by), {"model.onnx": onnx, "model.npz": _npz(arrays)})
    return [(ROLES[name], name, files[name]) for name in sorted(files, key=lambda n: (n == CARD, n))]


def prove(model: Lookahead, onnx: bytes, z: F32, index: I64, rate: F32, expected: F32) -> dict[str, float]:
    """Largest difference of the twins from the network's own output on one window.

    Args:
        model: The numpy twin.
        onnx: The ONNX twin.
        z: (field, dim) latents, with `index` and `rate` as in `Lookahead.predict`.
        expected: (H, dim) what the network says.

    Raises:
        DataError: they differ by more than `ATOL` of the output's size.
    """
    scale = ATOL * max(1.0, float(np.abs(expected).max()))
    twins = {"numpy": model.predict(z, index, rate)[0], "onnxruntime": _run(onnx, inputs_of(z, index, rate))}
    found = {name: float(np.abs(np.asarray(said, np.float64) - expected).max()) for name, said in twins.items()}
    for name, value in found.items():
        if not value <= scale:
            raise DataError(f"the {name} twin differs from the network by {value:.2g}", hint="a bug: please report it")
    return found


def _run(onnx: bytes, x: F32) -> F32:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": np.asarray(x[None], np.float32)})[0][0], np.float32)


def _npz(arrays: Arrays) -> bytes:
    out = io.BytesIO()
    np.savez(out, **{k: arrays[k] for k in sorted(arrays)})  # type: ignore[arg-type]
    return out.getvalue()
