"""Turns of rivals on a clock that is told how long each takes."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable

import pytest

from choreo_cli.metrics.timing import best_in_turns, in_turns, turns


class Machine:
    """A clock that only work moves on, and who worked in which order."""

    def __init__(self) -> None:
        self.now, self.order = 100.0, ""

    def __call__(self) -> float:
        return self.now

    def rival(self, name: str, *seconds: float) -> Callable[[], object]:
        """Takes so long in its first turn, its second and so on; what it returns is of no account."""
        left = list(seconds)

        def run() -> object:
            self.order += name
            self.now += left.pop(0)
            return self.now

        return run


def test_rivals_take_turns_and_the_first_round_warms_up() -> None:
    clock = Machine()
    rivals = {"a": clock.rival("a", 64, 4, 2, 8), "b": clock.rival("b", 32, 1, 16, 0.5)}
    assert in_turns(rivals, 3, clock) == {"a": [4, 2, 8], "b": [1, 16, 0.5]}
    assert clock.order == "abababab"


def test_the_best_counts_and_a_cold_start_counts_where_it_is_asked_for() -> None:
    clock = Machine()
    assert best_in_turns({"a": clock.rival("a", 1, 4, 2), "b": clock.rival("b", 9, 8, 8.5)}, 2, clock) == {
        "a": 2,
        "b": 8,
    }
    cold = {"a": clock.rival("a", 1, 4), "b": clock.rival("b", 7, 8)}
    assert best_in_turns(cold, 2, clock, warm_up=False) == {"a": 1, "b": 7}
    assert clock.order == "ab" * 5


def test_no_round_is_no_time() -> None:
    clock = Machine()
    assert in_turns({"a": clock.rival("a")}, 0, clock, warm_up=False) == {"a": []}
    assert best_in_turns({"a": clock.rival("a", 1)}, 0, clock) == {"a": math.inf}
    assert in_turns({}, 2, clock) == {}


def test_who_begins_moves_on_and_the_first_round_is_not_kept() -> None:
    assert "".join(name if kept else name.upper() for name, kept in turns("abc", 3)) == "ABCbcacababc"
    assert list(turns("ab", 0)) == [("a", False), ("b", False)] and list(turns("", 2)) == []


@pytest.mark.parametrize("was_on", [True, False])
def test_nothing_is_collected_during_turns_and_it_is_as_before_then(was_on: bool) -> None:
    (gc.enable if was_on else gc.disable)()
    try:
        assert [gc.isenabled() for _ in turns("ab", 1)] == [False] * 4 and gc.isenabled() is was_on
        with pytest.raises(KeyError):
            for name, _ in turns("ab", 1):
                raise KeyError(name)
        assert gc.isenabled() is was_on
    finally:
        gc.enable()
