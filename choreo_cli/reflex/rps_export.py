"""The files of an RPS checkpoint: weights, card, ONNX and npz twins."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.reflex.inputs import BLOCK_SLICES, COLUMN_SLICES, LATENT, MODES, WIDTH, membership
from choreo_cli.reflex.inputs_onnx import standard_nodes
from choreo_cli.reflex.normalizer import CLAMP
from choreo_cli.reflex.rps import RECIPE, Rps, arch
from formats import checkpoint, tensors

F32 = NDArray[np.float32]


def onnx_model(rps: Rps, weights_sha256: str) -> bytes:
    """A model with inputs `x` (n, 11) raw values, NaN = missing, and `mask` (n, 4) of 0 and 1; outputs `z` (n, 104)
    latents and `z_normalised` (n, 104), what the mapper takes.
    """
    from choreo_cli.export.onnx import Graph, Shape, properties_of

    g = Graph("rps")
    g.const("columns", np.array([1], np.int64))
    value, measured = _inputs(g, rps)
    encoded = g.node("Mul", [g.node("Concat", _encoders(g, rps, value), "all_blocks", axis=1), measured], "encoded")
    named = {"translators.weight": rps.translators.weight.T, "translators.bias": rps.translators.bias}
    translators = [g.const(name, value) for name, value in named.items()]
    absent = g.node("Sub", ["one", measured], "absent")
    predicted = g.node("Mul", [_translated(g, encoded, translators, "predicted"), absent], "missing_blocks")
    filled = g.node("Add", [encoded, predicted], "filled")
    alpha = np.float32(rps.alpha)
    kept = g.node("Mul", [filled, g.const("keep", np.float32(1) - alpha)], "kept")
    moved = g.node("Mul", [_translated(g, filled, translators, "agreed"), g.const("alpha", alpha)], "moved")
    g.node("Add", [kept, moved], "z")
    norm = rps.normalizer
    less = g.node("Sub", ["z", g.const("latent_mean", norm.mean.astype(np.float32))], "centred")
    scaled = g.node("Mul", [less, g.const("latent_scale", (1 / norm.std).astype(np.float32))], "scaled")
    limits = [g.const("low", np.float32(-CLAMP)), g.const("high", np.float32(CLAMP))]
    g.node("Clip", [scaled, *limits], "z_normalised")
    out: dict[str, Shape] = {"z": ["n", LATENT], "z_normalised": ["n", LATENT]}
    return g.model({"x": ["n", WIDTH], "mask": ["n", len(rps.seen)]}, out, properties_of(RECIPE, weights_sha256))


def _encoders(g: Any, rps: Rps, value: str) -> list[str]:
    """The four blocks (n, width): encoders apart, because as one matrix they are nine tenths zeros."""
    found = []
    width = len(rps.hidden[0]) // len(MODES)
    for at, m in enumerate(MODES):
        columns, rows, units = COLUMN_SLICES[m], BLOCK_SLICES[m], slice(at * width, (at + 1) * width)
        ends = [g.const(f"{m}.{k}", np.array([v], np.int64)) for k, v in _limits(columns).items()]
        own = g.node("Slice", [value, *ends, "columns"], f"{m}.values")
        first = g.linear(own, rps.hidden[0][units, columns], rps.hidden[1][units], f"{m}.hidden_sum")
        hidden = g.node("Relu", [first], f"{m}.hidden")
        found.append(g.linear(hidden, rps.out[0][rows, units], rps.out[1][rows], f"{m}.block"))
    return found


def _limits(columns: slice) -> dict[str, int]:
    return {"first": columns.start, "after": columns.stop}


def _translated(g: Any, z: str, translators: list[str], out: str) -> str:
    return str(g.node("Add", [g.node("MatMul", [z, translators[0]], f"{out}.sum"), translators[1]], out))


def _inputs(g: Any, rps: Rps) -> tuple[str, str]:
    """Standardised values (n, 11) with 0 for the missing, and (n, 104) one in the blocks of measured modalities."""
    value, given = standard_nodes(g, rps.standard)
    some = g.node("Mul", [given, g.const("seen", rps.seen.astype(np.float32))], "some_seen")
    return value, g.node(
        "MatMul", [some, g.const("modality_of_latent", membership(BLOCK_SLICES, LATENT))], "blocks_measured"
    )


def checkpoint_files(
    arrays: Mapping[str, NDArray[Any]],
    facts: Mapping[str, Any],
    created_by: Mapping[str, Any],
    *,
    hidden: int,
    alpha: float,
) -> tuple[dict[str, bytes], Rps]:
    """The files of a checkpoint by name, the card last, and its numpy twin.

    Args:
        arrays: Every array of `rps.shapes`.
        facts: What a user of the model must know.
        created_by: Provenance.
        hidden: Hidden units of each encoder.
        alpha: Step of the prox map.

    Raises:
        FormatError: an array is missing, has another shape or is not finite.
    """
    from choreo_cli.export.npz import npz_bytes

    model = checkpoint.Checkpoint(RECIPE, arch(hidden, alpha), dict(arrays), dict(facts), dict(created_by))
    weights = tensors.encode(model.arrays, {"choreo.recipe": RECIPE})
    sha = hashlib.sha256(weights).hexdigest()
    rps = replace(Rps.of(model), sha256=sha)
    files = checkpoint.encode(model, {"model.onnx": onnx_model(rps, sha), "model.npz": npz_bytes(arrays)})
    assert files[checkpoint.WEIGHTS] == weights
    return files, rps
