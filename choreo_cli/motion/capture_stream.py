"""Live capture: readings in, choreo25 out, frame by frame: lift, fuse, clean; and how late each frame was."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from time import perf_counter_ns
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import DataError
from choreo_cli.motion.capture_log import CaptureHead, Heard, StreamInfo
from choreo_cli.motion.capture_state import DOFS, YAW, Track, ankles_of, set_ankles, to_channels, wrap
from choreo_cli.motion.cleanup_live import ContactSwitch, LiveCleaner
from choreo_cli.motion.fusion import Fusion
from choreo_cli.motion.fusion_pose import PoseReader
from choreo_cli.motion.fusion_readings import PointReading, PoseReading, Reading, WatchReading
from choreo_cli.motion.lifting_place import place_lifted
from formats.motion_npz import Header, MotionClip, Skeleton

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

LAG_US = 25_000
"""A frame shows the body as it was so long ago: the readings of that moment have mostly come by then."""
LEAD_US = 12_000
"""What the cleaning lags behind a body that speeds up; the filter is asked for a pose so much later."""
BUDGET_MS = 30.0
FRESH_US = 100_000
GAP_US = 10_000_000


class StepLifter(Protocol):
    """What turns image points into joints: `motion.lifting.Lifter`."""

    def step(self, points: Any, confidence: Any) -> Any:
        """(22, 3) metres in camera axes of the next frame (17, 2) and (17,)."""
        ...


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame that left.

    Args:
        t_us: The moment that it shows.
        channels: (25,) float32 choreo25.
        q: (23,) the state it was made of.
    """

    t_us: int
    channels: F32
    q: F64


@dataclass(slots=True)
class Ledger:
    """When things happened to each frame, in microseconds of the stream's clock and of work.

    Args:
        shown_us: Moment that the frame shows.
        due_us: When it was due.
        newest_us: Time of the newest reading in it.
        arrival_us: When that reading arrived.
        work_us: Work from what arrived to choreo25: lifting, fusing, cleaning, all readings since the last frame.
    """

    shown_us: list[int] = field(default_factory=list)
    due_us: list[int] = field(default_factory=list)
    newest_us: list[int] = field(default_factory=list)
    arrival_us: list[int] = field(default_factory=list)
    work_us: list[float] = field(default_factory=list)

    def spans_ms(self) -> dict[str, F64]:
        """(N,) milliseconds by name: from the moment shown to choreo25 (the capture latency), from the newest
        reading's time, from its arrival, and the work alone."""
        done = np.array(self.due_us, np.float64) + np.array(self.work_us)
        return {
            "sensor_to_choreo25": (done - np.array(self.shown_us, np.float64)) / 1e3,
            "newest_reading_to_choreo25": (done - np.array(self.newest_us, np.float64)) / 1e3,
            "newest_arrival_to_choreo25": (done - np.array(self.arrival_us, np.float64)) / 1e3,
            "work": np.array(self.work_us) / 1e3,
        }

    def summary(self) -> dict[str, Any]:
        """p50, p95, p99, largest and n of each span, and the share within the budget."""
        out: dict[str, Any] = {"budget_ms": BUDGET_MS, "n": len(self.work_us)}
        for name, values in self.spans_ms().items():
            points = np.percentile(values, (50, 95, 99, 100)).round(3).tolist() if len(values) else [None] * 4
            out[name] = dict(zip(("p50", "p95", "p99", "max"), points, strict=True))
        if self.work_us:
            out["within_budget"] = round(float((self.spans_ms()["sensor_to_choreo25"] <= BUDGET_MS).mean()), 4)
        return out


class Capture:
    """Fuses and cleans one body.

    Args:
        head: What the streams are.
        skeleton: The body.
        fps: Frames a second.
        lifter: Of point streams: makes one lifter for each stream, so that none sees another's frames.
        clean: Smooth, ease and lock feet; without, frames are the filter's belief.
        lag_us: See `LAG_US`.
    """

    def __init__(
        self, head: CaptureHead, skeleton: Skeleton, fps: float, *, lifters: Mapping[str, StepLifter] | None = None,
        clean: bool = True, lag_us: int = LAG_US,
    ) -> None:  # fmt: skip
        if not 1 <= fps <= 240:
            raise DataError(f"{fps:g} frames a second, need 1 to 240")
        missing = [s.name for s in head.streams.values() if s.kind == "points" and s.name not in (lifters or {})]
        if missing:
            raise DataError(f"stream {missing[0]} gives image points and no lifting network is named")
        self._streams, self._lifters = head.streams, dict(lifters or {})
        self._fps, self._lag_us, self._skeleton = fps, lag_us, skeleton
        self._leg = np.asarray(skeleton.thigh) + np.asarray(skeleton.shank)
        self.skeleton, self.head = skeleton, head
        self.fusion = Fusion(skeleton)
        self._reader = PoseReader(skeleton)
        self._cleaner = LiveCleaner(skeleton, fps) if clean else None
        self._switch = ContactSwitch(skeleton)
        self._told: tuple[int, F64] | None = None
        self._newest = (-(2**62), 0)
        self._root: F64 | None = None
        self._work_ns = 0
        self.ledger = Ledger()
        self.bad: dict[str, int] = {}

    def put(self, heard: Heard) -> None:
        """Take a reading as it arrives. One that cannot be used is counted (`bad`) and left out."""
        began = perf_counter_ns()
        info = self._streams[heard.stream]
        try:
            reading = self._reading(heard, info)
            if self.fusion.put(heard.stream, reading) and heard.t_us > self._newest[0]:
                self._newest = heard.t_us, heard.t_arrival_us
            if isinstance(reading, PoseReading) and reading.contacts is not None:
                self._told = heard.t_us, reading.contacts
        except DataError as e:
            self.bad[str(e)] = self.bad.get(str(e), 0) + 1
        self._work_ns += perf_counter_ns() - began

    def _reading(self, heard: Heard, info: StreamInfo) -> Reading:
        if info.kind == "pose":
            return self._reader.read(heard.t_us, heard.values, info.sigma)
        if info.kind == "head":
            return PointReading(heard.t_us, heard.values, info.sigma)
        if info.kind == "watch":
            return WatchReading(heard.t_us, heard.values, heard.attitude, info.sigma, info.point)
        seen = np.ones(17) if heard.confidence is None else np.nan_to_num(heard.confidence)
        assert info.camera is not None
        local = np.asarray(self._lifters[info.name].step(heard.values, seen), np.float64)
        joints, spread = place_lifted(local, heard.values, seen, info.camera, self._skeleton)
        return self._reader.read(heard.t_us, joints, info.sigma, root_sigma_m=spread)

    def frame(self, due_us: int) -> Frame | None:
        """The frame that is due now; None until the first whole pose."""
        began = perf_counter_ns()
        shown = due_us - self._lag_us
        asked = shown + (LEAD_US if self._cleaner is not None else 0)
        belief = self.fusion.at(asked)
        if belief is None or belief.t_us > asked:
            return None
        q, speed = belief.x[:DOFS], belief.x[DOFS : 2 * DOFS]
        told = self._told[1] if self._told is not None and shown - self._told[0] < FRESH_US else None
        contacts = self._switch.step(q, speed, told)
        ahead = q + speed / self._fps
        if self._cleaner is not None:
            q, ahead = self._cleaner.step(q, speed, contacts), self._cleaner.ahead
            contacts = self._cleaner.standing
        channels, q = self._emit(q, ahead, contacts)
        self.ledger.shown_us.append(shown)
        self.ledger.due_us.append(due_us)
        self.ledger.newest_us.append(self._newest[0])
        self.ledger.arrival_us.append(self._newest[1])
        self.ledger.work_us.append((self._work_ns + perf_counter_ns() - began) / 1e3)
        self._work_ns = 0
        return Frame(shown, channels, q)

    def _emit(self, q: F64, ahead: F64, contacts: F64) -> tuple[F32, F64]:
        """The row of a frame, whose speeds lead from where the rows before it have led to where the body will be.

        A row's velocity points to the next frame, which is not known yet: it aims at the foreseen place from the
        integrated one, so what was foreseen wrongly is made good a frame later and nothing adds up.
        """
        dt = 1.0 / self._fps
        if self._root is None:
            self._root = q[[0, 2, YAW]].copy()
        here = self._root
        step = ahead[[0, 2, YAW]] - here
        step[2] = wrap(np.array(step[2]))
        true = q.copy()
        true[[0, 2, YAW]] = here
        # The feet stay where they stand in the world, whatever the root does.
        true = set_ankles(true[None], ankles_of(q[None], self._leg), self._leg)[0]
        track = Track(np.stack([true, true]), np.stack([contacts, contacts]), self._fps)
        track.q[1, [0, 2, YAW]] += step
        row = to_channels(track)[0][0]
        # Integrate what was written, in the precision it was written in.
        yaw, vx, vz, w = float(here[2]), float(row[0]), float(row[1]), float(row[3])
        cos, sin = np.cos(yaw), np.sin(yaw)
        self._root = here + np.array([cos * vx + sin * vz, cos * vz - sin * vx, w]) * dt
        return row, true


def play(
    capture: Capture, readings: Iterable[Heard], fps: float, *, for_us: int | None = None, tail_us: int = 0
) -> Iterator[Frame]:
    """Frames of readings in the time of their arrivals: as fast as they come, or as a recording is read.

    Frames are due every 1 / fps from the first arrival on, and each sees only what had arrived by then.

    Args:
        capture: What makes the frames.
        readings: In the order of arrival.
        fps: Frames a second.
        for_us: How long after the first arrival frames are made.
        tail_us: How long frames go on after the last arrival.
    """
    due: float | None = None
    end_us: float | None = None
    for heard in readings:
        if due is None:
            due = float(heard.t_arrival_us)
            end_us = None if for_us is None else due + for_us
        # A clock that jumps a minute ahead is no reason for a minute of frames that nobody sees.
        if heard.t_arrival_us - due > GAP_US:
            due = float(heard.t_arrival_us)
        while heard.t_arrival_us > due:
            if end_us is not None and due > end_us:
                return
            if (frame := capture.frame(round(due))) is not None:
                yield frame
            due += 1e6 / fps
        capture.put(heard)
    end = None if due is None else due + tail_us
    while due is not None and end is not None and due <= end:
        if (frame := capture.frame(round(due))) is not None:
            yield frame
        due += 1e6 / fps


def live(
    capture: Capture, poll: Callable[[], Iterable[Heard]], fps: float, now_us: Callable[[], int],
    wait_s: Callable[[float], object], stop: Callable[[], bool],
) -> Iterator[Frame]:  # fmt: skip
    """Frames in real time, from readings that are polled; ends when `stop` says so.

    Args:
        capture: What makes the frames.
        poll: Readings that have come since the last call.
        fps: Frames a second.
        now_us: The clock of the readings' arrivals.
        wait_s: Sleeps.
        stop: Whether to end.
    """
    due = float(now_us())
    while not stop():
        left = due - now_us()
        if left > 0:
            wait_s(left / 1e6)
        elif left < -1e6:
            due = float(now_us())  # the machine slept: frames that nobody saw are not made up
        for heard in poll():
            capture.put(heard)
        if (frame := capture.frame(round(due))) is not None:
            yield frame
        due += 1e6 / fps


def clip_of(frames: list[Frame], skeleton: Skeleton, fps: float, source: Mapping[str, Any]) -> MotionClip:
    """The frames as a clip. Raises DataError without any."""
    if not frames:
        raise DataError("no frame came out: no whole pose arrived", hint="one camera must see the whole body once")
    from choreo_cli.motion.skeleton import stature

    first = frames[0].q
    header = Header(
        fps=fps, skeleton=skeleton, yaw0=float(first[YAW]), x0=float(first[0]), z0=float(first[2]),
        height_m=stature(skeleton), source=dict(source), flags={"captured": True},
    )  # fmt: skip
    return MotionClip(np.stack([f.channels for f in frames]), header)
