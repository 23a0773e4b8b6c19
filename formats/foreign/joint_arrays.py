"""Plain arrays of joints over time (.npy, .npz): 22 or 24 in SMPL's order; another layout only through a map."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from formats.errors import FormatError
from formats.foreign.body import FLOOR_SAID, Scaling, finish, known_points
from formats.foreign.guard import contained
from formats.foreign.joints import CANONICAL
from formats.foreign.model import F64, Facts, PoseStream
from formats.foreign.npy import load_array, npy_header
from formats.foreign.pose_clock import frame_times, rate_of
from formats.foreign.registry import Reader
from formats.foreign.smpl import motion_facts
from formats.foreign.source import Source
from formats.npz_guard import BUDGET_BYTES, member_names, npz_keys, read_npz

KEYS = ("joints", "xyz", "positions", "joints3d", "keypoints3d", "motion")
RATES = ("fps", "mocap_framerate", "mocap_frame_rate", "frame_rate", "framerate")
FLOOR = "floor_m"
KNOWN = (22, 24)
CHANNELS = 25
_JOINTS = (17, 18, 21, 22, 24, 25, 33, 52, 55)
NO_RATE = "time unknown: t_us counts frames, give the rate"


def refused(shape: tuple[int, ...]) -> str:
    """The sentence for a layout that nothing says the meaning of."""
    what = "25 numbers a frame" if len(shape) == 2 else f"{shape[1]} points a frame"
    return f"{what} of a layout that the file does not say: name it with --map FILE (man 7 choreo-data)"


def as_joints(array: F64) -> F64 | None:
    """(T, 22, 3) of an array in SMPL's order of 22 or 24 joints, else None; (1, T, J, 3) and (J, 3, T) are unfolded."""
    if array.ndim == 4 and array.shape[0] == 1:
        array = array[0]
    if array.ndim == 3 and array.shape[2] != 3 and array.shape[1] == 3 and array.shape[0] in KNOWN:
        array = array.transpose(2, 0, 1)
    if array.ndim != 3 or array.shape[1] not in KNOWN or array.shape[2] != 3 or not len(array):
        return None
    return np.asarray(array[:, :22], np.float64)


def stands_at_zero(arrays: Mapping[str, NDArray[Any]]) -> bool:
    """Whether an archive says that its floor lies at 0, as those of `choreo retarget` do."""
    value = arrays.get(FLOOR)
    return value is not None and value.size == 1 and value.dtype.kind in "fiu" and not value.any()


def array_of(source: Source, member: str | None = None) -> tuple[F64, float | None]:
    """The array of a .npy or .npz as float64, and the frame rate an archive states.

    Args:
        source: The file.
        member: Which array of an archive; without it the one that can only be meant.

    Raises:
        FormatError: damaged, no numbers, or no such array.
    """
    if source.head[:6] == b"\x93NUMPY":
        return load_array(source), None
    data = source.read_bytes(BUDGET_BYTES)
    keys = npz_keys(data, file=source.path)
    if member is not None and member not in keys:
        raise FormatError(f"no array {member!r}", file=source.path, hint=f"it has {', '.join(sorted(keys)[:8])}")
    name = member or next((k for k in KEYS if k in keys), keys[0])
    arrays = read_npz(data, file=source.path, want={name, *RATES}.__contains__)
    found = arrays[name]
    if found.dtype.kind not in "fiu":
        raise FormatError("holds no numbers", file=source.path, field=name)
    return np.asarray(found, np.float64), _stated(arrays)


def _stated(arrays: dict[str, NDArray[Any]]) -> float | None:
    for key in RATES:
        value = arrays.get(key)
        if value is not None and value.size == 1 and value.dtype.kind in "fiu" and rate_of(float(value.reshape(-1)[0])):
            return float(value.reshape(-1)[0])
    return None


@contained
def _read(source: Source, fps: float | None, scaling: Scaling) -> PoseStream:
    array, stated = array_of(source)
    joints = as_joints(array)
    if joints is None:
        raise FormatError(refused(array.shape) if array.ndim in (2, 3) else f"shape {array.shape}", file=source.path)
    rate = rate_of(fps) or rate_of(stated)
    origin = "user" if rate_of(fps) else "header" if rate else "none"
    joints = known_points(joints)
    known = source.head[:2] == b"PK" and stands_at_zero(
        read_npz(source.read_bytes(BUDGET_BYTES), file=source.path, want={FLOOR}.__contains__)
    )
    hz = rate[0] / rate[1] if rate else None
    body = finish(joints, scaling, hz, ups=("+y", "+z", "-y", "-z"), grounded=not known)
    bad = int(np.isnan(joints).any(axis=(1, 2)).sum())
    faults = (f"nan: {bad} frames hold joints that are not finite",) if bad else ()
    order = [f"{array.shape[-2]} joints taken in SMPL's order", *([FLOOR_SAID] if known else [])]
    return PoseStream(
        t_us=frame_times(np.arange(len(joints), dtype=np.int64), rate), xyz=body.xyz.astype(np.float32),
        joints=CANONICAL, units="m", up="+y", rate=rate, rate_source=origin, problems=(*faults, *body.problems),
        assumptions=(*order, "time rebuilt from i/fps" if rate else NO_RATE, *body.notes),
    )  # fmt: skip


def read(
    source: Source, fps: float | None = None, *, scale: float | None = None, height: float | None = None
) -> PoseStream:
    """Read (T, 22, 3) or (T, 24, 3) joints in SMPL's order as the 22 canonical joints in metres, y up.

    Args:
        source: A .npy, or a .npz with `joints` and, where known, `fps`.
        fps: Frames per second; a .npy does not say its own.
        scale: Metres per source unit, instead of a guess from the skeleton's height.
        height: Stature in metres, instead of a guess.

    Raises:
        FormatError: another layout, or damaged.
    """
    stream: PoseStream = _read(source, fps, Scaling(scale, height))
    return stream


def facts(source: Source) -> Facts:
    """Joints, or the reason why an array of motion cannot be read as it is."""
    found = npy_header(source.head)
    if found is not None and not (len(found[2]) == 3 and found[2][1] in KNOWN and found[2][2] == 3):
        shape = found[2]
        name = "channels-npy" if len(shape) == 2 else "joints-npy"
        return Facts("motion", name, n=shape[0], reason=refused(shape), meta={"shape": list(shape)})
    name = "joints-npy" if found is not None else "joints-npz"
    if found is None:
        array, _ = array_of(source)
        if as_joints(array) is None:
            why = refused(array.shape) if array.ndim in (2, 3) else f"an array of shape {array.shape} is no motion"
            return Facts("motion", name, n=len(array) if array.ndim else None, reason=why,
                         meta={"shape": list(array.shape)})  # fmt: skip
    return motion_facts(read(source), name, {"rig": "smpl"})


def sniff_npy(head: bytes, name: str, size: int) -> bool:
    """Arrays (T, joints, 3), and (T, 25), whose meaning a map must say."""
    found = npy_header(head)
    shape = found[2] if found else ()
    return (len(shape) == 3 and shape[2] == 3 and shape[1] in _JOINTS) or (len(shape) == 2 and shape[1] == CHANNELS)


def sniff_npz(head: bytes, name: str, size: int) -> bool:
    """An archive whose first members hold joints."""
    if head[:4] != b"PK\x03\x04":
        return False
    keys = {n.removesuffix(".npy").lower() for n in member_names(head)}
    return bool(keys & set(KEYS)) and not keys & {"poses", "pose_body", "trans", "mel", "tempo"}


READERS: tuple[Reader, ...] = (
    Reader("joints-npy", "motion", sniff_npy, facts, read, 22),
    Reader("joints-npz", "motion", sniff_npz, facts, read, 22),
)
