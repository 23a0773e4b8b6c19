"""The standardised inputs as ONNX nodes: what `inputs.Standard.apply` does, inside a graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from choreo_cli.reflex.inputs import COLUMN_SLICES, PHASE, WIDTH, Standard, membership

if TYPE_CHECKING:
    from choreo_cli.export.onnx import Graph


def standard_nodes(g: Graph, standard: Standard) -> tuple[str, str]:
    """Add the nodes behind the graph's inputs `x` (n, 11) and `mask` (n, 4).

    The constants `zero` and `one` are there afterwards.

    Args:
        g: The graph.
        standard: Constants of the training split.

    Returns:
        Names of (n, 11) standardised values, 0 for the missing, and (n, 4) one where a modality is measured.
    """
    zero, one = g.const("zero", np.float32(0)), g.const("one", np.float32(1))
    members = membership(COLUMN_SLICES, WIDTH)
    hole = g.node("IsNaN", ["x"], "hole")
    allowed = g.node("MatMul", ["mask", g.const("columns_of", members)], "allowed")
    given = g.node("Where", [hole, zero, allowed], "given")
    turn = np.zeros(WIDTH, np.float32)
    turn[PHASE] = 1
    cycle, half = g.const("cycle", turn), g.const("half_cycle", turn / np.float32(2))
    shifted = g.node("Add", [g.node("Where", [hole, zero, "x"], "filled_x"), half], "shifted")
    whole = g.node("Mul", [g.node("Floor", [shifted], "whole_turns"), cycle], "phase_turns")
    around = g.node("Sub", [g.node("Sub", [shifted, whole], "in_turn"), half], "around_beat")
    less = g.node("Sub", [around, g.const("x_mean", standard.mean)], "less_mean")
    scaled = g.node("Div", [less, g.const("x_std", standard.std)], "scaled_x")
    value = g.node("Mul", [scaled, given], "value")
    count = g.node("MatMul", [given, g.const("modality_of", members.T)], "columns_given")
    return value, g.node("Min", [count, one], "measured")
