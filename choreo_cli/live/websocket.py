"""Values out to browsers on this machine: a WebSocket server that strangers cannot enter and a slow page cannot stop.

A page on any web site may try to reach a server on 127.0.0.1. It is kept out by three checks before the handshake: the
`Host` is this server's own (a name that was rebound to 127.0.0.1 is not), the `Origin` is on a list, and the path is a
random token of 128 bits. Browsers cannot leave the `Origin` out, so a client without one is not a page: it enters with
the token alone. `null`, which any site gets inside a sandboxed frame, is not on the list: serve a page of your own with
`python3 -m http.server` instead of opening its file.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import re
import secrets
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Annotated, Any

import msgspec

from choreo_cli.errors import UnavailableError, UsageError
from choreo_cli.live.port import Cue, Outgoing, PortLost
from formats.packets import CONTROLS

HOST = "127.0.0.1"
HOSTS = (HOST, "localhost")
ORIGINS = ("https://strudel.cc", "http://127.0.0.1:*", "http://localhost:*")
MAX_CLIENTS = 32
MAX_CUES = 16
STOP_S = 0.6
# What lies in buffers when a hidden page wakes up is old: a few frames, not megabytes.
BUFFER_BYTES = 8192
_ORIGIN = re.compile(r"(https?)://([a-z0-9.-]+|\[[0-9a-f:]+\])(?::([0-9]{1,5}|\*))?")
_QUIET = logging.Logger("choreo.websocket", level=logging.CRITICAL + 1)


class _Said(msgspec.Struct):
    ack: Annotated[int, msgspec.Meta(ge=0, le=2**62)]


_said = msgspec.json.Decoder(_Said)


class Client:
    """One connection: the newest frame, which replaces the one before, and the last cues."""

    def __init__(self, transport: Any) -> None:
        self.transport = transport
        self.frame = ""
        self.cues: deque[str] = deque(maxlen=MAX_CUES)
        self.dropped = 0
        self.ready = asyncio.Event()

    def give(self, frame: str, cues: Iterable[str]) -> None:
        """Take what is new; what was not sent yet is replaced and counted."""
        if frame:
            self.dropped += bool(self.frame)
            self.frame = frame
        for cue in cues:
            self.dropped += len(self.cues) == MAX_CUES
            self.cues.append(cue)
        self.ready.set()

    def take(self) -> list[str]:
        """What is to be sent, cues first: a drop is heard with its frame."""
        taken = [*self.cues, *([self.frame] if self.frame else [])]
        self.cues.clear()
        self.frame = ""
        self.ready.clear()
        return taken


class WebSocketPort:
    """JSON to every page that knows the address.

        {"t": 1200000, "seq": 60, "controls": {"tempo_scale": 1.0, ...}, "beat": 2.5, "bpm": 120.0, "held": false}
        {"cue": {"kind": "plan", "name": "drop", "t": 1200000, "strength": 0.5, "beat": 16}}

    A page may say which frame it has, and the ledger then holds when that was heard: `{"ack": 60}`, the frame's `seq`.

    `t` is session time in microseconds; a value that is not known is null. Every frame has all five controls, in the
    ranges of the control map. A new client gets the newest frame at once.

    Args:
        port: 0 takes a free one.
        origins: Allowed besides `ORIGINS`, as `https://example.org` or `http://example.org:*`.
        token: Instead of a random one, at least 22 letters, digits, `-` or `_`.

    Raises:
        UsageError: a port, origin or token that is none.
    """

    quantum = 1e-3

    def __init__(self, port: int = 0, origins: Iterable[str] = (), *, token: str | None = None) -> None:
        if not 0 <= port < 65536:
            raise UsageError(f"WebSocket port {port} is not between 0 and 65535", hint="ws:PORT or ws:")
        if token is not None and not re.fullmatch(r"[A-Za-z0-9_-]{22,200}", token):
            raise UsageError("the WebSocket token is too short or has odd characters", hint="leave it out")
        self.port, self.name = port, f"ws:{port or ''}"
        self.on_ack: Callable[[int], object] | None = None
        self._origins = [_origin(o) for o in (*ORIGINS, *origins)]
        self._token = token or secrets.token_urlsafe(16)
        self._bound = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stop: asyncio.Event | None = None
        self._clients: set[Client] = set()
        self._lock = threading.Lock()
        self._newest: tuple[Any, ...] | None = None
        self._waiting_cues: list[Cue] = []
        self._fresh = self._woken = False
        self._counts = {"messages": 0, "bytes": 0, "dropped": 0, "clients_ever": 0, "strangers": 0, "acks": 0}

    @property
    def url(self) -> str:
        """Where to connect, with the token: for the person's screen only."""
        return f"ws://{HOST}:{self._bound or self.port}/{self._token}"

    def open(self) -> None:
        """Start the server on a thread of its own.

        Raises:
            UnavailableError: the port is taken, or `websockets` is not installed.
        """
        self.close()
        try:
            import websockets.asyncio.server  # noqa: F401
        except ImportError:
            hint = "pip install 'choreo[live]'"
            raise UnavailableError(f"{self.name}: websockets is not installed", hint=hint) from None
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Connections inherit it.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
            listener.bind((HOST, self._bound or self.port))
            listener.listen(MAX_CLIENTS)
        except OSError as e:
            listener.close()
            raise UnavailableError(f"{self.name}: {e.strerror or e}", hint="ws: takes a free port") from None
        self._bound = listener.getsockname()[1]
        started = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(listener, started)), name=self.name, daemon=True
        )
        self._thread.start()
        if not started.wait(5):
            raise UnavailableError(f"{self.name}: the server does not start", hint="try another port")

    def send(self, out: Outgoing) -> int:
        """See `Port`; the number of clients it goes to. All five controls are sent when one of them is due."""
        if not out.send.any():
            return 0
        # The arrays may be used again by the next tick: the numbers are taken out here.
        return self._hand_over((out.t_us, out.seq, out.values.tolist(), out.beat, out.bpm, out.held), None)

    def cue(self, cue: Cue) -> int:
        """See `Port`."""
        return self._hand_over(None, cue)

    def silence(self) -> None:
        """Nothing sounds by itself here: pages follow the neutral values that are sent like all others."""

    def facts(self) -> dict[str, Any]:
        """See `Port`; `strangers` were refused at the door."""
        counts = dict(self._counts)
        counts["dropped"] += sum(c.dropped for c in tuple(self._clients))
        return {"clients": len(self._clients), "port": self._bound, **counts}

    def close(self) -> None:
        """Say goodbye to the clients and stop within a second."""
        loop, thread, stop = self._loop, self._thread, self._stop
        self._loop = self._thread = self._stop = None
        if loop is not None and stop is not None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(stop.set)
        if thread is not None:
            thread.join(1.0)
        self._clients = set()

    def _hand_over(self, frame: tuple[Any, ...] | None, cue: Cue | None) -> int:
        loop, thread = self._loop, self._thread
        if loop is None or thread is None or not thread.is_alive():
            raise PortLost(f"{self.name} does not run")
        with self._lock:
            if frame is not None:
                self._newest, self._fresh = frame, True
            if cue is not None:
                self._waiting_cues.append(cue)
                del self._waiting_cues[:-MAX_CUES]
            woken, self._woken = self._woken, True
        if not woken:
            try:
                loop.call_soon_threadsafe(self._pass_on)
            except RuntimeError:
                raise PortLost(f"{self.name} does not run") from None
        return len(self._clients)

    def _pass_on(self) -> None:
        """On the server's thread: the newest frame and the cues since, to every client."""
        with self._lock:
            newest, cues = self._newest if self._fresh else None, self._waiting_cues
            self._waiting_cues, self._fresh, self._woken = [], False, False
        if self._clients:
            frame, told = _frame_json(newest), [_cue_json(c) for c in cues]
            for client in self._clients:
                client.give(frame, told)

    async def _serve(self, listener: socket.socket, started: threading.Event) -> None:
        from websockets.asyncio.server import serve

        stop = asyncio.Event()
        server = await serve(
            self._talk,
            sock=listener,
            process_request=self._at_the_door,
            compression=None,
            server_header=None,
            open_timeout=5,
            # On this machine a dead peer is noticed at once, and a page that sleeps must not be thrown out.
            ping_interval=None,
            close_timeout=STOP_S / 2,
            max_size=1024,
            max_queue=4,
            write_limit=BUFFER_BYTES,
            logger=_QUIET,
        )
        self._loop, self._stop = asyncio.get_running_loop(), stop
        started.set()
        await stop.wait()
        server.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(server.wait_closed()), STOP_S)
        for client in tuple(self._clients):
            # It does not read, so it cannot say goodbye.
            client.transport.abort()

    def _at_the_door(self, connection: Any, request: Any) -> Any:
        """Refuse who is not meant; None lets in."""
        if not self._may_enter(request):
            self._counts["strangers"] += 1
            return connection.respond(403, "forbidden\n")
        if len(self._clients) >= MAX_CLIENTS:
            return connection.respond(503, "too many clients\n")
        return None

    def _may_enter(self, request: Any) -> bool:
        hosts, origins = request.headers.get_all("Host"), request.headers.get_all("Origin")
        host_ok = len(hosts) == 1 and hosts[0].lower() in [f"{h}:{self._bound}" for h in HOSTS]
        origin_ok = not origins or (len(origins) == 1 and any(o.fullmatch(origins[0]) for o in self._origins))
        # Always compared, and in constant time: how long a refusal takes tells nothing.
        token_ok = hmac.compare_digest(request.path.encode("utf-8", "replace"), f"/{self._token}".encode())
        return host_ok and origin_ok and token_ok

    async def _talk(self, connection: Any) -> None:
        from websockets.exceptions import ConnectionClosed

        if len(self._clients) >= MAX_CLIENTS:
            await connection.close(1013)
            return
        client = Client(connection.transport)
        clients = self._clients
        clients.add(client)
        self._counts["clients_ever"] += 1
        client.give(_frame_json(self._newest), ())
        listening = asyncio.create_task(self._hear_out(connection))
        try:
            while not listening.done():
                waiting = asyncio.create_task(client.ready.wait())
                await asyncio.wait((waiting, listening), return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
                for text in client.take():
                    await connection.send(text)
                    self._counts["messages"] += 1
                    self._counts["bytes"] += len(text)
        except ConnectionClosed:
            pass
        finally:
            listening.cancel()
            clients.discard(client)
            self._counts["dropped"] += client.dropped

    async def _hear_out(self, connection: Any) -> None:
        """Read what a client says until it leaves, and forget all but what it confirms; pings come with it."""
        from websockets.exceptions import ConnectionClosed

        with contextlib.suppress(ConnectionClosed):
            async for message in connection:
                try:
                    seq = _said.decode(message).ack
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                    continue
                self._counts["acks"] += 1
                if self.on_ack is not None:
                    self.on_ack(seq)


def _origin(text: str) -> re.Pattern[str]:
    match = _ORIGIN.fullmatch(text.lower())
    if match is None:
        raise UsageError(
            f"{text[:60]!r} is not a web origin", hint="for example https://strudel.cc or http://my.host:*"
        )
    scheme, host, port = match.groups()
    # The port of http and https is left out of an origin when it is the usual one.
    tail = r"(:[0-9]{1,5})?" if port == "*" else f":{port}" if port else ""
    return re.compile(f"{scheme}://{re.escape(host)}{tail}")


def _frame_json(frame: tuple[Any, ...] | None) -> str:
    if frame is None:
        return ""
    t_us, seq, values, beat, bpm, held = frame
    controls = {name: round(v, 6) for name, v in zip(CONTROLS, values, strict=True)}
    data = {"t": t_us, "seq": seq, "controls": controls, "beat": beat, "bpm": bpm, "held": held}
    return msgspec.json.encode(data).decode()


def _cue_json(cue: Cue) -> str:
    data = {"kind": cue.kind, "name": cue.name, "t": cue.t_us, "strength": cue.strength, "beat": cue.beat}
    return msgspec.json.encode({"cue": data}).decode()
