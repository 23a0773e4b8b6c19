"""A track as `pair` needs it: its onset envelope, beats and the two audio inputs, from audio or from features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.motion.resample import phase_at

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Music:
    """What is known of a track.

    Args:
        duration_us: Length.
        onset_t_us: (T,) times of the envelope, None when the features hold none.
        onset: (T,) onset envelope.
        beats_s: Beats in seconds; empty without a tempo.
        tempo_bpm: Tempo by line fit or annotation, None without one.
        tempo_candidates: (bpm, score).
        beats_source: `annotated`, `tracked`, `features` or `none`.
        inputs: t_us -> (audio_energy, audio_brightness, mask).
        frame_rate: (sr, hop) of the feature frames, None without features.
        n_frames: Feature frames.
        features_path: Where its features lie in the output folder, None when they are not kept.
        assumptions: What was taken for granted.
        problems: Doubts.
    """

    duration_us: int
    onset_t_us: I64 | None
    onset: F32 | None
    beats_s: F64
    tempo_bpm: float | None
    tempo_candidates: tuple[tuple[float, float], ...]
    beats_source: str
    inputs: Callable[[I64], tuple[F32, F32, NDArray[np.bool_]]]
    frame_rate: tuple[int, int] | None
    n_frames: int
    features_path: str | None = None
    assumptions: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    def phase(self, t_us: I64) -> tuple[F32, NDArray[np.int32]]:
        """Beat phase (NaN outside the beats) and index (-1 outside) at music times."""
        phase, idx = phase_at(self.beats_s, np.asarray(t_us) / 1e6)
        small = phase.astype(np.float32)
        # A phase a hair below 1 rounds to 1 in float32, which is the next beat's 0.
        small = np.where(small >= 1.0, np.nextafter(np.float32(1), np.float32(0)), small)
        return small, idx

    @property
    def frame_t_us(self) -> I64:
        """(n_frames,) times of the feature frames: the native audio samples of a pair."""
        if self.frame_rate is None:
            return np.empty(0, np.int64)
        sr, hop = self.frame_rate
        t: I64 = np.rint(np.arange(self.n_frames) * (hop * 1e6 / sr)).astype(np.int64)
        return t

    @property
    def beat_period_us(self) -> int | None:
        return round(60e6 / self.tempo_bpm) if self.tempo_bpm else None

    def record(self) -> dict[str, Any]:
        """For the report."""
        return {
            "duration_us": self.duration_us,
            "tempo_bpm": self.tempo_bpm,
            "beats": len(self.beats_s),
            "beats_source": self.beats_source,
            "tempo_candidates": [[round(b, 3), round(s, 4)] for b, s in self.tempo_candidates],
        }
