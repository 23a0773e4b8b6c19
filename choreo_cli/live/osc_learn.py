"""What arrives at an OSC port: rates and ranges of every address."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from choreo_cli.live.clock import SECOND_NS, Clock, MonotonicClock
from choreo_cli.live.osc import Decoder, Message, OscError
from choreo_cli.live.osc_presets import zigsim_json
from choreo_cli.live.osc_source import LARGEST, LOOPBACK, bind_udp, listening

MAX_ADDRESSES = 256
MAX_ARGS = 128
TAGS = {bool: "T", int: "i", float: "f", str: "s", bytes: "b"}


@dataclass
class Heard:
    """One address.

    Args:
        types: Of the arguments of the last message, as type tags; true and false are both `T`.
        count: Messages.
        first_ns, last_ns: When the first and the last arrived.
        low, high: Range of each argument, NaN where it is no number.
        norm: Mean length of the first three numbers, NaN with fewer.
    """

    types: str = ""
    count: int = 0
    first_ns: int = 0
    last_ns: int = 0
    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)
    norm: float = math.nan

    @property
    def rate_hz(self) -> float:
        """Messages a second, NaN below three of them."""
        passed = self.last_ns - self.first_ns
        return (self.count - 1) * SECOND_NS / passed if self.count > 2 and passed else math.nan

    def take(self, args: tuple[Any, ...], now_ns: int) -> None:
        """Count a message."""
        self.types = "".join(TAGS.get(type(a), "?") for a in args)
        self.first_ns = self.first_ns if self.count else now_ns
        self.count, self.last_ns = self.count + 1, now_ns
        values = [float(a) if isinstance(a, int | float) else math.nan for a in args[:MAX_ARGS]]
        grown = len(values) - len(self.low)
        self.low += [math.nan] * grown
        self.high += [math.nan] * grown
        for k, value in enumerate(values):
            self.low[k] = min(value, self.low[k]) if self.low[k] == self.low[k] else value
            self.high[k] = max(value, self.high[k]) if self.high[k] == self.high[k] else value
        if len(values) >= 3:
            norm = math.hypot(*values[:3])
            self.norm = norm if self.norm != self.norm else self.norm + (norm - self.norm) / self.count


class Learner:
    """Takes packets and keeps one `Heard` for each address, for 256 addresses at most."""

    def __init__(self) -> None:
        self.heard: dict[str, Heard] = {}
        self.overlooked = 0
        self.decoder = Decoder()

    def take(self, packet: bytes, now_ns: int) -> None:
        """Take a packet; what is not sound is counted in `decoder.refused`."""
        try:
            messages = zigsim_json(packet) if packet[:1] == b"{" else self.decoder.decode(packet)
        except OscError as e:
            if packet[:1] == b"{":
                self.decoder.refused[e.reason] = self.decoder.refused.get(e.reason, 0) + 1
            return
        for message in messages:
            self.hear(message, now_ns)

    def hear(self, message: Message, now_ns: int) -> None:
        """Take a message."""
        known = self.heard.get(message.address)
        if known is None:
            if len(self.heard) >= MAX_ADDRESSES:
                self.overlooked += 1
                return
            known = self.heard[message.address] = Heard()
        known.take(message.args, now_ns)


def listen(
    seconds: float,
    host: str = LOOPBACK,
    port: int = 9000,
    *,
    clock: Clock | None = None,
    stop: Callable[[], bool] | None = None,
    told: Callable[[list[str]], None] | None = None,
) -> Learner:
    """Hear what arrives in so many seconds, or until it is stopped.

    Args:
        seconds: At most.
        host: Address of this machine.
        port: 0 takes a free one.
        clock: What the seconds are counted on.
        stop: Asked five times a second.
        told: Is given the lines that name the bound address, once it listens.

    Raises:
        UnavailableError: the port is taken, or the address is none of this machine's.
    """
    clock, learner = clock or MonotonicClock(), Learner()
    with bind_udp(host, port, f"osc:{port}") as sock:
        if told is not None:
            told(listening(f"osc:{port}", *sock.getsockname()[:2]))
        end = clock.now_ns() + round(seconds * SECOND_NS)
        while clock.now_ns() < end and not (stop and stop()):
            try:
                learner.take(sock.recv(LARGEST), clock.now_ns())
            except TimeoutError:
                continue
    return learner


def rows(heard: Mapping[str, Heard]) -> list[tuple[str, str, str, str]]:
    """(address, types, Hz, range of each argument) of each address, one line for each: `run-live --list`."""
    found = []
    for address, h in sorted(heard.items()):
        ranges = [span_text(lo, hi) for lo, hi in zip(h.low, h.high, strict=True)]
        rate = "" if math.isnan(h.rate_hz) else f"{h.rate_hz:.1f}"
        found.append((address, h.types, rate, "  ".join(ranges)))
    return found


def span_text(low: float, high: float) -> str:
    """A range as text: one number when it did not move, - for no number."""
    if math.isnan(low):
        return "-"
    return f"{low:.3g}" if low == high else f"{low:.3g}..{high:.3g}"
