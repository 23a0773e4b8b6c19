"""Drift: published vectors, slopes that are put in and come out, and windows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from choreo_cli.errors import DataError
from choreo_cli.metrics import drift
from choreo_cli.metrics.bootstrap import seed_interval, session_mean, two_level_mean

CASES = ("none", "p200ppm", "p2000ppm", "m20000ppm", "jit50")


@pytest.mark.parametrize("case", CASES)
def test_slopes_and_windows_are_the_vectors(vectors: Path, case: str) -> None:
    doc = json.loads((vectors / "drift.json").read_text())
    arrays = np.load(vectors / "drift.npz", allow_pickle=False)
    want, period = doc["cases"][case], doc["params"]["period_s"]
    t, d = arrays[f"t_{case}"], arrays[f"d_{case}"]
    ppm, intercept, (lo, hi) = drift.theil_sen(t, d)
    for got, key in ((ppm, "theil_slope_ppm"), (lo, "theil_lo_ppm"), (hi, "theil_hi_ppm")):
        assert got == pytest.approx(want[key], rel=1e-9, abs=1e-6)
    assert intercept == pytest.approx(want["theil_intercept"], abs=1e-9)
    found = drift.measure(t, (d / period) % 1.0, np.arange(len(t)), period, len(t))
    assert found is not None
    assert found.stability == pytest.approx(want["stability_R_of_window_means"], abs=1e-9)
    assert np.abs(found.R - want["R_windows"]).max() <= 1e-9
    assert np.abs(found.mean_phase_rad - want["mean_phase_windows_rad"]).max() <= 1e-9
    assert found.excursion == pytest.approx(want["total_phase_excursion_cycles"], abs=1e-9)
    # Unwrapped from phases alone, through several cycles, without the deviations: the same slope within its interval.
    assert found.ppm == pytest.approx(want["theil_slope_ppm"], abs=15) and lo - 15 <= found.ppm <= hi + 15


def peaks(ppm: float, n: int = 240, jitter: float = 0.01, off: float = 0.0, seed: int = 5) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    beat = 0.5 * np.arange(n)
    at = beat * (1 + ppm * 1e-6) + 0.02 + jitter * rng.standard_normal(n)
    at = at + 0.25 * (rng.random(n) < off)
    return at, (at / 0.5) % 1.0, np.floor(at / 0.5).astype(np.int64)


@pytest.mark.parametrize("ppm", [-50_000.0, -3000.0, -200.0, 0.0, 500.0, 20_000.0, 90_000.0])
def test_the_slope_that_is_put_in_comes_out(ppm: float) -> None:
    found = drift.measure(*peaks(ppm), 0.5, 240)
    over_own_time = ppm / (1 + ppm * 1e-6)  # deviations are fitted over the times of the peaks
    assert found is not None and found.ppm == pytest.approx(over_own_time, abs=60)
    assert (found.stability >= 0.95) == (abs(ppm) <= 700)


def test_the_interval_holds_the_slope() -> None:
    hits = 0
    for seed in range(60):
        found = drift.measure(*peaks(150.0, seed=seed), 0.5, 240)
        hits += found is not None and found.ppm_ci[0] <= 150.0 <= found.ppm_ci[1]
    assert 52 <= hits <= 60


def test_off_beats_do_not_break_the_unwrapping() -> None:
    found = drift.measure(*peaks(300.0, off=0.3), 0.5, 240)
    assert found is not None and found.ppm == pytest.approx(300, abs=80) and len(found.t_s) < 190


def test_perfect_is_one_and_random_is_chance() -> None:
    found = drift.measure(*peaks(0.0, jitter=0.0), 0.5, 240)
    assert found is not None and found.stability == pytest.approx(1.0) and found.ppm == pytest.approx(0, abs=1e-6)
    rng = np.random.default_rng(6)
    wild = drift.stability(rng.random((200, 240)), np.tile(np.arange(240), (200, 1)), 0, 240)
    assert 0.1 < wild.mean() < 0.45 and (wild > 0.95).sum() == 0


def test_many_rows_are_one_row_many_times() -> None:
    at, phase, index = peaks(1000.0)
    rows = drift.stability(np.stack([phase, (phase + 0.3) % 1]), np.stack([index, index]), int(index.min()), 240)
    one = drift.measure(at, phase, index, 0.5, 240)
    assert one is not None and rows == pytest.approx([one.stability, one.stability])


def test_too_little_is_none() -> None:
    at, phase, index = peaks(0.0)
    assert drift.measure(at[:60], phase[:60], index[:60], 0.5, 60) is None
    assert drift.measure(at[::9], phase[::9], index[::9], 0.5, 240) is None, "windows with 3 peaks say nothing"
    with pytest.raises(DataError):
        drift.measure(at, phase[:-1], index, 0.5, 240)
    with pytest.raises(DataError):
        drift.measure(at, phase, index, 0.0, 240)


def test_intervals_over_sessions() -> None:
    rng = np.random.default_rng(0)
    mean, ci, why = session_mean([0.5], rng)
    assert (mean, ci) == (0.5, None) and why is not None and "one session" in why
    mean, ci, why = session_mean([0.2, 0.4, 0.6, 0.8], rng)
    assert mean == pytest.approx(0.5) and why is None and ci is not None and 0.2 < ci[0] < 0.5 < ci[1] < 0.8
    assert two_level_mean([3.0], [(1.0, 5.0)], rng) == (3.0, (1.0, 5.0))
    _, wide = two_level_mean([10.0, 10.0], [(0.0, 20.0), (0.0, 20.0)], rng)
    assert wide[1] - wide[0] == pytest.approx(20 / np.sqrt(2), rel=0.05)
    low = seed_interval([1.0, 2.0, 3.0])
    assert seed_interval([1.0]) is None and low is not None
    assert low[1] - 2.0 == pytest.approx(4.302653 / np.sqrt(3), rel=1e-6)


def test_session_bootstrap_covers_the_truth() -> None:
    """With 12 sessions about 92 % of 95 % percentile intervals hold the mean; they must not be far too narrow."""
    rng = np.random.default_rng(9)
    hits = 0
    for _ in range(300):
        _, ci, _ = session_mean(rng.normal(1.0, 0.3, 12), rng, draws=400)
        hits += ci is not None and ci[0] <= 1.0 <= ci[1]
    assert 0.86 <= hits / 300 <= 0.98
