"""What this body and this sensor call still and big: the motion scale of a performance, from half a minute."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import DataError, NoAnswerError, NoInputError
from choreo_cli.live.clock import SECOND_NS, Clock
from choreo_cli.live.osc_source import OscSource
from choreo_cli.live.sample import Body, Sample, Source
from choreo_cli.motion.accelerometer import UNITS, AccelerometerSpeed
from choreo_cli.motion.features import Scale
from choreo_cli.motion.measures import Measured, Measures
from choreo_cli.motion.resample import MIN_POSE_FPS, Grid, native_period_us, resample_pose
from choreo_cli.motion.speed import body_height
from formats.errors import FormatError

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

PARTS: tuple[tuple[str, str], ...] = (
    ("still", "stand still"),
    ("small", "move a little, as in a quiet passage"),
    ("big", "move as big as you will on stage"),
)
LEAST_S = 9.0
LEAST_SHARE = 0.6
SHORT_SHARE = 0.9
"""Of a length that is hardly enough: no time of listening is filled to its ends, for the first sample comes late."""
BIG_OVER_STILL = 3.0
POLL_NS = 20_000_000
MAX_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Calibration:
    """A scale and what it was made from.

    Args:
        scale: For `--scale`; the same record that `pair` stores.
        seconds: Measured time.
        fps: Native samples a second.
        still: 5th percentile of the speed smoothed over a second: the noise of sensor and body, units/s.
        big: 95th percentile of it.
        assumptions: What was taken for granted.
    """

    scale: Scale
    seconds: float
    fps: float
    still: float
    big: float
    assumptions: tuple[str, ...] = field(default=())

    def to_json(self) -> bytes:
        """The file that `--scale` reads."""
        return (json.dumps(self.scale.to_dict(), indent=1, allow_nan=False) + "\n").encode()


def read_scale(path: Path) -> Scale:
    """A motion scale from its file.

    Raises:
        NoInputError: no such file.
        FormatError: not a motion scale.
    """
    from formats.foreign.source import Source as File
    from formats.jsonstrict import loads

    if not path.exists():
        raise NoInputError(f"no motion scale {path}", hint="choreo calibrate body writes one")
    record = loads(File.of(path).read_bytes(MAX_BYTES), file=path)
    if not isinstance(record, dict):
        raise FormatError("not a motion scale", file=path)
    try:
        return Scale.from_dict(record)
    except DataError as e:
        raise FormatError(e.message, file=path) from None


def calibrate(samples: Sequence[Sample], body: Body | None = None, *, seconds: float | None = None) -> Calibration:
    """The scale of a body from its samples: poses (with `body`), or accelerations.

    The percentiles are those of `Scale.of` over everything that was measured, so a third of it should be as big as
    the performance will be.

    Args:
        samples: In order of time; other kinds are left out.
        body: How to read poses.
        seconds: How long was asked for; much less than that is refused.

    Raises:
        NoAnswerError: too little arrived, too slowly, or the body did not move.
    """
    poses = [s for s in samples if s.kind == "pose"] if body is not None else []
    swings = [s for s in samples if s.kind == "accel"]
    if not poses and not swings:
        raise NoAnswerError("nothing to calibrate: no pose and no acceleration arrived", hint="is the sensor on?")
    if poses and body is not None:
        t, x = _increasing(poses)
        joints, up, units, dims = body.joints, body.up, body.units, body.dims
    else:
        t, accel = _increasing(swings)
        speed = AccelerometerSpeed()
        x = np.array([[[speed.push(int(at), a)]] for at, a in zip(t, accel, strict=True)], np.float32)
        joints, up, units, dims = (), "+y", UNITS, 1
    fps = _rate(t, seconds)
    grid = Grid.covering(int(t[0]), int(t[-1]))
    frames = resample_pose(t, x, grid).values.reshape(grid.n, *x.shape[1:])
    height, how = body_height(frames, joints, up) if joints else (float("nan"), "")
    measured = Measures(joints, dims, up).process(grid.t_us, frames)
    still, big = _range(measured, seconds)
    scale = Scale.of(measured, height, units)
    return Calibration(scale, (int(t[-1]) - int(t[0])) / 1e6, fps, still, big, (how,) if how else ())


def _increasing(samples: Sequence[Sample]) -> tuple[I64, F32]:
    t = np.array([s.t_us for s in samples], np.int64)
    keep = np.concatenate([[True], t[1:] > np.maximum.accumulate(t)[:-1]])
    return t[keep], np.stack([np.asarray(s.values, np.float32) for s, k in zip(samples, keep, strict=True) if k])


def _rate(t: I64, seconds: float | None) -> float:
    spanned = (int(t[-1]) - int(t[0])) / 1e6
    wanted = LEAST_S if seconds is None else max(SHORT_SHARE * min(LEAST_S, seconds), LEAST_SHARE * seconds)
    if len(t) < 2 or spanned < wanted:
        raise NoAnswerError(
            f"only {spanned:.1f} s arrived, need {wanted:.1f} s", hint="calibrate again once the sensor runs"
        )
    fps = 1e6 / native_period_us(t)
    if fps < MIN_POSE_FPS:
        raise NoAnswerError(f"{fps:.1f} samples a second are too few for motion", hint=f"need {MIN_POSE_FPS:g} or more")
    return fps


def _range(measured: Measured, seconds: float | None) -> tuple[float, float]:
    """Quiet and big speed, each the mean of a second."""
    speed = measured.speed[np.isfinite(measured.speed)].astype(np.float64)
    wanted = LEAST_SHARE * (seconds if seconds is not None else LEAST_S)
    if len(speed) < 50 * wanted:
        raise NoAnswerError(
            f"the body was seen for {len(speed) / 50:.1f} s only, need {wanted:.1f} s",
            hint="stay in view, and look at the rate of the sensor",
        )
    means = np.convolve(speed, np.full(50, 0.02), "valid")
    still, big = float(np.percentile(means, 5)), float(np.percentile(means, 95))
    if not big > 0 or big < BIG_OVER_STILL * still:
        raise NoAnswerError(
            f"the body did not move: big is {big / still if still > 0 else 0:.1f} times still, need {BIG_OVER_STILL:g}",
            hint="stand still, then small, then as big as on stage",
        )
    return still, big


def run(
    source: Source,
    clock: Clock,
    seconds: float = 30.0,
    say: Callable[[str], Any] = lambda line: None,
    stop: threading.Event | None = None,
) -> Calibration:
    """Listen to a source for a while and calibrate; it is opened and closed here.

    Args:
        source: Poses or accelerations.
        clock: Real time, or virtual for a recording.
        seconds: Length, in three equal parts.
        say: Is told what to do now, one line a part.
        stop: Set from elsewhere to end early (what came until then counts).

    Raises:
        As `calibrate`, and what the source's `open` raises.
    """
    start_ns = clock.now_ns()
    source.open(clock, start_ns)
    found: list[Sample] = []
    part = -1
    deadline = start_ns
    try:
        for line in source.said():
            say(line)
        while not source.ended and not (stop is not None and stop.is_set()):
            now = clock.now_ns()
            passed = (now - start_ns) / SECOND_NS
            if passed >= seconds:
                break
            if int(passed / seconds * len(PARTS)) > part:
                part += 1
                say(f"{seconds / len(PARTS):.0f} s {PARTS[part][0]}: {PARTS[part][1]}")
            found += source.poll(now)
            deadline += POLL_NS
            clock.wait_until(deadline)
    finally:
        source.close()
    if not found and isinstance(source, OscSource) and (why := source.useless()):
        raise NoAnswerError("nothing to calibrate: no pose and no acceleration arrived", hint=why)
    return calibrate(found, source.body, seconds=seconds)
