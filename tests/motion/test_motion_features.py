"""The six motion inputs: live equals offline, definitions hold, nothing is invented over a gap."""

from __future__ import annotations

import numpy as np
import pytest

from choreo_cli.errors import DataError
from choreo_cli.motion.features import NAMES, MotionFeatures, Scale, extract, extract_pose, extract_qom
from choreo_cli.motion.heart import heart_inputs
from choreo_cli.motion.measures import Measures, trailing_sum
from choreo_cli.motion.resample import Grid

JOINTS = ("pelvis", "l_hip", "r_hip", "neck", "head", "l_knee", "r_knee", "l_ankle", "r_ankle", "l_wrist", "r_wrist")
REST = np.array(
    [
        *([0, 1, 0], [0.1, 0.95, 0], [-0.1, 0.95, 0], [0, 1.45, 0], [0, 1.65, 0], [0.1, 0.5, 0]),
        *([-0.1, 0.5, 0], [0.1, 0.08, 0], [-0.1, 0.08, 0], [0.5, 1.2, 0], [-0.5, 1.2, 0]),
    ]
)


def dancer(
    rng: np.random.Generator, seconds: float, hz: float = 2.0, rate: float = 50.0
) -> tuple[np.ndarray, np.ndarray]:
    t = np.arange(round(seconds * rate)) / rate
    x = np.repeat(REST[None], len(t), axis=0)
    phase = rng.uniform(0, 2 * np.pi, len(JOINTS))
    x[:, :, 1] += 0.06 * np.cos(np.pi * hz * t[:, None] + phase * 0.1)
    x[:, 9:, 0] += 0.2 * np.sin(np.pi * hz * t[:, None] + phase[9:])
    x[:, :3, 0] += 0.05 * np.sin(np.pi * hz * t[:, None])
    return np.round(t * 1e6).astype(np.int64), (x + rng.normal(0, 0.002, x.shape)).astype(np.float32)


@pytest.mark.parametrize(("seed", "dims"), [(0, 3), (1, 3), (2, 2)])
def test_push_equals_extract_sample_by_sample(seed: int, dims: int) -> None:
    rng = np.random.default_rng(seed)
    t, x = dancer(rng, 14.0)
    x = x[..., :dims].copy()
    x[100:103] = np.nan  # a gap
    x[rng.random(x.shape[:2]) < 0.02] = np.nan  # single joints
    keep = np.ones(len(t), bool)
    keep[400:430] = False  # frames that never came
    t, x = t[keep], x[keep]
    offline = extract(t, x, JOINTS)
    live = MotionFeatures(offline.scale, JOINTS, dims)
    pushed = np.stack([live.push(int(at), frame) for at, frame in zip(t, x, strict=True)])
    np.testing.assert_array_equal(pushed, offline.values)
    assert np.isfinite(offline.values).all(axis=1).mean() > 0.3


@pytest.mark.parametrize("size", [1, 3, 50, 777])
def test_blocks_of_any_size_agree(size: int) -> None:
    t, x = dancer(np.random.default_rng(4), 20.0)
    whole = Measures(JOINTS, 3).process(t, x)
    parts = Measures(JOINTS, 3)
    for name in ("speed", "jerk", "rate", "sway", "bounce", "left", "right"):
        parts.reset()
        got = np.concatenate(
            [getattr(parts.process(t[a : a + size], x[a : a + size]), name) for a in range(0, len(t), size)]
        )
        np.testing.assert_array_equal(got, getattr(whole, name), err_msg=name)


def test_features_look_back_only() -> None:
    rng = np.random.default_rng(5)
    t, x = dancer(rng, 12.0)
    changed = x.copy()
    changed[450:] += rng.normal(0, 1, changed[450:].shape).astype(np.float32)
    scale = extract(t, x, JOINTS).scale
    a, b = (extract(t, v, JOINTS, scale=scale).values for v in (x, changed))
    np.testing.assert_array_equal(a[:450], b[:450])
    assert not np.array_equal(a[450:], b[450:])


def test_a_gap_forgets_everything() -> None:
    t, x = dancer(np.random.default_rng(6), 16.0)
    broken = x.copy()
    broken[400] = np.nan
    scale = extract(t, x, JOINTS).scale
    after = extract(t, broken, JOINTS, scale=scale).values[401:]
    alone = extract(t[401:], x[401:], JOINTS, scale=scale).values
    np.testing.assert_array_equal(after, alone)
    assert np.isnan(extract(t, broken, JOINTS, scale=scale).values[400]).all()


@pytest.mark.parametrize("hz", [0.9, 1.53, 2.0, 2.33, 3.5])
def test_motion_freq_finds_the_rate(hz: float) -> None:
    t, x = dancer(np.random.default_rng(7), 20.0, hz)
    got = extract(t, x, JOINTS)
    rate = got.values[300:, 1]
    assert np.median(np.abs(rate - hz)) < 0.03 * hz
    first = int(np.argmax(got.m_mot))
    assert 95 <= first <= 220  # nothing is claimed before 2 s have been seen


def test_bounds_definition_and_saturation() -> None:
    t, x = dancer(np.random.default_rng(8), 40.0)
    x[:, :, 0] += np.linspace(0, 60, len(t))[:, None]  # walks away: sway saturates, it does not break the bounds
    got = extract(t, x, JOINTS)
    lo, hi = np.array([0, 0, 0, -1, -1, 0]), np.array([1, 8, 1, 1, 1, 1])
    finite = np.isfinite(got.values)
    assert ((got.values >= lo) & (got.values <= hi))[finite].all()
    energy = got.values[np.isfinite(got.values[:, 0]), 0]
    assert got.saturated["motion_energy"] == pytest.approx(0.05 * len(energy), abs=2)
    assert got.saturated["hip_sway"] > 1000
    assert np.array_equal(got.m_mot, finite[:, :3].all(axis=1))


def test_energy_and_jerk_by_hand() -> None:
    """A second computation: constant velocity has that speed and no jerk; x = t^3 has jerk 6."""
    t = np.arange(300) * 20_000
    s = t / 1e6
    x = np.zeros((300, 2, 3), np.float32)
    x[:, :, 0] = (0.7 * s)[:, None]
    m = Measures(("l_wrist", "r_wrist"), 3).process(t, x)
    assert np.isnan(m.speed[:3]).all() and np.isnan(m.jerk[:6]).all()
    np.testing.assert_allclose(m.speed[3:], 0.7, atol=1e-4)
    x[:, :, 0] = (s**3)[:, None] * 1e-2
    m = Measures(("l_wrist", "r_wrist"), 3).process(t, x)
    np.testing.assert_allclose(m.jerk[6:60], 0.06, rtol=0.05)


def test_sway_bounce_and_symmetry_have_the_right_sign() -> None:
    t = np.arange(500) * 20_000
    still = np.repeat(REST[None], len(t), axis=0).astype(np.float32)
    scale = Scale(1.0, 100.0, 1.8)
    left = still.copy()
    left[300:, :, 0] += 0.1  # the subject's left is +x
    up = still.copy()
    up[300:, :, 1] += 0.1
    assert extract(t, left, JOINTS, scale=scale).values[300, 3] == pytest.approx(0.1 * 0.99 / (0.15 * 1.8), rel=0.02)
    assert extract(t, up, JOINTS, scale=scale).values[300, 4] > 0.3
    turned = left[..., [2, 1, 0]].copy()  # the body turned: sway follows the hips
    assert abs(extract(t, turned, JOINTS, scale=scale).values[300, 3]) == pytest.approx(0.367, rel=0.02)
    one = still.copy()
    one[:, 9, 1] += 0.3 * np.sin(12 * t / 1e6)
    assert np.nanmedian(extract(t, one, JOINTS, scale=scale).values[:, 5]) < 0.15
    assert np.nanmin(extract(t, still, JOINTS, scale=scale).values[:, 5]) == 1.0


def test_a_body_at_rest_has_energy_zero_and_no_rate() -> None:
    t = np.arange(500) * 20_000
    got = extract(t, np.repeat(REST[None], 500, axis=0), JOINTS)
    assert np.nanmax(got.values[:, 0]) == 0.0
    assert np.isnan(got.values[:, 1]).all() and not got.m_mot.any()


def test_height_does_not_depend_on_the_posture() -> None:
    t, x = dancer(np.random.default_rng(10), 5.0)
    raised = x.copy()
    raised[:, 9:, 1] += 0.9
    a, b = extract(t, x, JOINTS).scale.height, extract(t, raised, JOINTS).scale.height
    assert a == pytest.approx(b) and 1.6 < a < 2.0


def test_scale_round_trip_and_refusals() -> None:
    scale = Scale(1.25, 300.0, float("nan"))
    again = Scale.from_dict(scale.to_dict())
    assert again.to_dict() == scale.to_dict()
    for bad in (
        {},
        {**scale.to_dict(), "x": 1},
        {**scale.to_dict(), "energy_p95": "1"},
        {**scale.to_dict(), "jerk_p99": -1},
    ):
        with pytest.raises(DataError):
            Scale.from_dict(bad)
    with pytest.raises(DataError, match="made in m, the pose is in px"):
        extract(np.arange(10) * 20_000, np.zeros((10, 1, 2)), ("head",), units="px", scale=scale)
    with pytest.raises(DataError, match="do not increase"):
        extract([0, 20_000, 20_000], np.zeros((3, 1, 3)), ("head",))


def test_slow_poses_are_masked_and_thirty_fps_are_not() -> None:
    rng = np.random.default_rng(11)
    t, x = dancer(rng, 20.0, rate=30.0)
    grid = Grid.covering(int(t[0]), int(t[-1]))
    fast = extract_pose(t, x, JOINTS, grid)
    assert fast.m_mot[250:].all() and fast.real_fraction == pytest.approx(0.6, abs=0.01)
    slow = extract_pose(t[::30], x[::30], JOINTS, grid)
    assert not slow.m_mot.any() and np.isnan(slow.values).all()
    assert slow.real_fraction == pytest.approx(0.02, abs=0.002)


def test_quantity_of_motion_gives_three_inputs() -> None:
    t = np.arange(25 * 30) * 40_000
    qom = (1 + np.cos(2 * np.pi * 2.1 * t / 1e6)).astype(np.float32)
    got = extract_qom(t, qom, Grid.covering(0, int(t[-1])))
    assert got.m_mot[300:].all() and np.isnan(got.values[:, 3:]).all()
    assert np.median(got.values[300:, 1]) == pytest.approx(2.1, rel=0.02)
    assert got.assumptions and len(NAMES) == got.values.shape[1]


def test_trailing_sum_is_the_sum() -> None:
    x = np.random.default_rng(12).normal(size=(300, 2))
    want = np.stack([x[max(0, i - 99) : i + 1].sum(axis=0) for i in range(300)])
    np.testing.assert_allclose(trailing_sum(x, 100), want, atol=1e-12)


def test_heart_interpolates_five_seconds_and_not_six() -> None:
    ts = np.array([0, 1, 2, 3, 4, 9, 15, 16, 17, 18]) * 1_000_000
    hr = np.array([80, 81, 82, 83, 84, 89, 95, 255, -1, 98.0])
    t = Grid.covering(0, 18_000_000).t_us
    got = heart_inputs(t, ts, hr)
    at = {int(u): i for i, u in enumerate(t)}
    assert got.hr[at[500_000]] == 80.5 and got.hr[at[6_000_000]] == 86.0
    assert not got.m_hr[at[12_000_000]] and np.isnan(got.hr[at[12_000_000]])
    assert got.m_hr[at[16_500_000]]  # sentinels are missing, 15 to 18 s is within 5 s
    assert got.age_us[at[16_500_000]] == 1_500_000
    assert got.hr_slope[at[4_000_000]] == pytest.approx(1.0)
    assert np.isnan(got.hr_slope[at[1_000_000]])


def test_heart_slope_is_causal_and_least_squares() -> None:
    rng = np.random.default_rng(13)
    ts = np.cumsum(rng.integers(700_000, 1_300_000, 200))
    hr = 100 + 20 * np.sin(ts / 2e7) + rng.normal(0, 1, 200)
    t = Grid.covering(int(ts[5]), int(ts[-1])).t_us
    got = heart_inputs(t, ts, hr)
    for i in range(0, len(t), 371):
        inside = (ts > t[i] - 4_000_000) & (ts <= t[i])
        want = np.polyfit(ts[inside] / 1e6, hr[inside], 1)[0]
        assert got.hr_slope[i] == pytest.approx(want, abs=1e-4)
    late = hr.copy()
    late[150:] += 30
    other = heart_inputs(t, ts, late).hr_slope
    before = t < ts[149]
    np.testing.assert_array_equal(other[before], got.hr_slope[before])


def test_no_heart_data_is_null_everywhere() -> None:
    got = heart_inputs(np.arange(5) * 20_000, [], [])
    assert np.isnan(got.hr).all() and not got.m_hr.any() and (got.age_us == -1).all()
