"""From drafts to a dataset on disk: one table of frames, context, windows, splits, the pack and the report."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from choreo_cli.dataset.pack import PackPair
from choreo_cli.dataset.pack_write import AudioTrack, Written, write_pack
from choreo_cli.dataset.splits import Item, Previous, SplitResult, assign
from choreo_cli.dataset.windows import LENGTH, MIN_VALID, STRIDE, AudioGrid
from choreo_cli.sessions.pairing import Draft
from choreo_cli.sessions.target import Target
from formats.columns import CONTEXT, FRAMES, PAIR
from formats.tables import to_arrow, write_table


@dataclass(frozen=True, slots=True)
class DatasetOptions:
    """How the dataset is cut.

    Args:
        split: `hash` or `loso`.
        group: What is kept together: `component`, `session` or `track`.
        previous: Entries of an earlier `pairs.json`, whose assignments win.
        length, stride, min_valid: Windows, in frames.
        rate_hz: Frames per second.
    """

    split: str = "hash"
    group: str = "component"
    previous: Sequence[dict[str, Any]] | None = None
    length: int = LENGTH
    stride: int = STRIDE
    min_valid: float = MIN_VALID
    rate_hz: int = 50


@dataclass(slots=True)
class Dataset:
    """What was written: entries of the manifest, the split, the pack, and totals."""

    entries: list[dict[str, Any]]
    split: SplitResult
    pack: Written
    counts: dict[str, Any]


def name_pairs(drafts: list[Draft]) -> list[Draft]:
    """Give every draft its pair id: the session, and a number when the session has several; sorted by it."""
    by_session: dict[str, list[Draft]] = {}
    for d in drafts:
        by_session.setdefault(d.entry["session_id"], []).append(d)
    for session, group in by_session.items():
        group.sort(key=lambda d: d.entry["pose_path"])  # a body's tracks stay in the order they were played
        for k, d in enumerate(group):
            d.entry["pair_id"] = session if len(group) == 1 else f"{session}#{k:03d}"
    return sorted(drafts, key=lambda d: d.entry["pair_id"].encode())


def write_dataset(
    drafts: list[Draft],
    out: Target,
    options: DatasetOptions,
    created_by: dict[str, Any],
    tracks: dict[str, AudioTrack],
    on_progress: Callable[..., None] | None = None,
) -> Dataset:
    """Write frames.parquet, context.parquet and pack/, and fill in the rest of every entry.

    Args:
        drafts: Named and sorted pairs, at least one.
        out: The output folder.
        options: How to cut.
        created_by: Provenance, kept in every file.
        tracks: Audio features by recording id.
    """
    keep = {"choreo": json.dumps(created_by, sort_keys=True)}
    columns, starts = _stack(drafts)
    scales = json.dumps({d.entry["pair_id"]: d.block.scale for d in drafts}, sort_keys=True)
    sha = write_table(out.target("frames.parquet"), FRAMES, columns, {**keep, "choreo.motion_scale": scales})
    out.add("frames", "frames.parquet", sha)
    context_rows = _write_context(drafts, out, keep)
    split = assign(
        [_item(d) for d in drafts],
        mode=options.split,
        group=options.group,
        previous=Previous.of(options.previous) if options.previous is not None else None,
    )
    pack = _write_pack(drafts, starts, columns, split, out, options, created_by, tracks)
    entries = [_entry(d, start, split) for d, start in zip(drafts, starts, strict=True)]
    counts = {
        "pairs": len(entries),
        "frames": len(columns["t_us"]),
        "seconds": round(len(columns["t_us"]) / options.rate_hz, 2),
        "context rows": context_rows,
        "windows": pack.windows,
        **{f"windows {k}": v for k, v in pack.window_counts.items()},
    }
    return Dataset(entries, split, pack, counts)


def _stack(drafts: list[Draft]) -> tuple[dict[str, Any], list[int]]:
    """All rows in the order of the pairs, and each pair's first row."""
    starts, at = [], 0
    for d in drafts:
        starts.append(at)
        at += d.block.rows
    names = [n for n in FRAMES.names if n != "session_id"]
    columns: dict[str, Any] = {n: np.concatenate([d.block.columns[n] for d in drafts]) for n in names}
    columns["session_id"] = _repeat([d.entry["pair_id"] for d in drafts], [d.block.rows for d in drafts])
    return columns, starts


def _repeat(ids: list[str], counts: list[int]) -> Any:
    """A string column of runs, without a Python object per row."""
    import pyarrow as pa

    codes = np.repeat(np.arange(len(ids), dtype=np.int32), counts)
    return pa.array(ids, pa.string()).take(pa.array(codes))


def _write_context(drafts: list[Draft], out: Target, keep: dict[str, str]) -> int:
    slow = [d for d in drafts if len(d.block.context["t_us"])]
    if not slow:
        return 0
    import pyarrow as pa

    parts = []
    for d in slow:
        rows = dict(d.block.context)
        rows["session_id"] = [d.entry["pair_id"]] * len(rows["t_us"])
        parts.append(to_arrow(CONTEXT, rows))
    joints = json.dumps({d.entry["pair_id"]: list(d.block.joints) for d in slow}, sort_keys=True)
    table = pa.concat_tables(parts)
    sha = write_table(out.target("context.parquet"), CONTEXT, table, {**keep, "choreo.joints": joints})
    out.add("context", "context.parquet", sha)
    return int(table.num_rows)


def _item(d: Draft) -> Item:
    e = d.entry
    return Item(e["pair_id"], e["session_id"], e["track_group"], e["performer"])


def _write_pack(
    drafts: list[Draft],
    starts: list[int],
    columns: dict[str, Any],
    split: SplitResult,
    out: Target,
    options: DatasetOptions,
    created_by: dict[str, Any],
    tracks: dict[str, AudioTrack],
) -> Written:
    pairs = [
        PackPair(_item(d), start, d.block.rows, _audio_id(d, tracks), bool(d.entry["synthetic"]))
        for d, start in zip(drafts, starts, strict=True)
    ]
    used = {p.audio_id for p in pairs}
    pack = write_pack(
        out.target("pack/x").parent,
        columns,
        pairs,
        split,
        created_by=created_by,
        tracks=[t for i, t in sorted(tracks.items()) if i in used],
        length=options.length,
        stride=options.stride,
        min_valid=options.min_valid,
        step_us=1_000_000 // options.rate_hz,
    )
    for name, sha in pack.files.items():
        out.add("pack", f"pack/{name}", sha)
    return pack


def _audio_id(d: Draft, tracks: dict[str, AudioTrack]) -> str | None:
    name = str(d.entry["audio_id"])
    return name if name in tracks else None


def _entry(d: Draft, start: int, split: SplitResult) -> dict[str, Any]:
    """The pair record with everything in the order of its table."""
    where = split.by_pair[d.entry["pair_id"]]
    full = {
        **d.entry,
        "row_start": start,
        "rows": d.block.rows,
        "context_rows": len(d.block.context["t_us"]),
        "features": d.music.features_path,
        "group_id": where.group_id,
        "split": where.split,
    }
    return {name: full[name] for name in PAIR.names}


def audio_grid(frame_rate: tuple[int, int], n_frames: int) -> AudioGrid:
    """Times of a track's feature frames."""
    return AudioGrid(frame_rate[0], frame_rate[1], n_frames)
