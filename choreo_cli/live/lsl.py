"""Streams of the Lab Streaming Layer as sources (extra `lsl`), read by a thread of their own.

What a stream gives is told by its LSL type and its number of channels, never by its values:

    Choreo, 11 channels    the model inputs in the order of `formats.columns.INPUTS`, NaN = not given
    HR, HeartRate          1 channel, beats/min
    Accelerometer, ACC     3 channels; the unit is named in the stream's description (m/s^2 or g)
    MoCap, Pose            3 or 2 channels a joint, labels NAME_x NAME_y NAME_z, in metres
    Audio                  1 channel
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import DataError, UnavailableError
from choreo_cli.live.clock import Clock
from choreo_cli.live.sample import Body, Sample
from formats.columns import INPUTS

INSTALL = "pip install 'choreo[lsl]'"
KIND_OF = {
    "choreo": "inputs", "hr": "hr", "heartrate": "hr", "accelerometer": "accel", "acc": "accel", "mocap": "pose",
    "pose": "pose", "audio": "audio",
}  # fmt: skip
FACTOR = {"m/s^2": 1.0, "m/s2": 1.0, "g": 9.80665}
QUEUE = 4096
FIND_S = 5.0
PULL_S = 0.1
OFFSET_EVERY = 50  # pulls between two readings of the clock offset


def _pylsl() -> Any:
    try:
        import pylsl
    except (ImportError, RuntimeError):  # RuntimeError: the wheel is there, liblsl is not
        raise UnavailableError("no Lab Streaming Layer for Python", hint=INSTALL) from None
    return pylsl


def list_streams(seconds: float = 1.0) -> list[str]:
    """`lsl:NAME (type, channels, rate)` of every stream heard. Raises UnavailableError."""
    found = _pylsl().resolve_streams(seconds)
    return sorted(f"lsl:{i.name()} ({i.type()}, {i.channel_count()} channels, {i.nominal_srate():g} Hz)" for i in found)


class LslSource:
    """One stream, found by its name.

    Args:
        stream: Name of the stream.
        wait_s: How long it is looked for.
    """

    def __init__(self, stream: str, wait_s: float = FIND_S) -> None:
        self.name, self.origin_us = f"lsl:{stream}", 0
        self._stream, self._wait_s = stream, wait_s
        self._pylsl = _pylsl()
        self._info = self._find()
        self.kinds: tuple[str, ...] = (self._kind(),)
        self.body: Body | None = self._body() if self.kinds == ("pose",) else None
        self.audio_hz: int | None = round(self._info.nominal_srate()) if self.kinds == ("audio",) else None
        self._factor = self._unit() if self.kinds == ("accel",) else 1.0
        self._queue: deque[tuple[float, int, int, NDArray[np.float32]]] = deque(maxlen=QUEUE)
        self._counts = {"samples": 0, "drops": 0, "lost": 0}
        self._offset_s = 0.0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._start_ns = 0

    def _find(self) -> Any:
        found = self._pylsl.resolve_byprop("name", self._stream, 1, self._wait_s)
        if not found:
            heard = ", ".join(list_streams()) or "no stream at all"
            raise UnavailableError(f"no LSL stream {self._stream}", hint=f"heard {heard}")
        return found[0]

    def _kind(self) -> str:
        info = self._info
        kind = KIND_OF.get(info.type().casefold())
        channels = info.channel_count()
        fits = {"inputs": channels == len(INPUTS), "hr": channels == 1, "accel": channels == 3, "audio": channels == 1}
        if kind is None or not fits.get(kind, True):
            raise DataError(
                f"LSL stream {self._stream} is of type {info.type() or 'none'} with {channels} channels",
                hint="need Choreo with 11, HR with 1, Accelerometer with 3, Audio with 1, or MoCap",
            )
        return kind

    def _labels(self) -> list[tuple[str, str]]:
        """(label, unit) of each channel, from the stream's description."""
        whole = self._pylsl.StreamInlet(self._info).info(self._wait_s)
        channel = whole.desc().child("channels").child("channel")
        found = []
        for _ in range(self._info.channel_count()):
            found.append((channel.child_value("label"), channel.child_value("unit")))
            channel = channel.next_sibling("channel")
        return found

    def _unit(self) -> float:
        units = {unit for _, unit in self._labels()}
        if len(units) != 1 or not units <= FACTOR.keys():
            named = ", ".join(sorted(units - {""})) or "none"
            raise DataError(f"LSL stream {self._stream}: its unit is {named}", hint="need m/s^2 or g in channels/unit")
        return FACTOR[units.pop()]

    def _body(self) -> Body:
        labels = [label for label, _ in self._labels()]
        dims = 3 if any(label.endswith("_z") for label in labels) else 2
        joints = tuple(dict.fromkeys(label.rpartition("_")[0] for label in labels))
        if [f"{j}_{a}" for j in joints for a in "xyz"[:dims]] != labels:
            raise DataError(
                f"LSL stream {self._stream}: its channels are not joints",
                hint="need labels pelvis_x pelvis_y pelvis_z ...",
            )
        return Body(joints, dims)

    def open(self, clock: Clock, start_ns: int) -> None:
        """See `Source`."""
        self._clock, self._start_ns = clock, start_ns
        self._thread = threading.Thread(target=self._read, name="lsl", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        inlet = self._pylsl.StreamInlet(self._info, max_buflen=2)
        turn = 0
        while not self._stop.is_set():
            try:
                if turn % OFFSET_EVERY == 0:
                    self._offset_s = inlet.time_correction(self._wait_s)
                # Waiting for a chunk waits for a full one: so wait for one sample, then take what else is there.
                row, stamp = inlet.pull_sample(timeout=PULL_S)
                rows, stamps = inlet.pull_chunk(timeout=0.0, max_samples=512) if stamp is not None else ([], [])
            except Exception:  # whatever liblsl raises while the sender is away: it is found again by itself
                self._counts["lost"] += 1
                self._stop.wait(PULL_S)
                continue
            turn += 1
            if stamp is None:
                continue
            rows, stamps = [row, *rows], [stamp, *stamps]
            arrival_ns, local = self._clock.now_ns(), self._pylsl.local_clock()
            ages = [local - (stamp + self._offset_s) for stamp in stamps]
            if self.kinds == ("audio",):  # one block, not a thousand samples
                self._put(stamps[0], ages[0], arrival_ns, np.asarray(rows, np.float32)[:, 0])
                continue
            for stamp, age, row in zip(stamps, ages, rows, strict=True):
                self._put(stamp, age, arrival_ns, np.asarray(row, np.float32))
        inlet.close_stream()

    def _put(self, stamp: float, age_s: float, arrival_ns: int, values: NDArray[np.float32]) -> None:
        if len(self._queue) == QUEUE:
            self._counts["drops"] += 1
        # On the loop's clock it was measured `age` ago; a stamp in the future is taken as now.
        self._queue.append((stamp, arrival_ns - max(0, round(age_s * 1e9)), arrival_ns, values))

    def poll(self, now_ns: int) -> Sequence[Sample]:
        """See `Source`."""
        found: list[Sample] = []
        kind = self.kinds[0]
        while self._queue:
            stamp, at_ns, arrival_ns, values = self._queue.popleft()
            if kind == "pose" and self.body is not None:
                values = values.reshape(len(self.body.joints), self.body.dims)
            elif kind == "accel":
                values = values * np.float32(self._factor)
            t_us = self.origin_us + (at_ns - self._start_ns) // 1000
            self._counts["samples"] += 1
            found.append(Sample(kind, t_us, arrival_ns, values, round(stamp * 1e6)))
        return found

    @property
    def ended(self) -> bool:
        """See `Source`: a stream has no end."""
        return False

    def said(self) -> list[str]:
        """See `Source`."""
        info = self._info
        rate = f"{info.nominal_srate():g} Hz" if info.nominal_srate() else "no steady rate"
        what = f"{info.type()}, {info.channel_count()} channels, {rate}"
        return [f"hearing LSL stream {info.name()} of {info.hostname()}: {what}"]

    def facts(self) -> dict[str, Any]:
        """See `Source`."""
        return {**self._counts, "clock_offset_s": self._offset_s}

    def close(self) -> None:
        """See `Source`."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(2.0)
