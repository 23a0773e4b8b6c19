"""Samples of any kind become the 11 inputs of a frame; what is missing is never 0 and a silent sensor is masked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from choreo_cli.errors import UsageError
from choreo_cli.live.assemble import HI, LO, NAMES, Assembler, measured
from choreo_cli.live.sample import Body, Sample
from choreo_cli.live.transport import Transport
from choreo_cli.motion.features import Scale
from formats.packets import ESSENTIAL

STEP = 20_000
NAN = float("nan")
GOOD = np.array([0.5, 2.0, 0.2, 0.1, -0.1, 0.9, 90.0, 0.5, 0.6, 0.4, 0.25], np.float32)
BODY = Body(("pelvis", "l_hip", "r_hip", "l_wrist", "r_wrist"))


def inputs(t_us: int, whole: bool = False, **given: float) -> Sample:
    row = np.array([given.get(n, NAN) for n in NAMES], np.float32)
    return Sample("inputs", t_us, t_us * 1000, row, None, whole)


def row(t_us: int, values: np.ndarray, whole: bool = True) -> Sample:
    return Sample("inputs", t_us, t_us * 1000, values, None, whole)


def hold_until(made: Assembler, start: int, modality: int) -> int:
    """How long after `start` the modality stays unmasked."""
    return next(t for t in range(start, start + 20_000_000, STEP) if not made.frame(t).mask[modality]) - start


def test_nothing_heard_is_nan_and_masked_never_zero() -> None:
    frame = Assembler().frame(0)
    assert np.isnan(frame.values).all() and not frame.mask.any()
    assert frame.alive == {"mot": False, "hr": False, "aud": False, "ctx": False}
    assert frame.t_arrival_ns is None and frame.t_sensor_us is None


def test_a_whole_row_is_the_frame() -> None:
    made = Assembler()
    made.take(row(40_000, GOOD))
    frame = made.frame(40_000)
    np.testing.assert_array_equal(frame.values, GOOD)
    assert frame.mask.all() and frame.t_arrival_ns == 40_000_000
    assert made.frame(60_000).t_arrival_ns is None  # nothing new came


@pytest.mark.parametrize("name", [n for names in ESSENTIAL.values() for n in names])
def test_one_essential_input_missing_masks_its_modality_alone(name: str) -> None:
    values = GOOD.copy()
    values[NAMES.index(name)] = np.nan
    made = Assembler()
    made.take(row(0, values))
    frame = made.frame(0)
    expected = [name not in needed for needed in ESSENTIAL.values()]
    assert frame.mask.tolist() == expected
    assert np.isnan(frame.values[NAMES.index(name)])


def test_digital_silence_has_no_brightness_and_is_measured_as_offline() -> None:
    mask = np.zeros(4, bool)
    values = GOOD.copy()
    values[8:10] = 0.0, np.nan
    measured(values, mask)
    assert mask.all()


def test_a_recorded_row_says_what_was_missing_but_a_sensor_only_what_it_gives() -> None:
    gone = GOOD.copy()
    gone[:6] = np.nan
    recorded, sensor = Assembler(), Assembler()
    for made, whole in ((recorded, True), (sensor, False)):
        made.take(row(0, GOOD, whole))
        made.take(row(STEP, gone, whole))
    assert not recorded.frame(STEP).mask[0]
    assert sensor.frame(STEP).mask[0]


def test_a_row_does_not_erase_what_another_sensor_measures() -> None:
    made = Assembler()
    made.take(Sample("hr", 0, 0, np.array([77.0], np.float32)))
    without = GOOD.copy()
    without[6:8] = np.nan
    made.take(row(STEP, without))
    frame = made.frame(STEP)
    assert frame.values[6] == 77.0 and frame.mask.all()


@pytest.mark.parametrize(("period", "silent"), [(STEP, 100_000), (50_000, 250_000), (5_000, 100_000)])
def test_five_periods_of_silence_mask_a_modality(period: int, silent: int) -> None:
    made = Assembler()
    last = 0
    for k in range(40):
        last = k * period
        made.take(inputs(last, motion_energy=0.1, motion_freq=1.0, jerk=0.2))
    start = -(-last // STEP) * STEP
    held = hold_until(made, start, 0) + start - last
    assert silent < held <= silent + 2 * STEP


def test_inputs_of_different_paces_are_each_held_for_their_own_time() -> None:
    made = Assembler()
    for t in range(0, 3_000_000, STEP):
        made.take(inputs(t, motion_energy=0.3, jerk=0.1))
        if t % 200_000 == 0:
            made.take(inputs(t, motion_freq=1.5))
        frame = made.frame(t)
        assert frame.mask[0] or 100_000 < t < 200_000  # one reading does not show its pace yet
    assert frame.values[NAMES.index("motion_freq")] == np.float32(1.5)


def test_a_value_out_of_bounds_is_missing_and_counted() -> None:
    made = Assembler()
    made.take(inputs(0, hr=255.0, beat_phase=1.0, audio_energy=0.5, audio_brightness=0.5))
    frame = made.frame(0)
    assert made.counts == {"out_of_bounds": 1}
    assert np.isnan(frame.values[[6, 10]]).all() and frame.mask.tolist() == [False, False, True, False]
    made.take(Sample("inputs", STEP, 0, np.array([np.inf] * 11, np.float32)))
    assert made.counts == {"out_of_bounds": 2}


@pytest.mark.parametrize(
    ("kind", "values", "count"),
    [("inputs", np.zeros(3, np.float32), "shape"), ("accel", np.zeros(2), "shape"), ("target", np.zeros(4), "shape"),
     ("pose", np.zeros((2, 3)), "shape"), ("audio", np.zeros(10), "audio_without_rate"),
     ("beat", np.array([NAN, NAN]), "beat_not_a_number"), ("smell", np.zeros(1), "unknown_kind")],
)  # fmt: skip
def test_a_sample_that_cannot_be_read_is_counted_not_raised(kind: str, values: Any, count: str) -> None:
    made = Assembler(BODY)
    made.take(Sample(kind, 0, 0, values))
    assert made.counts == {count: 1}
    assert np.isnan(made.frame(0).values).all()
    bodiless = Assembler()
    bodiless.take(Sample("pose", 0, 0, np.zeros((5, 3))))
    assert bodiless.counts == {"pose_without_body": 1}


def test_beat_phase_is_the_transports_where_the_source_gives_none() -> None:
    transport = Transport(bpm=120.0)
    made = Assembler(transport=transport)
    for t in range(0, 2_000_000, STEP):
        frame = made.frame(t)
        assert frame.mask[3]
        assert frame.values[10] == np.float32(transport.phase(t)[0]) and 0 <= frame.values[10] < 1
    made.take(inputs(2_000_000, beat_phase=0.75))
    assert made.frame(2_000_000).values[10] == 0.75


def test_a_recording_without_a_beat_stays_without_one() -> None:
    made = Assembler(transport=Transport())
    values = GOOD.copy()
    values[10] = np.nan
    made.take(row(0, values))
    assert not made.frame(0).mask[3]


def test_beats_move_a_transport_that_follows_and_give_the_phase_without_one() -> None:
    transport = Transport(bpm=100.0, leader="osc")
    led, alone = Assembler(transport=transport), Assembler()
    for made in (led, alone):
        made.take(Sample("beat", 0, 0, np.array([4.25, 120.0])))
    assert transport.beat_at(0) == pytest.approx(4.25)
    assert led.frame(0).values[10] == pytest.approx(0.25)
    assert alone.frame(250_000).values[10] == pytest.approx(0.75)
    assert not alone.frame(5_200_000).mask[3]


def test_heart_rate_is_held_for_five_seconds_and_then_missing() -> None:
    made = Assembler()
    for k in range(8):
        made.take(Sample("hr", k * 1_000_000, 0, np.array([80.0 + 2 * k], np.float32)))
    frame = made.frame(7_000_000)
    assert frame.values[6] == 94.0 and frame.values[7] == pytest.approx(2.0)
    assert made.frame(12_000_000).mask[1] and made.frame(12_000_000).alive["hr"]
    late = made.frame(12_020_000)
    assert not late.mask[1] and np.isnan(late.values[6:8]).all()


def test_poses_become_motion_with_the_scale_given_and_jitter_free_masks() -> None:
    rng = np.random.default_rng(0)
    scale = Scale(1.0, 30.0, 1.7)
    made = Assembler(BODY, scale)
    rest = rng.normal(0, 0.5, (5, 3))
    masks = []
    for k in range(240):
        t = k * 33_333
        pose = rest + 0.2 * np.sin(2 * np.pi * 1.5 * t / 1e6 + np.arange(5))[:, None]
        made.take(Sample("pose", t, t * 1000, pose.astype(np.float32)))
        frame = made.frame(t // STEP * STEP)
        masks.append(bool(frame.mask[0]))
        assert frame.alive["mot"]
    assert made.scale is scale and not made.own_scale
    assert not any(masks[:50]) and all(masks[90:])  # a rate needs two seconds
    assert hold_until(made, 240 * 33_333 // STEP * STEP, 0) <= 200_000


@pytest.mark.parametrize("fps", [30, 60])
def test_a_body_that_a_network_scatters_keeps_its_motion(fps: int) -> None:
    """Arrivals late by up to two periods and in bursts; energy stays near that of the steady stream."""
    rng = np.random.default_rng(fps)
    true = np.round(np.arange(12 * fps) * 1e6 / fps).astype(np.int64)
    late = np.maximum.accumulate(true + np.abs(rng.normal(0, 0.7e6 / fps, len(true))).astype(np.int64)) + np.arange(
        len(true)
    )
    rest = rng.normal(0, 0.5, (5, 3))
    sway = 0.2 * np.sin(2 * np.pi * 1.5 * true / 1e6)[:, None, None] * rng.uniform(0.3, 1, (1, 5, 3))
    poses = (rest + sway).astype(np.float32)

    def heard(arrivals: np.ndarray, period_us: float | None) -> tuple[np.ndarray, np.ndarray]:
        made, at, rows, masks = Assembler(BODY, Scale(3.0, 300.0, 1.7), period_us=period_us), 0, [], []
        for t in range(0, 12_000_000, STEP):
            while at < len(arrivals) and arrivals[at] <= t:
                made.take(Sample("pose", int(arrivals[at]), int(arrivals[at]) * 1000, poses[at]))
                at += 1
            frame = made.frame(t)
            rows.append(float(frame.values[0]))
            masks.append(bool(frame.mask[0]))
        return np.array(rows[200:]), np.array(masks[200:])

    clean, _ = heard(true, 1e6 / fps)
    scattered, mask = heard(late, None)
    assert mask.all()
    n = len(clean)  # the network's own delay is not taken out: up to three frames
    alike = max(np.corrcoef(clean[: n - k], scattered[k:])[0, 1] for k in range(4))
    assert alike > 0.85
    _, taken_at_their_word = heard(late, 1e6 / fps)
    assert taken_at_their_word.mean() < 0.2


def test_an_accelerometer_has_motion_but_no_sway() -> None:
    made = Assembler(None, Scale(1.0, 30.0, NAN), period_us=10_000)
    for k in range(600):
        swing = 8.0 * np.sin(2 * np.pi * k / 100)
        made.take(Sample("accel", k * 10_000, 0, np.array([swing, 0.0, 9.81], np.float32)))
    frame = made.frame(6_000_000)
    assert frame.mask[0] and np.isfinite(frame.values[:3]).all() and np.isnan(frame.values[3:6]).all()


def test_sound_becomes_the_two_audio_inputs_at_the_rate_of_its_source() -> None:
    made = Assembler(audio_hz=22_050)
    tone = (0.1 * np.sin(2 * np.pi * 1000 * np.arange(22_050) / 22_050)).astype(np.float32)
    for a in range(0, 22_050, 441):
        made.take(Sample("audio", a * 1_000_000 // 22_050, 0, tone[a : a + 441]))
    frame = made.frame(1_000_000)
    assert frame.mask[2]
    assert frame.values[8] == pytest.approx(1 + 20 * np.log10(0.1 / np.sqrt(2)) / 60, abs=0.01)
    assert frame.values[9] == pytest.approx(np.log(1000 / 200) / np.log(40), abs=0.02)
    assert hold_until(made, 1_000_000, 2) <= 140_000


def test_faders_are_kept_beside_the_inputs() -> None:
    made = Assembler()
    made.take(Sample("target", 0, 0, np.array([0.5, NAN, 0.1, NAN, NAN], np.float32)))
    made.take(Sample("target", STEP, 0, np.array([NAN, 0.9, NAN, NAN, NAN], np.float32)))
    np.testing.assert_array_equal(made.target, np.array([0.5, 0.9, 0.1, NAN, NAN], np.float32))


def test_frames_are_rows_of_buffers_that_live_for_ten_seconds() -> None:
    made = Assembler()
    made.take(row(0, GOOD))
    first = made.frame(0)
    kept = [made.frame(k * STEP) for k in range(1, 512)]
    np.testing.assert_array_equal(first.values, GOOD)
    again = made.frame(512 * STEP)
    assert np.shares_memory(again.values, first.values)
    assert not any(np.shares_memory(f.values, first.values) for f in kept)


def test_two_bodies_or_two_rates_are_refused() -> None:
    with pytest.raises(UsageError, match="two sources give poses of different bodies"):
        Assembler([BODY, Body(("pelvis",)), None])
    assert Assembler([BODY, BODY, None]).body == BODY

    class Ear:
        kinds, body = ("audio",), None

        def __init__(self, hz: int | None) -> None:
            self.audio_hz = hz

    with pytest.raises(UsageError, match="sound at different rates"):
        Assembler.of([Ear(44_100), Ear(48_000)])  # type: ignore[list-item]
    ear = Ear(None)
    made = Assembler.of([ear])  # type: ignore[list-item]
    ear.audio_hz = 44_100  # known once the device is open
    made.take(Sample("audio", 0, 0, np.zeros(44_100, np.float32)))
    assert made.counts == {} and made.frame(0).values[8] == 0.0


def test_bounds_are_those_of_the_column_table() -> None:
    assert LO.tolist() == [0, 0, 0, -1, -1, 0, 30, -10, 0, 0, 0]
    assert HI[:10].tolist() == [1, 8, 1, 1, 1, 1, 220, 10, 1, 1] and HI[10] < 1
