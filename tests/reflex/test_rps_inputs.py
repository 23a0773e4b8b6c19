"""What the encoders see: the phase's jump, missing values, constants of the training split, draws."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import rps_cases as cases
from hypothesis import given
from hypothesis import strategies as st

from choreo_cli.reflex import rps_data
from choreo_cli.reflex.inputs import (
    COLUMNS,
    OPTIONAL,
    PHASE,
    Standard,
    fit_standard,
    measured,
    wrap,
)
from choreo_cli.reflex.rps_data import Dropped, RowItems, draw, measured_rows, spread, uniforms
from formats.columns import INPUTS

PLAIN = Standard(np.zeros(11, np.float32), np.ones(11, np.float32))


def test_the_phase_jumps_on_the_off_beat() -> None:
    x = np.zeros((5, 11), np.float32)
    x[:, PHASE] = [0, 0.25, 0.4999, 0.5, 0.9999]
    assert wrap(x)[:, PHASE] == pytest.approx([0, 0.25, 0.4999, -0.5, -0.0001], abs=1e-6)
    assert (x[:, PHASE] >= 0).all(), "the frames themselves are left alone"


def test_statistics_are_those_of_the_real_values() -> None:
    x, mask = cases.waves(700)
    x[::3, 3] = np.nan
    mask[100:300, 1] = False
    found = fit_standard([(x, mask)])
    sway = x[:, 3][~np.isnan(x[:, 3])]
    rate = x[mask[:, 1], 6]
    assert found.standard.mean[3] == pytest.approx(sway.mean(), abs=1e-6)
    assert found.standard.std[6] == pytest.approx(rate.std(), rel=1e-5)
    assert found.counts[[3, 6]].tolist() == [len(sway), 500]


@given(st.lists(st.integers(1, 699), max_size=6))
def test_statistics_do_not_depend_on_the_chunks(cuts: list[int]) -> None:
    x, mask = cases.waves(700)
    edges = [0, *sorted(cuts), 700]
    parts = [(x[a:b], mask[a:b]) for a, b in itertools.pairwise(edges)]
    whole, found = fit_standard([(x, mask)]), fit_standard(parts)
    np.testing.assert_allclose(found.standard.mean, whole.standard.mean, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(found.standard.std, whole.standard.std, rtol=1e-6)


def test_standardised_training_rows_have_mean_0_and_variance_1_and_missing_is_0() -> None:
    x, mask = cases.waves(2000)
    x[5:50, 4] = np.nan
    value, real = fit_standard([(x, mask)]).standard.apply(x, mask)
    assert (value[5:50, 4] == 0).all() and real.all()
    np.testing.assert_allclose(value.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(np.delete(value.std(axis=0), 4), 1, atol=1e-3)


def test_a_masked_value_is_missing_whatever_it_says() -> None:
    x, mask = cases.waves(10)
    mask[:, 1] = False
    value, real = PLAIN.apply(x, mask)
    assert (value[:, 6:8] == 0).all() and not real[:, 1].any() and real[:, [0, 2, 3]].all()


def test_a_modality_without_one_value_is_not_measured() -> None:
    x, mask = cases.waves(3)
    x[0, 6:8] = np.nan
    x[1, 7] = np.nan
    assert measured(x, mask)[:, 1].tolist() == [False, True, True]


def test_constant_and_unseen_columns_are_named_and_harmless() -> None:
    x, mask = cases.waves(400)
    x[:, 5] = 0.8
    mask[:, 1] = False
    found = fit_standard([(x, mask)])
    assert found.constant == ("symmetry",) and found.never_seen == ("hr",)
    value, _ = found.standard.apply(x, mask)
    assert np.isfinite(value).all() and np.abs(value[:, 5]).max() < 1e-3
    # A value that moves at last stays within a few deviations.
    x[:, 5] = 0.0
    assert np.abs(found.standard.apply(x, mask)[0][:, 5]).max() < 4


def test_no_rows_at_all() -> None:
    found = fit_standard([])
    assert found.never_seen == ("mot", "hr", "aud", "ctx") and (found.standard.std > 0).all()


def test_optional_columns_may_be_null() -> None:
    assert all(INPUTS[k].nullable for k in OPTIONAL)
    assert {COLUMNS[k] for k in OPTIONAL} & {"motion_energy", "motion_freq", "jerk", "hr", "beat_phase"} == set()


def test_items_are_the_measured_rows_of_the_runs(tmp_path: object) -> None:
    class Frames:
        mask = np.array([[1, 0, 0, 0]] * 4 + [[0, 0, 0, 0]] * 3 + [[0, 0, 0, 1]] * 3, bool)

        def runs(self, split: str) -> np.ndarray:
            assert split == "train"
            return np.array([[1, 6], [6, 9]])

    items = measured_rows(Frames(), "train")  # type: ignore[arg-type]
    assert items.rows(np.arange(items.n)).tolist() == [1, 2, 3, 7, 8]
    assert len(items.start) == 2, "memory follows the stretches, not the rows"


def test_items_do_not_depend_on_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    class Frames:
        mask = np.random.default_rng(0).random((1000, 4)) < 0.3

        def runs(self, split: str) -> np.ndarray:
            return np.array([[3, 500], [500, 998]])

    want = [r for r in range(3, 998) if Frames.mask[r].any()]
    for chunk in (7, 64, 10_000):
        monkeypatch.setattr(rps_data, "CHUNK", chunk)
        items = measured_rows(Frames(), "train")  # type: ignore[arg-type]
        assert items.rows(np.arange(items.n)).tolist() == want


def test_spread_covers_evenly_and_without_overflow() -> None:
    items = RowItems(np.array([10]), np.array([0, 10**12]))
    rows = np.concatenate(list(spread(items, 1000)))
    assert len(rows) == 1000 and rows[0] == 10 and (np.diff(rows) == 10**9).all()


def test_draws_follow_from_seed_epoch_and_item_alone() -> None:
    items = np.array([5, 900_000_000_000, 7])
    u = uniforms((1, 2), items, 9)
    assert (uniforms((1, 2), items[::-1], 9) == u[::-1]).all()
    assert (uniforms((1, 3), items, 9) != u).all() and (uniforms((2, 2), items, 9) != u).all()
    many = uniforms((0, 0), np.arange(20_000), 9)
    assert np.abs(many.mean(axis=0) - 0.5).max() < 0.01 and np.abs(np.corrcoef(many.T) - np.eye(9)).max() < 0.03


def test_modality_dropout_never_drops_all_and_keeps_its_rate() -> None:
    x, mask = cases.waves(20_000)
    mask[10_000:, :3] = False
    seen = np.ones(4, bool)
    got = draw(x, mask, PLAIN, seen, Dropped(0.0, 0.2), (0, 0), np.arange(20_000))
    assert got.kept.any(axis=1).all() and not (got.kept & ~got.measured).any()
    assert got.kept[10_000:, 3].all(), "the only measured modality stays"
    assert 1 - got.kept[:10_000].mean() == pytest.approx(0.2, abs=0.01)


def test_feature_dropout_touches_optional_columns_only() -> None:
    x, mask = cases.waves(5000)
    got = draw(x, mask, PLAIN, np.ones(4, bool), Dropped(0.3, 0.0), (0, 0), np.arange(5000))
    changed = (got.x != got.clean).mean(axis=0)
    assert np.flatnonzero(changed).tolist() == list(OPTIONAL)
    assert changed[list(OPTIONAL)] == pytest.approx(0.3, abs=0.03)
    assert got.kept.all()


def test_a_modality_that_is_not_used_counts_as_missing() -> None:
    x, mask = cases.waves(10)
    got = draw(x, mask, PLAIN, np.array([True, False, True, True]), Dropped(0, 0), (0, 0), np.arange(10))
    assert not got.measured[:, 1].any() and not got.given[:, 6:8].any() and (got.x[:, 6:8] == 0).all()
