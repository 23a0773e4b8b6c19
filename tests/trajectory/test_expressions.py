"""Equations are read, never run: what is not on the allow-list is refused, what is on it means what it says."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from choreo_cli.trajectory import curves
from choreo_cli.trajectory.curves import TIMES
from choreo_cli.trajectory.expressions import EquationError, form_of, numbers_of, parse, read

HOSTILE = [
    "__import__('os').system('true')",
    "().__class__",
    "t.real",
    "lambda: 1",
    "[t for t in (1,)]",
    "open('x')",
    "eval('1')",
    "exec('1')",
    "t if t else 1",
    "f'{t}'",
    "'a'*9",
    "1j",
    "True",
    "sin(t, t)",
    "sin(x=t)",
    "(t := 3)",
    "t[0]",
    "*t",
    "9**9**9",
    "exp(exp(exp(9)))",
    "t**-1",
    "t**0.5",
    "1/t",
    "1/0",
    "sqrt(-1)",
    "0**-1",
    "(-8)**0.5",
    "tan(t)",
    "sin(t*t)",
    "sin(cos(t))",
    "cos(t)*t",
    "exp(t)",
    "1e308*10",
    "1e999",
    "t**7",
    "(" * 40 + "t" + ")" * 40 + "+" + "-" * 60 + "t",
    "",
    "1 +",
    "a",
    "t @ t",
    "t // 2",
    "t % 2",
    "t < 1",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_not_on_the_list_is_refused(text: str) -> None:
    before = set(sys.modules)
    with pytest.raises(EquationError):
        read(text)
    assert set(sys.modules) - before <= {"unicodedata"}, "nothing was imported"


@given(st.text(max_size=60))
def test_any_text_is_an_expression_or_refused(text: str) -> None:
    try:
        found = read(text)
    except EquationError:
        return
    assert np.isfinite(found.at(TIMES)).all()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 + 2*t - 3*t^2", lambda t: 1 + 2 * t - 3 * t**2),
        ("-(t - 0.5)**2 * 4", lambda t: -4 * (t - 0.5) ** 2),
        ("0.4*cos(-5*t + pi/3)", lambda t: 0.4 * np.cos(-5 * t + np.pi / 3)),
        ("2*sin(3*(t - 1)) / 4", lambda t: 0.5 * np.sin(3 * (t - 1))),
        ("sqrt(2)*cos(4*t) + exp(0) - sin(2)", lambda t: np.sqrt(2) * np.cos(4 * t) + 1 - np.sin(2)),
        ("(1 + 2)*(t + 1)*(t - 1)", lambda t: 3 * (t * t - 1)),
    ],
)
def test_what_is_on_the_list_means_what_it_says(text: str, value: object) -> None:
    assert np.allclose(read(text).at(TIMES), value(TIMES), atol=1e-12)  # type: ignore[operator]


def test_the_text_of_every_curve_reads_back_as_itself() -> None:
    found = curves.draw(3, 0, 200)
    told = curves.reported(found)
    for row in range(200):
        text = curves.equation(curves.canonical(found, row), digits=8)
        form = form_of(parse(text))
        assert form is not None
        assert form.family == found.family[row]
        assert np.abs(form.at(TIMES) - curves.points(found)[row]).max() < 1e-6
        assert numbers_of(form) == pytest.approx(told[row], rel=1e-5)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("x = t; y = t", "no equation for z"),
        ("x = t; y = t; x = 1; z = t", "x is there twice"),
        ("x = t; hello; z = 1", "is not `x = ...`"),
        ("x = t" * 900, "at most 2000"),
    ],
)
def test_an_incomplete_equation_says_what_is_missing(text: str, why: str) -> None:
    with pytest.raises(EquationError, match=why):
        parse(text)


def test_writings_of_one_curve_are_one_form() -> None:
    a = form_of(parse("x(t) = cos(5*t + 1)\ny(t) = sin(5*t + 1)\nz(t) = 0"))
    b = form_of(parse("x = cos(1)*cos(5*t) - sin(1)*sin(5*t); y = cos(-5*t - 1 + pi/2); z = 0*t"))
    assert a is not None
    assert b is not None
    assert np.allclose(a.at(TIMES), b.at(TIMES))
    assert (a.family, b.family) == (1, 1)


def test_structures_of_no_family_have_none() -> None:
    for text in ("x = t**3; y = 0; z = 0", "x = cos(2*t); y = cos(3*t); z = 0", "x = cos(2*t); y = t**2; z = 0"):
        assert form_of(parse(text)) is None
