"""Features and beats of one recording as the arrays of our NPZ format."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.audio.beats import BeatTrack
from choreo_cli.audio.features import Features


def archive_arrays(features: Features, track: BeatTrack) -> dict[str, NDArray[Any] | float | int | bool]:
    """Return every key of `formats.audio_npz.AUDIO_NPZ`; without a tempo it is NaN and the beats are empty."""
    p = features.params
    frames = np.rint(track.beats_s * (p.rate / p.hop)).astype(np.int32)
    return {
        "sr": p.rate,
        "hop": p.hop,
        "n_fft": p.n_fft,
        "duration_us": features.duration_us,
        "mel": features.mel,
        "chroma": features.chroma,
        "mfcc": features.mfcc,
        "onset": features.onset,
        "rms": features.rms,
        "centroid": features.centroid,
        "tempo": np.nan if track.tempo_bpm is None else track.tempo_bpm,
        "tempo_residual": np.nan if track.residual_s is None else track.residual_s,
        "tempo_stable": track.tempo_stable,
        "tempo_candidates": np.array(track.candidates, np.float64).reshape(-1, 2),
        "beat_times": track.beats_s,
        "beat_frames": frames,
        "beat_latency_us": track.latency_us,
    }
