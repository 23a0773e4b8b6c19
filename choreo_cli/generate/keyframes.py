"""Frames that a dance is given: of a clip, or a list of poses with places on the floor in a JSON file.

`choreo.keyframes/1`: `{"schema", "fps", "height_m"?, "keyframes": [{"frame", "channels": [25], "root"?: false,
"place"?: [x, z], "yaw"?}]}`. Channels are raw choreo25 of a body of `height_m` (1.70); `root: false` leaves speeds and
height of the pelvis free, as a single pose has none. `place` and `yaw` are where the root is led to afterwards, from a
start at 0, 0 that faces +z.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from choreo_cli.errors import DataError, NoInputError, UsageError
from choreo_cli.generate.config import CHANNELS, GROUPS, PREDICT_FRAMES, ROOT_GROUP
from choreo_cli.generate.root_path import Place
from choreo_cli.motion.choreo25 import integrate_root
from choreo_cli.motion.skeleton import canonical_skeleton
from formats.errors import FormatError
from formats.motion_npz import MotionClip, Skeleton, out_of_range

F32 = NDArray[np.float32]

SCHEMA = "choreo.keyframes/1"
HEIGHT_M = 1.70  # the stature that models are trained at
ENDS = 8  # frames of either end of a clip that are given unless it is said otherwise
SAME_RATE = 1e-3
MOST_BYTES = 64 << 20
_METRES = ("op", "o6", "o9", "oc", "o15", "upper_arm", "forearm", "thigh", "shank", "foot", "ank0")

Number = Annotated[float, Meta(ge=-1e6, le=1e6)]


class Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of a keyframe file."""

    frame: Annotated[int, Meta(ge=0, le=10**7)]
    channels: Annotated[list[Number], Meta(min_length=CHANNELS, max_length=CHANNELS)]
    root: bool = True
    place: Annotated[list[Number], Meta(min_length=2, max_length=2)] | None = None
    yaw: Number | None = None


class KeyFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A keyframe file."""

    schema: str
    fps: Annotated[float, Meta(gt=0, le=1000)]
    keyframes: Annotated[list[Key], Meta(min_length=1, max_length=100_000)]
    height_m: Annotated[float, Meta(ge=0.3, le=3.0)] = HEIGHT_M


@dataclass(frozen=True, slots=True)
class Keyframes:
    """What is given of a dance.

    Args:
        rows: Frame numbers, ascending.
        values: (K, 25) float32 raw channels of the body itself.
        root: (K,) whether the pelvis' speeds and height are given too.
        skeleton: The body.
        start: yaw0, x0, z0 of the dance.
        scale: From this body to the stature of the training.
        places: Where the root is to be; see `root_path`.
        wanted: Places that the clip has and nobody asked for.
        frames: Length that the clip suggests, 0 for none.
        sha256: Of the file.
    """

    rows: tuple[int, ...]
    values: F32
    root: NDArray[np.bool_]
    skeleton: Skeleton
    start: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scale: float = 1.0
    places: tuple[Place, ...] = ()
    wanted: tuple[Place, ...] = ()
    frames: int = 0
    sha256: str = ""

    def over(self, frames: int) -> tuple[F32, F32]:
        """Values (T, 25) and mask columns (T, 7) of a dance of so many frames.

        Raises:
            DataError: a keyframe lies beyond it.
        """
        late = [k for k in (*self.rows, *(p.frame for p in self.places)) if k >= frames]
        if late:
            raise DataError(f"keyframe {late[0]} lies beyond the dance of {frames} frames", hint="see --seconds")
        values, mask = np.zeros((frames, CHANNELS), np.float32), np.zeros((frames, len(GROUPS)), np.float32)
        values[list(self.rows)] = self.values
        mask[list(self.rows)] = 1.0
        mask[list(self.rows), ROOT_GROUP] = self.root
        return values, mask


def read_keyframes(
    path: Path, fps: float, task: str | None, at: str | None = None, places: bool = False
) -> tuple[Keyframes, str]:
    """Keyframes of a file, and the task they are for.

    Args:
        path: A choreo25 clip, or JSON.
        fps: What their rate must be.
        task: `predict`, `inbetween`, or None for what they look like.
        at: Of a clip, which frames are given: `0-7,40,56-63`; they keep their numbers.
        places: Of a clip, lead the root to where it has those frames.

    Returns:
        Of a clip PREDICT continues its last 16 frames, INBETWEEN fills between its first and last 8.

    Raises:
        NoInputError: no such file.
        FormatError: damaged, or no keyframes.
        DataError: another frame rate, or values outside the channels' ranges.
        UsageError: frames that the clip has not.
    """
    from formats import jsonstrict, motion_npz
    from formats.atomic import sha256_file
    from formats.foreign.source import Source

    if not path.is_file():
        raise NoInputError(f"no keyframes {path}", hint="need a choreo25 clip, or choreo.keyframes/1 as JSON")
    data, sha = Source.of(path).read_bytes(MOST_BYTES), sha256_file(path)
    if data[:4] == b"PK\x03\x04":
        clip = motion_npz.decode(data, file=path)
        _need_rate(clip.header.fps, fps, path, clip=True)
        found = _of_clip(clip, task, at, places, path)
    else:
        if at is not None or places:
            raise UsageError(f"--{'at' if at is not None else 'places'} is for a clip, {path.name} is none")
        _need_json(data, path)
        found = _of_file(jsonstrict.loads(data, file=path), fps, path)
    found = replace(found, sha256=sha)
    return found, task or _looks_like(found.rows)


def _looks_like(rows: tuple[int, ...]) -> str:
    return "predict" if rows == tuple(range(len(rows))) else "inbetween"


def _of_file(doc: Any, fps: float, path: Path) -> Keyframes:
    try:
        told = msgspec.convert(doc, KeyFile)
    except msgspec.ValidationError as e:
        raise FormatError(f"no keyframes: {e}", file=path, hint=f"need {SCHEMA}") from None
    if told.schema != SCHEMA:
        raise FormatError(f"the file holds {told.schema}, need {SCHEMA}", file=path)
    _need_rate(told.fps, fps, path, clip=False)
    keys = sorted(told.keyframes, key=lambda k: k.frame)
    rows = tuple(k.frame for k in keys)
    twice = [a for a, b in itertools.pairwise(rows) if a == b]
    if twice:
        raise FormatError(f"frame {twice[0]} twice", file=path, field="keyframes")
    values = np.array([k.channels for k in keys], np.float32)
    _need_range(values, rows, path)
    lone = [k.frame for k in keys if k.yaw is not None and k.place is None]
    if lone:
        raise FormatError(f"frame {lone[0]} has a yaw and no place", file=path, field="yaw")
    places = tuple(Place(k.frame, k.place[0], k.place[1], k.yaw) for k in keys if k.place is not None)
    first = next((p for p in places if p.frame == 0), None)
    start = (first.yaw or 0.0, first.x, first.z) if first is not None else (0.0, 0.0, 0.0)
    return Keyframes(
        rows, values, np.array([k.root for k in keys], bool), canonical_skeleton(told.height_m), start,
        HEIGHT_M / told.height_m, tuple(p for p in places if p.frame),
    )  # fmt: skip


def _of_clip(clip: MotionClip, task: str | None, at: str | None, places: bool, path: Path) -> Keyframes:
    h, n = clip.header, len(clip.channels)
    yaw, root = integrate_root(clip.channels, h.fps, h.yaw0, h.x0, h.z0)
    if at is None and task == "predict":
        if n < PREDICT_FRAMES:
            raise DataError(f"{path} has {n} frames, {PREDICT_FRAMES} are continued", hint="name them with --at 0-N")
        rows, frames, begin = tuple(range(PREDICT_FRAMES)), 0, n - PREDICT_FRAMES
    else:
        if at is None and n <= 2 * ENDS:
            raise DataError(f"{path} has {n} frames: nothing lies between its ends", hint="say which with --at")
        rows = (*range(ENDS), *range(n - ENDS, n)) if at is None else frames_of(at, n)
        frames, begin = n, 0
    taken = np.array([begin + k for k in rows])
    values = np.array(clip.channels[taken], np.float32)
    _need_range(values, rows, path)
    heads = [k for k in rows if k and k - 1 not in rows]
    there = tuple(Place(k, float(root[begin + k, 0]), float(root[begin + k, 2]), float(yaw[begin + k])) for k in heads)
    start = (float(yaw[begin]), float(root[begin, 0]), float(root[begin, 2]))
    if not 0.3 <= h.height_m <= 3.0:
        raise DataError(f"{path}: a stature of {h.height_m:g} m", hint="choreo retarget --height 1.70")
    return Keyframes(
        rows, values, np.ones(len(rows), bool), h.skeleton, start, HEIGHT_M / h.height_m,
        there if places else (), () if places else there, frames,
    )  # fmt: skip


def frames_of(text: str, frames: int) -> tuple[int, ...]:
    """`0-7,40` as frame numbers. Raises UsageError for anything else, or beyond the clip."""
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or len(part) > 20:
            raise UsageError(f"--at {text!r} is no list of frames", hint="for example 0-7,40,56-63")
        span = range(int(first), int(last or first) + 1)
        if not span or span[-1] >= frames:
            raise UsageError(f"--at {part.strip()}: the clip has the frames 0-{frames - 1}")
        found.update(span)
    return tuple(sorted(found))


def scaled(skeleton: Skeleton, factor: float) -> Skeleton:
    """The body at another stature."""
    return replace(skeleton, **{name: getattr(skeleton, name) * factor for name in _METRES})


def in_training(values: F32, scale: float) -> F32:
    """Channels (..., 25) of a body as those of one of 1.70 m: speeds and height of the pelvis grow with it."""
    if scale == 1.0:
        return values
    out = np.array(values, np.float32)
    out[..., :3] *= np.float32(scale)
    return out


def _need_json(data: bytes, path: Path) -> None:
    """Raise FormatError for what cannot be a JSON document of ours; of motion in another format with the way to it."""
    if data.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"{", b"["):
        return
    from formats.foreign.registry import recognise

    told = f"need a choreo25 clip, or {SCHEMA} as JSON"
    reader = recognise(data[:4096], path.name, len(data))
    if reader.kind == "motion" and reader.read is not None:
        told = f"choreo retarget {path} --height {HEIGHT_M:.2f} -o DIR makes a clip of it"
    raise FormatError("no keyframes: neither a clip nor JSON", file=path, hint=told)


def _need_rate(found: float, wanted: float, path: Path, *, clip: bool) -> None:
    if abs(found / wanted - 1) > SAME_RATE:
        raise DataError(
            f"{path} holds {found:g} frames per second, the model dances at {wanted:g}",
            hint=f"choreo retarget {path} --resample {wanted:g}"
            if clip
            else f"number its frames at {wanted:g} per second, with fps {wanted:g}",
        )


def _need_range(values: F32, rows: tuple[int, ...], path: Path) -> None:
    for row, k in zip(values, rows, strict=True):
        if not all(math.isfinite(v) for v in row.tolist()):
            raise DataError(f"{path}: keyframe {k} holds values that are not finite")
        odd = out_of_range(row)
        if odd:
            raise DataError(f"{path}: keyframe {k}: {next(iter(odd))} lies outside its range")
