"""Acclaim motion (AMC) on the skeleton (ASF) that lies beside it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from formats.errors import FormatError
from formats.foreign.acclaim import Skeleton, outside_limits, parse_asf, positions
from formats.foreign.body import Scaling
from formats.foreign.guard import contained
from formats.foreign.model import F64, Facts, PoseStream
from formats.foreign.pose_clock import frame_times, rate_of
from formats.foreign.registry import Reader
from formats.foreign.rigs import Tree, canonical_pose
from formats.foreign.source import Source

FPS = 120.0
ASSUMED = "120 fps assumed: AMC files do not say theirs"
MAX_VALUES = 48 * 2**20
_ASF_CAP = 8 * 2**20
_INCH = 0.0254


def skeleton_beside(amc: Path) -> Path:
    """The ASF of an AMC: of the same stem, of the stem before its last `_` (`11_01.amc`, `11.asf`), or the only one.

    Raises:
        FormatError: there is none, or several and none fits.
    """
    found = sorted(n for n in os.listdir(amc.parent or ".") if n.lower().endswith(".asf"))
    stem = amc.stem
    while stem:
        hit = next((n for n in found if n[:-4].lower() == stem.lower()), None)
        if hit is not None:
            return amc.parent / hit
        stem = stem.rpartition("_")[0]
    if len(found) == 1:
        return amc.parent / found[0]
    want = f"{amc.stem.partition('_')[0]}.asf"
    what = "no skeleton (.asf) beside it" if not found else f"{len(found)} skeletons beside it and none named {want}"
    raise FormatError(what, file=amc, hint=f"put {want} beside it")


def parse_amc(text: str, skeleton: Skeleton, file: Path) -> tuple[dict[str, F64], bool, list[str]]:
    """The (T, dofs) values of every bone that moves, whether angles are degrees, and what was doubtful.

    Raises:
        FormatError: a bone nobody knows, a wrong number of values, no number, no frame; the line is named.
    """
    counts = {b.name: len(b.dofs) for b in skeleton.bones if b.dofs}
    rows: dict[str, list[float]] = {name: [] for name in counts}
    seen: dict[str, int] = dict.fromkeys(counts, 0)
    degrees, frames, total = skeleton.degrees, 0, 0
    problems: list[str] = []
    ignored: set[str] = set()
    lines = text.splitlines()
    for row, line in enumerate(lines, 1):
        words = line.split()
        if not words or words[0][0] == "#":
            continue
        name = words[0]
        if name[0] == ":":
            degrees = {":DEGREES": True, ":RADIANS": False}.get(name.upper(), degrees)
        elif len(words) == 1 and name.isdigit():
            frames += 1
        elif name in counts:
            values = [_value(w, file, row) for w in words[1:]]
            if len(values) != counts[name]:
                if row >= len(lines) - 1:
                    problems.append(f"truncated: line {row} is cut, its frame is dropped")
                    frames -= 1
                    break
                raise FormatError(f"{name} has {len(values)} values, its skeleton {counts[name]}", file=file, row=row)
            if seen[name] != frames - 1:
                raise FormatError(f"{name} twice in a frame, or missing in one", file=file, row=row)
            seen[name] = frames
            rows[name] += values
            total += len(values)
            if total > MAX_VALUES:
                raise FormatError(f"more than {MAX_VALUES} values", file=file)
        elif frames:
            ignored.add(name[:40])
    return _arrays(rows, counts, frames, file, problems, ignored), degrees, problems


def _arrays(
    rows: dict[str, list[float]], counts: dict[str, int], frames: int, file: Path, problems: list[str], alien: set[str]
) -> dict[str, F64]:
    # A cut file ends within a frame: that frame is dropped, for every bone.
    whole = min([frames, *(len(v) // counts[n] for n, v in rows.items() if v)])
    if whole < 1 or not rows.get("root"):
        raise FormatError("no whole frame", file=file, hint="the file is cut or holds no motion")
    if whole < frames:
        problems.append(f"truncated: {frames} frames begin, {whole} are whole")
    if alien:
        problems.append(f"unknown_bones: {len(alien)} names are not in the skeleton, such as {min(alien)}")
    return {n: np.array(v[: whole * counts[n]]).reshape(whole, counts[n]) for n, v in rows.items() if v}


def _value(word: str, file: Path, row: int) -> float:
    try:
        value = float(word if "," not in word else word.replace(",", "."))
    except ValueError:
        raise FormatError(f"{word[:24]!r} is not a number", file=file, row=row) from None
    return value if abs(value) < 1e9 else float("nan")


@contained
def _read(
    source: Source, fps: float | None, scaling: tuple[float | None, float | None]
) -> tuple[PoseStream, dict[str, object]]:
    skeleton_path = skeleton_beside(source.path)
    skeleton = parse_asf(Source.of(skeleton_path).read_text(_ASF_CAP), skeleton_path)
    values, degrees, problems = parse_amc(source.read_text(), skeleton, source.path)
    names, parents, world = positions(skeleton, values, degrees)
    rate = rate_of(fps) or rate_of(FPS)
    unit = skeleton.length_unit
    hinted = (_INCH / unit, f"inches / {unit:g}") if unit else None
    rest = positions(skeleton, {"root": np.zeros((1, len(skeleton.bones[0].dofs)))}, degrees)[2][0]
    hz = rate[0] / rate[1] if rate else None
    pose = canonical_pose(Tree(names, parents), world, rest, Scaling(*scaling, hinted=hinted), hz)
    notes = [f"skeleton {skeleton_path.name}", *([] if rate_of(fps) else [ASSUMED]), "time rebuilt from i/fps"]
    beyond = outside_limits(skeleton, values) if degrees == skeleton.degrees else 0.0
    if beyond:
        notes.append(f"limits: {100 * beyond:.1f} % of the angles lie outside the skeleton's limits, none was clamped")
    stream = PoseStream(
        t_us=frame_times(np.arange(len(world), dtype=np.int64), rate), xyz=pose.xyz, joints=pose.joints,
        units=pose.units, up=pose.up, rate=rate, rate_source="user" if rate_of(fps) else "format",
        problems=(*skeleton.problems, *problems, *pose.problems), assumptions=(*notes, *pose.assumptions),
    )  # fmt: skip
    return stream, {**pose.meta, "bones": len(skeleton.bones), "skeleton": skeleton_path.name}


def read(
    source: Source, fps: float | None = None, *, scale: float | None = None, height: float | None = None
) -> PoseStream:
    """Read an AMC with the ASF beside it as the 22 canonical joints in metres, y up.

    Args:
        source: The AMC; its skeleton is found by name in its folder.
        fps: Frames per second, 120 without.
        scale: Metres per source unit, instead of a guess from the skeleton's height.
        height: Stature in metres, instead of a guess.

    Raises:
        FormatError: no skeleton, or one of the two is broken; the line is named.
    """
    stream: PoseStream = _read(source, fps, (scale, height))[0]
    return stream


def facts(source: Source) -> Facts:
    """The facts of an AMC, its skeleton read too."""
    stream, meta = _read(source, None, (None, None))
    n, rate = len(stream.t_us), stream.rate or (120, 1)
    return Facts(
        "motion", "amc", n=n, rate=rate, duration_us=round(n * 1e6 * rate[1] / rate[0]), channels=len(stream.joints),
        problems=stream.problems,
        meta={"joints": len(stream.joints), "fps_source": "format", "units": stream.units, "up": stream.up,
              "assumptions": list(stream.assumptions), **meta},
    )  # fmt: skip


@contained
def asf_facts(source: Source) -> Facts:
    """What a skeleton holds; it is no recording itself."""
    skeleton = parse_asf(source.read_text(_ASF_CAP), source.path)
    meta = {"bones": len(skeleton.bones), "degrees": skeleton.degrees, "length_unit": skeleton.length_unit}
    return Facts("other", "asf", meta={"note": "the skeleton of the AMC files beside it", **meta})


def sniff_asf(head: bytes, name: str, size: int) -> bool:
    """Acclaim skeleton: sections such as `:units` and `:root`."""
    return b"\n:units" in head and (b":version" in head or b"\n:root" in head or b"\n:name" in head)


def sniff_amc(head: bytes, name: str, size: int) -> bool:
    """Acclaim motion: `:FULLY-SPECIFIED` or an angle unit before the first frame."""
    start = head[:1024]
    stated = any(word in start for word in (b":FULLY-SPECIFIED", b":DEGREES", b":RADIANS"))
    return stated and not sniff_asf(head, name, size)


READERS: tuple[Reader, ...] = (
    Reader("asf", "other", sniff_asf, asf_facts, None, 31),
    Reader("amc", "motion", sniff_amc, facts, read, 32),
)
