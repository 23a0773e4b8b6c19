"""AIST++ motions: SMPL rotations in a pickle, read in a process of its own, on a body of our own."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from formats.errors import FormatError
from formats.foreign.body import Scaling, finish
from formats.foreign.guard import contained
from formats.foreign.joints import CANONICAL
from formats.foreign.model import F64, Facts, PoseStream
from formats.foreign.pickle_run import read_pickle
from formats.foreign.pose_clock import frame_times, rate_of
from formats.foreign.registry import Reader
from formats.foreign.smpl_body import body_of, forward
from formats.foreign.source import Source

FPS = 60.0
ASSUMED = "60 fps by the format: AIST++ files do not say theirs"


@contained
def _read(source: Source, fps: float | None, body: str | Path | None, height: float | None) -> PoseStream:
    arrays = read_pickle(source)
    scaling = float(arrays["smpl_scaling"][0])
    if not 1e-6 < abs(scaling) < 1e6:
        raise FormatError(f"smpl_scaling is {scaling:g}", file=source.path)
    offsets, said = body_of(body, height)
    poses = arrays["smpl_poses"].reshape(len(arrays["smpl_poses"]), 24, 3)
    world = forward(poses, arrays["smpl_trans"] / scaling, offsets)
    notes = [] if rate_of(fps) else [ASSUMED]
    rate = rate_of(fps) or rate_of(FPS)
    return smpl_stream(world, rate, "user" if rate_of(fps) else "format", [*notes, said, f"scaling {scaling:.6g}"])


def smpl_stream(
    world: F64, rate: tuple[int, int] | None, rate_source: str, notes: list[str], problems: tuple[str, ...] = (),
    ups: tuple[str, ...] = ("+y",), floor_known: bool = False,
) -> PoseStream:  # fmt: skip
    """The stream of (T, 22, 3) joints that SMPL rotations gave, in metres, turned y up and put on the floor."""
    hz = rate[0] / rate[1] if rate else None
    found = finish(world, Scaling(declared=(1.0, "m")), hz, ups=ups, grounded=not floor_known)
    time = "time rebuilt from i/fps" if rate else "time unknown: t_us counts frames, give the rate"
    return PoseStream(
        t_us=frame_times(np.arange(len(world), dtype=np.int64), rate), xyz=found.xyz.astype(np.float32),
        joints=CANONICAL, units="m", up="+y", rate=rate, rate_source=rate_source,
        problems=(*problems, *found.problems), assumptions=("rig smpl", *notes, time, *found.notes),
    )  # fmt: skip


def motion_facts(stream: PoseStream, format_name: str, meta: dict[str, object]) -> Facts:
    """What `discover` records of a motion that was read whole."""
    n, rate = len(stream.t_us), stream.rate
    return Facts(
        "motion", format_name, n=n, rate=rate, channels=len(stream.joints), problems=stream.problems,
        duration_us=None if rate is None else round(n * 1e6 * rate[1] / rate[0]),
        meta={"joints": len(stream.joints), "fps_source": stream.rate_source, "units": stream.units, "up": stream.up,
              "assumptions": list(stream.assumptions), **meta},
    )  # fmt: skip


def read(
    source: Source, fps: float | None = None, *, body: str | Path | None = None, height: float | None = None
) -> PoseStream:
    """Read an AIST++ motion pickle as the 22 canonical joints in metres, y up.

    Args:
        source: The pickle; it is opened in a limited process of its own.
        fps: Frames per second, 60 without.
        body: File of joint offsets (`smpl_body.load_body`), the canonical skeleton without.
        height: Stature of the canonical skeleton in metres, 1.70 without.

    Raises:
        FormatError: no motion, damaged, or a limit was reached.
    """
    stream: PoseStream = _read(source, fps, body, height)
    return stream


def facts(source: Source) -> Facts:
    """The facts of a pickle. One that names no SMPL motion in its first bytes is listed and never opened."""
    if b"smpl_" in source.head:
        return motion_facts(read(source), "smpl-pkl", {"rig": "smpl"})
    if b"keypoints3d" in source.head or b"keypoints2d" in source.head:
        why = "AIST++ key points are not read: take the SMPL motion of the same sequence"
        return Facts("motion", "aist-keypoints-pkl", reason=why)
    return Facts("other", "pickle", reason="a pickle can run code and is never opened")


def sniff_pickle(head: bytes, name: str, size: int) -> bool:
    """Pickle opcodes: PROTO 2 to 5 with a sensible next opcode, or a text pickle by name."""
    if len(head) > 3 and head[0] == 0x80 and 2 <= head[1] <= 5:
        return head[2:3] in b"\x95}](cX\x8c\x89\x88K" or name.lower().endswith((".pkl", ".pickle"))
    return head[:1] in (b"(", b"c", b"}", b"]") and name.lower().endswith((".pkl", ".pickle"))


READERS: tuple[Reader, ...] = (Reader("smpl-pkl", "motion", sniff_pickle, facts, read, 34),)
