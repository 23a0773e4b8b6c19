"""Timing in turns: a busy moment of the machine hits all rivals alike, and other work only adds time to the best."""

from __future__ import annotations

import gc
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping

Clock = Callable[[], float]
"""Seconds: `time.thread_time` of this thread, `time.process_time` of all of them, `time.perf_counter` of the wall."""


def turns(names: Iterable[str], rounds: int) -> Iterator[tuple[str, bool]]:
    """Whose turn it is, and whether it is kept: the first round only warms up.

    Who begins moves on by one each round: nobody always follows the same neighbour. Between the first turn and the
    last nothing collects garbage, as in `timeit`: a collection would fall to whoever is running.

    Args:
        names: Contestants.
        rounds: Rounds that are kept.
    """
    order = deque(names)
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for k in range(rounds + 1):
            for name in tuple(order):
                yield name, k > 0
            order.rotate(-1)
    finally:
        if was_on:
            gc.enable()


def in_turns(
    rivals: Mapping[str, Callable[[], object]], rounds: int, clock: Clock, *, warm_up: bool = True
) -> dict[str, list[float]]:
    """Seconds of every turn of every rival, in the order of the rounds; the collector is left as it is.

    Args:
        rivals: By name; in a round each has one turn, in this order.
        rounds: How many are kept.
        clock: Read before and after each turn.
        warm_up: One more round comes first and is not kept: it imports, compiles and fills tables.
    """
    found: dict[str, list[float]] = {name: [] for name in rivals}
    if warm_up:
        for rival in rivals.values():
            rival()
    for _ in range(rounds):
        for name, rival in rivals.items():
            start = clock()
            rival()
            found[name].append(clock() - start)
    return found


def best_in_turns(
    rivals: Mapping[str, Callable[[], object]], rounds: int, clock: Clock, *, warm_up: bool = True
) -> dict[str, float]:
    """The shortest of each rival's turns (see `in_turns`); infinite where no round was asked for."""
    return {name: min(s, default=math.inf) for name, s in in_turns(rivals, rounds, clock, warm_up=warm_up).items()}
