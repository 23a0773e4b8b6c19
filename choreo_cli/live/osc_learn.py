"""What arrives at an OSC port, listed, and the map that would make samples of it."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from choreo_cli.live.clock import SECOND_NS, Clock, MonotonicClock
from choreo_cli.live.osc import Decoder, Message, OscError
from choreo_cli.live.osc_presets import NAMES, G, zigsim_json
from choreo_cli.live.osc_source import LARGEST, LOOPBACK, bind_udp

MAX_ADDRESSES = 256
MAX_ARGS = 64
STILL = 0.25
"""A resting accelerometer reads 1 G within this share, in one unit or the other."""
HEART_WORDS = ("heart", "hr", "bpm", "pulse")
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
    stop: threading.Event | None = None,
) -> Learner:
    """Hear what arrives in so many seconds, or until it is stopped.

    Raises:
        UnavailableError: the port is taken, or the address is none of this machine's.
    """
    clock, learner = clock or MonotonicClock(), Learner()
    with bind_udp(host, port, f"osc:{port}") as sock:
        end = clock.now_ns() + round(seconds * SECOND_NS)
        while clock.now_ns() < end and not (stop and stop.is_set()):
            try:
                learner.take(sock.recv(LARGEST), clock.now_ns())
            except TimeoutError:
                continue
    return learner


def rows(heard: Mapping[str, Heard]) -> list[tuple[str, str, str, str]]:
    """(address, types, Hz, range of each argument) of each address, for a table."""
    found = []
    for address, h in sorted(heard.items()):
        ranges = [_range(lo, hi) for lo, hi in zip(h.low, h.high, strict=True)]
        rate = "" if math.isnan(h.rate_hz) else f"{h.rate_hz:.1f}"
        found.append((address, h.types, rate, "  ".join(ranges)))
    return found


def _range(low: float, high: float) -> str:
    if math.isnan(low):
        return "-"
    return f"{low:.3g}" if low == high else f"{low:.3g}..{high:.3g}"


def propose(heard: Mapping[str, Heard]) -> list[str]:
    """Words for the command line that would use what was heard: a preset, or `--map` entries; empty for none.

    A unit is read off a sensor's length at rest (1 G) and shown for the person to confirm; without rest there is no
    proposal.
    """
    for preset, recognise in RECOGNISED.items():
        if any(recognise(address, h) for address, h in heard.items()):
            return [f"osc:PORT:{preset}"]
    entries: list[str] = []
    taken: set[str] = set()
    for address, h in sorted(heard.items()):
        for features in (_by_name(address, h), _acceleration(address, h), _heart(address, h)):
            if features and not taken & set(features):
                taken |= set(features)
                entries += [f"--map {address}:{k}={f}" for k, f in enumerate(features)]
                break
    return entries


def _words(address: str) -> list[str]:
    return [w for w in address.lower().split("/") if w]


def _is_zigsim(address: str, h: Heard) -> bool:
    words = address.split("/")[1:]
    bare = len(words) == 2 and words[0] != "gyrosc"
    return h.types == "fff" and words[-1] == "gravity" and (bare or words[0] == "ZIGSIM")


RECOGNISED = {
    "gyrosc": lambda address, h: address in ("/gyrosc/accel", "/gyrosc/grav"),
    "touchosc": lambda address, h: address == "/accxyz" and h.types == "fff",
    "choreo": lambda address, h: address.startswith("/choreo/"),
    "zigsim": _is_zigsim,
}


def _by_name(address: str, h: Heard) -> list[str]:
    """An address that ends in the name of an input."""
    last = _words(address)[-1:]
    return last if last and last[0] in NAMES and len(h.low) == 1 and not math.isnan(h.low[0]) else []


def _acceleration(address: str, h: Heard) -> list[str]:
    # Linear acceleration is 0 at rest: it has no gravity that could tell its unit.
    if len(h.low) != 3 or not any("acc" in w for w in _words(address)) or math.isnan(h.norm):
        return []
    for unit, rest in (("m/s2", G), ("g", 1.0)):
        if abs(h.norm - rest) <= STILL * rest:
            return [f"accel.{axis}@{unit}" for axis in "xyz"]
    return []


def _heart(address: str, h: Heard) -> list[str]:
    named = any(w == "hr" or any(k in w for k in HEART_WORDS if k != "hr") for w in _words(address))
    return ["hr"] if named and len(h.low) == 1 and h.low[0] >= 30 and h.high[0] <= 220 else []
