"""Controls and sessions with known properties for the groove tests."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from choreo_cli.metrics.beat_grid import grid_of
from choreo_cli.metrics.tracks import Track

F64 = NDArray[np.float64]
RATE = 50.0


def bumps(t_s: F64, at_s: F64, height: F64 | float = 1.0, width_s: float = 0.05) -> F64:
    """Gaussian pulses at `at_s` (the two nearest to each time)."""
    i = np.clip(np.searchsorted(at_s, t_s), 1, len(at_s) - 1)
    tall = np.broadcast_to(height, at_s.shape)
    return np.asarray(
        sum(tall[j] * np.exp(-0.5 * ((t_s - at_s[j]) / width_s) ** 2) for j in (i - 1, i)), dtype=np.float64
    )


def track(
    density: F64,
    t_s: F64,
    beats_s: F64,
    energy: F64 | None = None,
    name: str = "s",
) -> Track:
    """A session whose control and frames lie on one clock."""
    body = density if energy is None else energy
    return Track(name, name, t_s, density, grid_of(beats_s), RATE, float(t_s[0]), body, density)


def clock(seconds: float) -> F64:
    return np.arange(round(seconds * RATE)) / RATE


def beats(seconds: float, bpm: float, first_s: float = 0.0) -> F64:
    """Beats from before the clock's start to past its end."""
    period = 60 / bpm
    return first_s % period - period + period * np.arange(int(seconds / period) + 3)


def sections(rng: np.random.Generator, t_s: F64, every_s: float) -> F64:
    """A level that drifts between random values, one every `every_s`."""
    at = np.arange(0, t_s[-1] + 2 * every_s, every_s)
    return np.asarray(np.interp(t_s, at, rng.uniform(0.2, 1, len(at))))


def metronome(
    rng: np.random.Generator, *, seconds: float = 90.0, bpm: float = 120.0, ratio: float = 1.0, jitter_s: float = 0.0
) -> Track:
    """A clock at `ratio` times the music's tempo that started whenever it pleased; it knows nothing of the body."""
    t = clock(seconds)
    music = beats(seconds, bpm, rng.uniform(0, 1))
    own = beats(seconds, bpm * ratio, rng.uniform(0, 1))
    own = np.sort(own + jitter_s * rng.standard_normal(len(own)))
    body = bumps(t, music) * sections(rng, t, 4.0)
    return track(bumps(t, own), t, music, body)


def dancer(
    rng: np.random.Generator,
    *,
    seconds: float = 90.0,
    bpm: float = 120.0,
    late_s: float = 0.01,
    jitter_s: float = 0.015,
) -> Track:
    """A body that moves on the beat, with sections, and a control that follows it `late_s` behind."""
    t = clock(seconds)
    music = beats(seconds, bpm, rng.uniform(0, 1))
    hits = np.sort(music + jitter_s * rng.standard_normal(len(music)))
    level = sections(rng, t, 8.0)
    accent = rng.uniform(0.7, 1, len(hits))
    body = level * (0.2 + bumps(t, hits, accent))
    late = np.interp(t - late_s, t, body)
    return track(late, t, music, body)


def wrong_body(rng: np.random.Generator, *, seconds: float = 90.0, bpm: float = 120.0) -> Track:
    """A control that follows another body, which danced to the same beats."""
    mine = dancer(rng, seconds=seconds, bpm=bpm)
    music = mine.beats.beats_s
    accent = rng.uniform(0.7, 1, len(music))
    other = sections(rng, mine.t_s, 8.0) * (0.2 + bumps(mine.t_s, music, accent))
    return track(other, mine.t_s, music, mine.energy)
