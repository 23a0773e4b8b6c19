"""The prox map: a linear system with a known fixed point, and its Lipschitz bound."""

from __future__ import annotations

import numpy as np
import pytest

from choreo_cli.reflex.prox import Translators, lipschitz, proxstep, spectral_norm


def system(norm: float, dim: int = 12, seed: int = 0) -> Translators:
    rng = np.random.default_rng(seed)
    w = rng.standard_normal((dim, dim))
    return Translators(w * (norm / np.linalg.norm(w, 2)), rng.standard_normal(dim))


def test_one_step_is_the_formula() -> None:
    t = system(0.9)
    z = np.random.default_rng(1).standard_normal((4, 12))
    want = [0.7 * row + 0.3 * (t.weight @ row + t.bias) for row in z]
    np.testing.assert_allclose(proxstep(z, t, 0.3), want, rtol=1e-12)


def test_a_contraction_reaches_its_fixed_point_at_its_rate() -> None:
    t = system(0.9)
    fixed = np.linalg.solve(np.eye(12) - t.weight, t.bias)
    z = np.random.default_rng(2).standard_normal((1, 12)) * 5
    bound, far = lipschitz(t, 0.2), np.linalg.norm(z - fixed)
    assert bound == pytest.approx(0.8 + 0.2 * 0.9)
    for _ in range(400):
        z = proxstep(z, t, 0.2)
        near = np.linalg.norm(z - fixed)
        assert near <= bound * far + 1e-12
        far = near
    np.testing.assert_allclose(z[0], fixed, atol=1e-3)
    np.testing.assert_allclose(proxstep(fixed[None], t), fixed[None], atol=1e-12)


def test_an_expanding_operator_is_told_by_the_bound() -> None:
    w = np.diag([1.5, 0.1])
    t = Translators(w, np.zeros(2))
    assert lipschitz(t, 0.5) == pytest.approx(0.5 + 0.5 * 1.5)
    z = np.array([[1.0, 1.0]])
    assert np.linalg.norm(proxstep(z, t, 0.5)[0, 0]) == pytest.approx(1.25)


def test_spectral_norm_is_the_largest_stretch() -> None:
    w = system(0.7).weight
    v = np.random.default_rng(3).standard_normal((12, 1000))
    assert spectral_norm(w) == pytest.approx(0.7)
    assert (np.linalg.norm(w @ v, axis=0) <= 0.7 * np.linalg.norm(v, axis=0) + 1e-12).all()


def test_alpha_0_does_nothing_and_alpha_1_is_the_translators() -> None:
    t, z = system(0.5), np.ones((2, 12))
    assert (proxstep(z, t, 0) == z).all()
    np.testing.assert_allclose(proxstep(z, t, 1), t(z))


def test_the_type_of_the_latents_is_kept() -> None:
    assert proxstep(np.ones((2, 12), np.float32), system(0.5)).dtype == np.float32
