"""Music as a model hears it: features of a sound, or a feature file, of the width and rate that it was trained with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import DataError, NoInputError, UsageError
from choreo_cli.generate.sampling import Sampler

F32 = NDArray[np.float32]

AFTER_S = 0.5  # the end of a sound is reverberation: so much of it may be repeated


@dataclass(frozen=True, slots=True)
class Heard:
    """Music of one dance.

    Args:
        path: The file, None for a dance without music.
        values: (T, A) features; None for a model that listens to nothing.
        frames: T.
        sha256: Of the file, empty without one.
        notes: What was taken for granted.
    """

    path: Path | None
    values: F32 | None
    frames: int
    sha256: str = ""
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return "dance" if self.path is None else self.path.stem


def hear(path: Path, sampler: Sampler, seconds: float | None = None) -> Heard:
    """Features of a sound or feature file for a model; all of it, or its first seconds.

    Raises:
        DataError: features of another width, rate or kind; music that ends before.
        NoInputError, FormatError, UnavailableError: as `dance_archive.read_track`.
    """
    from choreo_cli.audio.dance_archive import SUFFIXES, read_track
    from choreo_cli.audio.dance_features import PHASE_WIDTH, WIDTH

    if path.is_dir():
        raise NoInputError(f"{path} is a folder", hint="name the music in it")
    fps, width = sampler.fps, sampler.audio_width
    sound = path.suffix.lower() not in SUFFIXES
    if sound and width not in (WIDTH, PHASE_WIDTH):
        raise DataError(f"{path} is sound, the model hears {width} features of another kind", hint="name feature files")
    track = read_track(path, fps, phase=width == PHASE_WIDTH, cache=False)
    if track.width != width:
        raise DataError(f"{path} holds {track.width} features a frame, the model hears {width}")
    named = [n for n in (track.names, sampler.audio_names) if n and not n[0].startswith("column_")]
    if len(named) == 2 and named[0] != named[1]:
        odd = next(a for a, b in zip(*named, strict=True) if a != b)
        raise DataError(f"{path} holds other features than the model hears, {odd!r} for one")
    frames = max(1, len(track.values) - sound)  # the last row of a sound lies at its very end
    if seconds is not None:
        frames = frames_for(seconds, fps)
        if frames > len(track.values) + AFTER_S * fps:
            ends = (len(track.values) - sound) / fps
            raise DataError(f"{path} ends after {ends:.2f} s, {seconds:g} s are asked for")
    return Heard(path, track.rows(0, frames), frames, track.sha256, track.assumptions)


def unheard(sampler: Sampler, frames: int) -> Heard:
    """A dance of a model that listens to nothing.

    Raises:
        UsageError: the model does listen, or no length is known.
    """
    if sampler.audio_width:
        raise UsageError("the model dances to music: name a sound or feature file")
    if frames < 1:
        raise UsageError("how long? the model needs no music", hint="give --seconds")
    return Heard(None, None, frames)


def frames_for(seconds: float, fps: float) -> int:
    """Frames of so many seconds. Raises UsageError for less than one frame, or more than ten hours."""
    if not 0 < seconds <= 36_000 or round(seconds * fps) < 1:
        raise UsageError(f"--seconds {seconds:g}", hint=f"{1 / fps:.3g} to 36000")
    return round(seconds * fps)
