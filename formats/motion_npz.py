"""A choreo25 clip in one NPZ file: 25 channels a frame, and the header without which they mean nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from formats.columns import Column, Table
from formats.errors import FormatError
from formats.npz_guard import npz_keys
from formats.sealed_npz import PROVENANCE, is_sealed, object_member, pack, text_member, unpack

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

LAYOUT, LAYOUT_VERSION = "choreo25", 1
SKELETON_SIZE = 58
_f32 = "float32"
_PI = math.pi

CHANNELS: tuple[Column, ...] = (
    Column("vx", _f32, "m/s", -6, 6, doc="root velocity to the left, from this frame to the next, heading frame"),
    Column("vz", _f32, "m/s", -6, 6, doc="root velocity forward"),
    Column("h", _f32, "m", 0, 2.5, doc="height of the pelvis"),
    Column("w", _f32, "rad/s", -15, 15, doc="yaw rate, from this frame to the next"),
    Column("contact_l", _f32, "1", 0, 1, doc="left foot on the floor: 0 or 1 from data, a probability from a model"),
    Column("contact_r", _f32, "1", 0, 1, doc="right foot on the floor"),
    Column("pitch", _f32, "rad", -_PI / 2, _PI / 2, doc="pelvis about x"),
    Column("roll", _f32, "rad", -_PI / 2, _PI / 2, doc="pelvis about z"),
    Column("chest_x", _f32, "rad", -1.6, 1.6, doc="chest relative to the pelvis, rotation vector"),
    Column("chest_y", _f32, "rad", -1.6, 1.6, doc="its y"),
    Column("chest_z", _f32, "rad", -1.6, 1.6, doc="its z; the vector's norm is at most 1.6"),
    Column("wrist_l_x", _f32, "arm length", -1, 1, doc="left wrist from the decoded shoulder, chest frame"),
    Column("wrist_l_y", _f32, "arm length", -1, 1, doc="its y"),
    Column("wrist_l_z", _f32, "arm length", -1, 1, doc="its z; norm at most 1"),
    Column("swivel_l", _f32, "rad", -_PI, _PI, doc="left elbow about the line from shoulder to wrist, wraps"),
    Column("wrist_r_x", _f32, "arm length", -1, 1, doc="right wrist"),
    Column("wrist_r_y", _f32, "arm length", -1, 1, doc="its y"),
    Column("wrist_r_z", _f32, "arm length", -1, 1, doc="its z"),
    Column("swivel_r", _f32, "rad", -_PI, _PI, doc="right elbow"),
    Column("ankle_l_x", _f32, "leg length", -1.25, 1.25, doc="left ankle from the root, heading frame"),
    Column("ankle_l_y", _f32, "leg length", -1.25, 1.25, doc="its y"),
    Column("ankle_l_z", _f32, "leg length", -1.25, 1.25, doc="its z; norm at most 1.25"),
    Column("ankle_r_x", _f32, "leg length", -1.25, 1.25, doc="right ankle"),
    Column("ankle_r_y", _f32, "leg length", -1.25, 1.25, doc="its y"),
    Column("ankle_r_z", _f32, "leg length", -1.25, 1.25, doc="its z"),
)
# Vectors among the channels and the norm each may have.
NORMS: tuple[tuple[slice, float], ...] = (
    (slice(8, 11), 1.6), (slice(11, 14), 1.0), (slice(15, 18), 1.0), (slice(19, 22), 1.25), (slice(22, 25), 1.25),
)  # fmt: skip

CHOREO25 = Table(
    "choreo.choreo25/1",
    "The 25 channels of a motion clip, version 1, in order. Ranges are hard: what a generator emits is clamped to them "
    "before it is decoded, what an encoder measured beyond them is kept and counted. Root velocities are summed from "
    "frame to frame; ankles are measured from the root, so that a planted foot is linear in the channels.",
    CHANNELS,
)
MOTION_NPZ = Table(
    "choreo.motion_npz/1",
    "One motion clip in the choreo25 layout as a NumPy archive: channels and the header that decodes them.",
    (
        Column("channels", "float32[T,25]", doc="every frame; names, units and ranges in choreo-choreo25(5)"),
        Column("layout_version", "int32", "", 1, doc="readers refuse one they do not know"),
        Column("fps", "float64", "Hz", 0.01, 10_000, doc="frame rate"),
        Column("yaw0", "float64", "rad", -1e6, 1e6, doc="heading of the first frame; 0 faces +z"),
        Column("x0", "float64", "m", -1e6, 1e6, doc="pelvis of the first frame"),
        Column("z0", "float64", "m", -1e6, 1e6, doc="pelvis of the first frame"),
        Column("height_m", "float64", "m", 0, 100, doc="stature by the length of the legs"),
        Column("scale_applied", "float64", "1", 0, doc="factor the source was multiplied by, beyond units"),
        Column("op", "float64[3,3]", "m", -100, 100, doc="left hip, right hip, spine1 from the pelvis, pelvis frame"),
        Column("o6", "float64[3]", "m", -100, 100, doc="spine2 from spine1"),
        Column("o9", "float64[3]", "m", -100, 100, doc="chest from spine2"),
        Column("oc", "float64[5,3]", "m", -100, 100, doc="neck, collars, shoulders from the chest, chest frame"),
        Column("o15", "float64[3]", "m", -100, 100, doc="head from the neck"),
        Column("upper_arm", "float64[2]", "m", 0, 100, doc="left, right"),
        Column("forearm", "float64[2]", "m", 0, 100, doc="left, right"),
        Column("thigh", "float64[2]", "m", 0, 100, doc="left, right"),
        Column("shank", "float64[2]", "m", 0, 100, doc="left, right"),
        Column("foot", "float64[2]", "m", 0, 100, doc="ankle to toe"),
        Column("kb", "float64", "1", -10, 10, doc="knee bias: how far outward knees point"),
        Column("ank0", "float64[2]", "m", -100, 100, doc="height of a resting ankle"),
        Column("toe_a", "float64[2,3]", "foot length", -10, 10, doc="toe in the frame that rides on the shin"),
        Column("toe_b", "float64[2,3]", "foot length", -10, 10, doc="toe in the flat frame"),
        Column("header.json", "json", doc="layout, units, up, source, licence, origin, flags"),
    ),
)
_SEAL = b"choreo.motion_npz/1 sha256:"
_JSON_FIELDS = ("layout", "units", "up", "source", "licence", "origin", "flags")


@dataclass(frozen=True, slots=True)
class Skeleton:
    """Offsets and lengths of one body in metres; 58 numbers (motion.md section 7).

    Args:
        op: (3, 3) left hip, right hip, spine1 from the pelvis.
        o6, o9: (3,) spine2 from spine1, chest from spine2.
        oc: (5, 3) neck, left and right collar, left and right shoulder from the chest.
        o15: (3,) head from the neck.
        upper_arm, forearm, thigh, shank, foot: (2,) left, right.
        kb: Knee bias.
        ank0: (2,) height of a resting ankle.
        toe_a, toe_b: (2, 3) toe in the shin frame and in the flat frame, foot lengths.
    """

    op: F64
    o6: F64
    o9: F64
    oc: F64
    o15: F64
    upper_arm: F64
    forearm: F64
    thigh: F64
    shank: F64
    foot: F64
    kb: float
    ank0: F64
    toe_a: F64
    toe_b: F64

    def to_vector(self) -> F64:
        """All of it in field order: (58,) float64."""
        return np.concatenate([np.asarray(getattr(self, f.name), np.float64).reshape(-1) for f in fields(self)])

    @classmethod
    def of_vector(cls, vector: NDArray[Any]) -> Skeleton:
        """The reverse of `to_vector`. Raises FormatError for another size."""
        flat = np.asarray(vector, np.float64).reshape(-1)
        if flat.size != SKELETON_SIZE:
            raise FormatError(f"a skeleton of {flat.size} numbers, {SKELETON_SIZE} are needed")
        found: dict[str, Any] = {}
        at = 0
        for name, shape in SKELETON_SHAPES.items():
            n = math.prod(shape)
            found[name] = flat[at : at + n].reshape(shape).copy() if shape else float(flat[at])
            at += n
        return cls(**found)


SKELETON_SHAPES: dict[str, tuple[int, ...]] = {
    c.name: tuple(int(n) for n in c.dtype.partition("[")[2].rstrip("]").split(",") if n)
    for c in MOTION_NPZ.columns
    if c.name in {f.name for f in fields(Skeleton)}
}


@dataclass(frozen=True, slots=True)
class Header:
    """What the channels need to become a body again.

    Args:
        fps: Frame rate, Hz.
        skeleton: The body.
        yaw0, x0, z0: Heading (rad) and pelvis (m) of the first frame.
        height_m: Stature by the length of the legs.
        scale_applied: Factor the source was multiplied by, beyond units.
        source: Format, rig family, path hash, original fps.
        licence: Terms of the source, None when unknown.
        origin: Who made it, None when unknown.
        flags: Validity: `inverted`, `updot`, `filled`...
    """

    fps: float
    skeleton: Skeleton
    yaw0: float = 0.0
    x0: float = 0.0
    z0: float = 0.0
    height_m: float = 1.70
    scale_applied: float = 1.0
    source: dict[str, Any] = field(default_factory=dict)
    licence: str | None = None
    origin: str | None = None
    flags: dict[str, Any] = field(default_factory=dict)
    units: str = "m"
    up: str = "y"
    layout: str = LAYOUT
    layout_version: int = LAYOUT_VERSION


@dataclass(frozen=True, slots=True)
class MotionClip:
    """A clip: (T, 25) float32 channels in the order of `CHANNELS`, and their header."""

    channels: F32
    header: Header
    created_by: dict[str, Any] = field(default_factory=dict)


def encode(clip: MotionClip, created_by: Mapping[str, Any] | None = None) -> bytes:
    """Build the file: stored members in the table's order, a fixed date, a sha256 of all of it as its comment.

    Raises:
        FormatError: a shape, bound or type that breaks the table.
    """
    h = clip.header
    arrays: dict[str, Any] = {
        "channels": clip.channels,
        **{n: getattr(h, n) for n in ("layout_version", "fps", "yaw0", "x0", "z0", "height_m", "scale_applied")},
        **{name: getattr(h.skeleton, name) for name in SKELETON_SHAPES},
        "header.json": text_member({n: getattr(h, n) for n in _JSON_FIELDS}, "header.json"),
    }
    checked = check(arrays)
    checked[PROVENANCE] = text_member(created_by if created_by is not None else clip.created_by, PROVENANCE)
    return pack(checked, _SEAL)


def write(path: str | Path, clip: MotionClip, created_by: Mapping[str, Any] | None = None) -> str:
    """Write the file whole or not at all; returns its sha256. Raises FormatError as `encode`."""
    from formats import atomic

    return atomic.write_bytes(path, encode(clip, created_by))


def is_motion(data: bytes) -> bool:
    """Whether the bytes (all of them, or the last 4 KiB) claim to be a motion clip of ours."""
    return _SEAL in data[-256:]


def read(path: str | Path) -> MotionClip:
    """Read and verify a clip. Raises FormatError as `decode`, OSError as the system reports it."""
    from formats.foreign.source import Source

    return decode(Source.of(Path(path)).read_bytes(), file=path)


def decode(data: bytes, *, file: str | Path | None = None) -> MotionClip:
    """Read a clip and verify its digest.

    Raises:
        FormatError: not a clip, any byte differs from what was written, an unknown layout, or the table is broken.
    """
    if not is_sealed(data, _SEAL):
        _refuse_stranger(data, file)
    arrays = unpack(data, _SEAL, file=file)
    _known_layout(arrays, file)
    made = object_member(arrays.pop(PROVENANCE, None), PROVENANCE, file)
    told = object_member(arrays.get("header.json"), "header.json", file)
    _texts(told, file)
    checked = check(arrays, file=file)
    bones: dict[str, Any] = {n: checked[n] if shape else float(checked[n]) for n, shape in SKELETON_SHAPES.items()}
    skeleton = Skeleton(**bones)
    numbers: dict[str, Any] = {n: float(checked[n]) for n in ("fps", "yaw0", "x0", "z0", "height_m", "scale_applied")}
    return MotionClip(checked["channels"], Header(skeleton=skeleton, **numbers, **told), made)


def _refuse_stranger(data: bytes, file: str | Path | None) -> None:
    """Say what is wrong with a file without our seal: cut, or never ours."""
    keys = npz_keys(data, file=file) if data[:4] == b"PK\x03\x04" else ()
    if PROVENANCE in keys or not keys:
        raise FormatError("the sha256 at its end is missing: the file is cut or damaged", file=file)
    raise FormatError(
        f"arrays without a choreo25 header ({', '.join(keys[:4])}): bare channels cannot be decoded", file=file,
        hint="choreo retarget FILE --map MAP -o DIR",
    )  # fmt: skip


def _known_layout(arrays: Mapping[str, NDArray[Any]], file: str | Path | None) -> None:
    version = arrays.get("layout_version")
    if version is None or version.shape != () or version.dtype.kind not in "iu":
        raise FormatError("no whole number", file=file, field="layout_version")
    if int(version) != LAYOUT_VERSION:
        hint = "update choreo" if int(version) > LAYOUT_VERSION else ""
        raise FormatError(
            f"{int(version)} is not known, {LAYOUT_VERSION} is", file=file, field="layout_version", hint=hint
        )


def _texts(told: dict[str, Any], file: str | Path | None) -> None:
    odd = sorted(set(told) ^ set(_JSON_FIELDS))
    if odd:
        raise FormatError(f"{odd[0]!r} is {'unknown' if odd[0] in told else 'missing'}", file=file, field="header.json")
    for name, wanted in (("layout", LAYOUT), ("units", "m"), ("up", "y")):
        if told[name] != wanted:
            raise FormatError(f"{name} is {told[name]!r}, not {wanted!r}", file=file, field="header.json")
    for name in ("source", "flags"):
        if not isinstance(told[name], dict):
            raise FormatError(f"{name} is not an object", file=file, field="header.json")
    for name in ("licence", "origin"):
        if told[name] is not None and not isinstance(told[name], str):
            raise FormatError(f"{name} is neither text nor null", file=file, field="header.json")


def check(arrays: Mapping[str, Any], *, file: str | Path | None = None) -> dict[str, NDArray[Any]]:
    """Hold arrays against the table: keys, types, shapes, bounds, finiteness.

    Channels outside their hard range are legal in a file (`out_of_range` counts them): an encoder keeps what was
    measured, a generator clamps before it decodes.

    Returns:
        The arrays in the table's order, contiguous.

    Raises:
        FormatError: the first key that does not fit.
    """
    odd = sorted(set(arrays) ^ set(MOTION_NPZ.names))
    if odd:
        raise FormatError("missing" if odd[0] not in arrays else "unknown key", file=file, field=odd[0])
    found: dict[str, NDArray[Any]] = {}
    for column in MOTION_NPZ.columns:
        base, _, shape = column.dtype.rstrip("]").partition("[")
        wanted = [None if n == "T" else int(n) for n in shape.split(",")] if shape else []
        if base == "json":
            base, wanted = "uint8", [None]
        array = np.asarray(arrays[column.name])
        if array.dtype.kind not in ("iu" if base[0] in "iu" else "fiu"):
            raise FormatError(f"{array.dtype} values, needs {column.dtype}", file=file, field=column.name)
        if array.ndim != len(wanted) or any(w not in (None, n) for w, n in zip(wanted, array.shape, strict=True)):
            raise FormatError(f"shape {array.shape}, needs {column.dtype}", file=file, field=column.name)
        with np.errstate(over="ignore"):
            array = np.asarray(array, np.dtype(base), order="C")
        _bounds(column, array, file)
        found[column.name] = array
    if not len(found["channels"]):
        raise FormatError("no frames", file=file, field="channels")
    if float(found["scale_applied"]) <= 0:
        raise FormatError("not above 0", file=file, field="scale_applied")
    return found


def _bounds(column: Column, array: NDArray[Any], file: str | Path | None) -> None:
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = int((~np.isfinite(array)).sum())
        raise FormatError(f"{bad} values are not finite", file=file, field=column.name)
    low, high = column.lo, column.hi
    if array.size and ((low is not None and array.min() < low) or (high is not None and array.max() > high)):
        raise FormatError(f"values outside {low}..{'' if high is None else high}", file=file, field=column.name)


def out_of_range(channels: NDArray[Any]) -> dict[str, int]:
    """How many values of each channel, and of each vector by its norm, lie outside the hard range.

    Args:
        channels: (..., 25). A value counts when it is beyond its bound by more than a millionth of it.

    Returns:
        Counts above 0 by channel name, or by the first channel's name and `norm`.
    """
    c = np.asarray(channels, np.float64).reshape(-1, 25)
    found: dict[str, int] = {}
    for k, column in enumerate(CHANNELS):
        assert column.lo is not None and column.hi is not None
        slack = 1e-6 * max(1.0, abs(column.hi))
        n = int(((c[:, k] < column.lo - slack) | (c[:, k] > column.hi + slack)).sum())
        if n:
            found[column.name] = n
    for part, most in NORMS:
        n = int((np.sqrt((c[:, part] ** 2).sum(1)) > most * (1 + 1e-6)).sum())
        if n:
            found[f"{CHANNELS[part.start].name.rpartition('_')[0]}_norm"] = n
    return found
