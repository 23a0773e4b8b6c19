"""The motion network as MLX functions: exported with their weights, read again and compared before they are kept."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.generate.export_graph import F32, Network, Packed, step_inputs
from choreo_cli.generate.export_sampler import Way, sample
from choreo_cli.generate.mlx_net import EPS, gelu, load, need_mlx
from choreo_cli.generate.onnx_step import NAMES
from formats.export_card import MLX, MLX_CPU

SUFFIX = ".mlxfn"


class MlxOps:
    """`export_graph.Ops` on MLX arrays."""

    def __init__(self) -> None:
        self.mx = need_mlx()
        self.constants: dict[str, Any] = {}

    def const(self, name: str, value: NDArray[Any]) -> Any:
        if name not in self.constants:
            self.constants[name] = self.mx.array(np.ascontiguousarray(value))
        return self.constants[name]

    def linear(self, x: Any, name: str, weight: F32, bias: F32 | None, frames: int | None) -> Any:
        del frames
        w = self.const(f"{name}.weight", weight).T
        return x @ w if bias is None else self.mx.addmm(self.const(f"{name}.bias", bias), x, w)

    def add(self, a: Any, b: Any) -> Any:
        return a + b

    def mul(self, a: Any, b: Any) -> Any:
        return a * b

    def matmul(self, a: Any, b: Any, *, transpose: bool = False) -> Any:
        return a @ (self.mx.swapaxes(b, -1, -2) if transpose else b)

    def concat(self, parts: Sequence[Any], axis: int) -> Any:
        return self.mx.concatenate(list(parts), axis)

    def halves(self, x: Any) -> tuple[Any, Any]:
        a, b = self.mx.split(x, 2, 0)
        return a, b

    def split(self, x: Any, sizes: Sequence[int], axis: int) -> list[Any]:
        return list(self.mx.split(x, np.cumsum(sizes[:-1]).tolist(), axis))

    def reshape(self, x: Any, shape: Sequence[int]) -> Any:
        return self.mx.reshape(x, list(shape))

    def transpose(self, x: Any, perm: Sequence[int]) -> Any:
        return self.mx.transpose(x, list(perm))

    def softmax(self, x: Any) -> Any:
        return self.mx.softmax(x, -1)

    def norm(self, x: Any, width: int) -> Any:
        return self.mx.fast.layer_norm(x, None, None, EPS)

    def gelu(self, x: Any) -> Any:
        return gelu(x)

    def silu(self, x: Any) -> Any:
        return x * self.mx.sigmoid(x)


def status() -> str:
    """Words for what MLX has computed here: on its GPU on a Mac, on its CPU part elsewhere."""
    return MLX if sys.platform == "darwin" else MLX_CPU


def write_step(file: Path, packed: Packed, arrays: Mapping[str, F32]) -> None:
    """The network itself, for one clip and for two (guidance)."""
    mx = need_mlx()
    net = load(packed.shape, arrays)
    shapes = step_inputs(packed.shape)
    names = [n for n in NAMES if n in shapes]

    def forward(*given: Any) -> Any:
        told = dict(zip(names, given, strict=True))
        return net(*(told.get(n) for n in NAMES))

    with mx.exporter(str(file), forward) as export:
        for batch in (1, 2):
            export(*(mx.zeros([batch, *shapes[n][1:]]) for n in names))


def write_sampler(file: Path, packed: Packed, way: Way) -> None:
    """The whole sampler for one clip."""
    mx = need_mlx()
    shapes = way.inputs(packed.shape, 1)

    def whole(*given: Any) -> Any:
        return sample(Network(MlxOps(), packed), dict(zip(shapes, given, strict=True)), way)

    mx.export_function(str(file), whole, *(mx.zeros(s) for s in shapes.values()))


def runner(file: Path, names: Sequence[str]) -> Any:
    """A written function as a callable on inputs by name."""
    mx = need_mlx()
    call = mx.import_function(str(file))

    def run(inputs: Mapping[str, F32]) -> F32:
        found = call(*(mx.array(np.ascontiguousarray(inputs[n], np.float32)) for n in names))
        out = found[0] if isinstance(found, list | tuple) else found
        return np.array(out, np.float32)

    return run
