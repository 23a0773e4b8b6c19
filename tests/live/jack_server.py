"""A JACK dummy server that tests may kill, freeze and start again, and a second process that receives MIDI."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from tests.live.receiver_bench import jack_ports, need, wait_for

RECEIVER = """
import signal, sys, time
import rtmidi
made = rtmidi.MidiIn(rtapi=rtmidi.API_UNIX_JACK, name=sys.argv[1])
out = open(sys.argv[2], "w", buffering=1)
made.ignore_types(sysex=True, timing=False, active_sense=True)
made.set_callback(lambda event, data: out.write(" ".join(map(str, event[0])) + "\\n"))
made.open_virtual_port("in")
signal.pause()
"""


NAMES = tuple(f"choreo-live-{k}" for k in range(1, 4))
"""All servers of all tests: JACK has room for eight on a machine, and one that was killed keeps its place until one of
the same name starts. Whoever takes a name holds its lock, so what else bears it is a leftover."""


def take_name() -> tuple[str, IO[bytes]]:
    """A name that no other test uses, and the lock that says so. Skips the test when all are in use."""
    for name in NAMES:
        lock = (Path(tempfile.gettempdir()) / f"{name}.lock").open("ab")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return name, lock
        except OSError:
            lock.close()
    pytest.skip(f"all JACK servers for tests are in use: {', '.join(NAMES)}")


def running() -> dict[int, list[bytes]]:
    """Process and arguments of every JACK server of this machine."""
    found = {}
    for home in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            argv = (home / "cmdline").read_bytes().split(b"\0")
            if Path(argv[0].decode(errors="replace")).name in ("jackd", "jackdbus"):
                found[int(home.name)] = argv
    return found


def sweep(name: str) -> None:
    """Remove what a server of this name left: the process whose test was killed, and its shared memory."""
    for process, argv in running().items():
        if name.encode() in argv:
            with contextlib.suppress(OSError):
                os.kill(process, signal.SIGKILL)
            wait_for("the end of a leftover", lambda process=process: process not in running(), 4)  # type: ignore[misc]
    for left in Path("/dev/shm").glob(f"*{name}*"):
        with contextlib.suppress(OSError):
            shutil.rmtree(left) if left.is_dir() else left.unlink()
    free_places()


def free_places(registry: Path = Path("/dev/shm/jack-shm-registry")) -> int:
    """Free the places of dead servers in JACK's list of eight, which JACK itself only does for the same name.

    The list is changed in place, because running programs have it mapped: 24 bytes of header, then for each server its
    process and name, 264 bytes (`jack_shm_header_t` of JACK 1.9). How many were freed.
    """
    freed = 0
    with contextlib.suppress(OSError), registry.open("r+b") as file:
        head = file.read(24)
        if len(head) < 24 or head[:4] != b"KCAJ" or int.from_bytes(head[16:20], "little") != 24 + 8 * 264:
            return 0
        alive = running()
        for place in range(24, 24 + 8 * 264, 264):
            file.seek(place)
            process = int.from_bytes(file.read(4), "little")
            if process and process not in alive:
                file.seek(place)
                file.write(bytes(264))
                freed += 1
    return freed


class JackServer:
    """One dummy server under one of `NAMES`, and whoever was started on it. `env` is what its clients need."""

    def __init__(self, folder: Path, period: int = 128, rate: int = 48_000) -> None:
        self.folder, self.period, self.rate = folder, period, rate
        self.name, self._lock = take_name()
        self.env = {"JACK_NO_AUDIO_RESERVATION": "1", "JACK_NO_START_SERVER": "1", "JACK_DEFAULT_SERVER": self.name}
        self._server: subprocess.Popen[bytes] | None = None
        self._others: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Sweep, start the server and wait until it answers."""
        sweep(self.name)
        # -S: the asynchronous mode loses MIDI at small periods. -t: how long it waits for a client that was killed,
        # times ten; with the usual 500 ms it would stand still for five seconds.
        argv = ["jackd", "-S", "-r", "-t", "50", "-n", self.name, "-d", "dummy"]
        log = self.folder / "jackd.log"
        self._server = self._run([*argv, "-r", str(self.rate), "-p", str(self.period)], log)
        time.sleep(0.2)
        if self._server.poll() is not None:
            pytest.skip(f"jackd does not start here: {log.read_text(errors='replace')[-200:]}")
        wait_for("jackd", lambda: "system:playback_1" in jack_ports(self.env), 10, log)

    def signal(self, number: int) -> None:
        """Kill, freeze or wake the server."""
        assert self._server is not None
        self._server.send_signal(number)
        if number == signal.SIGKILL:
            self._server.wait(10)

    def run(self, name: str, *argv: str | Path) -> subprocess.Popen[bytes]:
        """Start a client of this server; it ends with the server."""
        made = self._run([str(a) for a in argv], self.folder / f"{name}.log")
        self._others.append(made)
        return made

    def receiver(self, client: str, file: Path) -> subprocess.Popen[bytes]:
        """A process that writes every message it hears at its port `client:in` to a file, one a line."""
        made = self.run(client, sys.executable, "-c", RECEIVER, client, file)
        wait_for(client, lambda: f"{client}:in" in jack_ports(self.env), 10, self.folder / f"{client}.log")
        return made

    def _run(self, argv: list[str], log: Path) -> subprocess.Popen[bytes]:
        with log.open("ab") as out:
            return subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env={**os.environ, **self.env}
            )

    def stop(self) -> None:
        """End everything, sweep what a killed server leaves, and give the name back."""
        for child in (*self._others, *([self._server] if self._server else ())):
            with contextlib.suppress(ProcessLookupError):
                child.send_signal(signal.SIGCONT)
                child.terminate()
            try:
                child.wait(8)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait(4)
        sweep(self.name)
        self._lock.close()


@contextlib.contextmanager
def jack_server(folder: Path, rate: int = 48_000, period: int = 256) -> Iterator[dict[str, str]]:
    """A dummy server for as long as the block; yields the environment its clients need."""
    need("jackd")
    server = JackServer(folder, period, rate)
    try:
        server.start()
        yield server.env
    finally:
        server.stop()


@pytest.fixture
def jack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[JackServer]:
    """A server that runs, with this process able to be its client."""
    need("jackd")
    pytest.importorskip("rtmidi", reason="python-rtmidi is not installed (pip install 'choreo[live]')")
    server = JackServer(tmp_path)
    for name, value in server.env.items():
        monkeypatch.setenv(name, value)
    try:
        server.start()
        yield server
    finally:
        server.stop()
