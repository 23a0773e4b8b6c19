"""A clip as the motion metrics take it: joints in metres, y up, floor at 0, at a known frame rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import DataError

F64 = NDArray[np.float64]

FIXED_FPS = 30.0
WINDOW_S = 5.0
SHORTEST_S = 0.25  # a stretch below this holds nothing to measure
GAP_S = 0.25
L_ANKLE, R_ANKLE, L_TOE, R_TOE = 7, 8, 10, 11
L_WRIST, R_WRIST = 20, 21
_SAME_RATE = 1e-3  # of the rate: 29.97 counts as 30
_KEEP_HZ = 0.45  # of the new rate: what is left of the spectrum before a rate is lowered


@dataclass(frozen=True, slots=True)
class Clip:
    """One clip to be judged.

    Args:
        name: How it is called in records.
        joints: (T, J, 3) metres, y up, floor at y = 0; J = 22 canonical joints, or 24 with both hands (SMPL order).
        fps: Frames per second.
        contacts: (T, 2) left and right foot on the floor, 0..1; None where the source has none.
        ankle_rest_m: (2,) height of left and right ankle over a flat foot; None derives it from the clip.
        group: Performer or take; intervals are drawn over groups.
        music: Music it was danced to, as its manifest names it.
        filled: Frames in gaps of up to 0.25 s that were interpolated.
        lost: Frames left out because of longer gaps.
        clamped: (T, 22, 3) joints decoded after the channels were clamped to their hard ranges; None without channels.
        clamped_share: Share of pose values (contacts are no pose) outside their range; None without channels.
    """

    name: str
    joints: F64
    fps: float
    contacts: F64 | None = None
    ankle_rest_m: tuple[float, float] | None = None
    group: str | None = None
    music: str | None = None
    filled: int = 0
    lost: int = 0
    clamped: F64 | None = None
    clamped_share: float | None = None

    def __post_init__(self) -> None:
        shape = self.joints.shape
        if len(shape) != 3 or shape[1] not in (22, 24) or shape[2] != 3:
            raise DataError(f"{self.name}: joints of shape {shape}, need (frames, 22 or 24, 3)")
        if not np.isfinite(self.fps) or self.fps <= 0:
            raise DataError(f"{self.name}: no frame rate", hint="give it with --fps")
        if self.contacts is not None and self.contacts.shape != (shape[0], 2):
            raise DataError(f"{self.name}: contacts of shape {self.contacts.shape}, need ({shape[0]}, 2)")

    @property
    def frames(self) -> int:
        return len(self.joints)

    @property
    def seconds(self) -> float:
        """From the first to the last frame."""
        return max(0, self.frames - 1) / self.fps

    @property
    def body(self) -> F64:
        """(T, 22, 3) without hands."""
        return self.joints[:, :22]


def with_hands(joints: F64) -> F64:
    """(T, 24, 3): the wrists stand in for the hands where there are none, and names of such figures end in `_j22`."""
    return joints if joints.shape[1] == 24 else np.concatenate([joints, joints[:, [L_WRIST, R_WRIST]]], axis=1)


def mended(clip: Clip) -> Clip:
    """The longest stretch without a gap above 0.25 s; shorter gaps are filled linearly, and both are counted.

    A clip without any finite frame comes back with no frames.
    """
    good = np.isfinite(clip.joints).all(axis=(1, 2))
    if good.all():
        return clip
    live = np.flatnonzero(good)
    if not len(live):
        return _cut(clip, 0, 0, clip.joints[:0], 0)
    cuts = np.flatnonzero(np.diff(live) - 1 > GAP_S * clip.fps)
    starts, ends = live[np.r_[0, cuts + 1]], live[np.r_[cuts, len(live) - 1]] + 1
    k = int(np.argmax(ends - starts))
    a, b = int(starts[k]), int(ends[k])
    inside = live[(live >= a) & (live < b)]
    flat = clip.joints.reshape(clip.frames, -1)
    whole = np.stack([np.interp(np.arange(a, b), inside, c) for c in flat[inside].T], axis=1)
    return _cut(clip, a, b, whole.reshape(b - a, -1, 3), b - a - len(inside))


def _cut(clip: Clip, a: int, b: int, joints: F64, filled: int) -> Clip:
    contacts = None if clip.contacts is None else clip.contacts[a:b]
    return replace(clip, joints=joints, contacts=contacts, filled=filled, lost=clip.frames - (b - a))


def resampled(clip: Clip, fps: float) -> Clip:
    """The clip at another rate: low-passed without delay where the rate falls, then cubic; contacts take the nearest.

    Times keep their meaning: frame 0 stays, the last frame lies at or before the old last one.

    Raises:
        DataError: the rate is not above 0.
    """
    if not np.isfinite(fps) or fps <= 0:
        raise DataError(f"cannot resample to {fps} frames per second")
    if abs(clip.fps / fps - 1) <= _SAME_RATE:
        return replace(clip, fps=fps)
    n = int(np.floor((clip.frames - 1) * fps / clip.fps + 1e-6)) + 1 if clip.frames else 0
    at = np.arange(n) * (clip.fps / fps)
    x = clip.joints
    if clip.fps > 1.1 * fps:
        x = low_passed(x, clip.fps, _KEEP_HZ * fps)
    if clip.frames >= 4:
        from scipy.interpolate import CubicSpline

        x = np.asarray(CubicSpline(np.arange(clip.frames), x, axis=0)(at))
    elif clip.frames:
        x = x[np.minimum(np.round(at).astype(int), clip.frames - 1)]
    near = np.minimum(np.round(at).astype(int), max(clip.frames - 1, 0))
    contacts = None if clip.contacts is None else clip.contacts[near]
    return replace(clip, joints=x, fps=fps, contacts=contacts)


def low_passed(x: F64, fps: float, cut_hz: float, order: int = 4) -> F64:
    """(T, ...) through a Butterworth filter forwards and backwards: no delay; unchanged when too short for it."""
    from scipy.signal import butter, sosfiltfilt

    if cut_hz >= 0.5 * fps:
        return x
    sos = butter(order, cut_hz / (0.5 * fps), output="sos")
    pad = min(3 * (2 * len(sos) + 1), len(x) - 1)
    return x if len(x) < 8 else np.asarray(sosfiltfilt(sos, x, axis=0, padlen=pad))


def windows(clip: Clip, seconds: float = WINDOW_S) -> list[Clip]:
    """Pieces of `seconds` one after the other; a remainder is left out, and a shorter clip is one piece of its own."""
    size = round(seconds * clip.fps)
    if clip.frames <= size:
        return [clip]
    pieces = [slice(a, a + size) for a in range(0, clip.frames - size + 1, size)]
    contacts = clip.contacts
    return [replace(clip, joints=clip.joints[s], contacts=None if contacts is None else contacts[s]) for s in pieces]


def fixed_rate(clip: Clip, fps: float = FIXED_FPS) -> Clip:
    """Mended and at 30 fps: what every repaired metric starts from."""
    return resampled(mended(clip), fps)


def ankle_rest(clip: Clip) -> F64:
    """(2,) ankle height over a flat foot: the header's, else the 5th percentile, at most 5 % of the stature."""
    if clip.ankle_rest_m is not None:
        return np.asarray(clip.ankle_rest_m, np.float64)
    from choreo_cli.motion.biomechanics import stature

    low = np.quantile(clip.joints[:, [L_ANKLE, R_ANKLE], 1], 0.05, axis=0)
    return np.clip(low, 0.0, 0.05 * float(stature(clip.body)))


def foot_heights(clip: Clip) -> F64:
    """(T, 2) height of the lower of ankle (over its rest) and toe, metres."""
    ankle = clip.joints[:, [L_ANKLE, R_ANKLE], 1] - ankle_rest(clip)
    return np.minimum(ankle, clip.joints[:, [L_TOE, R_TOE], 1])


def foot_contacts(clip: Clip, height_m: float = 0.05, rise_m_s: float = 0.1) -> NDArray[np.bool_]:
    """(T, 2) whether a foot stands: contacts of the clip from 0.5 on, else low and not rising or falling.

    Vertical speed alone: a foot that slides is still in contact (metrics-motion.md section 4).
    """
    if clip.contacts is not None:
        return np.asarray(clip.contacts >= 0.5)
    height = foot_heights(clip)
    if clip.frames < 2:
        return height < height_m
    rise = np.abs(np.gradient(height, axis=0)) * clip.fps
    return np.asarray((height < height_m) & (rise < rise_m_s))


def names_unique(clips: Sequence[Clip]) -> list[Clip]:
    """Clips with names no two of which are equal: a repeated one is numbered."""
    seen: dict[str, int] = {}
    out = []
    for clip in clips:
        seen[clip.name] = seen.get(clip.name, 0) + 1
        out.append(clip if seen[clip.name] == 1 else replace(clip, name=f"{clip.name}#{seen[clip.name]}"))
    return out
