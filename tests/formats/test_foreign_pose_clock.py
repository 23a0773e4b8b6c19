"""Times: units, magnitudes, snapping of rates."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from formats.foreign.pose_clock import (
    COMMON_RATES,
    clean,
    contradiction,
    frame_times,
    iso_us,
    parse_times,
    rate_of,
    snap_rate,
)


@given(st.integers(1_000_000_000_000_000, 4_000_000_000_000_000), st.sampled_from(["s", "ms", "us", "ns"]))
def test_unix_time_is_told_by_its_size(us: int, unit: str) -> None:
    value = {"s": us / 1e6, "ms": us / 1e3, "us": us, "ns": us * 1000}[unit]
    found = parse_times([value], "t")
    assert found.absolute and abs(int(found.us[0]) - us) <= 1


@given(st.integers(0, 4_000_000_000_000_000))
def test_iso_round_trip(us: int) -> None:
    from datetime import UTC, datetime, timedelta

    when = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)
    assert iso_us(when.isoformat()) == (us, False)
    assert iso_us(when.replace(tzinfo=None).isoformat()) == (us, True)


@pytest.mark.parametrize("period, rate", [
    (33333.3, (30, 1)), (33366.7, (30000, 1001)), (8333, (120, 1)), (8333.3, (120, 1)), (16667, (60, 1)),
    (1_000_400, (1, 1)), (41708.3, (24000, 1001)), (40000, (25, 1)),
])  # fmt: skip
def test_rounded_periods_snap(period: float, rate: tuple[int, int]) -> None:
    assert snap_rate(period) == rate


@given(st.floats(50, 1e8))
def test_an_unusual_rate_is_kept_within_a_thousandth(period: float) -> None:
    rate = snap_rate(period)
    assert rate is not None and abs(rate[0] / rate[1] * period / 1e6 - 1) <= 1.1e-3


@given(st.sampled_from(COMMON_RATES), st.lists(st.integers(0, 10**7), min_size=1, max_size=30, unique=True))
def test_frame_times_are_the_nearest_microsecond(rate: tuple[int, int], frames: list[int]) -> None:
    numbers = np.sort(np.array(frames, np.int64))
    got = frame_times(numbers, rate)
    for frame, us in zip(numbers - numbers[0], got, strict=True):
        assert abs(Fraction(int(frame)) * 1_000_000 * rate[1] / rate[0] - int(us)) <= Fraction(1, 2)


@given(st.lists(st.integers(10**15, 10**15 + 10**6), min_size=1, max_size=60))
def test_clean_time_is_strictly_increasing_and_loses_only_repeats(stamps: list[int]) -> None:
    found = clean(parse_times(stamps, "t_us"), None)
    assert (np.diff(found.t_us) > 0).all() and len(found.t_us) == len(set(stamps))
    assert found.clock.t0_utc_us == min(stamps)
    assert [stamps[i] for i in found.keep] == sorted(set(stamps))


@pytest.mark.parametrize(
    "value", [float("inf"), float("nan"), None, True, "later", [], {}, 10**400, "9" * 5000, -1e300]
)
def test_no_time_is_no_time(value: object) -> None:
    found = parse_times([value, 1_700_000_000.0], "t")
    assert found.valid.tolist() == [False, True]


def test_whole_steps_without_a_unit_are_milliseconds_and_said() -> None:
    found = parse_times([0, 33, 67, 100], "time")
    assert found.us.tolist() == [0, 33_000, 67_000, 100_000] and found.assumptions
    assert parse_times([0, 1, 2, 3], "time").us.tolist() == [0, 10**6, 2 * 10**6, 3 * 10**6]


def test_rates_are_compared_with_a_margin() -> None:
    assert contradiction(30, 29.97) is None and contradiction(None, 5) is None
    assert contradiction(25, 5.4) == "rate_contradiction: declared 25 fps, implied 5.4"
    assert rate_of(0) is None and rate_of(-5) is None and rate_of(float("nan")) is None and rate_of(1e9) is None
