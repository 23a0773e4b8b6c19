"""The six motion inputs on the 50 Hz frame clock, one implementation for live and offline.

    motion_energy  mean joint speed / session 95th percentile, saturating at 1
    motion_freq    Hz, dominant rate of the joint speed over the last 4 s; held while unvoiced
    jerk           mean norm of the third difference / session 99th percentile, saturating at 1
    hip_sway       lateral pelvis displacement from its 2 s mean / (0.15 body heights), saturating at -1 and 1
    hip_bounce     vertical pelvis displacement, same scale
    symmetry       1 - |left - right| / (left + right) of the mean joint speeds

By definition 5 % of a session's energy and 1 % of its jerk saturate; the counts are returned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from choreo_cli.errors import DataError
from choreo_cli.motion.measures import Measured, Measures
from choreo_cli.motion.resample import Grid, resample, resample_pose
from choreo_cli.motion.speed import body_height

NAMES = ("motion_energy", "motion_freq", "jerk", "hip_sway", "hip_bounce", "symmetry")
HIP_SHARE = 0.15
# A left/right difference means nothing in a body at rest: this share of the energy scale is added to the sum.
REST_SHARE = 0.02

F32 = NDArray[np.float32]
Bool = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Scale:
    """What the motion inputs are divided by; stored with the frames so that live equals offline.

    Args:
        energy_p95: 95th percentile of the mean joint speed, units/s.
        jerk_p99: 99th percentile of the mean third difference, units/s^3.
        height: Standing height, units; NaN when unknown (sway and bounce are then null).
        units: Units of the pose.
    """

    energy_p95: float
    jerk_p99: float
    height: float
    units: str = "m"

    @classmethod
    def of(cls, measured: Measured, height: float, units: str = "m") -> Scale:
        """Take the percentiles of a session."""

        def percentile(values: F32, q: float) -> float:
            real = values[np.isfinite(values)]
            return float(np.percentile(real, q)) if len(real) else float("nan")

        return cls(percentile(measured.speed, 95), percentile(measured.jerk, 99), height, units)

    def to_dict(self) -> dict[str, float | str | None]:
        """JSON values; an unknown number is null."""
        return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Scale:
        """Read what `to_dict` wrote.

        Raises:
            DataError: A field is missing, unknown or not a number.
        """
        names = [f.name for f in fields(cls)]
        if set(record) != set(names):
            raise DataError(
                f"a motion scale has the fields {', '.join(names)}, got {', '.join(sorted(record)) or 'none'}"
            )
        values = []
        for name in names[:3]:
            value = record[name]
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0):
                raise DataError(f"motion scale: {name} is not a number of at least 0")
            values.append(float("nan") if value is None else float(value))
        return cls(values[0], values[1], values[2], str(record["units"]))


@dataclass(frozen=True, slots=True)
class MotionInputs:
    """The motion columns of the frames table.

    Args:
        values: (T, 6) float32 in the order of `NAMES`, NaN = null.
        m_mot: (T,) motion_energy, motion_freq and jerk are measured.
        scale: What was divided by.
        saturated: Frames cut at a bound, by name.
        real_fraction: Native samples over frames; NaN when the input was on the frame clock already.
        max_gap_us: Longest stretch without a native sample.
        assumptions: What was taken for granted.
    """

    values: F32
    m_mot: Bool
    scale: Scale
    saturated: dict[str, int]
    real_fraction: float = float("nan")
    max_gap_us: int = 0
    assumptions: tuple[str, ...] = ()


class MotionFeatures:
    """The live loop's extractor: one frame in, six values out.

    Args:
        scale: From a session (`extract(...).scale`) or from calibration.
        joints: Joint names; empty for a quantity-of-motion signal.
        dims: 2 or 3 (1 for a quantity of motion).
        up: `+y`, `-y` or `+z`.
    """

    def __init__(self, scale: Scale, joints: tuple[str, ...], dims: int = 3, up: str = "+y") -> None:
        self.scale = scale
        self.measures = Measures(joints, dims, up)

    def push(self, t_us: int, xyz: ArrayLike) -> F32:
        """Take the frame at `t_us` (20 ms after the last, else a gap) of shape (J, D); return (6,) float32."""
        frame = np.asarray(xyz, np.float32)[None]
        values: F32 = normalise(self.measures.process(np.array([t_us], np.int64), frame), self.scale)[0]
        return values


def normalise(measured: Measured, scale: Scale) -> F32:
    """Divide the measures by the scale, row by row; (T, 6) float32."""
    rest = np.float32(REST_SHARE * scale.energy_p95)
    total = measured.left + measured.right + rest
    hip = np.float32(HIP_SHARE * scale.height)
    columns = (
        _share(measured.speed, scale.energy_p95),
        measured.rate,
        _share(measured.jerk, scale.jerk_p99),
        np.clip(measured.sway / hip, -1, 1),
        np.clip(measured.bounce / hip, -1, 1),
        1 - np.abs(measured.left - measured.right) / np.where(total > 0, total, np.float32(1)),
    )
    return np.asarray(np.stack(columns, axis=1), np.float32)


def _share(values: F32, whole: float) -> F32:
    if whole <= 0:  # a session without any movement: its energy is 0, not undefined
        return values * np.float32(0)
    return np.asarray(np.minimum(values / np.float32(whole), np.float32(1)), np.float32)


def extract(
    t_us: ArrayLike,
    xyz: ArrayLike,
    joints: tuple[str, ...],
    *,
    up: str = "+y",
    units: str = "m",
    scale: Scale | None = None,
) -> MotionInputs:
    """Compute the six inputs of a whole session that is on the frame clock already.

    Equal, sample by sample, to `MotionFeatures(result.scale, ...).push` over the same frames.

    Args:
        t_us: (T,) int64 frame times, 20 ms apart; missing frames are absent or all NaN, and are gaps.
        xyz: (T, J, D) positions; D 1 with no joints is a quantity of motion.
        joints: J names, canonical where known (`pelvis l_hip r_hip ...`).
        up: The direction of up.
        units: Units of the positions, kept in the scale.
        scale: Use this one instead of the session's own percentiles.

    Raises:
        DataError: Times do not increase, shapes disagree, or the scale was made in other units.
    """
    t, x = np.asarray(t_us, np.int64), np.asarray(xyz, np.float32)
    if x.ndim != 3:
        raise DataError(f"a pose stream has the shape (frames, joints, axes), got {x.shape}")
    if scale is not None and scale.units != units:
        raise DataError(f"the motion scale was made in {scale.units}, the pose is in {units}")
    measures = Measures(joints, x.shape[2], up)
    measured = measures.process(t, x)
    assumptions = _assumptions(measures, x.shape[2])
    if scale is None:
        height, how = body_height(x, joints, up) if joints else (float("nan"), "")
        assumptions += (how,) if how else ()
        scale = Scale.of(measured, height, units)
    values = normalise(measured, scale)
    bounds = {"motion_energy": 1.0, "jerk": 1.0, "hip_sway": 1.0, "hip_bounce": 1.0}
    saturated = {name: int((np.abs(values[:, NAMES.index(name)]) >= hi).sum()) for name, hi in bounds.items()}
    m_mot = np.asarray(np.isfinite(values[:, :3]).all(axis=1))
    return MotionInputs(values, m_mot, scale, saturated, assumptions=assumptions)


def extract_pose(
    t_us: ArrayLike,
    xyz: ArrayLike,
    joints: tuple[str, ...],
    grid: Grid,
    *,
    up: str = "+y",
    units: str = "m",
    scale: Scale | None = None,
) -> MotionInputs:
    """Put a pose stream of any rate onto the frame clock and compute the six inputs.

    Args:
        t_us: (S,) int64 times on the music clock.
        xyz: (S, J, D) positions. Below 8 fps every frame is masked.
        grid: The frames wanted.
    """
    x = np.asarray(xyz, np.float32)
    frames = resample_pose(t_us, x, grid)
    done = extract(grid.t_us, frames.values.reshape(grid.n, *x.shape[1:]), joints, up=up, units=units, scale=scale)
    return MotionInputs(
        done.values, done.m_mot, done.scale, done.saturated, frames.real_fraction, frames.max_gap_us, done.assumptions
    )


def extract_qom(t_us: ArrayLike, qom: ArrayLike, grid: Grid, *, scale: Scale | None = None) -> MotionInputs:
    """Compute energy, rate and jerk from a quantity-of-motion series; the other three inputs are null.

    Args:
        t_us: (S,) int64 times on the music clock.
        qom: (S,) float32 quantity of motion, any unit.
        grid: The frames wanted.
    """
    frames = resample(t_us, qom, grid, min_fps=8.0)
    done = extract(grid.t_us, frames.values[:, :, None], (), units="qom", scale=scale)
    return MotionInputs(
        done.values, done.m_mot, done.scale, done.saturated, frames.real_fraction, frames.max_gap_us, done.assumptions
    )


def _assumptions(measures: Measures, dims: int) -> tuple[str, ...]:
    if not measures.joints:
        return ("motion inputs taken from the quantity of motion: no sway, bounce or symmetry",)
    out = []
    if dims == 2:
        out.append("motion inputs measured in the image plane (2-D pose)")
    if not measures.has_pelvis:
        out.append("no pelvis or hips: sway and bounce are null")
    elif not measures.has_hips:
        out.append("no hips: sway measured along the first horizontal axis")
    return tuple(out)
