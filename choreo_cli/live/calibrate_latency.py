"""How long a receiver takes: a step of one control goes out by a port, its sound comes back by JACK.

Pulse k leaves at p_k (jittered intervals, so that no buffer period hides in them). The receiver answers with sound; its
onset is the first sample over a threshold that was set from the noise floor. A block of JACK is stamped when its
process callback runs, so onset time = stamp of its block + index in the block / rate, and latency = onset - pulse.
This holds what happens after choreo hands a packet over; the sound card's output buffer comes on top.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import msgspec
import numpy as np
from msgspec import Meta
from msgspec.structs import replace
from numpy.typing import NDArray

from choreo_cli.errors import DataError, NoInputError, UnavailableError, UsageError
from choreo_cli.live.clock import SECOND_NS, Clock, MonotonicClock
from choreo_cli.live.guards import Guards
from choreo_cli.live.midi_backend import quiet
from choreo_cli.live.port import Port
from formats import sealed
from formats.control_map import DEFAULT, ControlMap, Ease
from formats.errors import FormatError
from formats.packets import CONTROLS

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

LEAST_PULSES = 60
GAP_S = (0.25, 0.30)
LEAD_S = 1.0
"""Silence before the first pulse: the receiver settles in its first half, the noise floor is taken in the second."""
QUIET_S = 0.04
"""An onset is only one after this much silence: a tone crosses the threshold twice in each period."""
FLOOR_PEAKS = 4.0
LEAST_THRESHOLD = 1e-4
REST = {"tempo_scale": 0.5, "density": 0.5, "tension": 0.0, "brightness": 1.0, "fx_send": 0.0}
"""The other controls meanwhile: bright, so that an onset is steep, and without an echo that would outlast the pulse."""
INSTALL = "pip install 'choreo[audio]'"

Positive = Annotated[float, Meta(ge=0, le=60_000)]


class Offset(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Measured latency of a receiver; the times are milliseconds from the pulse to the onset of its sound.

    Args:
        n: Pulses, all of them heard.
        p50: Median, by which `run-live --offset` advances scheduled events.
        p95: 95th percentile.
        min: Shortest.
        max: Longest.
        period: Frames in a block of JACK: what the figures are quantised to.
        rate: Frames per second.
        receiver: What was measured, in the words of the command line.
    """

    n: Annotated[int, Meta(ge=1)]
    p50: Positive
    p95: Positive
    min: Positive
    max: Positive
    period: Annotated[int, Meta(ge=1, le=65_536)]
    rate: Annotated[int, Meta(ge=1000, le=1_000_000)]
    receiver: Annotated[str, Meta(max_length=200)]
    schema: Literal["choreo.offset/1"] = "choreo.offset/1"

    def to_dict(self) -> dict[str, Any]:
        """Plain values with the schema first, for the file and for stdout."""
        facts = msgspec.to_builtins(self)
        return {"schema": facts.pop("schema"), **facts}

    @property
    def advance_us(self) -> int:
        """By how much earlier a scheduled event is sent, so that it sounds on time."""
        return round(self.p50 * 1000)

    def write(self, path: str | Path) -> None:
        """Write the file that `run-live --offset` reads, whole or not at all. Raises OSError."""
        from formats.atomic import write_bytes

        write_bytes(Path(path), msgspec.json.format(msgspec.json.encode(self.to_dict()), indent=1) + b"\n")

    @classmethod
    def read(cls, path: str | Path) -> Offset:
        """Read what `write` or `choreo calibrate latency` wrote; the seal of the latter is verified.

        Raises:
            NoInputError: no such file. DataError: it is not an offset file.
        """
        try:
            data = Path(path).read_bytes()
        except FileNotFoundError:
            raise NoInputError(f"{path} is not there", hint="choreo calibrate latency -o FILE makes one") from None
        try:
            facts = sealed.parse(data) if sealed.is_sealed(data) else msgspec.json.decode(data)
            return msgspec.convert(facts, cls)
        except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, FormatError) as e:
            raise DataError(f"{path} is not an offset file: {e}", hint="choreo calibrate latency -o FILE") from None


def pulse_times(n: int, seed: int = 0) -> F64:
    """(n,) seconds of the pulses from the start, `LEAD_S` of silence first, then intervals uniform in `GAP_S`.

    Raises:
        UsageError: fewer than `LEAST_PULSES`.
    """
    if n < LEAST_PULSES:
        raise UsageError(f"{n} pulses say nothing about a 95th percentile", hint=f"at least {LEAST_PULSES}")
    gaps = np.random.default_rng(seed).uniform(*GAP_S, n - 1)
    return LEAD_S + np.concatenate([[0.0], np.cumsum(gaps)])


def threshold_of(floor: F32) -> float:
    """Amplitude above which a sample is sound: four times the peak of a stretch without pulses, at least -80 dB."""
    return max(FLOOR_PEAKS * float(np.abs(floor).max(initial=0.0)), LEAST_THRESHOLD)


def find_onsets(audio: F32, rate: int, threshold: float, quiet_s: float = QUIET_S) -> I64:
    """Indices of samples above the threshold in (N,) audio that come after at least `quiet_s` without one."""
    loud = np.flatnonzero(np.abs(audio) > threshold).astype(np.int64)
    if not loud.size:
        return loud
    before = np.diff(loud, prepend=loud[0] - round(quiet_s * rate) - 1)
    return loud[before > quiet_s * rate]


def onset_times_ns(onsets: I64, stamps_ns: I64, period: int, rate: int) -> I64:
    """Moments of samples by the stamps of their blocks of `period` frames: stamp + index in the block / rate."""
    block = onsets // period
    return stamps_ns[block] + ((onsets - block * period) * SECOND_NS) // rate


def latencies_ms(pulses_ns: I64, onsets_ns: I64) -> F64:
    """(n,) milliseconds from each pulse to its onset, which are paired in order.

    Raises:
        DataError: not one onset for each pulse, or one that comes before its pulse or after the next.
    """
    n, heard = len(pulses_ns), len(onsets_ns)
    if heard == 0:
        raise DataError(f"none of {n} pulses was heard", hint="is the receiver connected, and does it sound at 1?")
    if heard != n:
        hint = "something else sounds" if heard > n else "the receiver skips or still sounds from the pulse before"
        raise DataError(f"{n} pulses, {heard} onsets: one for each is needed", hint=hint)
    took = (onsets_ns - pulses_ns) / 1e6
    if took.min() < 0:
        at = int(took.argmin())
        raise DataError(
            f"onset {at} comes {-took.min():.1f} ms before its pulse",
            hint="something else sounds, or the sound is stamped by another clock",
        )
    late = np.flatnonzero(onsets_ns[:-1] >= pulses_ns[1:])
    if late.size:
        raise DataError(f"onset {late[0]} comes after the next pulse", hint="the receiver takes over 250 ms")
    return took


def summarise(took_ms: F64, period: int, rate: int, receiver: str) -> Offset:
    """The figures of (n,) latencies."""
    p50, p95 = (round(float(x), 3) for x in np.percentile(took_ms, [50, 95]))
    low, high = round(float(took_ms.min()), 3), round(float(took_ms.max()), 3)
    return Offset(len(took_ms), p50, p95, low, high, period, rate, receiver)


class Capture(Protocol):
    """Sound with a stamp for every block."""

    rate: int
    period: int

    def start(self, seconds: float) -> None:
        """Begin to keep up to that much sound."""
        ...

    def stop(self) -> tuple[F32, I64]:
        """(blocks * period,) samples and the (blocks,) stamps [ns] of the clock that the pulses were read from."""
        ...


class JackCapture:
    """Sound from output ports of other JACK clients, stamped by the monotonic clock.

    Args:
        sources: Names of the ports, as `jack_lsp` lists them; they are summed.
        client: Name of ours.

    Raises:
        UnavailableError: JACK-Client or a server is missing, or there is no such port (those there are, are listed).
    """

    def __init__(self, sources: Sequence[str], client: str = "choreo-ear") -> None:
        try:
            import jack
        except (ImportError, OSError):
            raise UnavailableError("listening needs JACK-Client and libjack", hint=INSTALL) from None
        try:
            with quiet():
                self._client = jack.Client(client, no_start_server=True)
        except jack.JackOpenError:
            raise UnavailableError("no JACK server answers", hint="start one: jackd -d alsa, or QjackCtl") from None
        self.rate, self.period = int(self._client.samplerate), int(self._client.blocksize)
        self.xruns = 0
        self._audio: F32 = np.zeros(0, np.float32)
        self._stamps: I64 = np.zeros(0, np.int64)
        self._at, self._on = 0, False
        self._in = self._client.inports.register("in")
        self._client.set_process_callback(self._process)
        self._client.set_xrun_callback(self._xrun)
        self._client.activate()
        for source in sources:
            try:
                self._client.connect(source, self._in)
            except jack.JackError:
                there = [p.name for p in self._client.get_ports(is_audio=True, is_output=True)]
                self.close()
                raise UnavailableError(
                    f"no JACK output named {source}", hint=f"there are: {', '.join(there) or 'none'}"
                ) from None

    def _process(self, frames: int) -> None:
        stamp = time.monotonic_ns()
        if self._on and self._at < len(self._stamps) and frames == self.period:
            self._stamps[self._at] = stamp
            self._audio[self._at * frames : (self._at + 1) * frames] = self._in.get_array()
            self._at += 1

    def _xrun(self, _delayed_us: float) -> None:
        self.xruns += 1

    def start(self, seconds: float) -> None:
        """See `Capture`."""
        blocks = math.ceil(seconds * self.rate / self.period)
        self._audio, self._stamps = np.zeros(blocks * self.period, np.float32), np.zeros(blocks, np.int64)
        self._at, self._on = 0, True

    def stop(self) -> tuple[F32, I64]:
        """See `Capture`."""
        self._on = False
        return self._audio[: self._at * self.period], self._stamps[: self._at]

    def close(self) -> None:
        """Leave the server; may be called twice."""
        self._client.deactivate(ignore_errors=True)
        self._client.close(ignore_errors=True)


def abrupt(control_map: ControlMap) -> ControlMap:
    """The same controllers and ranges without easing, as fast as a map may be: what is measured is the receiver."""
    instant = {
        name: replace(getattr(control_map, name), ease=Ease("none", 0.0), rate_per_s=1000.0) for name in CONTROLS
    }
    return replace(control_map, **instant)


def switch(port: Port, control: str, control_map: ControlMap) -> Callable[[bool], None]:
    """A function that puts one control of an open port to 1 or 0, through the guards; the others stay at `REST`."""
    if control not in CONTROLS:
        raise UsageError(f"no control {control!r}", hint=f"one of: {', '.join(CONTROLS)}")
    guards, at, seq = Guards(abrupt(control_map)), CONTROLS.index(control), 0

    def put(on: bool) -> None:
        nonlocal seq
        y = np.array([REST[name] for name in CONTROLS], np.float32)
        y[at] = float(on)
        port.send(guards.release(y, 1.0, seq, seq * SECOND_NS // 1000))
        seq += 1

    return put


def measure(
    put: Callable[[bool], None],
    capture: Capture,
    receiver: str,
    *,
    n: int = LEAST_PULSES,
    seed: int = 0,
    clock: Clock | None = None,
) -> Offset:
    """Send `n` pulses of half an interval each, listen, and pair them; takes about `n` * 0.275 s + 2 s.

    Args:
        put: Makes the receiver sound (True) or silent (False).
        capture: Stamped by the same clock.
        receiver: For the record.
        n: At least `LEAST_PULSES`.
        seed: Of the intervals.
        clock: Real time unless given.

    Raises:
        DataError: a pulse was not heard, or something else was. PortLost: as `put` does.
    """
    clock = clock or MonotonicClock()
    planned = pulse_times(n, seed)
    put(False)
    begun = clock.now_ns()
    capture.start(float(planned[-1]) + 2 * GAP_S[1])
    pulses = np.zeros(n, np.int64)
    for k, at in enumerate(planned):
        clock.wait_until(begun + round(at * SECOND_NS))
        pulses[k] = clock.now_ns()
        put(True)
        clock.wait_until(begun + round((at + GAP_S[0] / 2) * SECOND_NS))
        put(False)
    clock.wait_until(begun + round((planned[-1] + GAP_S[0]) * SECOND_NS))
    audio, stamps = capture.stop()
    return _judge(audio, stamps, pulses, capture, receiver)


def _judge(audio: F32, stamps: I64, pulses: I64, capture: Capture, receiver: str) -> Offset:
    rate, period = capture.rate, capture.period
    if not stamps.size:
        raise DataError("no sound arrived at all", hint="is the JACK server running?")
    before = stamps < pulses[0] - round(0.02 * SECOND_NS)
    quiet = audio[: int(before.sum()) * period]
    threshold = threshold_of(quiet[len(quiet) // 2 :])
    onsets = find_onsets(audio, rate, threshold)
    moments = onset_times_ns(onsets, stamps, period, rate)
    # The receiver may have sounded until it was silenced at the start.
    moments = moments[moments >= pulses[0] - round(0.02 * SECOND_NS)]
    return summarise(latencies_ms(pulses, moments), period, rate, receiver)


def measure_port(
    port: Port, capture: Capture, *, control: str = "density", control_map: ControlMap = DEFAULT, n: int = LEAST_PULSES
) -> Offset:
    """`measure` of what listens to an open port, by steps of one control."""
    return measure(switch(port, control, control_map), capture, port.name, n=n)
