"""Offline cleanup of a captured clip: zero-phase smoothing, jerk limit, ground, foot lock; bones keep their lengths.

Everything works on the states that channels are made of, so the decoded skeleton cannot stretch.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import DataError
from choreo_cli.motion.capture_state import Track, ankles_of, joints_of, track_of, with_track
from choreo_cli.motion.foot_lock import TOES, lock_feet, slide
from formats.foreign.joints import PARENTS
from formats.motion_npz import MotionClip, Skeleton

F64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

REAL_JERK: tuple[tuple[float, float], ...] = (
    (20.0, 745.0), (24.0, 867.0), (25.0, 881.0), (30.0, 1054.0), (50.0, 2614.0), (60.0, 3892.0), (100.0, 11624.0),
    (120.0, 17468.0),
)  # fmt: skip
"""99th percentile of the jerk of joints (m/s^3) of real clips by fps: 11 BVH clips of Bandai, CMU and Xia at 30 fps and
below (82,764 joint frames at 30), the 4 recorded at 120 above (37,972 at 60), all scaled to 1.70 m; third differences
grow with the frame rate because the noise of the recording does."""
LIMIT_FACTOR = 2.0
ORDER = 3
WINDOW_S = 0.18
_ROUNDS = 12
_PERCENTILE = 2.0


def jerk_limit(fps: float) -> float:
    """Largest jerk of a joint in m/s^3: twice the 99th percentile of real clips at that frame rate."""
    at, values = np.log(np.array(REAL_JERK)).T
    return float(LIMIT_FACTOR * np.exp(np.interp(np.log(fps), at, values)))


def jerk_of(joints: F64, fps: float) -> F64:
    """(T - 3, 22) size of the third difference in m/s^3; row t is of frames t to t + 3."""
    third = joints[3:] - 3 * joints[2:-1] + 3 * joints[1:-2] - joints[:-3]
    return np.asarray(np.linalg.norm(third, axis=-1) * fps**3)


def savgol(values: F64, window: int, order: int = ORDER) -> F64:
    """Savitzky-Golay smoothing along axis 0: the middle of the least-squares polynomial over each window.

    At the ends the polynomial of the first and last window is used. Zero phase. (Savitzky & Golay 1964.)

    Args:
        values: (T, K).
        window: Odd number of frames; a clip shorter than that is returned as it is.
        order: Of the polynomial.
    """
    n, half = len(values), window // 2
    if n < window or window <= order + 1:
        return values.copy()
    at = np.arange(-half, half + 1) / max(half, 1)
    powers = at[:, None] ** np.arange(order + 1)
    fit = powers @ np.linalg.pinv(powers)  # (window, window): every position of the fitted polynomial
    out = np.empty_like(values)
    out[:half], out[n - half :] = fit[:half] @ values[:window], fit[half + 1 :] @ values[n - window :]
    rows = np.lib.stride_tricks.sliding_window_view(values, window, axis=0)
    out[half : n - half] = rows @ fit[half]
    return out


@dataclass(frozen=True, slots=True)
class CleanOptions:
    """What is done to a clip.

    Args:
        window_s: Of the smoothing; 0 smooths nothing.
        jerk: Limit in m/s^3; None takes `jerk_limit`, 0 limits nothing.
        ground: Move the floor to 0.
        lock: Lock the feet.
    """

    window_s: float = WINDOW_S
    jerk: float | None = None
    ground: bool = True
    lock: bool = True


def clean(clip: MotionClip, options: CleanOptions | None = None) -> tuple[MotionClip, dict[str, Any]]:
    """A cleaned clip and what was done to it.

    Args:
        clip: Any choreo25 clip.
        options: What is done.

    Returns:
        The clip (same contacts, skeleton and frames; `flags.cleaned`), and the report: ankle slide, jerk, bone lengths
        and floor before and after, frames smoothed further for the jerk limit, and what the foot lock did.

    Raises:
        DataError: Numbers that are not finite, or a limit below 0.
    """
    asked = options or CleanOptions()
    if asked.window_s < 0 or (asked.jerk is not None and asked.jerk < 0):
        raise DataError("a smoothing window or a jerk limit below 0")
    skeleton, track = clip.header.skeleton, track_of(clip)
    limit = jerk_limit(track.fps) if asked.jerk is None else asked.jerk
    before = joints_of(track.q, skeleton)
    window = odd_frames(asked.window_s, track.fps)
    q = savgol(track.q, window) if window > 1 else track.q.copy()
    report: dict[str, Any] = {"window_frames": window}
    q, smoothed = limit_jerk(q, skeleton, track.fps, limit) if limit else (q, 0)
    if asked.ground:
        q, report["floor_mm"] = _grounded(q, skeleton)
    if asked.lock:
        q, report["lock"] = _locked(q, track.contacts, skeleton, track.fps, limit)
    made = with_track(clip, Track(q, track.contacts, track.fps), {"cleaned": True})
    after = joints_of(track_of(made).q, skeleton)
    report |= {
        "jerk_limit": limit, "smoothed_frames": smoothed,
        "before": facts(before, track.contacts, track.fps), "after": facts(after, track.contacts, track.fps),
        "moved_mm": round(1e3 * float(np.linalg.norm(after - before, axis=-1).mean()), 3),
        "bone_drift": _bone_drift(after),
    }  # fmt: skip
    return made, report


def odd_frames(seconds: float, fps: float) -> int:
    """The odd number of frames nearest to a time; 1 when it is shorter than a polynomial needs."""
    n = 2 * round(seconds * fps / 2) + 1
    return n if n > ORDER + 1 else 1


def facts(joints: F64, contacts: F64, fps: float) -> dict[str, float]:
    """Slide of ankles and toes in mm/s, and jerk in m/s^3, of a clip."""
    mean, most, toes = slide(joints, contacts, fps)
    jerk = jerk_of(joints, fps) if len(joints) > 3 else np.zeros((1, 22))
    return {
        "ankle_slide_mm_s": round(1e3 * mean, 4), "ankle_slide_max_mm_s": round(1e3 * most, 4),
        "toe_slide_mm_s": round(1e3 * toes, 2), "jerk_p99": round(float(np.percentile(jerk, 99)), 1),
        "jerk_max": round(float(jerk.max()), 1),
    }  # fmt: skip


def limit_jerk(q: F64, skeleton: Skeleton, fps: float, limit: float) -> tuple[F64, int]:
    """States whose joints stay under a jerk limit, smoothed further only around where they did not.

    Returns:
        The states, and how many frames were smoothed further.
    """
    touched = np.zeros(len(q), bool)
    for number in range(1, _ROUNDS + 1):
        over = _frames_over(q, skeleton, fps, limit)
        if not over.any():
            break
        half = min(2 + 2 * number, (len(q) - 1) // 2)
        smooth = savgol(q, 2 * half + 1, 1 if number > _ROUNDS // 2 else ORDER)
        weight = _faded(over, half)[:, None]
        q = q + weight * (smooth - q)
        touched |= weight[:, 0] > 0
    return q, int(touched.sum())


def _frames_over(q: F64, skeleton: Skeleton, fps: float, limit: float) -> Bool:
    over = np.zeros(len(q), bool)
    if len(q) > 3:
        bad = np.asarray((jerk_of(joints_of(q, skeleton), fps) > limit).any(1))
        for k in range(4):
            over[k : len(bad) + k] |= bad
    return over


def _faded(over: Bool, half: int) -> F64:
    """1 at the marked frames, falling to 0 over `2 half` frames beside them without a corner."""
    window = np.hanning(4 * half + 3)[1:-1]
    marked = np.convolve(over.astype(np.float64), np.ones(2 * half + 1), mode="same") > 0
    faded = np.convolve(np.pad(marked.astype(np.float64), 2 * half, mode="edge"), window / window.sum(), mode="valid")
    return np.maximum(faded, over)


def _grounded(q: F64, skeleton: Skeleton) -> tuple[F64, float]:
    """States with the floor at 0, and by how many millimetres they were lowered (motion.md section 9, Floor)."""
    leg = np.asarray(skeleton.thigh) + np.asarray(skeleton.shank)
    ankles = ankles_of(q, leg)[..., 1] - np.asarray(skeleton.ank0)
    toes = joints_of(q, skeleton)[:, TOES, 1]
    floor = float(np.percentile(np.minimum(ankles.min(1), toes.min(1)), _PERCENTILE))
    out = q.copy()
    out[:, 1] -= floor
    return out, round(1e3 * floor, 3)


def _locked(q: F64, contacts: F64, skeleton: Skeleton, fps: float, limit: float) -> tuple[F64, dict[str, Any]]:
    """Locked states. Where locking breaks the jerk limit, the motion around it is smoothed and locked again."""
    found = lock_feet(q, contacts, skeleton, fps)
    for number in range(1, 5):
        over = _frames_over(found.q, skeleton, fps, limit) if limit else np.zeros(len(q), bool)
        if not over.any():
            break
        half = min(2 + 2 * number, (len(q) - 1) // 2)
        q = q + _faded(over, half)[:, None] * (savgol(q, 2 * half + 1) - q)
        found = lock_feet(q, contacts, skeleton, fps)
    told = asdict(found)
    del told["q"]
    return found.q, {k: round(v, 5) if isinstance(v, float) else v for k, v in told.items()}


def _bone_drift(joints: F64) -> float:
    """Largest relative deviation of a bone's length over the clip."""
    parents = np.array(PARENTS[1:])
    bones = np.linalg.norm(joints[:, 1:] - joints[:, parents], axis=-1)
    return float((bones.std(0) / np.maximum(bones.mean(0), 1e-9)).max())
