"""Bench for receivers that really run: processes that end, a JACK server of its own, and what a recording holds.

Nothing here asserts: the tests of each receiver do. What is missing on this machine is a skip with its reason.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from choreo_cli.live.guards import Guards
from choreo_cli.live.port import Port
from formats.control_map import DEFAULT
from formats.packets import CONTROLS

Audio = NDArray[np.float64]
RECEIVERS = Path(__file__).resolve().parents[2] / "examples" / "receivers"
PACKAGES = {
    "oscdump": "liblo-tools",
    "pd": "puredata-core",
    "sclang": "supercollider-language",
    "scsynth": "supercollider-server",
    "jackd": "jackd2",
    "jack_rec": "jackd2",
    "fluidsynth": "fluidsynth",
    "chromium": "chromium",
    "node": "nodejs",
    "npm": "npm",
}


def need(*tools: str) -> None:
    """Skip the test, naming the package, when a receiver cannot be run here."""
    for tool in tools:
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed (apt package {PACKAGES[tool]})")


def wait_for(what: str, ready: Callable[[], bool], seconds: float, log: Path | None = None) -> None:
    """Poll until it is so; fail with the end of the receiver's log when it never is."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            tail = log.read_text(errors="replace")[-1500:] if log and log.exists() else ""
            pytest.fail(f"{what}: not within {seconds:g} s\n{tail}")
        time.sleep(0.05)


@contextlib.contextmanager
def process(
    argv: Sequence[str | Path], log: Path, env: Mapping[str, str] | None = None, patience_s: float = 4.0
) -> Iterator[subprocess.Popen[bytes]]:
    """A receiver in a process group of its own, ended with everything it started."""
    with log.open("wb") as out:
        running = subprocess.Popen(
            [str(a) for a in argv],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            start_new_session=True,
        )
        try:
            yield running
        finally:
            _end(running, patience_s)


def _end(running: subprocess.Popen[bytes], patience_s: float) -> None:
    for number, patience in ((signal.SIGTERM, patience_s), (signal.SIGKILL, 4.0)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            running.wait(patience)
    # The group outlives its first process when a browser or a language server left children behind.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(running.pid, signal.SIGKILL)


def free_port(kind: int = socket.SOCK_DGRAM) -> int:
    """A port of the loopback interface that nobody holds at the moment."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def udp_is_bound(port: int) -> bool:
    """Whether some process listens on that UDP port (the kernel's table: asking would be a packet)."""
    for table in ("/proc/net/udp", "/proc/net/udp6"):
        with contextlib.suppress(OSError), open(table) as rows:
            if any(int(row.split()[1].rsplit(":", 1)[1], 16) == port for row in list(rows)[1:]):
                return True
    return False


def jack_ports(env: Mapping[str, str]) -> list[str]:
    """Names of all ports of that server."""
    listed = subprocess.run(
        ["jack_lsp"], capture_output=True, text=True, env={**os.environ, **env}, check=False, timeout=10
    )
    return listed.stdout.split() if listed.returncode == 0 else []


@dataclass(frozen=True, slots=True)
class Hold:
    """Keep the controls where they are for a while.

    Args:
        seconds: For how long.
        values: Model outputs 0..1 by control name; the others are at `REST`.
    """

    seconds: float
    values: Mapping[str, float]

    def vector(self) -> NDArray[np.float32]:
        """(5,) in model order."""
        return np.array([{**REST, **self.values}[name] for name in CONTROLS], np.float32)


REST = {"tempo_scale": 0.5, "density": 0.0, "tension": 0.0, "brightness": 0.6, "fx_send": 0.0}
DENSITIES = (1.0, 0.7, 0.45, 0.25, 0.08)
BRIGHTNESSES = (0.0, 0.25, 0.5, 0.75, 1.0)


EDGE_S = 0.1
LOOP_S = 2.0 / 1.025
"""All receivers here repeat themselves after four beats of 0.5 s, at the tempo_scale of `REST`: equal loops, equal spectra."""


def programme(hold_s: float, loop_s: float = 3.3) -> dict[str, list[Hold]]:
    """What a receiver is made to play, control by control, in this order; it starts with sound, to find the start by."""
    return {
        "density": [Hold(hold_s, {"density": x}) for x in DENSITIES],
        "brightness": [Hold(hold_s, {"density": 1.0, "brightness": x}) for x in BRIGHTNESSES],
        "tension": [Hold(loop_s, {"density": 1.0, "tension": x}) for x in (0.0, 0.0, 1.0)],
        "fx_send": [
            Hold(length, {"density": density, "fx_send": send})
            for send in (0.0, 1.0)
            for length, density in ((hold_s, 0.9), (1.0, 0.0))
        ],
        "rest": [Hold(1.5, {})],
        "tempo_scale": [Hold(loop_s, {"density": 1.0, "tempo_scale": x}) for x in (0.0, 1.0)],
    }


def seconds_of(holds: Mapping[str, Sequence[Hold]]) -> float:
    """How long all of it takes."""
    return sum(hold.seconds for part in holds.values() for hold in part)


def play(port: Port, holds: Mapping[str, Sequence[Hold]], tick_s: float = 0.02) -> int:
    """Through the guards to an open port, on absolute deadlines in real time; messages sent."""
    guards = Guards(DEFAULT, round(tick_s * 1e6))
    begun = before = time.monotonic()
    sent, tick, end = 0, 0, 0.0
    for part in holds.values():
        for hold in part:
            end += hold.seconds
            vector = hold.vector()
            while tick * tick_s < end:
                now = time.monotonic()
                sent += port.send(guards.release(vector, now - before, tick, tick * round(tick_s * 1e6)))
                before, tick = now, tick + 1
                time.sleep(max(0.0, begun + tick * tick_s - time.monotonic()))
    return sent


@dataclass(frozen=True, slots=True)
class Heard:
    """What a recording of the programme holds.

    Args:
        levels: RMS at each density.
        centroids: Spectral centroid at each brightness [Hz].
        tension: Distance between the spectra of no and full tension [dB].
        repeat: The same between two holds with the same controls.
        tails: RMS after the sound was cut, without and with fx_send.
        pulses: Onsets per second at the lowest and the highest tempo_scale.
    """

    levels: list[float]
    centroids: list[float]
    tension: float
    repeat: float
    tails: tuple[float, float]
    pulses: tuple[float, float]

    def __str__(self) -> str:
        levels = " ".join(f"{x:.4f}" for x in self.levels)
        centroids = " ".join(f"{x:.0f}" for x in self.centroids)
        return (
            f"density -> RMS {levels}; brightness -> centroid {centroids} Hz; tension {self.tension:.1f} dB (repeat "
            f"{self.repeat:.1f}); fx_send tail {self.tails[0]:.5f} {self.tails[1]:.5f}; tempo_scale -> "
            f"{self.pulses[0]:.2f} {self.pulses[1]:.2f} pulses/s"
        )


def hear(audio: Audio, rate: int, holds: Mapping[str, Sequence[Hold]], pulse: tuple[float, float] = (4, 14)) -> Heard:
    """Take a recording of the programme apart; it begins where the sound does."""
    at = first_sound(audio, rate)
    parts = {}
    for name, part in holds.items():
        inner = (LOOP_S + EDGE_S) / part[0].seconds if name == "tension" else 0.5
        parts[name] = plateaus(audio, rate, part, at, inner)
        at += round(sum(hold.seconds for hold in part) * rate)
    again, calm, tense = parts["tension"]
    slow, fast = parts["tempo_scale"]
    return Heard(
        [rms(x) for x in parts["density"]],
        [centroid(x, rate) for x in parts["brightness"]],
        distance(calm, tense, rate),
        distance(again, calm, rate),
        (rms(parts["fx_send"][1]), rms(parts["fx_send"][3])),
        (pulse_rate(slow, rate, *pulse), pulse_rate(fast, rate, *pulse)),
    )


def rms(audio: Audio) -> float:
    """Root of the mean square of (N,) or (N, C) samples."""
    return float(np.sqrt(np.mean(np.square(audio)))) if audio.size else 0.0


def spectrum(audio: Audio, rate: int, size: int = 4096) -> tuple[Audio, Audio]:
    """Frequencies [Hz] and mean power of overlapping Hann frames."""
    mono = audio.mean(axis=1) if audio.ndim == 2 else audio
    frames = np.lib.stride_tricks.sliding_window_view(mono, size)[:: size // 8] * np.hanning(size)
    power = np.square(np.abs(np.fft.rfft(frames, axis=1))).mean(axis=0)
    return np.fft.rfftfreq(size, 1 / rate), power


def centroid(audio: Audio, rate: int) -> float:
    """Centre of gravity of the amplitude spectrum [Hz]."""
    hz, power = spectrum(audio, rate)
    amplitude = np.sqrt(power)
    return float((hz * amplitude).sum() / max(amplitude.sum(), 1e-30))


def distance(a: Audio, b: Audio, rate: int) -> float:
    """Mean difference of two spectra in bands of a semitone from 160 Hz to 2.5 kHz [dB], level apart."""
    edges = 160 * 2 ** ((np.arange(49) - 0.5) / 12)
    shapes = []
    for audio in (a, b):
        hz, power = spectrum(audio, rate, 16384)
        bands = np.array([power[(hz >= lo) & (hz < hi)].sum() for lo, hi in itertools.pairwise(edges)])
        decibels = 10 * np.log10(bands / bands.sum() + 1e-6)
        shapes.append(decibels - decibels.mean())
    return float(np.abs(shapes[0] - shapes[1]).mean())


def pulse_rate(audio: Audio, rate: int, low: float, high: float) -> float:
    """Repetitions per second of the envelope's strongest period between two rates."""
    hop = rate // 200
    envelope = np.sqrt(np.square(audio[: len(audio) // hop * hop]).reshape(-1, hop).mean(axis=1))
    envelope -= envelope.mean()
    power = np.square(np.abs(np.fft.rfft(envelope * np.hanning(len(envelope)), 8192)))
    hz = np.fft.rfftfreq(8192, hop / rate)
    inside = (hz >= low) & (hz <= high)
    return float(hz[inside][np.argmax(power[inside])])


def first_sound(audio: Audio, rate: int, floor: float = 1e-3) -> int:
    """Index of the first sample above the floor; the receivers are silent before the first message.

    Raises:
        AssertionError: there is none.
    """
    loud = np.flatnonzero(np.abs(audio if audio.ndim == 1 else audio.max(axis=1)) > floor)
    assert loud.size, f"the recording of {len(audio) / rate:.1f} s is silent"
    return int(loud[0])


def plateaus(audio: Audio, rate: int, holds: Sequence[Hold], start: int, inner: float = 0.5) -> list[Audio]:
    """The last `inner` share of each hold, but for a tenth of a second: edges smear and easing takes its time."""
    found = []
    at = start / rate
    for hold in holds:
        end = at + hold.seconds
        begin = end - inner * hold.seconds
        found.append(audio[int(begin * rate) : int((end - EDGE_S) * rate)])
        at = end
    return found


def read_wav(path: Path) -> tuple[Audio, int]:
    """(N,) mono samples and the rate."""
    import soundfile

    audio, rate = soundfile.read(path, always_2d=True)
    return audio.mean(axis=1), int(rate)
