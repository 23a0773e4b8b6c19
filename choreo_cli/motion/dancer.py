"""Procedural dancer: 22 canonical joints driven by beats and activity, landing on the beat with micro-timing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from choreo_cli.motion.dancer_body import pose_body
from formats.proportions import STATURE_M

F64 = NDArray[np.float64]

__all__ = ["GESTURES", "Dance", "Gestures", "Score", "choreograph", "gesture_curves", "groove", "poses", "write_score"]

JITTER_S = 0.015
# A hit is a move of this length that ends on the beat; its speed peaks at two thirds and the landing is the impact.
MOVE_S = 0.20
STEP_S = 0.34
# What each label does: (sway m, bounce m, one-sidedness 0..1, hold 0..1) at its height, length in beats.
GESTURES: dict[str, tuple[float, float, float, float, float]] = {
    "jump": (0.0, 0.16, 0.0, 0.0, 1.0),
    "drop": (0.0, -0.15, 0.0, 0.0, 1.5),
    "lean": (0.16, 0.0, 0.0, 0.0, 1.5),
    "reach": (0.0, 0.0, 1.0, 0.0, 2.0),
    "freeze": (0.0, 0.0, 0.0, 0.85, 2.0),
}
# Reach of each degree of freedom at activity 1 (rad, or m for the pelvis) and its rest value.
_DOFS: tuple[tuple[str, float, float], ...] = (
    ("yaw", 0.24, 0.0), ("pitch", 0.08, 0.04), ("roll", 0.08, 0.0),
    ("chest_x", 0.16, 0.05), ("chest_y", 0.22, 0.0), ("chest_z", 0.12, 0.0),
    ("nod", 0.18, 0.05), ("pelvis_x", 0.04, 0.0), ("pelvis_z", 0.04, 0.0), ("pelvis_y", 0.03, 0.0),
    ("l_raise", 0.42, 0.75), ("l_swing", 0.36, 0.60), ("l_flex", 0.45, 1.05),
    ("r_raise", 0.42, 0.75), ("r_swing", 0.36, 0.60), ("r_flex", 0.45, 1.05),
)  # fmt: skip
_NAMES = tuple(d[0] for d in _DOFS)
_RIGHT_ARM = np.array([n.startswith("r_") for n in _NAMES])
_FOOT_PATH = 3  # x, z, heading


@dataclass(frozen=True, slots=True)
class Gestures:
    """Labelled events: onset (s), length (s) and a label of `GESTURES`, in time order."""

    onset_s: F64
    length_s: F64
    label: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Score:
    """What a dancer dances to.

    Args:
        beats_s: (B,) beats of the music, strictly increasing.
        level: (B,) activity at each beat, 0..1; 0 stands still.
        hit_s: (B,) when the body lands on the beat: the beat plus micro-timing.
        accent: (B,) strength of each landing, .7-1.
        half_s: (B,) landings between the beats.
        half_accent: (B,) their strength.
        gestures: Labelled events.
    """

    beats_s: F64
    level: F64
    hit_s: F64
    accent: F64
    half_s: F64
    half_accent: F64
    gestures: Gestures


@dataclass(frozen=True, slots=True)
class Dance:
    """A choreography: keys of every degree of freedom, steps of both feet, and slow ways across the floor."""

    score: Score
    height_m: float
    key_s: F64  # (K,)
    keys: F64  # (K, D)
    move_s: F64  # (K,) length of the move that ends at the key
    step_s: tuple[F64, F64]
    foot: tuple[F64, F64]  # (S, 3) x, z, heading
    lift_m: tuple[F64, F64]
    wander: F64  # (3, 3, 3): axis, component, (amplitude, angular rate, phase)


def write_score(
    beats_s: F64,
    level: F64 | float,
    rng: np.random.Generator,
    *,
    jitter_s: float = JITTER_S,
    gestures: Gestures | None = None,
) -> Score:
    """Draw the landings of a dance: micro-timing (normal, clipped at 3 sigma) and accents.

    Args:
        beats_s: (B,) beats, strictly increasing, B >= 2.
        level: Activity at each beat, 0..1.
        rng: Source of every draw.
        jitter_s: Standard deviation of the landings around the beat.
        gestures: Labelled events, none by default.
    """
    beats = np.asarray(beats_s, np.float64)
    n = len(beats)
    gaps = np.diff(beats, append=2 * beats[-1] - beats[-2])
    late = np.clip(rng.standard_normal((2, n)), -3, 3) * jitter_s
    accent = rng.uniform(0.7, 1.0, (2, n))
    return Score(
        beats, np.broadcast_to(np.asarray(level, np.float64), (n,)).copy(), beats + late[0], accent[0],
        beats + gaps / 2 + late[1], accent[1], gestures or Gestures(np.empty(0), np.empty(0)),
    )  # fmt: skip


def gesture_curves(t_s: F64, gestures: Gestures) -> F64:
    """What the gestures add at each time: (T, 4) sway (m), bounce (m), one-sidedness 0..1, hold 0..1."""
    out = np.zeros((len(t_s), 4))
    for onset, length, label in zip(gestures.onset_s, gestures.length_s, gestures.label, strict=True):
        a, b = np.searchsorted(t_s, (onset, onset + length))
        u = (t_s[a:b] - onset) / length
        out[a:b] += np.sin(np.pi * u)[:, None] ** 2 * np.asarray(GESTURES[label][:4])
    return out


def groove(t_s: F64, score: Score) -> tuple[F64, F64]:
    """Continuous sway and bounce of the pelvis in metres: sway over two beats, lowest point on the beat."""
    beat = np.interp(t_s, score.beats_s, np.arange(len(score.beats_s)))
    level = activity(t_s, score)
    curves = gesture_curves(t_s, score.gestures)
    keep = 1 - curves[:, 3]
    sway = 0.09 * level * keep * np.sin(np.pi * beat) + curves[:, 0]
    bounce = -0.03 * level * keep * np.cos(2 * np.pi * beat) + curves[:, 1]
    return sway, bounce


def activity(t_s: F64, score: Score) -> F64:
    """Activity of the dance at each time, 0 before the first and after the last beat, faded over one beat."""
    first, last = score.beats_s[:2], score.beats_s[-2:]
    fade = np.interp(t_s, [2 * first[0] - first[1], first[0], last[1], 2 * last[1] - last[0]], [0, 1, 1, 0])
    return np.asarray(np.interp(t_s, score.beats_s, score.level) * fade)


def choreograph(score: Score, rng: np.random.Generator, *, height_m: float = STATURE_M) -> Dance:
    """Choose the moves: eight-beat phrases of poses that alternate sides, and a step on every beat.

    The distance between successive poses grows with activity and accent; a half-beat key lies a quarter of the way.
    """
    n, d = len(score.beats_s), len(_DOFS)
    phrase = _phrases(n, rng)
    size = (score.level * score.accent)[:, None]
    reach = np.array([x[1] for x in _DOFS])
    rest = np.array([x[2] for x in _DOFS])
    pose = rest + reach * phrase * np.sqrt(size) * np.sqrt(np.maximum(score.level, 1e-9))[:, None]
    one_sided = gesture_curves(score.hit_s, score.gestures)[:, 2:]
    pose[:, _RIGHT_ARM] = _blend(pose[:, _RIGHT_ARM], rest[_RIGHT_ARM], one_sided[:, :1])
    for k in np.flatnonzero(one_sided[:, 1] > 0.2):
        pose[k] = pose[k - 1]
    turn = rng.uniform(-1, 1, (n, d))
    small = pose + 0.25 * reach * turn * (score.level * score.half_accent)[:, None]
    keys = np.stack([pose, small], 1).reshape(2 * n, d)
    key_s = np.stack([score.hit_s, score.half_s], 1).reshape(2 * n)
    gaps = np.diff(key_s, prepend=key_s[0] - (key_s[1] - key_s[0]))
    # Moves of one dancer are alike: the landing template, and so its bias, must not wander between sessions.
    move = np.minimum(MOVE_S * rng.uniform(0.9, 1.1, 2 * n), 0.95 * gaps)
    wander = _wander(rng)
    if not score.level.any():
        wander[..., 0] = 0.0  # who stands still keeps the feet where they are
    steps = [_steps(score, side, wander, rng) for side in (0, 1)]
    return Dance(
        score, height_m, key_s, keys, move, (steps[0][0], steps[1][0]), (steps[0][1], steps[1][1]),
        (steps[0][2], steps[1][2]), wander,
    )  # fmt: skip


def _phrases(n: int, rng: np.random.Generator) -> F64:
    """(n, D) directions of unit scale: eight-beat phrases, each kept for two rounds, neighbours on opposite sides."""
    rounds = -(-n // 16)
    base = rng.uniform(0.55, 1.0, (rounds, 8, len(_DOFS)))
    side = np.where(np.arange(8) % 2 == 0, 1.0, -1.0)[None, :, None]
    polarity = np.where(rng.random((rounds, 1, len(_DOFS))) < 0.5, -1.0, 1.0)
    return np.asarray(np.tile(base * side * polarity, (1, 2, 1)).reshape(-1, len(_DOFS))[:n])


def _blend(a: F64, b: F64, w: F64) -> F64:
    return a + (b - a) * w


def _wander(rng: np.random.Generator) -> F64:
    """Slow sums of sines: floor x, floor z (m) and heading (rad)."""
    size = np.array([0.16, 0.16, 0.22])[:, None] / np.array([1.0, 1.6, 2.4])
    rate = 2 * np.pi / np.array([[47.0, 29.0, 17.0], [53.0, 31.0, 19.0], [61.0, 37.0, 23.0]])
    return np.stack([size, rate, rng.uniform(0, 2 * np.pi, (3, 3))], -1)


def _drift(t_s: F64, wander: F64) -> F64:
    """(T, 3) floor x, floor z, heading of the slow way."""
    size, rate, phase = wander[..., 0], wander[..., 1], wander[..., 2]
    return np.asarray((size * np.sin(rate * t_s[:, None, None] + phase)).sum(-1))


def _steps(score: Score, side: int, wander: F64, rng: np.random.Generator) -> tuple[F64, F64, F64]:
    """Landings of one foot: every second beat, alternating feet; where it lands and how high it is lifted."""
    own = slice(side, None, 2)
    t, level = score.hit_s[own], score.level[own]
    way = _drift(t, wander)
    sigma = 1.0 if side == 0 else -1.0
    out = sigma * (0.115 + 0.05 * level * rng.uniform(0, 1, len(t)))
    ahead = 0.10 * level * rng.uniform(-1, 1, len(t))
    heading = way[:, 2] + sigma * 0.18
    x = way[:, 0] + out * np.cos(way[:, 2]) + ahead * np.sin(way[:, 2])
    z = way[:, 1] - out * np.sin(way[:, 2]) + ahead * np.cos(way[:, 2])
    lift = np.where(level > 0, 0.02 + 0.09 * level, 0.0)
    return t, np.stack([x, z, heading], -1), lift


def ease(u: F64) -> F64:
    """Way along a move for u in 0..1: speed proportional to u^4 (1-u)^2, so it brakes hard into the landing."""
    u = np.clip(u, 0.0, 1.0)
    return np.asarray(u**5 * (21 - 35 * u + 15 * u**2))


def _played(t_s: F64, key_s: F64, keys: F64, move_s: F64 | float) -> tuple[F64, F64]:
    """Values (T, D) between keys, and the progress (T,) of the move under way (0 while holding, 1 once landed)."""
    i = np.clip(np.searchsorted(key_s, t_s), 0, len(key_s) - 1)
    length = np.broadcast_to(move_s, key_s.shape)[i]
    u = np.clip((t_s - (key_s[i] - length)) / length, 0.0, 1.0)
    before = keys[np.maximum(i - 1, 0)]
    return before + (keys[i] - before) * ease(u)[:, None], u


def poses(dance: Dance, t_s: F64) -> F64:
    """Joint positions at any times of the music clock.

    Args:
        dance: From `choreograph`.
        t_s: (T,) seconds, ascending.

    Returns:
        (T, 22, 3) float64 metres, y up, subject faces +z at heading 0, floor at y = 0; bones keep their length.
    """
    t = np.asarray(t_s, np.float64)
    values, _ = _played(t, dance.key_s, dance.keys, dance.move_s)
    dof = dict(zip(_NAMES, values.T, strict=True))
    sway, bounce = groove(t, dance.score)
    way = _drift(t, dance.wander)
    breath = 0.004 * np.sin(2 * np.pi * 0.27 * t + dance.wander[0, 0, 2])
    dof["yaw"] = dof["yaw"] + way[:, 2]
    dof["chest_x"] = dof["chest_x"] + 2 * breath
    side = sway + dof["pelvis_x"] + 0.006 * np.sin(2 * np.pi * 0.13 * t + dance.wander[1, 0, 2])
    x = way[:, 0] + side * np.cos(way[:, 2]) + dof["pelvis_z"] * np.sin(way[:, 2])
    z = way[:, 1] - side * np.sin(way[:, 2]) + dof["pelvis_z"] * np.cos(way[:, 2])
    root = np.stack([x, bounce + dof["pelvis_y"] + breath / 4, z], -1)
    feet = [_foot(t, dance, s) for s in (0, 1)]
    return pose_body(root, dof, feet, dance.height_m)


def _foot(t: F64, dance: Dance, side: int) -> F64:
    """(T, 4) x, z, heading, lift of one foot."""
    gaps = np.diff(dance.step_s[side], prepend=-np.inf)
    length = np.minimum(STEP_S, 0.8 * gaps)
    path, u = _played(t, dance.step_s[side], dance.foot[side], length)
    i = np.clip(np.searchsorted(dance.step_s[side], t), 0, len(gaps) - 1)
    lift = dance.lift_m[side][i] * np.sin(np.pi * ease(u)) ** 2
    return np.concatenate([path[:, :_FOOT_PATH], lift[:, None]], 1)
