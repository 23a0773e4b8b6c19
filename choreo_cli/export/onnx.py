"""ONNX models put together from arrays, node by node: nothing is traced, and equal arrays give equal bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

OPSET = 17
IR_VERSION = 8
PRODUCER = "choreo"
METADATA_RECIPE = "choreo.recipe"
METADATA_WEIGHTS = "choreo.weights_sha256"

Shape = Sequence[int | str]


class Graph:
    """Nodes and constants in the order in which they are added; every value has a name of its own.

    Args:
        name: Name of the graph.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.nodes: list[Any] = []
        self.constants: dict[str, NDArray[Any]] = {}
        self.values: set[str] = set()

    def const(self, name: str, value: Any) -> str:
        """Name of a constant array. Raises ValueError when the name is taken."""
        self._claim(name)
        self.constants[name] = np.asarray(value)
        return name

    def node(self, op: str, inputs: Sequence[str], out: str, **attributes: Any) -> str:
        """Add a node with one output and return the output's name. Raises ValueError when the name is taken."""
        from onnx import helper

        self._claim(out)
        self.nodes.append(helper.make_node(op, list(inputs), [out], name=f"{op}_{out}", **attributes))
        return out

    def linear(self, x: str, weight: NDArray[Any], bias: NDArray[Any], out: str) -> str:
        """x W^T + b for x (N, in), weight (out, in), bias (out,)."""
        names = [x, self.const(f"{out}_weight", weight), self.const(f"{out}_bias", bias)]
        return self.node("Gemm", names, out, transB=1)

    def model(
        self,
        inputs: Mapping[str, Shape],
        outputs: Mapping[str, Shape],
        properties: Mapping[str, str],
        *,
        opset: int = OPSET,
        ir_version: int = IR_VERSION,
    ) -> bytes:
        """The checked model as bytes.

        Args:
            inputs: Shape of every float32 input; text names a free dimension.
            outputs: Shape of every float32 output.
            properties: Metadata: recipe, hash of the weights.
            opset, ir_version: Versions of the operations and of the file.

        Raises:
            onnx.checker.ValidationError: the graph is not a valid model; an error of ours.
        """
        import onnx
        from onnx import TensorProto, helper, numpy_helper

        def described(values: Mapping[str, Shape]) -> list[Any]:
            return [helper.make_tensor_value_info(k, TensorProto.FLOAT, list(v)) for k, v in values.items()]

        constants = [numpy_helper.from_array(np.ascontiguousarray(v), k) for k, v in self.constants.items()]
        graph = helper.make_graph(self.nodes, self.name, described(inputs), described(outputs), constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], producer_name=PRODUCER)
        model.ir_version = ir_version
        helper.set_model_props(model, dict(sorted(properties.items())))
        onnx.checker.check_model(model, full_check=True)
        data: bytes = model.SerializeToString(deterministic=True)
        return data

    def _claim(self, name: str) -> None:
        if name in self.values:
            raise ValueError(f"two values of the graph are called {name!r}")
        self.values.add(name)


def properties_of(recipe: str, weights_sha256: str) -> dict[str, str]:
    """Metadata that ties an ONNX model to the checkpoint it was made from."""
    return {METADATA_RECIPE: recipe, METADATA_WEIGHTS: weights_sha256}
