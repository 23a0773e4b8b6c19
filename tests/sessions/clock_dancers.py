"""Dancers, music and clocks for the campaigns of the motion clock; none of them is the self-test's template.

Measured (`test_table`, n 36 a row; 120 s, 92-140 BPM, pose noise 1-2 cm, jitter 10-25 ms, prior min(0.25 s, 0.45 beat)):

    cell                         median  p90      < 20 ms  yes   95 % interval holds
    60 fps                       +8.5    21.4 ms  89 %     92 %  94 %
    30 fps                       +4.2    19.3 ms  97 %     92 %  97 %
    25 fps                       -1.2    34.1 ms  67 %     94 %  92 %
    15 fps / 10 fps              -32/-29 75 ms    32 %     90 %  92/97 %
    30 fps, 60 s / 30 s          +3/+1   19 ms    90 %     95 %  97 %
    30 fps, 10 s                 +0.1    37.6 ms  69 %     0 %   83 %   (too short: never claimed)
    30 fps without the self-test +40.9   84.0 ms  3 %      81 %  6 %
    30 fps, jitter 60 ms         -12.7   34.9 ms  56 %     89 %  89 %
    30 fps, moves 0.15-0.32 s    +2.9    21.6 ms  86 %     92 %  92 %
    30 fps, half-time dancer     +8.1    33.1 ms  64 %     92 %  86 %
    30 fps, drift 200 ppm        -4.3    19.1 ms  94 %     92 %  94 %

Below 25 fps the filter is longer than a move and the dancer's style moves the peak by up to 75 ms; the interval says so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from choreo_cli.audio.render import render_track
from choreo_cli.motion.dancer import choreograph, poses, write_score
from choreo_cli.sessions.clock_estimate import ClockEstimate, Envelope, Prior
from choreo_cli.sessions.clock_motion import estimate_motion
from choreo_cli.sessions.clock_selftest import default_onset, self_test
from choreo_cli.sessions.impact import impact_of_pose
from choreo_cli.sessions.move_shape import Bias

# Speed over a move: u^a (1-u)^b for the first three, 1 - cos for the last.
PROFILES = ((2.0, 2.0), (3.0, 2.0), (2.0, 1.5), None)


@dataclass(frozen=True)
class Cell:
    """One row of the table in datalane.md 4.2."""

    fps: float = 30.0
    seconds: float = 120.0
    noise_m: tuple[float, float] = (0.01, 0.02)
    jitter_s: tuple[float, float] = (0.010, 0.025)
    kind: str = "both"  # `points`, `body` or both in turn
    move_s: tuple[float, float] = (0.18, 0.28)  # length of a move: style, which no clock can see
    drift_ppm: float = 0.0
    half_us: int = 250_000
    every: float = 1.0  # beats between landings: 2 is a half-time dancer
    still: bool = False
    wrong_track: bool = False
    calibrated: bool = True


def ease(u: np.ndarray, profile: tuple[float, float] | None) -> np.ndarray:
    """Way along a move, by summing its speed."""
    grid = np.linspace(0, 1, 401)
    speed = 1 - np.cos(2 * np.pi * grid) if profile is None else grid ** profile[0] * (1 - grid) ** profile[1]
    way = np.cumsum(speed)
    return np.interp(u, grid, way / way[-1])


def points_dancer(t: np.ndarray, beats: np.ndarray, rng: np.random.Generator, cell: Cell) -> np.ndarray:
    """Joints that travel between places and land around the beats; (T, J, 3) metres without noise."""
    beat = float(np.median(np.diff(beats)))
    joints = int(rng.integers(9, 23))
    profile = PROFILES[int(rng.integers(len(PROFILES)))]
    length = float(rng.uniform(*cell.move_s))
    keen, half = rng.uniform(0.5, 1.0), rng.uniform(0.0, 0.3)
    jitter = rng.uniform(*cell.jitter_s)
    reach = rng.uniform(0.03, 0.35, joints)
    x = np.repeat(rng.normal(0, 0.5, (1, joints, 3)), len(t), axis=0)
    place = np.zeros((joints, 3))
    every = max(1, round(cell.every))
    lands = [(b, 1.0) for b in beats[::every]] + [(b + beat / 2, 0.35) for b in beats if rng.random() < half]
    for land, size in sorted(lands):
        if rng.random() < 0.15:
            continue  # a beat is missed
        moves = np.flatnonzero(rng.random(joints) < keen)
        step = (
            size * rng.uniform(0.5, 1.5) * rng.normal(0, 0.6, (len(moves), 3)) * reach[moves, None] - 0.5 * place[moves]
        )
        place[moves] += step
        end = land + rng.normal(0, jitter)
        a = int(np.searchsorted(t, end - length))
        x[a:, moves] += ease((t[a:] - (end - length)) / length, profile)[:, None, None] * step
    phase = np.interp(t, beats, np.arange(len(beats)))
    x[:, :, 1] -= rng.uniform(0, 0.03) * np.cos(2 * np.pi * phase / every)[:, None]
    x[:, :, 0] += 0.15 * np.sin(2 * np.pi * rng.uniform(0.03, 0.15) * t)[:, None]
    return x


def trial(seed: int, cell: Cell) -> tuple[float, ClockEstimate, tuple[float, float]]:
    """Render, dance, sample, estimate; error in milliseconds (at the middle of the take), estimate, truth."""
    rng = np.random.default_rng([77, seed])
    beat = 60.0 / rng.uniform(92, 140)
    length = cell.seconds + 12.0
    beats = np.arange(rng.uniform(0.2, 0.8), length + 2, beat)
    music = render_track(beats, rng.uniform(0.5, 1.0, len(beats)), length, rng)
    t_us, value = default_onset(music, 22_050)
    onset = Envelope(t_us, value, 43.066, "test")
    half_us = min(cell.half_us, round(0.45 * beat * 1e6))
    base, offset = 5.0, rng.uniform(-half_us, half_us) / 1e6
    fps = cell.fps
    device = np.arange(int(cell.seconds * fps)) / fps + rng.normal(0, 0.002, int(cell.seconds * fps))
    t = device * (1 + cell.drift_ppm * 1e-6) + base + offset
    danced = beats
    if cell.wrong_track:
        danced = np.arange(0.3, length + 2, beat * (1 + rng.choice([-1, 1]) * rng.uniform(0.03, 0.3)))
    if cell.still:
        x = np.repeat(rng.normal(0, 0.5, (1, 17, 3)), len(t), axis=0)
        x += 0.004 * np.sin(2 * np.pi * rng.uniform(0.1, 0.4) * t)[:, None, None]
    elif cell.kind == "body" or (cell.kind == "both" and seed % 2):
        level = rng.uniform(0.35, 0.9)
        x = poses(choreograph(write_score(danced, level, rng, jitter_s=rng.uniform(*cell.jitter_s)), rng), t)
    else:
        x = points_dancer(t, danced, rng, cell)
    x = (x + rng.normal(0, rng.uniform(*cell.noise_m), x.shape)).astype(np.float32)
    impact = impact_of_pose(np.rint(device * 1e6).astype(np.int64), x)
    bias: Bias | None = self_test(fps, beat * 1e6) if cell.calibrated and fps >= 8 else None
    prior = Prior(round(base * 1e6), half_us, "test")
    got = estimate_motion(onset, impact, prior, beat_us=beat * 1e6, bias=bias, seed=seed)
    middle = device[len(device) // 2]
    truth = base + offset + cell.drift_ppm * 1e-6 * middle
    return (got.offset_us / 1e6 + got.drift_ppm * 1e-6 * middle - truth) * 1e3, got, (base + offset, cell.drift_ppm)


def table_row(name: str, cell: Cell, n: int) -> str:
    """Run a cell and print its row: bias left, p90, share under 20 ms, decisions, interval coverage."""
    done = [trial(seed, cell) for seed in range(n)]
    error = np.array([d[0] for d in done])
    says = [d[1].identifiable for d in done]
    inside = [
        d[1].offset_ci_us is not None and d[1].offset_ci_us[0] <= d[2][0] * 1e6 <= d[1].offset_ci_us[1] for d in done
    ]
    return (
        f"{name:28s} n {n:3d} | median {np.median(error):+6.1f} | p90 {np.percentile(np.abs(error), 90):6.1f} ms | <20 ms "
        f"{100 * np.mean(np.abs(error) < 20):3.0f} % | yes {100 * np.mean([s == 'yes' for s in says]):3.0f} % | "
        f"mod_beat {100 * np.mean([s == 'mod_beat' for s in says]):3.0f} % | interval holds {100 * np.mean(inside):3.0f} %"
    )
