"""Render beat tracks: kick, snare, hat, bass and pad with a timbre and a pattern of their own, and plain clicks."""

from __future__ import annotations

import io
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

RATE = 22_050
_VARIANTS = 4  # takes of each drum: identical loops would make every bar match every other bar
_SCALES = ((0, 3, 5, 7, 10), (0, 2, 4, 7, 9), (0, 2, 3, 7, 8), (0, 2, 5, 7, 9))


@dataclass(frozen=True, slots=True)
class Style:
    """Timbre and pattern of one track, drawn once from its seed."""

    root_hz: float
    scale: tuple[int, ...]
    kick: F64  # (4 beats,) gain
    snare: F64  # (4,)
    hat: F64  # (16 sixteenths,)
    ghost: F64  # (16,) chance of an extra snare
    bass: F64  # (8 eighths,) gain
    swing: float


def draw_style(rng: np.random.Generator) -> Style:
    """Draw a track's character; the kick marks every beat, so that the beat is the tempo that is heard."""
    hat = np.where(np.arange(16) % 2 == 0, rng.uniform(0.5, 1.0, 16), rng.uniform(0, 0.6, 16))
    return Style(
        root_hz=float(55.0 * 2 ** (rng.integers(-5, 7) / 12)),
        scale=_SCALES[int(rng.integers(len(_SCALES)))],
        kick=np.array([1.0, 0.8, 0.9, 0.8]) * rng.uniform(0.85, 1.0, 4),
        snare=np.array([0.0, 0.8, 0.0, 0.8]) * rng.uniform(0.8, 1.0, 4),
        hat=hat * (rng.random(16) < 0.85),
        ghost=np.where(np.arange(16) % 4 == 0, 0.0, rng.uniform(0, 0.12, 16)),
        bass=np.where(rng.random(8) < 0.7, rng.uniform(0.6, 1.0, 8), 0.0),
        swing=float(rng.uniform(0.0, 0.08)),
    )


def render_track(
    beats_s: F64,
    level: F64 | float,
    duration_s: float,
    rng: np.random.Generator,
    *,
    rate: int = RATE,
    style: Style | None = None,
) -> F32:
    """Render music whose attacks lie on the beat grid.

    Args:
        beats_s: (B,) beat times, strictly increasing, B >= 2; the first is a downbeat of a 4/4 bar.
        level: Loudness of each beat, 0..1.
        duration_s: Length; beats outside it are silent.
        rng: Source of every draw.
        rate: Samples per second.
        style: Timbre and pattern, drawn when left out.

    Returns:
        (N,) float32 in -1..1, N = round(duration_s * rate).
    """
    beats = np.asarray(beats_s, np.float64)
    gain = np.broadcast_to(np.asarray(level, np.float64), beats.shape)
    style = style or draw_style(rng)
    n = round(duration_s * rate)
    out = np.zeros(n + rate, np.float32)
    loud = 0.35 + 0.65 * gain
    _drums(out, beats, loud, gain, rng, style, rate)
    _bass(out, beats, loud, rng, style, rate)
    out = out[:n]
    out += _pad(n, beats, gain, rng, style, rate)
    peak = float(np.abs(out).max(initial=0.0))
    return out * np.float32(0.89 / peak) if peak > 0 else out


def render_clicks(beats_s: F64, duration_s: float, *, rate: int = RATE, pitch_hz: float = 1000.0) -> F32:
    """Render a metronome: 30 ms decaying tones whose first sample is the beat, rounded to a sample."""
    t = np.arange(int(0.03 * rate)) / rate
    out = np.zeros(round(duration_s * rate), np.float32)
    add_shots(
        out,
        np.asarray(beats_s),
        np.ones(len(beats_s)),
        [0.8 * np.cos(2 * np.pi * pitch_hz * t) * np.exp(-t / 0.006)],
        rate,
    )
    return out


def wav_bytes(samples: F32, *, rate: int = RATE, title: str = "", comment: str = "") -> bytes:
    """Encode mono PCM16 WAV; title and comment become INFO tags (`synthetic` belongs into the comment).

    Full scale is clipped, never wrapped.
    """
    import soundfile

    pcm = np.rint(np.clip(samples, -1.0, 1.0) * np.float32(32767)).astype(np.int16)
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", rate, 1, subtype="PCM_16", format="WAV") as f:
        if title:
            f.title = title
        if comment:
            f.comment = comment
        f.write(pcm)
    return buffer.getvalue()


def add_shots(
    out: F32, times_s: F64, gains: F64, takes: list[F64], rate: int, which: NDArray[np.int64] | None = None
) -> None:
    """Add one-shots at the nearest sample of each time; what starts outside is silent."""
    starts = np.rint(times_s * rate).astype(np.int64)
    shots = [np.asarray(x, np.float32) for x in takes]
    for i in np.flatnonzero((starts >= 0) & (starts < len(out)) & (gains > 0)):
        shot = shots[int(which[i]) if which is not None else 0]
        a = int(starts[i])
        part = out[a : a + len(shot)]
        part += np.float32(gains[i]) * shot[: len(part)]


def kicks(rng: np.random.Generator, rate: int) -> list[F64]:
    """Takes of a kick drum: a falling sine with a click."""
    t = np.arange(int(0.22 * rate)) / rate
    base, drop, tail = rng.uniform(42, 60), rng.uniform(90, 200), rng.uniform(0.06, 0.10)
    takes = []
    for _ in range(_VARIANTS):
        f = base * rng.uniform(0.98, 1.02)
        phase = 2 * np.pi * (f * t + drop * 0.02 * (1 - np.exp(-t / 0.02)))
        click = rng.standard_normal(len(t)) * np.exp(-t / 0.003) * 0.5
        takes.append(np.cos(phase) * np.exp(-t / tail) + click)
    return takes


def snares(rng: np.random.Generator, rate: int) -> list[F64]:
    """Takes of a snare: noise over a short tone."""
    t = np.arange(int(0.18 * rate)) / rate
    tone, tail = rng.uniform(160, 240), rng.uniform(0.035, 0.07)
    return [
        0.5 * rng.standard_normal(len(t)) * np.exp(-t / tail) + 0.4 * np.cos(2 * np.pi * tone * t) * np.exp(-t / 0.04)
        for _ in range(_VARIANTS)
    ]


def hats(rng: np.random.Generator, rate: int) -> list[F64]:
    """Takes of a closed hi-hat: bright, short noise."""
    t = np.arange(int(0.06 * rate)) / rate
    tail = rng.uniform(0.010, 0.022)
    # A difference of white noise is bright: its power rises with the square of frequency.
    return [np.diff(rng.standard_normal(len(t) + 1)) * 0.35 * np.exp(-t / tail) for _ in range(_VARIANTS)]


def _grid(beats: F64, parts: int, swing: float = 0.0) -> F64:
    """(B * parts,) subdivisions of every beat; odd sixteenths arrive late by `swing` of a beat."""
    gaps = np.diff(beats, append=2 * beats[-1] - beats[-2])
    at = np.arange(parts) / parts + np.where(np.arange(parts) % 2 == 1, swing, 0.0)
    return np.asarray((beats[:, None] + gaps[:, None] * at).reshape(-1))


def _drums(out: F32, beats: F64, loud: F64, gain: F64, rng: np.random.Generator, style: Style, rate: int) -> None:
    n = len(beats)
    beat = np.arange(n) % 4
    pick = rng.integers(0, _VARIANTS, (2, n))
    add_shots(out, beats, 0.8 * style.kick[beat] * loud, kicks(rng, rate), rate, pick[0])
    hits = snares(rng, rate)
    add_shots(out, beats, 0.9 * style.snare[beat] * loud, hits, rate, pick[1])
    times = _grid(beats, 4, style.swing)
    slot = np.arange(4 * n) % 16
    per = np.repeat(loud, 4)
    human = rng.uniform(0.7, 1.0, 4 * n)
    busy = (slot % 2 == 0) | (np.repeat(gain, 4) > 0.45)
    pick4 = rng.integers(0, _VARIANTS, (2, 4 * n))
    add_shots(out, times, 0.40 * style.hat[slot] * per * human * busy, hats(rng, rate), rate, pick4[0])
    ghost = (rng.random(4 * n) < style.ghost[slot]) * 0.25
    add_shots(out, times, ghost * per * human, hits, rate, pick4[1])


def note(hz: float, length_s: float, rate: int) -> F64:
    """A plucked tone of four partials."""
    t = np.arange(int(length_s * rate)) / rate
    tone = sum(np.sin(2 * np.pi * hz * k * t) / k**1.5 for k in (1, 2, 3, 4))
    return np.asarray(tone * np.minimum(t / 0.005, 1) * np.exp(-t / (0.5 * length_s)))


def _bass(out: F32, beats: F64, loud: F64, rng: np.random.Generator, style: Style, rate: int) -> None:
    n = len(beats)
    gap = float(np.median(np.diff(beats)))
    notes = [note(style.root_hz * 2 ** (s / 12), 0.5 * gap, rate) for s in style.scale]
    walk = rng.integers(0, len(notes), 2 * n)
    walk[::8] = 0
    gains = 0.22 * style.bass[np.arange(2 * n) % 8] * np.repeat(loud, 2)
    add_shots(out, _grid(beats, 2), gains, notes, rate, walk)


def _pad(n: int, beats: F64, gain: F64, rng: np.random.Generator, style: Style, rate: int) -> F32:
    """Chords that change every four bars, three voices with slow tremolo, silent before the first beat."""
    t = np.arange(n, dtype=np.float64) / rate
    out = np.zeros(n, np.float32)
    bounds = np.append(beats[::16], beats[-1] + (beats[-1] - beats[-2]))
    edges = np.clip(np.rint(bounds * rate).astype(np.int64), 0, n)
    for a, b in pairwise(edges.tolist()):
        if b - a < 2:
            continue
        part = t[a:b] - t[a]
        chord = rng.choice(len(style.scale), 3, replace=False)
        envelope = np.minimum(1.0, np.minimum(part, part[-1] - part) / 0.25)
        voices = np.zeros(b - a)
        for voice in chord:
            hz = style.root_hz * 4 * 2 ** (style.scale[int(voice)] / 12)
            voices += np.sin(2 * np.pi * hz * part + rng.uniform(0, 2 * np.pi))
            for k in (2, 3, 5):
                voices += np.sin(2 * np.pi * hz * k * part + rng.uniform(0, 2 * np.pi)) / k
        out[a:b] = 0.07 * voices * envelope
    out *= (0.4 + 0.6 * np.interp(t, beats, gain)).astype(np.float32)
    return out
