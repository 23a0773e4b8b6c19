"""A JACK dummy server that tests may kill, freeze and start again, and a second process that receives MIDI."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from receiver_bench import jack_ports, need, wait_for

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


class JackServer:
    """One dummy server of a name of its own, and whoever was started on it. `env` is what its clients need."""

    def __init__(self, folder: Path, period: int = 128) -> None:
        self.folder = folder
        self.period = period
        self.name = f"choreo-midi-{os.getpid()}"
        self.env = {"JACK_NO_AUDIO_RESERVATION": "1", "JACK_NO_START_SERVER": "1", "JACK_DEFAULT_SERVER": self.name}
        self._server: subprocess.Popen[bytes] | None = None
        self._others: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start the server and wait until it answers."""
        # -S: the asynchronous mode loses MIDI at small periods. -t: how long it waits for a client that was killed,
        # times ten; with the usual 500 ms it would stand still for five seconds.
        argv = ["jackd", "-S", "-r", "-t", "50", "-n", self.name, "-d", "dummy", "-r", "48000", "-p", str(self.period)]
        log = self.folder / "jackd.log"
        self._server = self._run(argv, log)
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
        """End everything and sweep what a killed server leaves in shared memory."""
        for running in (*self._others, *([self._server] if self._server else ())):
            running.send_signal(signal.SIGCONT)
            running.terminate()
            try:
                running.wait(4)
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait(4)
        for left in Path("/dev/shm").glob(f"*{self.name}*"):
            with contextlib.suppress(OSError):
                shutil.rmtree(left) if left.is_dir() else left.unlink()


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
