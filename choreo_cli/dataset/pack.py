"""The pack: one movable folder of memory-mapped arrays and window indices to train from.

Everything is checked when it is opened, because an index out of range would read other memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import ArrayLike, DTypeLike, NDArray

from choreo_cli.dataset.leaks import leak_check
from choreo_cli.dataset.splits import SPLITS, Assignment, Item
from choreo_cli.dataset.windows import AudioGrid, Stretch, Windows, runs
from choreo_cli.errors import DataError
from formats.errors import FormatError

SCHEMA = "choreo.pack/1"
PACK_FILE = "pack.json"
# name -> dtype on disk, little endian everywhere
ARRAYS: dict[str, str] = {"x.npy": "<f4", "mask.npy": "|b1", "t_us.npy": "<i8", "audio.npy": "<f4"}
INDEX = "idx.parquet"

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PackPair:
    """One pair in a pack.

    Args:
        item: What it is and must not be torn from.
        row_start: First row in the frame table.
        rows: Rows.
        audio_id: Its music in the pack's audio features, None without them.
        synthetic: Made, not recorded.
    """

    item: Item
    row_start: int
    rows: int
    audio_id: str | None = None
    synthetic: bool = False


class Pack:
    """An opened pack; made by `open_pack`.

    Attributes:
        folder: Where it lies.
        doc: `pack.json`.
        x: (N, C) float32 memory map, NaN = missing.
        mask: (N, M) bool memory map, one column per modality.
        t_us: (N,) int64 memory map, time on the music clock.
        index: The windows.
        splits: (W,) split of each window, index into `SPLITS`, -1 for none.
        runs: (W, 2) unbroken rows around each window, half open.
        audio: (K, D) float32 memory map of all audio features, None without them.
        indexed: Whether the windows were read.
    """

    def __init__(self, folder: Path, doc: dict[str, Any], *, indexed: bool = True) -> None:
        self.folder, self.doc, self.indexed = folder, doc, indexed
        self.columns: tuple[str, ...] = tuple(doc["columns"])
        self.masks: tuple[str, ...] = tuple(doc["masks"])
        self.length = int(doc["window"]["len"])
        self.step_us = int(doc["window"]["step_us"])
        if self.length < 1 or self.step_us < 1:
            raise FormatError("windows of no length", file=folder / PACK_FILE, field="window")
        self.pairs = [_pair(p) for p in doc["pairs"]]
        self.by_pair = {p["pair_id"]: Assignment(p["group_id"], p["u"], p["split"]) for p in doc["pairs"]}
        n = int(doc["rows"])
        self.x = _open_array(folder, doc, "x.npy", (n, len(self.columns)))
        self.mask = _open_array(folder, doc, "mask.npy", (n, len(self.masks)))
        self.t_us = _open_array(folder, doc, "t_us.npy", (n,))
        self.audio: F32 | None = None
        self.audio_base = np.full(len(self.pairs), -1, np.int64)  # first row of each pair's music in `audio`
        grids: dict[str, AudioGrid] = {}
        if doc["audio"] is not None:
            self.audio = _open_array(
                folder, doc, "audio.npy", (int(doc["audio"]["rows"]), len(doc["audio"]["columns"]))
            )
            grids = self._place_audio()
        self.stretches = [Stretch(p.item.pair_id, p.row_start, p.rows, grids.get(p.audio_id or "")) for p in self.pairs]
        self.index, self.splits, self.runs = _read_index(self) if indexed else _no_index()
        self._x, self._mask, self._t = (_sliding(a, self.length) for a in (self.x, self.mask, self.t_us))

    def _place_audio(self) -> dict[str, AudioGrid]:
        assert self.audio is not None
        grids, base = {}, {}
        for track in self.doc["audio"]["tracks"]:
            grid = AudioGrid(int(track["sr"]), int(track["hop"]), int(track["n_frames"]))
            first = int(track["row_start"])
            if min(grid.sr, grid.hop) < 1 or first < 0 or grid.n_frames < 0 or first + grid.n_frames > len(self.audio):
                raise FormatError(
                    "audio frames outside the array", file=self.folder / PACK_FILE, field=track["audio_id"]
                )
            grids[track["audio_id"]], base[track["audio_id"]] = grid, first
        for k, p in enumerate(self.pairs):
            if p.audio_id is not None:
                if p.audio_id not in base:
                    raise FormatError("no such audio in the pack", file=self.folder / PACK_FILE, field=p.audio_id)
                self.audio_base[k] = base[p.audio_id]
        return grids

    def __reduce__(self) -> tuple[Any, ...]:
        # A memory map would be pickled as a copy of the data; a worker opens its own.
        return partial(open_pack, index=self.indexed), (self.folder,)

    def __len__(self) -> int:
        return len(self.index)

    def select(self, split: str | Sequence[str]) -> I64:
        """Indices of the windows of one or more splits, ascending."""
        wanted = [SPLITS.index(s) for s in ([split] if isinstance(split, str) else split)]
        return np.flatnonzero(np.isin(self.splits, wanted))

    def windows(self, indices: ArrayLike) -> F32:
        """Copy windows out of the map.

        Args:
            indices: (B,) window numbers.

        Returns:
            (B, L, C) float32, NaN = missing.

        Raises:
            IndexError: No such window.
        """
        return self.gather(self.starts(indices))

    def starts(self, indices: ArrayLike) -> I64:
        """First row of each window. Raises IndexError for a window that is not there."""
        i = np.asarray(indices, np.int64)
        if i.size and (int(i.min()) < 0 or int(i.max()) >= len(self)):
            raise IndexError(f"window {int(i.min())}..{int(i.max())} of {len(self)}")
        return self.index.row_start[i]

    def gather(self, starts: ArrayLike) -> F32:
        """Copy `length` rows from each start: (B, L, C). Raises IndexError for rows outside the table."""
        return self._x[self._checked(starts)]

    def gather_masks(self, starts: ArrayLike) -> NDArray[np.bool_]:
        """Masks of the same rows: (B, L, M)."""
        return self._mask[self._checked(starts)]

    def gather_times(self, starts: ArrayLike) -> I64:
        """Times of the same rows: (B, L) int64."""
        return self._t[self._checked(starts)]

    def _checked(self, starts: ArrayLike) -> I64:
        s = np.asarray(starts, np.int64)
        if s.size and (int(s.min()) < 0 or int(s.max()) > len(self.x) - self.length):
            raise IndexError(f"rows {int(s.min())}..{int(s.max()) + self.length} of {len(self.x)}")
        return s

    def leaks(self) -> list[str]:
        """What reaches from one split into another, recomputed from the data."""
        items = [p.item for p in self.pairs]
        stats = self.doc["normaliser"]["columns"]
        return leak_check(items, self.stretches, self.by_pair, self.index, self.x, self.columns, stats)


def find_pack(folder: str | Path) -> Path:
    """The pack in a folder: itself, or the only `pack/*/` below it.

    Raises:
        FormatError: none, or more than one.
    """
    top = Path(folder)
    if (top / PACK_FILE).is_file():
        return top
    found = sorted(p.parent for p in (*top.glob(f"pack/*/{PACK_FILE}"), *top.glob(f"*/{PACK_FILE}")))
    if len(found) != 1:
        hint = "name one of them" if found else "make one with: choreo pair"
        raise FormatError(f"{len(found) or 'no'} packs here, need one", file=top, hint=hint)
    return found[0]


def open_pack(folder: str | Path, *, verify: bool = False, index: bool = True) -> Pack:
    """Open a pack for reading.

    Sizes, headers, seals and every index are checked always, content hashes and leaks when asked.

    Args:
        folder: The pack, or the output folder that holds it.
        verify: Read every file and compare its sha256, and run the leak check.
        index: Read the windows; without them a pack of any length opens in the memory of its document.

    Raises:
        FormatError: missing, damaged, of another version, or with an index out of range.
    """
    from formats import sealed
    from formats.foreign.source import Source

    path = find_pack(folder)
    file = path / PACK_FILE
    try:
        doc = sealed.parse(Source.of(file).read_bytes(), file=file)
        if doc.get("schema") != SCHEMA:
            raise FormatError(f"the file holds {doc.get('schema')}, need {SCHEMA}", file=file)
        if verify:
            _verify_files(path, doc)
        pack = Pack(path, doc, indexed=index or verify)
        new = sorted(set(pack.leaks()) - set(doc["split"]["leaks"])) if verify else []
    except DataError as e:
        raise FormatError(str(e), file=file) from None
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as e:
        raise FormatError(f"not a usable pack: {type(e).__name__} {e}"[:200], file=file) from None
    if new:
        raise FormatError(f"a leak that is not declared: {new[0]}", file=file)
    return pack


def _verify_files(folder: Path, doc: dict[str, Any]) -> None:
    import hashlib

    from formats.foreign.source import open_regular

    for name, facts in doc["files"].items():
        if name not in (*ARRAYS, INDEX):
            raise FormatError("not a file of a pack", file=folder / PACK_FILE, field=name)
        try:
            with open_regular(folder / name) as f:
                sha = hashlib.sha256()
                while block := f.read(1 << 20):
                    sha.update(block)
        except FileNotFoundError:
            raise FormatError("missing from the pack", file=folder / name) from None
        if sha.hexdigest() != facts["sha256"]:
            raise FormatError("does not match its sha256: the file is damaged or was edited", file=folder / name)


def _pair(p: dict[str, Any]) -> PackPair:
    item = Item(p["pair_id"], p["session_id"], p["track_group"], p["performer"])
    return PackPair(item, int(p["row_start"]), int(p["rows"]), p["audio_id"], bool(p["synthetic"]))


def _open_array(folder: Path, doc: dict[str, Any], name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """Map an array whose header, size and declared size must agree."""
    from formats.foreign.source import open_regular

    path, dtype = folder / name, np.dtype(ARRAYS[name])
    try:
        with open_regular(path) as f:
            size = f.seek(0, 2)
            f.seek(0)
            version = np.lib.format.read_magic(f)
            if version != (1, 0):
                raise FormatError(f"npy version {version}, need (1, 0)", file=path)
            found, fortran, kind = np.lib.format.read_array_header_1_0(f, max_header_size=4096)
            want = f.tell() + int(np.prod(shape, dtype=object)) * dtype.itemsize
            if found != shape or fortran or kind != dtype:
                raise FormatError(f"holds {kind} {found}, need {dtype} {shape}", file=path)
            if size != want or size != doc["files"][name]["bytes"]:
                raise FormatError(f"{size} bytes, need {want}: the file is cut", file=path)
            if 0 in shape:
                return np.empty(shape, dtype)
            return np.memmap(f, dtype, mode="r", offset=f.tell(), shape=shape)
    except FileNotFoundError:
        raise FormatError("missing from the pack", file=path) from None
    except (ValueError, SyntaxError, EOFError) as e:
        raise FormatError(f"not an npy file: {e}"[:200], file=path) from None


def _sliding(a: NDArray[Any], length: int) -> NDArray[Any]:
    """Every run of `length` rows as a view (N - L + 1, L, ...); the caller checks its indices."""
    base = np.asarray(a)
    n = max(0, len(base) - length + 1)
    shape, strides = (n, length, *base.shape[1:]), (base.strides[0], *base.strides)
    return as_strided(base, shape, strides, writeable=False) if n else np.empty(shape, base.dtype)


def _no_index() -> tuple[Windows, NDArray[np.int8], I64]:
    i32, i64 = np.empty(0, np.int32), np.empty(0, np.int64)
    none = Windows(i32, i64, i32, i32, i64, i32, np.empty(0, np.float32))
    return none, np.empty(0, np.int8), np.empty((0, 2), np.int64)


def _read_index(pack: Pack) -> tuple[Windows, NDArray[np.int8], I64]:
    """Read the windows and prove that each lies inside one unbroken run of its pair and inside its music."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from formats.columns import WINDOWS
    from formats.tables import read_table, validate

    path = pack.folder / INDEX
    try:
        table = read_table(path, WINDOWS)
    except FileNotFoundError:
        raise FormatError("missing from the pack", file=path) from None
    validate(WINDOWS, table, path)
    codes = pc.index_in(table.column("pair_id"), value_set=pa.array([p.item.pair_id for p in pack.pairs], pa.string()))
    if codes.null_count:
        raise FormatError("a window of a pair that is not in the pack", file=path, field="pair_id")

    def column(name: str, dtype: DTypeLike) -> NDArray[Any]:
        return np.ascontiguousarray(table.column(name).to_numpy(), dtype)

    w = Windows(
        np.asarray(codes.to_numpy(), np.int32), column("row_start", np.int64), column("len", np.int32),
        column("stride", np.int32), column("audio_start", np.int64), column("audio_len", np.int32),
        column("valid_fraction", np.float32),
    )  # fmt: skip
    if len(w) != int(pack.doc["windows"]):
        raise FormatError(f"{len(w)} windows, need {pack.doc['windows']}", file=path)
    lo, hi, owner = runs(pack.t_us, pack.stretches, pack.step_us)
    run = np.searchsorted(lo, w.row_start, side="right") - 1
    inside = run >= 0
    if len(lo):
        inside &= (owner[run] == w.pair) & (w.row_start <= hi[run] - w.len)
    _refuse(path, "row_start", inside & (w.len == pack.length), "a window leaves the rows of its pair")
    frames = np.array([s.audio.n_frames if s.audio else 0 for s in pack.stretches], np.int64)
    heard = np.where(w.audio_start < 0, w.audio_len == 0, w.audio_start <= frames[w.pair] - w.audio_len)
    _refuse(path, "audio_start", heard, "a window leaves the audio of its pair")
    names = np.array([*SPLITS, "none"])
    stated = np.asarray(pc.index_in(table.column("split"), value_set=pa.array(names)).to_numpy(), np.int8)
    right = np.array([list(names).index(pack.by_pair[s.pair_id].split) for s in pack.stretches], np.int8)
    _refuse(path, "split", stated == right[w.pair], "a window is not in the split of its pair")
    split = np.where(stated == len(SPLITS), -1, stated).astype(np.int8)
    return w, split, np.stack([lo[run], hi[run]], axis=1) if len(w) else np.empty((0, 2), np.int64)


def _refuse(path: Path, field: str, good: NDArray[np.bool_], message: str) -> None:
    bad = np.flatnonzero(~good)
    if len(bad):
        raise FormatError(message, file=path, row=int(bad[0]), field=field)
