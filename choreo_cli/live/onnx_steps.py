"""The two models in ONNX Runtime for one frame at a time: one thread that sleeps when it has nothing to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import UnavailableError
from choreo_cli.reflex.inputs import LATENT, WIDTH
from choreo_cli.reflex.mapper import Mapper
from formats.columns import CONTROL_NAMES, MODALITIES
from formats.errors import FormatError

F32 = NDArray[np.float32]
Bool = NDArray[np.bool_]
TWIN = "model.onnx"


def session(folder: Path, sha256: str) -> Any:
    """An inference session over the ONNX twin in a checkpoint's folder.

    Args:
        folder: The checkpoint.
        sha256: What its card says of the file.

    Raises:
        UnavailableError: onnxruntime is not installed.
        FormatError: no such file, or not the one the card names.
    """
    import hashlib

    try:
        import onnxruntime
    except ImportError:
        hint = "pip install 'choreo[live]', or choose the engine numpy"
        raise UnavailableError("the engine onnx needs onnxruntime", hint=hint) from None
    file = folder / TWIN
    try:
        data = file.read_bytes()
    except OSError:
        raise FormatError("missing from the checkpoint", file=file, hint="choose the engine numpy") from None
    if hashlib.sha256(data).hexdigest() != sha256:
        raise FormatError("not the model that model.json names: damaged or changed", file=file)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


class OnnxRps:
    """M1 and M2 for one frame; see `live.fused.FusedRps`."""

    def __init__(self, running: Any, normalized: bool = True) -> None:
        self._run, self.normalized = running.run, normalized
        self._names = ["z_normalised"] if normalized else ["z_normalised", "z"]
        self._x, self._mask = np.zeros((1, WIDTH), np.float32), np.zeros((1, len(MODALITIES)), np.float32)
        self._feeds = {"x": self._x, "mask": self._mask}
        self._finite = np.zeros(WIDTH, bool)

    def step(self, x: F32, mask: Bool) -> tuple[F32, F32]:
        """Normalised latents (104,) of one frame, and what the mapper is fed."""
        self._x[0] = x
        np.isinf(x, out=self._finite)
        np.copyto(self._x[0], np.nan, where=self._finite)
        self._mask[0] = mask
        found = self._run(self._names, self._feeds)
        return found[0][0], found[-1][0]


class OnnxWindow:
    """M3 in window mode, the whole window run anew; see `live.fused.FusedWindow`."""

    def __init__(self, running: Any, mapper: Mapper) -> None:
        self._run, self._size, self._seen = running.run, mapper.window, 0
        # Every frame lies in it twice, one window apart: the newest window is always one piece.
        self._ring = np.zeros((1, 2 * mapper.window, LATENT), np.float32)
        self._none = np.full(len(CONTROL_NAMES), np.nan, np.float32)

    def reset(self) -> None:
        """Start afresh, as after a gap."""
        self._seen = 0

    def step(self, z: F32) -> F32:
        """Controls (5,) of the window that ends with these latents (104,)."""
        if not np.isfinite(z.dot(z)):
            return self._none
        at = self._seen % self._size
        self._ring[0, at] = self._ring[0, at + self._size] = z
        self._seen += 1
        end = at + self._size + 1
        window = self._ring[:, end - min(self._seen, self._size) : end]
        found: F32 = self._run(None, {"z": window})[0][0]
        return found


class OnnxStream:
    """M3 in stream mode; see `live.fused.FusedStream`."""

    def __init__(self, running: Any, mapper: Mapper) -> None:
        self._run = running.run
        self._start = np.zeros((1, 1, mapper.hidden), np.float32)
        self._z, self._h = np.zeros((1, 1, LATENT), np.float32), self._start
        self._none = np.full(len(CONTROL_NAMES), np.nan, np.float32)

    def reset(self) -> None:
        """Start afresh, as after a gap."""
        self._h = self._start

    def step(self, z: F32) -> F32:
        """Controls (5,) after one more frame of latents (104,)."""
        if not np.isfinite(z.dot(z)):
            return self._none
        self._z[0, 0] = z
        y, self._h = self._run(["controls", "h_next"], {"z": self._z, "h": self._h})
        found: F32 = y[0]
        return found
