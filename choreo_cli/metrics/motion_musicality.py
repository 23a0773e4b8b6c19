"""Whether a dance follows its music, in three parts that are always shown: beats, energy, tempo.

Each part is brought to (value - chance) / (1 - chance): 0 is what an unrelated dance gets, 1 is perfect. The score is
the mean of the parts that could be measured, none below 0. Levels: the AIST++ break dance of the shared recordings
against its annotated 80 BPM reaches .73-.74 in beats and .99 in tempo (80.1-80.2 BPM by its speed alone) at 60, 30 and
20 fps; twelve clips against a grid of 120 BPM they were not made to lie between -.30 and .35 in beats, .04 on average.
A part counts as above chance when its p-value is at most .05. There is no further threshold: one dance with known music
cannot set one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.metrics.motion_beats import Alignment, bas_fixed, speed_curve
from choreo_cli.metrics.motion_clip import FIXED_FPS, Clip, fixed_rate
from choreo_cli.metrics.motion_music import STEP_S, Music

F64 = NDArray[np.float64]

PARTS = ("beat_alignment", "energy_correlation", "tempo_agreement")
P_MAX = 0.05
ENERGY_SMOOTH_S = 0.25
MIN_ENERGY_S = 5.0
DRAWS = 999
LOW_BPM, HIGH_BPM = 40.0, 240.0
TEMPO_SIGMA = 0.04  # natural log of the ratio: a dance 4 % off is at 61 %
MIN_TEMPO_S = 4.0
SLOW_S = 1.0  # Gaussian sigma of what is too slow to be a beat
FIRST_PEAK = 0.85


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the score.

    Args:
        name: One of `PARTS`.
        value: As measured; None when it could not be.
        chance: What an unrelated dance gets.
        corrected: (value - chance) / (1 - chance).
        p: Against the null, None without one.
        facts: More for the record.
        why: Why there is no value.
    """

    name: str
    value: float | None
    chance: float | None = None
    corrected: float | None = None
    p: float | None = None
    facts: dict[str, Any] | None = None
    why: str | None = None

    @property
    def above_chance(self) -> bool | None:
        return None if self.p is None else self.p <= P_MAX


@dataclass(frozen=True, slots=True)
class Musicality:
    """Parts of one clip and their mean.

    Args:
        name: The clip.
        parts: All three, in the order of `PARTS`.
        score: Mean of the corrected parts, each at least 0; None when no part has a value.
    """

    name: str
    parts: tuple[Part, ...]
    score: float | None


@dataclass(frozen=True, slots=True)
class MusicalityScorer:
    """Score clips against their music.

    Args:
        seed: Of the chance levels.
    """

    seed: int = 0

    def score(self, clip: Clip, music: Music) -> Musicality:
        """All parts of one clip; a part that cannot be measured says why and does not count."""
        at = fixed_rate(clip)
        rng = np.random.default_rng([self.seed, at.frames])
        parts = (self._beats(at, music, rng), self._energy(at, music, rng), self._tempo(at, music))
        live = [max(0.0, p.corrected) for p in parts if p.corrected is not None]
        return Musicality(clip.name, parts, float(np.mean(live)) if live else None)

    def _beats(self, at: Clip, music: Music, rng: np.random.Generator) -> Part:
        found: Alignment = bas_fixed(at.body, FIXED_FPS, music.beats_s, rng)
        corrected = 0.0 if found.status == "degenerate" else found.corrected
        return Part(PARTS[0], found.value, found.chance, corrected, found.p, found.facts(), found.why)

    def _energy(self, at: Clip, music: Music, rng: np.random.Generator) -> Part:
        from choreo_cli.metrics.energy import correlate, searched, shift_null
        from choreo_cli.metrics.surrogates import p_value

        if music.energy is None:
            return Part(PARTS[1], None, why="only beats are known of the music: give its sound or features")
        x, y = energy_pair(at, music.energy)
        if len(x) < MIN_ENERGY_S * FIXED_FPS:
            return Part(PARTS[1], None, why=f"less than {MIN_ENERGY_S:g} s of motion beside music")
        found = correlate(x, y, FIXED_FPS)
        if found.r is None or found.lag_s is None:
            return Part(PARTS[1], None, why="motion or music energy is constant")
        curve = searched(x, y, FIXED_FPS)
        null = shift_null(curve, FIXED_FPS, DRAWS, rng)
        chance = float(null.mean())
        facts = {
            "lag_ms": 1e3 * found.lag_s,
            "r0": found.r0,
            "n_effective": found.n_effective,
            "smooth_s": ENERGY_SMOOTH_S,
        }
        return Part(
            PARTS[1], found.r, chance, (found.r - chance) / max(1 - chance, 1e-9), p_value(null, float(curve[0])), facts
        )

    def _tempo(self, at: Clip, music: Music) -> Part:
        period = music.period_s
        if period is None:
            return Part(PARTS[2], None, why="one beat has no tempo")
        bpm = motion_tempo(at.body, FIXED_FPS)
        if bpm is None:
            return Part(PARTS[2], None, why=f"the motion repeats nothing, or lasts less than {MIN_TEMPO_S:g} s")
        apart = np.log2(bpm * period / 60)
        off = abs(float(apart - np.round(apart))) * float(np.log(2))
        value = float(np.exp(-(off**2) / (2 * TEMPO_SIGMA**2)))
        # A random tempo is spread evenly over an octave, a bell of this width covers so much of it.
        chance = float(TEMPO_SIGMA * np.sqrt(2 * np.pi) / np.log(2))
        facts = {"motion_bpm": bpm, "music_bpm": 60 / period, "octave": float(np.round(apart))}
        return Part(
            PARTS[2], value, chance, (value - chance) / (1 - chance), min(1.0, 2 * off / float(np.log(2))), facts
        )


def energy_pair(at: Clip, energy: F64) -> tuple[F64, F64]:
    """Motion and music energy on the clip's 30 fps clock, both smoothed by a quarter of a second; the shorter rules."""
    from scipy.ndimage import gaussian_filter1d

    t, speed = speed_curve(at.body, at.fps, ENERGY_SMOOTH_S)
    known = np.flatnonzero(np.isfinite(energy))
    if not len(known) or not len(t):
        return np.empty(0), np.empty(0)
    clock = np.arange(len(energy)) * STEP_S
    inside = t <= clock[known[-1]]
    smooth = gaussian_filter1d(np.interp(clock, clock[known], energy[known]), ENERGY_SMOOTH_S / STEP_S)
    return speed[inside], np.interp(t[inside], clock, smooth)


def motion_tempo(joints: F64, fps: float) -> float | None:
    """Beats a minute of the motion: the first high peak of the autocorrelation of its speed within 40..240, between
    frames.

    The first that reaches 85 % of the highest, so that a beat is not told at half its rate; what changes slower than
    two seconds is taken out before. None when the clip is shorter than 4 s or no lag correlates.
    """
    from scipy.fft import irfft, next_fast_len, rfft
    from scipy.ndimage import gaussian_filter1d
    from scipy.signal import argrelextrema

    _, speed = speed_curve(joints, fps)
    if len(speed) < MIN_TEMPO_S * fps:
        return None
    x = speed - gaussian_filter1d(speed, SLOW_S * fps)
    size = next_fast_len(2 * len(x))
    acf = irfft(np.abs(rfft(x, size)) ** 2, size)[: len(x)] / np.arange(len(x), 0, -1)
    if acf[0] <= 0:
        return None
    acf = acf / acf[0]
    low, high = int(np.floor(60 / HIGH_BPM * fps)), int(np.ceil(60 / LOW_BPM * fps))
    peaks = argrelextrema(acf, np.greater)[0]
    peaks = peaks[(peaks >= low) & (peaks <= min(high, len(acf) - 2)) & (acf[peaks] > 0)]
    if not len(peaks):
        return None
    k = int(peaks[np.argmax(acf[peaks] >= FIRST_PEAK * acf[peaks].max())])
    bend = acf[k - 1] - 2 * acf[k] + acf[k + 1]
    return float(60 * fps / (k + 0.5 * (acf[k - 1] - acf[k + 1]) / bend))
