"""Beats go on without a jump whatever the tempo does; one leader moves them; MIDI clock in and out."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from choreo_cli.live.midi_clock import MidiClockEstimator
from choreo_cli.live.transport import FOLLOWED, LEADERS, SLEW, Transport, clock_ticks

S = 1_000_000


def pulse_us(bpm: float) -> float:
    return 60 * S / bpm / 24


# ---------------------------------------------------------------------------------------------- position and tempo


def test_beats_of_a_steady_tempo() -> None:
    transport = Transport(90.0)
    assert transport.beat_at(0) == 0 and transport.beat_at(60 * S) == 90 and transport.bpm == 90
    assert transport.phase(S) == (0.5, 1)
    assert transport.beat_at(8 * 3600 * S + 1) == pytest.approx(43200 + 1.5e-6, abs=1e-9)


def test_the_phase_stays_below_one_also_as_float32() -> None:
    transport = Transport(120.0)
    transport.start(0, beat=math.nextafter(5.0, 0))
    assert transport.phase(0)[1] == 4 and float(np.float32(transport.phase(0)[0])) < 1.0
    transport.start(0, beat=-1e-20)
    phase, index = transport.phase(0)
    assert 0 <= float(np.float32(phase)) < 1 and index == -1


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(1, 5 * S), st.floats(20, 400)), min_size=1, max_size=30))
def test_tempo_changes_keep_the_beat_continuous(changes: list[tuple[int, float]]) -> None:
    transport, now, beat = Transport(120.0), 0, 0.0
    for wait, bpm in changes:
        beat += wait * transport.bpm / (60 * S)
        now += wait
        assert transport.set_tempo(bpm, now)
        assert transport.beat_at(now) == pytest.approx(beat, abs=1e-9), "the past is not scaled"
        assert transport.bpm == bpm
        assert transport.time_of(transport.beat_at(now + S)) == pytest.approx(now + S, abs=1e-3)


def test_a_tempo_that_makes_no_sense_is_refused() -> None:
    transport = Transport()
    for bpm in (0.0, -5.0, 19.0, 401.0, math.nan, math.inf):
        assert not transport.set_tempo(bpm, S)
    assert transport.bpm == 120 and transport.refused == 6
    with pytest.raises(ValueError, match="500 beats/min"):
        Transport(500.0)
    with pytest.raises(ValueError, match="known: choreo"):
        Transport(leader="drummer")


def test_stop_start_continue_and_locate() -> None:
    transport = Transport(60.0)
    transport.stop(2 * S)
    assert transport.beat_at(9 * S) == 2 and not transport.running and math.isnan(transport.time_of(3))
    transport.start(10 * S, beat=None)
    assert transport.beat_at(11 * S) == 3 and not transport.locate(8.0)
    transport.stop(11 * S)
    assert transport.locate(8.0) and transport.beat_at(0) == 8
    transport.start(20 * S)
    assert transport.beat_at(20 * S) == 0 and transport.beat_at(21 * S) == 1
    transport.beat_at(22 * S)
    transport.stop()
    assert transport.beat_at(30 * S) == 2, "without a time it stops where it was last asked"


# ---------------------------------------------------------------------------------------------- who leads


@pytest.mark.parametrize("leader", LEADERS)
def test_only_the_leader_moves_the_clock(leader: str) -> None:
    def changed(transport: Transport) -> bool:
        return transport.bpm != 120.0 or abs(transport.beat_at(10 * S) - 20.0) > 1e-9

    ours = leader not in FOLLOWED
    moves = {"set": lambda t: t.set_tempo(100.0, S), "follow": lambda t: t.follow(7.3, 100.0, S),
             "tap": lambda t: [t.tap(k * 600_000) for k in range(1, 5)][-1]}  # fmt: skip
    for name, move in moves.items():
        transport = Transport(120.0, leader)
        may = ours if name != "follow" else not ours
        assert move(transport) is may and changed(transport) is may, name


@pytest.mark.parametrize("leader", LEADERS)
def test_tempo_scale_moves_the_clock_only_while_choreo_leads(leader: str) -> None:
    transport = Transport(120.0, leader)
    assert transport.scale(1.25, S) is (leader == "choreo")
    if leader != "choreo":
        assert transport.bpm == 120 and transport.beat_at(2 * S) == 4
        return
    assert transport.bpm == 150 and transport.beat_at(2 * S) == pytest.approx(2 + 2.5)
    transport.scale(1.25, 2 * S)
    assert transport.bpm == 150, "a factor on the tempo that was set, not on the scaled one"
    transport.scale(1.0, 3 * S)
    assert transport.bpm == 120 and not transport.scale(math.nan, 3 * S)


# ---------------------------------------------------------------------------------------------- following


def speeds(transport: Transport, start: int, stop: int, step: int = 20_000) -> list[float]:
    beats = [transport.beat_at(t) for t in range(start, stop, step)]
    return [(b - a) / (step * transport.bpm / (60 * S)) for a, b in pairwise(beats)]


def test_the_first_word_places_it_and_later_ones_only_lean() -> None:
    transport = Transport(120.0, "osc")
    assert not transport.locked
    transport.follow(40.25, 100.0, 2 * S)
    assert transport.beat_at(2 * S) == 40.25 and transport.bpm == 100 and transport.locked
    now = 3 * S
    there = transport.beat_at(now)
    transport.follow(there + 0.1, 100.0, now)
    assert transport.beat_at(now) == pytest.approx(there, abs=1e-12), "no jump"
    rate = speeds(transport, now, now + 6 * S)
    assert max(rate) == pytest.approx(1 + SLEW) and min(rate) == pytest.approx(1.0)
    # 0.1 beat at 2 % takes 5 beats: 3 s at 100 beats/min, and then it is in phase.
    assert transport.beat_at(now + 4 * S) == pytest.approx(there + 0.1 + 4 / 0.6, abs=1e-9)
    assert transport.time_of(there + 1.0) == pytest.approx(now + 600_000 / 1.02, abs=1e-3)
    transport.follow(transport.beat_at(now + 6 * S) - 0.1, 100.0, now + 6 * S)
    assert min(speeds(transport, now + 6 * S, now + 8 * S)) == pytest.approx(1 - SLEW)


def test_a_leader_that_jumps_after_a_stop_is_jumped_to() -> None:
    transport = Transport(120.0, "midi-clock")
    transport.follow(40.0, 120.0, S)
    transport.stop(2 * S)
    transport.start(3 * S)
    transport.follow(16.0, 120.0, 3 * S)
    assert transport.beat_at(3 * S) == 16.0


def test_a_leader_that_loops_is_followed_by_its_bar_lines() -> None:
    """A DAW jumps from beat 16 back to 0 without a stop: our count goes on, bar line on bar line."""
    transport = Transport(120.0, "osc")
    for k in range(400):
        transport.follow((k * 0.2) % 16.0, 120.0, k * 100_000)
    assert transport.beat_at(40 * S) == pytest.approx(80.0, abs=1e-6)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(st.integers(0, 200_000), st.floats(-0.4, 0.4), st.floats(90, 150), st.integers(-50_000, 0)),
        min_size=2, max_size=60,
    ),
    st.booleans(),
)  # fmt: skip
def test_whatever_the_leader_says_time_goes_on_at_most_two_percent_off(
    words: list[tuple[int, float, float, int]], whole: bool
) -> None:
    """Beats as the loop asks for them never go back and never leap, though words come late, early, off and noisy."""
    transport, now = Transport(120.0, "audio"), 1_000_000
    transport.follow(2.0, 120.0, now)
    before = transport.phase(now)
    for wait, off, bpm, age in words:
        now += wait
        tempo = transport.bpm
        after = transport.phase(now)
        moved = sum(after) - sum(before)
        assert moved <= (1 + SLEW) * wait * tempo / (60 * S) + 1e-6
        assert moved >= (1 - SLEW) * wait * tempo / (60 * S) - 1e-6
        transport.follow(now / S * 2 + off, bpm, now + age, whole=whole)
        assert sum(transport.phase(now)) == pytest.approx(sum(after), abs=1e-6), "nothing said is unsaid"
        before = after


def test_half_a_word_is_taken_for_what_it_says() -> None:
    transport = Transport(120.0, "audio")
    assert transport.follow(math.nan, 100.0, S) and transport.bpm == 100 and not transport.locked
    assert transport.follow(3.3, math.nan, S) and transport.bpm == 100 and transport.beat_at(S) == pytest.approx(3.3)
    for beat, bpm in ((math.inf, 100.0), (1.0, math.inf), (1.0, 0.0), (1.0, -1.0)):
        assert not transport.follow(beat, bpm, S)
    assert transport.beat_at(S) == pytest.approx(3.3)


def test_words_about_tempo_only_do_not_lengthen_the_way_into_phase() -> None:
    transport = Transport(120.0, "audio")
    transport.follow(0.0, 120.0, S)
    transport.follow(0.04, 120.0, S)
    for k in range(20):
        transport.follow(math.nan, 120.0, S + k * 200_000)
    assert transport.beat_at(6 * S) == pytest.approx(10.04, abs=1e-9)


def test_a_place_inside_the_beat_without_a_count() -> None:
    transport = Transport(120.0, "audio")
    transport.follow(0.25, 120.0, 10 * S, whole=False)
    assert transport.beat_at(10 * S) == pytest.approx(20.25)
    transport.follow(0.35, 120.0, 10 * S, whole=False)
    assert transport.beat_at(60 * S) == pytest.approx(120.35)


# ---------------------------------------------------------------------------------------------- taps


def tapped(times: list[float], leader: str = "tap") -> Transport:
    transport = Transport(120.0, leader)
    for t in times:
        transport.tap(round(t * S))
    return transport


def test_taps_set_tempo_and_the_last_one_the_beat() -> None:
    transport = tapped([1.1, 1.7, 2.3, 2.9])
    assert transport.bpm == pytest.approx(100)
    assert transport.phase(2_900_000)[0] == 0 and transport.phase(3_200_000)[0] == pytest.approx(0.5)
    assert tapped([1.1, 1.7]).bpm == 120, "two taps say too little"


def test_taps_of_a_hand_are_averaged_and_slips_dropped() -> None:
    steady = [1.0, 1.61, 2.19, 2.81, 3.4, 4.0]
    assert tapped(steady).bpm == pytest.approx(100, rel=0.02)
    bounced = sorted([*steady, 2.22, 3.43])
    assert tapped(bounced).bpm == pytest.approx(100, rel=0.02)
    missed = [1.0, 1.6, 2.2, 3.4, 4.0, 4.6]
    assert tapped(missed).bpm == pytest.approx(100, rel=0.01)


def test_a_slip_does_not_set_the_beat() -> None:
    times = [1.0, 1.6, 2.2, 2.8]
    transport = tapped([*times, 3.05])
    assert transport.phase(3_400_000)[0] == pytest.approx(0, abs=1e-9)


def test_another_tempo_and_another_series() -> None:
    assert tapped([1, 1.6, 2.2, 2.8, 3.2, 3.6, 4.0, 4.4]).bpm == pytest.approx(150)
    again = tapped([1, 1.6, 2.2, 2.8, 10.0])
    assert again.bpm == pytest.approx(100)
    assert tapped([1, 1.6, 2.2, 2.8, 10.0, 10.5, 11.0]).bpm == pytest.approx(120)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.floats(0.02, 4.0), min_size=1, max_size=30), st.sampled_from(["tap", "choreo"]))
def test_a_tap_never_takes_the_number_of_the_beat_back(waits: list[float], leader: str) -> None:
    transport, now = Transport(120.0, leader), 0
    for wait in waits:
        now += round(wait * S)
        before = transport.phase(now)[1]
        assert transport.tap(now)
        assert transport.phase(now)[1] >= before and 20 <= transport.bpm <= 400


# ---------------------------------------------------------------------------------------------- clock out


def test_pulses_do_not_drift_in_hours() -> None:
    transport, sent = Transport(133.3), []
    hours = [0, *range(3 * 3600 * S, 3 * 3600 * S + 2 * S, 20_000)]
    count = sum(len(clock_ticks(transport, a, b)) for a, b in pairwise([*range(0, 60 * S, 20_000), 60 * S]))
    assert count == math.ceil(133.3 * 24)
    for a, b in pairwise(hours[1:]):
        sent += clock_ticks(transport, a, b)
    assert all(abs(transport.beat_at(t) * 24 - round(transport.beat_at(t) * 24)) < 1e-4 for t in sent)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(st.integers(1, 60_000), st.one_of(st.none(), st.floats(20, 400))), min_size=5, max_size=200),
    st.sampled_from(["choreo", "osc"]),
)
def test_every_pulse_is_sent_once(ticks: list[tuple[int, float | None]], leader: str) -> None:
    """Whatever the steps of the loop and the changes of tempo: as many pulses as the beat went through, in order."""
    transport, now, sent = Transport(120.0, leader), 0, []
    transport.follow(0.0, 120.0, 0)
    for step, bpm in ticks:
        if bpm is not None:
            transport.set_tempo(bpm, now)
            transport.follow(transport.beat_at(now) + bpm / 1000, bpm, now)
        new = clock_ticks(transport, now, now + step)
        assert all(now <= t < now + step for t in new)
        sent += new
        now += step
    assert len(sent) == math.ceil(transport.beat_at(now) * 24 - 1e-6)
    assert sent == sorted(sent)


@pytest.mark.parametrize("bpm", [125.0, 62.5, 31.25])
def test_a_pulse_on_the_edge_of_two_ticks_is_sent_once(bpm: float) -> None:
    """At 125 beats/min a pulse falls on every tick of 20 ms; each tick also sets the origin anew, with its rounding."""
    transport, sent = Transport(bpm), []
    transport.start(0, beat=0.1 + 1 / 24 - 0.1)
    for now in range(0, 600 * S, 20_000):
        transport.set_tempo(bpm, now)
        sent += clock_ticks(transport, now, now + 20_000)
    assert len(sent) == round(600 * bpm / 60 * 24)
    assert min(b - a for a, b in pairwise(sent)) > 0.9 * pulse_us(bpm)


def test_no_pulses_while_stopped() -> None:
    transport = Transport()
    transport.stop(0)
    assert clock_ticks(transport, 0, S) == [] == clock_ticks(Transport(), S, S)


# ---------------------------------------------------------------------------------------------- clock in


def fed(bpm: float, pulses: int, jitter_us: float = 0.0, loss: float = 0.0, seed: int = 0) -> tuple[float, float]:
    """Worst error of position (beats) and tempo (beats/min) after two beats; pulses are late, never early."""
    rng, clock = np.random.default_rng(seed), MidiClockEstimator()
    position = tempo = 0.0
    at = 0
    for k in range(pulses):
        at = max(at, round(k * pulse_us(bpm) + abs(rng.normal(0, jitter_us))))
        if rng.random() < loss:
            continue
        clock.tick(at)
        found = clock.estimate(round(k * pulse_us(bpm)))
        if k > 48:
            assert found is not None
            position = max(position, abs(found[0] - k / 24))
            tempo = max(tempo, abs(found[1] - bpm))
    return position, tempo


def test_a_clean_clock_is_exact() -> None:
    for bpm in (30.0, 60.0, 123.4, 300.0):
        position, tempo = fed(bpm, 480)
        assert position < 1e-4 and tempo < 0.01


@pytest.mark.parametrize("bpm", [60.0, 120.0, 180.0])
def test_jitter_and_lost_pulses_hardly_show(bpm: float) -> None:
    """3 ms of lateness and 1 % of losses: the place within 10 ms. One interval alone would be up to 30 % off."""
    position, tempo = fed(bpm, 24 * 200, jitter_us=3000, loss=0.01)
    assert position * 60 / bpm < 0.010 and tempo < 0.01 * bpm


def test_nothing_is_said_before_a_beat_of_pulses() -> None:
    clock = MidiClockEstimator()
    for k in range(23):
        clock.tick(round(k * pulse_us(120)))
    assert clock.estimate(S) is None and clock.bpm is None
    clock.tick(round(23 * pulse_us(120)))
    found = clock.estimate(round(23 * pulse_us(120)))
    assert found == pytest.approx((23 / 24, 120), abs=1e-3)


def test_a_hang_that_bunches_pulses_loses_none() -> None:
    clock = MidiClockEstimator()
    for k in range(300):
        late = 206 * pulse_us(120) - 1 if 200 <= k < 206 else k * pulse_us(120)
        clock.tick(round(late))
    found = clock.estimate(round(299 * pulse_us(120)))
    assert found is not None and found[0] == pytest.approx(299 / 24, abs=1e-3) and clock.lost == 0


def test_lost_pulses_are_counted_and_do_not_move_the_beat() -> None:
    clock = MidiClockEstimator()
    gone = {100, 101, 150, 210, 211, 212}
    for k in range(300):
        if k not in gone:
            clock.tick(round(k * pulse_us(120)))
    found = clock.estimate(round(299 * pulse_us(120)))
    assert found is not None and found[0] == pytest.approx(299 / 24, abs=1e-4) and clock.lost == len(gone)


@pytest.mark.parametrize("after", [60.0, 90.0, 110.0, 128.0, 180.0, 240.0])
def test_another_tempo_is_found_within_two_beats(after: float) -> None:
    clock, t = MidiClockEstimator(), 0.0
    for k in range(480):
        t += pulse_us(120.0 if k < 240 else after)
        clock.tick(round(t))
        if k > 240 + 96:
            assert clock.bpm == pytest.approx(after, rel=0.005)
    found = clock.estimate(round(t))
    # A leap to just one and a half times the period cannot be told from losses for the first pulses.
    assert found is not None and found[0] == pytest.approx(479 / 24, abs=0.1)


def test_start_stop_continue_and_song_position() -> None:
    clock, t = MidiClockEstimator(), 0

    def pulses(n: int) -> tuple[float, float] | None:
        nonlocal t
        for _ in range(n):
            t += 20_833
            clock.tick(t)
        return clock.estimate(t)

    pulses(40)
    clock.start()
    assert clock.estimate(t) is None, "the place is known with the next pulse"
    assert pulses(1) == pytest.approx((0.0, 120.0), abs=0.01)
    assert pulses(24) == pytest.approx((1.0, 120.0), abs=0.01)
    clock.stop()
    assert pulses(100) is None and clock.bpm == pytest.approx(120, abs=0.01)
    clock.resume()
    assert pulses(1) == pytest.approx((25 / 24, 120.0), abs=0.01)
    clock.stop()
    clock.song_position(32)
    t += 5_000_000  # many hosts send no clock while stopped
    clock.resume()
    assert pulses(1) == pytest.approx((8.0, 120.0), abs=0.01)


def test_a_transport_that_follows_midi_clock_comes_into_phase_and_stays() -> None:
    rng, clock, transport = np.random.default_rng(3), MidiClockEstimator(), Transport(100.0, "midi-clock")
    at = 0
    for k in range(24 * 120):
        at = max(at, round(k * pulse_us(126) + abs(rng.normal(0, 2000))))
        clock.tick(at)
        found = clock.estimate(at)
        if found is not None:
            transport.follow(*found, at)
    error = transport.beat_at(at) - at * 126 / (60 * S)
    assert abs(error) < 0.01 and transport.bpm == pytest.approx(126, rel=0.003)
