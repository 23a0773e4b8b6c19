"""choreo25: 22 joints as 25 numbers a frame and a header, and back (motion.md sections 1 to 7)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import DataError
from choreo_cli.motion.algebra import heading
from choreo_cli.motion.forward_kinematics import Body, body_of, joints_in_heading
from choreo_cli.motion.inverse_kinematics import pelvis_of, posture
from choreo_cli.motion.joint_checks import bone_spread, contacts_of, fill_gaps, hinge_angles
from choreo_cli.motion.skeleton import BLOCK, component_blocks, fit_skeleton, mirror_skeleton, stature
from formats.motion_npz import CHANNELS, NORMS, Header, MotionClip, Skeleton, out_of_range

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

__all__ = [
    "CONTACT_NAMES", "MIRROR_NEGATED", "MIRROR_ORDER", "clamp", "clamped_share", "contacts_of", "decode",
    "decode_channels", "encode", "encode_channels", "hinge_angles", "integrate_root", "mirror", "mirror_channels",
    "resample_clip",
]  # fmt: skip

N_CHANNELS = 25
MIRROR_ORDER = (0, 1, 2, 3, 5, 4, 6, 7, 8, 9, 10, 15, 16, 17, 18, 11, 12, 13, 14, 22, 23, 24, 19, 20, 21)
MIRROR_NEGATED = (0, 3, 7, 9, 10, 11, 14, 15, 18, 19, 22)
CONTACT_NAMES = ("contact_l", "contact_r")
SWIVELS = (14, 18)
# Below this the pelvis is so far from upright that yaw, pitch and roll are nearly singular.
UPRIGHT = 0.3
# Bones that vary more than this were tracked or generated, not measured on a rigid rig.
SPREAD = 0.01


def encode(
    joints: NDArray[np.floating[Any]],
    fps: float,
    *,
    skeleton: Skeleton | None = None,
    source: Mapping[str, Any] | None = None,
    licence: str | None = None,
    origin: str | None = None,
    scale_applied: float = 1.0,
    flags: Mapping[str, Any] | None = None,
) -> MotionClip:
    """Encode a clip.

    Args:
        joints: (T, 22, 3) metres, y up, floor at 0, canonical order. Gaps (NaN) of at most 0.25 s inside the clip are
            filled and counted in the flag `filled`.
        fps: Frame rate, Hz.
        skeleton: Of the performer; None fits the clip's own.
        source: Kept in the header: format, rig family, path hash, original fps.
        licence: Terms of the source.
        origin: Who made it.
        scale_applied: Factor the joints were multiplied by, beyond units.
        flags: More flags for the header.

    Returns:
        float32 channels and their header. Flags: `inverted` (the pelvis leaves the upright range of the angles),
        `updot` (how upright it is at least), `filled`, `out_of_range` (values beyond their hard range, by channel),
        `varying_bones` and `bone_std` (largest relative deviation of a bone's length).

    Raises:
        DataError: no frames, another shape, an impossible fps, infinite values, or gaps that are too long.
    """
    array = np.asarray(joints, np.float64)
    if array.ndim != 3 or array.shape[1:] != (22, 3):
        raise DataError(f"joints of shape {array.shape}", hint="(frames, 22, 3) is needed")
    if not len(array):
        raise DataError("no frames to encode")
    if not (math.isfinite(fps) and 0.01 <= fps <= 10_000):
        raise DataError(f"{fps} frames per second", hint="give the rate of the recording")
    array, filled = fill_gaps(array, fps)
    body = skeleton or fit_skeleton(array)
    channels, start, updot = encode_channels(array, fps, body)
    spread = bone_spread(array)
    found: dict[str, Any] = {
        "inverted": bool(updot < UPRIGHT), "updot": round(float(updot), 4), "filled": filled,
        "out_of_range": out_of_range(channels), "varying_bones": bool(spread > SPREAD),
        "bone_std": round(float(spread), 5), **(flags or {}),
    }  # fmt: skip
    header = Header(
        fps=float(fps), skeleton=body, yaw0=start[0], x0=start[1], z0=start[2], height_m=stature(body),
        scale_applied=float(scale_applied), source=dict(source or {}), licence=licence, origin=origin, flags=found,
    )  # fmt: skip
    return MotionClip(channels.astype(np.float32), header)


def encode_channels(joints: F64, fps: float, skeleton: Skeleton) -> tuple[F64, tuple[float, float, float], float]:
    """The 25 channels of finite joints, in float64.

    Args:
        joints: (T, 22, 3) metres, T >= 1.
        fps: Frame rate.
        skeleton: The body.

    Returns:
        Channels (T, 25); yaw0, x0, z0; the smallest dot product of the pelvis' y axis with up.
    """
    n = len(joints)
    out = np.empty((N_CHANNELS, n))
    yaw, updot = np.empty(n), 1.0
    body = _body(skeleton.to_vector().tobytes())
    at = 0
    for block in component_blocks(joints):
        pelvis = pelvis_of(np, body, block)
        span = slice(at, at + block.shape[2])
        yaw[span] = pelvis.yaw[0]
        out[6:, span] = posture(np, body, pelvis)
        updot = min(updot, float(pelvis.upright.min()))
        at = span.stop
    yaw = np.unwrap(yaw)
    out[2] = joints[:, 0, 1]
    out[4:6] = contacts_of(joints, fps).T
    out[[0, 1, 3]] = 0.0
    if n > 1:
        step = np.diff(joints[:, 0, ::2], axis=0).T * fps
        c, s = np.cos(yaw[:-1]), np.sin(yaw[:-1])
        out[0, :-1], out[1, :-1] = heading(c, -s, step[0], step[1])
        out[3, :-1] = np.diff(yaw) * fps
        out[[0, 1, 3], -1] = out[[0, 1, 3], -2]
    return out.T, (float(yaw[0]), float(joints[0, 0, 0]), float(joints[0, 0, 2])), updot


@lru_cache(maxsize=16)
def _body(vector: bytes) -> Body:
    """The skeleton as component-first arrays; a stream asks for the same one a hundred times a second."""
    return body_of(np, np.frombuffer(vector)[:, None])


def integrate_root(
    channels: NDArray[np.floating[Any]],
    fps: float,
    yaw0: float | F64 = 0.0,
    x0: float | F64 = 0.0,
    z0: float | F64 = 0.0,
) -> tuple[F64, F64]:
    """Sum the rates of change, in float64.

    Args:
        channels: (..., T, 25).
        fps: Frame rate.
        yaw0, x0, z0: Start; numbers, or arrays of the leading shape.

    Returns:
        yaw (..., T) rad, unwrapped; root (..., T, 3) metres.
    """
    c = np.asarray(channels)
    rates = np.asarray(c[..., :-1, (0, 1, 3)], np.float64) / fps
    yaw = np.empty(c.shape[:-1])
    root = np.empty((*c.shape[:-1], 3))
    if not c.shape[-2]:
        return yaw, root
    yaw[..., 0], root[..., 0, 0], root[..., 0, 2] = yaw0, x0, z0
    yaw[..., 1:] = yaw[..., :1] + np.cumsum(rates[..., 2], -1)
    cos, sin = np.cos(yaw[..., :-1]), np.sin(yaw[..., :-1])
    x, z = heading(cos, sin, rates[..., 0], rates[..., 1])
    root[..., 1:, 0] = root[..., :1, 0] + np.cumsum(x, -1)
    root[..., 1:, 2] = root[..., :1, 2] + np.cumsum(z, -1)
    root[..., 1] = c[..., 2]
    return yaw, root


def decode(clip: MotionClip) -> F64:
    """Joints (T, 22, 3) float64 in metres of a clip, with its own skeleton and start."""
    h = clip.header
    return decode_channels(clip.channels, h.skeleton, h.fps, h.yaw0, h.x0, h.z0)


def decode_channels(
    channels: NDArray[np.floating[Any]],
    skeleton: Skeleton,
    fps: float,
    yaw0: float | F64 = 0.0,
    x0: float | F64 = 0.0,
    z0: float | F64 = 0.0,
) -> F64:
    """Decode a clip or a batch of clips of one body.

    Args:
        channels: (..., T, 25).
        skeleton: The body.
        fps: Frame rate.
        yaw0, x0, z0: Start; numbers, or arrays of the leading shape.

    Returns:
        (..., T, 22, 3) float64 metres.

    Raises:
        DataError: another shape than (..., T, 25).
    """
    c = np.asarray(channels)
    if c.ndim < 2 or c.shape[-1] != N_CHANNELS:
        raise DataError(f"channels of shape {c.shape}", hint="(..., frames, 25) is needed")
    yaw, root = integrate_root(c, fps, yaw0, x0, z0)
    t = c.shape[-2]
    clips, flat_yaw, flat_root = c.reshape(-1, t, N_CHANNELS), yaw.reshape(-1, t), root.reshape(-1, t, 3)
    out = np.empty((len(clips), t, 22, 3))
    body = _body(skeleton.to_vector().tobytes())
    before = np.zeros((2, 2, 1))
    for rows, first in _spans(len(clips), t):
        n = clips[rows].shape[0] * clips[rows].shape[1]
        block = np.ascontiguousarray(clips[rows].reshape(n, N_CHANNELS).T, np.float64)
        if first:
            before = _forward()
        local, before = _decode_block(body, block, before, rows[0].stop - rows[0].start)
        angle = flat_yaw[rows].reshape(-1)
        x, z = heading(np.cos(angle), np.sin(angle), local[0], local[2])
        place = flat_root[rows].reshape(n, 3).T
        world = np.empty((3, 22, n))
        np.add(x, place[0], out=world[0])
        np.add(local[1], place[1], out=world[1])
        np.add(z, place[2], out=world[2])
        out[rows] = world.transpose(2, 1, 0).reshape(*out[rows].shape)
    return out.reshape(*c.shape[:-1], 22, 3)


def _spans(clips: int, t: int) -> Iterator[tuple[tuple[slice, slice], bool]]:
    """Blocks of whole short clips, or stretches of one long clip; and whether one starts at a first frame."""
    if t and t <= BLOCK:
        per = max(1, BLOCK // t)
        for k in range(0, clips, per):
            yield (slice(k, min(k + per, clips)), slice(0, t)), True
    elif t:
        for k in range(clips):
            for start in range(0, t, BLOCK):
                yield (slice(k, k + 1), slice(start, min(start + BLOCK, t))), start == 0


def _forward() -> F64:
    """Flat foot direction before the first frame: straight ahead, both sides (2, 2, 1)."""
    return np.array([[0.0, 0.0], [1.0, 1.0]])[..., None]


def _decode_block(body: Body, block: F64, before: F64, clips: int) -> tuple[F64, F64]:
    """Joints of a block; a foot that points straight down keeps the direction of the frame before it."""
    local, flat, own = joints_in_heading(np, body, block, before)
    n = block.shape[1]
    if not own.all():
        t = n // clips
        index = np.where(own, np.arange(n), -1).reshape(2, clips, t)
        last = np.maximum.accumulate(index, -1).reshape(2, n)
        kept = np.take_along_axis(flat, np.broadcast_to(np.maximum(last, 0), flat.shape), -1)
        local, flat, _ = joints_in_heading(np, body, block, np.where(last >= 0, kept, before))
    return local, flat[..., -1:]


def clamp(channels: NDArray[np.floating[Any]]) -> tuple[F32, dict[str, int]]:
    """Bring channels (..., 25) into their hard ranges: angles wrap, vectors keep their direction.

    Returns:
        The clamped channels and how many values of each were outside (`formats.motion_npz.out_of_range`).

    Raises:
        DataError: values that are not finite: no range says what they should be.
    """
    c = np.array(channels, np.float64)
    if not np.isfinite(c).all():
        bad = int((~np.isfinite(c)).sum())
        raise DataError(f"{bad} channel values are not finite", hint="a model that emits NaN has diverged")
    counts = out_of_range(c)
    for k in SWIVELS:
        c[..., k] = _wrapped(c[..., k])
    for part, most in NORMS:
        size = np.sqrt((c[..., part] ** 2).sum(-1, keepdims=True))
        c[..., part] *= np.minimum(1.0, most / np.maximum(size, 1e-9))
    low = np.array([x.lo for x in CHANNELS])
    high = np.array([x.hi for x in CHANNELS])
    return np.clip(c, low, high).astype(np.float32), counts


def clamped_share(counts: Mapping[str, int], frames: int) -> float:
    """Share of the pose values outside their range, of what `clamp` counted in that many frames.

    Contacts are left out: a network draws them as numbers about 0 and 1, and cutting those changes no pose.
    """
    pose = len(CHANNELS) - len(CONTACT_NAMES)
    return sum(n for name, n in counts.items() if name not in CONTACT_NAMES) / max(1, pose * frames)


def _wrapped(angle: F64) -> F64:
    """Angles in (-pi, pi]; what already lies there keeps its bits."""
    turned = -((math.pi - angle) % (2 * math.pi) - math.pi)
    return np.where((angle > -math.pi) & (angle <= math.pi), angle, turned)


def mirror_channels(channels: NDArray[np.floating[Any]]) -> NDArray[Any]:
    """Channels (..., 25) of the mirror image (x reflected)."""
    out = np.asarray(channels)[..., list(MIRROR_ORDER)]
    out[..., list(MIRROR_NEGATED)] *= -1
    for k in SWIVELS:  # -pi is pi
        column = out[..., k]
        column[column <= -math.pi] = math.pi
    return out


def mirror(clip: MotionClip) -> MotionClip:
    """The mirror image of a clip: it decodes to the reflected joints, left and right swapped."""
    h = clip.header
    header = replace(
        h, yaw0=-h.yaw0, x0=-h.x0, skeleton=mirror_skeleton(h.skeleton),
        flags={**h.flags, "mirrored": not h.flags.get("mirrored", False)},
    )  # fmt: skip
    return replace(clip, channels=mirror_channels(clip.channels), header=header)


def resample_clip(clip: MotionClip, fps: float) -> MotionClip:
    """The clip at another rate: decoded, joints interpolated with their bones kept, encoded with the same skeleton.

    Raises:
        DataError: an impossible fps.
    """
    from choreo_cli.motion.interpolate import resample_joints

    if not (math.isfinite(fps) and 0.01 <= fps <= 10_000):
        raise DataError(f"{fps} frames per second", hint="give a rate in Hz")
    h = clip.header
    if fps == h.fps:
        return clip
    kept = {k: v for k, v in h.flags.items() if k not in ("inverted", "updot", "out_of_range")}
    made = encode(
        resample_joints(decode(clip), h.fps, fps), fps, skeleton=h.skeleton, source=h.source, licence=h.licence,
        origin=h.origin, scale_applied=h.scale_applied, flags={**kept, "resampled_from_fps": h.fps},
    )  # fmt: skip
    return replace(made, header=replace(made.header, height_m=h.height_m), created_by=clip.created_by)
