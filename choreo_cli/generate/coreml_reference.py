"""Run a Core ML program without Core ML: its specification read back and its operations computed in numpy.

What this proves, and what it does not: that the written package, with its weights as they lie in the file, means what
the torch network means. It is our own arithmetic and not Apple's; constants are unpacked by coremltools' own reader, so
a fault in that would pass; it says nothing of how fast anything is, nor of which processor a phone would choose.
Half precision is simulated: every result is rounded to float16, products sum in float32, as GPUs and the neural engine
do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import DataError

LIMITS = (
    "reference executor: our own arithmetic, not Core ML",
    "constants are unpacked by coremltools' reader: a fault there would pass unseen",
    "no latency and no choice of processors can be known from it",
)
F32 = NDArray[np.float32]
Args = dict[str, Any]


def load(file: Path) -> Any:
    """The main function of a package, its weights in it. Raises UnavailableError without coremltools."""
    from choreo_cli.generate.export_coreml import tools

    ct = tools()
    from coremltools.converters.mil.frontend.milproto.load import load as read

    spec = ct.utils.load_spec(str(file))
    weights = file / "Data" / "com.apple.CoreML" / "weights"
    program = read(spec, specification_version=spec.specificationVersion, file_weights_dir=str(weights))
    return program.functions["main"]


class Reference:
    """A program as a callable.

    Args:
        program: See `load`.
        half: Round every result to float16; else float32 throughout.

    Raises:
        DataError: an operation that is not known here.
    """

    def __init__(self, program: Any, *, half: bool) -> None:
        self.half = half
        self.names = list(program.inputs)
        self.outputs = [v.name for v in program.outputs]
        self.constants: dict[str, Any] = {}
        self.steps: list[tuple[Callable[[Args], Any], Any]] = []
        for op in program.operations:
            if op.op_type == "const":
                self.constants[op.outputs[0].name] = op.outputs[0].val
            elif op.op_type == "constexpr_lut_to_dense":
                self.constants[op.outputs[0].name] = np.asarray(op.materialized_val_inference(), np.float32)
            elif op.op_type not in OPERATIONS:
                raise DataError(f"the reference executor does not know {op.op_type!r}")
            else:
                self.steps.append((OPERATIONS[op.op_type], op))

    def __call__(self, inputs: Mapping[str, F32]) -> F32:
        """Inputs by name to the first output. Raises DataError where a shape is not the one the program states."""
        values: dict[str, Any] = {n: np.asarray(inputs[n], np.float32) for n in self.names}
        for run, op in self.steps:
            args = {k: self._value(v, values) for k, v in op.inputs.items()}
            found = run(args)
            for name, result in zip(op.outputs, found if isinstance(found, list) else [found], strict=True):
                if tuple(result.shape) != tuple(name.shape):
                    raise DataError(f"{op.name}: shape {result.shape}, the program states {name.shape}")
                values[name.name] = self._rounded(result)
        return np.asarray(values[self.outputs[0]], np.float32)

    def _rounded(self, value: Any) -> F32:
        if not self.half:
            return np.asarray(value, np.float32)
        with np.errstate(over="ignore"):  # what leaves the range of float16 shows as infinity in the comparison
            return np.asarray(value, np.float16).astype(np.float32)

    def _value(self, told: Any, values: Mapping[str, Any]) -> Any:
        if isinstance(told, list | tuple):
            return [self._value(v, values) for v in told]
        if told.name in values:
            return values[told.name]
        found = self.constants.get(told.name, told.val)
        if isinstance(found, np.ndarray) and found.dtype == np.float16:
            return found.astype(np.float32)
        return found


def _linear(a: Args) -> F32:
    return np.asarray(a["x"] @ a["weight"].T + a["bias"], np.float32)


def _matmul(a: Args) -> F32:
    x = np.swapaxes(a["x"], -1, -2) if a.get("transpose_x") else a["x"]
    y = np.swapaxes(a["y"], -1, -2) if a.get("transpose_y") else a["y"]
    return np.asarray(x @ y, np.float32)


def _split(a: Args) -> list[F32]:
    sizes = a.get("split_sizes")
    if sizes is None:
        return list(np.split(a["x"], int(a["num_splits"]), int(a["axis"])))
    return list(np.split(a["x"], np.cumsum(sizes)[:-1].tolist(), int(a["axis"])))


def _layer_norm(a: Args) -> F32:
    axes = tuple(int(k) for k in a["axes"])
    x = a["x"].astype(np.float64)
    away = x - x.mean(axes, keepdims=True)
    out = away / np.sqrt((away**2).mean(axes, keepdims=True) + float(a["epsilon"]))
    out = out * a["gamma"] if a.get("gamma") is not None else out
    return np.asarray(out + a["beta"] if a.get("beta") is not None else out, np.float32)


def _gelu(a: Args) -> F32:
    if str(a["mode"]) != "TANH_APPROXIMATION":
        raise DataError(f"the reference executor does not know gelu {a['mode']}")
    x = a["x"]
    return np.asarray(0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x))), np.float32)


def _softmax(a: Args) -> F32:
    axis = int(a["axis"])
    e = np.exp(a["x"] - a["x"].max(axis, keepdims=True))
    return np.asarray(e / e.sum(axis, keepdims=True), np.float32)


def _silu(a: Args) -> F32:
    with np.errstate(over="ignore"):
        return np.asarray(a["x"] / (1 + np.exp(-a["x"])), np.float32)


OPERATIONS: dict[str, Callable[[Args], Any]] = {
    "add": lambda a: a["x"] + a["y"],
    "mul": lambda a: a["x"] * a["y"],
    "cast": lambda a: a["x"],
    "concat": lambda a: np.concatenate(a["values"], int(a["axis"])),
    "reshape": lambda a: a["x"].reshape([int(n) for n in a["shape"]]),
    "transpose": lambda a: a["x"].transpose([int(n) for n in a["perm"]]),
    "linear": _linear,
    "matmul": _matmul,
    "split": _split,
    "layer_norm": _layer_norm,
    "gelu": _gelu,
    "softmax": _softmax,
    "silu": _silu,
}
