"""Motion with music as training windows: choreo25 at one rate and stature, features on the same frames, splits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.audio.dance_features import HIGH_FPS, LOW_FPS
from choreo_cli.dataset import motions_read as reading
from choreo_cli.dataset.motions_split import ClipSplit, split_clips
from choreo_cli.dataset.motions_stats import Stats, measure
from choreo_cli.dataset.motions_store import Store, build, read
from choreo_cli.dataset.splits import SPLITS, Item
from choreo_cli.errors import DataError, NoInputError, UsageError
from formats.errors import FormatError
from formats.manifest import Manifest

__all__ = ["MotionSet", "Stats", "mirrored_words"]

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

VERSION = "motions-1"
KIND = "choreo.motions"
CACHE = ".choreo-motions"
_DRAW_MIRROR = 0x6D6972
_SIDES = {"left": "right", "right": "left", "clockwise": "counterclockwise", "counterclockwise": "clockwise"}


@dataclass(frozen=True, slots=True)
class MotionSet:
    """Windows of motion and music; made by `MotionSet.open`.

    Window numbers run over all clips in order; a window never crosses a clip. Channels are raw (`stats.normalise`
    brings them to the network, swivels being angles there). Positions are those of a body of 1.70 m.

    Args:
        store: Clips in mapped shards.
        split: Split of every clip.
        stats: Of the training clips; `audio_mean` is empty without audio.
        fps, frames, stride: Of the windows.
        index: (W, 2) clip and first frame of each window.
        mirrors: Training windows are mirrored every second time.
        seed: Of the mirror draws.
        sha256: Digest of everything that decides the data.
        inputs: Provenance, `{role, sha256, schema}` each.
        folder: Root of the named input.
        path: The input, relative to `folder`.
        notes: What was left out, resampled or taken for granted.
    """

    store: Store
    split: ClipSplit
    stats: Stats
    fps: float
    frames: int
    stride: int
    index: I64
    mirrors: bool
    seed: int
    sha256: str
    inputs: tuple[dict[str, Any], ...]
    folder: Path
    path: str
    notes: tuple[str, ...] = field(default=())

    @classmethod
    def open(
        cls,
        source: Manifest | Path,
        roots: Mapping[str, str] | None = None,
        *,
        frames: int = 64,
        stride: int = 16,
        fps: float = 30,
        audio: bool = True,
        mirror: bool = True,
        phase: bool = False,
        keep: str = "component",
        seed: int = 0,
        cache: bool = True,
    ) -> MotionSet:
        """Open clips for training.

        Audio features are computed once and kept beside each sound; clips and features go into shards under
        `.choreo-motions/` of the input's folder, found again by the content of all files. Where that folder cannot be
        written everything stays in memory.

        Args:
            source: A `choreo.motions/1` manifest or its path, a folder of motion files, a pack, or a folder whose
                subfolders are such sets: they are taken as one.
            roots: `--root` overrides.
            frames: Length of a window.
            stride: Frames between windows of one clip.
            fps: Frame rate; clips of another one are resampled through their joints.
            audio: Whether music is needed.
            mirror: Mirror training windows at random.
            phase: Add the beat phase to the features.
            keep: `component`, or `group` or `track` alone (leaks are named).
            seed: Of the mirror draws.
            cache: Use and write the shards on disk.

        Raises:
            UsageError: impossible lengths or rates.
            NoInputError: nothing is there.
            DataError: no usable clip, none long enough, no training clip, or statistics that are not usable.
            formats.errors.FormatError: the named file is damaged.
        """
        want = _checked(frames, stride, fps, audio, phase)
        listed, folder, path, inputs = _listed(source, dict(roots or {}))
        digest = reading.digest_of(listed, want, VERSION)
        store = _store(listed, want, digest, folder if cache else None)
        if not store.clips:
            why = next((n for n in store.notes if n.startswith("left out")), "there is none")
            raise DataError(f"no clip to learn from: {why}", hint="see choreo check")
        split = _split(store, keep)
        index = _windows(store, frames, stride)
        if not len(index):
            longest = int(store.place[:, 2].max())
            raise DataError(
                f"no clip has {frames} frames at {fps:g} fps: the longest has {longest}",
                hint="take shorter windows, or longer clips",
            )
        train = [k for k, s in enumerate(split.of) if s == "train"]
        if not train or not np.isin(index[:, 0], train).any():
            raise DataError("no window to train on: every clip of the training split is too short or left out")
        stats = measure((store.clip(k) for k in train), len(store.audio_names), store.audio_names)
        notes = (*store.notes, *split.notes, *_small(stats))
        return cls(
            store, split, stats, float(fps), frames, stride, index, mirror, seed, digest, tuple(inputs), folder, path,
            notes,
        )  # fmt: skip

    @property
    def audio_width(self) -> int:
        """Features a frame; 0 without audio."""
        return len(self.store.audio_names)

    @property
    def audio_names(self) -> tuple[str, ...]:
        return self.store.audio_names

    @property
    def clips(self) -> tuple[Any, ...]:
        """Facts of each clip: name, group, captions, skeleton... (`motions_store.ClipFacts`)."""
        return self.store.clips

    @property
    def group(self) -> tuple[str, ...]:
        """What each clip was kept together with; intervals are drawn over it."""
        return self.split.component

    @property
    def synthetic(self) -> bool:
        """Whether every clip was made by a program."""
        return all(c.synthetic for c in self.store.clips)

    def windows(self, split: str) -> I64:
        """Window numbers of a split, ascending. Raises UsageError for another name."""
        if split not in SPLITS:
            raise UsageError(f"no split {split!r}", hint=f"choose from {', '.join(SPLITS)}")
        inside = np.array([s == split for s in self.split.of], bool)
        return np.flatnonzero(inside[self.index[:, 0]]).astype(np.int64)

    def batch(self, rows: NDArray[np.integer[Any]], epoch: int) -> dict[str, NDArray[Any]]:
        """Copy windows.

        Args:
            rows: (B,) window numbers.
            epoch: Decides, with the seed and the window alone, which training windows are mirrored.

        Returns:
            x (B, T, 25) float32 raw channels, audio (B, T, A) float32 raw features, clip (B,) int64,
            mirrored (B,) bool.

        Raises:
            IndexError: no such window.
        """
        at_row: I64 = np.asarray(rows).astype(np.int64)
        if at_row.size and (int(at_row.min()) < 0 or int(at_row.max()) >= len(self.index)):
            raise IndexError(f"window {int(at_row.min())}..{int(at_row.max())} of {len(self.index)}")
        clip, start = self.index[at_row, 0], self.index[at_row, 1]
        shard, first = self.store.place[clip, 0], self.store.place[clip, 1] + start
        x = np.empty((len(at_row), self.frames, 25), np.float32)
        audio = np.empty((len(at_row), self.frames, self.audio_width), np.float32)
        steps = np.arange(self.frames)
        for s in np.unique(shard).tolist():
            own = np.flatnonzero(shard == s)
            at = first[own][:, None] + steps
            x[own], audio[own] = self.store.x[s][at], self.store.audio[s][at]
        mirrored = self._mirrored(at_row, clip, epoch)
        if mirrored.any():
            from choreo_cli.motion.choreo25 import mirror_channels

            x[mirrored] = mirror_channels(x[mirrored])
        return {"x": x, "audio": audio, "clip": clip, "mirrored": mirrored}

    def _mirrored(self, rows: I64, clip: I64, epoch: int) -> NDArray[np.bool_]:
        if not self.mirrors:
            return np.zeros(len(rows), bool)
        train = np.array([s == "train" for s in self.split.of], bool)[clip]
        return train & (_coin(rows, (self.seed, epoch, _DRAW_MIRROR)) < 0.5)

    def skeletons(self) -> F32:
        """(C, 58) bodies of the clips at 1.70 m, in the order of `formats.motion_npz.Skeleton`."""
        return np.array([c.skeleton for c in self.store.clips], np.float32)

    def record(self, root: str = "data") -> dict[str, Any]:
        """The `data` record of a `choreo.run/1` entry."""
        names = {s: [c.name for c, of in zip(self.store.clips, self.split.of, strict=True) if of == s] for s in SPLITS}
        rows = {
            s: int(sum(n for n, of in zip(self.store.place[:, 2], self.split.of, strict=True) if of == s))
            for s in SPLITS
        }
        return {
            "schema": self.inputs[0]["schema"], "sha256": self.sha256, "root": root, "path": self.path,
            "sessions": names, "rows": rows, "leaks": list(self.split.leaks), "notes": list(self.notes),
            "synthetic": self.synthetic,
            "windows": {s: len(self.windows(s)) for s in SPLITS}, "fps": self.fps, "frames": self.frames,
            "stride": self.stride, "audio": list(self.audio_names), "height_m": reading.HEIGHT_M,
            "clamped": int(sum(c.clamped for c in self.store.clips)),
        }  # fmt: skip


def mirrored_words(text: str) -> str:
    """A caption of the mirror image: left and right change places."""
    pattern = re.compile(rf"\b({'|'.join(_SIDES)})\b", re.IGNORECASE)

    def other(match: re.Match[str]) -> str:
        word = _SIDES[match[0].lower()]
        return word.capitalize() if match[0][0].isupper() else word

    return pattern.sub(other, text)


def _checked(frames: int, stride: int, fps: float, audio: bool, phase: bool) -> reading.Want:
    if not 2 <= frames <= 4096 or stride < 1:
        raise UsageError(f"windows of {frames} frames every {stride}", hint="2 to 4096 frames, a stride of 1 or more")
    if not (np.isfinite(fps) and LOW_FPS <= fps <= HIGH_FPS):
        raise UsageError(f"{fps:g} frames per second", hint=f"{LOW_FPS:g} to {HIGH_FPS:g}, 30 is usual")
    return reading.Want(float(fps), audio, phase)


def _listed(
    source: Manifest | Path, roots: dict[str, str]
) -> tuple[list[reading.Listed], Path, str, list[dict[str, Any]]]:
    """What is named: its clips, its folder, its name there, and its provenance."""
    from formats.manifest import decode

    if isinstance(source, Path):
        if not source.exists():
            raise NoInputError(f"no file or folder {source}", hint=f"need {KIND}/1, a folder of motions, or a pack")
        file = source / "motions.json" if source.is_dir() else source
        if not file.is_file() or file.name == "pack.json":
            return _plain_folder(source, roots)
        source = decode(file.read_bytes(), source=str(file), file=file)
    if source.kind != KIND:
        raise FormatError(f"the file holds {source.schema}, need {KIND}/1", file=source.file)
    found, folder = reading.of_manifest(source, roots)
    name = source.file.name if source.file else "-"
    return found, folder, name, [{"role": "motions", "sha256": source.sha256, "schema": source.schema}]


def _plain_folder(source: Path, roots: dict[str, str]) -> tuple[list[reading.Listed], Path, str, list[dict[str, Any]]]:
    from choreo_cli.dataset.motions_pack import is_pack, of_pack
    from choreo_cli.dataset.motions_sets import of_sets, sets_under

    if is_pack(source):
        found, folder, sha = of_pack(source, roots)
        return found, folder, "pack.json", [{"role": "pack", "sha256": sha, "schema": "choreo.pack/1"}]
    if sets := sets_under(source):
        found, inputs = of_sets(sets, roots)
        return found, source, ".", inputs
    found = reading.of_folder(source)
    sha = reading.digest_of(found, reading.Want(30.0, False), VERSION)
    return found, source, ".", [{"role": "motions", "sha256": sha, "schema": "motion files"}]


def _store(listed: list[reading.Listed], want: reading.Want, digest: str, folder: Path | None) -> Store:
    from choreo_cli.audio.dance_features import names

    place = None if folder is None else folder / CACHE / digest[:16]
    if place is not None:
        try:
            return read(place)
        except (OSError, FormatError):
            pass  # nothing there, or damaged: it is built again
    notes: list[str] = []
    taken = list(reading.take(listed, want, notes))
    width = taken[0][2].shape[1] if taken else 0
    columns = names(phase=want.phase)
    if width != len(columns):
        columns = tuple(f"column_{k}" for k in range(width))
    return build(taken, notes, columns, place)


def _split(store: Store, keep: str) -> ClipSplit:
    items = [
        Item(f"{k:06d} {c.name}", c.group, c.track, c.performer) for k, c in enumerate(store.clips)
    ]  # fmt: skip
    return split_clips(items, [c.named_split for c in store.clips], keep)


def _windows(store: Store, frames: int, stride: int) -> I64:
    found = [
        np.stack([np.full(len(starts), k), starts], axis=1)
        for k, rows in enumerate(store.place[:, 2].tolist())
        if len(starts := np.arange(0, rows - frames + 1, stride))
    ]
    return np.concatenate(found).astype(np.int64) if found else np.empty((0, 2), np.int64)


def _small(stats: Stats) -> list[str]:
    if not stats.floored:
        return []
    return [f"hardly moving in the training clips, their spread is held at the floor: {', '.join(stats.floored)}"]


def _coin(rows: I64, key: tuple[int, int, int]) -> NDArray[np.float64]:
    """A number in [0, 1) for each row that depends on the key and the row alone (splitmix64, Steele et al. 2014)."""
    mixed = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
    with np.errstate(over="ignore"):
        z = (rows.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) + mixed
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return np.asarray((z >> np.uint64(11)).astype(np.float64) / 2**53)
