"""Recordings of a body and of a heart as sources, in any format that `discover` reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from choreo_cli.errors import UsageError
from choreo_cli.live.replay import Replay
from choreo_cli.live.sample import Body
from choreo_cli.motion.resample import MIN_POSE_FPS, native_period_us
from formats.errors import FormatError
from formats.foreign.model import PoseStream, Series
from formats.foreign.pose_build import SYNTHETIC
from formats.foreign.registry import Reader
from formats.foreign.source import Source as File


def body_file(path: Path, reader: Reader, *, name: str | None = None) -> Replay:
    """Poses, heart rate or accelerations of a recording.

    Args:
        path: The file.
        reader: Who reads it, from `registry.recognise`.
        name: As it was named on the command line.

    Raises:
        FormatError: damaged, without times, or empty.
        UsageError: it holds nothing that can be played.
    """
    found = reader.read(File.of(path)) if reader.read is not None else None
    if isinstance(found, PoseStream):
        return poses(found, path, name=name)
    if isinstance(found, Series):
        return series(found, path, name=name)
    raise UsageError(f"{path} is {reader.format}, which cannot be played", hint="need frames, poses, heart rate, sound")


def poses_table(path: Path, *, name: str | None = None) -> Replay:
    """Poses of a `choreo.poses/1` Parquet. Raises FormatError."""
    from formats import poses as table
    from formats.tables import read_table

    return poses(table.stream(read_table(path, table.POSES)), path, name=name)


def poses(stream: PoseStream, path: Path, *, name: str | None = None) -> Replay:
    """A pose stream as a source, at its own times.

    Raises:
        FormatError: no pose in it, or neither times nor a rate.
    """
    if not len(stream.t_us):
        raise FormatError("no pose in it", file=path)
    if stream.rate_source == "none" and len(stream.t_us) > 1:
        raise FormatError("holds no times and no rate", file=path, hint="give one with choreo discover --fps")
    period = native_period_us(stream.t_us)
    fps = 1e6 / period if np.isfinite(period) and period > 0 else 0.0
    dims = stream.xyz.shape[2]
    lines = [f"playing {path}: {len(stream.t_us)} poses of {len(stream.joints)} joints at {fps:.3g} fps, {dims}-D"]
    if fps < MIN_POSE_FPS:
        lines.append(f"{fps:.2g} poses a second are too few for motion (need {MIN_POSE_FPS:g}): it stays masked")
    body = Body(stream.joints, dims, stream.up, stream.units)
    return Replay(
        name or str(path), "pose", stream.t_us, stream.xyz, body=body, lines=[*lines, *stream.assumptions],
        period_us=period if np.isfinite(period) else None, synthetic=SYNTHETIC in stream.assumptions,
    )  # fmt: skip


def series(found: Series, path: Path, *, name: str | None = None) -> Replay:
    """Heart rate, or three axes of acceleration, as a source.

    Raises:
        UsageError: the recording holds neither.
    """
    names = list(found.names)
    if "hr" in names:
        column = found.values[:, [names.index("hr")]]
        real = np.isfinite(column[:, 0])
        lines = [f"playing {path}: {int(real.sum())} readings of heart rate"]
        return Replay(name or str(path), "hr", found.t_us[real], column[real], lines=lines)
    axes = [names.index(n) for n in ("acc_x", "acc_y", "acc_z") if n in names]
    if len(axes) == 3:
        factor = acceleration_factor(found.units[axes[0]], path)
        period = native_period_us(found.t_us)
        lines = [f"playing {path}: {len(found.t_us)} accelerations at {1e6 / period:.3g} Hz"]
        values = (found.values[:, axes] * factor).astype(np.float32)
        return Replay(name or str(path), "accel", found.t_us, values, lines=lines, period_us=period)
    raise UsageError(
        f"{path} holds {', '.join(names)}, which cannot be played", hint="need poses, hr or acc_x acc_y acc_z"
    )


def acceleration_factor(unit: str, path: Path) -> np.float32:
    """Metres per second squared in one unit of a recording.

    Raises:
        FormatError: a unit that is not known; a guess is refused.
    """
    known = {"m/s^2": 1.0, "m/s2": 1.0, "g": 9.80665, "G": 9.80665, "mg": 9.80665e-3, "1/64 g": 9.80665 / 64}
    if unit not in known:
        raise FormatError(f"acceleration in {unit or 'no unit'}, need m/s^2 or g", file=path)
    return np.float32(known[unit])
