"""Music with a form to dance to: phrases of changing length, energy and feel, rendered as drums, bass and chords."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from choreo_cli.audio.render import RATE, add_shots, hats, kicks, note, snares

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

FEELS = ("straight", "half", "double", "break")
LOW_BPM, HIGH_BPM = 92.0, 150.0
# Phrases of two to four bars; a break is short.
_LENGTHS, _BREAKS = (8, 8, 12, 16), (4, 8)
_SCALES = ((0, 3, 5, 7, 10), (0, 2, 4, 7, 9), (0, 2, 3, 7, 8), (0, 2, 5, 7, 9))
# Sixteenths of a bar on which the kick falls, by feel; several of each so that two songs differ.
_KICKS = {
    "straight": ((0, 4, 8, 12), (0, 4, 8, 11, 12), (0, 4, 7, 8, 12)),
    "half": ((0, 8), (0, 6, 8), (0, 8, 10)),
    "double": ((0, 4, 8, 12), (0, 2, 4, 8, 10, 12), (0, 4, 6, 8, 12, 14)),
    "break": ((0,), (0, 8)),
}
_SNARES = {"straight": (4, 12), "half": (8,), "double": (4, 12), "break": ()}
_HATS = {"straight": 2, "half": 4, "double": 1, "break": 4}  # every so many sixteenths


@dataclass(frozen=True, slots=True)
class Phrase:
    """A stretch of music with one energy and one feel.

    Args:
        start: Beat number of its first beat.
        beats: How many.
        energy: 0..1, heard as level and number of layers.
        feel: `straight`, `half`, `double` (how dense the drums are) or `break` (drums all but stop).
        bar: Sixteenths of the kick in each bar.
    """

    start: int
    beats: int
    energy: float
    feel: str
    bar: tuple[int, ...] = (0, 4, 8, 12)


@dataclass(frozen=True, slots=True)
class Arrangement:
    """The form of one track.

    Args:
        bpm: Mean tempo.
        beats_s: (B,) beats in seconds, from before 0 to after the end.
        phrases: In order, without gaps, over all beats.
        root_hz: Key note.
        scale: Semitones above it.
        swing: Part of a beat by which off-beat sixteenths are late.
    """

    bpm: float
    beats_s: F64
    phrases: tuple[Phrase, ...]
    root_hz: float = 55.0
    scale: tuple[int, ...] = (0, 3, 5, 7, 10)
    swing: float = 0.0

    def phrase_of(self) -> NDArray[np.int64]:
        """(B,) number of the phrase of each beat."""
        return np.repeat(np.arange(len(self.phrases)), [p.beats for p in self.phrases])

    def energy(self) -> F64:
        """(B,) energy at each beat; within a phrase it rises a little."""
        out = [p.energy * np.linspace(0.94, 1.06, p.beats) for p in self.phrases]
        return np.clip(np.concatenate(out), 0.0, 1.0)


def arrange(seconds: float, rng: np.random.Generator, *, bpm: float | None = None) -> Arrangement:
    """Draw the form of a track.

    Tempo, the phase of the first beat, where in a phrase the track begins, the length, energy and feel of every phrase
    are independent draws, so that none of them can be told from the first frames of a dance.

    Args:
        seconds: Length that the beats must cover, with two beats before and after.
        rng: Source of every draw.
        bpm: Mean tempo; drawn from 92..150 when left out.
    """
    tempo = float(rng.uniform(LOW_BPM, HIGH_BPM)) if bpm is None else float(bpm)
    period = 60.0 / tempo
    n = int(np.ceil(seconds / period)) + 8
    sway = rng.uniform(0.0, 0.012) * np.sin(2 * np.pi * (np.arange(n) / rng.uniform(24, 48) + rng.random()))
    beats = np.concatenate([[0.0], np.cumsum(period * (1 + sway[:-1]))]) - (3.0 + rng.random()) * period
    phrases: list[Phrase] = []
    at, before = 0, ""
    while at < n:
        feel = _feel(rng, before)
        length = int(rng.choice(_BREAKS if feel == "break" else _LENGTHS))
        if not phrases:
            length = int(rng.integers(4, length + 1))  # the track begins somewhere inside a phrase
        energy = float(rng.uniform(0.08, 0.2) if feel == "break" else rng.uniform(0.3, 1.0))
        bars = _KICKS[feel]
        phrases.append(Phrase(at, min(length, n - at), energy, feel, bars[int(rng.integers(len(bars)))]))
        at, before = at + length, feel
    return Arrangement(
        tempo, beats, tuple(phrases), float(55.0 * 2 ** (rng.integers(-5, 7) / 12)),
        _SCALES[int(rng.integers(len(_SCALES)))], float(rng.uniform(0.0, 0.06)),
    )  # fmt: skip


def _feel(rng: np.random.Generator, before: str) -> str:
    odds = np.array([0.5, 0.2, 0.15, 0.15])
    if before == "break":
        odds[3] = 0.0
    return str(rng.choice(np.array(FEELS), p=odds / odds.sum()))


def render_band(form: Arrangement, seconds: float, rng: np.random.Generator, *, rate: int = RATE) -> F32:
    """Render the form: every phrase opens with a cymbal, its last beat is filled, its layers follow its energy.

    Args:
        form: From `arrange`.
        seconds: Length.
        rng: Source of timbres and human touch.
        rate: Samples per second.

    Returns:
        (N,) float32 in -1..1, N = round(seconds * rate).
    """
    n = round(seconds * rate)
    out = np.zeros(n + 2 * rate, np.float32)
    beats, level = form.beats_s, 0.22 + 0.78 * form.energy()
    gaps = np.diff(beats, append=2 * beats[-1] - beats[-2])
    sixteenths = beats[:, None] + gaps[:, None] * (np.arange(4) / 4 + np.array([0, form.swing, 0, form.swing]))
    slots = _slots(form)
    human = rng.uniform(0.85, 1.0, slots["kick"].shape)
    loud = level[:, None] * human
    for name, takes, gain in (("kick", kicks(rng, rate), 0.9), ("snare", snares(rng, rate), 0.8),
                              ("hat", hats(rng, rate), 0.45)):  # fmt: skip
        pick = rng.integers(0, len(takes), slots[name].size)
        add_shots(out, sixteenths.ravel(), (gain * slots[name] * loud).ravel(), takes, rate, pick)
    opening = np.zeros(len(beats))
    opening[[p.start for p in form.phrases]] = [0.25 + 0.5 * p.energy for p in form.phrases]
    add_shots(out, beats, opening, [_cymbal(rng, rate)], rate)
    _bass(out, form, sixteenths, level, rng, rate)
    out = out[:n] + _chords(n, form, level, rng, rate)
    peak = float(np.abs(out).max(initial=0.0))
    return out * np.float32(0.89 / peak) if peak > 0 else out


def _slots(form: Arrangement) -> dict[str, F64]:
    """Gain of kick, snare and hat on the four sixteenths of every beat: (B, 4) each."""
    shape = (len(form.beats_s), 4)
    out = {name: np.zeros(shape) for name in ("kick", "snare", "hat")}
    for p in form.phrases:
        for k in range(p.beats):
            for s in range(4):
                place, row = 4 * (k % 4) + s, p.start + k
                out["kick"][row, s] = (1.0 if s == 0 else 0.55) * (place in p.bar)
                out["snare"][row, s] = 1.0 * (place in _SNARES[p.feel])
                every = _HATS[p.feel] if p.energy > 0.4 else 2 * _HATS[p.feel]
                out["hat"][row, s] = (1.0 if s == 0 else 0.7) * (place % min(every, 4) == 0)
        if p.feel != "break" and p.start + p.beats < shape[0]:
            out["snare"][p.start + p.beats - 1] = (0.5, 0.55, 0.65, 0.75)  # the fill that announces the next phrase
    return out


def _cymbal(rng: np.random.Generator, rate: int) -> F64:
    t = np.arange(int(1.2 * rate)) / rate
    return np.asarray(np.diff(rng.standard_normal(len(t) + 1)) * 0.5 * np.exp(-t / 0.35))


def _bass(out: F32, form: Arrangement, sixteenths: F64, level: F64, rng: np.random.Generator, rate: int) -> None:
    period = 60.0 / form.bpm
    tones = [note(form.root_hz * 2 ** (s / 12), 0.6 * period, rate) for s in form.scale]
    which = np.empty((len(form.beats_s), 2), np.int64)
    gains = np.zeros((len(form.beats_s), 2))
    for p in form.phrases:
        walk = rng.integers(0, len(tones), (4, 2))
        walk[0, 0] = 0
        rows = np.arange(p.start, p.start + p.beats)
        which[rows] = walk[(rows - p.start) % 4]
        offbeat = 0.0 if p.feel in ("half", "break") else 0.8
        gains[rows] = np.array([1.0, offbeat]) * (0.3 if p.feel == "break" else 1.0)
    add_shots(out, sixteenths[:, ::2].ravel(), (0.28 * gains * level[:, None]).ravel(), tones, rate, which.ravel())


def _chords(n: int, form: Arrangement, level: F64, rng: np.random.Generator, rate: int) -> F32:
    """A chord for each phrase, faded over a quarter of a second at both ends."""
    out = np.zeros(n, np.float32)
    starts = [form.beats_s[p.start] for p in form.phrases] + [form.beats_s[-1] + 60.0 / form.bpm]
    for k in range(len(form.phrases)):
        a, b = (int(np.clip(round(starts[k + j] * rate), 0, n)) for j in (0, 1))
        if b - a < 2:
            continue
        t = np.arange(b - a) / rate
        voices = np.zeros(b - a)
        for step in rng.choice(len(form.scale), 3, replace=False):
            hz = form.root_hz * 4 * 2 ** (form.scale[int(step)] / 12)
            for m, amp in ((1, 1.0), (2, 0.5), (3, 0.33)):
                voices += amp * np.sin(2 * np.pi * hz * m * t + rng.uniform(0, 2 * np.pi))
        fade = np.minimum(1.0, np.minimum(t, t[-1] - t) / 0.25)
        out[a:b] = 0.05 * voices * fade * level[form.phrases[k].start]
    return out
