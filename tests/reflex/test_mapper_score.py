"""How a mapper is judged: perfect, late, constant, clipped; and the effect of the normaliser over paired seeds."""

from __future__ import annotations

import numpy as np
import pytest

from choreo_cli.errors import DataError
from choreo_cli.reflex.mapper_score import Piece, best_lag, clipped, interval, judge, normalizer_effect, r2


def wave(n: int = 2000, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    t = np.arange(n)[:, None] * 0.02
    return (0.5 + 0.3 * np.sin(t * rng.uniform(1, 6, 5) + rng.uniform(0, 6, 5))).astype(np.float32)


def named(entries: list[dict]) -> dict[str, dict]:
    return {e["name"]: e for e in entries}


def test_perfect_is_one_and_the_mean_is_nothing() -> None:
    y = wave()
    found = named(judge([Piece("a", y, y), Piece("b", wave(seed=1), wave(seed=1))]))
    assert found["mapper.r2.density"]["value"] == 1.0 and found["mapper.r2.density"]["pass"] is True
    assert found["mapper.loss_ratio"]["value"] == 0.0 and found["mapper.lag"]["value"] == 0.0
    mean = np.tile(y.mean(axis=0), (len(y), 1))
    found = named(judge([Piece("a", mean, y)]))
    assert found["mapper.r2.density"]["value"] == pytest.approx(0, abs=1e-5)
    assert found["mapper.loss_ratio"]["value"] == pytest.approx(1, abs=1e-4)
    assert found["mapper.r2.density"]["pass"] is False and found["mapper.r2.density"]["ci"] is None


def test_r2_by_a_second_way() -> None:
    rng = np.random.default_rng(0)
    y = rng.standard_normal(500)
    made = y + 0.3 * rng.standard_normal(500)
    assert r2(made, y) == pytest.approx(1 - ((made - y) ** 2).sum() / (len(y) * np.var(y)))
    assert r2(np.zeros(9), np.ones(9)) is None


def test_a_late_control_has_a_positive_lag() -> None:
    y = wave(seed=3)
    late = np.concatenate([np.tile(y[0], (6, 1)), y[:-6]])
    found = named(judge([Piece("a", late, y)]))
    assert found["mapper.lag"]["value"] == pytest.approx(120.0)
    assert best_lag(y[:, 0], y[:, 0]) == 0 and best_lag(np.zeros(50), y[:50, 0]) == 0


def test_a_constant_target_is_degenerate_and_too_little_is_insufficient() -> None:
    y = wave()
    y[:, 2] = 0.5
    y[:, 4] = np.nan
    y[:100, 4] = 0.3
    found = named(judge([Piece("a", y, y)]))
    assert (found["mapper.r2.tension"]["value"], found["mapper.r2.tension"]["status"]) == (None, "degenerate")
    assert found["mapper.r2.fx_send"]["status"] == "insufficient" and found["mapper.r2.fx_send"]["pass"] is None
    empty = named(judge([Piece("a", y, np.full_like(y, np.nan))]))
    assert empty["mapper.loss_ratio"]["value"] is None and empty["mapper.step_change"]["status"] == "insufficient"


def test_without_a_session_every_gate_says_why_it_is_not_judged() -> None:
    found = judge([])
    gates = [e for e in found if e["goal"] is not None]
    assert len(gates) == 7 and all(e["value"] is None and e["status"] == "insufficient" for e in found)
    assert {(e["pass"], e["why"]) for e in gates} == {(None, "no session is held out")}


def test_learned_controls_are_not_judged_by_a_rule_they_never_saw() -> None:
    found = named(judge([Piece("a", wave(), wave())], learned=("density",)))
    assert found["mapper.r2.density"]["value"] is None and "learned by example" in found["mapper.r2.density"]["why"]
    assert found["mapper.r2.tension"]["value"] == 1.0


def test_clipping() -> None:
    assert clipped([0.0, 0.009, 0.5, 0.991, 1.0]) == 0.8
    made = np.full((1000, 5), 0.5, np.float32)
    made[:300, 1] = 1.0
    entry = named(judge([Piece("a", made, wave(1000))]))["mapper.clipped"]
    assert entry["value"] == pytest.approx(0.06) and entry["pass"] is False
    assert entry["params"]["by_control"]["density"] == pytest.approx(0.3)


def test_the_step_is_per_20_ms() -> None:
    y = wave()
    a = named(judge([Piece("a", y, y)]))["mapper.step_change"]
    b = named(judge([Piece("a", y, y, step_s=0.04)]))["mapper.step_change"]
    assert a["value"] == pytest.approx(2 * b["value"]) and a["baseline"]["value"] == pytest.approx(a["value"])


def test_interval_holds_the_mean() -> None:
    low, high = interval([0.8, 0.9, 1.0])  # type: ignore[misc]
    assert 0.8 <= low < 0.9 < high <= 1.0 and interval([0.5]) is None


def test_normalizer_effect_tells_a_real_one() -> None:
    rng = np.random.default_rng(0)
    a, b = 1 + 0.01 * rng.standard_normal(12), 1 + 0.1 * rng.standard_normal(12)
    found = normalizer_effect(a, b)
    assert found["value"] == pytest.approx(a.var(ddof=1) / b.var(ddof=1)) and found["pass"] is True
    assert found["ci"][1] < 1 and found["n"] == 12
    assert normalizer_effect(b, a)["pass"] is False


def test_normalizer_effect_says_when_it_cannot_tell() -> None:
    rng = np.random.default_rng(1)
    found = normalizer_effect(rng.standard_normal(6), rng.standard_normal(6))
    assert found["pass"] is None and "the interval holds 1" in found["why"]
    assert normalizer_effect([1.0, 2.0, 3.0], [1.0, 5.0, 9.0])["status"] == "insufficient"
    assert normalizer_effect([1.0, 2.0], [3.0, 3.0])["status"] == "degenerate"
    assert normalizer_effect([], [])["value"] is None
    with pytest.raises(DataError, match="cannot be paired"):
        normalizer_effect([1.0], [1.0, 2.0])
    with pytest.raises(DataError, match="not finite"):
        normalizer_effect([1.0, np.nan], [1.0, 2.0])
