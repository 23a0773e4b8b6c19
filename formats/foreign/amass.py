"""AMASS archives in both key layouts, and SMPL arrays in an NPZ, on a body of our own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from formats.errors import FormatError
from formats.foreign.body import FLOOR_SAID
from formats.foreign.guard import contained
from formats.foreign.joint_arrays import FLOOR, stands_at_zero
from formats.foreign.model import F64, Facts, PoseStream
from formats.foreign.pose_clock import rate_of
from formats.foreign.registry import Reader
from formats.foreign.smpl import motion_facts, smpl_stream
from formats.foreign.smpl_body import body_of, forward
from formats.foreign.source import Source
from formats.npz_guard import BUDGET_BYTES, npz_keys, read_npz

_FIRST = (
    b"poses.npy", b"trans.npy", b"betas.npy", b"dmpls.npy", b"mocap_frame", b"root_orient.npy", b"pose_body.npy",
    b"smpl_poses.npy", b"smpl_trans.npy", b"surface_model_type.npy", b"pose_hand.npy",
)  # fmt: skip
_RATES = ("mocap_framerate", "mocap_frame_rate", "fps")
_WANTED = {"poses", "trans", "root_orient", "pose_body", "smpl_poses", "smpl_trans", FLOOR, *_RATES}
_BODY_COLUMNS = 66


def _columns(arrays: dict[str, NDArray[Any]], key: str, file: Path) -> F64:
    value = arrays[key]
    if value.dtype.kind not in "fiu" or value.ndim < 2 or not len(value):
        raise FormatError(f"{value.dtype} of shape {value.shape} is no pose over time", file=file, field=key)
    return np.asarray(value.reshape(len(value), -1), np.float64)


def _poses(arrays: dict[str, NDArray[Any]], file: Path) -> tuple[F64, str]:
    """(T, 22, 3) rotation vectors, the root's first, and which layout they came in."""
    for key in ("poses", "smpl_poses"):
        if key in arrays:
            found = _columns(arrays, key, file)
            if found.shape[1] < _BODY_COLUMNS or found.shape[1] % 3:
                raise FormatError(f"{found.shape[1]} columns, 66 or more are needed", file=file, field=key)
            return found[:, :_BODY_COLUMNS].reshape(-1, 22, 3), f"{key} ({found.shape[1]} columns)"
    if "root_orient" not in arrays or "pose_body" not in arrays:
        raise FormatError("neither 'poses' nor 'root_orient' with 'pose_body'", file=file)
    root, rest = _columns(arrays, "root_orient", file), _columns(arrays, "pose_body", file)
    if root.shape[1] != 3 or rest.shape[1] != 63 or len(root) != len(rest):
        raise FormatError(f"root_orient {root.shape} and pose_body {rest.shape} do not fit", file=file)
    return np.concatenate([root, rest], axis=1).reshape(-1, 22, 3), "root_orient and pose_body"


def _rate(arrays: dict[str, NDArray[Any]], file: Path) -> tuple[int, int] | None:
    for key in _RATES:
        if key in arrays:
            value = arrays[key]
            if value.size != 1 or value.dtype.kind not in "fiu" or rate_of(float(value.reshape(-1)[0])) is None:
                raise FormatError("is no frame rate", file=file, field=key, hint="give one with --fps")
            return rate_of(float(value.reshape(-1)[0]))
    return None


@contained
def _read(source: Source, fps: float | None, body: str | Path | None, height: float | None) -> PoseStream:
    arrays = read_npz(source.read_bytes(BUDGET_BYTES), file=source.path, want=_WANTED.__contains__)
    poses, layout = _poses(arrays, source.path)
    key = next((k for k in ("trans", "smpl_trans") if k in arrays), None)
    if key is None:
        raise FormatError("no 'trans': the path of the root is missing", file=source.path)
    trans = _columns(arrays, key, source.path)
    if trans.shape != (len(poses), 3):
        raise FormatError(f"trans {trans.shape} does not fit {len(poses)} poses", file=source.path, field=key)
    rate = rate_of(fps) or _rate(arrays, source.path)
    origin = "user" if rate_of(fps) else "header" if rate else "none"
    poses, trans, faults = _finite(poses, trans)
    offsets, said = body_of(body, height)
    notes = [f"rotations from {layout}", said]
    known = body is not None and stands_at_zero(arrays)  # another body's feet are elsewhere
    notes += [FLOOR_SAID] if known else []
    return smpl_stream(forward(poses, trans, offsets), rate, origin, notes, faults, ("+z", "+y"), floor_known=known)


def _finite(poses: F64, trans: F64) -> tuple[F64, F64, tuple[str, ...]]:
    """Frames with a number missing are missing whole: no joint of them can be placed."""
    bad = ~(np.isfinite(poses).all(axis=(1, 2)) & np.isfinite(trans).all(axis=1))
    if not bad.any():
        return poses, trans, ()
    poses, trans = poses.copy(), trans.copy()
    poses[bad], trans[bad] = 0.0, np.nan
    return poses, trans, (f"nan: {int(bad.sum())} frames hold numbers that are not finite",)


def read(
    source: Source, fps: float | None = None, *, body: str | Path | None = None, height: float | None = None
) -> PoseStream:
    """Read an AMASS archive as the 22 canonical joints in metres, y up; shapes (`betas`) are not used.

    Args:
        source: The NPZ, either layout; objects in it are refused.
        fps: Overrides the archive's rate.
        body: File of joint offsets (`smpl_body.load_body`), the canonical skeleton without.
        height: Stature of the canonical skeleton in metres, 1.70 without.

    Raises:
        FormatError: damaged, or its arrays do not fit.
    """
    stream: PoseStream = _read(source, fps, body, height)
    return stream


def facts(source: Source) -> Facts:
    """The facts of an archive of SMPL arrays; shape parameters alone are not a motion."""
    keys = npz_keys(source.read_bytes(BUDGET_BYTES), file=source.path)
    if not {"poses", "pose_body", "smpl_poses"} & set(keys):
        return Facts("other", "npz", reason="arrays of no kind that is read", meta={"keys": sorted(keys)[:64]})
    return motion_facts(read(source), "smpl-npz", {"rig": "smpl", "keys": sorted(keys)[:64]})


def sniff(head: bytes, name: str, size: int) -> bool:
    """A zip whose first members are SMPL arrays."""
    if head[:4] != b"PK\x03\x04":
        return False
    first = head[30 : 30 + int.from_bytes(head[26:28], "little")]
    return any(first.startswith(word) for word in _FIRST) or (
        first in (b"gender.npy", b"markers.npy", b"gender", b"fps.npy") and any(w in head for w in _FIRST)
    )


READERS: tuple[Reader, ...] = (Reader("smpl-npz", "motion", sniff, facts, read, 20),)
