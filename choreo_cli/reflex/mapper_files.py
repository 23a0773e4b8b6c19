"""The files of a mapper: checkpoint, ONNX twin, arrays for numpy; proved equal to 1e-5 when they are written."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.export.npz import npz_bytes
from choreo_cli.export.onnx import properties_of
from choreo_cli.export.parity import ATOL, difference, parity
from choreo_cli.reflex.mapper import RECIPE, Mapper
from formats import tensors
from formats.checkpoint import CARD, WEIGHTS, Checkpoint, encode
from formats.columns import BLOCKS, CONTROL_NAMES

F32 = NDArray[np.float32]
ROLES = {WEIGHTS: "weights", "model.onnx": "model", "model.npz": "model", CARD: "checkpoint"}
STREAM_PROBE = 8
FACTS = {"controls": list(CONTROL_NAMES), "blocks": dict(BLOCKS), "range": [0.0, 1.0]}


def encode_mapper(
    model: Mapper, facts: Mapping[str, Any], created_by: Mapping[str, Any], probe: F32, expected: F32
) -> list[tuple[str, str, bytes]]:
    """(role, name, bytes) of every file, the card last.

    Args:
        model: The mapper.
        facts: What the card says beside mode, window, normaliser and M1.
        created_by: Provenance.
        probe: (T, 104) latents that the twins are compared on; T is the window in window mode.
        expected: What the trained network makes of them: (5,) at the end of the window, or (T, 5) with `stream`.

    Raises:
        DataError: a twin says something else than the network.
    """
    sha = hashlib.sha256(tensors.encode(dict(model.weights), {"choreo.recipe": RECIPE})).hexdigest()
    onnx = onnx_bytes(model, {**properties_of(RECIPE, sha), "choreo.mode": model.mode})
    prove_numpy(model, probe, expected)
    prove_onnx(model, onnx, probe, expected)
    x_dim = model.weights["gru.weight_ih_l0"].shape[1]
    arch = {"x_dim": x_dim, "hidden": model.hidden, "out_dim": len(model.weights["head.bias"])}
    card = {
        **FACTS, "mode": model.mode, "window": model.window, "normalizer": model.normalized,
        "rps_sha256": model.rps_sha256, "parity": ATOL, **facts,
    }  # fmt: skip
    found = Checkpoint(RECIPE, arch, dict(model.weights), card, created_by)
    files = encode(found, {"model.onnx": onnx, "model.npz": npz_bytes(model.weights)})
    return [(ROLES[name], name, files[name]) for name in sorted(files, key=lambda n: (n == CARD, n))]


def onnx_bytes(model: Mapper, properties: Mapping[str, str]) -> bytes:
    """The ONNX twin in the mode the mapper was trained for."""
    from choreo_cli.export.onnx_gru import gru_stream_model, gru_window_model

    build = gru_window_model if model.mode == "window" else gru_stream_model
    return build(model.weights, properties)


def prove_numpy(model: Mapper, probe: F32, expected: F32) -> float:
    """Largest difference of the numpy twin, whole and frame by frame. Raises DataError above 1e-5."""
    live, wanted = model.stepper(), np.atleast_2d(expected)
    stepped = np.stack([live.step(row) for row in probe])
    whole = difference(model.controls(probe)[-len(wanted) :], wanted, "numpy and torch")
    return max(whole, difference(stepped[-len(wanted) :], wanted, "numpy, frame by frame, and torch"))


def prove_onnx(model: Mapper, data: bytes, probe: F32, expected: F32) -> float:
    """Largest difference of the ONNX twin in ONNX Runtime. Raises DataError above 1e-5."""
    if model.mode == "window":
        return parity(data, {"z": probe[None]}, {"controls": expected[None]})
    # The twin starts each frame from the state of the numpy twin: a difference cannot add up unseen.
    h, worst = np.zeros(model.hidden, np.float32), 0.0
    for row, wanted in zip(probe[:STREAM_PROBE], expected, strict=False):
        after = model.advance(model.project(row), h)
        feeds = {"z": row[None, None], "h": h[None, None]}
        worst = max(worst, parity(data, feeds, {"controls": wanted[None], "h_next": after[None, None]}))
        h = after
    return worst
