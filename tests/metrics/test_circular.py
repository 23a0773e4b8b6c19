"""Circular statistics: published vectors, hand-worked values, and properties."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from choreo_cli.errors import DataError
from choreo_cli.metrics import circular

CASES = ("strong", "mid", "weak", "offbeat", "small", "uniform_grid")


@pytest.mark.parametrize("case", CASES)
def test_statistics_are_those_of_the_libraries(vectors: Path, case: str) -> None:
    want = json.loads((vectors / "phase_coherence.json").read_text())["cases"][case]
    phases = np.load(vectors / "phase_coherence.npz", allow_pickle=False)[case]
    s = circular.describe(phases)
    assert s.n == want["n"]
    if case == "uniform_grid":
        assert pytest.approx(want["R"], abs=1e-12) == s.R and s.mean_phase is None and s.kappa == 0
        return
    assert s.mean_phase is not None
    for got, key in (
        (s.R, "R"), (s.v, "v_at0"), (s.R2_unbiased, "R2_unbiased"), (s.std, "circstd_scipy"),
        (max(0.0, s.v), "coherence01_mean"), (2 * math.pi * s.mean_phase, "circmean_rad"),
        (circular.distance(phases)[0], "mean_abs_dist_phase0"), (circular.distance(phases)[1], "coherence01_linear"),
    ):  # fmt: skip
        assert got == pytest.approx(want[key], abs=1e-9), key
    assert s.rayleigh_z == pytest.approx(want["rayleigh_z_pingouin"], rel=1e-6)
    assert s.rayleigh_p == pytest.approx(want["rayleigh_p_pingouin"], rel=1e-6)
    assert s.kappa == pytest.approx(want["kappa_ml_exact"], rel=1e-6)
    assert s.n * s.v == pytest.approx(want["vtest_at0_pingouin"][0], rel=1e-6)
    assert s.v_p == pytest.approx(want["vtest_at0_pingouin"][1], rel=1e-6, abs=1e-12)


def test_four_phases_worked_by_hand() -> None:
    """cos 0, 90, 0, -90 degrees: sum of cos 2, of sin 0."""
    s = circular.describe(np.array([0.0, 0.25, 0.0, 0.75]))
    assert (s.v, s.R) == (pytest.approx(0.5), pytest.approx(0.5))
    assert s.R_2nd == pytest.approx(0.0, abs=1e-15)  # cos 0, 180, 0, 540
    assert s.R2_unbiased == pytest.approx((4 * 0.25 - 1) / 3)
    assert s.std == pytest.approx(math.sqrt(-2 * math.log(0.5)))
    assert s.rayleigh_p == pytest.approx(math.exp(math.sqrt(1 + 16 + 4 * (16 - 4)) - 9))
    assert s.v_p == pytest.approx(0.5 * math.erfc(0.5 * math.sqrt(8) / math.sqrt(2)))
    assert circular.histogram(np.array([0.0, 0.04, 0.999]), 24) == [2, *[0] * 22, 1]


def test_perfect_is_one_and_uniform_is_chance() -> None:
    on = circular.describe(np.zeros(50))
    assert on.v == on.R == on.R_2nd == 1.0 and on.kappa is None and on.std == 0.0 and on.mean_phase == 0.0
    off = circular.describe(np.full(50, 0.5))
    assert off.v == pytest.approx(-1) and pytest.approx(1) == off.R and off.R_2nd == pytest.approx(1)
    rng = np.random.default_rng(0)
    drawn = [circular.describe(rng.random(64)) for _ in range(400)]
    assert abs(np.mean([s.v for s in drawn])) < 0.02
    assert abs(np.mean([s.R2_unbiased or 0 for s in drawn])) < 0.01
    assert 0.02 < np.mean([s.v_p <= 0.05 for s in drawn]) < 0.09


@given(st.lists(st.floats(0, 0.999), min_size=2, max_size=40), st.floats(0, 0.999))
def test_turning_every_phase_turns_the_mean_and_nothing_else(phases: list[float], turn: float) -> None:
    a, b = np.array(phases), (np.array(phases) + turn) % 1.0
    b = np.where(b >= 1.0, 0.0, b)
    assert pytest.approx(circular.describe(a).R, abs=1e-9) == circular.describe(b).R
    assert circular.resultant(b) == pytest.approx(circular.resultant(a) * np.exp(2j * np.pi * turn), abs=1e-9)


@given(st.floats(1e-4, 0.999))
def test_kappa_solves_its_equation(r: float) -> None:
    from scipy.special import i0e, i1e

    kappa = circular.kappa_ml(r)
    assert kappa is not None and i1e(kappa) / i0e(kappa) == pytest.approx(r, rel=1e-9)


@pytest.mark.parametrize("bad", [[], [1.0], [-0.1], [math.nan], [[0.1]]])
def test_what_is_no_phase_is_refused(bad: list[float]) -> None:
    with pytest.raises(DataError):
        circular.describe(np.array(bad))
