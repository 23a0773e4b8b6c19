"""Proof that two forms of a model say the same, made when they are written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from choreo_cli.errors import DataError

ATOL = 1e-5


def difference(found: ArrayLike, expected: ArrayLike, what: str, atol: float = ATOL) -> float:
    """Largest absolute difference of two arrays.

    Args:
        found: What one form of a model gave.
        expected: What the other gave.
        what: What is compared, for the message.
        atol: Largest difference that is let through.

    Raises:
        DataError: other shapes, a value that is not finite, or a difference above `atol`.
    """
    a, b = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    if a.shape != b.shape:
        raise DataError(f"{what}: shape {a.shape}, need {b.shape}")
    if not np.isfinite(a).all() or not np.isfinite(b).all():
        raise DataError(f"{what}: values that are not finite")
    largest = float(np.abs(a - b).max()) if a.size else 0.0
    if largest > atol:
        raise DataError(f"{what}: they differ by {largest:.2g}, at most {atol:g} is allowed")
    return largest


def parity(
    onnx_bytes: bytes,
    feeds: Mapping[str, NDArray[Any]],
    expected: Mapping[str, ArrayLike] | ArrayLike,
    atol: float = ATOL,
) -> float:
    """Largest absolute difference between an ONNX model in ONNX Runtime, one thread, and what it has to give.

    Args:
        onnx_bytes: The model.
        feeds: Its inputs.
        expected: Its outputs by name, or its first output.
        atol: Largest difference that is let through.

    Raises:
        DataError: see `difference`.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(onnx_bytes, options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    wanted = expected if isinstance(expected, Mapping) else {names[0]: expected}
    found = dict(zip(wanted, session.run(list(wanted), dict(feeds)), strict=True))
    return max(difference(found[k], v, f"ONNX and torch, output {k!r}", atol) for k, v in wanted.items())
