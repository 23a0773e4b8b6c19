"""OSC out: the words of each style, read back by python-osc, and a port that neither blocks nor hides a loss."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from choreo_cli.errors import UnavailableError, UsageError
from choreo_cli.live.osc import decode
from choreo_cli.live.osc_port import PATIENCE, STYLE_PORTS, STYLES, OscPort, cue_packet
from choreo_cli.live.port import Cue, Outgoing, PortLost
from formats.packets import CONTROLS

VALUES = np.array([1.25, 0.7, 0.1, 0.0, 1.0], np.float32)


def out(seq: int = 3, send: tuple[bool, ...] = (True,) * 5) -> Outgoing:
    return Outgoing(seq, 60_000, VALUES, VALUES / 2, np.array(send), held=False)


@pytest.fixture
def receiver() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.bind(("127.0.0.1", 0))
        made.settimeout(5)
        yield made


def opened(receiver: socket.socket, style: str = "choreo") -> OscPort:
    port = OscPort("127.0.0.1", receiver.getsockname()[1], style)
    port.open()
    return port


def heard(receiver: socket.socket, n: int) -> list[tuple[str, list[Any]]]:
    """Messages of n packets as python-osc reads them."""
    from pythonosc.osc_packet import OscPacket

    packets = [receiver.recv(9000) for _ in range(n)]
    messages = [m.message for p in packets for m in OscPacket(p).messages]
    for message, ours in zip(messages, [m for p in packets for m in decode(p)], strict=True):
        assert [type(v) for v in message.params] == [type(v) for v in ours.args]
    return [(m.address, m.params) for m in messages]


EXACT = [float(v) for v in VALUES]


@pytest.mark.parametrize(
    ("style", "packets", "messages"),
    [
        ("choreo", 1, [(f"/choreo/{c}", [v]) for c, v in zip(CONTROLS, EXACT, strict=True)]),
        ("vector", 1, [("/choreo/frame", [3, *EXACT])]),
        ("wek", 1, [("/wek/outputs", EXACT)]),
        ("tidal", 5, [("/ctrl", [c, v]) for c, v in zip(CONTROLS, EXACT, strict=True)]),
        ("sonicpi", 5, [(f"/choreo/{c}", [v]) for c, v in zip(CONTROLS, EXACT, strict=True)]),
    ],
)
def test_each_style_in_its_words(receiver: socket.socket, style: str, packets: int, messages: list[Any]) -> None:
    port = opened(receiver, style)
    assert port.send(out()) == packets
    assert heard(receiver, packets) == messages
    port.close()


def test_the_five_controls_of_a_tick_share_a_bundle_that_is_due_at_once(receiver: socket.socket) -> None:
    port = opened(receiver)
    port.send(out())
    assert {m.timetag for m in decode(receiver.recv(9000))} == {1}
    port.close()


def test_sonic_pi_gets_no_bundle(receiver: socket.socket) -> None:
    """Its cue server stops at one."""
    port = opened(receiver, "sonicpi")
    port.send(out())
    port.cue(Cue("plan", "drop", 0, 0.5, 8))
    port.reopen()
    for _ in range(7):
        assert receiver.recv(9000)[:1] == b"/"
    port.close()


def test_only_what_is_due_is_sent(receiver: socket.socket) -> None:
    port = opened(receiver)
    assert port.send(out(send=(False,) * 5)) == 0
    assert port.send(out(send=(False, True, False, False, True))) == 1
    assert heard(receiver, 1) == [("/choreo/density", [EXACT[1]]), ("/choreo/fx_send", [EXACT[4]])]
    assert port.facts()["packets"] == 1
    port.close()


def test_the_frame_number_wraps_instead_of_failing(receiver: socket.socket) -> None:
    port = opened(receiver, "vector")
    port.send(out(seq=2**31 + 5))
    assert heard(receiver, 1)[0][1][0] == 5
    port.close()


@pytest.mark.parametrize(
    ("style", "cue", "message"),
    [
        ("choreo", Cue("gesture", "arm up/left", 0, 0.75), ("/choreo/gesture/arm_up_left", (0.75,))),
        ("choreo", Cue("plan", "drop", 0, -0.5, 16), ("/choreo/plan/drop", (-0.5, 16))),
        ("vector", Cue("plan", "drop", 0, -0.5), ("/choreo/plan/drop", (-0.5, -1))),
        ("wek", Cue("gesture", "\u00e9", 0, 1), ("/choreo/gesture/_", (1.0,))),
        ("tidal", Cue("gesture", "jump", 0, 1), ("/ctrl", ("gesture_jump", 1.0))),
        ("sonicpi", Cue("gesture", "jump", 0, 1), ("/choreo/gesture/jump", (1.0,))),
    ],
)
def test_cues(style: str, cue: Cue, message: tuple[str, Any]) -> None:
    read = decode(cue_packet(style, cue))
    assert [(m.address, m.args) for m in read] == [message]


def test_every_style_has_a_port_of_its_program() -> None:
    assert tuple(STYLE_PORTS) == STYLES


def test_a_receiver_that_goes_is_lost_after_three_refusals_and_found_again() -> None:
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.bind(("127.0.0.1", 0))
    number = receiver.getsockname()[1]
    port = opened(receiver)
    assert port.send(out()) == 1
    receiver.close()
    with pytest.raises(PortLost, match=f"osc:127.0.0.1:{number}: nobody listens"):
        for _ in range(PATIENCE + 1):
            port.send(out())
    assert (port.facts()["refused"], port.facts()["losses"]) == (PATIENCE, 1)
    with pytest.raises(UnavailableError, match="nobody listens: start the receiver"):
        port.reopen()
    with pytest.raises(PortLost, match="is not open"):
        port.send(out())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as back:
        back.bind(("127.0.0.1", number))
        back.settimeout(5)
        port.reopen()
        assert port.send(out()) == 1
        assert decode(back.recv(9000)) == []
        assert len(decode(back.recv(9000))) == 5
    port.close()
    port.close()


def test_a_refusal_costs_no_packet() -> None:
    """The error of a send is about an earlier packet; the present one is sent all the same."""
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.bind(("127.0.0.1", 0))
    port = opened(receiver)
    number = receiver.getsockname()[1]
    receiver.close()
    port.send(out())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as back:
        back.bind(("127.0.0.1", number))
        back.settimeout(5)
        assert [port.send(out()) for _ in range(3)] == [1, 1, 1]
        assert [len(decode(back.recv(9000))) for _ in range(3)] == [5, 5, 5]
    assert port.facts()["refused"] == 1
    port.close()


class Sometimes:
    """A socket whose sends end as told."""

    def __init__(self, *ends: int) -> None:
        self.ends = list(ends)
        self.sent = 0

    def send(self, packet: bytes) -> int:
        end = self.ends.pop(0) if self.ends else 0
        if end:
            raise OSError(end, "as told")
        self.sent += 1
        return len(packet)

    def close(self) -> None:
        pass


@pytest.mark.parametrize("full", [errno.EAGAIN, errno.ENOBUFS])
def test_a_full_system_drops_and_counts(full: int) -> None:
    port = OscPort("127.0.0.1", 9)
    port._socket = Sometimes(full, 0, full)  # type: ignore[assignment]
    assert [port.send(out()) for _ in range(3)] == [0, 1, 0]
    assert (port.facts()["dropped"], port.facts()["refused"]) == (2, 0)


def test_only_refusals_in_a_row_are_a_loss() -> None:
    port = OscPort("127.0.0.1", 9)
    gone = errno.ECONNREFUSED
    port._socket = Sometimes(*[gone, 0, gone, 0, 0] * 20)  # type: ignore[assignment]
    assert sum(port.send(out()) for _ in range(60)) == 60
    assert port.facts()["losses"] == 0


def test_a_network_that_goes_down_is_a_loss() -> None:
    port = OscPort("127.0.0.1", 9)
    port._socket = Sometimes(*[errno.ENETUNREACH] * 9)  # type: ignore[assignment]
    with pytest.raises(PortLost, match=r"[Nn]etwork is unreachable"):
        for _ in range(PATIENCE):
            port.send(out())


def test_the_socket_never_blocks(receiver: socket.socket) -> None:
    port = opened(receiver)
    assert port._socket is not None and port._socket.getblocking() is False
    port.close()


def resolves(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Names resolve to these: no test asks the network."""
    found = [
        (socket.AF_INET6, socket.SOCK_DGRAM, 17, "", (a, 9, 0, 0))
        if ":" in a
        else (socket.AF_INET, socket.SOCK_DGRAM, 17, "", (a, 9))
        for a in addresses
    ]
    monkeypatch.setattr("choreo_cli.live.osc_port.socket.getaddrinfo", lambda *a, **k: found)


@pytest.mark.parametrize("host", ["255.255.255.255", "224.0.0.1"])
def test_many_receivers_are_refused_unless_asked_for(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    resolves(monkeypatch, host)
    with pytest.raises(UsageError, match="not one receiver but many"):
        OscPort(host, 9000).open()


def test_broadcast_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    resolves(monkeypatch, "255.255.255.255")
    asked: list[tuple[int, int, int]] = []

    class Recorded(socket.socket):
        def setsockopt(self, *args: Any) -> None:
            asked.append(args)  # type: ignore[arg-type]

        def connect(self, address: Any) -> None:
            pass

    monkeypatch.setattr("choreo_cli.live.osc_port.socket.socket", Recorded)
    port = OscPort("255.255.255.255", 9000, broadcast=True)
    port.open()
    assert asked == [(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)]
    port.close()


def test_an_unknown_host_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: Any, **kwargs: Any) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr("choreo_cli.live.osc_port.socket.getaddrinfo", unknown)
    with pytest.raises(UnavailableError, match=r"unknown host no-such-host\.invalid: give its address"):
        OscPort("no-such-host.invalid", 9000).open()


def test_localhost_means_the_address_that_receivers_listen_on(monkeypatch: pytest.MonkeyPatch) -> None:
    resolves(monkeypatch, "::1", "127.0.0.1")
    port = OscPort("localhost", 9)
    port.open()
    assert port._socket is not None and port._socket.family == socket.AF_INET
    port.close()


def test_bad_arguments() -> None:
    with pytest.raises(UsageError, match="no OSC style midi: one of choreo, vector, wek, tidal, sonicpi"):
        OscPort("127.0.0.1", 9000, "midi")
    with pytest.raises(UsageError, match="OSC port 70000 is not between 1 and 65535"):
        OscPort("127.0.0.1", 70000)
    assert OscPort("::1", 9000).name == "osc:[::1]:9000"
