"""Music as the motion metrics take it: beats, tempo and energy, from sound, a feature archive or a file of beats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import ChoreoError, DataError, NoInputError
from formats.errors import FormatError

F64 = NDArray[np.float64]

STEP_S = 0.02


@dataclass(frozen=True, slots=True)
class Music:
    """What a clip was danced to, on the clip's own clock.

    Args:
        name: File name.
        beats_s: (B,) increasing seconds.
        estimated: The beats were found by a tracker, not annotated.
        energy: (N,) 0..1 at k * 0.02 s, NaN outside; None when only beats are known.
        sha256: Of the file.
    """

    name: str
    beats_s: F64
    estimated: bool
    energy: F64 | None
    sha256: str

    @property
    def period_s(self) -> float | None:
        """Median beat interval; None below two beats."""
        return float(np.median(np.diff(self.beats_s))) if len(self.beats_s) > 1 else None

    def facts(self) -> dict[str, Any]:
        """For the `params` of a record."""
        period = self.period_s
        return {
            "music": self.name,
            "music_sha256": self.sha256,
            "beats": len(self.beats_s),
            "beats_are": "estimated" if self.estimated else "annotated",
            "tempo_bpm": None if period is None else 60 / period,
        }


def read_music(path: Path, beats: Path | None = None) -> Music:
    """Read sound, a feature archive or beats.

    Args:
        path: Any of them.
        beats: Annotated beats that take the place of estimated ones.

    Raises:
        NoInputError: no such file.
        DataError: neither sound, features nor beats, or no beat in it.
        formats.errors.FormatError: damaged.
    """
    from choreo_cli.metrics.beat_files import read_beats
    from formats.atomic import sha256_file
    from formats.foreign.registry import recognise
    from formats.foreign.source import Source

    if not path.is_file():
        raise NoInputError(f"no file {path}", hint="need music, its features or its beats")
    source = Source.of(path)
    kind = recognise(source.head, path.name, source.size).kind
    sha = sha256_file(path)
    given = None if beats is None else read_beats(beats)
    if kind == "beats":
        return Music(path.name, read_beats(path) if given is None else given, False, None, sha)
    if kind == "features":
        found, energy = _of_archive(source)
    elif kind == "audio":
        found, energy = _of_sound(path)
    else:
        raise DataError(f"{path} is no music: {kind}", hint="give sound, a feature archive, or beats, one time a line")
    grid = found if given is None else given
    if grid is None or not len(grid):
        raise DataError(f"no beat found in {path}", hint="give annotated beats with --beats FILE")
    return Music(path.name, grid, given is None, energy, sha)


def music_of_clips(
    names: Sequence[str], named: Mapping[str, Path], music: Path | None, beats: Path | None
) -> tuple[dict[str, Music], list[str]]:
    """The music of each clip: one file for all, else what its manifest names.

    Args:
        names: Clips.
        named: Clip -> file, from manifests.
        music: Sound, features or beats for all clips.
        beats: Annotated beats for all clips; alone they are all that is known of the music.

    Returns:
        clip -> music, and a sentence for each file of a manifest that could not be used

    Raises:
        ChoreoError, FormatError: `music` or `beats` cannot be used.
    """
    if music is not None or beats is not None:
        one = read_music(music, beats) if music is not None else read_music(beats or Path())
        return dict.fromkeys(names, one), []
    read: dict[Path, Music] = {}
    notes: list[str] = []
    for path in sorted(set(named.values())):
        try:
            read[path] = read_music(path)
        except (ChoreoError, FormatError, OSError) as error:
            notes.append(f"music {path.name} is left out: {error}")
    return {n: read[named[n]] for n in names if n in named and named[n] in read}, notes


def _of_archive(source: Any) -> tuple[F64 | None, F64]:
    from choreo_cli.audio.inputs import archive_inputs
    from formats.foreign.features_npz import read_features

    archive = read_features(source)
    t_us = np.arange(0, archive.duration_us + 1, round(STEP_S * 1e6), dtype=np.int64)
    energy, _, _, _ = archive_inputs(archive, t_us)
    return archive.beats_s, energy.astype(np.float64)


def _of_sound(path: Path) -> tuple[F64, F64]:
    from choreo_cli.audio.beats import track_beats
    from choreo_cli.audio.decode import decode
    from choreo_cli.audio.features import DEFAULT, extract
    from choreo_cli.audio.inputs import audio_inputs

    features = extract(decode(path, rate=DEFAULT.rate).samples, DEFAULT)
    t_us = np.arange(0, features.duration_us + 1, round(STEP_S * 1e6), dtype=np.int64)
    energy, _, _ = audio_inputs(features, t_us)
    return track_beats(features).beats_s, energy.astype(np.float64)
