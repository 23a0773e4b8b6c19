"""What every arm of an evaluation is given alike: held-out windows, their music, and music of another song."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.dataset.motions import MotionSet
from choreo_cli.dataset.motions_read import of_manifest
from choreo_cli.errors import ChoreoError, DataError
from choreo_cli.metrics.generation_clip import shifted
from choreo_cli.metrics.motion_music import STEP_S, Music, read_music
from choreo_cli.metrics.motion_musicality import MIN_ENERGY_S
from formats.errors import FormatError
from formats.manifest import Manifest
from formats.motion_npz import Skeleton

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

STRIDE = 16
ONSET, BEAT = "onset", "beat"
_DRAW_DECOY = 0x736F6E67


@dataclass(frozen=True, slots=True)
class Conditions:
    """Held-out windows and what is heard in them.

    Args:
        x: (K, T, 25) raw channels of the real dance.
        audio: (K, T, A) raw features; A = 0 without music.
        bodies: (K, 58) skeletons, `formats.motion_npz.Skeleton`.
        groups: What the split kept each one together with.
        names: Clip and start, for people.
        fps: Frame rate.
        music: Beats and energy on the window's clock, None where nothing is known of the music.
        decoys: The same of a song that is not heard in the window.
    """

    x: F32
    audio: F32
    bodies: F64
    groups: tuple[str, ...]
    names: tuple[str, ...]
    fps: float
    music: tuple[Music | None, ...]
    decoys: tuple[Music | None, ...]

    def __len__(self) -> int:
        return len(self.x)

    def rows(self, index: NDArray[np.integer[Any]] | Sequence[int]) -> Conditions:
        """Some of them, in that order."""
        k = np.asarray(index, np.int64)
        pick = [int(i) for i in k]
        return Conditions(
            self.x[k], self.audio[k], self.bodies[k], tuple(self.groups[i] for i in pick),
            tuple(self.names[i] for i in pick), self.fps, tuple(self.music[i] for i in pick),
            tuple(self.decoys[i] for i in pick),
        )  # fmt: skip

    def skeleton(self, k: int) -> Skeleton:
        return Skeleton.of_vector(self.bodies[k])

    def digest(self) -> str:
        """sha256 over everything that decides what is made of them and how it is judged."""
        sha = hashlib.sha256(f"{self.x.shape} {self.audio.shape} {self.fps:g}".encode())
        for array in (self.x, self.audio, self.bodies):
            sha.update(np.ascontiguousarray(array).tobytes())
        for heard in (*self.music, *self.decoys):
            sha.update(b"-" if heard is None else heard.beats_s.tobytes())
            sha.update(b"-" if heard is None or heard.energy is None else heard.energy.tobytes())
        return sha.hexdigest()


def held_out(data: MotionSet, split: str, most: int, heard: Mapping[str, Music]) -> Conditions:
    """Windows of a split, evenly spread over its clips.

    Args:
        data: Windows; its audio is what models hear.
        split: `val` or `test`.
        most: How many, at most.
        heard: Clip name -> its music on the clip's clock.

    Raises:
        DataError: nothing is held out.
    """
    rows = data.windows(split)
    if not len(rows):
        raise DataError(f"no window in the {split} split", hint="give motions of more dancers, or with a split")
    taken = rows[spread(len(rows), most)]
    batch = data.batch(taken, 0)
    clips, starts = batch["clip"].tolist(), (data.index[taken, 1] / data.fps).tolist()
    groups = tuple(data.group[c] for c in clips)
    names = [data.clips[c].name for c in clips]
    music = [None if n not in heard else shifted(heard[n], s) for n, s in zip(names, starts, strict=True)]
    tracks = [data.clips[c].track or n for c, n in zip(clips, names, strict=True)]
    bodies = data.skeletons()[clips].astype(np.float64)
    told = tuple(f"{n} at {s:.2f} s" for n, s in zip(names, starts, strict=True))
    return Conditions(batch["x"], batch["audio"], bodies, groups, told, data.fps, tuple(music), decoys(music, tracks))


def spread(rows: int, most: int) -> I64:
    """At most so many row numbers, evenly spread."""
    return np.unique(np.linspace(0, rows - 1, min(most, rows)).round().astype(np.int64))


def decoys(music: Sequence[Music | None], tracks: Sequence[str]) -> tuple[Music | None, ...]:
    """For each window the music of a random window of another song; None when there is one song.

    Random windows and not neighbours: of two songs side by side the beats drift apart slowly, and a row of windows
    would hear one accident many times.
    """
    rng = np.random.default_rng([len(music), _DRAW_DECOY])
    known = [k for k, m in enumerate(music) if m is not None]
    found: list[Music | None] = []
    for track in tracks:
        others = [k for k in known if tracks[k] != track]
        found.append(music[others[int(rng.integers(len(others)))]] if others else None)
    return tuple(found)


def music_of(
    data: MotionSet, source: Manifest | Path, roots: Mapping[str, str], split: str
) -> tuple[dict[str, Music], str]:
    """The music of a split's clips, and how its beats are known.

    Beats that a generator wrote down are taken as they are; those of recordings are tracked in the sound; where only
    features are there, the beat column says them to a frame.

    Args:
        data: The windows.
        source: What they were opened from.
        roots: `--root` overrides.
        split: Whose clips.
    """
    names = [c.name for c, s in zip(data.clips, data.split.of, strict=True) if s == split]
    told = _entries(source, roots)
    need_energy = data.frames / data.fps >= MIN_ENERGY_S
    found: dict[str, Music] = {}
    ways: set[str] = set()
    for name in names:
        one, way = _music(data, name, told.get(name), need_energy)
        if one is not None:
            found[name] = one
            ways.add(way)
    return found, " and ".join(sorted(ways)) or "unknown"


def _entries(source: Manifest | Path, roots: Mapping[str, str]) -> dict[str, tuple[Path | None, list[float], str]]:
    """Clip name -> (its sound, beats that are written down, digest of the sound)."""
    from formats.manifest import decode

    if isinstance(source, Path):
        file = source / "motions.json" if source.is_dir() else source
        if not file.is_file() or file.name == "pack.json":
            return {}
        source = decode(file.read_bytes(), source=str(file), file=file)
    if source.kind != "choreo.motions":
        return {}
    listed, _ = of_manifest(source, roots)
    reports = {e["path"]: e["report"] for e in source.entries}
    found = {}
    for item in listed:
        report = reports[item.name]
        beats = report.get("beats_s") if isinstance(report, dict) else None
        usable = isinstance(beats, list) and all(isinstance(b, int | float) for b in beats)
        sha = str(report.get("music_sha256", "")) if isinstance(report, dict) else ""
        found[item.name] = (item.music if item.clock is None else None, list(beats) if usable and beats else [], sha)
    return found


def _music(
    data: MotionSet, name: str, told: tuple[Path | None, list[float], str] | None, need_energy: bool
) -> tuple[Music | None, str]:
    path, beats, sha = told or (None, [], "")
    if beats and not need_energy:
        return Music(Path(name).stem, np.asarray(beats, np.float64), False, None, sha), "annotated"
    if path is not None:
        try:
            one = read_music(path)
        except (ChoreoError, FormatError, OSError):
            one = None
        if one is not None:
            if not beats:
                return one, "tracked"
            return Music(one.name, np.asarray(beats, np.float64), False, one.energy, one.sha256), "annotated"
    return _of_features(data, name), "a column of the features"


def _of_features(data: MotionSet, name: str) -> Music | None:
    names = list(data.audio_names)
    if BEAT not in names or ONSET not in names:
        return None
    clip = next(k for k, c in enumerate(data.clips) if c.name == name)
    audio = np.asarray(data.store.clip(clip)[1], np.float64)
    beats = np.flatnonzero(audio[:, names.index(BEAT)] > 0.5) / data.fps
    if not len(beats):
        return None
    onset = np.maximum(audio[:, names.index(ONSET)], 0.0)
    clock = np.arange(0.0, (len(audio) - 1) / data.fps, STEP_S)
    energy = np.interp(clock, np.arange(len(audio)) / data.fps, onset / max(float(onset.max()), 1e-9))
    return Music(name, beats, True, energy, "")
