"""Leaving JACK: in an order in which nobody waits for us, and without ado when its server is gone."""

from __future__ import annotations

import ast
import atexit
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from jack_server import JackServer
from loop_material import TOP, Script, made

from choreo_cli.live import audio_in
from choreo_cli.live.audio_in import PortAudioIn
from choreo_cli.live.clock import VirtualClock


def test_sound_is_closed_before_everything_that_may_hold_the_interpreter() -> None:
    order: list[str] = []

    class Named(Script):
        def close(self) -> None:
            order.append(self.name)

    class Port:
        name, quantum = "midi:", 1e-2

        def close(self) -> None:
            order.append(self.name)

        def __getattr__(self, name: str) -> Any:
            return lambda *_: 0

    sources = [Named([], "beat", name="clock"), Named([], "inputs", name="body"), Named([], "audio", name="jack")]
    for source in sources:
        source.audio_hz = 48_000 if source.kinds == ("audio",) else None  # type: ignore[assignment]
    loop, _, _ = made(sources, ports=[Port()])
    loop.run()
    assert order == ["jack", "clock", "body", "midi:"]


def test_calibration_closes_its_ear_first() -> None:
    tree = ast.parse((TOP / "commands" / "calibrate.py").read_text(encoding="utf-8"))
    ends = [
        [ast.unparse(s) for s in node.finalbody]
        for node in ast.walk(tree)
        if isinstance(node, ast.Try) and any("ear.close" in ast.unparse(s) for s in node.finalbody)
    ]
    assert ends == [["ear.close()", "keeper.close()"]]


class Sound:
    """PortAudio's module with a JACK behind it, as far as it is asked."""

    PortAudioError = RuntimeError

    def __init__(self) -> None:
        self.closed = self.ended = 0

    def query_hostapis(self, number: int | None = None) -> Any:
        found = [{"name": "ALSA"}, {"name": "JACK Audio Connection Kit"}]
        return found if number is None else found[number]

    def query_devices(self, number: int | None = None, kind: str | None = None) -> Any:
        device = {"name": "system", "max_input_channels": 2, "default_samplerate": 48_000.0, "hostapi": 1}
        return [device] if kind is None else device

    def InputStream(self, **_options: Any) -> Any:
        return SimpleNamespace(start=lambda: None, close=self._close)

    def _close(self) -> None:
        self.closed += 1

    def _exit_handler(self) -> None:
        self.ended += 1


@pytest.fixture
def sound(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Sound, Any, list[Callable[[], None]]]]:
    """The module, the witness of its server, and what is done at exit."""
    watch = SimpleNamespace(dead=False, open=lambda: True, close=lambda: None)
    fake, at_exit = Sound(), []
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    monkeypatch.setattr(audio_in, "JackWatch", lambda: watch)
    monkeypatch.setattr(audio_in, "_witnesses", [])
    monkeypatch.setattr(atexit, "unregister", lambda work: at_exit.append(("not", work)))
    monkeypatch.setattr(atexit, "register", lambda work, *args: at_exit.append(("then", work, *args)))
    yield fake, watch, at_exit


@pytest.mark.parametrize("dead", [False, True])
def test_portaudio_is_taken_down_only_while_its_server_lives(sound: Any, dead: bool) -> None:
    fake, watch, at_exit = sound
    source = PortAudioIn(None)
    source.open(VirtualClock(), 0)
    watch.dead = dead
    source.close()
    assert fake.closed == (0 if dead else 1), "to close a stream of a dead server never returns"
    PortAudioIn(None).open(VirtualClock(), 0)
    assert at_exit[0] == ("not", fake._exit_handler) and len(at_exit) == 2
    _, work, *args = at_exit[1]
    work(*args)
    assert fake.ended == (0 if dead else 1)


SCRIPT = """
import os, signal, sys, time
from choreo_cli.live.audio_in import PortAudioIn, audio_inputs
from choreo_cli.live.clock import MonotonicClock
assert audio_inputs(), "PortAudio sees no JACK"
source, clock = PortAudioIn(None), MonotonicClock()
if sys.argv[1] == "open":
    source.open(clock, clock.now_ns())
print("ready", flush=True)
sys.stdin.readline()
source.close()
print("closed", flush=True)
"""


@pytest.mark.live
@pytest.mark.parametrize("how", ["listed", "open"])
@pytest.mark.parametrize("killed", [False, True])
def test_a_process_with_portaudio_ends_in_order(tmp_path: Path, how: str, killed: bool) -> None:
    pytest.importorskip("sounddevice")
    server = JackServer(tmp_path, 256)
    server.start()
    try:
        words = [sys.executable, "-c", SCRIPT, how]
        pipe, env = subprocess.PIPE, {**os.environ, **server.env}
        with subprocess.Popen(words, cwd=TOP, env=env, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
            assert process.stdin is not None and process.stdout is not None and process.stderr is not None
            heard = process.stdout.readline()
            if heard != "ready\n":
                said = process.stderr.read()
                if "PortAudio sees no JACK" in said or "is missing" in said:
                    pytest.skip("this PortAudio knows no JACK")
                pytest.fail(said)
            if killed:
                server.signal(9)
            try:
                out, err = process.communicate("go\n", timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                pytest.fail("it hangs")
        assert (process.returncode, out) == (0, "closed\n"), err
    finally:
        server.stop()


CLOSING = """
import sys, time
from choreo_cli.live.calibrate_latency import JackCapture
from choreo_cli.live.midi import MidiPort
from formats.control_map import DEFAULT
port = MidiPort("out", DEFAULT, virtual=True, api="jack")
port.open()
ear = JackCapture([])
time.sleep(0.3)
ear.close()
port.close()
print("closed", flush=True)
"""


@pytest.mark.live
def test_an_ear_and_a_midi_port_of_one_process_close_in_turn(tmp_path: Path) -> None:
    pytest.importorskip("rtmidi")
    server = JackServer(tmp_path, 256)
    server.start()
    try:
        done = subprocess.run(
            [sys.executable, "-c", CLOSING], cwd=TOP, env={**os.environ, **server.env}, capture_output=True, text=True,
            timeout=60, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (0, "closed\n"), done.stderr
        log = (tmp_path / "jackd.log").read_text(errors="replace")
        assert "ClientNotify fails" not in log, "the server waited for an ear that could not hear it"
    finally:
        server.stop()
