"""An exported ONNX model as a callable on arrays: the step with the network's own inputs, or a whole sampler."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import DataError, UnavailableError
from formats import export_card
from formats.errors import FormatError
from formats.export_card import ExportCard

F32 = NDArray[np.float32]
NAMES = ("x", "time", "audio", "known", "mask", "text", "task", "extra")
ONNX_LINE = "pip install 'choreo[onnx]'"


def session(data: bytes, threads: int = 1) -> Any:
    """An ONNX Runtime session on the CPU. Raises UnavailableError without ONNX Runtime."""
    try:
        import onnxruntime
    except (ImportError, OSError) as e:
        raise UnavailableError(f"an ONNX model needs onnxruntime ({e})", hint=ONNX_LINE) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    # Between two steps a sampler adds and multiplies: threads that spin meanwhile take its core.
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if threads == 1 else "0")
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def need_onnx() -> None:
    """Raise UnavailableError unless ONNX models can be written here."""
    try:
        import onnx  # noqa: F401
    except (ImportError, OSError) as e:
        raise UnavailableError(f"ONNX models are written by onnx ({e})", hint=ONNX_LINE) from None


def runner(data: bytes, threads: int = 1) -> Any:
    """Inputs by name to the first output."""
    opened = session(data, threads)
    asked = [i.name for i in opened.get_inputs()]

    def run(inputs: Mapping[str, F32]) -> F32:
        found: F32 = opened.run(None, {k: np.ascontiguousarray(inputs[k], np.float32) for k in asked})[0]
        return found

    return run


class OnnxGraph:
    """One graph of an export, its file proved by the sidecar.

    Args:
        folder: What `choreo export onnx` has written.
        name: `step`, `sampler1`...
        threads: Threads of ONNX Runtime.

    Raises:
        FormatError: no export, another format, no such graph, or a file that is not the one the sidecar names.
        UnavailableError: ONNX Runtime is missing.
    """

    def __init__(self, folder: str | Path, name: str, *, threads: int = 1) -> None:
        self.folder = Path(folder)
        self.card: ExportCard = export_card.read(self.folder)
        if self.card.format != "onnx":
            raise FormatError(
                f"an export for {self.card.format}, need onnx", file=self.folder, hint="choreo export onnx MODEL -o DIR"
            )
        try:
            self.graph = self.card.graph(name)
        except KeyError:
            have = ", ".join(g.name for g in self.card.graphs)
            raise FormatError(f"no graph {name!r}", file=self.folder, hint=f"it has {have}") from None
        file = self.folder / self.graph.path
        try:
            data = file.read_bytes()
        except FileNotFoundError:
            raise FormatError("missing from the export", file=file) from None
        self.sha256 = hashlib.sha256(data).hexdigest()
        if self.sha256 != self.card.files.get(self.graph.path):
            raise FormatError("not the graph that model.json names: damaged or changed", file=file)
        self._run = runner(data, threads)
        self.frames = int(self.graph.outputs["out"][1])

    def run(self, inputs: Mapping[str, F32]) -> F32:
        """Inputs by name to the output (B, T, 25).

        Raises:
            DataError: a missing input, or one of another shape.
        """
        batch = None
        for name, shape in self.graph.inputs.items():
            if name not in inputs:
                raise DataError(f"{self.graph.name} needs {name!r}")
            found = np.shape(inputs[name])
            if len(found) != len(shape) or any(
                isinstance(n, int) and n != m for n, m in zip(shape, found, strict=True)
            ):
                wanted = " x ".join(str(n) for n in shape)
                hint = f"this graph takes {self.frames} frames" if shape[1:2] == [self.frames] else ""
                raise DataError(f"{name} of shape {found}, need {wanted}", hint=hint)
            if shape[0] == "batch":
                batch = found[0] if batch is None else batch
                if found[0] != batch:
                    raise DataError(f"{name} for {found[0]} clips, others for {batch}")
        out: F32 = self._run(inputs)
        return out


def _fits(found: tuple[int, ...], shape: Sequence[int | str]) -> bool:
    return len(found) == len(shape) and all(n in (m, "batch") for n, m in zip(shape, found, strict=True))


class OnnxStep(OnnxGraph):
    """The step graph with the inputs of `dit_torch.MotionDiT.forward`, in its order; what it does not have is left out.

    Args:
        folder: What `choreo export onnx` has written.
        threads: Threads of ONNX Runtime.
    """

    def __init__(self, folder: str | Path, *, threads: int = 1) -> None:
        super().__init__(folder, "step", threads=threads)

    def __call__(self, *inputs: F32) -> F32:
        return self.run(dict(zip(NAMES, inputs, strict=True)))
