"""Exact foot lock: in choreo25 an ankle is linear in its channels, so a foot that stands can be made to stand still."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from choreo_cli.motion.capture_state import ROOT, ankles_of, joints_of, set_ankles
from formats.motion_npz import Skeleton

F64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

BLEND_FRAMES = 5
HIPS, TOES = (1, 2), (10, 11)
# How far within full stretch a locked leg stays, so that the decoder's own reach clamp never moves the ankle.
SLACK_M = 1e-3
_SPREAD_S = 0.15
MOST_M = 0.08  # a standing foot is drawn within this of its place (an ankle rolls by about as much over its toes)
STEP_S = 1 / 15  # on either side of a cut a foot that steps is let go
RELEASED = 0.25  # contact of a foot that was let go


@dataclass(frozen=True, slots=True)
class Lock:
    """A motion with its feet locked.

    Args:
        q: (T, 23) states.
        runs: Contact runs that were locked, both feet.
        lowered_m: Largest drop of the pelvis for a foot out of reach.
        lowered: Frames in which it was lowered by over a millimetre.
        unreached: Contact frames in which the foot still is out of reach: it had to slide.
        moved_m: Largest way an ankle was moved.
    """

    q: F64
    runs: int
    lowered_m: float
    lowered: int
    unreached: int
    moved_m: float


def runs_of(contact: NDArray[np.floating] | Bool) -> list[tuple[int, int]]:
    """(start, end) of each stretch of frames with contact at or above one half."""
    edges = np.diff(np.concatenate([[0], (np.asarray(contact, np.float64) >= 0.5).astype(np.int8), [0]]))
    return list(zip(np.flatnonzero(edges == 1).tolist(), np.flatnonzero(edges == -1).tolist(), strict=True))


def lock_feet(q: F64, contacts: F64, skeleton: Skeleton, fps: float, fixed: Bool | None = None) -> Lock:
    """Hold each foot at the median place of its contact run, and ease it in and out over 5 frames outside it.

    Contacts stay as they are. Where a hip is too far from its held foot the pelvis is lowered, smoothly; only what is
    too far even then moves the foot. Fixed frames come back bit for bit: a run that has some stands where they do.

    Args:
        q: (T, 23) states.
        contacts: (T, 2) left, right; a run is where they are at or above one half.
        skeleton: The body.
        fps: Frames a second.
        fixed: (T,) frames that must stay as they are.
    """
    leg = np.asarray(skeleton.thigh) + np.asarray(skeleton.shank)
    before = ankles_of(q, leg)
    kept = np.zeros(len(q), bool) if fixed is None else np.asarray(fixed, bool)
    held = before.copy()
    count = 0
    for side in (0, 1):
        found = runs_of(contacts[:, side])
        count += len(found)
        shift = np.zeros((len(q), 3))
        for start, end in found:
            shift[start:end] = _place(before[start:end, side], kept[start:end], float(skeleton.ank0[side]))
            shift[start:end] -= before[start:end, side]
        held[:, side] += np.where(kept[:, None], 0.0, _eased(shift, found, BLEND_FRAMES))
    out = set_ankles(q, held, leg)
    out, lowered = _within_reach(out, held, contacts, skeleton, fps, _near(kept))
    out = set_ankles(out, held, leg)
    short = _stretch(out, held, skeleton) > 0
    unreached = int((short & (contacts >= 0.5)).sum())
    if short.any():
        held = _clamped(out, held, skeleton)
        out = set_ankles(out, held, leg)
    out[kept], held[kept] = q[kept], before[kept]
    moved = float(np.linalg.norm(held - before, axis=-1).max(initial=0.0))
    return Lock(out, count, float(lowered.max(initial=0.0)), int((lowered > 1e-3).sum()), unreached, moved)


def let_step(
    q: F64, contacts: F64, skeleton: Skeleton, fps: float, fixed: Bool | None = None, most_m: float = MOST_M
) -> F64:
    """Contacts (T, 2) in which a run ends where its foot was drawn to step, so that no lock drags it back from there.

    A drawn contact may stay at 1 for seconds while the ankle drifts by half a metre: one place for such a run would
    pull the foot, and the pelvis after it, by as much. So a run with a foot farther than `most_m` from the place
    `lock_feet` would hold it at is cut in two where that parts it best: the drawn frames within `STEP_S` of the cut are
    let go, and each part is looked at again. Each cut lets go of at least one frame, so there is an end to it. A run
    that stays within `most_m` keeps its bits. For motion that was drawn; what was recorded is not judged by it.

    Args:
        q: (T, 23) states.
        contacts: (T, 2) left, right; a run is where they are at or above one half.
        skeleton: The body.
        fps: Frames a second.
        fixed: (T,) frames that must stay as they are: their contacts are never let go.
        most_m: Way from its place (m) that is no step yet.
    """
    ankles = ankles_of(q, np.asarray(skeleton.thigh) + np.asarray(skeleton.shank))
    kept = np.zeros(len(q), bool) if fixed is None else np.asarray(fixed, bool)
    reach = max(1, round(STEP_S * fps))
    out = np.array(contacts, np.float64)
    for side in (0, 1):
        uncut = runs_of(out[:, side])
        while uncut:
            start, end = uncut.pop()
            run, own = ankles[start:end, side], kept[start:end]
            away = run - _place(run, own, -np.inf)
            if own.all() or np.linalg.norm(away[~own], axis=-1).max() <= most_m:
                continue
            at = start + 1 + int(np.where(own[1:] & own[:-1], -1.0, _apart(away)).argmax())
            cut = slice(max(start, at - reach), min(end, at + reach))
            out[cut, side] = np.where(kept[cut], out[cut, side], RELEASED)
            uncut += [(start + a, start + b) for a, b in runs_of(out[start:end, side])]
    return out


def _apart(run: F64) -> F64:
    """(N - 1,) how well a cut before each frame from the second on parts a run (N, 3) into two places.

    It is the sum of squares between the two parts (Fisher 1958): largest amid a step, and amid an even drift.
    """
    before = np.cumsum(run, axis=0)
    after = before[-1] - before[:-1]
    count = np.arange(1, len(run))
    return np.asarray((before[:-1] ** 2).sum(-1) / count + (after**2).sum(-1) / count[::-1])


def _place(run: F64, kept: Bool, floor: float) -> F64:
    """(3,) where a foot stands during a run (N, 3); (N, 3) between fixed frames that do not agree."""
    if not kept.any():
        place = np.median(run, axis=0)
        place[1] = max(place[1], floor)  # never below the floor
        return np.asarray(place)
    at, own = np.arange(len(run)), np.flatnonzero(kept)
    return np.stack([np.interp(at, own, run[own, k]) for k in range(3)], -1)


def _near(kept: Bool) -> F64:
    """(T,) 0 at fixed frames, rising to 1 over `BLEND_FRAMES` beside them."""
    own = np.flatnonzero(kept)
    if not len(own):
        return np.ones(len(kept))
    away = np.abs(np.arange(len(kept))[:, None] - own).min(1)
    s = np.minimum(1.0, away / (BLEND_FRAMES + 1))
    return np.asarray(s * s * (3 - 2 * s))


def _eased(shift: F64, runs: list[tuple[int, int]], blend: int) -> F64:
    """The shift inside the runs, and its ends fading over `blend` frames outside them, never into another run."""
    out = shift.copy()
    for number, (start, end) in enumerate(runs):
        before = start - (runs[number - 1][1] if number else 0)
        after = (runs[number + 1][0] if number + 1 < len(runs) else len(shift)) - end
        for room, edge, step in ((before, start, -1), (after, end - 1, 1)):
            n = min(blend, room)
            fade = np.arange(1, n + 1) / (n + 1)
            weight = 1 - fade * fade * fade * (10 - 15 * fade + 6 * fade * fade)
            out[edge + step * np.arange(1, n + 1)] += weight[:, None] * shift[edge]
    return out


def _hips_over(q: F64, skeleton: Skeleton) -> F64:
    return np.asarray(joints_of(q, skeleton)[:, HIPS])


def _reach(skeleton: Skeleton) -> F64:
    reach: F64 = skeleton.thigh + skeleton.shank - SLACK_M
    return reach


def _stretch(q: F64, ankles: F64, skeleton: Skeleton) -> F64:
    """(T, 2) metres by which each ankle is beyond its leg."""
    far = np.linalg.norm(ankles - _hips_over(q, skeleton), axis=-1) - _reach(skeleton)
    return np.asarray(np.maximum(far - SLACK_M / 2, 0.0))


def _within_reach(q: F64, ankles: F64, contacts: F64, skeleton: Skeleton, fps: float, share: F64) -> tuple[F64, F64]:
    """States with the pelvis lowered where a standing foot is out of reach, by this share of it, and by how much."""
    away = _hips_over(q, skeleton) - ankles
    flat = (away[..., (0, 2)] ** 2).sum(-1)
    reach2 = _reach(skeleton) ** 2
    # Lowering cannot help a foot that is farther away on the floor than the leg is long.
    need = away[..., 1] - np.sqrt(np.maximum(reach2 - flat, 0.0))
    need = np.where((away**2).sum(-1) > reach2, np.maximum(need, 0.0), 0.0)
    need = np.where((contacts >= 0.5) & (flat < reach2), need, 0.0).max(1)
    if not need.any():
        return q, need
    half = max(2, round(_SPREAD_S * fps))
    padded = np.pad(need, 2 * half, mode="edge")
    peak = np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1).max(1)
    # The mean of maxima over the same window is nowhere below what is needed.
    window = np.hanning(2 * half + 3)[1:-1]
    lowered = share * np.convolve(peak, window / window.sum(), mode="valid")
    out = q.copy()
    out[:, ROOT.start + 1] -= lowered
    return out, lowered


def _clamped(q: F64, ankles: F64, skeleton: Skeleton) -> F64:
    """Ankles pulled along the line to the hip until the leg reaches them."""
    hips = _hips_over(q, skeleton)
    line = ankles - hips
    length = np.linalg.norm(line, axis=-1)
    factor = np.minimum(1.0, _reach(skeleton) / np.maximum(length, 1e-9))
    return np.asarray(hips + line * factor[..., None])


def slide(joints: F64, contacts: F64, fps: float) -> tuple[float, float, float]:
    """Mean and largest horizontal ankle speed between frames that both have contact, and the toes' mean, in m/s.

    Args:
        joints: (T, 22, 3) metres.
        contacts: (T, 2).
        fps: Frames a second.
    """
    down = contacts >= 0.5
    both = down[1:] & down[:-1]
    if not both.any():
        return 0.0, 0.0, 0.0
    ankles = np.linalg.norm(np.diff(joints[:, (7, 8)][..., (0, 2)], axis=0), axis=-1)[both] * fps
    toes = np.linalg.norm(np.diff(joints[:, TOES][..., (0, 2)], axis=0), axis=-1)[both] * fps
    return float(ankles.mean()), float(ankles.max()), float(toes.mean())
