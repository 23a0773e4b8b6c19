"""Beat alignment of motion: two published scores that are not the same, and one that does not depend on the frame rate.

`bas_music` asks of every music beat how near a motion beat lies (Siyao et al., Bailando, CVPR 2022), `bas_motion` of
every motion beat how near a music beat lies (Li et al., AI Choreographer, ICCV 2021, in the form the authors' branch
and POPDG use). Both count in frames, so both change with the rate. The repaired score counts in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

SIGMA_FRAMES = 3.0
SMOOTH_FRAMES = 5.0
ORDER_FRAMES = 10
SIGMA_S = 0.050
SMOOTH_S = 0.083
SPACING_S = 0.167
DRAWS = 200


@dataclass(frozen=True, slots=True)
class Alignment:
    """A beat alignment score beside chance; None with a reason where there is none.

    Args:
        value: Harmonic mean of both directions (or the one direction of a published form), 0..1.
        music: Mean closeness over the music's beats.
        motion: Mean closeness over the motion's beats.
        chance: Mean of `value` with the grid turned by a random part of a beat, its sd, and the p-value.
        corrected: (value - chance) / (1 - chance).
        n_music: Music beats inside the clip.
        n_motion: Motion beats.
        why: Why there is no value, or what is odd about it.
        status: `ok`, `degenerate` (no motion beat: score 0) or `insufficient` (no music beat).
    """

    value: float | None
    music: float | None = None
    motion: float | None = None
    chance: float | None = None
    chance_sd: float | None = None
    p: float | None = None
    corrected: float | None = None
    n_music: int = 0
    n_motion: int = 0
    why: str | None = None
    status: str = "ok"

    def facts(self) -> dict[str, Any]:
        return {
            "music_direction": self.music, "motion_direction": self.motion, "chance_sd": self.chance_sd, "p": self.p,
            "corrected": self.corrected, "n_music": self.n_music, "n_motion": self.n_motion,
        }  # fmt: skip


def motion_beats_bailando(joints: F64) -> tuple[I64, int]:
    """Frames of the motion beats as Bailando finds them, and the length of its speed curve (T - 1).

    Mean displacement of the joints per frame, Gaussian sigma 5 frames (reflected ends), strict local minima.
    """
    from scipy.ndimage import gaussian_filter1d
    from scipy.signal import argrelextrema

    if len(joints) < 2:
        return np.empty(0, np.int64), max(0, len(joints) - 1)
    speed = np.linalg.norm(np.diff(joints, axis=0), axis=2).mean(axis=1)
    smooth = gaussian_filter1d(speed, SMOOTH_FRAMES)
    return np.asarray(argrelextrema(smooth, np.less)[0], np.int64), len(speed)


def motion_beats_mint(joints: F64) -> I64:
    """Frames of the motion beats in the motion-centred form: sum of displacements, 0 in front, minima of order 10."""
    from scipy.signal import argrelextrema

    if len(joints) < 2:
        return np.empty(0, np.int64)
    speed = np.concatenate([[0.0], np.linalg.norm(np.diff(joints, axis=0), axis=2).sum(axis=1)])
    return np.asarray(argrelextrema(speed, np.less, order=ORDER_FRAMES)[0], np.int64)


def closeness(of: F64, to: F64, sigma: float) -> float:
    """Mean over `of` of exp(-d^2 / 2 sigma^2), d the distance to the nearest of `to`; 0 when either is empty."""
    if not len(of) or not len(to):
        return 0.0
    nearest = np.abs(np.asarray(of, np.float64)[:, None] - np.asarray(to, np.float64)[None, :]).min(axis=1)
    return float(np.exp(-(nearest**2) / (2 * sigma**2)).mean())


def bas_music(joints: F64, music_frames: F64) -> float | None:
    """Published score over the music's beats: `compat:bailando`.

    Args:
        joints: (T, J, 3); the reference takes 24 joints at 60 fps.
        music_frames: Music beats in frames; those from T - 1 on are left out as the reference does.

    Returns:
        0..1; 0 without a motion beat (the reference stops with an error there), None without a music beat.
    """
    beats, length = motion_beats_bailando(joints)
    music = np.asarray(music_frames, np.float64)
    music = music[(music >= 0) & (music < length)]
    return closeness(music, beats.astype(np.float64), SIGMA_FRAMES) if len(music) else None


def bas_motion(joints: F64, music_frames: F64) -> float | None:
    """Published score over the motion's beats: `compat:mint`; 0 without a motion beat, None without a music beat."""
    music = np.asarray(music_frames, np.float64)
    beats = motion_beats_mint(joints).astype(np.float64)
    return closeness(beats, music, SIGMA_FRAMES) if len(music) else None


def speed_curve(joints: F64, fps: float, smooth_s: float = SMOOTH_S) -> tuple[F64, F64]:
    """Mean joint speed in m/s, smoothed with a Gaussian, at the middle of each step: (times, speed), both (T - 1,)."""
    from scipy.ndimage import gaussian_filter1d

    steps = np.linalg.norm(np.diff(joints, axis=0), axis=2).mean(axis=1) * fps
    at = (np.arange(len(steps)) + 0.5) / fps
    return np.asarray(at), np.asarray(gaussian_filter1d(steps, smooth_s * fps) if len(steps) else steps)


def motion_beats(joints: F64, fps: float, spacing_s: float = SPACING_S) -> F64:
    """Times (s) of the motion beats of the repaired score: minima of smoothed speed, lowest within +-167 ms.

    A parabola through each minimum and its neighbours gives the time between frames.
    """
    from scipy.signal import argrelextrema

    at, speed = speed_curve(joints, fps)
    if len(speed) < 3:
        return np.empty(0)
    order = max(1, round(spacing_s * fps))
    k = argrelextrema(speed, np.less_equal, order=order)[0]
    k = k[(k > 0) & (k < len(speed) - 1)]
    # Two equal samples are one minimum between them; a longer flat stretch (a body at rest) is none.
    after = np.append(speed, np.inf)[k + 2]
    twin = (speed[k] == speed[k + 1]) & (speed[k + 1] < after)
    k = k[(speed[k] < speed[k - 1]) & ((speed[k] < speed[k + 1]) | twin)]
    bend = speed[k - 1] - 2 * speed[k] + speed[k + 1]
    shift = np.where(bend > 0, 0.5 * (speed[k - 1] - speed[k + 1]) / np.where(bend > 0, bend, 1.0), 0.0)
    return np.asarray(at[k] + np.clip(shift, -0.5, 0.5) / fps)


def bas_fixed(joints: F64, fps: float, beats_s: F64, rng: np.random.Generator, draws: int = DRAWS) -> Alignment:
    """Repaired beat alignment: seconds, both directions and their harmonic mean, beside chance.

    Args:
        joints: (T, J, 3) metres.
        fps: Frames per second of `joints`.
        beats_s: (B,) music beats in seconds on the clip's clock, increasing; those outside the clip are used only to
            know how long the first and last beat last.
        rng: Draws the chance level.
        draws: Grids turned by a random part of a beat.
    """
    end = max(0, len(joints) - 1) / fps
    grid = np.asarray(beats_s, np.float64)
    inside = grid[(grid >= 0) & (grid <= end)]
    if not len(inside):
        return Alignment(None, why="no music beat inside the clip", status="insufficient")
    motion = motion_beats(joints, fps)
    if not len(motion):
        return Alignment(
            0.0, 0.0, 0.0, n_music=len(inside), why="no motion beat: the body hardly changes its speed",
            status="degenerate",
        )  # fmt: skip

    def both(music: F64) -> tuple[float, float]:
        return closeness(music, motion, SIGMA_S), closeness(motion, music, SIGMA_S)

    one, other = both(inside)
    value = harmonic(one, other)
    null = np.array([harmonic(*both(g)) for g in turned(grid, end, rng, draws)])
    return _beside(value, null, Alignment(value, one, other, n_music=len(inside), n_motion=len(motion)))


def _beside(value: float, null: F64, found: Alignment) -> Alignment:
    from dataclasses import replace

    from choreo_cli.metrics.surrogates import p_value

    if not len(null):
        return replace(found, why="one music beat: no chance level")
    chance = float(null.mean())
    corrected = (value - chance) / (1 - chance) if chance < 1 - 1e-9 else None
    return replace(found, chance=chance, chance_sd=float(null.std()), p=p_value(null, value), corrected=corrected)


def harmonic(a: float, b: float) -> float:
    """2ab / (a + b), 0 when both are 0."""
    return 2 * a * b / (a + b) if a + b > 0 else 0.0


def turned(beats_s: F64, end_s: float, rng: np.random.Generator, draws: int = DRAWS) -> list[F64]:
    """The grid moved by a random part of its own beat, `draws` times; what lies in 0..end_s of each.

    Every beat moves by the same part of the interval that follows it, so that a grid with changing tempo keeps it.
    """
    if len(beats_s) < 2:
        return []
    steps = np.diff(beats_s)
    whole = np.concatenate([[beats_s[0] - steps[0]], beats_s])
    gaps = np.concatenate([[steps[0]], steps, [steps[-1]]])
    moved = (whole + u * gaps for u in rng.uniform(0, 1, draws))
    kept = (g[(g >= 0) & (g <= end_s)] for g in moved)
    return [g for g in kept if len(g)]


def compat_alignment(variant: str, joints: F64, fps: float, beats_s: F64, rng: np.random.Generator) -> Alignment:
    """A published score beside the chance of a turned grid, at the rate `joints` have.

    Args:
        variant: `bas_music` or `bas_motion`.
        joints: (T, J, 3) at the reference's rate.
        fps: That rate.
        beats_s: Music beats in seconds.
        rng: Draws of the chance level.
    """
    end = max(0, len(joints) - 1) / fps
    grid = np.asarray(beats_s, np.float64)
    inside = grid[(grid >= 0) & (grid <= end)]
    found, length = motion_beats_bailando(joints)
    motion = (found if variant == "bas_music" else motion_beats_mint(joints)).astype(np.float64)

    def score(times: F64) -> float | None:
        frames = np.round(times * fps)  # the references count whole frames
        if variant == "bas_motion":
            return closeness(motion, frames, SIGMA_FRAMES) if len(frames) else None
        frames = frames[frames < length]
        return closeness(frames, motion, SIGMA_FRAMES) if len(frames) else None

    value = score(inside)
    if value is None:
        return Alignment(None, why="no music beat inside the clip", status="insufficient")
    if not len(motion):
        return Alignment(0.0, n_music=len(inside), why="no motion beat", status="degenerate")
    null = [score(g) for g in turned(grid, end, rng)]
    kept = np.array([v for v in null if v is not None], np.float64)
    return _beside(value, kept, Alignment(value, n_music=len(inside), n_motion=len(motion)))
