"""The files of a reward: checkpoint, ONNX twin, arrays for numpy."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.reflex.clips import FEATURES
from choreo_cli.reflex.model_files import model_files
from choreo_cli.reflex.reward import LIMIT, RECIPE
from formats.checkpoint import Checkpoint


def encode_reward(
    arrays: Mapping[str, NDArray[Any]], hidden: int, facts: Mapping[str, Any], created_by: Mapping[str, Any]
) -> list[tuple[str, str, bytes]]:
    """(role, name, bytes) of every file, the card last.

    Args:
        arrays: Weights and statistics, named as in `reward.shapes`.
        hidden: Units of each hidden layer.
        facts: What a user of the model must know.
        created_by: Provenance.
    """
    arch = {"hidden": hidden, "features": list(FEATURES)}
    model = Checkpoint(RECIPE, arch, dict(arrays), dict(facts), dict(created_by))
    return model_files(model, partial(onnx_model, arrays))


def onnx_model(arrays: Mapping[str, NDArray[Any]], weights_sha256: str) -> bytes:
    """A model with input `features` (n, F), NaN = unknown (`clips.describe`), and output `score` (n,)."""
    from choreo_cli.export.onnx import Graph, properties_of

    g = Graph(RECIPE)
    zero = g.const("zero", np.float32(0))
    less = g.node("Sub", ["features", g.const("mean", arrays["mean"])], "less")
    scaled = g.node("Div", [less, g.const("std", arrays["std"])], "scaled")
    known = g.node("Where", [g.node("IsNaN", ["features"], "unknown"), zero, scaled], "known")
    limits = [g.const("low", np.float32(-LIMIT)), g.const("high", np.float32(LIMIT))]
    h = g.node("Clip", [known, *limits], "clipped")
    for name in ("first", "second"):
        h = g.node("Relu", [g.linear(h, arrays[f"{name}.weight"], arrays[f"{name}.bias"], f"{name}_sum")], name)
    last = g.linear(h, arrays["last.weight"], np.zeros(1, np.float32), "column")
    g.node("Squeeze", [last, g.const("second_axis", np.array([1], np.int64))], "score")
    outputs: dict[str, list[int | str]] = {"score": ["n"]}
    return g.model({"features": ["n", len(FEATURES)]}, outputs, properties_of(RECIPE, weights_sha256))
