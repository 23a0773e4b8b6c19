"""What a synthetic session is asked to be, and its score: beats, sections, gestures, landings."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import UsageError
from choreo_cli.motion.dancer import GESTURES, JITTER_S, Gestures, Score, write_score
from formats.columns import MODALITIES

F64 = NDArray[np.float64]

VERSION = "1"
PRE_S = 16.0  # filters and the heart need a past: signals start this long before the music
SECTION_BEATS = (8, 16, 24, 32)
LEVELS = (0.15, 0.9)
SMOOTH_S = 1.0
# The order is the seed: append, never reorder.
_STREAMS = (
    "grid", "sections", "gestures", "score", "dance", "body", "motion", "heart", "audio", "track", "device", "room",
    "dropout_mot", "dropout_hr", "dropout_aud", "dropout_ctx", "bursts", "pose_times", "pose_noise", "heart_times",
    "partner",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class SynthOptions:
    """What to make. Sequences (`bpm`, `offset_s`, `drift_ppm`) cycle over the sessions.

    Args:
        sessions: How many.
        minutes: Length of each, from its first beat.
        bpm: Tempi.
        seed: Seed of the set; every session has a child seed of its own.
        hr_tau_s: Low-pass of heart rate after its 2 s delay.
        decoupled: Motion and heart rate come from another performance (the negative control).
        wrong_track: Another track than the metadata says was played and danced to.
        still: The person stands still.
        dropout: Missing fraction by modality (`mot hr aud ctx`).
        nan_bursts: Short runs of nulls in single columns.
        ramp: Tempo change over the session, as a fraction (0.1 ends 10 % faster).
        material: Also write recordings, music and metadata, not only frames.
        pose_fps: Rate of the pose log, Hz.
        pose_noise_m: Standard deviation of the pose noise, metres.
        offset_s: True offset minus what the clocks say.
        drift_ppm: Drift of the device clock in `t_music = (1 + drift) t_device + offset`.
        scratch_snr_db: Level of the device microphone's recording over noise; no recording when None.
        jitter_s: Standard deviation of the landings around the beat.

    Raises:
        UsageError: a value outside its bounds.
    """

    sessions: int = 5
    minutes: float = 3.0
    bpm: tuple[float, ...] = (120.0,)
    seed: int = 0
    hr_tau_s: float = 1.5
    decoupled: bool = False
    wrong_track: bool = False
    still: bool = False
    dropout: tuple[tuple[str, float], ...] = ()
    nan_bursts: int = 0
    ramp: float = 0.0
    material: bool = True
    pose_fps: float = 30.0
    pose_noise_m: float = 0.0
    offset_s: tuple[float, ...] = (0.0,)
    drift_ppm: tuple[float, ...] = (0.0,)
    scratch_snr_db: float | None = None
    jitter_s: float = JITTER_S

    def __post_init__(self) -> None:
        for name, (lo, hi) in _BOUNDS.items():
            values = getattr(self, name)
            for value in values if isinstance(values, tuple) else (values,):
                if value is not None and not (math.isfinite(value) and lo <= value <= hi):
                    raise UsageError(f"{_flag(name)} {value:g} is outside {lo:g}..{hi:g}")
            if values == ():
                raise UsageError(f"{_flag(name)} is empty")
        for modality, fraction in self.dropout:
            if modality not in MODALITIES:
                raise UsageError(f"--dropout {modality}: no such modality", hint=f"one of {', '.join(MODALITIES)}")
            if not 0 <= fraction <= 0.9:
                raise UsageError(f"--dropout {modality}={fraction:g} is outside 0..0.9")
        for bpm in self.bpm:
            if not 30 <= bpm * (1 + self.ramp) <= 300:
                raise UsageError(f"--ramp {self.ramp:g} takes {bpm:g} beats/min to {bpm * (1 + self.ramp):g}")


_BOUNDS: dict[str, tuple[float, float]] = {
    "sessions": (1, 10_000), "minutes": (0.1, 120), "bpm": (40, 240), "seed": (0, 2**63 - 1), "hr_tau_s": (0.02, 120),
    "nan_bursts": (0, 10_000), "ramp": (-0.5, 1.0), "pose_fps": (0.2, 240), "pose_noise_m": (0, 1),
    "offset_s": (-3600, 3600), "drift_ppm": (-2000, 2000), "scratch_snr_db": (-60, 60), "jitter_s": (0, 0.08),
}  # fmt: skip
_FLAGS = {"hr_tau_s": "--hr-tau", "pose_noise_m": "--pose-noise", "scratch_snr_db": "--scratch-snr"}


def _flag(name: str) -> str:
    return _FLAGS.get(name, "--" + name.replace("_", "-"))


@dataclass(frozen=True, slots=True)
class Section:
    """A stretch of one activity level."""

    start_beat: int
    beats: int
    start_s: float
    end_s: float
    level: float


@dataclass(frozen=True, slots=True)
class Performance:
    """One body on one beat grid.

    Args:
        name: How metadata call it.
        seed: What all its draws come from.
        bpm: Tempo at the first beat.
        first_s: First beat on the music clock.
        beats_s: (B,) beats from `PRE_S` before the first one to past the end; `beats_s[zero]` is beat 0.
        zero: Index of beat 0.
        sections: In order, from beat 0; the first also holds before it.
        score: What the dancer follows; its level is 0 before the first beat and where it must stand still.
    """

    name: str
    seed: int
    bpm: float
    first_s: float
    beats_s: F64
    zero: int
    sections: tuple[Section, ...]
    score: Score
    _edges: tuple[F64, F64] = field(repr=False)

    @property
    def gestures(self) -> Gestures:
        return self.score.gestures

    def level(self, t_s: F64) -> F64:
        """Section activity, averaged over the second around each time (an exact integral of the steps)."""
        edge, area = self._edges
        half = SMOOTH_S / 2
        return np.asarray((np.interp(t_s + half, edge, area) - np.interp(t_s - half, edge, area)) / SMOOTH_S)


def child_seed(seed: int, index: int, part: int = 0) -> int:
    """Seed of session `index` (part 0) or of its partner (part 1): the first 53 bits of a spawned sequence."""
    state = np.random.SeedSequence(seed, spawn_key=(index, part)).generate_state(1, np.uint64)
    return int(state[0]) >> 11


def stream(seed: int, name: str) -> np.random.Generator:
    """The generator of one concern, so that an option never moves the draws of another."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(_STREAMS.index(name),))))


def beat_grid(bpm: float, ramp: float, first_s: float, length_s: float, end_s: float) -> tuple[F64, int]:
    """Beats from `PRE_S` before the first one to past `end_s`, rounded to whole microseconds, and the index of beat 0.

    Tempo is f0 (1 + ramp t / length) after the first beat, so beat n lies where f0 (t + ramp t^2 / (2 length)) = n.
    """
    f0 = bpm / 60.0
    before = math.ceil(PRE_S * f0)
    span = end_s - first_s + 4
    ahead = math.ceil(f0 * max(span, span * (1 + ramp * span / length_s))) + 2
    n = np.arange(-before, ahead + 1, dtype=np.float64)
    rate = ramp / length_s
    t = n / f0
    if rate:
        late = n > 0
        root = np.maximum(1 + 2 * rate * n[late] / f0, 0.0)
        t[late] = (np.sqrt(root) - 1) / rate
    beats = np.round((first_s + t) * 1e6) / 1e6
    keep = np.concatenate([[True], np.diff(beats) > 1e-3])
    return beats[keep], before


def perform(seed: int, bpm: float, options: SynthOptions, *, name: str, phase: float | None = None) -> Performance:
    """Draw a performance.

    Args:
        seed: Child seed.
        bpm: Tempo at the first beat.
        options: Length, ramp, jitter and variants.
        name: How metadata call it.
        phase: Start phase in beats; None draws the lead-in of a track (0.25..0.75 s of silence).
    """
    lead = stream(seed, "grid").uniform(0.25, 0.75)
    first = round(lead if phase is None else 0.5 + phase * 60.0 / bpm, 6)
    length = 60.0 * options.minutes
    beats, zero = beat_grid(bpm, options.ramp, first, length, first + length + 4)
    sections = _sections(seed, beats, zero)
    edges = _areas(sections, beats)
    gestures = Gestures(np.empty(0), np.empty(0)) if options.still else _gestures(seed, beats, zero, first + length)
    draft = Performance(name, seed, bpm, first, beats, zero, sections, _empty_score(beats), edges)
    level = np.where(np.arange(len(beats)) >= zero, draft.level(beats), 0.0) * (not options.still)
    score = write_score(beats, level, stream(seed, "score"), jitter_s=options.jitter_s, gestures=gestures)
    return Performance(name, seed, bpm, first, beats, zero, sections, score, edges)


def _empty_score(beats: F64) -> Score:
    none = np.empty(0)
    return Score(beats, none, none, none, none, none, Gestures(none, none))


def _sections(seed: int, beats: F64, zero: int) -> tuple[Section, ...]:
    rng = stream(seed, "sections")
    found: list[Section] = []
    at, last = zero, len(beats) - 1
    level = float(rng.uniform(*LEVELS))
    while at < last:
        n = min(int(rng.choice(SECTION_BEATS)), last - at)
        found.append(Section(at - zero, n, float(beats[at]), float(beats[at + n]), round(level, 4)))
        at += n
        before = level
        while abs(level - before) < 0.15:
            level = float(rng.uniform(*LEVELS))
    return tuple(found)


def _areas(sections: tuple[Section, ...], beats: F64) -> tuple[F64, F64]:
    """Section edges (s) and the integral of the level up to them."""
    edge = np.array([min(beats[0], sections[0].start_s) - 2 * SMOOTH_S, *(s.end_s for s in sections)])
    edge = np.append(edge, edge[-1] + 60.0)
    level = np.array([*(s.level for s in sections), sections[-1].level])
    return edge, np.concatenate([[0.0], np.cumsum(np.diff(edge) * level)])


def _gestures(seed: int, beats: F64, zero: int, end_s: float) -> Gestures:
    """One every 6 to 14 beats, on a beat, labels in random order, none so late that it would be cut."""
    rng = stream(seed, "gestures")
    labels = tuple(GESTURES)
    onset, length, label = [], [], []
    at = zero + int(rng.integers(4, 9))
    while at + 3 < len(beats) and beats[at + 3] < end_s:
        name = labels[int(rng.integers(len(labels)))]
        onset.append(float(beats[at]))
        length.append(round(GESTURES[name][4] * float(beats[at + 1] - beats[at]), 6))
        label.append(name)
        at += int(rng.integers(6, 15))
    return Gestures(np.array(onset), np.array(length), tuple(label))
