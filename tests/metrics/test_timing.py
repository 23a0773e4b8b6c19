"""Turns of rivals on a clock that is told how long each takes."""

from __future__ import annotations

import math
from collections.abc import Callable

from choreo_cli.metrics.timing import best_in_turns, in_turns


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
