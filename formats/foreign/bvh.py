"""BVH in its dialects: hierarchy and motion block, tolerant where files differ and exact where they are broken."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from formats import sealed
from formats.atomic import sha256_file
from formats.errors import FormatError
from formats.foreign.body import FLOOR_SAID, Scaling
from formats.foreign.model import F64, Facts, PoseStream
from formats.foreign.number_block import parse_numbers, tokens_per_line
from formats.foreign.pose_clock import frame_times, rate_of, snap_rate
from formats.foreign.registry import Reader
from formats.foreign.source import Source

MAX_JOINTS = 4096
SIDECAR = "choreo.bvh-sidecar/1"
MAX_VALUES = 48 * 2**20
_AXES = {"X": 0, "Y": 1, "Z": 2}
_TOKEN = re.compile(
    r"(?:\b(ROOT|JOINT)\b[ \t]*([^\r\n{]*))|(\bEnd[ \t]+[^\r\n{]*|\bEndSite\b)|([{}])"
    r"|(\bOFFSET\b|\bCHANNELS\b)|([^\s{}]+)",
    re.IGNORECASE,
)
_NOT_A_NUMBER = re.compile(rb"[-+]?\d+\.#(?:IND|QNAN|SNAN|INF)\d*|[-+]?nan\(\w*\)", re.IGNORECASE)


@dataclass(slots=True)
class BvhJoint:
    """One joint: rest offset and the channels in file order, each (is a rotation, axis 0..2)."""

    name: str
    parent: int
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    channels: tuple[tuple[bool, int], ...] = ()
    first: int = 0
    end: tuple[float, float, float] | None = None


@dataclass(slots=True)
class BvhClip:
    """A parsed BVH: joints of one skeleton and (T, C) channel values, degrees and source units.

    Args:
        joints: Parents before children.
        values: (T, C) float64 of all channels of the file; a joint's start at `first`.
        frame_time: Seconds as written, 0.0 when unusable.
        n_channels: C.
        n_joints: Joints of the whole file (before one of several roots was chosen).
    """

    joints: list[BvhJoint]
    values: F64
    frame_time: float
    n_channels: int
    n_joints: int
    problems: list[str] = field(default_factory=list)
    assumptions: list[str] = field(default_factory=list)

    @property
    def rate(self) -> tuple[int, int] | None:
        return snap_rate(self.frame_time * 1e6) if 1e-5 <= self.frame_time <= 100 else None


def parse(source: Source) -> BvhClip:
    """Parse a BVH.

    Raises:
        FormatError: the hierarchy or the motion block is broken; the line is named.
    """
    data = source.read_bytes()
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        data = source.read_text().encode()
    at = re.search(rb"^[ \t]*MOTION\b", data, re.MULTILINE | re.IGNORECASE)
    if at is None:
        raise FormatError("no MOTION section", file=source.path, hint="the file is cut or holds no motion")
    if at.start() > 8 * 2**20:
        raise FormatError("a hierarchy of more than 8 MB", file=source.path)
    joints = _hierarchy(data[: at.start()].decode("utf-8-sig", "replace"), source.path)
    n_channels = sum(len(j.channels) for j in joints)
    if n_channels == 0:
        raise FormatError("no joint has channels", file=source.path)
    clip = BvhClip(joints, np.empty((0, n_channels)), 0.0, n_channels, len(joints))
    _motion(clip, data, at.end(), source.path)
    _choose_root(clip)
    return clip


def _hierarchy(text: str, file: Path) -> list[BvhJoint]:
    joints: list[BvhJoint] = []
    stack: list[int] = []
    pending: int | None = None
    count = 0
    for token in _TOKEN.finditer(text):
        kind = (token[1] or "").upper()
        if kind:
            if pending is not None or (kind == "ROOT") != (not stack):
                raise FormatError(f"{kind} in the wrong place", file=file, row=_line(text, token.start()))
            joints.append(BvhJoint(token[2].strip() or f"joint_{len(joints)}", stack[-1] if stack else -1))
            pending = len(joints) - 1
            if len(joints) > MAX_JOINTS:
                raise FormatError(f"more than {MAX_JOINTS} joints", file=file)
        elif token[3]:
            pending = -1
        elif token[4] == "{":
            if pending is None:
                raise FormatError("'{' without a joint", file=file, row=_line(text, token.start()))
            stack.append(pending)
            pending = None
        elif token[4] == "}":
            if not stack:
                raise FormatError("'}' without a '{'", file=file, row=_line(text, token.start()))
            stack.pop()
        elif token[5]:
            count += _numbers(text, token, joints, stack, count, file)
    if stack or not joints:
        what = f"{len(stack)} braces of the hierarchy stay open" if stack else "no ROOT in the hierarchy"
        raise FormatError(what, file=file, row=_line(text, len(text)))
    return joints


def _numbers(text: str, token: re.Match[str], joints: list[BvhJoint], stack: list[int], count: int, file: Path) -> int:
    """Read what follows OFFSET or CHANNELS; the number of channels read."""
    words = text[token.end() : token.end() + 2000].replace("{", " { ").replace("}", " } ").split()
    fault = ""
    if not stack:
        fault = f"{token[5]} outside a joint"
    elif token[5].upper() == "OFFSET":
        found = _three(words)
        if found is None:
            fault = "OFFSET needs three finite numbers"
        elif stack[-1] >= 0:
            joints[stack[-1]].offset = found
        else:
            joints[next(s for s in reversed(stack) if s >= 0)].end = found
    else:
        channels = _channels(words)
        if channels is None or stack[-1] < 0:
            fault = "CHANNELS needs a count and that many names such as Xposition"
        elif joints[stack[-1]].channels:
            fault = "CHANNELS given twice"
        else:
            joints[stack[-1]].channels, joints[stack[-1]].first = channels, count
            return len(channels)
    if fault:
        raise FormatError(fault, file=file, row=_line(text, token.start()))
    return 0


def _three(words: list[str]) -> tuple[float, float, float] | None:
    try:
        x, y, z = (float(w if "." in w else w.replace(",", ".")) for w in (w.rstrip(",") for w in words[:3]))
    except ValueError:
        return None
    return (x, y, z) if all(abs(v) < 1e6 for v in (x, y, z)) else None


def _channels(words: list[str]) -> tuple[tuple[bool, int], ...] | None:
    if not words or not words[0].isdigit() or len(words[0]) > 2:
        return None
    named = words[1 : 1 + int(words[0])]
    known = all(w[1:].lower() in ("rotation", "position") and w[0].upper() in _AXES for w in named)
    if not known or len(named) != int(words[0]):
        return None
    return tuple((w[1:].lower() == "rotation", _AXES[w[0].upper()]) for w in named)


def _line(text: str | bytes, at: int) -> int:
    return text[:at].count("\n" if isinstance(text, str) else b"\n") + 1  # type: ignore[arg-type]


def _motion(clip: BvhClip, data: bytes, at: int, file: Path) -> None:
    frames = re.compile(rb"\s*Frames?\s*:?[ \t]*([^\r\n]*)", re.IGNORECASE).match(data, at)
    if frames is None:
        raise FormatError("no 'Frames:' after MOTION", file=file, row=_line(data, at))
    timing = re.compile(rb"\s*Frame[ \t]*Time\s*:?[ \t]*([^\r\n]*)", re.IGNORECASE).match(data, frames.end())
    if timing is None:
        raise FormatError("no 'Frame Time:' after 'Frames:'", file=file, row=_line(data, frames.end()))
    declared = frames[1].strip()
    if not declared.isdigit() or len(declared) > 9:
        raise FormatError("'Frames:' is not a whole number", file=file, row=_line(data, frames.end()))
    try:
        clip.frame_time = float(timing[1].strip().replace(b",", b"."))
    except ValueError:
        raise FormatError("'Frame Time:' is not a number", file=file, row=_line(data, timing.end())) from None
    if clip.rate is None:
        clip.problems.append(
            f"frame_time: Frame Time {clip.frame_time:g} (line {_line(data, timing.end())}) gives no rate"
        )
    clip.values = _rows(clip, data[timing.end() :], _line(data, timing.end()), int(declared), file)
    found = len(clip.values)
    if not found:
        raise FormatError("no frames", file=file, row=_line(data, timing.end()))
    if found != int(declared):
        clip.problems.append(f"frame_count: {int(declared)} frames declared, {found} found")
    bad = int(np.count_nonzero(~np.isfinite(clip.values)))
    if bad:
        clip.values = np.where(np.isfinite(clip.values), clip.values, np.nan)
        rows = int(np.count_nonzero(np.isnan(clip.values).any(axis=1)))
        clip.problems.append(f"nan: {bad} channel values in {rows} frames are not numbers")


def _rows(clip: BvhClip, block: bytes, first_line: int, declared: int, file: Path) -> F64:
    """The (T, C) values of the motion block; line numbers are worked out only for an error."""
    n = clip.n_channels
    if b"#" in block or b"(" in block:
        block = _NOT_A_NUMBER.sub(b"nan", block)
    if b"," in block:
        block = block.replace(b",", b" " if b"." in block else b".")
        clip.assumptions.append(
            "commas in numbers taken as decimal points" if b"." in block else "commas separate values"
        )
    counts, lines = tokens_per_line(block)
    if counts.sum() > MAX_VALUES:
        raise FormatError(f"more than {MAX_VALUES} values", file=file)
    wrong = np.flatnonzero(counts != n)
    if len(wrong) and int(counts.sum()) == declared * n and int(counts.max()) < n:
        clip.assumptions.append("frames are wrapped over several lines")
    elif len(wrong):
        row = first_line + int(lines[wrong[0]])
        if wrong[0] != len(counts) - 1 or counts[wrong[0]] > n:
            raise FormatError(f"{counts[wrong[0]]} values where the channels need {n}", file=file, row=row)
        clip.problems.append(f"truncated: line {row} has {counts[wrong[0]]} of {n} values and is dropped")
    values = parse_numbers(block, counts)
    if len(values) != counts.sum():
        _find_bad(block, first_line, file)
    return np.asarray(values[: len(values) // n * n].reshape(-1, n))


def _find_bad(block: bytes, first_line: int, file: Path) -> None:
    for index, line in enumerate(block.split(b"\n")):
        for word in line.split():
            try:
                float(word)
            except ValueError:
                text = word[:24].decode("ascii", "replace")
                raise FormatError(f"{text!r} is not a number", file=file, row=first_line + index) from None
    raise FormatError("values that cannot be read as numbers", file=file, row=first_line)


def _choose_root(clip: BvhClip) -> None:
    """Keep one skeleton of several: the one with legs, else the first."""
    roots = [i for i, j in enumerate(clip.joints) if j.parent < 0]
    if len(roots) < 2:
        return
    owner = list(range(len(clip.joints)))
    for i, joint in enumerate(clip.joints):
        owner[i] = i if joint.parent < 0 else owner[joint.parent]
    legs = re.compile(r"leg|thigh|knee|foot|ankle|calf|shin", re.IGNORECASE)
    score = {r: sum(bool(legs.search(j.name)) for i, j in enumerate(clip.joints) if owner[i] == r) for r in roots}
    best = max(roots, key=lambda r: (score[r], -r))
    keep = [i for i in range(len(clip.joints)) if owner[i] == best]
    new = {old: i for i, old in enumerate(keep)}
    clip.joints = [clip.joints[i] for i in keep]
    for joint in clip.joints:
        joint.parent = new.get(joint.parent, -1)
    clip.problems.append(f"several_roots: {len(roots)} skeletons, {clip.joints[0].name!r} is used")


def _floor_known(source: Source) -> bool:
    """Whether a sidecar of ours lies beside it, made for these very bytes, which says that the floor is at 0."""
    try:
        told = sealed.parse(source.path.with_suffix(".json").read_bytes())
    except (OSError, FormatError):
        return False
    same = told.get("schema") == SIDECAR and told.get("floor") == 0.0
    return same and told.get("bvh_sha256") == sha256_file(source.path)


def _stream(
    clip: BvhClip, fps: float | None, scaling: Scaling, step: int, on_floor: bool
) -> tuple[PoseStream, dict[str, object]]:
    from formats.foreign.bvh_kinematics import idle_positions, joint_positions
    from formats.foreign.rigs import Tree, canonical_pose

    values = clip.values[::step] if step > 1 else clip.values
    rate = rate_of(fps) or clip.rate
    origin = "user" if rate_of(fps) else "header" if clip.rate else "none"
    notes = ["time rebuilt from i/fps" if rate else "time unknown: t_us counts frames, give the rate"]
    if clip.rate and origin == "header" and abs(clip.frame_time * clip.rate[0] / clip.rate[1] - 1) > 1e-9:
        notes.append(f"rate: {1 / clip.frame_time:.7g} fps found, {clip.rate[0] / clip.rate[1]:.7g} used")
    if idle_positions(clip):
        notes.append("zero position channels ignored, OFFSET kept")
    tree = Tree([j.name for j in clip.joints], [j.parent for j in clip.joints])
    hz = rate[0] / rate[1] if rate else None
    rest = np.zeros((len(clip.joints), 3))
    for i, joint in enumerate(clip.joints):
        rest[i] = np.array(joint.offset) + (rest[joint.parent] if joint.parent >= 0 else 0.0)
    pose = canonical_pose(tree, joint_positions(clip, values), rest, scaling, hz, sample=step > 1 or on_floor)
    if on_floor:
        notes.append(FLOOR_SAID)
    t_us = frame_times(np.arange(len(values), dtype=np.int64) * step, rate)
    stream = PoseStream(
        t_us=t_us, xyz=pose.xyz, joints=pose.joints, units=pose.units, up=pose.up, rate=rate, rate_source=origin,
        problems=(*clip.problems, *pose.problems), assumptions=(*clip.assumptions, *notes, *pose.assumptions),
    )  # fmt: skip
    return stream, pose.meta


def read(
    source: Source, fps: float | None = None, *, scale: float | None = None, height: float | None = None
) -> PoseStream:
    """Read a BVH as the 22 canonical joints in metres, y up (source joints where the rig is not recognised).

    Args:
        source: The file.
        fps: Overrides the file's Frame Time.
        scale: Metres per source unit, instead of a guess from the skeleton's height.
        height: Stature in metres, instead of a guess.

    Raises:
        FormatError: the file is broken; the line is named.
    """
    return _guarded(source, fps, Scaling(scale, height), 1)[0]


def _guarded(
    source: Source, fps: float | None, scaling: Scaling, sample: int
) -> tuple[PoseStream, BvhClip, dict[str, object]]:
    """The stream of every `len // sample`-th frame (1: all), the clip and the rig's facts."""
    try:
        clip = parse(source)
        step = max(1, len(clip.values) // sample) if sample > 1 else 1
        stream, meta = _stream(clip, fps, scaling, step, _floor_known(source))
    except (ValueError, IndexError, KeyError, OverflowError, RecursionError, TypeError) as e:
        raise FormatError(f"not a BVH: {type(e).__name__}", file=source.path) from e
    return stream, clip, meta


def facts(source: Source) -> Facts:
    """The facts of a BVH; forward kinematics only of a sample of its frames."""
    stream, clip, meta = _guarded(source, None, Scaling(), 200)
    n = len(clip.values)
    rate = clip.rate
    return Facts(
        "motion", "bvh", n=n, rate=rate, channels=clip.n_joints, problems=stream.problems,
        duration_us=None if rate is None else round(n * 1e6 * rate[1] / rate[0]),
        meta={
            "joints": clip.n_joints, "channels": clip.n_channels,
            "frame_time_s": clip.frame_time if math.isfinite(clip.frame_time) else None,
            "fps_source": "header", "units": stream.units, "up": stream.up,
            "assumptions": list(stream.assumptions), **meta,
        },
    )  # fmt: skip


def sniff(head: bytes, name: str, size: int) -> bool:
    """Whether a file starts with the word HIERARCHY (after a BOM and blanks)."""
    start = head[:64]
    if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
        start = start[2:].replace(b"\x00", b"")
    return start.removeprefix(b"\xef\xbb\xbf").lstrip()[:9].upper() == b"HIERARCHY"


READERS: tuple[Reader, ...] = (Reader("bvh", "motion", sniff, facts, read, 30),)
