"""Figures of columns and clocks, written a second way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from choreo_cli.report.content import Content, Signal
from choreo_cli.report.histogram import counts, line
from choreo_cli.report.summary import of_clock, of_signal, outliers

FLOATS = st.lists(st.one_of(st.floats(-1e6, 1e6, width=32), st.just(float("nan"))), max_size=80)


@given(FLOATS)
def test_figures_of_numbers(values: list[float]) -> None:
    array = np.array(values, np.float32)
    found = of_signal(Signal("a", array))
    live = [v for v in array.tolist() if v == v]
    assert (found["n"], found["missing"]) == (len(values), len(values) - len(live))
    if live:
        assert found["min"] == float(f"{min(live):.9g}") and found["max"] == float(f"{max(live):.9g}")
        assert sum(found["histogram"]) == len(live)
    else:
        assert found["min"] is None and found["histogram"] == []


@given(st.lists(st.integers(-1000, 1000), min_size=1, max_size=60), st.integers(1, 30))
def test_counts_add_up(values: list[int], bins: int) -> None:
    found = counts(np.array(values, float), min(values), max(values), bins)
    assert sum(found) == len(values)
    drawn = line(found)
    assert len(drawn) == len(found)
    assert [c == " " for c in drawn] == [n == 0 for n in found]


def test_outliers_are_far_from_the_median() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(10, 2, 10_000)
    assert outliers(values) < 5
    values[:7] = 100
    assert 7 <= outliers(values) < 12
    assert outliers(np.ones(50)) == 0


def _clock(t: list[int], codes: list[int] | None = None) -> dict[str, object]:
    group = None if codes is None else (["a", "b"], np.array(codes))
    found = of_clock(Content(Path("x"), "series", "x", len(t), [], np.array(t, np.int64), group))
    assert found is not None
    return found


def test_rates_and_gaps() -> None:
    t = [k * 20_000 for k in range(100)] + [5_000_000 + k * 20_000 for k in range(50)]
    found = _clock(t)
    assert found["rate_hz"] == 50 and found["gaps"] == 1
    assert found["longest_gap_s"] == (5_000_000 - 99 * 20_000) / 1e6
    assert (found["backward"], found["repeated"]) == (0, 0)
    odd = _clock([0, 10, 10, 5, 20])
    assert (odd["backward"], odd["repeated"]) == (1, 1)


def test_sessions_have_clocks_of_their_own() -> None:
    t = [0, 20_000, 40_000, 0, 20_000, 40_000]
    assert _clock(t)["backward"] == 1
    assert _clock(t, [0, 0, 0, 1, 1, 1])["backward"] == 0


def test_texts_and_flags() -> None:
    texts = of_signal(Signal("a", ["x", None, "y", "x"]))
    assert (texts["missing"], texts["distinct"], texts["common"]) == (1, 2, {"x": 2, "y": 1})
    flags = of_signal(Signal("m", np.array([True, False, True])))
    assert flags["true"] == 2
