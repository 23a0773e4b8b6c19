"""A choreo25 clip as the pose stream that everything else reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from choreo_cli.motion.choreo25 import decode
from formats import motion_npz
from formats.foreign.joints import CANONICAL
from formats.foreign.model import PoseStream
from formats.foreign.pose_clock import frame_times, rate_of
from formats.motion_npz import MotionClip

__all__ = ["pose_stream", "read_stream"]


def pose_stream(clip: MotionClip) -> PoseStream:
    """22 joints in metres, y up, on the clip's own clock."""
    rate = rate_of(clip.header.fps)
    return PoseStream(
        t_us=frame_times(np.arange(len(clip.channels), dtype=np.int64), rate),
        xyz=decode(clip).astype(np.float32), joints=CANONICAL, units="m", up="+y", rate=rate, rate_source="header",
        assumptions=("time rebuilt from i/fps",),
    )  # fmt: skip


def read_stream(path: str | Path) -> PoseStream:
    """Read a clip's joints. Raises FormatError when the file is damaged or of another layout."""
    return pose_stream(motion_npz.read(path))
