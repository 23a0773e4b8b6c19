"""Values out as OSC over UDP: one packet a tick, in the words of the receiver, never waiting."""

from __future__ import annotations

import errno
import ipaddress
import os
import re
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from choreo_cli.errors import UnavailableError, UsageError
from choreo_cli.live.osc import Arg, Decoder, Message, OscError, encode, encode_bundle
from choreo_cli.live.port import Cue, Outgoing, PortLost
from formats.packets import CONTROLS

Say = Callable[[Outgoing], list[bytes]]

STYLES = ("choreo", "vector", "wek", "tidal", "sonicpi")
STYLE_PORTS = {"choreo": 57120, "vector": 57120, "wek": 12000, "tidal": 6010, "sonicpi": 4560}
"""Where the programs of each style listen: SuperCollider, Wekinator's outputs, TidalCycles, Sonic Pi."""
PATIENCE = 3
PROBE_S = 0.05
HEAR_S = 0.2
LARGEST = 2048
FULL = (errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS)
_ODD = re.compile(r"[^A-Za-z0-9_.-]+")
_ADDRESSES = tuple(f"/choreo/{name}" for name in CONTROLS)


def _changed(out: Outgoing) -> list[tuple[int, float]]:
    return [(i, v) for i, (v, send) in enumerate(zip(out.values.tolist(), out.send.tolist(), strict=True)) if send]


def _choreo(out: Outgoing) -> list[bytes]:
    return [encode_bundle([Message(_ADDRESSES[i], (value,)) for i, value in _changed(out)])]


def _vector(out: Outgoing) -> list[bytes]:
    # The number wraps as a 32-bit integer does, after 497 days.
    return [encode("/choreo/frame", (out.seq & 0x7FFFFFFF, *out.values.tolist()))]


def _wek(out: Outgoing) -> list[bytes]:
    return [encode("/wek/outputs", out.values.tolist())]


def _tidal(out: Outgoing) -> list[bytes]:
    return [encode("/ctrl", (CONTROLS[i], value)) for i, value in _changed(out)]


def _sonicpi(out: Outgoing) -> list[bytes]:
    # Its cue server has no case for a bundle and stops at one.
    return [encode(_ADDRESSES[i], (value,)) for i, value in _changed(out)]


SAY: dict[str, Say] = {"choreo": _choreo, "vector": _vector, "wek": _wek, "tidal": _tidal, "sonicpi": _sonicpi}


def cue_packet(style: str, cue: Cue) -> bytes:
    """A cue: `/choreo/gesture/<name> f` (score), `/choreo/plan/<name> f i` (strength, beat; -1 = none).

    TidalCycles knows only `/ctrl`: `gesture_<name>` and its strength.
    """
    name = _ODD.sub("_", cue.name) or "_"
    if style == "tidal":
        return encode("/ctrl", (f"{cue.kind}_{name}", float(cue.strength)))
    args: list[Arg] = [float(cue.strength)]
    if cue.kind == "plan":
        args.append(-1 if cue.beat is None else int(cue.beat))
    return encode(f"/choreo/{cue.kind}/{name}", args)


class OscPort:
    """OSC to one UDP address, in the ranges of the control map.

    | style   | a tick                              | for                          |
    |---------|-------------------------------------|------------------------------|
    | choreo  | a bundle of `/choreo/<control> f`   | Pd, Max, SuperCollider       |
    | vector  | `/choreo/frame i fffff`             | recorders                    |
    | wek     | `/wek/outputs fffff`                | tools of Wekinator's world   |
    | tidal   | `/ctrl s f` each                    | TidalCycles                  |
    | sonicpi | `/choreo/<control> f` each          | Sonic Pi (`sync "/osc*/..."`)|

    The frames of `vector` are numbered: a receiver may answer `/choreo/ack i` with the number, from the port it listens
    at, and the ledger then holds when that was heard.

    Nothing tells whether a UDP packet arrived, but on this machine a closed port answers: PortLost is raised after
    three refusals in a row. A packet that the system has no room for is dropped and counted.

    Args:
        host: Name or address, resolved once by `open`.
        port: 1..65535.
        style: One of `STYLES`.
        broadcast: Let the address be one of many receivers.

    Raises:
        UsageError: no such style or port.
    """

    quantum = 1e-3

    def __init__(self, host: str, port: int, style: str = "choreo", *, broadcast: bool = False) -> None:
        if style not in STYLES:
            raise UsageError(f"no OSC style {style}", hint=f"one of {', '.join(STYLES)}")
        if not 0 < port < 65536:
            raise UsageError(f"OSC port {port} is not between 1 and 65535", hint="osc:HOST:PORT")
        self.host, self.port, self.style, self.broadcast = host, port, style, broadcast
        self.name = f"osc:[{host}]:{port}" if ":" in host else f"osc:{host}:{port}"
        self._say = SAY[style]
        self._socket: socket.socket | None = None
        self._in_a_row = 0
        self._ears: threading.Thread | None = None
        self._heard_error: OSError | None = None
        if style == "vector":  # the one whose packets are numbered
            self.on_ack: Callable[[int], object] | None = None
        self._counts = {"messages": 0, "packets": 0, "bytes": 0, "refused": 0, "dropped": 0, "losses": 0, "acks": 0}

    def open(self) -> None:
        """Resolve the name and make the socket; whether anybody listens shows when something is sent.

        Raises:
            UnavailableError: unknown host, or no way to it.
            UsageError: a broadcast or multicast address without `broadcast`.
        """
        self.close()
        family, address = self._resolve()
        made = socket.socket(family, socket.SOCK_DGRAM)
        try:
            made.setblocking(False)
            if self.broadcast:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            # Connected, so that a refusal comes back as an error of the next send.
            made.connect(address)
        except OSError as e:
            made.close()
            if e.errno == errno.EACCES and not self.broadcast:
                raise self._to_many() from None
            raise UnavailableError(f"{self.name}: {e.strerror or e}", hint="check the network") from None
        self._socket, self._in_a_row, self._heard_error = made, 0, None
        if self.style == "vector":
            self._ears = threading.Thread(target=self._hear, args=(made,), name=f"{self.name} acks", daemon=True)
            self._ears.start()

    def reopen(self) -> None:
        """Open again after a loss, if somebody listens now: an empty bundle asks. May take 50 ms.

        Raises:
            UnavailableError: nobody does.
        """
        self.open()
        assert self._socket is not None
        try:
            # Sonic Pi takes no bundle, but any message.
            self._socket.send(encode("/choreo/hello") if self.style == "sonicpi" else encode_bundle(()))
            select.select([self._socket], [], [], PROBE_S)
            error = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if self._ears is not None:
                time.sleep(PROBE_S)  # the thread that listens may have been faster
                error = error or (self._heard_error.errno if self._heard_error else 0) or 0
            if error:
                raise OSError(
                    error, "nobody listens" if error == errno.ECONNREFUSED else errno.errorcode.get(error, "")
                )
        except OSError as e:
            self.close()
            raise UnavailableError(f"{self.name}: {_why(e.errno or 0)}", hint="start the receiver") from None

    def send(self, out: Outgoing) -> int:
        """See `Port`."""
        return sum(self._give(packet) for packet in self._say(out)) if out.send.any() else 0

    def cue(self, cue: Cue) -> int:
        """See `Port`."""
        return self._give(cue_packet(self.style, cue))

    def silence(self) -> None:
        """OSC starts no notes of ours, so there are none to stop; the neutral values are sent like all others."""

    def facts(self) -> dict[str, Any]:
        """See `Port`."""
        return {"style": self.style, **self._counts}

    def close(self) -> None:
        """See `Port`."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._ears is not None and self._ears is not threading.current_thread():
            self._ears.join(1.0)
            self._ears = None

    def _hear(self, sock: socket.socket) -> None:
        """Take `/choreo/ack i` of the receiver, until the socket is another; refusals are passed on to `send`."""
        decoder = Decoder(("/choreo/ack",))
        while self._socket is sock:
            try:
                if not select.select([sock], [], [], HEAR_S)[0]:
                    continue
                packet = sock.recv(LARGEST)
            except BlockingIOError:
                continue
            except (OSError, ValueError) as e:
                if self._socket is not sock or not isinstance(e, OSError) or e.errno == errno.EBADF:
                    return
                self._heard_error = e
                continue
            try:
                args = decoder.decode(packet)[0].args
            except (OscError, IndexError):
                continue
            if len(args) == 1 and type(args[0]) is int and args[0] >= 0:
                self._counts["acks"] += 1
                if self.on_ack is not None:
                    self.on_ack(args[0])

    def _resolve(self) -> tuple[socket.AddressFamily, Any]:
        try:
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_DGRAM)
        except (socket.gaierror, UnicodeError):
            raise UnavailableError(
                f"{self.name}: unknown host {self.host}", hint="give its address, for example osc:192.168.1.20:57120"
            ) from None
        # Pd, SuperCollider and Sonic Pi listen on IPv4 only, but `localhost` may name the other one first.
        family, _, _, _, address = min(found, key=lambda f: f[0] != socket.AF_INET)
        ip = ipaddress.ip_address(str(address[0]).partition("%")[0])
        if not self.broadcast and (ip.is_multicast or str(ip) == "255.255.255.255"):
            raise self._to_many()
        return family, address

    def _to_many(self) -> UsageError:
        return UsageError(f"{self.name}: {self.host} is not one receiver but many", hint="name the address of one")

    def _give(self, packet: bytes) -> int:
        """Send a packet; 1 unless it was dropped. Raises PortLost."""
        if self._socket is None:
            raise PortLost(f"{self.name} is not open")
        counts = self._counts
        heard, self._heard_error = self._heard_error, None
        if heard is not None:
            self._refused(heard)
        for last in (False, True):
            try:
                self._socket.send(packet)
            except OSError as e:
                if e.errno in FULL:
                    counts["dropped"] += 1
                    return 0
                # It tells of an earlier packet, and this one did not leave: once more, or every second one is lost.
                if not last:
                    self._refused(e)
                    continue
                counts["dropped"] += 1
                return 0
            if not last and heard is None:
                self._in_a_row = 0
            break
        counts["messages"] += 1
        counts["packets"] += 1
        counts["bytes"] += len(packet)
        return 1

    def _refused(self, error: OSError) -> None:
        self._counts["refused"] += 1
        self._in_a_row += 1
        if self._in_a_row >= PATIENCE:
            self._counts["losses"] += 1
            raise PortLost(f"{self.name}: {_why(error.errno or 0)}") from None


def _why(number: int) -> str:
    return "nobody listens" if number == errno.ECONNREFUSED else os.strerror(number)
