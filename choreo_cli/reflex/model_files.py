"""The files that a trained model of the lane is written as: weights, card, ONNX twin, arrays for numpy."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from formats import tensors
from formats.checkpoint import CARD, WEIGHTS, Checkpoint, encode

ROLES = {WEIGHTS: "weights", "model.onnx": "model", "model.npz": "model", CARD: "checkpoint"}


def model_files(model: Checkpoint, onnx: Callable[[str], bytes]) -> list[tuple[str, str, bytes]]:
    """(role, name, bytes) of every file, the card last; the card names the others by sha256.

    Args:
        model: Weights and everything said of them.
        onnx: Makes the ONNX twin from the sha256 of the weights, which its metadata name.

    Raises:
        FormatError: an array that is not finite.
    """
    from choreo_cli.export.npz import npz_bytes

    arrays = dict(model.arrays)
    sha = hashlib.sha256(tensors.encode(arrays, {"choreo.recipe": model.recipe})).hexdigest()
    files = encode(model, {"model.onnx": onnx(sha), "model.npz": npz_bytes(arrays)})
    return [(ROLES[name], name, files[name]) for name in sorted(files, key=lambda n: (n == CARD, n))]
