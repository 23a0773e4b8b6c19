"""The files of a mapper: checkpoint, ONNX twin, arrays for numpy; proved equal to 1e-5 when they are written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.export.onnx import properties_of
from choreo_cli.export.parity import ATOL, difference, parity
from choreo_cli.reflex.mapper import RECIPE, Mapper
from choreo_cli.reflex.model_files import model_files
from formats.checkpoint import Checkpoint
from formats.columns import BLOCKS, CONTROL_NAMES

F32 = NDArray[np.float32]
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

    def onnx(sha: str) -> bytes:
        data = onnx_bytes(model, {**properties_of(RECIPE, sha), "choreo.mode": model.mode})
        prove_onnx(model, data, probe, expected)
        return data

    prove_numpy(model, probe, expected)
    x_dim = model.weights["gru.weight_ih_l0"].shape[1]
    arch = {"x_dim": x_dim, "hidden": model.hidden, "out_dim": len(model.weights["head.bias"])}
    card = {
        **FACTS, "mode": model.mode, "window": model.window, "normalizer": model.normalized,
        "rps_sha256": model.rps_sha256, "parity": ATOL, **facts,
    }  # fmt: skip
    return model_files(Checkpoint(RECIPE, arch, dict(model.weights), card, created_by), onnx)


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
