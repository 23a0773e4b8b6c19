"""Solvers against the reference vectors and their order; couplings; guidance; schedules of the diffusion."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest

from choreo_cli.errors import UsageError
from choreo_cli.generate import solvers
from choreo_cli.generate.config import SOLVERS
from choreo_cli.generate.coupling import noise_order, optimal_permutation, pair_costs
from choreo_cli.generate.diffusion import signal_share, visited
from choreo_cli.generate.guidance import Guidance, combine


@pytest.fixture
def expected(vectors: Path) -> tuple[Path, dict]:
    folder = vectors.parent / "generation"
    return folder, json.loads((folder / "expected.json").read_text())["cases"]


def test_solvers_meet_the_vector(expected: tuple[Path, dict]) -> None:
    folder, cases = expected
    case, arrays = cases["ode_linear"], np.load(folder / "ode_linear.npz", allow_pickle=False)
    a, b, x0 = (arrays[k] for k in ("A", "b", "x0"))
    met = 0
    for key, value in case["expected"].items():
        name, _, steps = key.partition("_")
        if name not in SOLVERS:
            continue
        found = solvers.solve(lambda x, t: x @ a.T + b * np.sin(3 * t), x0, solvers.time_grid(int(steps)), name)
        np.testing.assert_allclose(found, value, rtol=0, atol=case["tolerance"][key]["atol"], err_msg=key)
        met += 1
    assert met == 16


@pytest.mark.parametrize(("name", "order"), list(zip(SOLVERS, (1, 2, 2, 3, 4, 2), strict=True)))
@pytest.mark.parametrize("shift", [1.0, 2.5])
def test_order_and_evaluations(name: str, order: int, shift: float) -> None:
    calls: list[float] = []

    def v(x: np.ndarray, t: float) -> np.ndarray:
        calls.append(t)
        return np.array([x[0] * math.cos(3 * t), -x[1] * x[1]])

    exact = np.array([math.exp(math.sin(3) / 3), 1 / 2])
    errors = []
    for steps in (64, 128, 256):
        calls.clear()
        found = solvers.solve(v, np.ones(2), solvers.time_grid(steps, shift), name)
        assert len(calls) == solvers.evaluations(name, steps) and min(calls) >= 0 and max(calls) <= 1 + 1e-12
        errors.append(np.abs(found - exact).max())
    rates = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert all(order - 0.35 < r < order + 0.9 for r in rates), rates


def test_a_straight_path_is_exact_in_one_step() -> None:
    x0, x1 = np.random.default_rng(0).standard_normal((2, 5))
    for name in SOLVERS:
        np.testing.assert_allclose(solvers.solve(lambda x, t: x1 - x0, x0, [0.0, 1.0], name), x1, atol=1e-12)


def test_grids() -> None:
    assert solvers.time_grid(4).tolist() == [0, 0.25, 0.5, 0.75, 1]
    late = solvers.time_grid(4, 3.0)
    assert late[0] == 0 and late[-1] == 1 and (late[1:-1] > [0.25, 0.5, 0.75]).all() and (np.diff(late) > 0).all()
    for bad in (lambda: solvers.time_grid(0), lambda: solvers.time_grid(2, 0), lambda: solvers.evaluations("rk5", 1)):
        with pytest.raises(UsageError):
            bad()
    with pytest.raises(UsageError, match="at least one step"):
        solvers.solve(lambda x, t: x, np.ones(1), [0.0])


def test_solvers_take_torch_too() -> None:
    torch = pytest.importorskip("torch")
    x0 = np.random.default_rng(0).standard_normal((2, 3)).astype(np.float32)
    for name in SOLVERS:
        ours = solvers.solve(lambda x, t: -x * t, x0, solvers.time_grid(3), name)
        theirs = solvers.solve(lambda x, t: -x * t, torch.from_numpy(x0), solvers.time_grid(3), name)
        assert ours.dtype == np.float32 and np.abs(ours - theirs.numpy()).max() < 1e-6


# Couplings.


def test_transport_meets_the_vector(expected: tuple[Path, dict]) -> None:
    folder, cases = expected
    case, arrays = cases["otcfm"], np.load(folder / "otcfm.npz", allow_pickle=False)
    x0, x1 = arrays["x0"], arrays["x1"]
    perm = optimal_permutation(x0, x1)
    assert perm.tolist() == case["expected"]["perm_x0_to_x1"]
    costs = pair_costs(x0, x1)
    rtol = case["tolerance"]["cost_ot"]["rtol"]
    assert costs[np.arange(32), perm].mean() == pytest.approx(case["expected"]["cost_ot"], rel=rtol)
    assert costs.diagonal().mean() == pytest.approx(case["expected"]["cost_identity"], rel=rtol)
    order = noise_order(x0, x1, np.zeros(32, int))
    assert perm[order].tolist() == list(range(32))  # x0[order[i]] belongs to x1[i]


def test_transport_is_the_best_of_all_permutations() -> None:
    x0, x1 = np.random.default_rng(0).standard_normal((2, 6, 3))
    costs = pair_costs(x0, x1)
    np.testing.assert_allclose(costs, ((x0[:, None] - x1[None]) ** 2).sum(-1), atol=1e-12)
    best = min(sum(costs[i, p[i]] for i in range(6)) for p in itertools.permutations(range(6)))
    perm = optimal_permutation(x0, x1)
    assert costs[np.arange(6), perm].sum() == pytest.approx(best)


def test_transport_stays_within_equal_conditions() -> None:
    rng = np.random.default_rng(0)
    x0, x1 = rng.standard_normal((2, 40, 2))
    labels = np.where(rng.random(40) < 0.5, -1, np.arange(40))
    order = noise_order(x0, x1, labels)
    assert sorted(order.tolist()) == list(range(40))
    assert (labels[order] == labels).all()  # a row of its own keeps its noise
    alike = labels == -1
    assert ((x0[order] - x1)[alike] ** 2).sum() < ((x0 - x1)[alike] ** 2).sum()
    assert noise_order(x0, x1, np.arange(40)).tolist() == list(range(40))


# Guidance.


def answers(audio: bool, text: bool) -> np.ndarray:
    return np.array([1.0, 10.0 * audio, 100.0 * (audio and text), 1000.0 * text])


@pytest.mark.parametrize("wa", [0.0, 1.0, 2.5])
@pytest.mark.parametrize("wt", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("has", list(itertools.product([True, False], repeat=2)))
def test_guidance_is_the_nested_formula(wa: float, wt: float, has: tuple[bool, bool]) -> None:
    audio, text = has
    v0, va, vat = answers(False, False), answers(audio, False), answers(audio, text)
    wanted = v0 + wa * (va - v0) + wt * (vat - va)
    told = Guidance(wa, wt).branches(0.5, audio=audio, text=text)
    if not text:
        wanted = v0 + wa * (va - v0)
    np.testing.assert_allclose(combine([answers(*b) for b, _ in told], [w for _, w in told]), wanted, atol=1e-9)
    assert sum(w for _, w in told) == pytest.approx(1) and len({b for b, _ in told}) == len(told)


def test_guidance_holds_inside_its_interval_alone() -> None:
    g = Guidance(2.0, low=0.1, high=0.9)
    assert [len(g.branches(t)) for t in (0.0, 0.05, 0.1, 0.5, 0.9, 0.95, 1.0)] == [1, 1, 2, 2, 2, 1, 1]
    assert g.branches(0.0, audio=True, text=True) == [((True, True), 1.0)]
    assert len(Guidance(2.0, 3.0).branches(0.5, audio=True, text=True)) == 3
    assert Guidance().branches(0.5, audio=True, text=True) == [((True, True), 1.0)]
    for bad in ({"low": 0.5, "high": 0.4}, {"high": 1.5}, {"audio": math.nan}):
        with pytest.raises(UsageError):
            Guidance(**bad)


# Schedules.


def test_the_cosine_schedule() -> None:
    share = signal_share()
    assert share.shape == (1000,) and (np.diff(share) < 0).all() and share[0] > 0.9999 and share[-1] < 1e-5
    half = np.cos((501 / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2 / np.cos(0.008 / 1.008 * math.pi / 2) ** 2
    assert share[500] == pytest.approx(half, rel=1e-9)
    assert not share.flags.writeable


def test_visited_steps() -> None:
    assert visited(1).tolist() == [999, -1] and len(visited(1000)) == 1001
    assert (np.diff(visited(50)) == -20).all() and visited(50)[0] == 999 and visited(50)[-1] == -1
    for bad in (0, 1001):
        with pytest.raises(UsageError, match="steps of diffusion"):
            visited(bad)
