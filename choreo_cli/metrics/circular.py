"""Circular statistics of beat phases: resultants, tests of uniformity, spread.

Phases are cycles in [0, 1); 0 is the beat. Angles are theta = 2 pi phase. Sources: Mardia & Jupp, Directional
Statistics (2000), chapters 2, 5, 6; Zar, Biostatistical Analysis (5th ed., 2010), chapter 27.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import DataError

F64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Circular:
    """What a set of phases says of itself; None where it does not exist.

    Args:
        n: Phases.
        R: |mean e^{i theta}|, 0..1: lock at any phase.
        v: mean cos theta, -1..1: lock at phase 0.
        R_2nd: |mean e^{2 i theta}|, 0..1: lock at 0 and .5 together (not a coefficient of determination).
        R2_unbiased: (n R^2 - 1) / (n - 1), expectation 0 under uniform phases; None for n < 2.
        mean_phase: Mean direction in cycles, (-.5, .5], positive is late; None when R is 0.
        std: sqrt(-2 ln R), radians; None when R is 0.
        kappa: Maximum-likelihood concentration of a von Mises distribution, None when it is unbounded.
        rayleigh_z: n R^2.
        rayleigh_p: See `rayleigh_p`.
        v_p: See `v_test`.
    """

    n: int
    R: float
    v: float
    R_2nd: float
    R2_unbiased: float | None
    mean_phase: float | None
    std: float | None
    kappa: float | None
    rayleigh_z: float
    rayleigh_p: float
    v_p: float


def check_phases(phases: F64) -> F64:
    """The phases as (n,) float64. Raises DataError when there are none, or one is not in [0, 1)."""
    found = np.asarray(phases, np.float64)
    if found.ndim != 1 or not len(found):
        raise DataError(f"phases of shape {found.shape}", hint="need a list of at least one phase")
    if not (np.isfinite(found).all() and (found >= 0).all() and (found < 1).all()):
        raise DataError("a phase outside 0..1", hint="phases are cycles from 0 up to, not including, 1")
    return found


def resultant(phases: F64, order: int = 1) -> complex:
    """mean e^{i order theta}: its size is R, its angle the mean direction. Raises DataError (see `check_phases`)."""
    return complex(np.exp(2j * np.pi * order * check_phases(phases)).mean())


def describe(phases: F64) -> Circular:
    """All statistics of a set of phases. Raises DataError (see `check_phases`)."""
    n = len(check_phases(phases))
    z = resultant(phases)
    r = min(abs(z), 1.0)
    locked = r > 1e-12
    return Circular(
        n=n,
        R=r,
        v=z.real,
        R_2nd=min(abs(resultant(phases, 2)), 1.0),
        R2_unbiased=(n * r * r - 1) / (n - 1) if n > 1 else None,
        mean_phase=math.atan2(z.imag, z.real) / (2 * math.pi) if locked else None,
        std=math.sqrt(max(-2 * math.log(r), 0.0)) if locked else None,
        kappa=kappa_ml(r),
        rayleigh_z=n * r * r,
        rayleigh_p=rayleigh_p(n, r),
        v_p=v_test(n, z.real),
    )


def rayleigh_p(n: int, r: float) -> float:
    """p of uniform phases against one preferred direction: exp(sqrt(1 + 4n + 4(n^2 - (nR)^2)) - (1 + 2n)).

    Zar's approximation (eq. 27.4); other series differ by orders of magnitude in the far tail.
    """
    return min(math.exp(math.sqrt(max(1 + 4 * n + 4 * (n * n - (n * r) ** 2), 0.0)) - (1 + 2 * n)), 1.0)


def v_test(n: int, v: float) -> float:
    """One-sided p of uniform phases against a preferred direction at phase 0: 1 - Phi(v sqrt(2 n)).

    V = n v and u = V sqrt(2/n) (Zar, section 27.1c). It takes the phases for independent; peaks of a control are not.
    """
    return 0.5 * math.erfc(v * math.sqrt(n))


def kappa_ml(r: float) -> float | None:
    """The kappa with I1(kappa)/I0(kappa) = R; None when it exceeds 1e8 (R = 1)."""
    from scipy.optimize import brentq
    from scipy.special import i0e, i1e

    if r <= 0.0:
        return 0.0
    if r >= 1 - 1e-8:
        return None
    top = max(1.0, 1.0 / (1.0 - r))  # A(kappa) is above 1 - 1/kappa for kappa > 1
    return float(brentq(lambda k: float(i1e(k) / i0e(k)) - r, 0.0, top, xtol=1e-14, rtol=1e-14))


def distance(phases: F64) -> tuple[float, float]:
    """(mean distance to the nearest beat in cycles, 0 to .5; 1 - 4 times that: 1 on the beat, 0 at chance)."""
    p = check_phases(phases)
    d = float(np.minimum(p, 1 - p).mean())
    return d, 1 - 4 * d


def histogram(phases: F64, bins: int = 24) -> list[int]:
    """Counts in equal bins of [0, 1); the first begins on the beat."""
    return [int(k) for k in np.bincount((check_phases(phases) * bins).astype(int), minlength=bins)[:bins]]
