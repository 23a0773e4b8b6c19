"""Our MIDI clock over JACK, heard by our own follower: one program leads, another is in its beat."""

from __future__ import annotations

import pytest
from jack_server import JackServer, jack

from choreo_cli.live.clock import SECOND_NS, MonotonicClock
from choreo_cli.live.clock_out import ClockOut
from choreo_cli.live.keeper import Keeper
from choreo_cli.live.midi import MidiPort
from choreo_cli.live.midi_in import MidiClockIn
from choreo_cli.live.relays import ClockRelay
from choreo_cli.live.transport import Transport
from formats.control_map import DEFAULT

pytestmark = pytest.mark.live
__all__ = ["jack"]


def test_a_follower_is_in_the_beat_of_a_leader(jack: JackServer) -> None:
    clock = MonotonicClock()
    leads, follows = Transport(132.0), Transport(120.0, "midi-clock")
    keeper = Keeper(MidiPort("beat", DEFAULT, virtual=True, api="jack"), clock)
    keeper.open()
    relay = ClockRelay(follows)
    source = MidiClockIn("beat", relay.estimator, relay, api="jack")
    out = ClockOut(leads, [keeper], clock)
    begin = clock.now_ns() + SECOND_NS
    try:
        source.open(clock, begin)
        out.begin(begin, 0)
        for k in range(200):  # four seconds of a loop
            clock.wait_until(begin + k * 20_000_000)
            for sample in source.poll(clock.now_ns()):
                follows.follow(float(sample.values[0]), float(sample.values[1]), sample.t_us)
        now_us = (clock.now_ns() - begin) // 1000
        assert follows.bpm == pytest.approx(132, rel=0.02)
        # A pulse is 0.04 beats; the jitter of a busy machine is in this.
        assert follows.beat_at(now_us) == pytest.approx(leads.beat_at(now_us), abs=0.1)
        out.end()
        clock.wait_until(clock.now_ns() + SECOND_NS // 2)
        source.poll(clock.now_ns())
        assert not follows.running, "STOP arrived"
        sent = out.facts()["midi:virtual:beat"]
        assert sent["placed"] == 1 and source.facts()["pulses"] == sent["pulses"] > 8 * 24
    finally:
        out.end()
        source.close()
        keeper.close()
