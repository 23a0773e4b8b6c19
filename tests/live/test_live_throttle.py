"""A port hears on a fixed grid, what changed, and everything once a second."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from choreo_cli.live.guards import Guards
from choreo_cli.live.port import Outgoing
from choreo_cli.live.throttle import Throttle
from formats import control_map
from formats.control_map import Control, ControlMap, Ease

MS = 1_000_000
FREE = ControlMap(
    20,
    control_map.Clamp(),
    *[Control(0.0 if k else 0.5, 1.0, 0.5, Ease("none", 0), 20 + k, 1000.0) for k in range(5)],
)


class Feed:
    """Values without easing, through the guards as everywhere."""

    def __init__(self) -> None:
        self.guards, self.seq = Guards(FREE), -1

    def __call__(self, *unit: float) -> Outgoing:
        self.seq += 1
        return self.guards.release(np.array((*unit, *(0.5,) * 5)[:5], np.float32), 0.02, self.seq, self.seq * 20_000)


def test_the_first_is_full_then_only_changes_then_full_again() -> None:
    feed, port, sent = Feed(), Throttle(20, 1 / 127, origin_ns=0), {}
    for k in range(101):
        out = port.due(feed(0.5, 0.5 + 0.1 * (k == 7)), k * 20 * MS)
        if out is not None:
            sent[k] = out.send.tolist()
    only = [False, True, False, False, False]
    assert sent == {0: [True] * 5, 7: only, 8: only, 50: [True] * 5, 100: [True] * 5}


def test_values_are_those_of_the_guards() -> None:
    feed, port = Feed(), Throttle(20, 1e-3)
    out = feed(0.25)
    got = port.due(out, 5)
    assert got is not None and got.values is out.values and got.unit is out.unit and got.seq == out.seq


@pytest.mark.parametrize("quantum", [1 / 127, 1 / 16383, 1e-3])
def test_less_than_a_quantum_waits_and_adds_up(quantum: float) -> None:
    feed, port = Feed(), Throttle(20, quantum, refresh_s=1e6, origin_ns=0)
    sent = [k for k in range(41) if port.due(feed(0.5, 0.25 + k * quantum / 4), k * 20 * MS)]
    assert sent == list(range(0, 41, 4))


def test_the_ends_are_reached_though_less_than_a_quantum_away() -> None:
    feed, port = Feed(), Throttle(20, 1 / 127, refresh_s=1e6, origin_ns=0)
    seen = []
    for k, value in enumerate([0.004, 0.0, 0.0, 0.996, 1.0, 1.0]):
        out = port.due(feed(0.5, value), k * 20 * MS)
        seen.append(None if out is None else float(out.unit[1]))
    assert seen == [pytest.approx(0.004), 0.0, None, pytest.approx(0.996), 1.0, None]


def test_the_newest_wins_and_nothing_queues() -> None:
    feed, port = Feed(), Throttle(40, 1e-3, origin_ns=0)
    got = [port.due(feed(0.5, 0.1 * k), k * 10 * MS) for k in range(9)]
    assert [None if o is None else o.seq for o in got] == [0, None, None, None, 4, None, None, None, 8]
    assert port.superseded == 6


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 45), min_size=50, max_size=200), st.integers(20, 50), st.booleans())
def test_a_cell_is_served_at_most_once_and_late_ticks_do_not_move_the_grid(
    late: list[int], period: int, known: bool
) -> None:
    feed, port = Feed(), Throttle(period, 1e-3, origin_ns=0 if known else None)
    now, sent, first = 0, [], None
    for k, ms in enumerate(late):
        now = max(now + 1, (k * 20 + ms) * MS)
        first = now if first is None else first
        if port.due(feed(0.5, k * 37 % 101 / 101), now):
            sent.append(now)
    origin = 0 if known else first - period * MS // 2
    cells = [(t - origin) // (period * MS) for t in sent]
    assert len(set(cells)) == len(cells) and cells == sorted(cells)
    # Values change all the time, so every cell that had a tick was served, and the others are counted.
    assert port.skipped == cells[-1] - cells[0] + 1 - len(cells)


def test_a_loop_that_jitters_loses_no_cell() -> None:
    """Without a known origin the first tick stands half a cell from both edges."""
    feed, port = Feed(), Throttle(20, 1e-3)
    late = [3, 0, 9, 1, 7, 0, 2, 8, 0, 0] * 20
    assert sum(port.due(feed(0.5, k % 2), (k * 20 + d) * MS) is not None for k, d in enumerate(late)) == len(late)


def test_after_a_loss_everything_goes_at_once() -> None:
    feed, port = Feed(), Throttle(20, 1e-3, origin_ns=0)
    assert port.due(feed(), 0) and port.due(feed(), MS) is None
    port.resend()
    out = port.due(feed(), 2 * MS)
    assert out is not None and out.send.all()


def test_another_period_from_a_reloaded_map() -> None:
    feed, port = Feed(), Throttle(20, 1e-3, origin_ns=0)
    times = []
    for k in range(20):
        if k == 10:
            port.retime(40)
        if port.due(feed(0.5, k % 2 if k < 10 else k / 40), k * 20 * MS):
            times.append(k * 20)
    assert times == [*range(0, 200, 20), 200, 240, 280, 320, 360] and port.period_ms == 40
