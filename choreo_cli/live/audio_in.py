"""Sound as a source: a file, JACK, or PortAudio; mono blocks for the two audio inputs, and beats where asked for."""

from __future__ import annotations

import atexit
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.audio.features import DEFAULT
from choreo_cli.audio.stream import BeatFollower
from choreo_cli.errors import UnavailableError, UsageError
from choreo_cli.live.clock import Clock, VirtualClock
from choreo_cli.live.jack_watch import JackWatch
from choreo_cli.live.replay import STEP_US
from choreo_cli.live.sample import Body, Sample

F32 = NDArray[np.float32]
INSTALL = "pip install 'choreo[audio]'"
BLOCKS = 64  # of a device that wait for the loop; more and the oldest go
WHOLE_BLOCKS = 8  # windows that wait for the follower: one, the newest


class Beats:
    """A `BeatFollower` on a thread of its own, or at once where time is not real.

    Args:
        follower: What estimates.
        at_once: Estimate inside `push`.
    """

    def __init__(self, follower: BeatFollower, at_once: bool) -> None:
        self._follower, self._at_once = follower, at_once
        self._found: deque[tuple[float, float, int]] = deque(maxlen=WHOLE_BLOCKS)
        self._work: tuple[F32, int] | None = None
        self._wake = threading.Condition()
        self._stop = False
        self.estimates = self.silent = 0
        self._thread: threading.Thread | None = None
        if not at_once:
            self._thread = threading.Thread(target=self._run, name="beats", daemon=True)
            self._thread.start()

    def push(self, t_us: int, block: F32) -> None:
        """Hear a block; never waits for an estimate unless `at_once`."""
        if not self._follower.push(t_us, block):
            return
        if self._at_once:
            self._note(self._follower.estimate(*self._follower.window()))
            return
        with self._wake:
            self._work = self._follower.window()
            self._wake.notify()

    def _run(self) -> None:
        while True:
            with self._wake:
                while self._work is None and not self._stop:
                    self._wake.wait()
                if self._stop or self._work is None:
                    return
                work, self._work = self._work, None
            self._note(self._follower.estimate(*work))

    def _note(self, found: tuple[float, float, int] | None) -> None:
        self.estimates += 1
        if found is None:
            self.silent += 1
        else:
            self._found.append(found)

    def samples(self, now_ns: int) -> list[Sample]:
        """What was found since the last call, as `beat` samples."""
        out = []
        while self._found:
            beat, bpm, t_us = self._found.popleft()
            out.append(Sample("beat", t_us, now_ns, np.array([beat, bpm])))
        return out

    def close(self) -> None:
        """End the thread."""
        with self._wake:
            self._stop = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join(1.0)


class _Sound:
    """What a file and a device have in common."""

    body: Body | None = None

    def __init__(self, name: str, beats: bool, near_bpm: float | None) -> None:
        self.name, self.origin_us = name, 0
        self.audio_hz: int | None = None
        self.kinds: tuple[str, ...] = ("audio", "beat") if beats else ("audio",)
        self._near_bpm = near_bpm
        self._beats: Beats | None = None
        self._counts = {"samples": 0, "drops": 0}
        self._start_ns = 0

    def _begin(self, clock: Clock, start_ns: int) -> None:
        self._start_ns = start_ns
        if "beat" in self.kinds and self.audio_hz is not None:
            self._beats = Beats(BeatFollower(self.audio_hz, self._near_bpm), isinstance(clock, VirtualClock))

    def _hear(self, t_us: int, block: F32, now_ns: int, arrival_ns: int) -> list[Sample]:
        self._counts["samples"] += len(block)
        found = [Sample("audio", t_us, arrival_ns, block)]
        if self._beats is not None:
            self._beats.push(t_us, block)
            found = [*self._beats.samples(now_ns), *found]
            found.sort(key=lambda s: s.t_us)
        return found

    def facts(self) -> dict[str, Any]:
        """See `Source`."""
        beats = self._beats
        more = {} if beats is None else {"beat_estimates": beats.estimates, "without_beat": beats.silent}
        return {**self._counts, **more}

    def close(self) -> None:
        """See `Source`."""
        if self._beats is not None:
            self._beats.close()


class AudioFile(_Sound):
    """A sound file, decoded whole when it is named and played at the loop's clock.

    Args:
        path: Any file that `discover` decodes.
        name: As it was named on the command line.
        beats: Also give the beats heard in it.
        near_bpm: The tempo in which it is felt, roughly.

    Raises:
        FormatError: not sound, or damaged.
    """

    def __init__(
        self, path: Path, *, name: str | None = None, beats: bool = False, near_bpm: float | None = None
    ) -> None:
        from choreo_cli.audio.decode import decode

        super().__init__(name or str(path), beats, near_bpm)
        if not path.exists():
            from choreo_cli.errors import NoInputError

            raise NoInputError(f"no sound file {path}")
        found = decode(path, rate=DEFAULT.rate)
        self.audio_hz = DEFAULT.rate
        self._sound = found.samples
        self._first_us = found.start_us
        self.origin_us = self._first_us // STEP_US * STEP_US
        self._at = 0
        self._lines = [f"playing {path}: {len(found.samples) / DEFAULT.rate:.1f} s of sound", *found.problems]

    @property
    def end_us(self) -> int:
        """Session time of the end of the sound."""
        return self._first_us + round(len(self._sound) * 1e6 / DEFAULT.rate)

    def open(self, clock: Clock, start_ns: int) -> None:
        """See `Source`."""
        self._begin(clock, start_ns)

    def poll(self, now_ns: int) -> Sequence[Sample]:
        """See `Source`."""
        now = self.origin_us + (now_ns - self._start_ns) // 1000
        end = min(len(self._sound), max(0, now - self._first_us) * DEFAULT.rate // 1_000_000)
        if end <= self._at:
            return ()
        block, at = self._sound[self._at : end], self._at
        self._at = end
        return self._hear(self._first_us + round(at * 1e6 / DEFAULT.rate), block, now_ns, now_ns)

    @property
    def ended(self) -> bool:
        """See `Source`."""
        return self._at >= len(self._sound)

    def said(self) -> list[str]:
        """See `Source`."""
        return self._lines


class _Device(_Sound):
    """Blocks that a device's own thread hands over."""

    def __init__(self, name: str, beats: bool, near_bpm: float | None) -> None:
        super().__init__(name, beats, near_bpm)
        self._queue: deque[tuple[int, F32]] = deque(maxlen=BLOCKS)
        self._clock: Clock | None = None
        self._lines: list[str] = []
        self._lost = False

    def _arrived(self, block: F32) -> None:
        """Called by the device's thread; only copies."""
        if self._clock is None:
            return
        if len(self._queue) == BLOCKS:
            self._counts["drops"] += 1
        self._queue.append((self._clock.now_ns(), block.copy()))

    def poll(self, now_ns: int) -> Sequence[Sample]:
        """See `Source`."""
        parts: list[tuple[int, F32]] = []
        while self._queue:
            parts.append(self._queue.popleft())
        if not parts or not self.audio_hz:
            return self._beats.samples(now_ns) if self._beats is not None else ()
        arrival_ns, first = parts[0]
        start_us = self.origin_us + (arrival_ns - self._start_ns) // 1000 - round(len(first) * 1e6 / self.audio_hz)
        block = first if len(parts) == 1 else np.concatenate([p[1] for p in parts])
        return self._hear(start_us, block, now_ns, parts[-1][0])

    @property
    def ended(self) -> bool:
        """See `Source`: a device has no end."""
        return False

    def said(self) -> list[str]:
        """See `Source`."""
        return self._lines

    def facts(self) -> dict[str, Any]:
        """See `Source`."""
        return {**super().facts(), "lost": self._lost}


class JackIn(_Device):
    """Sound from a JACK port.

    Args:
        port: Output port to connect to; none registers an input that is connected by hand.
        beats: Also give the beats heard in it.
        near_bpm: The tempo in which it is felt, roughly.
        server: Name of the JACK server, None for the default one.
    """

    def __init__(
        self, port: str | None, *, beats: bool = False, near_bpm: float | None = None, server: str | None = None
    ) -> None:
        super().__init__(f"jack:{port or ''}", beats, near_bpm)
        self._port, self._server = port, server
        self._client: Any = None

    def open(self, clock: Clock, start_ns: int) -> None:
        """See `Source`."""
        try:
            import jack
        except ImportError:
            raise UnavailableError("no JACK client for Python", hint=INSTALL) from None
        except OSError as e:
            raise UnavailableError(
                f"the JACK library is missing ({e})", hint="install JACK, see https://jackaudio.org"
            ) from None
        try:
            client = jack.Client("choreo_audio", no_start_server=True, servername=self._server)
        except jack.JackError:
            raise UnavailableError("no JACK server runs", hint="start one, or use portaudio:") from None
        self._client = client
        self.audio_hz = int(client.samplerate)
        self._clock = clock
        self._begin(clock, start_ns)
        hole = client.inports.register("in")
        client.set_process_callback(lambda frames: self._arrived(hole.get_array()))
        client.set_shutdown_callback(self._gone)
        client.activate()
        self._lines = [f"hearing JACK at {self.audio_hz} Hz, {client.blocksize} samples a block, port {hole.name}"]
        if self._port:
            outputs = [p.name for p in client.get_ports(is_audio=True, is_output=True)]
            matches = [n for n in outputs if n == self._port] or [n for n in outputs if self._port in n]
            if len(matches) != 1:
                self.close()
                raise _unclear("JACK port", self._port, matches, outputs)
            client.connect(matches[0], hole.name)

    def _gone(self, *_: object) -> None:
        self._lost = True

    def close(self) -> None:
        """See `Source`."""
        super().close()
        client, self._client = self._client, None
        if client is not None and not self._lost:
            client.deactivate()
            client.close()


class PortAudioIn(_Device):
    """Sound from a sound card through PortAudio.

    Args:
        device: Part of its name, or its number; none takes the system's default.
        beats: Also give the beats heard in it.
        near_bpm: The tempo in which it is felt, roughly.
    """

    BLOCK = 256

    def __init__(self, device: str | None, *, beats: bool = False, near_bpm: float | None = None) -> None:
        super().__init__(f"portaudio:{device or ''}", beats, near_bpm)
        self._device = device
        self._stream: Any = None
        self._on_jack = False

    def open(self, clock: Clock, start_ns: int) -> None:
        """See `Source`."""
        sound = _sounddevice()
        inputs = [(i, str(d["name"])) for i, d in enumerate(sound.query_devices()) if d["max_input_channels"] > 0]
        number = self._number(inputs)
        try:
            info = sound.query_devices(number, "input")
            self.audio_hz = int(info["default_samplerate"])
            self._stream = sound.InputStream(
                device=number, channels=1, dtype="float32", blocksize=self.BLOCK, samplerate=self.audio_hz,
                latency="low", callback=lambda data, frames, at, status: self._arrived(data[:, 0]),
            )  # fmt: skip
        except sound.PortAudioError as e:
            names = ", ".join(n for _, n in inputs) or "none"
            raise UnavailableError(f"no sound from {self.name}: {e}", hint=f"inputs: {names}") from None
        self._on_jack = "hostapi" in info and JACK in str(sound.query_hostapis(info["hostapi"])["name"])
        self._clock = clock
        self._begin(clock, start_ns)
        self._stream.start()
        self._lines = [f"hearing {info['name']} at {self.audio_hz} Hz, {self.BLOCK} samples a block"]

    def _number(self, inputs: list[tuple[int, str]]) -> int | None:
        if self._device is None or self._device.isdigit():
            return None if self._device is None else int(self._device)
        names = [n for _, n in inputs]
        matches = [n for n in names if n == self._device] or [n for n in names if self._device in n]
        if len(matches) != 1:
            raise _unclear("audio input", self._device, matches, names)
        return next(i for i, n in inputs if n == matches[0])

    def close(self) -> None:
        """See `Source`."""
        super().close()
        stream, self._stream = self._stream, None
        if stream is not None and not (self._on_jack and any(w.dead for w in _witnesses)):
            stream.close()  # without its server it would never return


JACK = "JACK"
_witnesses: list[JackWatch] = []
"""Of the JACK server that PortAudio uses, one at most."""


def _sounddevice() -> Any:
    """PortAudio. Where it uses JACK, it is taken down at exit only while the server lives: else that aborts (134)."""
    try:
        import sounddevice
    except ImportError:
        raise UnavailableError("no PortAudio for Python", hint=INSTALL) from None
    except OSError:
        raise UnavailableError("the PortAudio library is missing", hint="apt-get install libportaudio2") from None
    take_down = getattr(sounddevice, "_exit_handler", None)
    if take_down is not None and not _witnesses and any(JACK in str(a["name"]) for a in sounddevice.query_hostapis()):
        _witnesses.append(JackWatch())
        _witnesses[0].open()
        atexit.unregister(take_down)
        atexit.register(_take_down, take_down)
    return sounddevice


def _take_down(work: Callable[[], None]) -> None:
    if not _witnesses[0].dead:
        work()
        _witnesses[0].close()


def audio_inputs() -> list[str]:
    """Names of the sound cards' inputs, for `run-live --list`. Raises UnavailableError."""
    return [f"portaudio:{d['name']}" for d in _sounddevice().query_devices() if d["max_input_channels"] > 0]


def _unclear(what: str, wanted: str, matches: list[str], found: list[str]) -> UsageError | UnavailableError:
    if matches:
        return UsageError(f"{what} {wanted} is ambiguous", hint=f"one of {', '.join(matches[:8])}")
    return UnavailableError(f"no {what} {wanted}", hint=f"found {', '.join(found[:8]) or 'none'}")
