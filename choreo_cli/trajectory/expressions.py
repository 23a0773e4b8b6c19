"""Equations as text, read without running them: an allow-list on the syntax tree, and sums of known terms.

`x = 0.1 + 0.4*cos(5*t); y = ...; z = ...` becomes, for each axis, a polynomial in t and sines and cosines of it.
Nothing is evaluated by the interpreter or by a symbolic library: what is not on the list is refused before a value is
made.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.polynomial import polynomial
from numpy.typing import NDArray

from choreo_cli.trajectory.curves import CIRCULAR, HELICAL, LINEAR, PARABOLIC, Canonical

F64 = NDArray[np.float64]

MAX_LENGTH, MAX_DEPTH, MAX_DEGREE = 2000, 24, 6
LARGEST = 1e9
_FUNCTIONS: dict[str, Callable[[float], float]] = {"sqrt": math.sqrt, "exp": math.exp}
_SAME_OMEGA = 1e-6
_HEAD = re.compile(r"^\s*([xyz])\s*(?:\(\s*t\s*\))?\s*=(.*)$", re.DOTALL)


class EquationError(ValueError):
    """An equation that is refused: one sentence, what and where."""


@dataclass(slots=True)
class Sum:
    """polynomial[0] + polynomial[1] t + ... + sum over w of (cosine cos wt + sine sin wt)."""

    polynomial: list[float] = field(default_factory=lambda: [0.0])
    waves: dict[float, tuple[float, float]] = field(default_factory=dict)

    @property
    def constant(self) -> float | None:
        """Its value when it does not depend on t."""
        return self.polynomial[0] if not self.waves and not any(self.polynomial[1:]) else None

    def plus(self, other: Sum, sign: float = 1.0) -> Sum:
        """The sum, or the difference."""
        size = max(len(self.polynomial), len(other.polynomial))
        pad = [p + [0.0] * (size - len(p)) for p in (self.polynomial, other.polynomial)]
        waves = dict(self.waves)
        for w, (c, s) in other.waves.items():
            w = next((k for k in waves if abs(k - w) <= _SAME_OMEGA * max(1.0, k)), w)
            a, b = waves.get(w, (0.0, 0.0))
            waves[w] = (a + sign * c, b + sign * s)
        return _bounded(Sum([a + sign * b for a, b in zip(*pad, strict=True)], waves))

    def times(self, factor: float) -> Sum:
        """Scaled."""
        waves = {w: (c * factor, s * factor) for w, (c, s) in self.waves.items()}
        return _bounded(Sum([p * factor for p in self.polynomial], waves))

    def at(self, t: F64) -> F64:
        """Values at times (T,)."""
        out: F64 = polynomial.polyval(t, np.array(self.polynomial))
        for w, (c, s) in self.waves.items():
            out = out + c * np.cos(w * t) + s * np.sin(w * t)
        return out


def parse(text: str) -> tuple[Sum, Sum, Sum]:
    """Read x, y and z as functions of t.

    Args:
        text: `x = ...; y = ...; z = ...`, separated by `;` or lines, `x(t)` allowed for `x`, `^` for `**`.

    Raises:
        EquationError: an axis is missing or there twice, the syntax is broken, or anything is not on the allow-list:
            numbers, t, pi, + - * / **, sin, cos, sqrt, exp.
    """
    if len(text) > MAX_LENGTH:
        raise EquationError(f"{len(text)} characters; an equation has at most {MAX_LENGTH}")
    found: dict[str, Sum] = {}
    for part in re.split(r"[;\n]", text):
        if not part.strip():
            continue
        head = _HEAD.match(part)
        if head is None:
            raise EquationError(f"{part.strip()[:40]!r} is not `x = ...`")
        if head[1] in found:
            raise EquationError(f"{head[1]} is there twice")
        found[head[1]] = read(head[2])
    missing = [axis for axis in "xyz" if axis not in found]
    if missing:
        raise EquationError(f"no equation for {', '.join(missing)}")
    return found["x"], found["y"], found["z"]


def read(text: str) -> Sum:
    """One expression in t as a sum. Raises EquationError as `parse` does."""
    try:
        tree = ast.parse(text.strip().replace("^", "**"), mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError) as e:
        raise EquationError(f"{text.strip()[:40]!r} is not an expression") from e
    return _sum(tree.body, 0)


def _sum(node: ast.expr, depth: int) -> Sum:
    if depth > MAX_DEPTH:
        raise EquationError(f"nested more than {MAX_DEPTH} deep")
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            if abs(value) > LARGEST:
                raise EquationError(f"a number beyond {LARGEST:g}")
            return Sum([float(value)])
        case ast.Name(id="t"):
            return Sum([0.0, 1.0])
        case ast.Name(id="pi"):
            return Sum([math.pi])
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() as op, operand=inner):
            return _sum(inner, depth + 1).times(-1.0 if isinstance(op, ast.USub) else 1.0)
        case ast.BinOp(left=a, op=op, right=b):
            return _binary(_sum(a, depth + 1), op, _sum(b, depth + 1))
        case ast.Call(func=ast.Name(id=name), args=[inner], keywords=[]):
            return _call(name, _sum(inner, depth + 1))
    raise EquationError(f"{_named(node)} is not allowed in an equation")


def _named(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return f"the name {node.id[:30]!r}"
    if isinstance(node, ast.Call):
        return f"the call {ast.unparse(node)[:30]!r}"
    return type(node).__name__


def _binary(a: Sum, op: ast.operator, b: Sum) -> Sum:
    match op:
        case ast.Add():
            return a.plus(b)
        case ast.Sub():
            return a.plus(b, -1.0)
        case ast.Mult():
            return _product(a, b)
        case ast.Div():
            below = b.constant
            if below is None or below == 0.0:
                raise EquationError("a division by what is not a constant, or by 0")
            return a.times(1.0 / below)
        case ast.Pow():
            return _power(a, b)
    raise EquationError(f"the operator {type(op).__name__} is not allowed in an equation")


def _product(a: Sum, b: Sum) -> Sum:
    for one, other in ((a, b), (b, a)):
        if one.constant is not None:
            return other.times(one.constant)
    if a.waves or b.waves:
        raise EquationError("a product of terms that no family has")
    product = polynomial.polymul(a.polynomial, b.polynomial)
    if len(product) > MAX_DEGREE + 1:
        raise EquationError(f"a polynomial of degree over {MAX_DEGREE}")
    return _bounded(Sum([float(p) for p in product]))


def _power(a: Sum, b: Sum) -> Sum:
    exponent = b.constant
    if exponent is None or abs(exponent) > MAX_DEGREE:
        raise EquationError(f"an exponent that is not a number of at most {MAX_DEGREE}")
    if a.constant is not None:
        try:
            value = a.constant**exponent
        except (ZeroDivisionError, OverflowError) as e:
            raise EquationError("a power that has no value") from e
        if isinstance(value, complex):
            raise EquationError("a power that is not real")
        return _bounded(Sum([value]))
    if exponent != int(exponent) or exponent < 0:
        raise EquationError("a power of t that is not a whole number")
    out = Sum([1.0])
    for _ in range(int(exponent)):
        out = _product(out, a)
    return out


def _call(name: str, inner: Sum) -> Sum:
    if name in _FUNCTIONS:
        if inner.constant is None:
            raise EquationError(f"{name} of something that depends on t: no family has it")
        try:
            return _bounded(Sum([_FUNCTIONS[name](inner.constant)]))
        except (ValueError, OverflowError) as e:
            raise EquationError(f"{name} has no value there") from e
    if name not in ("sin", "cos"):
        raise EquationError(f"the function {name[:30]!r} is not allowed in an equation")
    if inner.waves or any(inner.polynomial[2:]):
        raise EquationError(f"{name} of something that is not linear in t")
    shift = inner.polynomial[0]
    omega = inner.polynomial[1] if len(inner.polynomial) > 1 else 0.0
    c, s = math.cos(shift), math.sin(shift)
    if omega == 0.0:
        return Sum([s if name == "sin" else c])
    turn = math.copysign(1.0, omega)
    # cos(wt + p) = cos p cos wt - sin p sin wt; sin(wt + p) = sin p cos wt + cos p sin wt; w made positive
    return Sum([0.0], {abs(omega): (c, -s * turn) if name == "cos" else (s, c * turn)})


def _bounded(found: Sum) -> Sum:
    values = [*found.polynomial, *(v for pair in found.waves.values() for v in pair)]
    if any(not math.isfinite(v) or abs(v) > LARGEST for v in values):
        raise EquationError(f"a value beyond {LARGEST:g}")
    return found


def form_of(axes: tuple[Sum, Sum, Sum], tiny: float = 1e-9) -> Canonical | None:
    """The family whose structure the equations have, with its numbers; None when they have that of none.

    Args:
        axes: x, y and z.
        tiny: Coefficients below are not there.
    """
    omegas: list[float] = []
    for axis in axes:
        for w, pair in axis.waves.items():
            if max(map(abs, pair)) > tiny and all(abs(w - o) > 1e-3 * max(w, o) for o in omegas):
                omegas.append(w)
    degree = max((k for a in axes for k, p in enumerate(a.polynomial) if abs(p) > tiny), default=0)
    if len(omegas) > 1 or degree > 2 or (omegas and degree > 1):
        return None
    poly = np.zeros((3, 3))
    cosine, sine = np.zeros(3), np.zeros(3)
    for i, axis in enumerate(axes):
        for k, p in enumerate(axis.polynomial[:3]):
            poly[k, i] = p
        for c, s in axis.waves.values():
            cosine[i], sine[i] = cosine[i] + c, sine[i] + s
    if omegas:
        family = HELICAL if degree == 1 else CIRCULAR
        return Canonical(family, omegas[0], poly[0], poly[1], poly[2], cosine, sine)
    family = PARABOLIC if degree == 2 else LINEAR
    return Canonical(family, 0.0, poly[0], poly[1], poly[2], cosine, sine)


def numbers_of(form: Canonical) -> dict[str, float]:
    """What is reported of a canonical form; the names of `curves.reported`."""
    slope = float(np.linalg.norm(form.slope))
    if form.family == LINEAR:
        return {"speed": slope}
    if form.family == PARABOLIC:
        return {"start_speed": slope, "acceleration": 2 * float(np.linalg.norm(form.bend))}
    radius = math.sqrt(float(form.cosine @ form.cosine + form.sine @ form.sine) / 2)
    found = {"radius": radius, "omega": form.omega}
    return {**found, "pitch_speed": slope} if form.family == HELICAL else found
