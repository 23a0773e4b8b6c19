"""Several sensors at once, each corrupted, on a clock that wakes late: no control out of range, none too fast."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from loop_material import STEP_US, Script, dance, made

from choreo_cli.live.clock import SECOND_NS, Clock, VirtualClock
from choreo_cli.live.loop import Loop
from formats.control_map import DEFAULT
from formats.packets import CONTROL_BOUNDS, CONTROLS
from tests.nightly import size

HOUR_US = 3_600_000_000
PERIODS = {"inputs": STEP_US, "accel": 10_000, "hr": 1_000_000, "target": 100_000}


class Witness:
    """A port that keeps, by the clock itself, when it was given what."""

    name, quantum = "witness:", 1e-6

    def __init__(self, clock: Clock) -> None:
        self.clock, self.seen, self.cues = clock, [], 0
        self.seen: list[tuple[int, Any]] = []

    def send(self, out: Any) -> int:
        self.seen.append((self.clock.now_ns(), out))
        return int(out.send.sum())

    def cue(self, cue: object) -> int:
        return 0

    def silence(self) -> None: ...

    def facts(self) -> dict[str, int]:
        return {"messages": len(self.seen)}

    def close(self) -> None: ...


def values_of(kind: str, n: int, rng: np.random.Generator) -> np.ndarray:
    """Readings of a sensor that works."""
    if kind == "inputs":
        return dance(n, int(rng.integers(1 << 30)))
    if kind == "accel":
        return (9.81 * np.array([0, 0, 1]) + rng.normal(0, 3, (n, 3))).astype(np.float32)
    if kind == "hr":
        return rng.uniform(60, 170, (n, 1)).astype(np.float32)
    return rng.random((n, 5)).astype(np.float32)


def corrupted(kind: str, seconds: float, rng: np.random.Generator) -> list[tuple[int, int, np.ndarray]]:
    """(arrival, stamp, values) rows: NaN and absurd values, gaps, duplicates, late and swapped rows, clock jumps."""
    step = PERIODS[kind]
    n = round(seconds * 1e6 / step)
    x = values_of(kind, n, rng)
    odd = rng.random(x.shape)
    x[odd < 0.05] = np.nan
    x[(odd > 0.05) & (odd < 0.06)] = np.inf
    x[(odd > 0.06) & (odd < 0.07)] = -1e30
    x[rng.random(n) < 0.02] = np.nan
    rows, offset = [], 0
    for k in range(n):
        t, luck = k * step, rng.random()
        if luck < 0.05 or 0.40 < k / n < 0.43:
            continue
        if rng.random() < 0.001:  # the sensor's clock is set anew
            offset = int(rng.integers(-2 * HOUR_US, 2 * HOUR_US))
        arrival = t + int(rng.integers(0, 15_000)) + (400_000 if 0.05 < luck < 0.06 else 0)
        rows.append((arrival, t + offset - (int(rng.integers(0, 5)) * step if luck > 0.95 else 0), x[k]))
        if 0.90 < luck < 0.95:
            rows.append((arrival + int(rng.integers(0, 40_000)), t + offset, x[k]))
    return sorted(rows, key=lambda row: row[0])


def wakes(seed: int) -> Callable[[int], int]:
    """A clock that is always a little late, sometimes by periods, seldom by a second and a half."""
    rng = np.random.default_rng(seed)

    def late(_deadline: int) -> int:
        luck = rng.random()
        if luck < 0.0005:
            return 1_500_000_000
        return int(rng.integers(0, 90_000_000)) if luck < 0.02 else int(rng.integers(0, 3_000_000))

    return late


def hold_to_promise(seen: list[tuple[int, Any]]) -> None:
    """Every value within the map, and no step faster than it allows in the time that passed by the clock."""
    t = np.array([at for at, _ in seen], np.float64) / SECOND_NS
    values = np.array([out.values for _, out in seen], np.float64)
    unit = np.array([out.unit for _, out in seen], np.float64)
    assert np.isfinite(values).all() and ((unit >= 0) & (unit <= 1)).all()
    passed = np.maximum(np.diff(t), 1e-9)
    for k, (name, control) in enumerate(zip(CONTROLS, DEFAULT.controls, strict=True)):
        lo, hi = max(control.min, CONTROL_BOUNDS[name][0]), min(control.max, CONTROL_BOUNDS[name][1])
        assert (values[:, k] >= lo).all() and (values[:, k] <= hi).all(), name
        fastest = np.abs(np.diff(values[:, k])) - control.rate_per_s * passed
        assert fastest.max() <= 2e-6, f"{name} moved {fastest.max():.2g} further than it may"


def campaign(seed: int, seconds: float) -> Loop:
    rng = np.random.default_rng(seed)
    clock = VirtualClock(late=wakes(seed))
    witness = Witness(clock)
    sources = [Script(corrupted(kind, seconds, rng), kind, name=kind) for kind in PERIODS]
    loop, _, told = made(sources, clock=clock, ports=[witness])

    def act(frame: Any, _beat: int) -> None:
        second = frame.t_us // 1_000_000
        loop.frozen, loop.neutral = second % 37 == 5, second % 41 == 7
        if frame.t_us % 60_000_000 == 0:
            loop.reload_map(DEFAULT)

    loop.on_frame = act
    summary = loop.run()
    assert summary.ticks + summary.missed >= seconds * 50 and summary.missed > 0
    assert summary.troubles == {}, "nothing of it is an error of ours"
    counts = summary.samples
    assert min(counts["not_increasing"], counts["future"], counts["clock_jumps"]) > 0
    assert len(witness.seen) > seconds * 10 and 0 < summary.held < summary.ticks
    hold_to_promise(witness.seen)
    assert told.of("xrun")
    return loop


def test_five_minutes_of_four_corrupted_sensors_on_a_late_clock() -> None:
    campaign(11, 300.0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12, 18))
def test_half_hours_of_four_corrupted_sensors_on_a_late_clock(seed: int) -> None:
    campaign(seed, size(1800))


def test_the_promise_would_be_seen_broken() -> None:
    """A control of the judge itself: one value out of range, and one step too fast, are found."""

    class Out:
        def __init__(self, density: float) -> None:
            self.values = self.unit = np.array([1.0, density, 0.5, 0.5, 0.5])

    for broken in ([(0, Out(0.5)), (SECOND_NS, Out(1.01))], [(0, Out(0.1)), (SECOND_NS // 100, Out(0.9))]):
        with pytest.raises(AssertionError):
            hold_to_promise(broken)
    hold_to_promise([(0, Out(0.1)), (SECOND_NS, Out(0.9))])
