"""Write a pack: arrays to map, windows as indices, train-only statistics, and `pack.json` last."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.dataset.leaks import leak_check, normaliser, train_rows
from choreo_cli.dataset.pack import ARRAYS, INDEX, PACK_FILE, SCHEMA, PackPair
from choreo_cli.dataset.splits import SPLITS, SplitResult
from choreo_cli.dataset.windows import LENGTH, MIN_VALID, STEP_US, STRIDE, AudioGrid, Stretch, Windows, cut
from choreo_cli.errors import DataError
from formats.columns import INPUTS, MASKS, WINDOWS

F32 = NDArray[np.float32]
INPUT_NAMES = tuple(c.name for c in INPUTS)


@dataclass(frozen=True, slots=True)
class AudioTrack:
    """Features of one piece of music.

    Args:
        audio_id: Its recording.
        grid: Times of its frames.
        columns: Names of the D values; the same for every track of a pack.
        load: Returns (n_frames, D) float32; called twice, so that only one track is in memory at a time.
    """

    audio_id: str
    grid: AudioGrid
    columns: tuple[str, ...]
    load: Callable[[], F32]


@dataclass(frozen=True, slots=True)
class Written:
    """What `write_pack` made: its folder, hash, and path (relative to the parent folder) -> sha256 of each file."""

    folder: Path
    dataset_hash: str
    files: dict[str, str]
    windows: int
    window_counts: dict[str, int]
    leaks: list[str] = field(default_factory=list)


def write_pack(
    parent: Path,
    frames: Mapping[str, Any],
    pairs: Sequence[PackPair],
    split: SplitResult,
    *,
    created_by: Mapping[str, Any],
    tracks: Sequence[AudioTrack] = (),
    columns: Sequence[str] = INPUT_NAMES,
    masks: Sequence[str] = MASKS,
    length: int = LENGTH,
    stride: int = STRIDE,
    min_valid: float = MIN_VALID,
    step_us: int = STEP_US,
    params: Mapping[str, Any] | None = None,
) -> Written:
    """Write `parent/<dataset_hash>/`; equal data gives the equal folder, and equal files are not touched.

    Args:
        parent: The folder of packs, made when missing.
        frames: Arrays by column name: `t_us`, the value columns (NaN = missing) and the masks, N rows sorted by
            (session_id, t_us).
        pairs: Rows of each pair.
        split: Their splits, from `splits.assign`.
        created_by: Provenance; it is not part of the hash.
        tracks: Audio features to put beside the rows; pairs name them by `audio_id`.
        columns: Value columns to pack, in order.
        masks: Mask columns to pack, in order.
        length, stride, min_valid, step_us: See `windows.cut`.
        params: More parameters to keep, part of the hash.

    Raises:
        DataError: A leak that the split does not declare, or rows and audio that do not fit.
    """
    grids = {t.audio_id: t.grid for t in tracks}
    pairs = sorted(pairs, key=lambda p: (p.row_start, p.item.pair_id))
    stretches = [Stretch(p.item.pair_id, p.row_start, p.rows, _grid(p, grids)) for p in pairs]
    x = _matrix(frames, columns, np.float32)
    x[np.isnan(x)] = np.nan  # one NaN: its payload bits are not data
    for k in np.flatnonzero(np.isinf(x).any(axis=0)).tolist():
        raise DataError(f"{columns[k]} holds an infinite value", hint="a missing value is null")
    mask, t_us = _matrix(frames, masks, np.bool_), np.ascontiguousarray(frames["t_us"], "<i8")
    measured = mask[:, list(masks).index("m_mot")] if "m_mot" in masks else mask.any(axis=1)
    windows = cut(t_us, measured, stretches, length=length, stride=stride, min_valid=min_valid, step_us=step_us)
    stats = normaliser(x, train_rows(len(x), stretches, split.by_pair), columns)
    leaks = leak_check([p.item for p in pairs], stretches, split.by_pair, windows, x, columns, stats)
    if undeclared := sorted(set(leaks) - set(split.leaks)):
        raise DataError(f"the splits leak: {undeclared[0]}", hint="split by component")
    audio = _Audio(sorted(tracks, key=lambda t: t.audio_id))
    doc: dict[str, Any] = {
        "schema": SCHEMA,
        "columns": list(columns),
        "masks": list(masks),
        "rows": len(x),
        "windows": len(windows),
        "window": {"len": length, "stride": stride, "min_valid": min_valid, "step_us": step_us},
        "window_counts": _count(windows, stretches, split),
        "params": dict(params or {}),
        "normaliser": {"split": "train", "columns": stats},
        "split": split.to_dict(),
        "pairs": [_pair_record(p, split) for p in pairs],
        "audio": audio.record(),
        "synthetic": bool(pairs) and all(p.synthetic for p in pairs),
    }
    arrays: dict[str, _Array] = {
        "x.npy": _Array(x.shape, lambda: [x]),
        "mask.npy": _Array(mask.shape, lambda: [mask]),
        "t_us.npy": _Array(t_us.shape, lambda: [t_us]),
    }
    if tracks:
        arrays["audio.npy"] = _Array((audio.rows, len(audio.columns)), audio.blocks)
    return _store(parent, doc, arrays, windows, [split.by_pair[s.pair_id].split for s in stretches], created_by)


def _grid(pair: PackPair, grids: Mapping[str, AudioGrid]) -> AudioGrid | None:
    if pair.audio_id is None:
        return None
    if pair.audio_id not in grids:
        raise DataError(f"pair {pair.item.pair_id} names audio {pair.audio_id}, which was not given")
    return grids[pair.audio_id]


def _matrix(frames: Mapping[str, Any], names: Sequence[str], dtype: type) -> NDArray[Any]:
    out: NDArray[Any] = np.empty((len(frames["t_us"]), len(names)), dtype)
    for k, name in enumerate(names):
        out[:, k] = frames[name]
    return out


def _count(windows: Windows, stretches: Sequence[Stretch], split: SplitResult) -> dict[str, int]:
    per_pair = np.bincount(windows.pair, minlength=len(stretches))
    found = dict.fromkeys(SPLITS, 0)
    for s, n in zip(stretches, per_pair.tolist(), strict=True):
        name = split.by_pair[s.pair_id].split
        found[name] = found.get(name, 0) + n
    return found


def _pair_record(p: PackPair, split: SplitResult) -> dict[str, Any]:
    a = split.by_pair[p.item.pair_id]
    return {
        "pair_id": p.item.pair_id, "session_id": p.item.session_id, "track_group": p.item.track_group,
        "performer": p.item.performer, "group_id": a.group_id, "u": a.u, "split": a.split,
        "row_start": p.row_start, "rows": p.rows, "audio_id": p.audio_id, "synthetic": p.synthetic,
    }  # fmt: skip


class _Audio:
    """All tracks as one array, loaded one at a time."""

    def __init__(self, tracks: Sequence[AudioTrack]) -> None:
        self.tracks = tracks
        self.columns = tracks[0].columns if tracks else ()
        for t in tracks:
            if t.columns != self.columns:
                raise DataError(f"audio {t.audio_id} has other features than {tracks[0].audio_id}")
        self.rows = sum(t.grid.n_frames for t in tracks)

    def record(self) -> dict[str, Any] | None:
        if not self.tracks:
            return None
        base = np.cumsum([0, *(t.grid.n_frames for t in self.tracks)]).tolist()
        found = [
            {"audio_id": t.audio_id, "row_start": b, "n_frames": t.grid.n_frames, "sr": t.grid.sr, "hop": t.grid.hop}
            for t, b in zip(self.tracks, base, strict=False)
        ]
        return {"columns": list(self.columns), "rows": self.rows, "tracks": found}

    def blocks(self) -> Iterator[F32]:
        for t in self.tracks:
            values = np.array(t.load(), np.float32)
            if values.shape != (t.grid.n_frames, len(self.columns)):
                raise DataError(f"audio {t.audio_id} has shape {values.shape}, said {t.grid.n_frames} frames")
            values[np.isnan(values)] = np.nan
            yield values


@dataclass(frozen=True, slots=True)
class _Array:
    """An array as blocks of rows, which can be gone through more than once."""

    shape: tuple[int, ...]
    blocks: Callable[[], Iterable[NDArray[Any]]]

    def bytes_of(self, dtype: str) -> Iterator[memoryview]:
        for block in self.blocks():
            if block.size:
                yield np.ascontiguousarray(block, np.dtype(dtype)).data.cast("B")


def _store(
    parent: Path, doc: dict[str, Any], arrays: dict[str, _Array], windows: Windows, splits: list[str],
    created_by: Mapping[str, Any],
) -> Written:  # fmt: skip
    """Write the arrays, the index and, last, the document that vouches for them."""
    from formats import sealed
    from formats.atomic import write_bytes
    from formats.tables import write_table

    name = _content_hash(doc, arrays, windows)
    folder = parent / name
    folder.mkdir(parents=True, exist_ok=True)
    files = {n: _write_array(folder / n, a, ARRAYS[n]) for n, a in arrays.items()}
    ids = [p["pair_id"] for p in doc["pairs"]]
    text = {"choreo.dataset": name, "choreo": json.dumps(dict(created_by), sort_keys=True)}
    sha = write_table(folder / INDEX, WINDOWS, windows.columns(ids, splits), text)
    files[INDEX] = {"sha256": sha, "bytes": (folder / INDEX).stat().st_size}
    head = {"schema": doc.pop("schema"), "dataset_hash": name, "created_by": dict(created_by)}
    data = sealed.dumps({**head, **doc, "files": dict(sorted(files.items()))})
    hashes = {f"{name}/{n}": str(facts["sha256"]) for n, facts in files.items()}
    hashes[f"{name}/{PACK_FILE}"] = write_bytes(folder / PACK_FILE, data)
    return Written(folder, name, hashes, len(windows), doc["window_counts"], doc["split"]["leaks"])


def _content_hash(doc: Mapping[str, Any], arrays: Mapping[str, _Array], windows: Windows) -> str:
    """sha256 over what the pack says, not who made it: parameters, then name, dtype, shape and bytes of every array."""
    sha = hashlib.sha256(json.dumps(doc, sort_keys=True, allow_nan=False).encode())
    for name, array in arrays.items():
        sha.update(f"\n{name} {ARRAYS[name]} {array.shape}\n".encode())
        for block in array.bytes_of(ARRAYS[name]):
            sha.update(block)
    for name in Windows.__slots__:
        column = getattr(windows, name)
        little = column.astype(column.dtype.newbyteorder("<"))
        sha.update(f"\n{INDEX} {name} {little.dtype.str} {little.shape}\n".encode() + little.tobytes())
    return sha.hexdigest()


def _write_array(path: Path, array: _Array, dtype: str) -> dict[str, Any]:
    from formats.atomic import writer

    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": dtype, "fortran_order": False, "shape": array.shape})
    # Hashed on the way: what was meant, not what the disk gives back.
    sha = hashlib.sha256(head.getvalue())
    with writer(path) as f:
        f.write(head.getvalue())
        for block in array.bytes_of(dtype):
            sha.update(block)
            f.write(block)
        size = f.tell()
    return {"sha256": sha.hexdigest(), "bytes": size}
