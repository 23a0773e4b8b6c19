"""Energy correlation: published vectors, lags, gaps, and nulls that know when they are chance."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from choreo_cli.errors import DataError
from choreo_cli.metrics import energy
from choreo_cli.metrics.surrogates import p_value

F64 = NDArray[np.float64]
CASES = ("lag0", "lag_p60ms", "lag_m80ms", "lag_p200ms_out", "anti", "noise")


@pytest.mark.parametrize("case", CASES)
def test_curves_are_the_vectors(vectors: Path, case: str) -> None:
    doc = json.loads((vectors / "energy_corr.json").read_text())
    arrays = np.load(vectors / "energy_corr.npz", allow_pickle=False)
    want = doc["cases"][case]
    e = energy.correlate(arrays["x"], arrays[f"y_{case}"], doc["fs"])
    assert e.r is not None and e.lag_s is not None
    assert np.abs(e.curve - want["r"]).max() <= 1e-10
    assert e.r == pytest.approx(want["best_r"], abs=1e-10) and e.r0 == pytest.approx(want["r0"], abs=1e-10)
    assert np.round(e.lag_s * 1e3, 9) == want["best_lag_ms"] and e.edge == want["best_on_edge"]
    assert np.abs(e.lags_s * 1e3 - want["lags_ms"]).max() <= 1e-9


def test_a_constant_is_degenerate_and_has_no_figure(vectors: Path) -> None:
    arrays = np.load(vectors / "energy_corr.npz", allow_pickle=False)
    e = energy.correlate(arrays["x_const"], arrays["x"][:100], 50.0)
    assert e.degenerate and e.r is e.lag_s is e.r0 is None


def wander(rng: np.random.Generator, n: int, tau: float) -> F64:
    from scipy.signal import lfilter

    keep = np.exp(-1 / (tau * 50))
    return np.asarray(lfilter([1.0], [1.0, -keep], rng.standard_normal(n + 500))[500:])


def test_perfect_is_one_and_the_lag_is_found() -> None:
    x = wander(np.random.default_rng(0), 3000, 0.2)
    for k in (-5, -2, 0, 3, 5):
        e = energy.correlate(x, np.roll(x, k), 50.0)
        assert e.lag_s == pytest.approx(k / 50) and e.r is not None and e.r > 0.999 and e.edge == (abs(k) == 5)
    assert energy.correlate(x, 3 * x + 1, 50.0).r == pytest.approx(1.0)
    assert energy.correlate(x, -x, 50.0).r0 == pytest.approx(-1.0)


def test_ties_go_to_the_smaller_lag() -> None:
    x = np.tile([0.0, 1.0, 0.0, 0.0], 100)  # repeats every four frames: lags 0, -4 and 4 are equal
    assert energy.correlate(x, x, 50.0).lag_s == 0.0


def test_missing_values_are_left_out_and_not_zero() -> None:
    rng = np.random.default_rng(1)
    x, y = wander(rng, 2000, 0.3), wander(rng, 2000, 0.3)
    holes = x.copy()
    holes[200:600] = np.nan
    keep = np.isfinite(holes)
    e = energy.correlate(holes, y, 50.0)
    assert e.n == 1600 and e.r0 == pytest.approx(np.corrcoef(x[keep], y[keep])[0, 1])
    assert energy.correlate(np.full(100, np.nan), y[:100], 50.0).degenerate


def test_every_circular_shift_at_once_is_every_shift_one_by_one() -> None:
    rng = np.random.default_rng(2)
    x, y = wander(rng, 500, 0.2), wander(rng, 500, 0.2)
    x[40:90], y[300:420] = np.nan, np.nan
    curve = energy.circular_curve(x, y)
    for k in range(0, 500, 7):
        moved = np.roll(y, -k)
        ok = np.isfinite(x) & np.isfinite(moved)
        assert curve[k] == pytest.approx(np.corrcoef(x[ok], moved[ok])[0, 1], abs=1e-9)


def nulls(x: F64, y: F64, rng: np.random.Generator, draws: int = 999) -> tuple[float, F64]:
    curve = energy.searched(x, y, 50.0)
    return float(curve[0]), energy.shift_null(curve, 50.0, draws, rng)


def test_chance_is_told_from_following() -> None:
    """Smooth signals reach .3 by chance: the value alone says nothing, its p does."""
    ps, high = [], 0
    for k in range(60):
        rng = np.random.default_rng(k)
        x, y = wander(rng, 1500, 2.5), wander(rng, 1500, 2.5)
        seen, null = nulls(x, y, rng, 199)
        high += seen > 0.3
        ps.append(p_value(null, seen))
    assert high >= 4
    assert np.mean(np.array(ps) <= 0.05) <= 0.15 and 0.35 < np.mean(ps) < 0.65
    x = wander(np.random.default_rng(0), 1500, 1.0)
    seen, null = nulls(x, x, np.random.default_rng(0))
    assert seen == pytest.approx(1.0) and p_value(null, seen) <= 1 / 900


def test_shifts_that_the_lag_search_undoes_are_not_in_the_null() -> None:
    rng = np.random.default_rng(3)
    x = rng.standard_normal(1000)
    for lag in (-5, 0, 5):
        _, null = nulls(x, np.roll(x, lag), rng)
        assert len(null) == 979 and null.max() < 0.9
    assert len(nulls(x[:10], x[:10], rng)[1]) == 0


def test_a_metronome_ties_with_its_own_shifts_by_whole_beats() -> None:
    """Its energy correlation may be high, but any other beat would do as well."""
    t = np.arange(4500) / 50
    level = np.interp(t, np.arange(0, 100, 5), np.random.default_rng(0).uniform(0.2, 1, 20))
    pulse = np.exp(-0.5 * (((t + 0.25) % 0.5 - 0.25) / 0.05) ** 2)
    curve = energy.searched(level * (0.2 + pulse), pulse, 50.0)
    assert curve[0] > 0.5 and p_value(energy.beat_null(curve, 50.0, 0.5), float(curve[0])) == 1.0
    own = energy.searched(level * pulse, level * pulse, 50.0)
    assert p_value(energy.beat_null(own, 50.0, 0.5), float(own[0])) <= 1 / 179


def test_independent_pairs_are_counted() -> None:
    rng = np.random.default_rng(4)
    white = energy.effective_n(rng.standard_normal(4000), rng.standard_normal(4000))
    slow = energy.effective_n(wander(rng, 4000, 0.5), wander(rng, 4000, 0.5))
    assert white > 3000 and 60 < slow < 400  # theory: 4000 frames / (50 Hz x 0.5 s) = 160


def test_what_cannot_be_correlated_is_refused() -> None:
    with pytest.raises(DataError):
        energy.correlate(np.zeros((2, 2)), np.zeros(2), 50.0)
    with pytest.raises(DataError):
        energy.correlate(np.zeros(2), np.zeros(2), 0.0)
