"""What a source hands to the loop, and the contract of a source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from choreo_cli.live.clock import Clock

KINDS = ("inputs", "pose", "accel", "hr", "audio", "beat", "target")
"""Shape and unit of `Sample.values` by kind:

    inputs  (11,) float32, the model inputs in the order of `formats.columns.INPUTS`, NaN = not given
    pose    (J, D) float32 in the units of the source's `Body`
    accel   (3,) float32, m/s^2, gravity included
    hr      (1,) float32, beats/min
    audio   (N,) float32, mono samples at the rate the source's `audio_hz` says; `t_us` is that of the first
    beat    (2,) float64, position in beats and tempo in beats/min (NaN = unknown)
    target  (5,) float32, a performer's faders in 0..1 in the order of `CONTROL_NAMES`, NaN = not moved yet
"""


@dataclass(frozen=True, slots=True)
class Body:
    """How to read the poses of a source.

    Args:
        joints: J names, canonical where known.
        dims: 2 or 3.
        up: `+y`, `-y` or `+z`.
        units: Units of the positions.
    """

    joints: tuple[str, ...]
    dims: int = 3
    up: str = "+y"
    units: str = "m"


@dataclass(frozen=True, slots=True)
class Sample:
    """One reading.

    Args:
        kind: One of `KINDS`.
        t_us: When it was measured, on the session clock: microseconds since the loop began, or the time in the file.
        t_arrival_ns: When it arrived, by the loop's clock.
        values: See `KINDS`.
        t_sensor_us: The sensor's own stamp, None when it has no clock.
        whole: Of `inputs`: a row of a recording, where NaN says that nothing was measured at that moment. Otherwise NaN
            only says that this sensor does not give the value.
        mask: Of a whole row: (4,) bool, which modalities it says were measured; None leaves it to the values.
    """

    kind: str
    t_us: int
    t_arrival_ns: int
    values: NDArray[Any]
    t_sensor_us: int | None = None
    whole: bool = False
    mask: NDArray[Any] | None = None


class Source(Protocol):
    """Anything that can be played: a file, a pipe, a socket, a sensor.

    A device is read by a thread of the source's own into a bounded queue (the newest wins, drops are counted); the
    loop only polls. `poll` never blocks and never raises for bad data: it counts (`facts`).
    """

    name: str
    body: Body | None
    audio_hz: int | None
    origin_us: int
    """Session time of the first tick: 0 for sensors, the time of the first row for files."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of samples it gives."""
        ...

    def open(self, clock: Clock, start_ns: int) -> None:
        """Begin; `start_ns` is the clock's reading at session time `origin_us`.

        Raises:
            UnavailableError: device, port or extra missing, with the line that installs it.
            NoInputError, FormatError: a file that is not there or not usable.
        """
        ...

    def poll(self, now_ns: int) -> Sequence[Sample]:
        """Everything that was measured and has arrived since the last call, in order of `t_us`."""
        ...

    @property
    def ended(self) -> bool:
        """No more samples will come: the file or the pipe is at its end."""
        ...

    def said(self) -> list[str]:
        """Lines for the person at start: what was opened, the bound address."""
        ...

    def facts(self) -> dict[str, Any]:
        """Counters: samples, drops, refused packets by reason, rates by kind."""
        ...

    def close(self) -> None:
        """Stop threads and give devices back; may be called twice."""
        ...
