"""From what a network drew to a clip: clamped to the channels' ranges, feet that stand held still, and told how much.

What was given stays bit for bit; everything else is brought into its range and its standing feet are locked.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.generate.config import CONTACTS
from choreo_cli.motion.capture_state import Track, joints_of, to_channels, to_track
from choreo_cli.motion.choreo25 import CONTACT_NAMES, clamp, clamped_share
from choreo_cli.motion.foot_lock import RELEASED, let_step, lock_feet
from formats.motion_npz import Skeleton

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

ANKLES = (7, 8)
LET_GO_M_S = 5e-4  # a foot that could not be held closer than this is no contact any more


@dataclass(frozen=True, slots=True)
class Finished:
    """A finished clip.

    Args:
        channels: (T, 25) float32.
        report: `clamp_rate` (share of the 23 pose channels that lay outside), `clamped` by channel, `contacts_clamped`,
            `slide_mm_s`: the fastest ankle between two frames of contact, `before` and `after`, where one or both were
            drawn, and, where there are such, `given`: where both were given, so that it was left as it is. `lock`:
            `runs`; contact frames let go because the foot was drawn to step (`stepped`), or because its leg could not
            hold it (`released`); the most the pelvis was lowered and an ankle moved (`lowered_mm`, `moved_mm`).
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
    report: dict[str, Any] = {
        "clamp_rate": round(clamped_share(counts, len(out)), 6), "clamped": counts, "contacts_clamped": contact,
    }  # fmt: skip
    if lock and len(out) > 1:
        fixed = np.asarray(kept.any(1), bool)
        before = to_track(out, fps)
        own = fixed[1:] & fixed[:-1]  # pairs of which nothing was drawn
        slide = {"before": _slide(before.q, before.contacts, skeleton, fps, ~own)}
        made, report["lock"] = _locked(out, before, skeleton, fps, fixed)
        made, again = clamp(made)
        out = np.where(kept | fixed[:, None], out, made)
        after = to_track(out, fps)
        slide["after"] = _slide(after.q, after.contacts, skeleton, fps, ~own)
        if own.any():
            slide["given"] = _slide(before.q, before.contacts, skeleton, fps, own)
        report["slide_mm_s"] = slide
        report["lock"]["clamped_after"] = int(sum(again.values()))
    return Finished(out, report)


def _locked(out: F32, track: Track, skeleton: Skeleton, fps: float, fixed: Bool) -> tuple[F32, dict[str, Any]]:
    """Channels with standing feet held, and what became of it; feet that step or cannot be held are let go."""
    contacts = let_step(track.q, track.contacts, skeleton, fps, fixed)
    stepped = contacts != track.contacts
    found = lock_feet(track.q, contacts, skeleton, fps, fixed)
    torn = _torn(found.q, contacts, skeleton, fps) & ~fixed[:, None]
    made, *_ = to_channels(Track(found.q, contacts, fps))
    made[:, (0, 1, 3)] = out[:, (0, 1, 3)]  # the path is not touched: its rates keep their bits
    made[:, CONTACTS] = np.where(torn | stepped, np.float32(RELEASED), out[:, CONTACTS])
    return made, {
        "runs": found.runs, "released": int(torn.sum()), "stepped": int(stepped.sum()),
        "lowered_mm": round(1e3 * found.lowered_m, 3),
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


def _slide(q: F64, contacts: F64, skeleton: Skeleton, fps: float, kept: Bool) -> float:
    """Largest horizontal ankle speed (mm/s) over the pairs of frames (T - 1,) asked for that both have contact."""
    down = contacts >= 0.5
    both = down[1:] & down[:-1] & kept[:, None]
    return round(1e3 * float(_speeds(q, skeleton, fps)[both].max(initial=0.0)), 4)
