"""Curves: rows that can be drawn alone, the ranges and sizes of the four families, one writing of each equation."""

from __future__ import annotations

import ast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from choreo_cli.trajectory import curves
from choreo_cli.trajectory.curves import FAMILIES, PARABOLIC, PARAMETERS, RANGES, SHOWN, TIMES
from choreo_cli.trajectory.draws import normals, uniforms


@given(seed=st.integers(0, 2**40), first=st.integers(0, 10**9), at=st.integers(0, 20), per_row=st.integers(1, 60))
def test_a_row_is_the_same_whoever_draws_it(seed: int, first: int, at: int, per_row: int) -> None:
    many = uniforms(seed, "s", first, 21, per_row)
    assert np.array_equal(uniforms(seed, "s", first + at, 1, per_row)[0], many[at])
    assert ((many >= 0) & (many < 1)).all()


def test_streams_and_seeds_differ() -> None:
    a, b, c = uniforms(0, "a", 0, 50, 4), uniforms(0, "b", 0, 50, 4), uniforms(1, "a", 0, 50, 4)
    assert not np.isin(a, b).any()
    assert not np.isin(a, c).any()


def test_a_negative_seed_or_row_is_refused() -> None:
    for bad in ({"seed": -1}, {"first": -1}, {"rows": -1}, {"per_row": 0}):
        with pytest.raises(ValueError, match="none may be negative"):
            uniforms(**{"seed": 0, "stream": "s", "first": 0, "rows": 1, "per_row": 1, **bad})  # type: ignore[arg-type]


def test_normals_are_normal_and_finite() -> None:
    z = normals(uniforms(3, "z", 0, 5000, 8))
    assert abs(z.mean()) < 4 / np.sqrt(z.size)
    assert abs(z.std() - 1) < 0.02
    assert np.isfinite(normals(np.array([0.0, 1 - 2.0**-53]))).all()


def test_numbers_stay_in_their_ranges_and_others_are_zero() -> None:
    found = curves.draw(42, 0, 8000)
    assert np.bincount(found.family).tolist() == [2000] * 4
    for label, ranges in RANGES.items():
        mine = found.parameters[found.family == label]
        for column, name in enumerate(PARAMETERS):
            lo, hi = ranges.get(name, (0.0, 0.0))
            assert mine[:, column].min() >= lo
            assert mine[:, column].max() <= hi
            assert np.ptp(mine[:, column]) >= 0.95 * (hi - lo), "the range is filled"


def test_rotations_are_rotations_and_parabolas_stay_upright() -> None:
    r = curves.draw(1, 0, 400).rotation
    assert np.allclose(r @ r.transpose(0, 2, 1), np.eye(3), atol=1e-12)
    assert np.allclose(np.linalg.det(r), 1)
    assert np.allclose(r[PARABOLIC::4, :, 2], (0, 0, 1))


def test_sizes_are_the_published_ones() -> None:
    """Diagonals of the box of the 16 shown points, trajectory.md section 1, n = 8,000."""
    found = curves.draw(7, 0, 8000)
    shown = curves.points(found)[:, :SHOWN]
    diagonal = np.linalg.norm(np.ptp(shown, axis=1), axis=-1)
    assert abs(diagonal.mean() - 1.40) < 0.02
    wanted = (0.95, 1.59, 1.81, 1.26)
    assert np.allclose([diagonal[found.family == k].mean() for k in range(4)], wanted, atol=0.04)


def test_gravity_of_a_parabola_is_its_reported_acceleration() -> None:
    found = curves.draw(2, 0, 40)
    fine = np.linspace(0, 1, 101)
    z = curves.points(found, fine)[PARABOLIC::4, :, 2]
    bend = np.diff(z, 2, axis=1) * 100**2
    told = np.array([r["acceleration"] for r in curves.reported(found) if "acceleration" in r])
    assert np.allclose(bend, -told[:, None], rtol=1e-6)
    speed = np.linalg.norm(np.diff(curves.points(found, np.array([0, 1e-7])), axis=1)[:, 0], axis=-1) / 1e-7
    assert np.allclose(
        speed[PARABOLIC::4], [r["start_speed"] for r in curves.reported(found) if "start_speed" in r], rtol=1e-5
    )


def test_the_canonical_form_is_the_curve() -> None:
    found = curves.draw(5, 0, 200)
    places = curves.points(found)
    for row in range(len(found)):
        form = curves.canonical(found, row)
        assert np.abs(form.at(TIMES) - places[row]).max() < 1e-12
        assert form.omega > 0 or FAMILIES[form.family] in ("linear", "parabolic")


def test_the_equation_says_the_curve() -> None:
    found = curves.draw(6, 0, 80)
    places = curves.points(found)
    for row in range(len(found)):
        text = curves.equation(curves.canonical(found, row), digits=6)
        assert [part.split(" = ")[0] for part in text.split("; ")] == ["x", "y", "z"]
        for axis, part in enumerate(text.split("; ")):
            value = np.array([_value(ast.parse(part.split(" = ")[1], mode="eval").body, t) for t in TIMES])
            assert np.abs(value - places[row, :, axis]).max() < 1e-5


def _value(node: ast.expr, t: float) -> float:
    match node:
        case ast.Constant(value=float() | int() as v):
            return float(v)
        case ast.Name(id="t"):
            return t
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            return -_value(inner, t)
        case ast.BinOp(left=a, op=op, right=b):
            x, y = _value(a, t), _value(b, t)
            return {"Add": x + y, "Sub": x - y, "Mult": x * y, "Pow": x**y if isinstance(op, ast.Pow) else 0.0}[
                type(op).__name__
            ]
        case ast.Call(func=ast.Name(id="cos" | "sin" as f), args=[inner]):
            return float(getattr(np, f)(_value(inner, t)))
    raise AssertionError(ast.dump(node))


def test_a_later_start_is_the_same_curve_shown_later() -> None:
    found = curves.draw(8, 0, 400)
    later = curves.points(found.shifted(np.zeros(400), np.full(400, 0.08)))
    moved = curves.points(found, TIMES + 0.08)
    straight = np.isin(found.family, (0, 3))
    assert np.abs(later - moved)[straight].max() < 1e-12
    assert np.array_equal(later[~straight], curves.points(found)[~straight])
    turned = curves.points(found.shifted(np.full(400, 2 * np.pi), np.zeros(400)))
    assert np.abs(turned - curves.points(found)).max() < 1e-12
