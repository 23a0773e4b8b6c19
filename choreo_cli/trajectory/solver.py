"""Which curve 16 noisy points lie on: four least-squares fits, batched over trajectories, and a rule that picks one.

Lines and parabolas are linear in [1, t, t^2]. Circles and helices are p(t) = c + R (r cos wt, r sin wt, H (t - 1/2))
with R a rotation: 8 and 9 numbers, by Levenberg-Marquardt on the manifold from the best frequencies of a grid (variable
projection: linear in [1, cos wt, sin wt, (t)]).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from choreo_cli.trajectory.curves import CIRCULAR, FAMILIES, HELICAL, LINEAR, PARABOLIC, SHOWN, TIMES, Canonical

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

OMEGAS: F64 = np.linspace(2.0, 14.0, 60)
NUMBERS = {LINEAR: 6, CIRCULAR: 8, HELICAL: 9, PARABOLIC: 9}  # free parameters k of each family
MARGIN = 6.0  # of the BIC, which the larger model of a nested pair must win by
STARTS = 3
ITERATIONS = 60
_SSR_FLOOR = 1e-12


@dataclass(frozen=True, slots=True)
class Round:
    """N circles or helices: p(t) = centre + rotation (radius cos wt, radius sin wt, pitch (t - 1/2)).

    Args:
        centre: (N, 3). rotation: (N, 3, 3). radius, omega, pitch: (N,), omega > 0; pitch 0 for circles.
        ssr: (N,) sum of squared residuals.
        covariance: (N, k, k) of (centre, turn, radius, omega[, pitch]), scaled by the residual variance.
    """

    centre: F64
    rotation: F64
    radius: F64
    omega: F64
    pitch: F64
    ssr: F64
    covariance: F64


@dataclass(frozen=True, slots=True)
class Fits:
    """What was found for N trajectories.

    Args:
        family: (N,) the family chosen.
        bic: (N, 4) in the order of the families.
        poly: {degree: (coefficients (N, degree + 1, 3), ssr (N,), (X^T X)^-1)} of lines (1) and parabolas (2).
        circle, helix: The round fits.
    """

    family: I64
    bic: F64
    poly: dict[int, tuple[F64, F64, F64]]
    circle: Round
    helix: Round

    def __len__(self) -> int:
        return len(self.family)

    def form(self, row: int) -> Canonical:
        """The chosen curve of one trajectory."""
        family = int(self.family[row])
        zero = np.zeros(3)
        if family in (LINEAR, PARABOLIC):
            c = self.poly[1 if family == LINEAR else 2][0][row]
            return Canonical(family, 0.0, c[0], c[1], c[2] if family == PARABOLIC else zero, zero, zero)
        fit = self.circle if family == CIRCULAR else self.helix
        e1, e2, e3 = fit.rotation[row].T
        slope = fit.pitch[row] * e3
        return Canonical(
            family, float(fit.omega[row]), fit.centre[row] - slope / 2, slope, zero, fit.radius[row] * e1,
            fit.radius[row] * e2,
        )  # fmt: skip

    def numbers(self, row: int) -> dict[str, tuple[float, float]]:
        """What is reported of the chosen curve, as `curves.reported`: name to (value, standard error)."""
        family = int(self.family[row])
        if family in (LINEAR, PARABOLIC):
            coefficients, ssr, inverse = self.poly[1 if family == LINEAR else 2]
            variance = ssr[row] / (3 * SHOWN - NUMBERS[family])
            return _straight(coefficients[row], inverse * variance)
        fit = self.circle if family == CIRCULAR else self.helix
        spread = np.sqrt(np.diagonal(fit.covariance[row]))
        found = {
            "radius": (float(fit.radius[row]), float(spread[6])),
            "omega": (float(fit.omega[row]), float(spread[7])),
        }
        if family == HELICAL:
            found["pitch_speed"] = (float(abs(fit.pitch[row])), float(spread[8]))
        return found


def _straight(c: F64, covariance: F64) -> dict[str, tuple[float, float]]:
    """Speed of a line; start speed and acceleration of a parabola. Axes are independent; norms by the delta method."""
    speed = float(np.linalg.norm(c[1]))
    error = float(np.sqrt(covariance[1, 1]))
    if len(c) == 2:
        return {"speed": (speed, error)}
    bend = float(np.linalg.norm(c[2]))
    return {"start_speed": (speed, error), "acceleration": (2 * bend, 2 * float(np.sqrt(covariance[2, 2])))}


def fit(points: F64, t: F64 | None = None) -> Fits:
    """Fit all four families and choose.

    Args:
        points: (N, 16, 3) world units.
        t: (16,) times; the shown ones when absent.

    Returns:
        The fits. A larger model of a nested pair (parabola over line, helix over circle) must win by more than 6 of
        the BIC; a line loses to the better round one only by more than 6; otherwise the smaller BIC wins.

    Raises:
        ValueError: another shape, or a number that is not finite.
    """
    times = TIMES[:SHOWN] if t is None else t
    if points.ndim != 3 or points.shape[1:] != (len(times), 3) or not np.isfinite(points).all():
        raise ValueError(f"points {points.shape} are not finite (N, {len(times)}, 3)")
    poly = {degree: _polynomial(points, times, degree) for degree in (1, 2)}
    circle = _round(points, times, helical=False)
    helix = _round(points, times, helical=True)
    ssr = np.stack([poly[1][1], circle.ssr, helix.ssr, poly[2][1]], axis=-1)
    n = 3 * len(times)
    count = np.array([NUMBERS[k] for k in range(len(FAMILIES))])
    bic = n * np.log(np.maximum(ssr, _SSR_FLOOR) / n) + count * np.log(n)
    return Fits(choose(bic), bic, poly, circle, helix)


def choose(bic: F64) -> I64:
    """The family of each trajectory from its four BICs, by the paired margin: (N, 4) to (N,)."""
    straight = np.where(bic[:, LINEAR] - bic[:, PARABOLIC] > MARGIN, PARABOLIC, LINEAR)
    bent = np.where(bic[:, CIRCULAR] - bic[:, HELICAL] > MARGIN, HELICAL, CIRCULAR)
    rows = np.arange(len(bic))
    lead = bic[rows, straight] - bic[rows, bent]
    return np.where(lead > np.where(straight == LINEAR, MARGIN, 0.0), bent, straight).astype(np.int64)


def _polynomial(points: F64, t: F64, degree: int) -> tuple[F64, F64, F64]:
    x = np.vander(t, degree + 1, increasing=True)
    inverse: F64 = np.linalg.inv((x.T @ x).astype(np.float64))
    coefficients = np.einsum("dt,nti->ndi", inverse @ x.T, points)
    off = points - np.einsum("td,ndi->nti", x, coefficients)
    return coefficients, (off**2).sum((1, 2)), inverse


def _round(points: F64, t: F64, *, helical: bool) -> Round:
    """Circles or helices of all trajectories, the best of several starts."""
    best: Round | None = None
    for start in _starts(points, t, helical=helical):
        found = _climb(points, t, start, helical=helical)
        best = found if best is None else _better(best, found)
    assert best is not None
    return best


def _starts(points: F64, t: F64, *, helical: bool) -> list[Round]:
    """First guesses from the best frequencies of the grid, each a local minimum where there is one."""
    ones = np.ones_like(t)
    designs = [np.stack([ones, np.cos(w * t), np.sin(w * t), *([t - 0.5] if helical else [])], -1) for w in OMEGAS]
    ssr = np.empty((len(points), len(OMEGAS)))
    for k, x in enumerate(designs):
        off = points - np.einsum("ts,nsi->nti", x @ np.linalg.pinv(x), points)
        ssr[:, k] = (off**2).sum((1, 2))
    padded = np.pad(ssr, ((0, 0), (1, 1)), constant_values=np.inf)
    lowest = (ssr <= padded[:, :-2]) & (ssr <= padded[:, 2:])
    order = np.argsort(np.where(lowest, ssr, ssr + 1e6), axis=1)[:, :STARTS]
    solved = np.stack([np.linalg.pinv(x) for x in designs])  # (60, 3|4, 16)
    found = []
    for k in range(STARTS):
        picked = order[:, k]
        linear = np.einsum("nct,nti->nci", solved[picked], points)
        found.append(_from_linear(linear, OMEGAS[picked], helical=helical))
    return found


def _from_linear(linear: F64, omega: F64, *, helical: bool) -> Round:
    """The nearest circle or helix to centre + A cos + B sin (+ D (t - 1/2))."""
    a, b = linear[:, 1], linear[:, 2]
    if helical:  # the axis is known from the travel as well: what of A and B lies along it is not of the circle
        d = linear[:, 3]
        size = np.linalg.norm(d, axis=-1, keepdims=True)
        axis = np.where(size > 1e-9, d / np.maximum(size, 1e-9), 0.0)
        normal = np.cross(a, b)
        normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-12)
        turn = np.sign((normal * axis).sum(-1, keepdims=True))
        area = np.linalg.norm(np.cross(a, b), axis=-1, keepdims=True)
        mixed = normal * area + np.where(turn == 0, 1.0, turn) * axis * size**2
        e3 = mixed / np.maximum(np.linalg.norm(mixed, axis=-1, keepdims=True), 1e-12)
        a = a - (a * e3).sum(-1, keepdims=True) * e3
        b = b - (b * e3).sum(-1, keepdims=True) * e3
    length = np.linalg.norm(a, axis=-1), np.linalg.norm(b, axis=-1)
    e1 = a / np.maximum(length[0], 1e-9)[:, None]
    e1 = np.where(length[0][:, None] > 1e-9, e1, (1.0, 0.0, 0.0))
    e2 = b - (b * e1).sum(-1, keepdims=True) * e1
    short = np.linalg.norm(e2, axis=-1) < 1e-9
    spare = np.cross(e1, np.where(np.abs(e1[:, :1]) < 0.9, (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)))
    e2 = np.where(short[:, None], spare, e2)
    e2 /= np.linalg.norm(e2, axis=-1, keepdims=True)
    rotation = np.stack([e1, e2, np.cross(e1, e2)], axis=-1)
    pitch = (linear[:, 3] * rotation[..., 2]).sum(-1) if helical else np.zeros(len(a))
    radius = np.maximum((length[0] + length[1]) / 2, 1e-3)
    return Round(linear[:, 0], rotation, radius, omega, pitch, np.full(len(a), np.inf), np.empty((len(a), 0, 0)))


def _curve(fit_: Round, t: F64) -> tuple[F64, F64, F64, F64]:
    """Points (N, 16, 3), and the parts of their derivatives: R q, cos, sin of wt."""
    wt = fit_.omega[:, None] * t
    c, s = np.cos(wt), np.sin(wt)
    q = np.stack([fit_.radius[:, None] * c, fit_.radius[:, None] * s, fit_.pitch[:, None] * (t - 0.5)], axis=-1)
    turned = np.einsum("nij,ntj->nti", fit_.rotation, q)
    return fit_.centre[:, None] + turned, turned, c, s


def _jacobian(fit_: Round, t: F64, parts: tuple[F64, F64, F64, F64], *, helical: bool) -> F64:
    """(N, 48, k): centre 3, turn 3 (rotation vector from the left), radius, omega, and pitch."""
    _, turned, c, s = parts
    n, m = len(turned), len(t)
    e1, e2, e3 = np.moveaxis(fit_.rotation, -1, 0)
    out = np.zeros((n, m, 3, 9 if helical else 8))
    out[..., (0, 1, 2), (0, 1, 2)] = 1.0
    x, y, z = np.moveaxis(turned, -1, 0)
    # d(delta x v)/d delta = -[v]x
    out[..., 0, 4], out[..., 0, 5] = z, -y
    out[..., 1, 3], out[..., 1, 5] = -z, x
    out[..., 2, 3], out[..., 2, 4] = y, -x
    out[..., 6] = c[..., None] * e1[:, None] + s[..., None] * e2[:, None]
    rt = fit_.radius[:, None] * t
    out[..., 7] = (rt * c)[..., None] * e2[:, None] - (rt * s)[..., None] * e1[:, None]
    if helical:
        out[..., 8] = (t - 0.5)[None, :, None] * e3[:, None]
    return out.reshape(n, 3 * m, out.shape[-1])


def _climb(points: F64, t: F64, start: Round, *, helical: bool) -> Round:
    """Levenberg-Marquardt, every trajectory with a damping of its own."""
    now = start
    parts = _curve(now, t)
    off = points - parts[0]
    ssr = (off**2).sum((1, 2))
    damping = np.full(len(points), 1e-3)
    for _ in range(ITERATIONS):
        j = _jacobian(now, t, parts, helical=helical)
        normal = np.einsum("nri,nrj->nij", j, j, optimize=True)
        slope = np.einsum("nri,nr->ni", j, off.reshape(len(points), j.shape[1]), optimize=True)
        diagonal = np.einsum("nii->ni", normal)
        damped = normal + (damping[:, None] * diagonal + 1e-12)[..., None] * np.eye(j.shape[-1])
        step = np.linalg.solve(damped, slope[..., None])[..., 0]
        tried = _moved(now, step, helical=helical)
        tried_parts = _curve(tried, t)
        tried_off = points - tried_parts[0]
        tried_ssr = (tried_off**2).sum((1, 2))
        good = tried_ssr < ssr
        now = _pick(good, tried, now)
        parts = tuple(np.where(_like(good, a), a, b) for a, b in zip(tried_parts, parts, strict=True))  # type: ignore[assignment]
        off = np.where(_like(good, off), tried_off, off)
        done = np.abs(ssr - tried_ssr) <= 1e-12 * (ssr + 1e-12)
        ssr = np.where(good, tried_ssr, ssr)
        damping = np.clip(np.where(good, damping * 0.2, damping * 8), 1e-12, 1e8)
        if done.all():
            break
    j = _jacobian(now, t, parts, helical=helical)
    normal = np.einsum("nri,nrj->nij", j, j, optimize=True)
    variance = ssr / (points.shape[1] * 3 - j.shape[-1])
    covariance = np.linalg.pinv(normal, hermitian=True) * variance[:, None, None]
    return Round(now.centre, now.rotation, now.radius, now.omega, now.pitch, ssr, covariance)


def _moved(at: Round, step: F64, *, helical: bool) -> Round:
    omega = np.clip(at.omega + np.clip(step[:, 7], -1.0, 1.0), 0.5, 20.0)
    radius = np.maximum(at.radius + step[:, 6], 1e-4)
    pitch = at.pitch + step[:, 8] if helical else at.pitch
    return Round(
        at.centre + step[:, :3], _turn(step[:, 3:6]) @ at.rotation, radius, omega, pitch, at.ssr, at.covariance
    )


def _turn(v: F64) -> F64:
    """Rotations of rotation vectors (N, 3), by Rodrigues' formula."""
    angle = np.linalg.norm(v, axis=-1)[:, None, None]
    x, y, z = v.T
    o = np.zeros_like(x)
    k = np.stack([np.stack(r, -1) for r in ([o, -z, y], [z, o, -x], [-y, x, o])], -2)
    small = angle < 1e-8
    safe = np.where(small, 1.0, angle)
    turned: F64 = (
        np.eye(3)
        + np.where(small, 1.0, np.sin(safe) / safe) * k
        + np.where(small, 0.5, (1 - np.cos(safe)) / safe**2) * (k @ k)
    )
    return turned


def _like(mask: NDArray[np.bool_], array: F64) -> NDArray[np.bool_]:
    return mask.reshape(-1, *(1,) * (array.ndim - 1))


def _pick(mask: NDArray[np.bool_], a: Round, b: Round) -> Round:
    def of(name: str) -> F64:
        mine: F64 = getattr(a, name)
        return np.where(_like(mask, mine), mine, getattr(b, name))

    return Round(of("centre"), of("rotation"), of("radius"), of("omega"), of("pitch"), b.ssr, b.covariance)


def _better(a: Round, b: Round) -> Round:
    wins = b.ssr < a.ssr
    picked = _pick(wins, b, a)
    return Round(
        picked.centre, picked.rotation, picked.radius, picked.omega, picked.pitch, np.where(wins, b.ssr, a.ssr),
        np.where(wins[:, None, None], b.covariance, a.covariance),
    )  # fmt: skip
