"""The order of items is a permutation, computed at any place, different in every epoch, in little memory."""

from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from choreo_cli.training.order import LARGEST, batches, mix, permuted, steps_per_epoch


@given(n=st.integers(1, 3000), seed=st.integers(0, 2**63), epoch=st.integers(0, 1000))
def test_every_item_comes_exactly_once(n: int, seed: int, epoch: int) -> None:
    items = permuted(np.arange(n), n, seed, epoch)
    assert np.array_equal(np.sort(items), np.arange(n))


@pytest.mark.parametrize("n", [*range(1, 70), 2**16 - 1, 2**16, 2**16 + 1, 1_000_003])
def test_sizes_around_squares_and_powers(n: int) -> None:
    assert np.bincount(permuted(np.arange(n), n, 1, 2), minlength=n).max() == 1


@given(n=st.integers(1, 400), batch=st.integers(1, 64), start=st.integers(0, 400))
def test_batches_hold_all_items_evenly_and_start_anywhere(n: int, batch: int, start: int) -> None:
    whole = list(batches(n, batch, 7, 3))
    assert len(whole) == steps_per_epoch(n, batch)
    sizes = {len(b) for b in whole}
    assert max(sizes) <= batch and max(sizes) - min(sizes) <= 1
    assert np.array_equal(np.sort(np.concatenate(whole)), np.arange(n))
    late = list(batches(n, batch, 7, 3, start))
    assert [b.tolist() for b in late] == [b.tolist() for b in whole[start:]]


def test_blocks_that_are_computed_together_leave_no_seam() -> None:
    n, batch = 40_000, 3000  # more than one block of positions
    found = np.concatenate(list(batches(n, batch, 1, 1)))
    assert np.array_equal(found, permuted(np.arange(n), n, 1, 1))


@pytest.mark.parametrize("n", [2, 3, 5, 17, 100])
def test_an_item_lands_anywhere_equally_often(n: int) -> None:
    draws = 4000
    for position in {0, n // 2, n - 1}:
        found = [int(permuted(np.array([position]), n, 11, epoch)[0]) for epoch in range(draws)]
        assert stats.chisquare(np.bincount(found, minlength=n)).pvalue > 1e-4


def test_neighbours_do_not_stay_together() -> None:
    n, draws = 50, 3000
    gaps = [int(np.diff(permuted(np.array([20, 21]), n, 5, epoch))[0]) % n for epoch in range(draws)]
    assert stats.chisquare(np.bincount(gaps, minlength=n)[1:]).pvalue > 1e-4


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    n = 5000
    orders = [permuted(np.arange(n), n, seed, epoch) for seed in (0, 1) for epoch in range(4)]
    for a, b in itertools.combinations(orders, 2):
        assert (a == b).sum() < 12  # one agreement is expected
        assert abs(stats.spearmanr(a, b).statistic) < 0.06  # four standard errors


def test_a_thousand_hours_cost_no_memory() -> None:
    n = 180_000_000
    take = batches(n, 256, 0, 0, 350_000)
    next(take)
    tracemalloc.start()
    found = np.concatenate([next(take) for _ in range(200)])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(np.unique(found)) == len(found) and found.min() >= 0 and found.max() < n
    assert found.max() - found.min() > 0.99 * n
    assert peak < 4e6


def test_what_is_out_of_range_is_refused() -> None:
    for n in (0, LARGEST + 1):
        with pytest.raises(ValueError, match="an order of"):
            permuted(np.array([0]), n, 0)
    with pytest.raises(ValueError, match="outside"):
        permuted(np.array([5]), 5, 0)
    assert 0 <= permuted(np.array([LARGEST - 1]), LARGEST, 0)[0] < LARGEST


def test_seeds_follow_from_words_in_their_order() -> None:
    seeds = {mix(a, b) for a in range(300) for b in range(300)}
    assert len(seeds) == 90_000 and all(0 <= s < 2**63 for s in seeds)
    assert mix(3, 4) == mix(3, 4) != mix(4, 3) != mix(3, 4, 0)
    # the first output of SplitMix64 from state 0 (the reference implementation), shifted by one bit
    assert mix(0) == 0xE220A8397B1DCDAF >> 1
