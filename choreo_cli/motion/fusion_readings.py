"""Readings of the sensors that the fusion filter takes, each with its own time, and what a bad one is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import DataError
from choreo_cli.motion.capture_state import DOFS

F64 = NDArray[np.float64]

WRIST_NAMES = ("l_wrist", "r_wrist")


@dataclass(frozen=True, slots=True)
class PoseReading:
    """A whole pose from one camera.

    Args:
        t_us: When it was seen, on the clock that all sensors share.
        z: (23,) in the order of `capture_state.STATE`, NaN = not seen.
        r: (23, 23) covariance of its noise; rows and columns of what was not seen are not looked at.
        contacts: (2,) what the stream says of the feet, 0..1, NaN = nothing.
    """

    t_us: int
    z: F64
    r: F64
    contacts: F64 | None = None


@dataclass(frozen=True, slots=True)
class PointReading:
    """Where the head (or a wrist) is in the world: head tracking.

    Args:
        t_us: See `PoseReading`.
        z: (3,) metres.
        sigma: Standard deviation of each axis in metres.
        point: `head`, `l_wrist` or `r_wrist`.
    """

    t_us: int
    z: F64
    sigma: float = 0.02
    point: str = "head"


@dataclass(frozen=True, slots=True)
class WatchReading:
    """Specific force of a watch: acceleration minus gravity, so 9.81 upwards at rest.

    Args:
        t_us: See `PoseReading`.
        force: (3,) m/s^2. With `attitude` in the watch's axes; without it only its size is used.
        attitude: (4,) unit quaternion w x y z that turns the watch's axes into the world's, or None.
        sigma: Standard deviation of each axis in m/s^2.
        point: Which wrist.
    """

    t_us: int
    force: F64
    attitude: F64 | None = None
    sigma: float = 4.0
    point: str = "l_wrist"


Reading = PoseReading | PointReading | WatchReading


def checked(reading: Reading) -> Reading:
    """The reading, when it can be used.

    Raises:
        DataError: Shapes, names or numbers that no sensor gives; one sentence.
    """
    if isinstance(reading, PoseReading):
        if reading.z.shape != (DOFS,) or reading.r.shape != (DOFS, DOFS):
            raise DataError(f"a pose of {reading.z.shape} numbers, need ({DOFS},) and its covariance")
        seen = np.flatnonzero(np.isfinite(reading.z))
        if not len(seen):
            raise DataError("a pose without any number")
        noise = reading.r[np.ix_(seen, seen)]
        if not np.isfinite(noise).all() or not (np.diag(noise) > 0).all():
            raise DataError("a pose whose noise is not above 0")
        return reading
    values = reading.z if isinstance(reading, PointReading) else reading.force
    if values.shape != (3,) or not np.isfinite(values).all() or not 0 < reading.sigma < np.inf:
        raise DataError("a reading that is not three finite numbers with noise above 0")
    if reading.point not in ("head", *WRIST_NAMES) or (isinstance(reading, WatchReading) and reading.point == "head"):
        raise DataError(f"a reading of {reading.point}", hint="need head (tracking), l_wrist or r_wrist")
    if isinstance(reading, WatchReading) and reading.attitude is not None:
        q = reading.attitude
        if q.shape != (4,) or not abs(float(q @ q) - 1) < 0.02:
            raise DataError("an attitude that is no unit quaternion", hint="need w x y z")
    return reading


def turned(attitude: F64, v: F64) -> F64:
    """A vector (3,) turned by a unit quaternion w x y z."""
    w, x, y, z = (attitude / np.sqrt(attitude @ attitude)).tolist()
    m = np.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ])  # fmt: skip
    return np.asarray(m @ v)
