"""Who to follow where a recording holds several people: the longest labelled track, or the nearest to the last."""

from __future__ import annotations

from collections import Counter

import numpy as np

from formats.foreign.model import F64
from formats.foreign.pose_frames import RawPose


def follow(raw: RawPose, xyz: F64) -> tuple[list[int], list[str], list[str]]:
    """Choose one row per frame.

    Args:
        raw: Rows with frame positions and labels.
        xyz: (R, J, 3) positions.

    Returns:
        Row indices in file order, problems and assumptions.
    """
    n = len(raw.frame_of_row)
    crowd = Counter(raw.frame_of_row)
    labels = [label for label in raw.labels if label is not None]
    distinct = len(set(labels))
    if distinct > 1 and distinct * 2 <= n:
        return _longest(raw, xyz, distinct)
    several = sum(1 for count in crowd.values() if count > 1)
    if not several:
        return list(range(n)), [], []
    share = f"{several} of {len(crowd)} frames"
    note = f"several_people: {share} hold more than one person, the nearest to the last is followed"
    return nearest(raw.frame_of_row, xyz), [note], []


def _longest(raw: RawPose, xyz: F64, distinct: int) -> tuple[list[int], list[str], list[str]]:
    seen = np.asarray(np.isfinite(xyz).any(axis=(1, 2)))
    length: Counter[str] = Counter()
    for row, label in enumerate(raw.labels):
        if label is not None:
            length[repr(label)] += int(seen[row])
    best = min(length, key=lambda k: (-length[k], k))
    rows = [i for i, label in enumerate(raw.labels) if label is not None and repr(label) == best]
    note = (
        f"several_people: {distinct} people or devices, the longest ({len(rows)} of {len(raw.labels)} rows) is followed"
    )
    return rows, [note], []


def nearest(frame_of_row: list[int], xyz: F64) -> list[int]:
    """One row per frame: the largest body first, then the one nearest to the last position seen.

    The distance between two bodies is the median over the joints both have.
    """
    groups: dict[int, list[int]] = {}
    for row, frame in enumerate(frame_of_row):
        groups.setdefault(frame, []).append(row)
    last: F64 | None = None
    chosen: list[int] = []
    for rows in groups.values():
        pick = rows[0]
        if len(rows) > 1:
            cost = [_size(xyz[r]) if last is None else _distance(xyz[r], last) for r in rows]
            pick = rows[int(np.argmin(cost))]
        if np.isfinite(xyz[pick]).any():
            # Joints missing now keep where they were last seen, so that a half-hidden body is still found.
            last = xyz[pick].copy() if last is None else np.where(np.isfinite(xyz[pick]), xyz[pick], last)
        chosen.append(pick)
    return chosen


def _size(body: F64) -> float:
    real = body[np.isfinite(body[:, :2]).all(axis=1), :2]
    return -float(np.prod(real.max(axis=0) - real.min(axis=0))) if len(real) else 0.0


def _distance(body: F64, last: F64) -> float:
    gap = np.linalg.norm((body - last)[:, :2], axis=1)
    gap = gap[np.isfinite(gap)]
    return float(np.median(gap)) if len(gap) else float("inf")
