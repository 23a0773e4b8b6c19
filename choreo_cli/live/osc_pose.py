"""Poses that come as bare numbers in one OSC message: which joints they are, and the skeleton that comes of them."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import UsageError
from choreo_cli.live.osc import Message, OscError
from choreo_cli.live.sample import Body
from formats.foreign.joints import BODY_25, CANONICAL, COCO_17, COCO_18, MEDIAPIPE_33, canonical_names

BODIES = {
    "canonical22": Body(CANONICAL, 3, "+y", "m"),
    "mediapipe33": Body(MEDIAPIPE_33, 3, "-y", "m"),
    "coco17": Body(COCO_17, 2, "-y", "px"),
    "coco18": Body(COCO_18, 2, "-y", "px"),
    "body25": Body(BODY_25, 2, "-y", "px"),
}
"""Layouts by name, with the dimensions and the up that their senders use: images count downwards."""
UPS = ("+y", "-y", "+z")
FORM = f"LAYOUT[:2|3[:{'|'.join(UPS)}]], with LAYOUT one of {', '.join(BODIES)}, or names: l_hip,r_hip,..."
LARGEST = 1e6
"""In any unit of length a body is smaller; what is larger is damage."""


def body_of(text: str) -> Body:
    """The body as its sender orders it: `mediapipe33`, `coco17:3`, `canonical22:3:+z`, `l_hip,r_hip,head:2:-y`.

    Raises:
        UsageError: no such layout, a name that comes twice, or dimensions or an up that are none.
    """
    name, *rest = text.split(":")
    known = BODIES.get(name)
    if known is None:
        joints = tuple(j.strip() for j in name.split(","))
        if len(joints) < 2 or not all(joints) or len(set(joints)) < len(joints):
            near = difflib.get_close_matches(name, BODIES, 1)
            raise UsageError(f"--body {text}: no such body", hint=f"did you mean {near[0]}?" if near else FORM)
        known = Body(canonical_names(joints), 3, "+y", "m")
    dims = rest[0] if rest else str(known.dims)
    # Images count downwards, worlds upwards, unless the layout or the person says otherwise.
    usual = known.up if dims == str(known.dims) else "-y" if dims == "2" else "+y"
    up = rest[1] if len(rest) > 1 else usual
    if len(rest) > 2 or dims not in ("2", "3") or up not in (UPS[:2] if dims == "2" else UPS):
        raise UsageError(f"--body {text}: not dimensions and an up", hint=f"write {FORM}")
    return Body(known.joints, int(dims), up, known.units)


def completed(body: Body) -> Body:
    """The body with the pelvis that `PoseReader` adds when only its hips are sent; see `joints.with_pelvis`."""
    if _hips(body) is None:
        return body
    return Body((*body.joints, "pelvis"), body.dims, body.up, body.units)


def _hips(body: Body) -> tuple[int, int] | None:
    names = body.joints
    if "pelvis" in names or "l_hip" not in names or "r_hip" not in names:
        return None
    return names.index("l_hip"), names.index("r_hip")


class PoseReader:
    """J*D numbers, joint by joint, as a pose (J', D) of `completed(body)`.

    As in recordings, a joint with a number missing (the tag F) is missing whole, and so is one at (0, 0) of an image.

    Args:
        body: As it is sent.
    """

    def __init__(self, body: Body) -> None:
        self.count = len(body.joints) * body.dims
        self._shape, self._body = (len(body.joints), body.dims), body

    def pose(self, message: Message) -> NDArray[np.float32]:
        """The pose of a message.

        Raises:
            OscError: another count of arguments, or one that is no position.
        """
        if len(message.args) != self.count:
            raise OscError(f"not {self.count} number{'s' * (self.count > 1)}")
        return finished(np.array(_positions(message.args), np.float32).reshape(self._shape), self._body)


def finished(xyz: NDArray[np.float32], body: Body) -> NDArray[np.float32]:
    """A pose (J, D) as it was sent, in place: missing joints missing whole, and (J', D) with the pelvis it lacks."""
    gone = np.isnan(xyz).any(axis=1)
    if body.dims == 2:
        gone |= (xyz == 0).all(axis=1)
    xyz[gone] = np.nan
    hips = _hips(body)
    if hips is None:
        return xyz
    middle = (xyz[hips[0]].astype(np.float64) + xyz[hips[1]]) / 2
    return np.vstack([xyz, middle.astype(np.float32)])


def _positions(args: Sequence[object]) -> list[float]:
    found = []
    for arg in args:
        if arg is False:
            found.append(np.nan)
        elif isinstance(arg, bool) or not isinstance(arg, int | float) or not abs(arg) < LARGEST:
            raise OscError("an argument is no position")
        else:
            found.append(float(arg))
    return found
