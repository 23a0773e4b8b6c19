"""Frames of a synthetic session: the 11 inputs on the 50 Hz grid, masks, and what was made to go missing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from choreo_cli.motion.dancer import gesture_curves, groove
from choreo_cli.sessions.synth_score import PRE_S, Performance, SynthOptions, stream
from formats.columns import AUD, CTX, HR, INPUTS, MODALITIES, MOT
from formats.proportions import STATURE_M

F64 = NDArray[np.float64]

FRAME_US = 20_000
RATE = 50
HR_DELAY_S = 2.0
SLOPE_S = 4.0
_PULSE = 0.10  # beats: width of the energy pulses
_SNAP_S = 0.016  # width of the jerk pulses


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch of the music clock in which a modality (or one column) is missing."""

    what: str
    start_us: int
    end_us: int
    kind: str


def pulses(t_s: F64, at_s: F64, height: F64, width_s: F64 | float) -> F64:
    """Sum of the two Gaussian pulses nearest to each time; the others are more than 9 widths away."""
    i = np.clip(np.searchsorted(at_s, t_s), 1, len(at_s) - 1)
    width = np.broadcast_to(width_s, at_s.shape)
    out = np.zeros(len(t_s))
    for j in (i - 1, i):
        out += height[j] * np.exp(-0.5 * ((t_s - at_s[j]) / width[j]) ** 2)
    return out


def slow_noise(n: int, tau_s: float, rng: np.random.Generator) -> F64:
    """(n,) first-order noise of unit variance with time constant `tau_s`, stationary from its first sample."""
    from scipy.signal import lfilter

    keep = np.exp(-1.0 / (tau_s * RATE))
    white = rng.standard_normal(n)
    white[1:] *= np.sqrt(1 - keep**2)
    return np.asarray(lfilter([1.0], [1.0, -keep], white))


def _lowpass(x: F64, tau_s: float) -> F64:
    """First-order low-pass that starts settled on its first value."""
    from scipy.signal import lfilter

    a = -np.expm1(-1.0 / (tau_s * RATE))
    y, _ = lfilter([a], [1.0, a - 1.0], x, zi=np.array([(1 - a) * x[0]]))
    return np.asarray(y)


def trailing_slope(x: F64, window_s: float) -> F64:
    """Least-squares slope per second over the LAST `window_s` at each sample; the first samples see a constant past."""
    from scipy.signal import lfilter

    n = round(window_s * RATE) + 1
    k = np.arange(n) - (n - 1) / 2
    taps = (k / (k * k).sum() * RATE)[::-1]
    padded = np.concatenate([np.full(n, x[0]), x])
    return np.asarray(lfilter(taps, [1.0], padded)[n:])


def motion_columns(t_s: F64, who: Performance, options: SynthOptions) -> dict[str, F64]:
    """The six motion inputs at every time (`t_s` may start before the music)."""
    rng = stream(who.seed, "motion")
    n, score = len(t_s), who.score
    curves = gesture_curves(t_s, score.gestures)
    level = who.level(t_s) * (1 - curves[:, 3]) * (not options.still)
    period = np.interp(t_s, who.beats_s[:-1], np.diff(who.beats_s))
    at = np.interp(score.hit_s, t_s, period)
    noise = slow_noise(n, 0.15, rng)
    main = pulses(t_s, score.hit_s, 0.6 * score.accent, _PULSE * at)
    half = pulses(t_s, score.half_s, 0.15 * score.half_accent, _PULSE * at)
    energy = level * (0.2 + main + half) + 0.012 + 0.006 * noise
    snap = pulses(t_s, score.hit_s, 0.85 * score.accent, _SNAP_S) + pulses(
        t_s, score.half_s, 0.5 * score.half_accent, _SNAP_S
    )
    jerk = 0.025 + 0.005 * slow_noise(n, 0.1, rng) + snap * np.sqrt(level / 0.9)
    wobble = 0.05 * slow_noise(n, 4.0, rng)
    sway, bounce = groove(t_s, score)
    scale = 0.15 * STATURE_M
    lean = 0.02 * slow_noise(n, 1.5, rng), 0.02 * slow_noise(n, 1.5, rng)
    balance = 0.84 + 0.05 * slow_noise(n, 3.0, rng) - 0.5 * curves[:, 2]
    # A body that never moved has no rate: there is nothing to hold.
    freq = np.full(n, np.nan) if options.still else np.clip((1 + wobble) / period, 0.0, 8.0)
    return {
        "motion_energy": np.clip(energy, 0.0, 1.0),
        "motion_freq": freq,
        "jerk": np.clip(jerk, 0.0, 1.0),
        "hip_sway": np.clip(sway / scale + lean[0], -1.0, 1.0),
        "hip_bounce": np.clip(bounce / scale + lean[1], -1.0, 1.0),
        "symmetry": np.clip(balance, 0.0, 1.0),
    }


def heart_columns(energy: F64, who: Performance, options: SynthOptions) -> dict[str, F64]:
    """Heart rate behind motion energy: 2 s of pure delay, then a low-pass; 80 + 90 x, and its slope."""
    rng = stream(who.seed, "heart")
    delay = round(HR_DELAY_S * RATE)
    settled = float(energy[: 2 * RATE].mean())
    late = np.concatenate([np.full(delay, settled), energy[: len(energy) - delay]])
    drift = _lowpass(slow_noise(len(energy), 8.0, rng), 1.0)
    rate = 80 + 90 * _lowpass(late, options.hr_tau_s) + 0.8 * drift
    rate = np.clip(rate, 30.0, 220.0)
    return {"hr": rate, "hr_slope": np.clip(trailing_slope(rate, SLOPE_S), -10.0, 10.0)}


def audio_columns(t_s: F64, who: Performance) -> dict[str, F64]:
    """Loudness and brightness of the music: they share the section's level with the body, and nothing of its pulses."""
    rng = stream(who.seed, "audio")
    n = len(t_s)
    level = who.level(t_s)
    i = np.clip(np.searchsorted(who.beats_s, t_s, side="right") - 1, 0, len(who.beats_s) - 2)
    phase = (t_s - who.beats_s[i]) / (who.beats_s[i + 1] - who.beats_s[i])
    accent = rng.uniform(0.6, 1.0, len(who.beats_s))[i]
    hat = rng.uniform(0.5, 1.0, 2 * len(who.beats_s))[2 * i + (phase >= 0.5)]
    thump = accent * np.exp(-phase / 0.18)
    hiss = hat * np.exp(-((2 * phase) % 1.0) / 0.25)
    energy = 0.50 + 0.28 * level + 0.10 * thump + 0.025 * slow_noise(n, 2.0, rng) + 0.008 * slow_noise(n, 0.05, rng)
    bright = 0.38 + 0.22 * level + 0.10 * hiss - 0.05 * thump + 0.04 * slow_noise(n, 3.0, rng)
    return {"audio_energy": np.clip(energy, 0.0, 1.0), "audio_brightness": np.clip(bright, 0.0, 1.0)}


def beat_columns(t_s: F64, who: Performance) -> tuple[F64, NDArray[np.int32]]:
    """Phase in [0, 1) inside the beat, and the beat's index."""
    i = np.clip(np.searchsorted(who.beats_s, t_s, side="right") - 1, 0, len(who.beats_s) - 2)
    phase = (t_s - who.beats_s[i]) / (who.beats_s[i + 1] - who.beats_s[i])
    return phase, (i - who.zero).astype(np.int32)


def make_signals(music: Performance, body: Performance, options: SynthOptions) -> dict[str, NDArray[np.generic]]:
    """Everything the frames hold, before anything goes missing: `t_us`, the 11 inputs (float64) and `beat_idx`.

    Audio and beats are those of `music`, motion and heart those of `body`. The first row is the first multiple of
    20 ms at or after the first beat.
    """
    n = round(options.minutes * 60 * RATE)
    first = first_frame_us(music)
    t_us = first + FRAME_US * np.arange(n, dtype=np.int64)
    pre = round((PRE_S - 2) * RATE)
    early = (first + FRAME_US * np.arange(-pre, n, dtype=np.int64)) / 1e6
    moves = motion_columns(early, body, options)
    heart = heart_columns(moves["motion_energy"], body, options)
    values = {k: v[pre:] for k, v in {**moves, **heart}.items()} | audio_columns(t_us / 1e6, music)
    values["beat_phase"], beat_idx = beat_columns(t_us / 1e6, music)
    return {"t_us": t_us, **{c.name: values[c.name] for c in INPUTS}, "beat_idx": beat_idx}


def make_frames(
    session_id: str, signals: dict[str, NDArray[np.generic]], gaps: tuple[Gap, ...]
) -> dict[str, NDArray[np.generic] | list[str]]:
    """All columns of `FRAMES`: NaN where `gaps` say, masks from what is left."""
    t_us, n = signals["t_us"], len(signals["t_us"])
    inputs = {c.name: signals[c.name].astype(np.float32) for c in INPUTS}
    # float32 rounds .99999998 up to 1.0, which is the next beat.
    inputs["beat_phase"] = np.minimum(inputs["beat_phase"], np.nextafter(np.float32(1), np.float32(0)))
    for gap in gaps:
        a, b = np.searchsorted(t_us, (gap.start_us, gap.end_us))
        for name in MODALITIES.get(gap.what, (gap.what,)):
            inputs[name][a:b] = np.nan
    live = {name: np.isfinite(x) for name, x in inputs.items()}
    return {
        "session_id": [session_id] * n,
        "t_us": t_us,
        **inputs,
        "beat_idx": np.where(live[CTX[0]], signals["beat_idx"], -1).astype(np.int32),
        "m_mot": live[MOT[0]] & live[MOT[1]] & live[MOT[2]],
        "m_hr": live[HR[0]],
        "m_aud": live[AUD[0]] & live[AUD[1]],
        "m_ctx": live[CTX[0]],
        "synthetic": np.ones(n, bool),
    }


def first_frame_us(music: Performance) -> int:
    """The first multiple of 20 ms at or after the first beat."""
    return -(-round(music.first_s * 1e6) // FRAME_US) * FRAME_US


def draw_gaps(music: Performance, options: SynthOptions) -> tuple[Gap, ...]:
    """Dropouts of 1-4 s that cover exactly the asked fraction of frames, and short bursts in single columns."""
    n = round(options.minutes * 60 * RATE)
    start = first_frame_us(music)
    found = []
    for modality, fraction in sorted(options.dropout):
        for a, b in _scatter(n, round(fraction * n), stream(music.seed, f"dropout_{modality}")):
            found.append(Gap(modality, start + FRAME_US * a, start + FRAME_US * b, "dropout"))
    rng = stream(music.seed, "bursts")
    for _ in range(options.nan_bursts):
        column = INPUTS[int(rng.integers(len(INPUTS)))].name
        length = min(int(rng.integers(3, 26)), n)
        a = int(rng.integers(0, n - length + 1))
        found.append(Gap(column, start + FRAME_US * a, start + FRAME_US * (a + length), "nan_burst"))
    return tuple(sorted(found, key=lambda g: (g.start_us, g.what)))


def _scatter(n: int, missing: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Disjoint (start, end) runs of 1-4 s that hold `missing` of `n` frames."""
    lengths: list[int] = []
    while sum(lengths) < missing:
        lengths.append(min(int(rng.integers(RATE, 4 * RATE + 1)), missing - sum(lengths)))
    free = np.sort(rng.integers(0, n - missing + 1, len(lengths)))
    starts = free + np.concatenate([[0], np.cumsum(lengths)[:-1]]) if lengths else []
    return [(int(a), int(a) + k) for a, k in zip(starts, lengths, strict=True)]
