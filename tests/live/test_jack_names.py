"""The tests' own JACK servers: few names, one user for each, and nothing left behind."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.live.jack_server import NAMES, JackServer, free_places, sweep, take_name
from tests.live.receiver_bench import jack_ports, need


def test_a_name_is_one_tests_alone() -> None:
    name, lock = take_name()
    other, second = take_name()
    assert name != other and {name, other} <= set(NAMES)
    lock.close()
    second.close()
    again, lock = take_name()
    assert again in NAMES
    lock.close()


def test_the_places_of_dead_servers_are_freed(tmp_path: Path) -> None:
    def place(process: int) -> bytes:
        return process.to_bytes(4, "little") + b"jack-0:x:".ljust(260, b"\0")

    head = b"KCAJ" + bytes(12) + (24 + 8 * 264).to_bytes(4, "little") + (268).to_bytes(4, "little")
    registry = tmp_path / "registry"
    registry.write_bytes(head + place(2**22 + 1) + place(0) + place(2**22 + 2) + 5 * place(0) + b"segments")
    assert free_places(registry) == 2
    data = registry.read_bytes()
    assert data[:24] == head and data[24 : 24 + 264] == bytes(264) and data.endswith(b"segments")
    registry.write_bytes(b"another version")
    assert free_places(registry) == 0 == free_places(tmp_path / "none")


@pytest.mark.live
def test_a_server_whose_test_was_killed_is_swept_away(tmp_path: Path) -> None:
    need("jackd")
    server = JackServer(tmp_path)
    for _ in range(9):  # one more than JACK has room for
        server.start()
        assert "system:playback_1" in jack_ports(server.env)
        sweep(server.name)
        assert jack_ports(server.env) == []
    server.start()
    server.signal(signal.SIGKILL)
    server.stop()
    assert not list(Path("/dev/shm").glob(f"*{server.name}*"))
