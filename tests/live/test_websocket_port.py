"""The WebSocket port: who may enter, what is said, and that neither a stranger nor a sleeping page disturbs the loop."""

from __future__ import annotations

import base64
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest

from choreo_cli.errors import UnavailableError, UsageError
from choreo_cli.live.port import Cue, Outgoing, PortLost
from choreo_cli.live.websocket import MAX_CLIENTS, MAX_CUES, WebSocketPort
from formats.packets import CONTROLS

pytest.importorskip("websockets")
from websockets.sync.client import ClientConnection, connect

SITE = "https://strudel.cc"


def out(seq: int, send: bool = True, beat: float | None = 2.5) -> Outgoing:
    values = np.array([1.25, 0.7, 0.1, 0.0, 1.0], np.float32)
    return Outgoing(seq, seq * 20_000, values, values, np.full(5, send), held=False, beat=beat, bpm=120.0)


@pytest.fixture
def port() -> Iterator[WebSocketPort]:
    made = WebSocketPort(0, ("http://my.page:8000",))
    made.open()
    yield made
    made.close()


def enter(port: WebSocketPort, origin: str | None = SITE, **options: Any) -> ClientConnection:
    return connect(port.url, origin=origin, compression=None, **options)  # type: ignore[arg-type]


def wait(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def said(client: ClientConnection) -> Any:
    return json.loads(client.recv(timeout=5))


def knock(
    port: WebSocketPort,
    path: str,
    host: str | None = None,
    origins: tuple[str, ...] = (SITE,),
    method: str = "GET",
    extra: tuple[str, ...] = (),
) -> int:
    """Status of a handshake written by hand."""
    number = port.facts()["port"]
    lines = [f"{method} {path} HTTP/1.1", *([] if host == "" else [f"Host: {host or f'127.0.0.1:{number}'}"])]
    lines += [f"Origin: {o}" for o in origins] + [
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
    ]
    lines += [f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}", *extra, "", ""]
    with socket.create_connection(("127.0.0.1", number), timeout=5) as sock:
        sock.sendall("\r\n".join(lines).encode("latin-1"))
        answer = sock.recv(4096)
    assert answer.startswith(b"HTTP/1.1 ")
    return int(answer.split()[1])


def attacks(port: WebSocketPort) -> list[dict[str, Any]]:
    token = port.url.rpartition("/")[2]
    number = port.facts()["port"]
    good = f"/{token}"
    flipped = ("A" if token[0] != "A" else "B") + token[1:]
    paths = [
        "/", "//", "/index.html", f"/{flipped}", f"/{token[:-1]}", f"/{token}x", f"/{token}/", f"//{token}", f"/{token.swapcase()}",
        f"/{token}?a=1", f"/?token={token}", f"/../{token}", f"/{token}/../..", "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd",
        f"/%2e/{token}", f"/{token}%00", "/" + "A" * 22, "/" + "A" * 4000, f"/%c3%a9{token}",
    ]  # fmt: skip
    hosts = ["", "evil.example", f"evil.example:{number}", "127.0.0.1", f"127.0.0.1:{number + 1}", f"127.0.0.1.evil.example:{number}",
             f"0.0.0.0:{number}", f"localhost.evil.example:{number}", f"[::1]:{number}"]  # fmt: skip
    origins = [
        ("null",), ("https://evil.example",), ("http://strudel.cc",), ("https://strudel.cc.evil.example",), ("https://strudel.cc:8443",),
        ("https://evilstrudel.cc",), ("http://localhost.evil.example",), ("http://127.0.0.1@evil.example",), ("file://",),
        (SITE, "https://evil.example"), ("https://strudelxcc",),
    ]  # fmt: skip
    return (
        [{"path": p} for p in paths]
        + [{"path": good, "host": h} for h in hosts]
        + [{"path": good, "origins": o} for o in origins]
    )


def test_40_of_40_strangers_are_refused(port: WebSocketPort) -> None:
    tried = attacks(port)
    assert [(a, knock(port, **a)) for a in tried] == [(a, 403) for a in tried]
    assert len(tried) == 40 == port.facts()["strangers"]
    assert port.facts()["clients_ever"] == 0
    # The door still opens for who may come in.
    assert knock(port, "/" + port.url.rpartition("/")[2]) == 101


@pytest.mark.parametrize(
    "origin", [SITE, "http://127.0.0.1:5173", "http://localhost:8000", "http://localhost", "http://my.page:8000", None]
)
def test_who_may_come_in(port: WebSocketPort, origin: str | None) -> None:
    with enter(port, origin):
        wait(lambda: port.facts()["clients"] == 1)


def test_two_hosts_or_a_post_are_no_way_in(port: WebSocketPort) -> None:
    path = "/" + port.url.rpartition("/")[2]
    assert knock(port, path, extra=("Host: evil.example",)) == 403
    number = port.facts()["port"]
    with socket.create_connection(("127.0.0.1", number), timeout=5) as sock:
        sock.sendall(f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{number}\r\nContent-Length: 0\r\n\r\n".encode())
        assert b" 101 " not in sock.recv(4096)
    with socket.create_connection(("127.0.0.1", number), timeout=5) as sock:
        sock.sendall(f"GET /\xe9{path} HTTP/1.1\r\nHost: 127.0.0.1:{number}\r\n\r\n".encode())
        assert sock.recv(4096) == b"", "what is not HTTP gets no answer"
    assert port.facts()["clients_ever"] == 0


def test_it_listens_on_this_machine_only_and_the_name_keeps_the_secret(port: WebSocketPort) -> None:
    assert port.url.startswith(f"ws://127.0.0.1:{port.facts()['port']}/")
    token = port.url.rpartition("/")[2]
    assert len(base64.urlsafe_b64decode(token + "==")) == 16
    assert token not in port.name + json.dumps(port.facts())
    assert WebSocketPort().url != WebSocketPort().url


def test_a_frame_has_all_five_controls_and_a_client_hears_in_order(port: WebSocketPort) -> None:
    with enter(port) as client:
        wait(lambda: port.facts()["clients"] == 1)
        for seq in range(20):
            assert port.send(out(seq)) == 1
            frame = said(client)
            assert frame["seq"] == seq
        controls = dict(zip(CONTROLS, [1.25, 0.7, 0.1, 0.0, 1.0], strict=True))
        assert frame == {"t": 380_000, "seq": 19, "controls": controls, "beat": 2.5, "bpm": 120.0, "held": False}
        assert client.protocol.extensions == []
        assert port.send(out(20, send=False)) == 0
        port.send(out(21, beat=None))
        assert (frame := said(client))["seq"] == 21 and frame["beat"] is None


def test_the_numbers_are_taken_before_the_arrays_are_used_again(port: WebSocketPort) -> None:
    with enter(port) as client:
        wait(lambda: port.facts()["clients"] == 1)
        given = out(1)
        port.send(given)
        given.values[:] = 0
        assert said(client)["controls"]["density"] == 0.7


def test_a_new_client_gets_the_newest_values_at_once(port: WebSocketPort) -> None:
    port.send(out(6))
    port.send(out(7))
    with enter(port) as client:
        assert said(client)["seq"] == 7


def test_cues(port: WebSocketPort) -> None:
    with enter(port) as client:
        wait(lambda: port.facts()["clients"] == 1)
        port.cue(Cue("plan", "drop", 40_000, 0.5, 16))
        assert said(client) == {"cue": {"kind": "plan", "name": "drop", "t": 40_000, "strength": 0.5, "beat": 16}}


def test_a_page_that_does_not_read_blocks_nobody(port: WebSocketPort) -> None:
    """A minute of frames for a sleeping page: the other hears all of them, the sleeper is owed the newest only."""
    number = port.facts()["port"]
    path = "/" + port.url.rpartition("/")[2]
    with socket.socket() as asleep:
        asleep.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        asleep.connect(("127.0.0.1", number))
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [
            f"GET {path} HTTP/1.1",
            f"Host: 127.0.0.1:{number}",
            f"Origin: {SITE}",
            "Upgrade: websocket",
            "Connection: Upgrade",
        ]
        asleep.sendall("\r\n".join([*lines, "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}", "", ""]).encode())
        with enter(port) as awake:
            wait(lambda: port.facts()["clients"] == 2)
            for seq in range(3000):
                port.send(out(seq))
                assert said(awake)["seq"] == seq
                if seq % 100 == 0:
                    port.cue(Cue("gesture", "jump", 0, 1.0))
                    assert "cue" in said(awake)
        sleeper = max(port._clients, key=lambda c: c.dropped)
        assert sleeper.dropped > 1000 and len(sleeper.cues) <= MAX_CUES
        assert json.loads(sleeper.frame)["seq"] == 2999
        assert port.facts()["dropped"] >= sleeper.dropped
        begun = time.monotonic()
        port.close()
        assert time.monotonic() - begun < 1.5
    assert not [t for t in threading.enumerate() if t.name == port.name]


def test_32_clients_and_no_more(port: WebSocketPort) -> None:
    path = "/" + port.url.rpartition("/")[2]
    with ExitStack() as clients:
        for _ in range(MAX_CLIENTS - 1):
            clients.enter_context(enter(port))
        with enter(port):
            wait(lambda: port.facts()["clients"] == MAX_CLIENTS)
            assert knock(port, path) == 503
        wait(lambda: port.facts()["clients"] == MAX_CLIENTS - 1)
        assert knock(port, path) == 101


def test_what_a_page_says_is_not_kept(port: WebSocketPort) -> None:
    with enter(port) as client:
        for _ in range(100):
            client.send("x" * 500)
        port.send(out(1))
        assert said(client)["seq"] == 1


def test_stopping_tells_the_clients_and_frees_the_port(port: WebSocketPort) -> None:
    from websockets.exceptions import ConnectionClosed

    url = port.url
    with enter(port) as client:
        wait(lambda: port.facts()["clients"] == 1)
        port.close()
        port.close()
        with pytest.raises(ConnectionClosed) as ended:
            client.recv(timeout=5)
    assert ended.value.rcvd is not None and ended.value.rcvd.code == 1001
    with pytest.raises(PortLost, match="does not run"):
        port.send(out(1))
    port.open()
    assert port.url == url
    with enter(port):
        pass


def test_nothing_is_logged(
    port: WebSocketPort, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """A stranger cannot fill the terminal, and the token is in no log."""
    for _ in range(3):
        knock(port, "/wrong")
        with socket.create_connection(("127.0.0.1", port.facts()["port"]), timeout=5) as sock:
            sock.sendall(b"\x16\x03\x01\x02rubbish\r\n\r\n")
            sock.recv(100)
    port.close()
    assert capfd.readouterr() == ("", "") and caplog.records == []


def test_a_taken_port_is_unavailable(port: WebSocketPort) -> None:
    number = port.facts()["port"]
    with pytest.raises(UnavailableError, match=f"ws:{number}: .*use: ws: takes a free port"):
        WebSocketPort(number).open()


def test_without_the_library_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "websockets.asyncio.server", None)
    with pytest.raises(UnavailableError, match=r"websockets is not installed: pip install 'choreo\[live\]'"):
        WebSocketPort(0).open()


@pytest.mark.parametrize(
    "origin",
    ["*", "null", "strudel.cc", "https://*", "https://a b", "file:///x", "https://x.y/path", "http://x:999999"],
)
def test_origins_that_are_none(origin: str) -> None:
    with pytest.raises(UsageError, match="is not a web origin"):
        WebSocketPort(0, (origin,))


def test_bad_arguments() -> None:
    with pytest.raises(UsageError, match="not between 0 and 65535"):
        WebSocketPort(70000)
    with pytest.raises(UsageError, match="token is too short"):
        WebSocketPort(0, token="secret")
