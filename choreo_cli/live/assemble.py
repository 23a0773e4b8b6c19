"""Samples of any source become the 11 inputs of one frame, each modality with its mask."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import UsageError
from choreo_cli.live.heart import HeartStream
from choreo_cli.live.sample import Body, Sample, Source
from choreo_cli.motion.features import Scale
from formats.columns import INPUTS, MODALITIES
from formats.packets import ESSENTIAL

F32 = NDArray[np.float32]
Bool = NDArray[np.bool_]

NAMES = tuple(c.name for c in INPUTS)
MODES = tuple(MODALITIES)
LO = np.array([c.lo for c in INPUTS], np.float32)
HI = np.array([np.nextafter(np.float32(c.hi), np.float32(0)) if c.open_hi else c.hi for c in INPUTS], np.float32)
MOT, HR, AUD = slice(0, 6), slice(6, 8), slice(8, 10)
PHASE = NAMES.index("beat_phase")
OF_MODE = (slice(0, 6), slice(6, 8), slice(8, 10), slice(10, 11))
FIRST = tuple(part.start for part in OF_MODE)
NEEDED = tuple(tuple(NAMES.index(n) for n in ESSENTIAL[m]) for m in MODES)
STEP_US = 20_000
NAN = float("nan")
BELOW_ONE = float(np.nextafter(np.float32(1), np.float32(0)))
SILENT_PERIODS = 5
PERIODS = 16
ROW_LIMIT_US = SILENT_PERIODS * STEP_US
KEPT_FRAMES = 512
SAME_STAMP_NS = 2000
HEART_SILENT_US = 5_000_000


class Phase(Protocol):
    """What the assembler asks of the transport."""

    def phase(self, t_us: int) -> tuple[float, int]: ...

    def follow(self, beat: float, bpm: float, t_us: int) -> Any: ...


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of the loop.

    The arrays are rows of buffers that are written again 512 frames later: who keeps them longer copies them.

    Args:
        t_us: Session time.
        values: (11,) float32 in the order of `formats.columns.INPUTS`, NaN = missing.
        mask: (4,) bool, `mot hr aud ctx`: all that the modality must have is there.
        t_sensor_us: The sensor's stamp of the newest sample that came since the last frame, None without one.
        t_arrival_ns: When that sample arrived, by the loop's clock; None when nothing came.
        alive: Modality -> its sensor was heard within 5 of its periods, whether or not its inputs are complete yet.
    """

    t_us: int
    values: F32
    mask: Bool
    t_sensor_us: int | None
    t_arrival_ns: int | None
    alive: dict[str, bool]


class Pace:
    """When one kind of sample came last, and how often it comes: the median of the last 16 intervals.

    Args:
        least_us: Silence is never declared sooner, however fast the sensor is.
    """

    __slots__ = ("_steps", "last_us", "least_us", "limit_us")

    def __init__(self, least_us: int) -> None:
        self._steps: deque[int] = deque(maxlen=PERIODS)
        self.last_us: int | None = None
        self.least_us = self.limit_us = least_us

    def note(self, t_us: int) -> int:
        """A sample came; the silence from now on that means it is gone, in microseconds."""
        if self.last_us is not None and t_us > self.last_us:
            step, steps = t_us - self.last_us, self._steps
            # What comes in is what falls out: the median is as it was, and a steady sensor costs no sorting.
            same = len(steps) == PERIODS and steps[0] == step
            steps.append(step)
            if not same:
                self.limit_us = max(SILENT_PERIODS * sorted(steps)[len(steps) // 2], self.least_us)
        self.last_us = t_us if self.last_us is None else max(t_us, self.last_us)
        return self.limit_us

    def fresh(self, t_us: int) -> bool:
        """Whether it is not silent at this time."""
        return self.last_us is not None and t_us - self.last_us <= self.limit_us


class Assembler:
    """Takes samples as they come and gives a frame whenever it is asked for one.

    For each modality it holds the newest row. Silence of more than 5 periods of its sensor masks it (5 s for heart
    rate, which has no steady period). Nothing missing is ever 0.

    Args:
        body: How to read poses; a sequence of bodies (or None) is allowed as long as they are all the same.
        scale: What raw motion is divided by; None lets the stream take its own, renewed every second.
        transport: Gives the beat phase where the source gives none, and follows `beat` samples as its leader allows.
        audio_hz: Rate of `audio` samples.
        period_us: Distance of poses or accelerations, where it is known.
    """

    def __init__(
        self,
        body: Body | Sequence[Body | None] | None = None,
        scale: Scale | None = None,
        transport: Phase | None = None,
        *,
        audio_hz: int | None = None,
        period_us: float | None = None,
    ) -> None:
        bodies = {b for b in ([body] if isinstance(body, Body) or body is None else body) if b is not None}
        if len(bodies) > 1:
            raise UsageError("two sources give poses of different bodies", hint="name one of them")
        self.transport, self._scale, self._period = transport, scale, period_us
        self.body = next(iter(bodies), None)
        self._audio_hz = audio_hz
        self.sounding: tuple[Source, ...] = ()
        self._motion: Any = None
        if self.body is not None:
            from choreo_cli.motion.stream import MotionStream

            self._motion = MotionStream(scale, self.body.joints, self.body.dims, self.body.up, period_us=period_us)
        self._accel: Any = None
        self._audio: Any = None
        self._steady: Any = None
        self._distance: int | None = None
        self._heart = HeartStream()
        self._heart_held = self._sounding = False
        self.target = np.full(5, np.nan, np.float32)
        self.counts: dict[str, int] = {}
        self._now = np.full(len(NAMES), np.nan, np.float32)
        self._heard_us = np.full(len(NAMES), -(2**62), np.int64)
        self._limit_us = np.full(len(NAMES), ROW_LIMIT_US, np.int64)
        self._of_row = np.ones(len(NAMES), bool)
        self._paces = [Pace(ROW_LIMIT_US if k != "hr" else HEART_SILENT_US) for k in MODES for _ in MODALITIES[k]]
        self._sensors = {k: Pace(ROW_LIMIT_US if k in ("mot", "aud") else HEART_SILENT_US) for k in MODES}
        self._rows = Pace(ROW_LIMIT_US)
        self._row_mask: NDArray[Any] | None = None
        self._beat: tuple[float, float, int] | None = None
        self._values = np.full((KEPT_FRAMES, len(NAMES)), np.nan, np.float32)
        self._mask = np.zeros((KEPT_FRAMES, len(MODES)), bool)
        self._slot = 0
        self._alive = dict.fromkeys(MODES, False)
        self._newest: Sample | None = None

    @classmethod
    def of(cls, sources: Iterable[Source], scale: Scale | None = None, transport: Phase | None = None) -> Assembler:
        """An assembler for these sources.

        Raises:
            UsageError: two of them give poses of different bodies, or sound at different rates.
        """
        found = list(sources)
        rates = {s.audio_hz for s in found if s.audio_hz is not None}
        if len(rates) > 1:
            raise UsageError("two sources give sound at different rates", hint="name one of them")
        period = next((p for s in found if (p := getattr(s, "period_us", None)) and "inputs" not in s.kinds), None)
        made = cls([s.body for s in found], scale, transport, audio_hz=next(iter(rates), None), period_us=period)
        made.sounding = tuple(s for s in found if "audio" in s.kinds)
        made.prepare({kind for s in found for kind in s.kinds})
        return made

    @staticmethod
    def prepare(kinds: Iterable[str]) -> None:
        """Import what samples of these kinds need: inside the loop the first one would cost a dozen frames."""
        wanted = set(kinds)
        if "accel" in wanted:
            import scipy.fft  # noqa: F401

            import choreo_cli.motion.accelerometer
        if "audio" in wanted:
            import choreo_cli.audio.stream  # noqa: F401

    @property
    def scale(self) -> Scale | None:
        """The motion scale in use: as given, or the stream's own so far."""
        stream = self._motion or self._accel
        return self._scale if stream is None else stream.scale

    @property
    def own_scale(self) -> bool:
        """Raw motion is divided by its own last 30 s because no scale was given."""
        stream = self._motion or self._accel
        return bool(stream is not None and stream.own_scale)

    def take(self, sample: Sample) -> None:
        """Take a sample; one that cannot be read is counted in `counts`, never raised."""
        if self._newest is None or sample.t_arrival_ns >= self._newest.t_arrival_ns:
            self._newest = sample
        reader = getattr(self, f"_take_{sample.kind}", None)
        if reader is None:
            self._count("unknown_kind")
            return
        reader(sample)

    def frame(self, t_us: int) -> Frame:
        """The frame at a time that does not go back."""
        self._slot = (self._slot + 1) % KEPT_FRAMES
        values, mask = self._values[self._slot], self._mask[self._slot]
        if self._heart_held:
            self._now[HR.start], self._now[HR.start + 1], _ = self._heart.at(t_us)
            self._heard_us[HR] = t_us
            self._of_row[HR] = False
        np.copyto(values, self._now)
        values[t_us - self._heard_us > self._limit_us] = np.nan
        if values[PHASE] != values[PHASE] and not self._said_missing(t_us):
            values[PHASE] = self._phase(t_us)
        measured(values, mask)
        if self._sounding and values[AUD.start] == values[AUD.start]:
            mask[2] = True  # sound that is heard is measured, also where it fades out and has no brightness
        self._as_recorded(t_us, values, mask)
        newest, self._newest = self._newest, None
        return Frame(
            t_us, values, mask, newest.t_sensor_us if newest else None, newest.t_arrival_ns if newest else None,
            self._who_lives(t_us, mask),
        )  # fmt: skip

    def _who_lives(self, t_us: int, mask: Bool) -> dict[str, bool]:
        alive = {m: bool(mask[k]) or self._sensors[m].fresh(t_us) for k, m in enumerate(MODES)}
        if alive != self._alive:
            self._alive = alive
        return self._alive

    def _as_recorded(self, t_us: int, values: F32, mask: Bool) -> None:
        """What a fresh row of a recording says of its own mask goes over what follows from its values."""
        if self._row_mask is None:
            return
        for k, first in enumerate(FIRST):
            if self._of_row[first] and t_us - int(self._heard_us[first]) <= self._rows.limit_us:
                mask[k] = self._row_mask[k] and bool(np.isfinite(values[OF_MODE[k]]).any())

    def _said_missing(self, t_us: int) -> bool:
        """A recording being played says that there was no beat at this moment."""
        return bool(self._of_row[PHASE]) and t_us - int(self._heard_us[PHASE]) <= self._rows.limit_us

    def _phase(self, t_us: int) -> float:
        """Position inside the beat: the transport's, else that of the last beat heard; NaN when neither knows."""
        if self.transport is not None:
            phase, _ = self.transport.phase(t_us)
            return float(min(phase, BELOW_ONE)) if phase >= 0 else NAN
        if self._beat is None or t_us - self._beat[2] > HEART_SILENT_US:
            return NAN
        beat, bpm, since = self._beat
        return min((beat + (t_us - since) * bpm / 60e6) % 1.0, BELOW_ONE)

    def _count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    def _put(self, where: slice, row: Any, t_us: int, limit_us: int) -> None:
        self._now[where] = row
        self._heard_us[where] = t_us
        self._limit_us[where] = limit_us
        self._of_row[where] = False

    def _take_inputs(self, sample: Sample) -> None:
        row = np.asarray(sample.values, np.float32)
        if row.shape != self._now.shape:
            self._count("shape")
            return
        given = (row >= LO) & (row <= HI)  # also False for NaN
        if given.sum() + np.isnan(row).sum() < len(row):
            self._count("out_of_bounds")
        if sample.whole:
            # A recorded row also says what was not measured, but not against another sensor that measures it now.
            taken = given | self._of_row
            self._of_row |= given
            self._limit_us[taken] = self._rows.note(sample.t_us)
            self._row_mask = sample.mask
        else:
            taken = given
            self._of_row &= ~given
            for i in np.flatnonzero(given):
                self._limit_us[i] = self._paces[i].note(sample.t_us)
        np.copyto(self._now, np.where(given, row, np.float32(np.nan)), where=taken)
        self._heard_us[taken] = sample.t_us
        heard = given.tolist()
        for k, mode in enumerate(MODES):
            if True in heard[OF_MODE[k]]:
                self._sensors[mode].note(sample.t_us)

    def _take_pose(self, sample: Sample) -> None:
        if self._motion is None:
            self._count("pose_without_body")
            return
        if np.shape(sample.values) != self._motion.shape:
            self._count("shape")
            return
        self._moved(self._motion.push(self._when(sample), sample.values), sample.t_us)

    def _take_accel(self, sample: Sample) -> None:
        if self._accel is None:
            from choreo_cli.motion.accelerometer import AccelerometerStream

            self._accel = AccelerometerStream(self._scale, period_us=self._period)
        if np.shape(sample.values) != (3,):
            self._count("shape")
            return
        self._moved(self._accel.push(self._when(sample), sample.values), sample.t_us)

    def _when(self, sample: Sample) -> int:
        """When a body was measured: evened out where the only stamp is that of arrival, which a network scatters.

        A sensor's own stamps wander against the arrivals; stamps made on arrival keep one distance to them.
        """
        distance = sample.t_us * 1000 - sample.t_arrival_ns
        by_arrival = self._distance is not None and abs(distance - self._distance) <= SAME_STAMP_NS
        self._distance = distance
        if self._period is not None or not by_arrival:
            return sample.t_us
        if self._steady is None:
            from choreo_cli.motion.stream import Steady

            self._steady = Steady()
        when: int = self._steady.at(sample.t_us)
        return when

    def _moved(self, rows: list[tuple[int, F32]], t_us: int) -> None:
        limit = self._sensors["mot"].note(t_us)
        if rows:
            self._put(MOT, rows[-1][1], t_us, limit)

    def _take_hr(self, sample: Sample) -> None:
        self._heart.push(sample.t_us, float(sample.values[0]))
        self._heart_held = True
        self._sensors["hr"].note(sample.t_us)
        self._limit_us[HR] = HEART_SILENT_US

    def _take_audio(self, sample: Sample) -> None:
        if self._audio_hz is None:  # a sound card says its rate only once it is open
            self._audio_hz = next((s.audio_hz for s in self.sounding if s.audio_hz is not None), None)
        if self._audio_hz is None:
            self._count("audio_without_rate")
            return
        if self._audio is None:
            from choreo_cli.audio.stream import AudioStream

            self._audio = AudioStream(self._audio_hz)
        end_us = sample.t_us + round(len(sample.values) * 1e6 / self._audio_hz)
        rows = self._audio.push(sample.t_us, sample.values)
        limit = self._sensors["aud"].note(end_us)
        if rows:
            self._put(AUD, rows[-1][1], end_us, limit)
            self._sounding = True

    def _take_beat(self, sample: Sample) -> None:
        beat, bpm = float(sample.values[0]), float(sample.values[1])
        if beat != beat:
            self._count("beat_not_a_number")
            return
        self._sensors["ctx"].note(sample.t_us)
        if self.transport is not None:
            self.transport.follow(beat, bpm, sample.t_us)
        elif bpm > 0:
            self._beat = beat, bpm, sample.t_us

    def _take_target(self, sample: Sample) -> None:
        row = np.asarray(sample.values, np.float32)
        if row.shape != self.target.shape:
            self._count("shape")
            return
        np.copyto(self.target, row, where=np.isfinite(row))


def measured(values: F32, mask: Bool) -> None:
    """Fill the mask (4,) of the values (11,) in place: every input that the modality must have is there.

    As in the offline frames, digital silence has no brightness and is measured all the same.
    """
    v = values.tolist()
    for k, needed in enumerate(NEEDED):
        mask[k] = all(v[i] == v[i] for i in needed)
    mask[2] = mask[2] or v[AUD.start] == 0.0
