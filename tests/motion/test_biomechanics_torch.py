"""Biomechanics of tensors: the numbers that arrays give, and gradients that lead out of trouble."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from choreo_cli.motion import biomechanics  # noqa: E402
from formats.foreign.joints import CANONICAL  # noqa: E402
from tests.metrics.motion_material import dance, noise_walk, standing  # noqa: E402

REST = np.array([[0.05, 0.05]] * 2)


def batch() -> np.ndarray:
    """Two clips that break every rule somewhere."""
    wild = dance(1.5, seed=1) + noise_walk(45, 22, 5) * 0.6
    return np.stack([dance(1.5), wild - [0, 0.1, 0]])


@pytest.mark.parametrize(
    "name",
    ["stature", "hinge_flexion", "limit_excess", "centre_of_mass", "self_penetration", "pelvis_frame", "chest_frame"],
)
def test_same_numbers(name: str) -> None:
    x = batch()
    expected = getattr(biomechanics, name)(x)
    assert expected.any()
    assert getattr(biomechanics, name)(torch.tensor(x)).numpy() == pytest.approx(expected, abs=1e-10)


def test_same_numbers_with_contacts() -> None:
    x = batch()
    rng = np.random.default_rng(0)
    contacts = rng.integers(0, 2, (2, 45, 2)).astype(float)
    t, c, r = torch.tensor(x), torch.tensor(contacts), torch.tensor(REST)
    assert biomechanics.ground_penetration(t, r).numpy() == pytest.approx(
        biomechanics.ground_penetration(x, REST), abs=1e-12
    )
    assert biomechanics.floating(t, c, r).numpy() == pytest.approx(biomechanics.floating(x, contacts, REST), abs=1e-12)
    assert (biomechanics.in_flight(t, c, r).numpy() == biomechanics.in_flight(x, contacts, REST)).all()
    assert biomechanics.flight_residual(t, 30.0).numpy() == pytest.approx(
        biomechanics.flight_residual(x, 30.0), abs=1e-9
    )
    mine, theirs = biomechanics.support_distance(t, c).numpy(), biomechanics.support_distance(x, contacts)
    assert (np.isnan(mine) == np.isnan(theirs)).all() and np.isnan(mine).any()
    assert np.nan_to_num(mine) == pytest.approx(np.nan_to_num(theirs), abs=1e-10)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gradients_are_finite_even_for_a_straight_still_body(dtype: str) -> None:
    # Straight limbs and an upright pelvis are where roots and angles have no slope of their own.
    x = np.stack([standing(12), np.zeros((12, 22, 3))])
    t = torch.tensor(x, dtype=getattr(torch, dtype), requires_grad=True)
    losses = biomechanics.plausibility_loss(
        t, torch.ones(2, 12, 2, dtype=t.dtype), torch.tensor(REST, dtype=t.dtype), 30.0
    )
    sum(losses.values()).backward()
    assert torch.isfinite(t.grad).all()
    biomechanics.limit_excess(t).sum().backward()
    assert torch.isfinite(t.grad).all()


def test_the_slope_is_that_of_small_differences() -> None:
    x = batch()[1:, :6]
    weights = torch.tensor(np.random.default_rng(1).normal(size=(1, 6, 22, 3)))

    def total(joints: torch.Tensor) -> torch.Tensor:
        return (
            biomechanics.self_penetration(joints).sum()
            + biomechanics.limit_excess(joints).sum()
            + biomechanics.ground_penetration(joints, torch.tensor(REST[:1])).sum()
        )

    t = torch.tensor(x, requires_grad=True)
    total(t).backward()
    slope = float((t.grad * weights).sum())
    step = 1e-6
    ahead, behind = (total(torch.tensor(x) + s * weights).item() for s in (step, -step))
    assert slope == pytest.approx((ahead - behind) / (2 * step), rel=1e-4)
    assert abs(slope) > 1


def test_descent_takes_an_arm_out_of_the_trunk_and_feet_out_of_the_floor() -> None:
    x = standing(8)[None]
    at = CANONICAL.index
    x[..., at("l_elbow"), :] = x[..., at("spine2"), :] + np.array([0.15, 0.1, 0.02])
    x[..., at("l_wrist"), :] = x[..., at("spine2"), :] + np.array([-0.05, 0.1, 0.04])
    x[..., 1] -= 0.04
    t = torch.tensor(x, requires_grad=True)
    rest = torch.tensor([[0.05, 0.05]], dtype=torch.float64)
    optimiser = torch.optim.Adam([t], lr=3e-3)

    def trouble() -> torch.Tensor:
        return biomechanics.self_penetration(t).sum(-1).mean() + biomechanics.ground_penetration(t, rest).sum(-1).mean()

    before = trouble().item()
    for _ in range(60):
        optimiser.zero_grad()
        trouble().backward()
        optimiser.step()
    assert before > 0.1 and trouble().item() < 0.1 * before
