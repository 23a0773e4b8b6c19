"""MIDI that arrives: over a JACK dummy server to other processes, to a synthesizer that is listened to, and back after
the receiver, the server or the server's time went away."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jack_server import JackServer, jack
from receiver_bench import need, read_wav, rms, wait_for

from choreo_cli.errors import UnavailableError
from choreo_cli.live import inventory
from choreo_cli.live.clock import MonotonicClock
from choreo_cli.live.guards import Guards
from choreo_cli.live.keeper import LOST, OK, RECOVERED, Keeper
from choreo_cli.live.midi import MidiPort
from choreo_cli.live.midi_backend import list_ports
from choreo_cli.live.midi_in import MidiClockIn, MidiTargets
from choreo_cli.live.port import Outgoing, PortLost
from choreo_cli.live.soundcheck import Soundcheck
from formats.control_map import DEFAULT, Control, ControlMap, Ease

pytestmark = pytest.mark.live
__all__ = ["jack"]
SOUNDFONT = Path("/usr/share/sounds/sf2/TimGM6mb.sf2")
LEVELS = (0.2, 0.4, 0.6, 0.8, 1.0)
HOLD_S = 0.6


def lines(file: Path) -> list[list[int]]:
    return [[int(word) for word in line.split()] for line in file.read_text().splitlines()] if file.exists() else []


def quick(**ccs: int) -> ControlMap:
    """A map without easing that follows at once."""
    changed: dict[str, Control] = {
        name: replace_control(getattr(DEFAULT, name), ccs.get(name)) for name in ("density", "tension", "brightness")
    }
    return ControlMap(DEFAULT.throttle_ms, DEFAULT.clamp, DEFAULT.tempo_scale, fx_send=DEFAULT.fx_send, **changed)


def replace_control(control: Control, cc: int | None) -> Control:
    return Control(0.0, 1.0, 0.0, Ease("none", 0), control.cc if cc is None else cc, 1000.0)


def expected(out: Outgoing, control_map: ControlMap = DEFAULT) -> list[list[int]]:
    return [[0xB0, c.cc, round(float(u) * 127)] for c, u in zip(control_map.controls, out.unit, strict=True)]


def test_two_thousand_control_changes_arrive_in_order(jack: JackServer, tmp_path: Path) -> None:
    heard = tmp_path / "heard.txt"
    jack.receiver("choreo_rx", heard)
    port = MidiPort("choreo_rx", DEFAULT, api="jack")
    port.open()
    guards, rng = Guards(DEFAULT), np.random.default_rng(0)
    sent: list[list[int]] = []
    took = []
    for seq in range(400):
        out = guards.release(rng.random(5).astype(np.float32), 0.02, seq, seq * 20_000)
        begun = time.perf_counter_ns()
        assert port.send(out) == 5
        took.append((time.perf_counter_ns() - begun) / 5e3)
        sent += expected(out)
        time.sleep(0.004)
    wait_for("2,000 messages", lambda: len(lines(heard)) >= 2000, 10)
    time.sleep(0.1)
    assert lines(heard) == sent and len(sent) == 2000
    assert len({value for _, _, value in sent}) > 50, "the values must differ, or order proves nothing"
    port.silence()
    wait_for("all notes off", lambda: lines(heard)[2000:] == [[0xB0, 123, 0], [0xB0, 121, 0]], 5)
    port.close()
    print(f"2,000 of 2,000 in order; send p50 {np.median(took):.1f} us, p99 {np.percentile(took, 99):.1f} us a message")


def test_names_over_jack(jack: JackServer, tmp_path: Path) -> None:
    for client in ("synth_a", "synth_b"):
        jack.receiver(client, tmp_path / client)
    assert {p.name for p in list_ports("jack") if p.direction == "out"} == {"synth_a:in", "synth_b:in"}
    with pytest.raises(Exception, match="could be 2 ports: name one of: 'synth_a:in', 'synth_b:in'"):
        MidiPort("synth", DEFAULT).open()
    with pytest.raises(UnavailableError, match="'bass' is not there: ports found: 'synth_a:in', 'synth_b:in'"):
        MidiPort("bass", DEFAULT).open()


def test_virtual_port_carries_faders_and_clock_and_hears_itself(jack: JackServer) -> None:
    port = MidiPort("stage", DEFAULT, virtual=True)
    port.open()
    assert port.listen()
    faders, beat = MidiTargets("stage", DEFAULT), MidiClockIn("stage")
    clock = MonotonicClock()
    start = clock.now_ns()
    try:
        for source in (faders, beat):
            source.open(clock, start)
        port.transport(0xFA)
        for k in range(48):
            clock.wait_until(start + round((k + 1) * 20e6))
            port.pulse()
        guards = Guards(quick())
        out = guards.release([0.5, 0.25, 0.75, 1.0, 0.0], 1.0, 0, 0)
        port.send(out)
        wait_for("echo", lambda: port.facts()["acked"] == 54, 5)
        (target,) = faders.poll(clock.now_ns())
        np.testing.assert_allclose(target.values, np.round(out.unit * 127) / 127, rtol=1e-6)
        (sample,) = beat.poll(clock.now_ns())
        assert sample.values[0] == pytest.approx(47 / 24, abs=0.3)
        assert sample.values[1] == pytest.approx(125.0, rel=0.1)
    finally:
        for each in (faders, beat, port):
            each.close()


def test_soundcheck_over_a_port_that_hears_itself(jack: JackServer, monkeypatch: pytest.MonkeyPatch) -> None:
    # PortAudio becomes a client of the server, too, and aborts the process when it ends after the server.
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    clock = MonotonicClock(speed=4.0)
    keeper = Keeper(MidiPort("stage", DEFAULT, virtual=True), clock)
    keeper.open()
    try:
        (told,) = Soundcheck([keeper], Guards(DEFAULT), clock, solo="density").run()
        print(told.line())
        assert told.ok and told.acked == told.handed > 100
        assert next(p for p in inventory.take().midi if p.direction == "in").name.endswith(":stage")
    finally:
        keeper.close()


def walk(port: MidiPort, guards: Guards, axis: int, other: int) -> None:
    """Five levels of one control, `HOLD_S` each, with another at full."""
    for seq, level in enumerate(LEVELS):
        y = np.zeros(5, np.float32)
        y[axis], y[other] = level, 1.0
        port.send(guards.release(y, 1.0, seq, seq * 20_000))
        time.sleep(HOLD_S)


@pytest.mark.parametrize("controller", [7, 11])
def test_the_level_of_a_synthesizer_follows(jack: JackServer, tmp_path: Path, controller: int) -> None:
    need("fluidsynth", "jack_rec")
    if not SOUNDFONT.exists():
        pytest.skip("no soundfont (apt package timgm6mb-soundfont)")
    import rtmidi

    server = f"audio.jack.server={jack.name}", "-o", f"midi.jack.server={jack.name}"
    jack.run(
        "fluid", "fluidsynth", "-a", "jack", "-m", "jack", "-o", "audio.jack.id=fluid", "-o", "midi.jack.id=fluid",
        "-o", *server, "-o", "audio.jack.autoconnect=0", "-o", "synth.sample-rate=48000", "-o", "synth.reverb.active=0",
        "-o", "synth.chorus.active=0", "-i", "-s", SOUNDFONT,
    )  # fmt: skip
    wait_for("fluidsynth", lambda: any("fluid" in p.name for p in list_ports("jack")), 20, tmp_path / "fluid.log")
    # CC7 is the volume of the channel, CC11 the expression within it: the one is walked, the other stays full.
    control_map = quick(density=controller, brightness=18 - controller)
    port, guards = MidiPort("fluid", control_map, api="jack"), Guards(control_map)
    port.open()
    player = rtmidi.MidiOut(rtapi=rtmidi.API_UNIX_JACK, name="player")
    player.open_port(next(k for k, n in enumerate(player.get_ports()) if "fluid" in n), name="out")
    wav = tmp_path / "level.wav"
    recorder = jack.run("rec", "jack_rec", "-f", wav, "-d", "5", "-b", "16", "fluid:left", "fluid:right")
    time.sleep(0.3)
    player.send_message([0xC0, 19])  # an organ does not decay
    player.send_message([0x90, 60, 110])
    walk(port, guards, 1, 3)
    player.send_message([0x80, 60, 0])
    port.close()
    player.delete()
    recorder.wait(20)
    audio, rate = read_wav(wav)
    # From the end of the sound backwards: its beginning is faint by design.
    end = int(np.flatnonzero(np.abs(audio) > 0.2 * np.abs(audio).max())[-1])
    hold = round(HOLD_S * rate)
    begins = [end - (len(LEVELS) - k) * hold for k in range(len(LEVELS))]
    levels = [rms(audio[b + hold // 3 : b + 2 * hold // 3]) for b in begins]
    print(
        f"CC{controller} {' '.join(str(round(x * 127)) for x in LEVELS)} -> RMS {' '.join(f'{x:.4f}' for x in levels)}"
    )
    assert all(b > 1.2 * a for a, b in itertools.pairwise(levels)), levels
    assert levels[-1] > 5 * levels[0] > 0, levels


class Told:
    def __init__(self) -> None:
        self.states: list[tuple[float, str]] = []

    def emit(self, kind: str, t_us: int, **facts: Any) -> None:
        self.states.append((time.monotonic(), facts["state"]))

    def when(self, state: str, since: float) -> float | None:
        return next((t for t, s in self.states if s == state and t >= since), None)


class Run:
    """A loop of ticks into a keeper, with the longest time between two."""

    def __init__(self, keeper: Keeper) -> None:
        self.keeper, self.guards = keeper, Guards(quick())
        self.ticks, self.longest = 0, 0.0
        self.last: Outgoing | None = None

    def until(self, what: str, ready: Callable[[], object], seconds: float) -> None:
        deadline, before = time.monotonic() + seconds, time.monotonic()
        while not ready():
            self.last = self.guards.release([(self.ticks % 101) / 100] * 5, 0.02, self.ticks, self.ticks * 20_000)
            self.keeper.send(self.last)
            self.ticks += 1
            time.sleep(0.02)
            now = time.monotonic()
            self.longest, before = max(self.longest, now - before), now
            assert now < deadline, f"{what}: not within {seconds:g} s, state {self.keeper.state}: {self.keeper.why}"


def full(messages: list[list[int]]) -> bool:
    """The first five messages are the five controls: a new receiver heard everything at once."""
    return [m[1] for m in messages[:5]] == [c.cc for c in DEFAULT.controls]


def test_a_receiver_that_is_killed_and_comes_back(jack: JackServer, tmp_path: Path) -> None:
    first = jack.receiver("choreo_rx", tmp_path / "first")
    told = Told()
    keeper = Keeper(MidiPort("choreo_rx", quick(), api="jack"), events=told)
    keeper.open()
    run = Run(keeper)
    try:
        run.until("the first message", lambda: lines(tmp_path / "first"), 5)
        killed = time.monotonic()
        first.kill()
        first.wait()
        run.until("lost", lambda: keeper.state == LOST, 6)
        run.until("a while without", lambda: time.monotonic() > killed + 3, 6)
        jack.receiver("choreo_rx", tmp_path / "second")
        back = time.monotonic()
        run.until("messages again", lambda: len(lines(tmp_path / "second")) >= 50, 6)
        run.until("ok", lambda: keeper.state == OK, 6)
        lost, recovered = told.when(LOST, killed), told.when(RECOVERED, killed)
        assert lost is not None and recovered is not None
        assert full(lines(tmp_path / "second"))
        # The server itself needs half a second to give a killed client up.
        assert lost - killed < 3.0 and recovered - back < 3.0
        print(
            f"told after {lost - killed:.2f} s, resumed {max(0, recovered - back):.2f} s after it was back; longest tick {run.longest * 1e3:.0f} ms"
        )
    finally:
        keeper.close()


def test_a_receiver_that_was_gone_for_a_moment_only(jack: JackServer, tmp_path: Path) -> None:
    """Its name never left the list for long enough to be missed, but the connection is gone."""
    first = jack.receiver("choreo_rx", tmp_path / "first")
    port = MidiPort("choreo_rx", quick(), api="jack")
    keeper = Keeper(port, check_s=1.0, threaded=False)
    keeper.open()
    keeper.send(Guards(quick()).release([0.5] * 5, 0.02, 0, 0))
    first.kill()
    first.wait()
    time.sleep(1.0)
    jack.receiver("choreo_rx", tmp_path / "second")
    time.sleep(0.2)
    keeper.step()
    assert keeper.state == LOST
    wait_for("recovery", lambda: keeper.step() is None and keeper.state == RECOVERED, 5)
    wait_for("values", lambda: len(lines(tmp_path / "second")) >= 5, 5)
    assert full(lines(tmp_path / "second"))
    keeper.close()


def drive_server_loss(folder: Path) -> None:
    """Freeze the server, wake it, kill it, start another: ticks go on all the time. In a process of its own, for a
    library that hangs holds the interpreter's lock and could not be timed out."""
    server = JackServer(folder)
    os.environ.update(server.env)
    try:
        server.start()
        server.receiver("choreo_rx", folder / "first")
        port = MidiPort("choreo_rx", quick(), api="jack")
        keeper = Keeper(port)
        keeper.open()
        run = Run(keeper)
        run.until("the first message", lambda: lines(folder / "first"), 5)
        server.signal(signal.SIGSTOP)
        run.until("a server that stands still is noticed", lambda: keeper.state == LOST, 6)
        server.signal(signal.SIGCONT)
        run.until("it goes on", lambda: keeper.state == RECOVERED, 6)
        server.signal(signal.SIGKILL)
        run.until("a killed server is noticed", lambda: keeper.state == LOST, 6)
        before, refused = run.ticks, 0
        assert run.last is not None
        for _ in range(2_000):  # past the keeper: four times as many bytes as fill the buffer, after which it spins
            try:
                port.send(run.last)
            except PortLost:
                refused += 1
        assert refused == 2_000
        server.start()
        server.receiver("choreo_rx", folder / "second")
        run.until("messages again", lambda: len(lines(folder / "second")) >= 50, 8)
        assert full(lines(folder / "second"))
        assert run.ticks > before and keeper.facts()["kept"]["recoveries"] == 2
        keeper.close()
        print(f"server frozen and killed: {run.ticks} ticks, longest {run.longest * 1e3:.0f} ms", flush=True)
    finally:
        server.stop()


def test_a_server_that_stands_still_and_one_that_dies(tmp_path: Path) -> None:
    need("jackd")
    pytest.importorskip("rtmidi", reason="python-rtmidi is not installed (pip install 'choreo[live]')")
    here = Path(__file__)
    code = f"import sys; sys.path[:0] = [{str(here.parent)!r}, {str(here.parents[2])!r}]\nfrom pathlib import Path\nimport {here.stem} as t\nt.drive_server_loss(Path({str(tmp_path)!r}))"
    running = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        out, err = running.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        os.killpg(running.pid, signal.SIGKILL)  # with the servers it started
        pytest.fail("the process hung")
    print(out)
    assert running.returncode == 0, err[-3000:]
    assert "ticks, longest" in out
