"""The curve fit: its family, its numbers and their errors at each level of noise, and what it does at the edges."""

from __future__ import annotations

import numpy as np
import pytest

from choreo_cli.trajectory import curves, solver
from choreo_cli.trajectory.curves import CIRCULAR, HELICAL, LINEAR, PARABOLIC, SHOWN, TIMES
from choreo_cli.trajectory.draws import normals, uniforms


def noisy(n: int, sigma: float, seed: int) -> tuple[curves.Curves, np.ndarray, np.ndarray]:
    found = curves.draw(seed, 0, n)
    places = curves.points(found)
    z = normals(uniforms(seed, "noise", 0, n, 3 * SHOWN)).reshape(n, SHOWN, 3)
    return found, places, places[:, :SHOWN] + sigma * z


@pytest.mark.parametrize(
    ("sigma", "family", "within_10"), [(0.005, 0.985, 0.985), (0.02, 0.985, 0.965), (0.05, 0.96, 0.75)]
)
def test_family_and_numbers(sigma: float, family: float, within_10: float) -> None:
    """trajectory.md section 10 on 400 curves; half-widths are .5 to 1.4 points (`make evidence` uses 4,000)."""
    found, places, shown = noisy(400, sigma, 17)
    fits = solver.fit(shown)
    right = fits.family == found.family
    assert right.mean() >= family
    near, errors = 0, []
    for row, told in enumerate(curves.reported(found)):
        if right[row]:
            numbers = fits.numbers(row)
            near += all(abs(numbers[k][0] - v) <= 0.1 * abs(v) for k, v in told.items())
            errors += [abs(numbers[k][0] - v) <= 3 * numbers[k][1] for k, v in told.items()]
    assert near / 400 >= within_10
    assert np.mean(errors) >= 0.975, "three standard errors hold 99.7 % when the errors are true"
    ahead = [np.abs(fits.form(r).at(TIMES[SHOWN:]) - places[r, SHOWN:]).mean() for r in range(400)]
    diagonal = np.linalg.norm(np.ptp(places[:, :SHOWN], axis=1), axis=-1)
    assert np.mean(ahead / diagonal) <= 0.6 * sigma + 0.001


def test_without_noise_the_curve_comes_back() -> None:
    found, places, shown = noisy(200, 0.0, 3)
    fits = solver.fit(shown)
    assert (fits.family == found.family).all()
    for row in range(200):
        assert np.abs(fits.form(row).at(TIMES) - places[row]).max() < 1e-5


def test_the_fit_turns_with_the_world() -> None:
    _, _, shown = noisy(80, 0.01, 5)
    turn = curves.from_quaternions(np.array([0.3, -0.7, 0.2, 0.6]))
    a, b = solver.fit(shown), solver.fit(shown @ turn.T + 0.3)
    assert np.array_equal(a.family, b.family)
    rows = np.arange(80)
    assert np.allclose(a.bic[rows, a.family], b.bic[rows, b.family], atol=0.05)


def test_the_margin_is_for_the_larger_model_of_a_pair() -> None:
    bic = np.full((1, 4), 0.0)
    assert solver.choose(bic)[0] == LINEAR
    for better, by, wanted in (
        (PARABOLIC, 5, LINEAR), (PARABOLIC, 7, PARABOLIC), (CIRCULAR, 5, LINEAR), (CIRCULAR, 7, CIRCULAR),
    ):  # fmt: skip
        bic = np.zeros((1, 4))
        bic[0, better] = -by
        assert solver.choose(bic)[0] == wanted
    bic = np.array([[9.0, -5.0, -10.0, 9.0]])
    assert solver.choose(bic)[0] == CIRCULAR
    bic[0, HELICAL] = -12
    assert solver.choose(bic)[0] == HELICAL


def test_edges_are_lines_or_refused() -> None:
    still = solver.fit(np.zeros((3, SHOWN, 3)))
    assert (still.family == LINEAR).all()
    assert np.isfinite(still.form(0).at(TIMES)).all()
    for bad in (np.zeros((SHOWN, 3)), np.zeros((1, 5, 3)), np.full((1, SHOWN, 3), np.nan)):
        with pytest.raises(ValueError, match="not finite"):
            solver.fit(bad)
    assert len(solver.fit(np.zeros((0, SHOWN, 3)))) == 0
