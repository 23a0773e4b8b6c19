"""Graphs built from arrays: equal bytes, checked models, honest parity."""

from __future__ import annotations

import io

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from choreo_cli.errors import DataError  # noqa: E402
from choreo_cli.export.npz import npz_bytes  # noqa: E402
from choreo_cli.export.onnx import IR_VERSION, OPSET, Graph, properties_of  # noqa: E402
from choreo_cli.export.parity import difference, parity  # noqa: E402

W = np.arange(6, dtype=np.float32).reshape(2, 3) / 7
B = np.array([0.5, -0.25], np.float32)
X = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)


def model() -> bytes:
    g = Graph("linear")
    g.node("Relu", [g.linear("x", W, B, "sum")], "y")
    return g.model({"x": ["n", 3]}, {"y": ["n", 2]}, properties_of("toy", "ab" * 32))


def want(x: np.ndarray) -> np.ndarray:
    return np.maximum(x @ W.T + B, 0)


def test_a_graph_computes_what_its_arrays_say_for_any_number_of_rows() -> None:
    for n in (1, 5, 0):
        assert parity(model(), {"x": X[:n]}, want(X[:n])) <= 1e-6


def test_equal_arrays_give_equal_bytes_and_the_metadata_name_the_weights() -> None:
    assert model() == model()
    read = onnx.load_from_string(model())
    assert {p.key: p.value for p in read.metadata_props} == {
        "choreo.recipe": "toy",
        "choreo.weights_sha256": "ab" * 32,
    }
    assert read.ir_version == IR_VERSION and read.opset_import[0].version == OPSET >= 17


def test_a_graph_that_is_not_one_is_refused() -> None:
    g = Graph("broken")
    g.node("Relu", ["nowhere"], "y")
    with pytest.raises(Exception, match="nowhere"):
        g.model({"x": ["n", 3]}, {"y": ["n", 3]}, {})


def test_names_are_used_once() -> None:
    g = Graph("twice")
    g.const("a", 1.0)
    with pytest.raises(ValueError, match="'a'"):
        g.node("Relu", ["x"], "a")


def test_parity_raises_above_its_tolerance() -> None:
    off = want(X)
    off[3, 1] += 2e-5
    with pytest.raises(DataError, match="differ by 2e-05, at most 1e-05"):
        parity(model(), {"x": X}, {"y": off})
    assert parity(model(), {"x": X}, {"y": off}, atol=1e-4) == pytest.approx(2e-5, rel=0.1)


def test_differences_of_other_shapes_or_not_finite_are_errors() -> None:
    with pytest.raises(DataError, match="shape"):
        difference(np.zeros(3), np.zeros((3, 1)), "a and b")
    with pytest.raises(DataError, match="not finite"):
        difference(np.array([np.nan]), np.array([np.nan]), "a and b")


def test_npz_bytes_follow_from_the_arrays_alone() -> None:
    first = npz_bytes({"b": B, "a": W})
    assert first == npz_bytes({"a": W.copy(), "b": B.copy()})
    with np.load(io.BytesIO(first), allow_pickle=False) as back:
        assert list(back) == ["a", "b"] and (back["a"] == W).all() and back["b"].dtype == np.float32
