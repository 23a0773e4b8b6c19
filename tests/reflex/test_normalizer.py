"""M2: exact merging, the round trip, and no drift at inference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from choreo_cli.errors import DataError
from choreo_cli.reflex.normalizer import CLAMP, STD_FLOOR, LatentNormalizer
from formats.errors import FormatError


def latents(n: int, dim: int = 104, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(0, 1, (n, dim)) * rng.uniform(0.05, 2, dim) + rng.normal(0, 3, dim)).astype(np.float32)


def of(*parts: np.ndarray) -> LatentNormalizer:
    made = LatentNormalizer(parts[0].shape[1])
    for part in parts:
        made.update(part)
    return made


@given(st.integers(0, 300), st.integers(0, 2**31))
def test_two_halves_merged_are_the_whole(cut: int, seed: int) -> None:
    z = latents(300, 5, seed)
    half = of(z[:cut])
    half.merge(of(z[cut:]))
    whole = np.asarray(z, np.float64)
    assert half.count == 300
    np.testing.assert_allclose(half.mean, whole.mean(axis=0), rtol=0, atol=1e-12)
    np.testing.assert_allclose(half.std, np.maximum(whole.std(axis=0), STD_FLOOR), rtol=1e-12)


def test_row_by_row_is_the_whole_even_far_from_zero() -> None:
    z = latents(200, 3).astype(np.float64) + 1e6
    made = of(*(z[k : k + 1] for k in range(200)))
    np.testing.assert_allclose(made.std, z.std(axis=0), rtol=1e-8)


def test_apply_then_invert_recovers_what_was_not_clamped() -> None:
    z = latents(500)
    made = of(z)
    y = made.apply(z)
    inside = np.abs(y) < CLAMP
    assert inside.mean() > 0.999
    np.testing.assert_allclose(made.invert(y)[inside], z[inside], rtol=0, atol=1e-6 * np.abs(z).max())
    np.testing.assert_allclose(y.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(y.std(axis=0), 1, atol=1e-5)


def test_unit_latents_come_back_to_1e_6() -> None:
    z = np.random.default_rng(0).normal(0, 1 / 8, (500, 104)).astype(np.float32)
    made = of(z)
    np.testing.assert_allclose(made.invert(made.apply(z)), z, rtol=0, atol=1e-6)


def test_outputs_are_clamped_and_a_constant_dimension_is_divided_by_the_floor() -> None:
    made = of(np.zeros((10, 2)))
    assert made.std.tolist() == [STD_FLOOR, STD_FLOOR]
    assert made.apply(np.array([[1.0, -1.0]])).tolist() == [[CLAMP, -CLAMP]]
    np.testing.assert_allclose(made.apply(np.array([[0.002, 0.0]])), [[2, 0]], rtol=1e-6)


def test_a_stored_normaliser_is_frozen_and_says_the_same() -> None:
    z = latents(100)
    made = of(z)
    back = LatentNormalizer.of(made.state())
    assert back.frozen and back.count == 100
    assert (back.apply(z) == made.apply(z)).all()
    with pytest.raises(DataError, match="frozen"):
        back.update(z)
    with pytest.raises(DataError, match="frozen"):
        back.merge(made)
    assert (back.mean == made.mean).all()


def test_state_is_a_copy() -> None:
    made = of(latents(10, 3))
    made.state()["mean"][:] = 99
    assert (made.mean != 99).all()


@pytest.mark.parametrize("bad", [np.zeros((3, 2)), np.zeros(3), np.array([[np.nan, 0, 0]]), np.array([[np.inf, 0, 0]])])
def test_what_cannot_be_taken_in_changes_nothing(bad: np.ndarray) -> None:
    made = of(np.ones((4, 3)))
    with pytest.raises(DataError):
        made.update(bad)
    assert made.count == 4 and made.mean.tolist() == [1, 1, 1]


def test_other_widths_do_not_merge() -> None:
    with pytest.raises(DataError, match="3 dimensions"):
        LatentNormalizer(2).merge(LatentNormalizer(3))


def test_nothing_seen_leaves_latents_as_they_are() -> None:
    z = np.array([[0.5, -2.0]], np.float32)
    assert (LatentNormalizer(2).apply(z) == z).all()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("square", None), ("square", np.array([-1.0, 0])), ("mean", np.array([np.nan, 0])), ("mean", np.zeros(3)),
        ("count", np.array([-1])), ("count", np.array([1, 2])),
    ],
)  # fmt: skip
def test_a_state_that_cannot_be_one_is_refused(key: str, value: np.ndarray | None) -> None:
    state = of(np.ones((2, 2))).state()
    if value is None:
        del state[key]
    else:
        state[key] = value
    with pytest.raises(FormatError):
        LatentNormalizer.of(state)
