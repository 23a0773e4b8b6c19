"""Shards of motion clips: channels and audio features as flat arrays to map, and an index that vouches for them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from formats.errors import FormatError

F32 = NDArray[np.float32]

SCHEMA = "choreo.motion_shards/1"
INDEX = "index.json"
SHARD_ROWS = 1 << 17  # 36 minutes at 60 fps: 13 MB of channels


@dataclass(frozen=True, slots=True)
class ClipFacts:
    """One clip as a training sees it.

    Args:
        name: Path or recording it came from.
        group: Performer or take.
        performer: Who dances, None when unknown.
        track: Digest of the music's content, empty without music.
        named_split: The split its manifest names, or `none`.
        captions: What is danced, in words.
        synthetic: Made by a program.
        licence: Terms of the source, None when unknown.
        skeleton: 58 numbers of the body at 1.70 m stature.
        scale: What lengths were multiplied by to get there.
        clamped: Channel values that were outside their hard range.
    """

    name: str
    group: str
    performer: str | None
    track: str
    named_split: str
    captions: tuple[str, ...]
    synthetic: bool
    licence: str | None
    skeleton: tuple[float, ...]
    scale: float = 1.0
    clamped: int = 0


@dataclass(frozen=True, slots=True)
class Store:
    """Clips in shards.

    Args:
        x: One (N, 25) float32 array (mapped) per shard.
        audio: One (N, A) array per shard; A = 0 without audio.
        clips: Facts of each clip.
        place: (C, 3) shard, first row, rows of each clip.
        notes: What was left out or taken for granted.
        audio_names: Names of the A features.
        folder: Where the shards lie, None in memory.
    """

    x: tuple[F32, ...]
    audio: tuple[F32, ...]
    clips: tuple[ClipFacts, ...]
    place: NDArray[np.int64]
    notes: tuple[str, ...]
    audio_names: tuple[str, ...]
    folder: Path | None = None

    def clip(self, k: int) -> tuple[F32, F32]:
        """Channels (T, 25) and audio (T, A) of one clip."""
        shard, row, rows = (int(v) for v in self.place[k])
        return self.x[shard][row : row + rows], self.audio[shard][row : row + rows]


def build(
    taken: Iterable[tuple[ClipFacts, F32, F32]], notes: list[str], audio_names: tuple[str, ...], folder: Path | None
) -> Store:
    """Write clips into shards, whole or not at all; in memory where `folder` is None or cannot be written.

    Args:
        taken: (facts, channels (T, 25), audio (T, A)), one after the other.
        notes: Filled while `taken` is gone through.
        audio_names: Names of the features.
        folder: Where to.
    """
    clips: list[ClipFacts] = []
    place: list[tuple[int, int, int]] = []
    shards: list[tuple[F32, F32]] = []
    held: list[tuple[F32, F32]] = []
    row = 0

    def flush() -> None:
        nonlocal held, row
        if held:
            shards.append((np.concatenate([h[0] for h in held]), np.concatenate([h[1] for h in held])))
        held, row = [], 0

    for facts, x, audio in taken:
        if row and row + len(x) > SHARD_ROWS:
            flush()
        clips.append(facts)
        place.append((len(shards), row, len(x)))
        held.append((np.asarray(x, np.float32), np.asarray(audio, np.float32)))
        row += len(x)
    flush()
    where = np.array(place, np.int64).reshape(-1, 3)
    store = Store(
        tuple(s[0] for s in shards), tuple(s[1] for s in shards), tuple(clips), where, tuple(notes), audio_names
    )
    if folder is None or not clips:
        return store
    try:
        _write(store, folder)
        return read(folder)
    except OSError:  # a data set on a medium that is read only is no reason to stop
        return store


def _write(store: Store, folder: Path) -> None:
    from formats import sealed
    from formats.atomic import sync_folder, write_bytes

    folder.parent.mkdir(parents=True, exist_ok=True)
    making = folder.with_name(f".{folder.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    making.mkdir()
    try:
        files = {}
        for k, (x, audio) in enumerate(zip(store.x, store.audio, strict=True)):
            for kind, array in (("x", x), ("audio", audio)):
                name = f"{kind}-{k:04d}.npy"
                with open(making / name, "wb") as f:
                    np.lib.format.write_array(f, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
                    f.flush()
                    os.fsync(f.fileno())
                files[name] = {"bytes": (making / name).stat().st_size, "sha256": _sha(array)}
        doc = {
            "schema": SCHEMA, "clips": [asdict(c) for c in store.clips], "place": store.place.tolist(),
            "notes": list(store.notes), "audio_names": list(store.audio_names), "files": files,
        }  # fmt: skip
        write_bytes(making / INDEX, sealed.dumps(doc))
        try:
            os.rename(making, folder)
        except OSError:
            # Another process was first, or what lies there is of no use: the first whole one stays.
            with contextlib.suppress(FormatError, OSError):
                read(folder)
                return
            shutil.rmtree(folder, ignore_errors=True)
            os.rename(making, folder)
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _sha(array: F32) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).data.cast("B") if array.size else b"").hexdigest()


def read(folder: Path) -> Store:
    """Map the shards of a folder.

    Raises:
        FormatError: damaged, cut, of another version, or a clip outside its shard.
        OSError: not there.
    """
    from formats import sealed

    file = folder / INDEX
    doc = sealed.parse(file.read_bytes(), file=file)
    if doc.get("schema") != SCHEMA:
        raise FormatError(f"the file holds {doc.get('schema')}, need {SCHEMA}", file=file)
    try:
        clips = tuple(
            ClipFacts(**{**c, "captions": tuple(c["captions"]), "skeleton": tuple(c["skeleton"])}) for c in doc["clips"]
        )
        place = np.array(doc["place"], np.int64).reshape(-1, 3)
        shards = 1 + int(place[:, 0].max()) if len(place) else 0
        width = len(doc["audio_names"])
        x = tuple(_map(folder, f"x-{k:04d}.npy", doc, 25) for k in range(shards))
        audio = tuple(_map(folder, f"audio-{k:04d}.npy", doc, width) for k in range(shards))
    except (KeyError, TypeError, ValueError) as e:
        raise FormatError(f"not usable shards: {type(e).__name__} {e}"[:200], file=file) from None
    for shard, row, rows in place.tolist():
        if shard < 0 or row < 0 or rows < 1 or row + rows > len(x[shard]) or len(audio[shard]) != len(x[shard]):
            raise FormatError("a clip lies outside its shard", file=file, field="place")
    return Store(x, audio, clips, place, tuple(doc["notes"]), tuple(doc["audio_names"]), folder)


def _map(folder: Path, name: str, doc: dict[str, Any], width: int) -> F32:
    path = folder / name
    if path.stat().st_size != doc["files"][name]["bytes"]:
        raise FormatError("the file is cut", file=path)
    if width == 0:
        return np.asarray(np.load(path, allow_pickle=False))
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.ndim != 2 or array.shape[1] != width or array.dtype != np.float32:
        raise FormatError(f"holds {array.dtype} {array.shape}, need float32 (rows, {width})", file=path)
    return np.asarray(array) if not array.size else array
