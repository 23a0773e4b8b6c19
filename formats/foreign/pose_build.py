"""From raw rows to a PoseStream: one person, a clean clock, canonical joints, units, up."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from formats.errors import FormatError
from formats.foreign.joints import canonical_names, names_by_count, numbered, with_pelvis
from formats.foreign.model import F64, T0_SIGMA_US, Clock, Facts, PoseStream
from formats.foreign.pose_clock import (
    CleanTime,
    clean,
    contradiction,
    frame_times,
    iso_us,
    parse_times,
    rate_of,
)
from formats.foreign.pose_frames import RawPose
from formats.foreign.pose_people import follow
from formats.foreign.pose_space import Space, space_of

SYNTHETIC = "the file says that it is synthetic"
ORDINAL = "time unknown: t_us counts frames, give the rate"


@dataclass(frozen=True, slots=True)
class Hints:
    """What a reader knows that its file does not say: rate, space, and how rows without a time are numbered."""

    fps: float | None = None
    fps_source: str = "user"
    units: str | None = None
    up: str | None = None
    time_unit: str | None = None
    depth: bool = True


def build(raw: RawPose, hints: Hints | None = None) -> PoseStream:
    """Turn raw rows into one person's stream.

    Raises:
        FormatError: no row has a usable position or time.
    """
    hints = hints or Hints()
    xyz, confidence = _split_confidence(raw)
    rows, problems, assumptions = follow(raw, xyz)
    assumptions = [*raw.assumptions, *assumptions]
    problems = [*raw.problems, *problems]
    xyz, confidence = xyz[rows], confidence[rows]
    clock, rate, source, notes, faults = _clock(raw, rows, xyz, hints)
    xyz, confidence = xyz[clock.keep], confidence[clock.keep]
    if not len(xyz):
        raise FormatError("no pose with a usable time")
    xyz, confidence, names, named = _names(raw, xyz, confidence)
    flat = bool(np.isnan(xyz[:, :, 2]).all()) or not hints.depth
    space = space_of(xyz[:, :, :2] if flat else xyz, names, _declared_space(raw, hints))
    grades = confidence if np.isfinite(confidence).any() else None
    names, points, grades, added = with_pelvis(names, space.xyz, grades)
    if added:
        assumptions.append("pelvis is the midpoint of the hips")
    if flat and not np.isnan(xyz[:, :, 2]).all():
        assumptions.append("image-relative depth dropped")
    if raw.header.get("synthetic") is True:
        assumptions.append(SYNTHETIC)
    if not named:
        problems.append(f"unknown_joints: {xyz.shape[1]} joints without names")
    empty = int(np.count_nonzero(np.isnan(points).all(axis=(1, 2))))
    if empty:
        problems.append(f"empty_pose: {empty} of {len(points)} poses have no joint")
    return PoseStream(
        t_us=clock.t_us, xyz=points.astype(np.float32), joints=names, units=space.units, up=space.up,
        confidence=None if grades is None else grades.astype(np.float32), rate=rate, rate_source=source,
        clock=clock.clock, problems=(*problems, *clock.problems, *faults),
        assumptions=(*assumptions, *notes, *space.assumptions),
    )  # fmt: skip


def _names(raw: RawPose, xyz: F64, confidence: F64) -> tuple[F64, F64, tuple[str, ...], bool]:
    """Canonical names; joints that are only numbered are put in order and named by their count."""
    names = raw.names
    order = numbered(names) if names else None
    if order is not None:
        xyz, confidence, names = xyz[:, order], confidence[:, order], names_by_count(len(order))
    if names is None:
        return xyz, confidence, tuple(f"point_{i}" for i in range(xyz.shape[1])), False
    return xyz, confidence, canonical_names(names), True


def _split_confidence(raw: RawPose) -> tuple[F64, F64]:
    """Positions and confidences; a third number that can only be a confidence is moved there, (0, 0) is missing."""
    xyz, grades = raw.xyz, raw.confidence
    third = xyz[:, :, 2]
    known = np.isfinite(third)
    if known.any() and not np.isfinite(grades).any():
        inside = bool(np.all((third[known] >= 0) & (third[known] <= 2)))
        size = float(np.nanmax(np.abs(xyz[:, :, :2]), initial=0.0))
        score = (
            inside
            and float(np.nanmax(third)) <= 1.001
            and (size > 20 or raw.key.startswith(("keypoints", "pose_keypoints_2d")))
        )
        if score or (inside and size > 20 and set(np.unique(third[known])) <= {0.0, 1.0, 2.0}):
            xyz, grades = xyz.copy(), third.copy()
            xyz[:, :, 2] = np.nan
    if not np.isfinite(xyz[:, :, 2]).any():
        gone = (xyz[:, :, 0] == 0) & (xyz[:, :, 1] == 0) & ~(grades > 0)
        xyz = np.where(gone[:, :, None], np.nan, xyz)
    elif not np.isfinite(xyz[:, :, 2]).all():
        xyz = np.where(np.isfinite(xyz).all(axis=2, keepdims=True), xyz, np.nan)
    xyz = np.where(np.isfinite(xyz[:, :, :2]).all(axis=2, keepdims=True), xyz, np.nan)
    return xyz, grades


def _clock(
    raw: RawPose, rows: list[int], xyz: F64, hints: Hints
) -> tuple[CleanTime, tuple[int, int] | None, str, list[str], list[str]]:
    """The clean clock, its nominal rate, where the rate is from, assumptions and problems."""
    times = parse_times([raw.time[i] for i in rows], raw.time_key, hints.time_unit)
    declared = header_fps(raw.header)
    wanted = hints.fps or declared
    if not times.valid.any():
        return _rebuilt(raw, rows, xyz, hints, wanted)
    source, sigma = _clock_source(raw.header)
    found = clean(times, xyz.reshape(len(xyz), -1), source if times.absolute else "", sigma)
    notes, faults = list(times.assumptions), []
    if not times.absolute:
        found = CleanTime(found.keep, found.t_us, found.rate, _start_clock(raw.header, sigma), found.problems)
    steps = np.diff(found.t_us)
    implied = 1e6 / float(np.median(steps)) if len(steps) else None
    fault = contradiction(wanted, implied)
    if fault:
        faults.append(fault)
    if found.rate is None:
        return found, rate_of(wanted), "declared" if wanted else "none", notes, faults
    return found, found.rate, "timestamps", notes, faults


def _rebuilt(
    raw: RawPose, rows: list[int], xyz: F64, hints: Hints, fps: float | None
) -> tuple[CleanTime, tuple[int, int] | None, str, list[str], list[str]]:
    numbers = [raw.frame[i] for i in rows]
    index = np.array([raw.frame_of_row[i] for i in rows], np.int64)
    if all(n is not None for n in numbers) and len(set(numbers)) == len(numbers):
        index = np.array(numbers, np.int64)
    index, keep = np.unique(index, return_index=True)
    rate = rate_of(fps)
    t_us = frame_times(index, rate)
    notes = ["time rebuilt from frame number / fps" if rate else ORDINAL]
    faults: list[str] = []
    duration = _header_number(raw.header, ("duration", "duration_s", "duration_sec", "length_s"))
    if rate and duration and fps and abs(len(index) / fps - duration) > max(1.5 / fps, 0.02 * duration):
        faults.append(f"rate_contradiction: declared {fps:g} fps, implied {len(index) / duration:.3g}")
    source = "none" if rate is None else hints.fps_source if hints.fps else "declared"
    if bool((np.diff(keep) < 0).any()):
        faults.append("backward_frames: frame numbers run backwards, frames sorted")
    clean_time = CleanTime(keep, t_us, rate, _start_clock(raw.header, None), ())
    return clean_time, rate, source, notes, faults


def header_fps(header: dict[str, Any]) -> float | None:
    """The frame rate a document declares, None when it declares none."""
    return _header_number(
        header,
        (
            "fps",
            "frame_rate",
            "framerate",
            "rate_hz",
            "sample_rate_hz",
            "sampling_rate",
            "hz",
            "pose_fps",
            "capture_rate",
        ),
    )


def _header_number(header: dict[str, Any], keys: tuple[str, ...]) -> float | None:
    for key in keys:
        value = header.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e9:
            return float(value)
    return None


def _clock_source(header: dict[str, Any]) -> tuple[str, int | None]:
    """`ntp` and the stated sigma in microseconds, where the header has them."""
    ntp = header.get("ntp") is True or header.get("ntp_synced") is True or header.get("clock.ntp") is True
    ntp = ntp or any(
        str(header.get(k, "")).lower() == "ntp" for k in ("clock", "clock_source", "clock.source", "time_source")
    )
    for scale, keys in (
        (1.0, ("clock_sigma_us", "sigma_us", "clock.sigma_us")),
        (1e3, ("clock_sigma_ms", "sigma_ms", "clock.sigma_ms")),
        (1e6, ("clock_sigma_s", "sigma_s", "clock.sigma_s")),
    ):
        sigma = _header_number(header, keys)
        if sigma is not None:
            return "ntp" if ntp else "", max(1, round(sigma * scale))
    return "ntp" if ntp else "", None


def _start_clock(header: dict[str, Any], sigma: int | None) -> Clock:
    """The clock of relative times: the start the document states, else none."""
    for key in (
        "t0_utc_us",
        "t0_utc",
        "t0",
        "start_utc",
        "start_time",
        "started_at",
        "start",
        "recorded_at",
        "recording_start",
    ):
        value = header.get(key)
        if isinstance(value, str):
            found = iso_us(value)
            if found is not None and found[0] > 1e14:
                return Clock(found[0], "metadata", sigma or T0_SIGMA_US["metadata"], found[1])
        times = parse_times([value], key) if isinstance(value, int | float) and value > 1e8 else None
        if times is not None and times.absolute:
            return Clock(int(times.us[0]), "metadata", sigma or T0_SIGMA_US["metadata"])
    return Clock()


def _declared_space(raw: RawPose, hints: Hints) -> Space | None:
    units = hints.units or next(
        (str(raw.header[k]).lower() for k in ("units", "unit", "length_unit", "position_unit") if k in raw.header), None
    )
    up = hints.up or next((str(raw.header[k]).lower() for k in ("up", "up_axis", "upaxis") if k in raw.header), None)
    return Space(raw.xyz, units or "", up or "", ()) if units or up else None


def stream_facts(stream: PoseStream, kind: str, format_name: str, meta: dict[str, Any] | None = None) -> Facts:
    """What `discover` records of a stream already read."""
    n = len(stream.t_us)
    timed = stream.rate is not None or (stream.rate_source == "timestamps" and n > 1)
    span = int(stream.t_us[-1]) if n else 0
    period = round(1e6 * stream.rate[1] / stream.rate[0]) if stream.rate else 0
    missing = float(np.isnan(stream.xyz).any(axis=2).mean()) if stream.xyz.size else 0.0
    counted = Counter(p.split(":", 1)[0] for p in stream.problems)
    return Facts(
        kind, format_name, n=n, rate=stream.rate, duration_us=span + period if timed else None,
        channels=len(stream.joints), clock=stream.clock, problems=stream.problems,
        meta={
            "joints": len(stream.joints), "dims": int(stream.xyz.shape[2]), "units": stream.units, "up": stream.up,
            "fps_source": stream.rate_source, "missing_fraction": round(missing, 6),
            "assumptions": list(stream.assumptions), "problem_codes": sorted(counted),
            **({"synthetic": True} if SYNTHETIC in stream.assumptions else {}), **(meta or {}),
        },
    )  # fmt: skip
