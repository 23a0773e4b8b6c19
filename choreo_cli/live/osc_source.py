"""Sensors that send OSC over UDP: a thread reads, checks and understands, the loop only polls."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from choreo_cli.errors import UnavailableError, UsageError
from choreo_cli.live.clock import SECOND_NS, Clock
from choreo_cli.live.osc import Decoder, Message, OscError, decode, encode
from choreo_cli.live.osc_pose import completed
from choreo_cli.live.osc_presets import PRESETS, MapReader, Reader, WekPoseReader, zigsim_json
from choreo_cli.live.sample import Body, Sample

LOOPBACK = "127.0.0.1"
ANY_ADDRESS = ("0.0.0.0", "::")
CAPACITY = 1024
NTP_SECONDS = 2**32
# More than one datagram can hold, so that none is cut and then read as if it were whole.
LARGEST = 65536
SENT_BY = {"/ZIGSIM/": "zigsim", "/gyrosc/": "gyrosc", "/accxyz": "touchosc", "/wek/inputs": "wek"}
"""Presets whose sender can be told by the beginning of an address."""


def bind_udp(host: str, port: int, name: str) -> socket.socket:
    """A socket that receives at an address of this machine.

    Raises:
        UnavailableError: the port is taken, or the address is none of this machine's.
        UsageError: no address; a socket would take that for every one.
    """
    if not host:
        raise UsageError(f"{name}: the address to listen at is empty", hint=f"--listen {LOOPBACK}")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_DGRAM)
    try:
        made.bind((host, port))
    except (OSError, UnicodeError) as e:
        made.close()
        number = e.errno if isinstance(e, OSError) else None
        if number == errno.EADDRINUSE:
            raise UnavailableError(
                f"{name}: another program has port {port}", hint="stop it, or choose another port"
            ) from None
        if number == errno.EACCES:
            raise UnavailableError(f"{name}: port {port} needs privilege", hint="choose one above 1023") from None
        raise UnavailableError(f"{name}: {host} is no address of this machine", hint=f"--listen {LOOPBACK}") from None
    made.settimeout(0.2)
    return made


def lan_address() -> str | None:
    """This machine's address in its network, found without sending anything; None without a network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        try:
            # Connecting UDP sends no packet; the system only chooses the way. The address is reserved for examples.
            asked.connect(("192.0.2.1", 9))
            address = str(asked.getsockname()[0])
        except OSError:
            return None
    return None if address.startswith("127.") or address in ANY_ADDRESS else address


def listening(name: str, host: str, port: int) -> list[str]:
    """For the person: the bound address, and how another device can reach it."""
    if host == LOOPBACK or host == "::1":
        here = lan_address()
        hint = f"--listen {here}" if here else "--listen ADDRESS (this machine's address in the network)"
        return [f"{name}: listening on {host}:{port}, this machine only; for a phone start with {hint}"]
    if host in ANY_ADDRESS:
        return [f"{name}: listening on port {port} of every address of this machine, {lan_address() or host}"]
    return [f"{name}: listening on {host}:{port}"]


class OscSource:
    """Samples from OSC messages.

    What a packet holds is decided by the mapping and then by the preset; what neither knows is counted as unused. The
    queue is bounded: the newest samples win and what was lost is counted. `t_us` is the time of arrival; a sender's
    time tag goes into `t_sensor_us` and nothing waits for it.

    Args:
        host: Address of this machine to listen on.
        port: 0 takes a free one.
        preset: One of `osc_presets.PRESETS`, `choreo` when neither it nor a mapping is given.
        mapping: As `osc_presets.parse_map` gives it.
        allow: Beginnings of the addresses to let through, instead of those of preset and mapping.
        body: How to read `/choreo/pose`, and `/wek/inputs` that no mapping names, in the order it is sent.
        capacity: Of the queue, samples.

    Raises:
        UsageError: no such preset or port, or a preset that needs a mapping.
    """

    audio_hz: int | None = None
    origin_us = 0
    ended = False

    def __init__(
        self,
        host: str = LOOPBACK,
        port: int = 9000,
        *,
        preset: str | None = None,
        mapping: Mapping[str, str] | None = None,
        allow: Sequence[str] | None = None,
        body: Body | None = None,
        capacity: int = CAPACITY,
    ) -> None:
        if not 0 <= port < 65536:
            raise UsageError(f"OSC port {port} is not between 0 and 65535", hint="osc:PORT or osc:PORT:PRESET")
        if preset is not None and preset not in PRESETS:
            raise UsageError(f"no OSC preset {preset}", hint=f"one of {', '.join(PRESETS)}, or --map")
        self._preset = PRESETS[preset or "choreo"] if preset or not mapping else None
        bare = self._preset is not None and self._preset.reader is None and not mapping
        if bare and body is None:
            hint = "--map /wek/inputs:0=motion_energy and so on, or --body mediapipe33 for a pose"
            raise UsageError(f"osc:{port}:{preset} needs --map", hint=hint)
        mapped = MapReader(mapping) if mapping else None
        made = self._preset.reader(body) if self._preset and self._preset.reader else None
        posed = WekPoseReader(body) if bare and body is not None else None
        self._readers: list[Reader] = [r for r in (mapped, made, posed) if r is not None]
        kinds = (mapped.kinds if mapped else ()) + (self._preset.kinds if self._preset else ())
        self.kinds = tuple(dict.fromkeys((*kinds, "pose") if bare else kinds))
        self.host, self.port, self.body = host, port, None if body is None else completed(body)
        self.name = f"osc:{port}" + (f":{preset}" if preset else "")
        listed = (mapped.addresses if mapped else ()) + (self._preset.allow if self._preset else ())
        self._decoder = Decoder(listed if allow is None else allow)
        self._queue: deque[Sample] = deque(maxlen=capacity)
        self._clock: Clock | None = None
        self._start_ns = 0
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._dropped = self._unused = self._lines = 0
        self._packets = self._bytes = 0
        self._last_ns: int | None = None
        self._useless = b""
        self._samples: dict[str, int] = {}
        self._misread: dict[str, int] = {}
        self._pace: dict[str, tuple[int, int, float]] = {}
        self._faults: dict[str, int] = {}
        self._line, self._line_ns = "", -SECOND_NS

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        return (self.host, self.port) if self._socket is None else self._socket.getsockname()[:2]

    def open(self, clock: Clock, start_ns: int) -> None:
        """See `Source`."""
        self.close()
        self._clock, self._start_ns = clock, start_ns
        self._socket = bind_udp(self.host, self.port, self.name)
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._receive, args=(self._socket, clock, self._stop), name=self.name, daemon=True
        )
        self._thread.start()

    def poll(self, now_ns: int) -> list[Sample]:
        """See `Source`."""
        queue = self._queue
        return [queue.popleft() for _ in range(len(queue))]

    def said(self) -> list[str]:
        """See `Source`; worth repeating while nothing is heard."""
        lines = listening(self.name, *self.address)
        if self._preset:
            lines.append(f"{self.name}: {self._preset.title}, {self._preset.units}")
        return [*lines, *([self.useless()] if self.useless() else [])]

    def useless(self) -> str:
        """What came while nothing of it could be used, and what to do; empty when nothing came or some was used."""
        if self._samples or not self._packets:
            return ""
        begun = f"{self.name}: {self._packets} packets came and none could be used"
        if self._misread:
            return f"{begun}: {max(self._misread, key=lambda why: self._misread[why])}"
        if self._useless[:1] == b"{":
            return f"{begun}: they are JSON, which ZIG SIM sends: --source osc:{self.port}:zigsim"
        try:
            address = next((m.address for m in decode(self._useless)), "empty") if self._useless else "empty"
        except OscError as e:
            return f"{begun}: not OSC, {e.reason}"
        sender = next((preset for start, preset in SENT_BY.items() if address.startswith(start)), "")
        words = f"osc:{self.port}:{sender}" if sender else f"osc:{self.port} --learn"
        return f"{begun}, the last was {address}: --source {words}"

    def facts(self) -> dict[str, Any]:
        """See `Source`. `error` is renewed at most once a second, `errors` counts its renewals."""
        refused = dict(self._decoder.refused)
        for reason, n in self._misread.items():
            refused[reason] = refused.get(reason, 0) + n
        return {
            "address": list(self.address),
            "packets": self._packets,
            "bytes": self._bytes,
            "samples": dict(self._samples),
            "rate_hz": {kind: round(rate, 1) for kind, (_, _, rate) in self._pace.items()},
            "dropped": self._dropped,
            "unused": self._unused + self._decoder.skipped,
            "refused": dict(sorted(refused.items())),
            "last_ns": self._last_ns,
            "error": self._line,
            "errors": self._lines,
        }

    def close(self) -> None:
        """See `Source`."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(1.0)
            self._thread = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def handle(self, packet: bytes, arrival_ns: int, sender: str = "") -> None:
        """Take a packet that arrived; whatever is in it, nothing is raised."""
        self._packets += 1
        self._bytes += len(packet)
        as_json = packet[:1] == b"{" and self._preset is not None and self._preset.json
        try:
            messages = zigsim_json(packet) if as_json else self._decoder.decode(packet)
        except OscError as e:
            if as_json:
                self._misread[e.reason] = self._misread.get(e.reason, 0) + 1
            self._useless = packet
            self._complain(e.reason, arrival_ns, sender)
            return
        self._last_ns = arrival_ns
        for message in messages:
            self._understand(message, arrival_ns, sender)

    def _understand(self, message: Message, arrival_ns: int, sender: str) -> None:
        t_us = self.origin_us + (arrival_ns - self._start_ns) // 1000
        try:
            readings = None
            for reader in self._readers:
                if (readings := reader.read(message, t_us)) is not None:
                    break
        except OscError as e:
            self._misread[e.reason] = self._misread.get(e.reason, 0) + 1
            self._complain(e.reason, arrival_ns, sender)
            return
        if readings is None:
            self._unused += 1
            self._useless = encode(message.address)
            return
        stamp = message.timetag
        # 0 and 1 say "now" and are no time. NTP counts seconds from 1900 in 32.32 bits.
        sensor_us = stamp * 1_000_000 // NTP_SECONDS if stamp is not None and stamp > 1 else None
        for reading in readings:
            if len(self._queue) == self._queue.maxlen:
                self._dropped += 1
            self._queue.append(Sample(reading.kind, t_us, arrival_ns, reading.values, sensor_us, reading.whole))
            self._count(reading.kind, arrival_ns)

    def _count(self, kind: str, now_ns: int) -> None:
        self._samples[kind] = self._samples.get(kind, 0) + 1
        since, n, rate = self._pace.get(kind, (now_ns, -1, 0.0))
        if now_ns - since >= SECOND_NS:
            rate, since, n = (n + 1) * SECOND_NS / (now_ns - since), now_ns, -1
        self._pace[kind] = since, n + 1, rate

    def _complain(self, reason: str, now_ns: int, sender: str) -> None:
        self._faults[reason] = self._faults.get(reason, 0) + 1
        if now_ns - self._line_ns < SECOND_NS:
            return
        told = ", ".join(f"{n} {why}" for why, n in sorted(self._faults.items(), key=lambda f: -f[1])[:3])
        self._line = f"{self.name}: refused since the last line: {told}" + (f" (last from {sender})" if sender else "")
        self._line_ns, self._faults = now_ns, {}
        self._lines += 1

    def _receive(self, sock: socket.socket, clock: Clock, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                packet, sender = sock.recvfrom(LARGEST)
            except TimeoutError:
                continue
            except OSError as e:
                if stop.is_set() or e.errno == errno.EBADF:
                    return
                self._complain(os.strerror(e.errno or 0), clock.now_ns(), "")
                stop.wait(0.1)
                continue
            self.handle(packet, clock.now_ns(), str(sender[0]))
