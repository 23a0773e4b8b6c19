"""Poses that another program writes, one JSON object a line: landmarks of a camera, live or from a recording."""

from __future__ import annotations

from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from choreo_cli.live.osc_pose import completed, finished
from choreo_cli.live.packet_source import Item, PacketPipe
from choreo_cli.live.sample import Body, Sample
from formats.errors import FormatError
from formats.foreign.joints import canonical_names
from formats.foreign.pose_points import find_pose
from formats.jsonstrict import loads

NO_MASK = np.ones(4, bool)
SECONDS_KEYS = ("t", "time", "timestamp")


class PosePipe(PacketPipe):
    """Lines of poses, in any of the forms of pose logs: joints by name, or the points of the named layout in its order.

    The time is `t_us`, or `t`, `time` or `timestamp` in seconds; a line without one was measured when it came.

    Args:
        stream: Binary, read line by line.
        body: As it is written, see `osc_pose.body_of`.
        name: As it was named on the command line.
    """

    kinds: tuple[str, ...] = ("pose",)

    def __init__(self, stream: BinaryIO, body: Body, name: str = "-") -> None:
        super().__init__(stream, name)
        self._sent, self.body = body, completed(body)

    def item(self, line: bytes, row: int, now_ns: int) -> Item | None:
        """See `PacketPipe`."""
        found = loads(line, row=row)
        pose = find_pose(found) if isinstance(found, dict) else None
        if not isinstance(found, dict) or pose is None:
            raise FormatError("no pose in it", row=row)
        points = np.array(pose.values, np.float32).reshape(-1, 4)[:, : self._sent.dims]
        return self._time(found, now_ns), now_ns, finished(self._in_order(pose.names, points, row), self._sent), NO_MASK

    def sample(self, t_us: int, arrival_ns: int, item: Item) -> Sample:
        """See `PacketPipe`."""
        return Sample("pose", t_us, arrival_ns, item[2], item[0])

    def said(self) -> list[str]:
        """See `Source`."""
        return [f"reading poses of {len(self._sent.joints)} joints from stdin, one JSON object a line"]

    def _in_order(self, names: tuple[str, ...] | None, points: NDArray[np.float32], row: int) -> NDArray[np.float32]:
        """(J, D) in the order of the body; a joint that is not in the line is NaN."""
        joints = self._sent.joints
        if names is None or all(n.startswith(("point_", "landmark_", "kp")) for n in names):
            if len(points) != len(joints):
                raise FormatError(f"{len(points)} points, the body has {len(joints)}", row=row)
            return points
        place = {name: k for k, name in enumerate(canonical_names(names))}
        if not set(place) & set(joints):
            raise FormatError("none of its joints is one of the body", row=row)
        ordered = np.full((len(joints), self._sent.dims), np.nan, np.float32)
        for k, joint in enumerate(joints):
            if joint in place:
                ordered[k] = points[place[joint]]
        return ordered

    def _time(self, found: dict[str, object], now_ns: int) -> int:
        t_us = found.get("t_us")
        if type(t_us) is int and abs(t_us) < 2**62:
            return t_us
        for key in SECONDS_KEYS:
            seconds = found.get(key)
            if isinstance(seconds, int | float) and not isinstance(seconds, bool) and abs(seconds) < 1e12:
                return round(seconds * 1e6)
        return now_ns // 1000
