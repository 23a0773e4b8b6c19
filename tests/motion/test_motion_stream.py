"""Native samples in, frames out: equal to the last bit to the offline extraction; an accelerometer moves, too."""

from __future__ import annotations

import numpy as np
import pytest

from choreo_cli.errors import DataError
from choreo_cli.motion.accelerometer import AccelerometerSpeed, AccelerometerStream
from choreo_cli.motion.features import NAMES, Scale, extract_pose
from choreo_cli.motion.measures import Measures
from choreo_cli.motion.resample import STEP_US, Grid
from choreo_cli.motion.stream import MotionStream

# Eight joints a side: a sum over eight columns is added in another order when a block has a single row.
LIMBS = ("hip", "knee", "ankle", "foot", "collar", "shoulder", "elbow", "wrist")
JOINTS = ("pelvis", "head", *(f"{side}_{name}" for side in "lr" for name in LIMBS))


def walker(rng: np.random.Generator, t_us: np.ndarray, dims: int = 3) -> np.ndarray:
    t = t_us[:, None, None] / 1e6
    rest = rng.uniform(-0.5, 0.5, (1, len(JOINTS), dims))
    swing = rng.uniform(0.05, 0.3, (1, len(JOINTS), dims))
    x = rest + swing * np.sin(2 * np.pi * 1.0 * t + rng.uniform(0, 6, (1, len(JOINTS), dims)))
    return (x + rng.normal(0, 0.002, x.shape)).astype(np.float32)


def streamed(t: np.ndarray, x: np.ndarray, scale: Scale, grid: Grid, period: float | None) -> tuple[np.ndarray, int]:
    stream = MotionStream(scale, JOINTS, x.shape[2], period_us=period)
    out = np.full((grid.n, len(NAMES)), np.nan, np.float32)
    n = 0
    for at, frame in zip(t.tolist(), x, strict=True):
        for g, row in stream.push(at, frame):
            assert g <= at  # causal: nothing is said before a sample at or after it came
            out[(g - grid.start_us) // STEP_US] = row
            n += 1
    return out, n


@pytest.mark.parametrize("known", [True, False], ids=["period known", "period estimated"])
@pytest.mark.parametrize(
    ("fps", "dims", "jitter_us", "lost"),
    [(30.0, 3, 0, 0.0), (30.0, 2, 4000, 0.03), (25.0, 3, 0, 0.02), (60.0, 3, 1000, 0.02), (120.0, 3, 500, 0.01),
     (50.0, 3, 0, 0.01), (9.0, 3, 0, 0.0)],
)  # fmt: skip
def test_equal_to_the_offline_extraction_sample_by_sample(
    fps: float, dims: int, jitter_us: int, lost: float, known: bool
) -> None:
    rng = np.random.default_rng([int(fps), dims])
    t = np.round(np.arange(int(16 * fps)) * 1e6 / fps).astype(np.int64) + 7
    t = t + rng.integers(-jitter_us, jitter_us + 1, len(t)) + jitter_us
    bad = (t > 5_000_000) & (t < 9_000_000)  # a rate takes two seconds without a gap, so not everywhere
    keep = (rng.random(len(t)) >= lost) | ~bad
    if lost:
        keep &= ~((t > 8_000_000) & (t < 8_500_000))  # half a second in which nothing came
    t = t[keep]
    x = walker(rng, t, dims)
    if lost:
        x[rng.random(x.shape[:2]) < 0.03] = np.nan  # single joints
        x[(t > 7_000_000) & (t < 7_200_000)] = np.nan  # nobody seen
    grid = Grid.covering(int(t[0]), int(t[-1]))
    offline = extract_pose(t, x, JOINTS, grid)
    out, n = streamed(t, x, offline.scale, grid, float(np.median(np.diff(t))) if known else None)
    np.testing.assert_array_equal(out, offline.values)
    assert n > 0.8 * grid.n
    assert offline.m_mot.mean() > 0.2


def test_a_stream_below_eight_poses_a_second_gives_no_motion() -> None:
    t = np.arange(60) * 200_000
    stream = MotionStream(Scale(1.0, 10.0, 1.7), JOINTS)
    assert [
        f for at, x in zip(t.tolist(), walker(np.random.default_rng(0), t), strict=True) for f in stream.push(at, x)
    ] == []


def test_a_sample_that_is_late_or_repeated_is_dropped_and_counted() -> None:
    t = np.arange(40) * 33_333
    x = walker(np.random.default_rng(1), t)
    scale = Scale(1.0, 10.0, 1.7)
    clean, noisy = MotionStream(scale, JOINTS), MotionStream(scale, JOINTS)
    expected, got = [], []
    for k, at in enumerate(t.tolist()):
        expected += clean.push(at, x[k])
        got += noisy.push(at, x[k])
        got += noisy.push(at, x[0]) + (noisy.push(at - 20_000, x[0]) if k else [])
    assert noisy.late == 40 + 39
    assert [g for g, _ in got] == [g for g, _ in expected]
    np.testing.assert_array_equal([r for _, r in got], [r for _, r in expected])


def test_a_pose_of_another_shape_is_refused() -> None:
    with pytest.raises(DataError, match=r"a pose of shape \(3, 3\), expected \(18, 3\)"):
        MotionStream(None, JOINTS).push(0, np.zeros((3, 3)))


def test_without_a_scale_the_stream_takes_its_own_after_two_seconds() -> None:
    t = np.arange(1500) * 33_333
    x = walker(np.random.default_rng(2), t)
    stream = MotionStream(None, JOINTS)
    rows = [f for at, frame in zip(t.tolist(), x, strict=True) for f in stream.push(at, frame)]
    assert stream.own_scale and stream.scale is not None
    first = next(g for g, row in rows if np.isfinite(row[0]))
    assert 1_900_000 <= first <= 4_000_000
    late = np.stack([row for _, row in rows])[-1000:]
    offline = Scale.of(_measured(t, x), 1.0)
    assert stream.scale.energy_p95 == pytest.approx(offline.energy_p95, rel=0.05)
    assert 0.02 < (late[:, 0] >= 1).mean() < 0.10  # a 95th percentile


def _measured(t: np.ndarray, x: np.ndarray) -> object:
    from choreo_cli.motion.resample import resample_pose

    grid = Grid.covering(int(t[0]), int(t[-1]))
    return Measures(JOINTS, 3).process(grid.t_us, resample_pose(t, x, grid).values.reshape(grid.n, *x.shape[1:]))


def swing(
    hz: float, reach_m: float, seconds: float = 20.0, rate: float = 100.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A limb that goes to and fro along one axis: times, specific force with gravity, true speed."""
    t = np.arange(int(seconds * rate)) / rate
    turn = 2 * np.pi * hz
    along = np.array([0.6, 0.64, 0.48])
    accel = -reach_m * turn**2 * np.sin(turn * t)[:, None] * along + np.array([0.0, 0.0, 9.81])
    return np.round(t * 1e6).astype(np.int64), accel, np.abs(reach_m * turn * np.cos(turn * t))


@pytest.mark.parametrize(("hz", "reach"), [(0.8, 0.3), (1.0, 0.3), (2.0, 0.1), (3.0, 0.05)])
def test_the_speed_of_a_swing_is_found_where_it_is_fastest(hz: float, reach: float) -> None:
    t, accel, true = swing(hz, reach)
    sensor = AccelerometerSpeed()
    speed = np.array([sensor.push(int(at), a) for at, a in zip(t, accel, strict=True)])
    settled = slice(600, None)
    assert np.corrcoef(speed[settled], true[settled])[0, 1] > (0.93 if hz >= 2 else 0.65)
    assert np.percentile(speed[settled], 95) == pytest.approx(np.percentile(true[settled], 95), rel=0.05)


def test_a_sensor_at_rest_has_no_speed_however_it_lies() -> None:
    sensor = AccelerometerSpeed()
    still = [sensor.push(k * 10_000, [5.0, -6.0, 5.9]) for k in range(500)]
    assert max(still) < 1e-9
    assert np.isnan(sensor.push(499 * 10_000, [0, 0, 9.81])) and np.isnan(sensor.push(10**9, [np.nan, 0, 0]))


def test_an_accelerometer_gives_energy_rate_and_jerk_and_never_a_zero_for_sway() -> None:
    t, accel, _ = swing(1.0, 0.3, 30.0)
    stream = AccelerometerStream(Scale(1.8, 20.0, float("nan")), period_us=10_000)
    rows = [f for at, a in zip(t.tolist(), accel, strict=True) for f in stream.push(at, a)]
    values = np.stack([row for _, row in rows])[500:]
    named = dict(zip(NAMES, values.T, strict=True))
    assert np.median(named["motion_freq"]) == pytest.approx(2.0, rel=0.05)  # twice a swing the limb is fast
    assert 0.8 < named["motion_energy"].max() <= 1.0 and named["motion_energy"].min() < 0.2
    assert np.isfinite(named["jerk"]).all() and named["jerk"].max() > 0.1
    assert all(np.isnan(named[n]).all() for n in ("hip_sway", "hip_bounce", "symmetry"))


def test_bigger_swings_give_more_energy_and_the_future_none() -> None:
    def energy(reach: float, last: float = 1.0) -> np.ndarray:
        t, accel, _ = swing(1.2, reach, 10.0)
        accel[800:] *= last
        stream = AccelerometerStream(Scale(5.0, 50.0, float("nan")), period_us=10_000)
        return np.array([row[0] for at, a in zip(t.tolist(), accel, strict=True) for _, row in stream.push(at, a)])

    small, big = energy(0.1), energy(0.4)
    assert np.percentile(big[200:], 90) > 3 * np.percentile(small[200:], 90)
    np.testing.assert_array_equal(energy(0.4)[:400], energy(0.4, last=9.0)[:400])
