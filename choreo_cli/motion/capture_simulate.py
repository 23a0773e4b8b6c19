"""Simulated sensors with known truth: what phones, a watch and head tracking would say of a moving body, and when.

Everything is drawn from one seed. Nothing here is a recording; files made of it say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from choreo_cli.motion.capture_log import SIGMAS, Camera, CaptureHead, Heard, StreamInfo
from choreo_cli.motion.dancer import choreograph, poses, write_score
from choreo_cli.motion.fusion_model import GRAVITY, UP
from choreo_cli.motion.lifting_place import camera_axes
from choreo_cli.motion.lifting_points import coco_points

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

DENSE_HZ = 240.0
_WRIST, _ELBOW = {"l_wrist": 20, "r_wrist": 21}, {"l_wrist": 18, "r_wrist": 19}


FRONT = Camera(1500.0, 1920.0, 1080.0)


@dataclass(frozen=True, slots=True)
class Sensor:
    """One simulated sensor.

    Args:
        name: Of its stream.
        kind: `pose`, `points`, `watch` or `head`, as in `capture_log.SHAPES`.
        rate_hz: Readings a second.
        sigma: Noise: metres a coordinate, pixels of points, or m/s^2 of a watch.
        delay_s: Mean time until a reading arrives.
        jitter_s: How much of that is random (gamma distributed, so readings overtake each other).
        loss: Share of readings that never come.
        outliers: Share of readings of a limb that are far off (a wrist or ankle seen 0.5 m away).
        dropouts: (start, end) in seconds without any reading.
        point: Of a watch: which wrist.
        attitude: Of a watch: whether it knows which way it points.
        camera: Of points.
    """

    name: str
    kind: str
    rate_hz: float
    sigma: float
    delay_s: float = 0.0
    jitter_s: float = 0.0
    loss: float = 0.0
    outliers: float = 0.0
    dropouts: tuple[tuple[float, float], ...] = ()
    point: str = "l_wrist"
    attitude: bool = True
    camera: Camera = FRONT


STUDIO: tuple[Sensor, ...] = (
    Sensor("phone", "pose", 30.0, 0.035, 0.020, 0.006, loss=0.03, outliers=0.01),
    Sensor("side", "pose", 25.0, 0.040, 0.024, 0.008, loss=0.03, outliers=0.01),
    Sensor("watch", "watch", 50.0, 0.3, 0.015, 0.005, loss=0.02),
    Sensor("head", "head", 60.0, 0.010, 0.012, 0.004, loss=0.02),
)
"""Two phones, a watch and head tracking, all on one clock."""


def head_of(sensors: Sequence[Sensor], height_m: float) -> CaptureHead:
    """What the streams of simulated sensors say of themselves: a watch and a head know more noise than is drawn,
    because what the filter thinks of a body is not exact."""
    streams = {
        s.name: StreamInfo(
            s.name, s.kind, s.sigma if s.kind == "pose" else SIGMAS[s.kind], s.point,
            s.camera if s.kind == "points" else None,
        )
        for s in sensors
    }  # fmt: skip
    return CaptureHead(streams, height_m, synthetic=True)


def project(points: F64, camera: Camera) -> F64:
    """Pixels (..., 2), y down, of world points (..., 3)."""
    local = (points - np.asarray(camera.place_m)) @ camera_axes(camera)
    far = np.maximum(-local[..., 2], 1e-3)[..., None]
    xy = local[..., :2] * camera.focal_px / far
    return np.asarray(np.stack([camera.width / 2 + xy[..., 0], camera.height / 2 - xy[..., 1]], -1))


def danced(seed: int, seconds: float, *, bpm: float = 120.0, fps: float = DENSE_HZ) -> tuple[F64, F64]:
    """Times (T,) and joints (T, 22, 3) of a procedural dance: bones of constant length, both feet stepping."""
    rng = np.random.default_rng((seed, 0))
    beats = np.arange(0.0, seconds + 1.0, 60.0 / bpm)
    score = write_score(beats, rng.uniform(0.4, 1.0, len(beats)), rng)
    dance = choreograph(score, rng)
    t = np.arange(round(seconds * fps)) / fps
    return t, poses(dance, t)


def without(sensors: Sequence[Sensor], start_s: float, end_s: float) -> tuple[Sensor, ...]:
    """The same sensors, all silent between two times."""
    return tuple(replace(s, dropouts=(*s.dropouts, (start_s, end_s))) for s in sensors)


def simulate(t_s: F64, joints: F64, sensors: Sequence[Sensor], seed: int) -> list[Heard]:
    """Everything the sensors say of a body, in the order in which it arrives.

    Args:
        t_s: (T,) times of the truth, evenly spaced, densely enough for accelerations.
        joints: (T, 22, 3) metres, y up.
        sensors: Which sensors.
        seed: Of every draw.
    """
    path = CubicSpline(t_s, joints, axis=0)
    found: list[Heard] = []
    for number, sensor in enumerate(sensors):
        rng = np.random.default_rng((seed, 1, number))
        found += _readings(path, float(t_s[-1]), sensor, rng)
    return sorted(found, key=lambda h: (h.t_arrival_us, h.t_us, h.stream))


def _readings(path: CubicSpline, end_s: float, sensor: Sensor, rng: np.random.Generator) -> list[Heard]:
    period = 1.0 / sensor.rate_hz
    t = np.arange(rng.uniform(0, period), end_s, period)
    keep = rng.random(len(t)) >= sensor.loss
    for start, end in sensor.dropouts:
        keep &= (t < start) | (t >= end)
    late = np.zeros(len(t)) if sensor.delay_s == 0 else np.full(len(t), max(sensor.delay_s - sensor.jitter_s, 0.0))
    if sensor.jitter_s:
        late = late + rng.gamma(2.0, sensor.jitter_s / 2, len(t))
    values, attitudes = _seen(path, t, sensor, rng)
    sure = np.ones(17) if sensor.kind == "points" else None
    return [
        Heard(
            sensor.name, round(t[k] * 1e6), round((t[k] + late[k]) * 1e6), values[k], sure,
            None if attitudes is None else attitudes[k],
        )
        for k in np.flatnonzero(keep)
    ]  # fmt: skip


def _seen(path: CubicSpline, t: F64, sensor: Sensor, rng: np.random.Generator) -> tuple[F64, F64 | None]:
    if sensor.kind == "watch":
        force = path(t, 2)[:, _WRIST[sensor.point]] + GRAVITY * UP
        turns = _forearm_frames(path(t), sensor.point)
        own = np.einsum("tji,tj->ti", turns, force) + rng.normal(0, sensor.sigma, (len(t), 3))
        return own, quaternions(turns) if sensor.attitude else None
    joints = path(t)
    if sensor.kind == "head":
        return joints[:, 15] + rng.normal(0, sensor.sigma, (len(t), 3)), None
    if sensor.kind == "points":
        return project(coco_points(joints), sensor.camera) + rng.normal(0, sensor.sigma, (len(t), 17, 2)), None
    joints = joints + rng.normal(0, sensor.sigma, joints.shape)
    for k in np.flatnonzero(rng.random(len(t)) < sensor.outliers):
        joints[k, rng.choice((7, 8, 20, 21))] += rng.normal(0, 0.3, 3)
    return joints, None


def _forearm_frames(joints: F64, point: str) -> F64:
    """(T, 3, 3) axes of a watch: x along the forearm, y as far up as it can be."""
    x = joints[:, _WRIST[point]] - joints[:, _ELBOW[point]]
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    z = np.cross(x, UP + np.array([1e-3, 0.0, 0.0]))
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    return np.stack([x, np.cross(z, x), z], -1)


def quaternions(turns: F64) -> F64:
    """Unit quaternions (N, 4) w x y z, w >= 0, of rotations (N, 3, 3)."""
    from scipy.spatial.transform import Rotation

    q = Rotation.from_matrix(turns).as_quat()[:, [3, 0, 1, 2]]
    return np.asarray(np.where(q[:, :1] < 0, -q, q))
