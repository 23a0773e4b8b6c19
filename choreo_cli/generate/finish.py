"""From what a network drew to a clip: clamped to the channels' ranges, feet that stand held still, and told how much.

What was given stays bit for bit; everything else is brought into its range and its standing feet are locked.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.motion.capture_state import Track, joints_of, to_channels, to_track
from choreo_cli.motion.choreo25 import clamp
from choreo_cli.motion.foot_lock import lock_feet
from formats.motion_npz import Skeleton

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

CONTACTS = slice(4, 6)
ANKLES = (7, 8)
CONTACT_NAMES = ("contact_l", "contact_r")
LET_GO_M_S = 5e-4  # a foot that could not be held closer than this is no contact any more
RELEASED = np.float32(0.25)


@dataclass(frozen=True, slots=True)
class Finished:
    """A finished clip.

    Args:
        channels: (T, 25) float32.
        report: `clamp_rate` (share of the 23 pose channels that lay outside), `clamped` by channel, `contacts_clamped`,
            `slide_mm_s` of ankles in contact before and after, `lock` (runs, released frames, lowering...).
    """

    channels: F32
    report: dict[str, Any] = field(default_factory=dict)


def finish(
    channels: NDArray[np.floating[Any]], skeleton: Skeleton, fps: float, *, given: Bool | None = None, lock: bool = True
) -> Finished:
    """Clamp and lock.

    Args:
        channels: (T, 25) raw.
        skeleton: The body.
        fps: Frame rate.
        given: (T, 25) values that must stay as they are.
        lock: Hold standing feet.

    Raises:
        DataError: values that are not finite.
    """
    asked = np.asarray(channels, np.float32)
    kept = np.zeros(asked.shape, bool) if given is None else given
    clamped, counts = clamp(asked)
    out = np.where(kept, asked, clamped)
    contact = sum(counts.pop(name, 0) for name in CONTACT_NAMES)
    total = sum(counts.values())
    report: dict[str, Any] = {
        "clamp_rate": round(total / max(1, 23 * len(out)), 6), "clamped": counts, "contacts_clamped": contact,
    }  # fmt: skip
    if lock and len(out) > 1:
        fixed = np.asarray(kept.any(1), bool)
        before = to_track(out, fps)
        report["slide_mm_s"] = {"before": round(_slide(before.q, before.contacts, skeleton, fps), 4)}
        made, report["lock"] = _locked(out, before, skeleton, fps, fixed)
        made, again = clamp(made)
        out = np.where(kept | fixed[:, None], out, made)
        after = to_track(out, fps)
        report["slide_mm_s"]["after"] = round(_slide(after.q, after.contacts, skeleton, fps), 4)
        report["lock"]["clamped_after"] = int(sum(again.values()))
    return Finished(out, report)


def _locked(out: F32, track: Track, skeleton: Skeleton, fps: float, fixed: Bool) -> tuple[F32, dict[str, Any]]:
    """Channels with standing feet held, and what became of it; feet that could not be held are let go."""
    found = lock_feet(track.q, track.contacts, skeleton, fps, fixed)
    contacts = track.contacts.copy()
    torn = _torn(found.q, contacts, skeleton, fps) & ~fixed[:, None]
    contacts[torn] = RELEASED
    made, *_ = to_channels(Track(found.q, contacts, fps))
    made[:, (0, 1, 3)] = out[:, (0, 1, 3)]  # the path is not touched: its rates keep their bits
    made[:, CONTACTS] = np.where(torn, RELEASED, out[:, CONTACTS])
    return made, {
        "runs": found.runs, "released": int(torn.sum()), "lowered_mm": round(1e3 * found.lowered_m, 3),
        "lowered_frames": found.lowered, "moved_mm": round(1e3 * found.moved_m, 3),
    }  # fmt: skip


def _torn(q: F64, contacts: F64, skeleton: Skeleton, fps: float) -> Bool:
    """(T, 2) frames of contact that the leg could not hold: the later of a pair that moved, and those up to its end."""
    speed = _speeds(q, skeleton, fps)
    down = contacts >= 0.5
    out = np.zeros(contacts.shape, bool)
    out[1:] = (speed > LET_GO_M_S) & down[1:] & down[:-1]
    return out


def _speeds(q: F64, skeleton: Skeleton, fps: float) -> F64:
    """(T - 1, 2) horizontal speeds of the ankles, m/s."""
    ankles = joints_of(q, skeleton)[:, ANKLES][..., (0, 2)]
    return np.asarray(np.linalg.norm(np.diff(ankles, axis=0), axis=-1) * fps)


def _slide(q: F64, contacts: F64, skeleton: Skeleton, fps: float) -> float:
    """Largest horizontal ankle speed between frames that both have contact, mm/s."""
    down = contacts >= 0.5
    both = down[1:] & down[:-1]
    return float(1e3 * _speeds(q, skeleton, fps)[both].max(initial=0.0))
