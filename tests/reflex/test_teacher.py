"""The five rules of the teacher: each checked by its definition, and the streaming form against the vectorised one."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from choreo_cli.errors import DataError
from choreo_cli.reflex.teacher import HOLD_US, LISTENS, SPAN_US, TAU_S, BeatRate, Teacher, beat_rate, fold, teach
from formats.columns import CONTROL_NAMES, INPUTS, MODALITIES

NAMES = [c.name for c in INPUTS]
STEP = 20_000


def frames(n: int, bpm: float = 120.0, **values: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    base = {
        "motion_energy": 0.3, "motion_freq": bpm / 60, "jerk": 0.4, "hip_sway": 0.1, "hip_bounce": -0.1,
        "symmetry": 0.8, "hr": 100.0, "hr_slope": 0.5, "audio_energy": 0.5, "audio_brightness": 0.5,
    }  # fmt: skip
    t_us = STEP * np.arange(n, dtype=np.int64)
    x = np.empty((n, len(NAMES)), np.float32)
    for k, name in enumerate(NAMES[:-1]):
        x[:, k] = {**base, **values}[name]
    x[:, -1] = np.mod(t_us * 1e-6 * bpm / 60, 1.0)
    return x, np.ones((n, 4), bool), t_us


def column(name: str) -> int:
    return NAMES.index(name)


def test_constant_in_gives_constant_out() -> None:
    y = teach(*frames(500, motion_freq=2.4))
    want = {
        "density": 0.3, "tension": 2.5 / 4, "brightness": 0.8, "fx_send": 0.3 / 0.9,
        "tempo_scale": 0.5 + 0.5 * np.log2(1.2),
    }  # fmt: skip
    for k, name in enumerate(CONTROL_NAMES):
        rows = y[np.isfinite(y[:, k]), k]
        assert np.ptp(rows) < 1e-5 and rows[0] == pytest.approx(want[name], abs=1e-5), name
    assert np.isfinite(y[:, 1:]).all()
    # No beat rate can be read from the first 0.2 s of phase.
    assert np.isnan(y[:10, 0]).all() and np.isfinite(y[10:, 0]).all()


@pytest.mark.parametrize("control", CONTROL_NAMES)
def test_step_response_is_monotone_and_within_tau(control: str) -> None:
    x, mask, t_us = frames(600)
    k, at = CONTROL_NAMES.index(control), 200
    before, after = {"tempo_scale": (2.0, 2.5), "tension": (0.0, 1.5)}.get(control, (0.2, 0.9))
    x[:at, column(LISTENS[control])], x[at:, column(LISTENS[control])] = before, after
    y = teach(x, mask, t_us)[:, k].astype(float)
    start, end = y[at - 1], y[-1]
    rise = (y[at:] - start) / (end - start)
    assert (np.diff(rise) >= -1e-6).all()
    seconds = STEP * 1e-6 * np.arange(1, len(rise) + 1)
    assert rise == pytest.approx(1 - np.exp(-seconds / TAU_S[control]), abs=2e-3)


@pytest.mark.parametrize("control", CONTROL_NAMES)
def test_a_rule_ignores_the_other_inputs(control: str) -> None:
    rng = np.random.default_rng(3)
    x, mask, t_us = frames(300)
    heard = [column(LISTENS[control])] + ([column("beat_phase")] if control == "tempo_scale" else [])
    other = x.copy()
    for c in set(range(len(NAMES))) - set(heard):
        other[:, c] = np.where(rng.random(len(x)) < 0.3, np.nan, rng.uniform(-1, 2, len(x)))
    k = CONTROL_NAMES.index(control)
    np.testing.assert_array_equal(teach(other, mask, t_us)[:, k], teach(x, mask, t_us)[:, k])
    x[:, heard[0]] += 0.1
    assert not np.array_equal(teach(x, mask, t_us)[:, k], teach(other, mask, t_us)[:, k], equal_nan=True)


def test_octaves_fold() -> None:
    assert fold([1, 2, 4, 0.5, 0.25]).tolist() == [0, 0, 0, 0, 0]
    assert fold([2**-0.5, 2**0.499, 2**0.5]) == pytest.approx([-0.5, 0.499, -0.5], abs=1e-9)
    # 2.2 Hz is as much faster than 2 beats/s as half of it, or its double.
    y = [teach(*frames(400, motion_freq=f))[-1, 0] for f in (1.1, 2.2, 4.4)]
    assert y == pytest.approx([0.5 + 0.5 * np.log2(1.1)] * 3, abs=1e-4)


@pytest.mark.parametrize("bpm", [60.0, 92.0, 120.0, 140.0, 180.0])
def test_dancing_on_the_beat_is_neutral_at_any_tempo(bpm: float) -> None:
    x, mask, t_us = frames(300, bpm=bpm)
    assert teach(x, mask, t_us)[20:, 0] == pytest.approx(0.5, abs=1e-4)


def test_unvoiced_motion_is_neutral_and_needs_no_beat() -> None:
    x, mask, t_us = frames(300, motion_freq=0.0)
    mask[:, 3] = False
    assert (teach(x, mask, t_us)[:, 0] == 0.5).all()


def test_beat_rate_follows_a_ramp_within_its_span() -> None:
    t_us = STEP * np.arange(1500, dtype=np.int64)
    s = t_us * 1e-6
    rate = 1.5 + 0.03 * s  # 90 to 144 BPM in 30 s
    phase = np.mod(1.5 * s + 0.015 * s**2, 1.0)
    found = beat_rate(phase.astype(np.float32), np.ones(1500, bool), t_us)
    lag = 0.5 * SPAN_US * 1e-6
    assert found[100:] == pytest.approx(rate[100:] - 0.03 * lag, abs=2e-3)


def test_beat_rate_holds_through_a_gap_and_then_gives_up() -> None:
    x, mask, t_us = frames(600)
    x[200:450, -1] = np.nan
    found = beat_rate(x[:, -1], mask[:, 3], t_us)
    held = HOLD_US // STEP
    assert found[200 : 200 + held - 1] == pytest.approx(2.0, abs=1e-4)
    assert np.isnan(found[200 + held : 450]).all()
    assert np.isnan(found[450:460]).all() and found[460:] == pytest.approx(2.0, abs=1e-4)


def test_a_jump_of_the_phase_is_no_tempo() -> None:
    x, mask, t_us = frames(600)
    x[300:, -1] = np.mod(x[300:, -1] + 0.45, 1.0)
    assert beat_rate(x[:, -1], mask[:, 3], t_us)[10:] == pytest.approx(2.0, abs=1e-4)


def test_a_phase_that_stands_still_has_no_rate() -> None:
    x, mask, t_us = frames(600)
    x[:, -1] = 0.3
    assert np.isnan(beat_rate(x[:, -1], mask[:, 3], t_us)).all()
    assert np.isnan(teach(x, mask, t_us)[:, 0]).all()


def test_a_missing_modality_masks_its_targets_only() -> None:
    x, mask, t_us = frames(300)
    mask[:, 1] = False
    y = teach(x, mask, t_us)
    assert np.isnan(y[:, 2]).all() and np.isfinite(y[20:, [0, 1, 3, 4]]).all()
    mask[:] = True
    mask[:, 0] = False
    y = teach(x, mask, t_us)
    assert np.isnan(y[:, [0, 1, 3, 4]]).all() and np.isfinite(y[:, 2]).all()


def test_nan_masks_the_target_and_never_stays_in_a_filter() -> None:
    x, mask, t_us = frames(400)
    hole = slice(100, 150)
    for name in set(LISTENS.values()):
        x[hole, column(name)] = np.nan
    y = teach(x, mask, t_us)
    assert np.isnan(y[hole]).all() and np.isfinite(y[20:100]).all() and np.isfinite(y[150:]).all()


def test_after_a_gap_the_longer_it_was_the_more_the_new_value_counts() -> None:
    x, mask, t_us = frames(400, symmetry=0.0)
    first = []
    for rows in (1, 12, 100):
        y = x.copy()
        y[200:, column("symmetry")] = 1.0
        y[200 : 200 + rows, column("symmetry")] = np.nan
        first.append(float(teach(y, mask, t_us)[200 + rows, CONTROL_NAMES.index("brightness")]))
    want = [1 - np.exp(-(r + 1) * 0.02 / 0.25) for r in (1, 12, 100)]
    assert first == pytest.approx(want, abs=1e-6)


def test_a_frame_alone() -> None:
    y = teach(*frames(1))
    assert y.shape == (1, 5) and np.isnan(y[0, 0]) and np.isfinite(y[0, 1:]).all()
    assert teach(*frames(0)).shape == (0, 5)


@given(st.integers(0, 2**32 - 1), st.sampled_from([STEP, 10_000, 33_333]), st.booleans())
@settings(max_examples=25)
def test_streaming_equals_offline_and_stays_in_range(seed: int, step: int, uneven: bool) -> None:
    rng = np.random.default_rng(seed)
    n = 300
    jitter = rng.integers(-step // 3, step // 3, n) if uneven else np.zeros(n, np.int64)
    t_us = step * np.arange(n, dtype=np.int64) + jitter
    x = np.empty((n, len(NAMES)), np.float32)
    for k, c in enumerate(INPUTS):
        x[:, k] = rng.uniform(c.lo or 0.0, (c.hi or 1.0) * 0.999, n)
    x[:, -1] = np.mod(t_us * 1e-6 * rng.uniform(0.5, 4.0) + 0.01 * rng.standard_normal(n), 0.99999)
    x[rng.random(n) < 0.1, rng.integers(0, len(NAMES))] = np.nan
    a, b = np.sort(rng.integers(0, n, 2))
    x[a:b, rng.integers(0, len(NAMES))] = np.nan
    mask = rng.random((n, 4)) < 0.97
    offline = teach(x, mask, t_us)
    one = Teacher()
    online = np.stack([one.step(x[k], mask[k], int(t_us[k])) for k in range(n)])
    np.testing.assert_array_equal(online, offline)
    seen = offline[np.isfinite(offline)]
    assert seen.min() >= 0 and seen.max() <= 1
    # Causal: what comes later changes nothing.
    np.testing.assert_array_equal(teach(x[:200], mask[:200], t_us[:200]), offline[:200])


def test_reset_forgets() -> None:
    x, mask, t_us = frames(80)
    teacher = Teacher()
    first = [teacher.step(x[k], mask[k], int(t_us[k])) for k in range(80)]
    teacher.reset()
    again = [teacher.step(x[k], mask[k], int(t_us[k])) for k in range(80)]
    np.testing.assert_array_equal(first, again)
    assert np.isnan(BeatRate().step(0.5, True, 0))


def test_smooth() -> None:
    """A target moves by no more than its time constant allows, whatever its input does."""
    rng = np.random.default_rng(0)
    x, mask, t_us = frames(2000)
    for name in set(LISTENS.values()):
        c = next(c for c in INPUTS if c.name == name)
        x[:, column(name)] = rng.uniform(c.lo or 0.0, c.hi or 1.0, 2000)
    y = teach(x, mask, t_us)[20:].astype(float)
    most = [1 - np.exp(-0.02 / TAU_S[c]) for c in CONTROL_NAMES]
    assert (np.abs(np.diff(y, axis=0)).max(axis=0) <= np.array(most) + 1e-6).all()


def test_shapes_and_times_are_checked() -> None:
    x, mask, t_us = frames(10)
    with pytest.raises(DataError, match=r"frames of shape \(10, 10\)"):
        teach(x[:, :10], mask, t_us)
    with pytest.raises(DataError, match="time does not increase at row 5"):
        t_us[5] = t_us[4]
        teach(x, mask, t_us)


def test_a_million_frames_in_two_seconds() -> None:
    x, mask, t_us = frames(1_000_000)
    began = time.process_time()
    teach(x, mask, t_us)
    assert time.process_time() - began < 2.0


def test_every_modality_has_a_listener_or_none() -> None:
    assert set(LISTENS) == set(CONTROL_NAMES) == set(TAU_S)
    assert all(any(v in names for names in MODALITIES.values()) for v in LISTENS.values())
