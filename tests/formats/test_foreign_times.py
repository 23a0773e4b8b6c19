"""Moments as recordings write them: exact to the microsecond, absurd ones refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from formats.errors import FormatError
from formats.foreign.model import T0_SIGMA_US
from formats.foreign.timeline import mixed_times, nominal_rate, numeric_times, spread_batches, text_times, unwrap
from formats.foreign.times import folder_clock, folder_title, parse_iso, parse_time, parse_unix

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LO, HI = 631_152_000_000_000, 4_102_444_800_000_000
moments = st.integers(LO, HI - 1)
offsets = st.integers(-14 * 60, 14 * 60)


def exact_us(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


@given(moments.filter(lambda us: LO + 10**11 < us < HI - 10**11), offsets)
def test_iso_equals_the_standard_library(us: int, minutes: int) -> None:
    moment = EPOCH.astimezone(timezone(timedelta(minutes=minutes))) + timedelta(microseconds=us)
    stamp = parse_iso(moment.isoformat())
    assert (stamp.us, stamp.naive) == (us, False)
    local = parse_iso(moment.replace(tzinfo=None).isoformat(sep=" "))
    assert (local.us, local.naive) == (us + minutes * 60_000_000, True)


@given(moments, st.sampled_from([0, 3, 6, 9]))
def test_unix_units_are_told_by_magnitude_and_lose_nothing(us: int, power: int) -> None:
    text = {0: f"{us // 10**6}.{us % 10**6:06d}", 3: f"{us // 1000}.{us % 1000:03d}", 6: str(us), 9: f"{us}000"}[power]
    assert parse_unix(text).us == us
    assert abs(parse_unix(float(text)).us - us) <= 1
    column = numeric_times(np.array([float(text)] * 3))
    assert column.source == "unix_time" and abs(int(column.t_us[0]) - us) <= 1
    if power >= 6:
        assert parse_unix(int(text)).us == us


def test_variants_people_write() -> None:
    want = exact_us(datetime(2026, 4, 8, 2, 2, 29, tzinfo=UTC))
    for text in (
        "2026-04-08T02:02:29Z", "2026-04-08 02:02:29 +0000", "20260408T020229Z", "2026/04/08 04:02:29+02:00",
        "2026-04-08T02:02:29.000Z", "2026-04-07T21:02:29-0500", "1775613749", "1775613749000",
    ):  # fmt: skip
        assert parse_time(text).us == want, text
    assert parse_iso("2026-04-08T02:02:29.1234567Z").us == want + 123_457


@pytest.mark.parametrize(
    "bad",
    ["", "x", "0", "-5", "nan", "1e999999", "9" * 5000, "2026-13-01T00:00:00Z", "2026-02-30T00:00:00Z", "1850-01-01T00:00:00Z",
     "2300-01-01T00:00:00Z", "2026-04-08T25:00:00Z", "2026-04-08T02:60:00Z", "2026-04-08T02:02:29+99:00", "04/08/2026 02:02:29",
     True, None, [], float("nan"), float("inf"), 123, 10**400],
)  # fmt: skip
def test_no_time_is_an_error_of_ours(bad: object) -> None:
    with pytest.raises(FormatError):
        parse_time(bad)


def test_folder_names_hold_a_start_and_a_title() -> None:
    want = exact_us(datetime(2026, 4, 8, 2, 2, 29, tzinfo=UTC))
    clock = folder_clock("Your Mix 3-2026-04-08T02-02-29Z")
    assert clock is not None
    assert (clock.t0_utc_us, clock.naive, clock.source) == (want, False, "folder_name")
    assert clock.sigma_us == T0_SIGMA_US["folder_name"]
    assert folder_title("Your Mix 3-2026-04-08T02-02-29Z") == "Your Mix 3"
    for name in (
        "a_2026-04-08_02-02-29",
        "a 20260408T020229",
        "a-20260408-020229",
        "2026-04-08 02.02.29 take",
        "a_2026_04_08_020229",
    ):
        found = folder_clock(name)
        assert found is not None and found.naive and found.t0_utc_us == want, name
    assert folder_clock("t_20260408_020229.mp4", "file_name").source == "file_name"  # type: ignore[union-attr]
    for name in (
        "Your Mix 3",
        "2026-04-08",
        "take 12345678901234567890",
        "99999999T999999Z",
        "",
        "1850-01-01T00-00-00Z",
    ):
        assert folder_clock(name) is None, name
        assert folder_title(name) == name


@given(st.text(max_size=60))
def test_any_folder_name_is_survived(name: str) -> None:
    folder_clock(name)
    folder_title(name)


def test_relative_times_take_their_unit_from_the_name_or_say_what_they_guessed() -> None:
    t = np.array([0.0, 0.5, 1.0])
    assert numeric_times(t, "t_s").t_us.tolist() == [0, 500_000, 1_000_000]
    assert numeric_times(t * 1000, "time_ms").t_us.tolist() == [0, 500_000, 1_000_000]
    assert numeric_times(t, "time").assumptions == ("a time column without unit was read as seconds",)
    guessed = numeric_times(np.arange(100) * 1000.0, "time")
    assert guessed.t_us[1] == 1_000_000 and "milliseconds" in guessed.assumptions[0]
    of_day = text_times(["23:59:59", "00:00:01.5"])
    assert np.diff(of_day.t_us).tolist() == [2_500_000] and of_day.source == "none"


def test_columns_that_mix_clocks_are_refused() -> None:
    for column in (["2026-04-08T02:02:29Z", "2026-04-08T02:02:30"], ["1775613749", "5"], ["2026-04-08T02:02:29Z", "x"]):
        with pytest.raises(FormatError):
            text_times(column)
    for values in ([1.0, "2"], [None], [True], [10**400], [float("nan")], [{}]):
        with pytest.raises(FormatError):
            mixed_times(values)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=60), st.booleans())
def test_unwrap_is_strictly_increasing_and_keeps_every_kind_of_row(steps: list[int], spread: bool) -> None:
    t = np.array(steps, np.int64) * 40_000
    values = np.arange(len(t), dtype=np.float64)[:, None]
    out, rows, problems, said = unwrap(t, values, spread=spread)
    assert (np.diff(out) > 0).all() and len(out) == len(rows) >= 1
    assert set(rows[:, 0].tolist()) <= set(values[:, 0].tolist())
    # Every row survives spreading here: values all differ and the stamps are 40 ms apart.
    assert len(out) == (len(t) if spread else len(set(steps)))
    assert out[-1] <= t.max() and (not spread or bool(said) == (len(set(steps)) < len(steps)))
    assert any(p.startswith("backward_steps") for p in problems) == bool((np.diff(t) < 0).any())


def test_batches_are_spread_over_the_interval_before_them() -> None:
    t = np.repeat(np.array([1_000_000, 2_000_000, 3_000_000]), 4)
    moved, n = spread_batches(t)
    assert n == 9
    assert moved.tolist() == list(range(250_000, 3_000_001, 250_000))
    # After a pause of a minute the batch does not reach back over the pause.
    gap, _ = spread_batches(np.repeat(np.array([1_000_000, 2_000_000, 3_000_000, 63_000_000]), 4))
    assert gap[12] > 61_000_000


def test_equal_rows_of_one_stamp_are_one_row() -> None:
    t, rows, problems, _ = unwrap(np.array([0, 10, 10, 20]), np.array([[1.0], [2.0], [2.0], [np.inf]]))
    assert (
        t.tolist() == [0, 10, 20]
        and np.isnan(rows[2, 0])
        and problems == ("duplicate_rows: 1 repeated rows were dropped",)
    )


@given(st.sampled_from([(1, 1), (4, 1), (25, 1), (32, 1), (100, 1), (1, 2)]), st.integers(3, 200))
def test_nominal_rate_finds_the_rate_of_a_regular_clock(rate: tuple[int, int], n: int) -> None:
    t = np.round(np.arange(n) * 1e6 * rate[1] / rate[0]).astype(np.int64)
    assert nominal_rate(t) == rate
    assert nominal_rate(np.array([0, 1])) is None
