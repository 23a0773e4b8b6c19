"""What foreign readers return: a file's facts, and the streams inside it. Arrays only, no behaviour."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

KINDS = (
    "audio", "features", "pose", "motion", "video", "wearable",
    "beats", "playlist", "session", "frames", "truth", "other",
)  # fmt: skip

T0_SOURCES = ("ntp", "unix_time", "iso_time", "metadata", "folder_name", "file_name", "container", "mtime", "none")
# Two standard deviations of a clock reading span the prior window; see man 7 choreo-data.
T0_SIGMA_US = {
    "ntp": 20_000, "unix_time": 500_000, "iso_time": 500_000, "metadata": 500_000, "container": 1_000_000,
    "folder_name": 1_000_000, "file_name": 1_000_000, "mtime": 2_000_000,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Clock:
    """When a recording's own time zero was, in UTC, and how far that is to be trusted.

    `naive` marks a local time without an offset: `t0_utc_us` then holds the wall time read as if it were UTC,
    and only `--tz` (an assumption in the report) makes it UTC.
    """

    t0_utc_us: int | None = None
    source: str = "none"
    sigma_us: int | None = None
    naive: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """What `discover` records of one file without keeping its content.

    Args:
        kind: One of `KINDS`.
        format: Short name of the format, e.g. `bvh`, `openpose-folder`, `e4-hr`.
        n: Samples, frames or rows.
        rate: (numerator, denominator) in Hz, None when the file has no rate.
        duration_us: Last minus first sample, plus one period where the rate is known.
        channels: Audio channels, joints or value columns.
        clock: UTC of time zero.
        reason: Why the file cannot be used; None when it can. One sentence without a trailing period.
        problems: Doubts that do not stop use, each `code: sentence`,
            e.g. `rate_contradiction: declared 25 fps, implied 5.4`.
        meta: Format-specific facts (JSON values only): title, bpm, joints, fps_source, units, track, devices...
    """

    kind: str
    format: str
    n: int | None = None
    rate: tuple[int, int] | None = None
    duration_us: int | None = None
    channels: int | None = None
    clock: Clock = field(default_factory=Clock)
    reason: str | None = None
    problems: tuple[str, ...] = ()
    meta: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PoseStream:
    """Joint positions over time, as found (no resampling, no filling).

    Args:
        t_us: (T,) int64, microseconds from the recording's own time zero, strictly increasing.
        xyz: (T, J, D) float32, D 2 or 3; a missing joint is NaN in all its coordinates.
        joints: J names; canonical ones (`pelvis l_hip r_hip ... r_wrist`, motion.md section 1) where known.
        units: `m`, `px`, `norm` (0..1 of the image) or `unknown`.
        up: The direction of up: `+y`, `-y` (image rows grow downwards) or `+z`.
        confidence: (T, J) float32 or None.
        rate: Nominal (numerator, denominator) in Hz or None.
        rate_source: `timestamps`, `header`, `declared`, `format`, `user` or `none`.
        clock: UTC of time zero.
        problems: As in `Facts`.
        assumptions: Closed-set sentences about what was taken for granted (`time rebuilt from i/fps`...).
    """

    t_us: I64
    xyz: F32
    joints: tuple[str, ...]
    units: str
    up: str
    confidence: F32 | None = None
    rate: tuple[int, int] | None = None
    rate_source: str = "timestamps"
    clock: Clock = field(default_factory=Clock)
    problems: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Series:
    """Named scalar signals over time: heart rate, acceleration, quantity of motion.

    Args:
        t_us: (T,) int64, microseconds from time zero, strictly increasing.
        values: (T, C) float32, NaN = missing (sentinels already turned into NaN).
        names: C names, `hr rr acc_x acc_y acc_z bvp eda temp qom centroid_x centroid_y` where known, else the source's.
        units: C units.
    """

    t_us: I64
    values: F32
    names: tuple[str, ...]
    units: tuple[str, ...]
    rate: tuple[int, int] | None = None
    clock: Clock = field(default_factory=Clock)
    problems: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Beats:
    """Annotated beats or a tempo map.

    Args:
        t_s: (B,) float64 beat times in seconds of the music clock, strictly increasing.
        tempo_bpm: Declared tempo, None when the file holds only times.
        music: File name of the music the annotation belongs to, where the file says so.
    """

    t_s: F64
    tempo_bpm: float | None = None
    music: str | None = None
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PlaylistItem:
    """One track of a playlist: its order, and its times where the file knows them."""

    index: int
    title: str | None = None
    path: str | None = None
    start_us: int | None = None
    duration_us: int | None = None
    played_utc_us: int | None = None


@dataclass(frozen=True, slots=True)
class SessionMeta:
    """What a session's metadata says of it."""

    session: str | None = None
    playlist: str | None = None
    track_title: str | None = None
    track_index: int | None = None
    track_offset_us: int | None = None
    performer: str | None = None
    devices: tuple[str, ...] = ()
    clock: Clock = field(default_factory=Clock)
    synthetic: bool = False
