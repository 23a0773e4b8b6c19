"""Heart rate: Bluetooth bytes, and the slope and mask of the stream against the offline extraction."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from choreo_cli.errors import UnavailableError
from choreo_cli.live.ble import BleHeart, HeartRate, parse_heart_rate
from choreo_cli.live.clock import VirtualClock
from choreo_cli.live.heart import HeartStream
from choreo_cli.motion.heart import heart_inputs

STEP = 20_000


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("16 38 37 04 07 03", HeartRate(56, (1079 / 1024, 775 / 1024), None, True)),
        ("00 3c", HeartRate(60)),
        ("01 2c 01", HeartRate(300)),
        ("08 48 10 27", HeartRate(72, (), 10_000)),
        ("19 48 00 01 00 00 04", HeartRate(72, (1.0,), 1)),
        ("10 50 00 04 00 02 01 00", HeartRate(80, (1.0, 0.5, 1 / 1024))),
        ("10 50 00 04 ff", HeartRate(80, (1.0,))),
        ("04 50", HeartRate(80, (), None, False)),
        ("02 50", HeartRate(80)),
        ("00 50 11 22", HeartRate(80)),
        ("10 00", HeartRate(0)),
    ],
)
def test_measurement_bytes(data: str, expected: HeartRate) -> None:
    assert parse_heart_rate(bytes.fromhex(data)) == expected


@pytest.mark.parametrize("data", ["", "00", "01 2c", "08 48", "08 48 10", "19 48 00 01"])
def test_a_cut_measurement_is_none(data: str) -> None:
    assert parse_heart_rate(bytes.fromhex(data)) is None


def test_any_bytes_are_read_or_refused() -> None:
    rng = np.random.default_rng(0)
    for _ in range(5000):
        found = parse_heart_rate(rng.bytes(int(rng.integers(0, 24))))
        assert found is None or (0 <= found.bpm <= 65_535 and all(0 <= r < 64 for r in found.rr_s))


def test_notifications_become_samples_in_order_and_no_contact_is_none() -> None:
    belt, clock = BleHeart(), VirtualClock()
    belt._clock = clock
    for k, data in enumerate(["00 3c", "04 50", "", "10 3d 00 04"]):
        clock.wait_until(k * 1_000_000_000)
        belt.heard(bytes.fromhex(data))
    found = belt.poll(clock.now_ns())
    assert [(s.kind, s.t_us, float(s.values[0])) for s in found] == [("hr", 0, 60.0), ("hr", 3_000_000, 61.0)]
    assert belt.facts() | {"state": ""} == {
        "samples": 2, "drops": 0, "refused": 1, "no_contact": 1, "connections": 0, "state": "",
    }  # fmt: skip
    assert not belt.ended
    belt.close()
    belt.close()


def test_without_the_extra_the_install_line_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bleak", None)
    with pytest.raises(UnavailableError, match=r"pip install 'choreo\[ble\]'"):
        BleHeart().open(VirtualClock(), 0)


def readings(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two minutes of a belt: about one a second, sentinels, and two holes."""
    rng = np.random.default_rng(seed)
    t = np.cumsum(rng.integers(700_000, 1_300_000, 120))
    bpm = np.round(90 + 15 * np.sin(t / 9e6) + rng.normal(0, 0.7, len(t)))
    bpm[rng.random(len(t)) < 0.05] = 0
    keep = ~((t > 30e6) & (t < 34e6)) & ~((t > 60e6) & (t < 70e6))
    return t[keep].astype(np.int64), bpm[keep]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_slope_and_mask_equal_the_offline_extraction_and_the_value_is_the_last_one(seed: int) -> None:
    t, bpm = readings(seed)
    grid = np.arange(0, int(t[-1]), STEP)
    offline = heart_inputs(grid, t, bpm)
    stream, at = HeartStream(), 0
    live = np.empty((len(grid), 3))
    for k, g in enumerate(grid.tolist()):
        while at < len(t) and t[at] <= g:
            stream.push(int(t[at]), bpm[at])
            at += 1
        live[k] = stream.at(g)
    assert stream.refused == int(((bpm < 30) | (bpm > 220))[:at].sum()) > 0
    mask, both = np.isfinite(live[:, 0]), offline.m_hr & np.isfinite(live[:, 0])
    np.testing.assert_array_equal(live[both, 1].astype(np.float32), offline.hr_slope[both])
    np.testing.assert_array_equal(live[:, 2].astype(np.int64), offline.age_us)
    # In a hole of more than 5 s, and after the end, offline has nothing to draw to; live holds for 5 s all the same.
    holes = mask & ~offline.m_hr
    assert (offline.age_us[holes] <= 5_000_000).all() and 0 < holes.sum() <= 3 * 5_000_000 // STEP
    assert not (offline.m_hr & ~mask).any()
    # The one difference: a reading is held where offline draws a line to the next.
    good = (bpm >= 30) & (bpm <= 220)
    last = np.searchsorted(t[good], grid, side="right") - 1
    np.testing.assert_array_equal(live[mask, 0], bpm[good][last[mask]])
    off = np.abs(live[both, 0] - offline.hr[both])
    assert 0 < np.percentile(off, 95) < 3.0
    print(f"held against drawn: mean {off.mean():.2f}, p95 {np.percentile(off, 95):.2f}, max {off.max():.2f} beats/min")


def test_asking_for_an_earlier_time_does_not_see_later_readings() -> None:
    stream = HeartStream()
    for k in range(6):
        stream.push(k * 1_000_000, 80.0 + k)
    assert stream.at(3_500_000)[0] == 83.0
    assert stream.at(5_000_000) == pytest.approx((85.0, 1.0, 0))
    assert stream.at(-1)[2] == -1
