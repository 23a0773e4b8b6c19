"""Four families of curves in space, balanced, drawn by row: their points, their numbers, and their equations.

Time t runs from 0 to 1 over 20 samples t_k = k/19; the first 16 are shown, the last 4 are to be forecast.
World: metres-like units, z up. Labels: 0 linear, 1 circular, 2 helical, 3 parabolic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from choreo_cli.trajectory.draws import between, normals, uniforms

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

FAMILIES = ("linear", "circular", "helical", "parabolic")
LINEAR, CIRCULAR, HELICAL, PARABOLIC = range(4)
SHOWN, FUTURE = 16, 4
TIMES: F64 = np.arange(SHOWN + FUTURE) / (SHOWN + FUTURE - 1)
RECIPE = "1"  # of curves, views and pixels; another one draws other videos from the same rows
PARAMETERS = ("length", "radius", "omega", "phase", "pitch", "height", "apex")
# What each family is drawn from; a number a family does not have is 0.
RANGES: dict[int, dict[str, tuple[float, float]]] = {
    LINEAR: {"length": (0.8, 1.6)},
    CIRCULAR: {"radius": (0.35, 0.8), "omega": (1.5 * np.pi, 3 * np.pi), "phase": (0.0, 2 * np.pi)},
    HELICAL: {
        "radius": (0.35, 0.8), "omega": (1.5 * np.pi, 3 * np.pi), "phase": (0.0, 2 * np.pi), "pitch": (0.7, 1.4),
    },
    PARABOLIC: {"length": (0.8, 1.6), "height": (0.5, 1.0), "apex": (0.35, 0.65)},
}  # fmt: skip
SHIFT = 0.25
_PER_ROW = 16
_STREAM = "curve"


@dataclass(frozen=True, slots=True)
class Curves:
    """N curves.

    Args:
        family: (N,) int64, 0..3.
        parameters: (N, 7) float64 in the order of `PARAMETERS`; 0 where the family has none. `phase` in rad,
            `omega` in rad per unit of t, `apex` in t, the others in world units.
        rotation: (N, 3, 3) float64; its columns are e1, e2, e3 of the curve in the world.
        centre: (N, 3) float64, where the curve was moved to.
    """

    family: I64
    parameters: F64
    rotation: F64
    centre: F64

    def __len__(self) -> int:
        return len(self.family)

    def take(self, rows: NDArray[np.intp] | slice) -> Curves:
        """Some of them."""
        return Curves(self.family[rows], self.parameters[rows], self.rotation[rows], self.centre[rows])

    def number(self, name: str) -> F64:
        """One parameter of all, (N,)."""
        return self.parameters[:, PARAMETERS.index(name)]

    def shifted(self, turns: NDArray[np.float64], delays: NDArray[np.float64]) -> Curves:
        """The same curves begun elsewhere: circles and helices turned by `turns`, lines and parabolas by a delay.

        A delay d shows the curve at t + d. For a line that moves its centre, for a parabola centre and apex.

        Args:
            turns: (N,) rad, used for circular and helical.
            delays: (N,) in t, used for linear and parabolic.
        """
        new = self.parameters.copy()
        centre = self.centre.copy()
        round_ = np.isin(self.family, (CIRCULAR, HELICAL))
        phase = PARAMETERS.index("phase")
        new[round_, phase] = np.mod(new[round_, phase] + turns[round_], 2 * np.pi)
        straight = ~round_
        centre[straight] += (self.rotation[straight, :, 0].T * (self.number("length") * delays)[straight]).T
        bent = self.family == PARABOLIC
        new[bent, PARAMETERS.index("apex")] -= delays[bent]
        return Curves(self.family, new, self.rotation, centre)


def draw(seed: int, first: int, rows: int) -> Curves:
    """Curves of consecutive rows; row k has family k mod 4, so any multiple of four is balanced.

    Args:
        seed: Seed of the dataset.
        first: First row.
        rows: How many.
    """
    u = uniforms(seed, _STREAM, first, rows, _PER_ROW)
    family = np.arange(first, first + rows, dtype=np.int64) % len(FAMILIES)
    parameters = np.zeros((rows, len(PARAMETERS)))
    for label, ranges in RANGES.items():
        mine = family == label
        for column, name in enumerate(PARAMETERS):
            if name in ranges:
                parameters[mine, column] = between(u[mine, column], *ranges[name])
    rotation = from_quaternions(normals(u[:, 7:11]))
    upright = family == PARABOLIC  # gravity stays vertical
    rotation[upright] = about_z(2 * np.pi * u[upright, 11])
    return Curves(family, parameters, rotation, between(u[:, 12:15], -SHIFT, SHIFT))


def from_quaternions(q: F64) -> F64:
    """Rotations of quaternions of any length, w first: (..., 4) to (..., 3, 3).

    Four normals give a rotation uniform over all of them (Shoemake, 1992).
    """
    w, x, y, z = np.moveaxis(q / np.linalg.norm(q, axis=-1, keepdims=True), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(r, axis=-1) for r in rows], axis=-2)


def about_z(angle: F64) -> F64:
    """Rotations about the vertical: (N,) rad to (N, 3, 3)."""
    c, s, o = np.cos(angle), np.sin(angle), np.zeros_like(angle)
    return np.stack([np.stack(r, axis=-1) for r in ([c, -s, o], [s, c, o], [o, o, o + 1])], axis=-2)


def points(curves: Curves, t: F64 = TIMES) -> F64:
    """Points of the curves.

    Args:
        curves: N curves.
        t: (T,) times.

    Returns:
        (N, T, 3) world units.
    """
    local = local_points(curves.family, curves.parameters, t)
    placed: F64 = np.einsum("nij,ntj->nti", curves.rotation, local, optimize=True) + curves.centre[:, None]
    return placed


def local_points(family: I64, parameters: F64, t: F64) -> F64:
    """Points in the curve's own axes e1, e2, e3: (N, T, 3)."""
    length, radius, omega, phase, pitch, height, apex = (p[:, None] for p in parameters.T)
    out = np.zeros((len(family), len(t), 3))
    angle = omega * t + phase
    middle = t - 0.5
    out[..., 0] = length * middle
    round_ = np.isin(family, (CIRCULAR, HELICAL))
    out[round_, :, 0] = (radius * np.cos(angle))[round_]
    out[round_, :, 1] = (radius * np.sin(angle))[round_]
    out[..., 2] = pitch * middle
    bent = family == PARABOLIC
    out[bent, :, 2] = (height * (1 - 4 * (t - apex) ** 2) - height / 2)[bent]
    return out


def reported(curves: Curves) -> list[dict[str, float]]:
    """What people ask of each curve: speed; radius and angular speed; pitch speed; start speed and acceleration."""
    found: list[dict[str, float]] = []
    names = {name: curves.number(name) for name in PARAMETERS}
    for i, family in enumerate(curves.family):
        p = {name: float(values[i]) for name, values in names.items()}
        if family == LINEAR:
            found.append({"speed": p["length"]})
        elif family == PARABOLIC:
            start = float(np.hypot(p["length"], 8 * p["height"] * p["apex"]))
            found.append({"start_speed": start, "acceleration": 8 * p["height"]})
        else:
            both = {"radius": p["radius"], "omega": p["omega"]}
            found.append({**both, "pitch_speed": p["pitch"]} if family == HELICAL else both)
    return found


@dataclass(frozen=True, slots=True)
class Canonical:
    """One curve in its only writing: constant + slope t + bend t^2 + cosine cos(wt) + sine sin(wt).

    Args:
        family: 0..3.
        omega: > 0 for circular and helical, else 0.
        constant, slope, bend, cosine, sine: (3,) world units.
    """

    family: int
    omega: float
    constant: F64
    slope: F64
    bend: F64
    cosine: F64
    sine: F64

    def at(self, t: F64) -> F64:
        """Points (T, 3)."""
        wt = self.omega * t[:, None]
        poly = self.constant + self.slope * t[:, None] + self.bend * t[:, None] ** 2
        found: F64 = poly + self.cosine * np.cos(wt) + self.sine * np.sin(wt)
        return found


def canonical(curves: Curves, row: int) -> Canonical:
    """One of the curves in world coordinates, in its canonical form (w > 0)."""
    family = int(curves.family[row])
    p = dict(zip(PARAMETERS, curves.parameters[row].tolist(), strict=True))
    e1, e2, e3 = curves.rotation[row].T
    centre, zero = curves.centre[row], np.zeros(3)
    if family in (LINEAR, PARABOLIC):
        slope, constant, bend = p["length"] * e1, centre - p["length"] / 2 * e1, zero
        if family == PARABOLIC:
            h, a = p["height"], p["apex"]
            constant = constant + (h / 2 - 4 * h * a * a) * e3
            slope, bend = slope + 8 * h * a * e3, -4 * h * e3
        return Canonical(family, 0.0, constant, slope, bend, zero, zero)
    c, s = np.cos(p["phase"]), np.sin(p["phase"])
    r = p["radius"]
    cosine, sine = r * (c * e1 + s * e2), r * (c * e2 - s * e1)
    slope = p["pitch"] * e3 if family == HELICAL else zero
    return Canonical(family, p["omega"], centre - slope / 2, slope, zero, cosine, sine)


def equation(form: Canonical, digits: int = 4) -> str:
    """The curve as text: `x = 0.1200 + 0.4300*cos(5.1000*t) - ...; y = ...; z = ...`."""
    return "; ".join(f"{axis} = {_sum(form, i, digits)}" for i, axis in enumerate("xyz"))


def _sum(form: Canonical, axis: int, digits: int) -> str:
    terms = [(form.constant[axis], "")]
    if form.family in (LINEAR, HELICAL, PARABOLIC):
        terms.append((form.slope[axis], "*t"))
    if form.family == PARABOLIC:
        terms.append((form.bend[axis], "*t**2"))
    if form.family in (CIRCULAR, HELICAL):
        w = f"{form.omega:.{digits}f}"
        terms += [(form.cosine[axis], f"*cos({w}*t)"), (form.sine[axis], f"*sin({w}*t)")]
    text = ""
    for value, what in terms:
        number = f"{abs(value):.{digits}f}"
        if what and float(number) == 0.0:
            continue
        sign = "-" if value < 0 and float(number) else "+"
        text += (
            f"{number}{what}"
            if not text and sign == "+"
            else (f"-{number}{what}" if not text else f" {sign} {number}{what}")
        )
    return text
