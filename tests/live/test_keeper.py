"""Row 30: fifty losses of a device on virtual time, and a driver that hangs."""

from __future__ import annotations

import random
import threading
from typing import Any

import numpy as np
import pytest

from choreo_cli.errors import UnavailableError, UsageError
from choreo_cli.live.clock import VirtualClock
from choreo_cli.live.keeper import DEGRADED, LOST, OK, RECOVERED, Keeper
from choreo_cli.live.loopback import LoopbackPort
from choreo_cli.live.port import Cue, Outgoing, PortLost

MS = 1_000_000
SECOND = 1_000 * MS
TICK = 20 * MS
ALL = np.ones(5, bool)


def outgoing(seq: int, level: float, send: Any = None) -> Outgoing:
    values = np.full(5, level, np.float32)
    return Outgoing(seq, seq * 20_000, values, values, ALL if send is None else send, False)


class Told:
    def __init__(self, clock: VirtualClock) -> None:
        self.clock, self.events = clock, []

    def emit(self, kind: str, t_us: int, **facts: Any) -> None:
        self.events.append((self.clock.now_ns(), kind, t_us, facts))

    def times(self, state: str) -> list[int]:
        return [t for t, _, _, facts in self.events if facts["state"] == state]


class Device(LoopbackPort):
    """A loopback whose device goes away: noticed by sending (`raises`) or only by looking (silent, as with MIDI)."""

    def __init__(self) -> None:
        super().__init__("midi:fake")
        self.raises = True
        self.opened = 0
        self.dropped = 0
        self.receiver: list[float] | None = None  # what the receiver shows, None before its first message

    def open(self) -> None:
        if self.lost:
            raise UnavailableError("MIDI port 'fake' is not there", hint="ports found: none")
        super().open()
        self.opened += 1

    def send(self, out: Outgoing) -> int:
        if self.lost and not self.raises:
            return int(out.send.sum())
        count = super().send(out)
        if self.receiver is None:
            self.receiver = [0.0] * 5
        for k in np.flatnonzero(out.send):
            self.receiver[k] = float(out.unit[k])
        return count

    def vanish(self, silent: bool) -> None:
        self.lost, self.raises = True, not silent

    def come_back(self) -> None:
        """A fresh receiver: it shows nothing of what was sent before."""
        self.lost, self.is_open, self.receiver = False, False, None

    def facts(self) -> dict[str, Any]:
        return super().facts() | {"dropped": self.dropped}


def kept(device: LoopbackPort, **options: Any) -> tuple[Keeper, VirtualClock, Told]:
    clock = VirtualClock()
    told = Told(clock)
    keeper = Keeper(device, clock, told, threaded=False, **options)
    keeper.open()
    return keeper, clock, told


def test_fifty_losses() -> None:
    """The loop never stops, each loss is told in < 2 s, each return is resumed in < 3 s with the last safe values."""
    device = Device()
    keeper, clock, told = kept(device)
    rng = random.Random(4)
    seq = ticks = 0
    level = np.float32(0.0)
    lost_at, back_at, resumed_at = [], [], []

    def tick(times: int) -> None:
        nonlocal seq, ticks, level
        for _ in range(times):
            due = (ticks + 1) * TICK
            clock.wait_until(due)
            ticks += 1
            level = np.float32((seq % 997) / 997)
            # One control only, as the throttle does when only one has changed.
            keeper.send(outgoing(seq, float(level), np.eye(5, dtype=bool)[seq % 5]))
            seq += 1
            keeper.step()
            if len(resumed_at) < len(back_at) and device.receiver is not None:
                resumed_at.append(clock.now_ns())
                # A receiver that is new hears all five at once, and they are the newest guarded ones.
                assert device.receiver == pytest.approx([float(level)] * 5)

    for k in range(50):
        tick(rng.randrange(60, 200))
        assert keeper.state == OK
        before = len(device.sent)
        device.vanish(silent=k % 2 == 1)
        lost_at.append(clock.now_ns())
        held = device.receiver
        tick(rng.randrange(2, 500))
        assert device.receiver == held, "the receiver shows the last safe value as long as it is away"
        assert device.raises or len(device.sent) == before
        device.come_back()
        back_at.append(clock.now_ns())
        tick(160)
    assert ticks == seq and clock.now_ns() == ticks * TICK, "no tick was late or left out"
    told_lost = told.times(LOST)
    assert len(told_lost) <= 50 and len(resumed_at) == 50
    for at, back in zip(lost_at, back_at, strict=True):
        # A device that went and came back unseen, within a second, was never missing for anybody.
        within = [t for t in told_lost if at <= t <= max(back, at + SECOND)]
        assert within and within[0] - at < 2 * SECOND
    assert max(now - back for now, back in zip(resumed_at, back_at, strict=True)) < 3 * SECOND
    kept_facts = keeper.facts()["kept"]
    assert kept_facts["losses"] == kept_facts["recoveries"] == 50
    assert kept_facts["resent"] == 250
    assert len(told.times(RECOVERED)) == len(told.times(OK)) == 50


def test_states_in_order_with_session_time_and_reason() -> None:
    device = Device()
    keeper, clock, told = kept(device)
    clock.jump(SECOND)
    keeper.begin(clock.now_ns(), 7_000_000)
    keeper.send(outgoing(0, 0.5))
    device.vanish(silent=False)
    keeper.send(outgoing(1, 0.6))
    assert keeper.state == LOST and keeper.facts()["why"] == "midi:fake is gone"
    keeper.step()
    device.come_back()
    clock.jump(100 * MS)
    keeper.step()
    clock.jump(SECOND)
    keeper.step()
    assert [
        (t_us, f["state"], f.get("why"), f.get("lost_s")) for _, kind, t_us, f in told.events if kind == "port"
    ] == [
        (7_000_000, LOST, "midi:fake is gone", None),
        (7_100_000, RECOVERED, None, 0.1),
        (8_100_000, OK, None, None),
    ]


def test_drops_degrade_and_clear() -> None:
    device = Device()
    keeper, clock, told = kept(device)
    device.dropped = 3
    for _ in range(2):
        clock.jump(SECOND)
        keeper.step()
    assert [f["state"] for *_, f in told.events] == [DEGRADED, OK]


def test_back_off_grows_to_a_second_and_no_further() -> None:
    device = Device()
    keeper, clock, _ = kept(device)
    device.vanish(silent=False)
    keeper.send(outgoing(0, 0.5))
    attempts = []
    for _ in range(10_000):
        clock.jump(MS)
        before = keeper.facts()["kept"]["attempts"]
        keeper.step()
        if keeper.facts()["kept"]["attempts"] > before:
            attempts.append(clock.now_ns())
    pauses = np.diff(attempts) / SECOND
    assert pauses[:4].tolist() == [0.1, 0.2, 0.4, 0.8]
    assert set(pauses[4:]) == {1.0}


class Hanging(Device):
    """A driver that hangs while it is opened again."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.release = threading.Event(), threading.Event()

    def open(self) -> None:
        super().open()
        if self.opened > 1:
            self.entered.set()
            assert self.release.wait(30)


def test_the_loop_is_never_blocked_by_a_driver_that_hangs() -> None:
    device = Hanging()
    recovered = threading.Event()

    class Notice:
        def emit(self, kind: str, t_us: int, **facts: Any) -> None:
            if facts["state"] == RECOVERED:
                recovered.set()

    keeper = Keeper(device, events=Notice())
    keeper.open()
    try:
        device.vanish(silent=False)
        keeper.send(outgoing(0, 0.1))
        device.come_back()
        assert device.entered.wait(30)
        for k in range(1, 200):  # the keeper's thread is inside the driver; each call returns all the same
            assert keeper.send(outgoing(k, k / 200)) == 0
            assert keeper.cue(Cue("gesture", "hit", 0, 1.0)) == 0
        keeper.silence()
        assert keeper.facts()["kept"]["held"] == 199
        device.release.set()
        assert recovered.wait(30)
        assert device.silenced == 1, "the panic that fell into the loss is made good"
        assert device.receiver == pytest.approx([199 / 200] * 5)
    finally:
        device.release.set()
        keeper.close()


@pytest.mark.timeout(20)
def test_while_somebody_else_is_inside_the_port_nothing_waits_and_nothing_is_missed() -> None:
    device = Device()
    keeper, _, _ = kept(device)
    keeper.send(outgoing(0, 0.1))
    with keeper._lock:
        assert keeper.send(outgoing(1, 0.2, np.eye(5, dtype=bool)[0])) == 0
        assert keeper.cue(Cue("gesture", "hit", 0, 1.0)) == 0
        keeper.silence()
    assert keeper.send(outgoing(2, 0.3, np.eye(5, dtype=bool)[1])) == 5, "what was held is made good"
    assert device.receiver == pytest.approx([0.3] * 5)
    assert device.silenced == 1
    assert keeper.send(outgoing(3, 0.4, np.eye(5, dtype=bool)[1])) == 1
    assert keeper.facts()["kept"] | {"held": 1, "cues_lost": 1} == keeper.facts()["kept"]


def test_a_port_that_throws_anything_is_a_loss_not_an_end() -> None:
    class Broken(Device):
        def send(self, out: Outgoing) -> int:
            raise ZeroDivisionError("driver")

        def cue(self, cue: Cue) -> int:
            raise SystemError("driver")

    keeper, _, _ = kept(Broken())
    assert keeper.send(outgoing(0, 0.5)) == 0
    assert keeper.state == LOST
    other, _, _ = kept(Broken())
    assert other.cue(Cue("gesture", "hit", 0, 1.0)) == 0
    assert other.state == LOST


def test_absent_at_start_is_told_after_the_wait() -> None:
    device = Device()
    device.lost = True
    clock = VirtualClock()
    keeper = Keeper(device, clock, threaded=False)
    with pytest.raises(UnavailableError, match="'fake' is not there: ports found: none"):
        keeper.open(wait_s=5.0)
    assert clock.now_ns() == 5 * SECOND

    class Ambiguous(Device):
        def open(self) -> None:
            raise UsageError("two of them")

    with pytest.raises(UsageError):
        Keeper(Ambiguous(), clock, threaded=False).open(wait_s=5.0)
    assert clock.now_ns() == 5 * SECOND, "a bad name does not get better by waiting"


def test_close_silences_and_gives_back_once_and_twice() -> None:
    device = Device()
    keeper = Keeper(device)
    keeper.open()
    keeper.close()
    assert device.silenced == 1 and not device.is_open
    keeper.close()
    with pytest.raises(PortLost):
        device.send(outgoing(0, 0.5))
    assert keeper.send(outgoing(1, 0.5)) == 0
    assert not [t for t in threading.enumerate() if t.name.startswith("keep midi:fake")]
