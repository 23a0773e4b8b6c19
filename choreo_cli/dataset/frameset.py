"""Frames to train on and to judge by, wherever they lie: a pack, a `pair` output, synthetic sessions, one Parquet.

A `FrameSet` is three arrays (mapped from disk when they come from a pack) and the sessions that own their rows, each in
one split. Missing values are NaN; nothing is standardised here.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.dataset.splits import SPLITS, Item, assign
from choreo_cli.dataset.windows import STEP_US, Stretch, runs
from choreo_cli.errors import NoInputError, UsageError
from formats.columns import FRAMES, INPUTS, MASKS
from formats.errors import FormatError

if TYPE_CHECKING:
    from formats.manifest import Manifest

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
Bool = NDArray[np.bool_]
NAMES: tuple[str, ...] = tuple(c.name for c in INPUTS)
KINDS = ("choreo.pairs", "choreo.sessions")
MODES = ("auto", "keep", "hash", "loso")
LEAST_ROWS = 10
"""A session with fewer rows shows no rate."""


@dataclass(frozen=True, slots=True)
class FrameSession:
    """Rows of one session.

    Args:
        session_id: The `session_id` of the frames (a `pair_id` when they come from `pair`).
        row_start: First row.
        rows: Rows.
        item: What it must not be torn from.
        split: `train`, `val`, `test` or `none`.
        group_id: What it was kept together with.
        synthetic: Made, not recorded.
    """

    session_id: str
    row_start: int
    rows: int
    item: Item
    split: str
    group_id: str
    synthetic: bool

    @property
    def slice(self) -> slice:
        return slice(self.row_start, self.row_start + self.rows)


@dataclass(frozen=True, slots=True)
class FrameSet:
    """Sessions and their rows; made by `read_frames`.

    Args:
        x: (N, 11) float32, the model inputs in the order of `formats.columns.INPUTS`, NaN = missing.
        mask: (N, 4) bool, `m_mot m_hr m_aud m_ctx`.
        t_us: (N,) int64 time on the music clock, strictly increasing inside a session.
        sessions: Who owns which rows, in row order.
        source: Provenance of the data: `{role, sha256, schema}`.
        folder: Root folder that `path` starts from.
        path: The manifest or file that was read, relative to `folder`.
        leaks: What stands in two splits, one sentence each.
        notes: How the split came about, sentences.
        step_us: Step of the frame clock.
    """

    x: F32
    mask: Bool
    t_us: I64
    sessions: tuple[FrameSession, ...]
    source: dict[str, Any]
    folder: Path
    path: str
    leaks: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())
    step_us: int = STEP_US

    @property
    def synthetic(self) -> bool:
        """Whether every session is synthetic."""
        return all(s.synthetic for s in self.sessions)

    def of(self, split: str | Sequence[str]) -> tuple[FrameSession, ...]:
        """Sessions of one or more splits."""
        wanted = (split,) if isinstance(split, str) else tuple(split)
        return tuple(s for s in self.sessions if s.split in wanted)

    def runs(self, split: str | Sequence[str]) -> I64:
        """(R, 2) unbroken rows [start, stop) of a split's sessions: the clock steps by exactly `step_us` inside."""
        chosen = [Stretch(s.session_id, s.row_start, s.rows) for s in self.of(split)]
        start, stop, _ = runs(self.t_us, chosen, self.step_us)
        return np.stack([start, stop], axis=1)

    def record(self, root: str = "data") -> dict[str, Any]:
        """The `data` record of a `choreo.run/1` entry."""
        return {
            "schema": self.source["schema"],
            "sha256": self.source["sha256"],
            "root": root,
            "path": self.path,
            "sessions": {k: [s.session_id for s in self.of(k)] for k in (*SPLITS, "none") if self.of(k)},
            "rows": {k: sum(s.rows for s in self.of(k)) for k in (*SPLITS, "none") if self.of(k)},
            "leaks": list(self.leaks),
            "notes": list(self.notes),
            "synthetic": self.synthetic,
        }


def read_frames(
    source: Path | None = None,
    manifest: Manifest | None = None,
    *,
    roots: Mapping[str, str] | None = None,
    split: str = "auto",
    fold: int | None = None,
) -> FrameSet:
    """Open frames.

    Args:
        source: A folder with `pairs.json` or `sessions.json`, such a manifest, a pack, or a frames Parquet.
        manifest: The manifest itself when it was read already (then `source` may be None).
        roots: `--root` overrides.
        split: `keep` the splits of `pair`; `hash`; `loso`; `auto` keeps splits that train and hold something out, and
            else leaves one group out.
        fold: With `loso`: which group is the test, from 0; the last by default.

    Raises:
        NoInputError: nothing is there.
        FormatError: damaged, of another kind, or without a single row.
        UsageError: an unknown split or fold.
    """
    if split not in MODES:
        raise UsageError(f"no split {split!r}", hint=f"choose from {', '.join(MODES)}")
    found = _open(source, manifest, dict(roots or {}))
    if not len(found.x):
        raise FormatError("no frames: every session is empty", file=found.path, hint="see the report of choreo pair")
    return _resplit(found, split, fold)


def _open(source: Path | None, manifest: Manifest | None, roots: dict[str, str]) -> FrameSet:
    from formats.manifest import decode

    if manifest is None:
        if source is None or not source.exists():
            raise NoInputError(
                f"no file or folder {source}", hint="need frames: see choreo pair or choreo synth sessions"
            )
        file = _named(source)
        if file.is_dir() or file.name == "pack.json":
            return _from_pack(file if file.is_dir() else file.parent, None)
        if file.suffix == ".parquet":
            return _from_tables([(file, None)], None, file.parent, file.name)
        manifest = decode(file.read_bytes(), source=str(file), file=file)
    if manifest.kind not in KINDS:
        raise FormatError(
            f"{manifest.schema} has no frames", file=str(manifest.file or "stdin"), hint=f"need {KINDS[0]}/1"
        )
    return _from_pairs(manifest, roots) if manifest.kind == "choreo.pairs" else _from_sessions(manifest, roots)


def _named(source: Path) -> Path:
    """The file that says what is in a folder; the folder itself when it is a pack."""
    if not source.is_dir():
        return source
    for name in ("pairs.json", "sessions.json", "pack.json", "frames.parquet"):
        if (source / name).is_file():
            return source / name
    raise FormatError("no frames in this folder", file=source, hint="need pairs.json, sessions.json or frames.parquet")


def _own_folder(manifest: Manifest, roots: dict[str, str]) -> Path:
    from formats.manifest import resolve_roots

    folders = resolve_roots(manifest, {k: v for k, v in roots.items() if k in {r.id for r in manifest.roots}})
    own = next((r.id for r in manifest.roots if r.self), None)
    if own is None or not folders[own].is_dir():
        where = folders.get(own or "")
        raise NoInputError(f"no folder {where}", hint=f"say where it lies: --root {own or 'out'}=DIR")
    return folders[own]


def _source_of(manifest: Manifest) -> dict[str, Any]:
    return {"role": "frames", "sha256": manifest.sha256, "schema": manifest.schema}


def _from_pairs(manifest: Manifest, roots: dict[str, str]) -> FrameSet:
    """The pack beside the pairs when there is one (mapped, not read), else their frames Parquet."""
    folder = _own_folder(manifest, roots)
    packs = sorted(folder.glob("pack/*/pack.json"))
    if len(packs) == 1:
        found = _from_pack(packs[0].parent, folder)
        entries = {e["pair_id"]: e for e in manifest.entries}
        same = {(s.session_id, s.row_start, s.rows, s.split) for s in found.sessions} == {
            (e["pair_id"], e["row_start"], e["rows"], e["split"]) for e in entries.values() if e["rows"]
        }
        if not same:
            raise FormatError(
                "the pack beside the pairs is of another run", file=packs[0], hint="run choreo pair again"
            )
        return replace(found, source=_source_of(manifest), path="pairs.json")
    whole = _from_tables([(folder / "frames.parquet", None)], manifest, folder, "pairs.json")
    stated = {e["pair_id"]: e for e in manifest.entries}
    sessions = tuple(
        replace(
            s,
            item=Item(s.session_id, e["session_id"], e["track_group"], e["performer"]),
            split=e["split"],
            group_id=e["group_id"],
        )
        for s in whole.sessions
        if (e := stated.get(s.session_id)) is not None
    )
    return replace(whole, sessions=sessions)


def _from_sessions(manifest: Manifest, roots: dict[str, str]) -> FrameSet:
    from formats.manifest import safe_join

    folder = _own_folder(manifest, roots)
    files = [(safe_join(folder, e["frames"]), e["frames_sha256"]) for e in manifest.entries]
    return _from_tables(files, manifest, folder, "sessions.json")


def _from_tables(
    files: Iterable[tuple[Path, str | None]], manifest: Manifest | None, folder: Path, path: str
) -> FrameSet:
    from formats.atomic import sha256_file
    from formats.tables import read_table, validate

    parts: list[tuple[F32, Bool, I64]] = []
    sessions: list[FrameSession] = []
    sha, at = "", 0
    for file, want in files:
        sha = sha256_file(file)
        if want is not None and sha != want:
            raise FormatError("does not match its sha256: damaged or changed", file=file)
        table = read_table(file, FRAMES)
        validate(FRAMES, table, file)
        made = _arrays(table)
        for name, start, stop, synthetic in _owners(table, file):
            _increasing(made[2][start:stop], file, name, start)
            _on_the_clock(made[2][start:stop], file, name)
            item = Item(name, name, name)
            sessions.append(FrameSession(name, at + start, stop - start, item, "none", name, synthetic))
        parts.append(made)
        at += len(made[0])
    if len({s.session_id for s in sessions}) != len(sessions):
        twice = next(
            s.session_id for k, s in enumerate(sessions) if s.session_id in {o.session_id for o in sessions[:k]}
        )
        raise FormatError(f"session {twice} comes twice", file=path, field="session_id")
    x, mask, t_us = (np.concatenate([p[k] for p in parts]) if parts else _empty(k) for k in range(3))
    source = (
        _source_of(manifest) if manifest is not None else {"role": "frames", "sha256": sha, "schema": FRAMES.schema}
    )
    return FrameSet(x, mask, t_us, tuple(sessions), source, folder, path)


def _empty(k: int) -> Any:
    return (np.empty((0, len(NAMES)), np.float32), np.empty((0, len(MASKS)), bool), np.empty(0, np.int64))[k]


def _arrays(table: Any) -> tuple[F32, Bool, I64]:
    x = np.empty((table.num_rows, len(NAMES)), np.float32)
    for k, name in enumerate(NAMES):
        x[:, k] = table.column(name).to_numpy(zero_copy_only=False)
    mask = np.stack([np.asarray(table.column(m).to_numpy(zero_copy_only=False), bool) for m in MASKS], axis=1)
    return x, mask, np.asarray(table.column("t_us").to_numpy(), np.int64)


def _owners(table: Any, file: Path) -> list[tuple[str, int, int, bool]]:
    """(session, first row, row after the last, synthetic) of each session, in row order."""
    names = np.asarray(table.column("session_id").to_pylist(), dtype=object)
    made = np.asarray(table.column("synthetic").to_numpy(zero_copy_only=False), bool)
    if not len(names):
        return []
    cuts = [0, *(np.flatnonzero(names[1:] != names[:-1]) + 1).tolist(), len(names)]
    found = [(str(names[a]), a, b, bool(made[a:b].all())) for a, b in itertools.pairwise(cuts)]
    if odd := next((f for f in found if not f[0].isprintable() or not f[0].strip()), None):
        raise FormatError(
            f"session id {odd[0]!r} is empty or holds characters that do not print", file=file, row=odd[1],
            field="session_id",
        )  # fmt: skip
    if len({f[0] for f in found}) != len(found):
        raise FormatError("the rows of a session are not together", file=file, field="session_id")
    return found


def _increasing(t_us: I64, file: Path, name: str, row: int) -> None:
    bad = np.flatnonzero(np.diff(t_us) <= 0)
    if len(bad):
        raise FormatError(
            f"time of session {name} does not increase", file=file, row=row + int(bad[0]) + 1, field="t_us"
        )


def _on_the_clock(t_us: I64, file: Path, name: str) -> None:
    """Refuse a session at another rate: every one of its rows would look like a gap, and windows would mix rates."""
    step = float(np.median(np.diff(t_us))) if len(t_us) >= LEAST_ROWS else float(STEP_US)
    if step != STEP_US:
        raise FormatError(
            f"session {name} runs at {1e6 / step:.4g} Hz, need {1e6 / STEP_US:g} Hz", file=file, field="t_us",
            hint="choreo pair puts recordings onto one clock",
        )  # fmt: skip


def _from_pack(folder: Path, root: Path | None) -> FrameSet:
    from choreo_cli.dataset.pack import PACK_FILE, open_pack

    pack = open_pack(folder, index=False)
    if pack.columns != NAMES or pack.masks != MASKS:
        raise FormatError(
            "the pack holds other columns than the model inputs", file=folder / PACK_FILE, field="columns"
        )
    sessions = tuple(
        FrameSession(
            p.item.pair_id, p.row_start, p.rows, p.item, pack.by_pair[p.item.pair_id].split,
            pack.by_pair[p.item.pair_id].group_id, p.synthetic,
        )
        for p in sorted(pack.pairs, key=lambda p: p.row_start)
        if p.rows
    )  # fmt: skip
    source = {"role": "frames", "sha256": pack.doc["dataset_hash"], "schema": pack.doc["schema"]}
    leaks, notes = tuple(pack.doc["split"]["leaks"]), tuple(pack.doc["split"]["notes"])
    return FrameSet(
        pack.x, pack.mask, pack.t_us, sessions, source, root or folder, PACK_FILE, leaks, notes, pack.step_us
    )


def _resplit(found: FrameSet, mode: str, fold: int | None) -> FrameSet:
    stated = {s.split for s in found.sessions}
    held_out = "train" in stated and bool(stated & {"val", "test"})
    if fold is not None and mode in ("auto", "keep", "hash"):
        mode = "loso"
    if mode == "keep" or (mode == "auto" and held_out):
        if mode == "keep" and "train" not in stated:
            raise UsageError("--split keep: no session is in train", hint="use --split loso")
        return found
    usable = [s for s in found.sessions if s.rows]
    result = assign([s.item for s in usable], mode="hash" if mode == "hash" else "loso")
    by_pair, notes = dict(result.by_pair), list(result.notes)
    if fold is not None:
        by_pair, note = _fold(result, fold)
        notes = [note]
    sessions = tuple(
        replace(s, split=by_pair[s.item.pair_id].split, group_id=by_pair[s.item.pair_id].group_id) for s in usable
    )
    return replace(found, sessions=sessions, leaks=tuple(result.leaks), notes=tuple(notes))


def _fold(result: Any, fold: int) -> tuple[dict[str, Any], str]:
    if not 0 <= fold < len(result.folds):
        raise UsageError(f"--fold {fold}: there are {len(result.folds)} folds", hint="they count from 0")
    chosen = result.folds[fold]
    role = {chosen.test: "test", **({chosen.val: "val"} if chosen.val else {})}
    by_pair = {p: a._replace(split=role.get(a.group_id, "train")) for p, a in result.by_pair.items()}
    return by_pair, f"leave one out: fold {fold} of {len(result.folds)} tests {chosen.test}"
