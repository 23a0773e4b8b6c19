"""Beat sync: stretch a dance in time, gently, until its movement beats fall on the beats of the music.

Movement beats (moments of least speed) are aligned to the beat grid by dynamic time warping over the beats: a monotone
piecewise-linear time map whose slopes stay within .8 and 1.25, and in which every change of tempo costs. The grid can
be met by chance as well, so the same is done with grids whose phase is random; where the gain over them is small, the
answer is no. Nothing is stretched silently: the map, its largest stretch and the alignment before and after are told.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import DataError, NoAnswerError
from choreo_cli.metrics.motion_beats import SIGMA_S, SPACING_S, closeness, motion_beats
from choreo_cli.motion.capture_state import Track, track_of, with_track
from formats.motion_npz import MotionClip

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

SLOPES = (0.8, 1.25)
STEP_S = 0.01
START_S = 0.2
"""How far the first beat may be moved."""
TEMPO_COST = 1.0
STRETCH_COST = 0.15
SHIFT_COST = 0.5
DRAWS = 200
GRIDS = 24
BLOCK_BEATS = 4
LEAST_GAIN = 0.05
LEAST_BEATS = 6
_BINS = 15
_WIDEST_S = 3.0


@dataclass(frozen=True, slots=True)
class TimeMap:
    """A monotone piecewise-linear map from the clip's own time to the new one.

    Args:
        old_s: (K,) knots, increasing.
        new_s: (K,) where they go, increasing.
    """

    old_s: F64
    new_s: F64

    def slopes(self) -> F64:
        """(K - 1,) new seconds per old second."""
        return np.asarray(np.diff(self.new_s) / np.diff(self.old_s))

    def new(self, t_s: F64) -> F64:
        """New times of old ones inside the map."""
        return np.asarray(np.interp(t_s, self.old_s, self.new_s))

    def old(self, t_s: F64) -> F64:
        """Old times of new ones inside the map."""
        return np.asarray(np.interp(t_s, self.new_s, self.old_s))


@dataclass(frozen=True, slots=True)
class Sync:
    """A time map and how good it is.

    Args:
        time_map: The map.
        before, after: Alignment of the movement beats, 0 to 1.
        chance_before, chance_after: Mean alignment of the same beats with the grid turned by a random phase.
        gain: What the map makes of the true grid beyond what maps make of grids of random phase, a beat.
        p: Share of random grids that do as well.
        beats: Movement beats.
    """

    time_map: TimeMap
    before: float
    after: float
    chance_before: float
    chance_after: float
    gain: float
    p: float
    beats: int

    def record(self) -> dict[str, Any]:
        """For the map's file: everything, with the largest stretch."""
        slopes = self.time_map.slopes()
        return {
            "old_s": self.time_map.old_s.round(6).tolist(), "new_s": self.time_map.new_s.round(6).tolist(),
            "slope_min": round(float(slopes.min()), 5), "slope_max": round(float(slopes.max()), 5),
            "max_stretch": round(float(np.abs(np.log(slopes)).max()), 5), "movement_beats": self.beats,
            "alignment": {"before": round(self.before, 4), "after": round(self.after, 4),
                          "chance_before": round(self.chance_before, 4), "chance_after": round(self.chance_after, 4)},
            "gain_over_random_phase": round(self.gain, 4), "p": round(self.p, 4),
        }  # fmt: skip


def _closeness(t: F64, beats: F64) -> F64:
    at = np.clip(np.searchsorted(beats, t), 1, len(beats) - 1)
    away = np.minimum(np.abs(t - beats[at - 1]), np.abs(t - beats[at]))
    return np.asarray(np.exp(-0.5 * (away / SIGMA_S) ** 2))


def chance(movement_s: F64, beats_s: F64, seed: int, draws: int = DRAWS) -> float:
    """Mean alignment when the grid is turned by a random part of a beat."""
    rng = np.random.default_rng((seed, 1))
    return float(np.mean([closeness(movement_s, turned(beats_s, u), SIGMA_S) for u in rng.random(draws)]))


def turned(beats_s: F64, phase: float) -> F64:
    """The grid moved on by a part of a beat; local tempo is kept, and one beat before the first is added."""
    first = 2 * beats_s[0] - beats_s[1]
    last = 2 * beats_s[-1] - beats_s[-2]
    padded = np.concatenate([[first], beats_s, [last]])
    return np.asarray(np.interp(np.arange(len(padded) - 1) + phase, np.arange(len(padded)), padded))


def unsettled(beats_s: F64, rng: np.random.Generator) -> F64:
    """A grid of the same tempo whose phase is drawn anew every four beats: nothing steady to follow is left in it.

    A grid of one random phase would not do: a constant shift, which costs a map next to nothing, undoes it.
    """
    n = len(beats_s)
    phase = np.repeat(rng.uniform(-0.5, 0.5, -(-n // BLOCK_BEATS)), BLOCK_BEATS)[:n]
    found = np.sort(np.interp(np.arange(n) + phase, np.arange(n), beats_s))
    return np.asarray(found[np.concatenate([[True], np.diff(found) > 0.25 * float(np.median(np.diff(beats_s)))])])


def sync(joints: F64, fps: float, beats_s: F64, *, seed: int = 0) -> Sync:
    """The time map of a clip.

    Args:
        joints: (T, 22, 3) metres.
        fps: Frames a second.
        beats_s: (B,) beats of the music, seconds of the clip's own time, increasing.
        seed: Of the random grids.

    Raises:
        DataError: no beats, or too few movement beats to align.
    """
    beats = np.asarray(beats_s, np.float64)
    if beats.ndim != 1 or len(beats) < 2 or not np.isfinite(beats).all() or (np.diff(beats) <= 0).any():
        raise DataError("the beats are not at least two increasing times")
    duration = (len(joints) - 1) / fps
    found = motion_beats(joints, fps)
    found = found[(found > beats[0] - SPACING_S) & (found < beats[-1] + SPACING_S)]
    if len(found) < LEAST_BEATS:
        raise DataError(f"{len(found)} movement beats under the music's, need {LEAST_BEATS}")
    offsets, score = align(found, beats, duration)
    rng = np.random.default_rng((seed, 0))
    others = np.array([align(found, unsettled(beats, rng), duration)[1] for _ in range(GRIDS)])
    time_map = _whole(found, offsets, duration)
    after = time_map.new(found)
    return Sync(
        time_map, closeness(found, beats, SIGMA_S), closeness(after, beats, SIGMA_S), chance(found, beats, seed),
        chance(after, beats, seed), float(score - others.mean()), float((1 + (others >= score).sum()) / (1 + GRIDS)),
        len(found),
    )  # fmt: skip


def accepted(found: Sync, least: float = LEAST_GAIN) -> Sync:
    """The same, when stretching is worth it.

    Raises:
        NoAnswerError: The gain over grids of random phase is small: the dance does not follow this music.
    """
    if found.gain < least:
        raise NoAnswerError(
            f"the dance does not follow these beats: gain {found.gain:.3f} a beat over grids of random phase, "
            f"need {least:g}",
            hint="check the music and --offset, or lower --least-gain",
        )
    return found


def align(movement_s: F64, beats_s: F64, duration_s: float) -> tuple[F64, float]:
    """Offsets (M,) in seconds of each movement beat, and the mean score of the best slope-limited path.

    States are offsets on a grid of 10 ms and the bin of the last slope. A beat earns its closeness to the grid; a
    slope costs by its distance from 1, a change of slope by its size (Sakoe & Chiba 1978, with a slope constraint).
    """
    widest = min(_WIDEST_S, START_S + 0.06 * duration_s)
    n = round(widest / STEP_S)
    grid = np.arange(-n, n + 1) * STEP_S
    edges = np.log(SLOPES[0]) + (np.log(SLOPES[1]) - np.log(SLOPES[0])) * (np.arange(_BINS) + 0.5) / _BINS
    first = np.where(np.abs(grid) <= START_S, -SHIFT_COST * (grid / START_S) ** 2, -np.inf)
    cost = np.repeat((first + _closeness(movement_s[0] + grid, beats_s))[:, None], _BINS, axis=1)
    back: list[tuple[I64, I64]] = []
    for k in range(1, len(movement_s)):
        cost, step = _advance(cost, edges, movement_s[k] - movement_s[k - 1])
        cost = cost + _closeness(movement_s[k] + grid, beats_s)[:, None]
        back.append(step)
    best = int(np.argmax(cost))
    at, bin_ = divmod(best, _BINS)
    offsets = np.empty(len(movement_s))
    offsets[-1] = grid[at]
    for k in range(len(back) - 1, -1, -1):
        move, before = back[k][0][at, bin_], back[k][1][at, bin_]
        at, bin_ = at - int(move), int(before)
        offsets[k] = grid[at]
    return offsets, float(cost.reshape(-1)[best] / len(movement_s))


def _advance(cost: F64, edges: F64, gap_s: float) -> tuple[F64, tuple[I64, I64]]:
    """Best cost of every (offset, slope bin) one beat later, and by which move and from which bin it came."""
    low, high = np.ceil((SLOPES[0] - 1) * gap_s / STEP_S - 1e-9), np.floor((SLOPES[1] - 1) * gap_s / STEP_S + 1e-9)
    out = np.full(cost.shape, -np.inf)
    moves, bins = np.zeros(cost.shape, np.int64), np.zeros(cost.shape, np.int64)
    every = np.arange(len(cost))
    for move in range(int(low), int(high) + 1):
        tempo = np.log(1 + move * STEP_S / gap_s)
        to = int(np.argmin(np.abs(edges - tempo)))
        through = cost - TEMPO_COST * np.abs(edges - tempo)
        came = np.argmax(through, axis=1)
        value = through[every, came] - STRETCH_COST * (tempo / np.log(SLOPES[1])) ** 2
        rows = slice(max(0, move), len(cost) + min(0, move))
        source = slice(max(0, -move), len(cost) + min(0, -move))
        better = value[source] > out[rows, to]
        out[rows, to] = np.where(better, value[source], out[rows, to])
        moves[rows, to] = np.where(better, move, moves[rows, to])
        bins[rows, to] = np.where(better, came[source], bins[rows, to])
    return out, (moves, bins)


def _whole(movement_s: F64, offsets: F64, duration_s: float) -> TimeMap:
    """The map over the whole clip: its ends are moved as the nearest beat is."""
    old = np.concatenate([[0.0], movement_s, [duration_s]])
    shift = np.concatenate([offsets[:1], offsets, offsets[-1:]])
    keep = np.concatenate([[True], np.diff(old) > 1e-6])
    return TimeMap(old[keep], (old + shift)[keep])


def warp(clip: MotionClip, time_map: TimeMap) -> MotionClip:
    """The clip in its new time, at its own frame rate from time 0 of the music on; speeds are recomputed.

    Frames before the clip's first moment hold it; where the map moves the clip earlier, what falls before 0 is cut.
    """
    track = track_of(clip)
    end = float(time_map.new_s[-1])
    new = np.arange(int(np.floor(end * track.fps + 1e-6)) + 1) / track.fps
    old = time_map.old(new)
    frames = np.clip(old * track.fps, 0, len(track.q) - 1)
    q = _cubic(track.q, frames)
    nearest = track.contacts[np.round(frames).astype(np.int64)]
    return with_track(clip, Track(q, nearest, track.fps), {"beat_synced": True})


def _cubic(values: F64, at: F64) -> F64:
    """Values (T, K) at fractional frames, by the cubic through four neighbours (Catmull-Rom)."""
    k = np.clip(np.floor(at).astype(np.int64), 0, max(len(values) - 2, 0))
    u = (at - k)[:, None]
    last = len(values) - 1
    p0, p1, p2, p3 = (values[np.clip(k + d, 0, last)] for d in (-1, 0, 1, 2))
    return np.asarray(p1 + 0.5 * u * (p2 - p0 + u * (2 * p0 - 5 * p1 + 4 * p2 - p3 + u * (3 * (p1 - p2) + p3 - p0))))
