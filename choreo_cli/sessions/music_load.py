"""Tracks loaded once: decoded, their features kept in the output folder, beats from charts where there are any."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.audio.inputs import archive_inputs
from choreo_cli.dataset.pack_write import AudioTrack
from choreo_cli.dataset.windows import AudioGrid
from choreo_cli.sessions import feature_export, load
from choreo_cli.sessions.music import Music
from choreo_cli.sessions.recordings import Library, Track, normal_title
from formats.errors import FormatError
from formats.foreign.features_npz import FeatureArchive, read_features
from formats.foreign.model import Beats
from formats.foreign.source import Source, open_regular

if TYPE_CHECKING:
    from choreo_cli.sessions.target import Target

Entry = dict[str, Any]
F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
PACKED = ("onset", "rms", "centroid")  # beside the mel bands, what a window of music holds


class MusicCache:
    """Loads each track once; its features are written under `features/` and found again by the next run.

    Args:
        out: The output folder.
        library: Tracks and loose beat annotations.
        bpm: Tempo of all music when the user knows it.
    """

    def __init__(self, out: Target, library: Library, bpm: float | None = None) -> None:
        self.out, self.bpm = out, bpm
        self._tracks: dict[str, Music] = {}
        self._archives: dict[str, FeatureArchive] = {}
        self._samples: dict[tuple[str, int], F32] = {}
        self._charts: dict[tuple[str, str], list[Entry]] = {}
        for chart in library.beats + [b for s in library.sessions for b in s.beats]:
            self._charts.setdefault(_folder(chart), []).append(chart)
        self.annotations: set[str] = set()
        self._notes: list[str] = []

    def get(self, track: Track, roots: dict[str, Path]) -> Music:
        """A track's envelope, beats and inputs. Raises FormatError when it cannot be read."""
        if track.id not in self._tracks:
            self._tracks[track.id] = self._load(track, roots)
        return self._tracks[track.id]

    def samples(self, entry: Entry, roots: dict[str, Path], rate: int) -> F32:
        """Mono sound of an entry at `rate`; the last two are kept."""
        from choreo_cli.audio.decode import decode

        key = (str(entry["id"]), rate)
        if key not in self._samples:
            while len(self._samples) >= 2:
                del self._samples[next(iter(self._samples))]
            _readable(load.locate(entry, roots))
            self._samples[key] = decode(load.locate(entry, roots), rate=rate).samples
        return self._samples[key]

    def sound_of(self, roots: dict[str, Path]) -> Callable[[Any, int], F32 | None]:
        """For previews: the music of a draft as samples, None when only features are there."""

        def sound(draft: Any, rate: int) -> F32 | None:
            entry = draft.track.entry
            return None if entry["kind"] == "features" else self.samples(entry, roots, rate)

        return sound

    def audio_tracks(self) -> dict[str, AudioTrack]:
        """Features of every track that was used, for the pack: mel bands in dB, onset, level, centroid."""
        usable = {i: a for i, a in self._archives.items() if a.mel is not None}
        bands = {a.mel.shape[0] for a in usable.values() if a.mel is not None}
        if len(bands) > 1:
            self._notes.append("features have different numbers of mel bands: the pack holds no audio")
            return {}
        found = {}
        for name, archive in usable.items():
            columns = (*(f"mel_{k:03d}" for k in range(next(iter(bands)))), *PACKED)
            grid = AudioGrid(archive.sr, archive.hop, archive.n_frames)
            found[name] = AudioTrack(name, grid, columns, partial(packed, archive))
        return found

    def notes(self) -> list[str]:
        return self._notes

    def _load(self, track: Track, roots: dict[str, Path]) -> Music:
        path = load.locate(track.entry, roots)
        _readable(path)
        chart = self._chart(track, roots)
        if track.entry["kind"] == "features":
            archive, kept = read_features(Source.of(path)), None
            if archive.mel is None:
                self._notes.append(f"{track.path} holds no mel spectrum: the pack has no audio for it")
        else:
            kept = f"features/{feature_export.relative_path(track.id)}"
            archive = self._own(track, path, kept)
        self._archives[track.id] = archive
        return self._music(track, archive, chart, kept)

    def _own(self, track: Track, path: Path, relative: str) -> FeatureArchive:
        """Our features: those of an earlier run when they are whole, else extracted now."""
        from formats.atomic import sha256_file

        target = self.out.target(relative)
        wanted = feature_export.step(track.entry, self.bpm)
        found = feature_export.ready(target, wanted)
        if found is not None:
            self.out.add("features", relative, sha256_file(target))
            return found
        self.out.write("features", relative, feature_export.make(path, wanted))
        return read_features(Source.of(target))

    def _chart(self, track: Track, roots: dict[str, Path]) -> Beats | None:
        """Annotated beats of a track: a chart that names it, or stands beside it under its name."""
        for entry in self._charts.get(_folder(track.entry), ()):
            if entry["reason"] is None and _belongs(entry, track):
                try:
                    beats = load.read(entry, roots)
                except (FormatError, OSError):
                    continue
                if isinstance(beats, Beats) and len(beats.t_s) >= 2:
                    self.annotations.add(entry["path"])
                    return beats
        return None

    def _music(self, track: Track, archive: FeatureArchive, chart: Beats | None, kept: str | None) -> Music:
        beats = archive.beats_s if archive.beats_s is not None else np.empty(0)
        tempo, source = archive.tempo_bpm, ("tracked" if archive.ours else "features") if len(beats) else "none"
        notes = list(archive.assumptions)
        inside = np.empty(0) if chart is None else chart.t_s[chart.t_s <= archive.duration_us / 1e6]
        if chart is not None and len(inside) < 2:
            notes.append(f"the chart of {PurePosixPath(track.path).name} has no two beats inside it and is not used")
        elif chart is not None:
            beats = inside
            tempo, source = chart.tempo_bpm or float(60 / np.median(np.diff(beats))), "annotated"
            notes.append(f"beats of {PurePosixPath(track.path).name} are those of its chart")
        _, _, _, said = archive_inputs(archive, np.empty(0, np.int64))
        onset_t = None
        if archive.onset is not None:
            onset_t = np.rint(np.arange(archive.onset.size) * (archive.hop * 1e6 / archive.sr)).astype(np.int64)
        return Music(
            archive.duration_us, onset_t, archive.onset, np.asarray(beats, np.float64), tempo, archive.tempo_candidates,
            source, lambda t: archive_inputs(archive, t)[:3], (archive.sr, archive.hop), archive.n_frames, kept,
            (*notes, *said), archive.problems,
        )  # fmt: skip


def _readable(path: Path) -> None:
    """Raise FormatError for a file that went away or may not be read since it was listed: the others go on."""
    try:
        with open_regular(path):
            pass
    except OSError as e:
        raise FormatError(f"cannot be read any more: {e.strerror}", file=path) from None


def packed(archive: FeatureArchive) -> F32:
    """(T, M + 3) float32: mel bands in dB re 1, onset, RMS, centroid in Hz; what the archive lacks is NaN."""
    assert archive.mel is not None
    n = archive.n_frames
    out = np.full((n, archive.mel.shape[0] + len(PACKED)), np.nan, np.float32)
    bands = archive.mel.shape[1]
    out[: min(n, bands), : archive.mel.shape[0]] = 10 * np.log10(np.maximum(archive.mel.T[:n], 1e-10))
    for k, name in enumerate(PACKED):
        values = getattr(archive, name)
        if values is not None:
            out[: min(n, values.size), archive.mel.shape[0] + k] = values[:n]
    return out


def _folder(entry: Entry) -> tuple[str, str]:
    return entry["root"], str(PurePosixPath(entry["path"]).parent)


def _belongs(chart: Entry, track: Track) -> bool:
    """A chart of the music's folder names it by file, or shares its stem."""
    own, music = PurePosixPath(chart["path"]), PurePosixPath(track.path)
    named = chart["meta"].get("music")
    if named and (named == music.name or normal_title(PurePosixPath(str(named)).stem) == normal_title(music.stem)):
        return True
    return normal_title(own.stem) == normal_title(music.stem)
