"""The pose a capture filter works on: 23 degrees of freedom that a choreo25 clip's channels are made of, and back.

choreo25 stores root velocities in the body's own heading; a filter and a smoother need the positions. `STATE` is
choreo25 with `vx vz w` replaced by the floor position and heading they integrate to (motion.md section 3) and without
the two contacts, which are decided, not filtered. Order: root, pelvis angles, chest rotation vector, wrists, ankles,
elbow swivels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import DataError
from choreo_cli.motion.choreo25 import decode_channels
from formats.motion_npz import MotionClip, Skeleton

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

STATE: tuple[str, ...] = (
    "x", "h", "z", "yaw", "pitch", "roll", "tx", "ty", "tz", "wLx", "wLy", "wLz", "wRx", "wRy", "wRz",
    "aLx", "aLy", "aLz", "aRx", "aRy", "aRz", "swL", "swR",
)  # fmt: skip
DOFS = len(STATE)
ROOT, TILT, CHEST = slice(0, 3), slice(3, 6), slice(6, 9)
WRISTS, ANKLES, SWIVELS = (slice(9, 12), slice(12, 15)), (slice(15, 18), slice(18, 21)), (21, 22)
YAW = 3
WRAPPED = (YAW, 4, 5, *SWIVELS)
"""Angles: their differences are taken modulo one turn."""
# Channel of each degree of freedom from `h` on; x, z and yaw come of integration.
_CHANNEL = {1: 2, 4: 6, 5: 7, 6: 8, 7: 9, 8: 10, 9: 11, 10: 12, 11: 13, 21: 14, 12: 15, 13: 16, 14: 17, 22: 18} | {
    15 + k: 19 + k for k in range(6)
}
_STATE_AT = np.array(sorted(_CHANNEL))
_CHANNEL_AT = np.array([_CHANNEL[k] for k in sorted(_CHANNEL)])
TURN = 2 * np.pi


def wrap(angle: F64) -> F64:
    """Angles (rad) in [-pi, pi)."""
    return np.asarray((angle + np.pi) % TURN - np.pi)


def difference(a: F64, b: F64) -> F64:
    """`a - b` of states (..., 23), angles by the shorter way."""
    out = np.asarray(a - b, np.float64)
    out[..., WRAPPED] = wrap(out[..., WRAPPED])
    return out


@dataclass(frozen=True, slots=True)
class Track:
    """A clip as states.

    Args:
        q: (T, 23) float64 in the order of `STATE`; metres, radians, wrists and ankles in limb lengths; the angles are
            unwrapped, so that they may be interpolated and filtered.
        contacts: (T, 2) left, right in 0..1.
        fps: Frames a second.
    """

    q: F64
    contacts: F64
    fps: float


def to_track(channels: F32 | F64, fps: float, yaw0: float = 0.0, x0: float = 0.0, z0: float = 0.0) -> Track:
    """States of choreo25 channels.

    Args:
        channels: (T, 25).
        fps: Frames a second.
        yaw0: Heading of the first frame (rad).
        x0: Its place on the floor (m).
        z0: Its place on the floor (m).

    Raises:
        DataError: Not (T, 25), empty, or with numbers that are not finite.
    """
    c = np.asarray(channels, np.float64)
    if c.ndim != 2 or c.shape[1] != 25 or not len(c):
        raise DataError(f"channels of shape {c.shape}, need (T, 25) with T >= 1")
    if not np.isfinite(c).all():
        raise DataError(f"frame {int(np.argwhere(~np.isfinite(c))[0][0])} holds numbers that are not finite")
    q = np.empty((len(c), DOFS))
    q[:, _STATE_AT] = c[:, _CHANNEL_AT]
    yaw = yaw0 + np.concatenate([[0.0], np.cumsum(c[:-1, 3] / fps)])
    cos, sin = np.cos(yaw), np.sin(yaw)
    step_x, step_z = (cos * c[:, 0] + sin * c[:, 1]) / fps, (cos * c[:, 1] - sin * c[:, 0]) / fps
    q[:, YAW] = yaw
    q[:, 0] = x0 + np.concatenate([[0.0], np.cumsum(step_x[:-1])])
    q[:, 2] = z0 + np.concatenate([[0.0], np.cumsum(step_z[:-1])])
    q[:, SWIVELS] = np.unwrap(q[:, SWIVELS], axis=0)
    return Track(q, c[:, 4:6].copy(), fps)


def to_channels(track: Track) -> tuple[F32, float, float, float]:
    """Channels (T, 25) float32 of a track, and the first frame's heading and place: yaw0, x0, z0.

    The speeds are recomputed, whatever was done to the track; the last row repeats the one before it.
    """
    q, fps = track.q, track.fps
    out = np.zeros((len(q), 25))
    out[:, _CHANNEL_AT] = q[:, _STATE_AT]
    out[:, (14, 18)] = wrap(out[:, (14, 18)])
    out[:, 4:6] = track.contacts
    if len(q) > 1:
        yaw = np.unwrap(q[:, YAW])
        dx, dz = np.diff(q[:, 0]) * fps, np.diff(q[:, 2]) * fps
        cos, sin = np.cos(yaw[:-1]), np.sin(yaw[:-1])
        out[:-1, 0], out[:-1, 1], out[:-1, 3] = cos * dx - sin * dz, sin * dx + cos * dz, np.diff(yaw) * fps
        out[-1, (0, 1, 3)] = out[-2, (0, 1, 3)]
    return out.astype(np.float32), float(q[0, YAW]), float(q[0, 0]), float(q[0, 2])


def headings(yaw: F64) -> F64:
    """(..., 3, 3) rotations about y: `Ry(a) = [[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]]`."""
    out = np.zeros((*np.shape(yaw), 3, 3))
    out[..., 0, 0] = out[..., 2, 2] = np.cos(yaw)
    out[..., 0, 2] = np.sin(yaw)
    out[..., 2, 0] = -out[..., 0, 2]
    out[..., 1, 1] = 1.0
    return out


def ankles_of(q: F64, leg_m: F64) -> F64:
    """(T, 2, 3) world positions of the ankles (m) of states (T, 23): exact, they are linear in the channels.

    Args:
        q: States.
        leg_m: (2,) thigh + shank of each side.
    """
    local = np.stack([q[:, ANKLES[0]], q[:, ANKLES[1]]], 1) * np.asarray(leg_m)[:, None]
    return np.asarray(q[:, None, ROOT] + np.einsum("tij,tsj->tsi", headings(q[:, YAW]), local))


def set_ankles(q: F64, world: F64, leg_m: F64) -> F64:
    """States with their ankles put at world positions (T, 2, 3)."""
    local = np.einsum("tji,tsj->tsi", headings(q[:, YAW]), world - q[:, None, ROOT]) / np.asarray(leg_m)[:, None]
    out = q.copy()
    out[:, ANKLES[0]], out[:, ANKLES[1]] = local[:, 0], local[:, 1]
    return out


def joints_of(q: F64, skeleton: Skeleton) -> F64:
    """(T, 22, 3) joints in metres of states (T, 23), each by itself: nothing is integrated."""
    out = np.zeros((len(q), 25))
    out[:, _CHANNEL_AT] = q[:, _STATE_AT]
    return decode_channels(out[:, None], skeleton, 1.0, q[:, YAW], q[:, 0], q[:, 2])[:, 0]


def track_of(clip: MotionClip) -> Track:
    """The track of a clip. Raises DataError as `to_track`."""
    h = clip.header
    return to_track(clip.channels, h.fps, h.yaw0, h.x0, h.z0)


def with_track(clip: MotionClip, track: Track, flags: dict[str, Any] | None = None) -> MotionClip:
    """The clip with another motion: same body and origin, speeds and start recomputed, flags added."""
    channels, yaw0, x0, z0 = to_channels(track)
    header = replace(clip.header, fps=track.fps, yaw0=yaw0, x0=x0, z0=z0, flags={**clip.header.flags, **(flags or {})})
    return replace(clip, channels=channels, header=header)
