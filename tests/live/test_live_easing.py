"""Easing goes by the time that passed, towards the goal, and takes up where the instrument stands."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from choreo_cli.live.easing import Direct, Exponential, Ramp, SCurve, easing_of
from formats.control_map import Control, Ease

KINDS = ("none", "exp", "linear", "scurve")


def control(kind: str, ms: float = 100.0, rate: float = 1000.0) -> Control:
    return Control(0.0, 1.0, 0.5, Ease(kind, ms), 20, rate)  # type: ignore[arg-type]


def run(kind: str, steps: list[float], goal: float = 1.0, value: float = 0.0, ms: float = 100.0) -> list[float]:
    easing, path = easing_of(control(kind, ms)), [value]
    for dt in steps:
        now = easing.step(path[-1], goal, dt)
        easing.took(now, now - path[-1], dt, False)
        path.append(now)
    return path


def test_the_map_says_which() -> None:
    assert [type(easing_of(control(k))) for k in KINDS] == [Direct, Exponential, Ramp, SCurve]
    assert all(type(easing_of(control(k, 0.0))) is Direct for k in KINDS)


def test_the_forms() -> None:
    at = [0.02] * 5
    assert run("none", at)[1:] == [1.0] * 5
    assert run("linear", at) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert run("exp", at) == pytest.approx([1 - math.exp(-k * 0.2) for k in range(6)])
    assert run("scurve", at) == pytest.approx([3 * u * u - 2 * u**3 for u in (0, 0.2, 0.4, 0.6, 0.8, 1)])


@pytest.mark.parametrize("kind", KINDS)
def test_how_time_is_cut_does_not_matter(kind: str) -> None:
    """The same moments are passed at the same values, whether 1, 7 or 40 ms lie between two ticks."""
    fine = run(kind, [0.001] * 80)
    coarse = run(kind, [0.007, 0.033, 0.04])
    assert [fine[7], fine[40], fine[80]] == pytest.approx(coarse[1:], abs=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.floats(0, 0.3), min_size=1, max_size=60), st.floats(0, 1), st.floats(0, 1), st.floats(1, 2000))
def test_from_rest_the_way_to_a_goal_is_monotone(
    kind: str, steps: list[float], value: float, goal: float, ms: float
) -> None:
    path = run(kind, steps, goal, value, ms)
    left = [abs(goal - v) for v in path]
    assert all(b <= a + 1e-12 for a, b in itertools.pairwise(left))
    assert all(min(value, goal) - 1e-12 <= v <= max(value, goal) + 1e-12 for v in path)


@pytest.mark.parametrize("kind", KINDS)
def test_at_the_goal_nothing_moves_for_ever(kind: str) -> None:
    for value in (0.1, 1 / 3, 0.7):
        assert set(run(kind, [0.02] * 2000, value, value)) == {value}


@pytest.mark.parametrize("kind", KINDS)
def test_no_time_no_move(kind: str) -> None:
    assert set(run(kind, [0.0] * 9)) == {0.0}


def slope(easing: SCurve, value: float, goal: float) -> float:
    """Speed with which the next step begins."""
    import copy

    probe = copy.deepcopy(easing)
    return (probe.step(value, goal, 1e-7) - value) / 1e-7


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.floats(0, 1), st.integers(1, 8)), min_size=2, max_size=12))
def test_scurve_keeps_value_and_slope_when_the_goal_changes(goals: list[tuple[float, int]]) -> None:
    easing, value = SCurve(0.2, 1000.0), 0.0
    for goal, ticks in goals:
        before = easing.slope
        # After a change of goal it sets out with the speed it had; a shorter segment may only brake harder.
        assert slope(easing, value, goal) == pytest.approx(before, abs=2e-3)
        for _ in range(ticks):
            value = easing.step(value, goal, 0.02)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.floats(0.05, 0.95), st.integers(1, 9), st.floats(0, 1))
def test_scurve_never_runs_past_a_goal_that_lies_ahead(nearer: float, after: int, first: float) -> None:
    """At full speed the goal comes close: the segment is cut so that it lands, not overshoots."""
    easing, value = SCurve(0.2, 1000.0), 0.0
    for _ in range(after):
        value = easing.step(value, 1.0, 0.02)
    goal = value + (1 - value) * nearer
    for _ in range(40):
        before, value = value, easing.step(value, goal, 0.02)
        assert before - 1e-12 <= value <= goal + 1e-12
    assert value == goal


def test_scurve_keeps_its_form_under_a_speed_limit() -> None:
    """Half a unit a second over one unit: three seconds, never above the limit, at rest at both ends."""
    easing, path = SCurve(0.1, 0.5), [0.0]
    while path[-1] < 1.0 and len(path) < 1000:
        path.append(easing.step(path[-1], 1.0, 0.02))
    speeds = [(b - a) / 0.02 for a, b in itertools.pairwise(path)]
    assert len(speeds) == 150 and max(speeds) <= 0.5 + 1e-9
    assert speeds[0] < 0.02 and speeds[-1] < 0.02 and speeds[75] > 0.49


@pytest.mark.parametrize("kind", KINDS)
def test_after_being_held_back_it_goes_on_from_where_it_stands(kind: str) -> None:
    easing, value = easing_of(control(kind, 100.0, 1.0)), 0.0
    path = [value]
    for _ in range(120):
        want = easing.step(value, 1.0, 0.02)
        limited = abs(want - value) > 0.02
        now = value + min(want - value, 0.02)
        easing.took(now, now - value, 0.02, limited)
        value = now
        path.append(value)
    assert all(0 <= b - a <= 0.02 + 1e-12 for a, b in itertools.pairwise(path))
    assert value == pytest.approx(1.0, abs=1e-6)


def test_rest_forgets_speed() -> None:
    easing = SCurve(0.2, 1000.0)
    value = easing.step(0.0, 1.0, 0.1)
    assert easing.slope > 1
    easing.rest()
    assert easing.slope == 0 and easing.step(value, value, 0.02) == value
