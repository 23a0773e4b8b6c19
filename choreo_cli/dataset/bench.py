"""Measure the dataset: joining and writing a million pose rows, and feeding windows, each beside baseline and floor."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.dataset.pack import Pack, PackPair, open_pack
from choreo_cli.dataset.pack_write import write_pack
from choreo_cli.dataset.splits import Item, assign
from choreo_cli.motion.resample import STEP_US, Grid, phase_at, resample
from formats.columns import AUD, FRAMES, HR, MASKS, MOT, Column, Table
from formats.metrics import Named, entry

ROWS = 1_000_000
WINDOW = (64, 25)
FEED_GOAL = 400_000.0
PAIR_GOAL_S = 0.9
BATCH = 1024
_RUN = {"run_id": "bench", "command": "bench data"}

Columns = dict[str, Any]
Stream = tuple[NDArray[np.int64], NDArray[np.float32]]


def bench(*, rows: int = ROWS, repeats: int = 5, seed: int = 0) -> list[dict[str, Any]]:
    """Metric entries of this package.

    Args:
        rows: Pose rows, and rows of the pack windows are fed from.
        repeats: Runs of each measurement; the best counts, because other work on the machine only adds time.
        seed: Seed of the made-up streams.
    """
    with tempfile.TemporaryDirectory(prefix="choreo-bench-") as folder:
        return [pair_rows(Path(folder), rows, repeats, seed), *feed(Path(folder), rows, repeats, seed)]


def timed(run: Callable[[], Any], repeats: int, clock: Callable[[], float]) -> list[float]:
    """Seconds of each of `repeats` runs, shortest first."""
    found = []
    for _ in range(repeats):
        start = clock()
        run()
        found.append(clock() - start)
    return sorted(found)


def streams(rows: int, seed: int) -> dict[str, Stream]:
    """Made-up native streams of one long session: jittered 50 Hz pose features, 43 Hz audio, 1 Hz heart rate, beats."""
    rng = np.random.default_rng(seed)
    span = rows * STEP_US
    t_pose = np.arange(rows, dtype=np.int64) * STEP_US + rng.integers(-3000, 3000, rows)
    t_audio = np.arange(span * 22050 // (512 * 10**6), dtype=np.int64) * 512 * 10**6 // 22050
    t_hr = np.arange(span // 10**6, dtype=np.int64) * 10**6
    t_beat = np.arange(span // 500_000 + 2, dtype=np.int64) * 500_000

    def wander(n: int, width: int) -> NDArray[np.float32]:
        walk = np.cumsum(rng.standard_normal((n, width)) * 0.05, axis=0)
        return (0.5 + 0.5 * np.sin(walk)).astype(np.float32)

    heart = wander(len(t_hr), 2) * 60 + np.array([80, -30])
    return {
        "mot": (t_pose, wander(rows, len(MOT))),
        "aud": (t_audio, wander(len(t_audio), len(AUD))),
        "hr": (t_hr, np.clip(heart, [30, -10], [220, 10]).astype(np.float32)),
        "beat": (t_beat, np.empty((len(t_beat), 0), np.float32)),
    }


def join(source: dict[str, Stream]) -> Columns:
    """Every stream on the frame clock: the columns of the frames table."""
    import pyarrow as pa

    t_pose = source["mot"][0]
    grid = Grid.covering(int(t_pose[0]), int(t_pose[-1]))
    t = grid.t_us
    columns: Columns = {"t_us": t, "synthetic": np.ones(grid.n, bool)}
    for names, mask, key, gap in ((MOT, "m_mot", "mot", None), (AUD, "m_aud", "aud", 50_000), (HR, "m_hr", "hr", 5e6)):
        found = resample(*source[key], grid, max_gap_us=gap)
        columns.update({n: found.values[:, k] for k, n in enumerate(names)})
        columns[mask] = found.valid
    phase, index = phase_at(source["beat"][0], t)
    phase = np.minimum(phase.astype(np.float32), np.nextafter(np.float32(1), np.float32(0)))
    columns.update(beat_phase=phase, beat_idx=index, m_ctx=index >= 0)
    columns["session_id"] = pa.array(["bench"]).take(pa.array(np.zeros(grid.n, np.int32)))
    return columns


def pair_rows(folder: Path, rows: int, repeats: int, seed: int) -> dict[str, Any]:
    """CPU seconds to join, interpolate and write the frames of `rows` pose rows."""
    from formats.tables import write_table

    source = streams(rows, seed)
    path, cpu = folder / "frames.parquet", time.process_time

    def ours() -> None:
        path.unlink(missing_ok=True)
        write_table(path, FRAMES, join(source))

    runs = timed(ours, repeats, cpu)
    joined = timed(lambda: join(source), repeats, cpu)
    floor = timed(lambda: _interp_and_dump(folder, source), repeats, cpu)[0]
    peer, why = _pandas(folder, source)
    params = {
        "rows": rows,
        "slowest_s": round(runs[-1], 4),
        "join_s": round(joined[0], 4),
        "bytes": path.stat().st_size,
    }
    return entry(
        "data.pair_rows", runs[0], "s", "lower", n=rows,
        baseline=None if peer is None else ("pandas merge_asof + to_parquet", timed(peer, repeats, cpu)[0]),
        floor=("np.interp + raw write", floor), goal=("<=", PAIR_GOAL_S), params=params, why=why,
    )  # fmt: skip


def _interp_and_dump(folder: Path, source: dict[str, Stream]) -> None:
    """The least a join can do: interpolate each column and write the numbers as they are."""
    t = np.arange(0, int(source["mot"][0][-1]), STEP_US, dtype=np.int64)
    with open(folder / "floor.bin", "wb") as f:
        f.write(t.data)
        for key in ("mot", "aud", "hr"):
            at, values = source[key]
            for k in range(values.shape[1]):
                f.write(np.interp(t, at, values[:, k]).astype(np.float32).data)


def _pandas(folder: Path, source: dict[str, Stream]) -> tuple[Callable[[], None] | None, str | None]:
    try:
        import pandas as pd
    except ImportError:
        return None, "pandas is not installed: pip install 'choreo[bench]'"

    def run() -> None:
        t_pose = source["mot"][0]
        grid = Grid.covering(int(t_pose[0]), int(t_pose[-1]))
        out = pd.DataFrame({"t_us": grid.t_us})
        for key, names, near in (("mot", MOT, 20_000), ("aud", AUD, 25_000), ("hr", HR, 2_500_000)):
            right = pd.DataFrame(source[key][1], columns=list(names))
            right.insert(0, "t_us", source[key][0])
            out = pd.merge_asof(out, right, on="t_us", direction="nearest", tolerance=near)
        beats = pd.DataFrame({"t_us": source["beat"][0], "beat_idx": np.arange(len(source["beat"][0]))})
        out = pd.merge_asof(out, beats, on="t_us")
        out["beat_phase"] = (out["t_us"] % 500_000) / 500_000
        for mask, column in zip(MASKS, ("motion_energy", "hr", "audio_energy", "beat_phase"), strict=True):
            out[mask] = out[column].notna()
        out["session_id"] = "bench"
        out.to_parquet(folder / "pandas.parquet")

    return run, None


def feed(folder: Path, rows: int, repeats: int, seed: int) -> list[dict[str, Any]]:
    """Windows per second out of a pack: random order, one process, 64 rows of 25 columns."""
    pack = _wide_pack(folder, rows, seed)
    order = np.random.default_rng(seed + 1).permutation(len(pack))[: 20 * BATCH]
    batches = [order[i : i + BATCH] for i in range(0, len(order), BATCH)]

    def ours() -> None:
        for b in batches:
            pack.windows(b)

    clock = time.perf_counter
    runs = timed(ours, repeats, clock)
    floor = ("memcpy of the same bytes", len(order) / timed(_copying(len(batches)), repeats, clock)[0])
    base = ("random Parquet row groups", _row_groups(folder, pack, order[:24]))
    params = {"window": list(WINDOW), "batch": BATCH, "rows": rows, "windows": len(pack)}
    slowest = {**params, "slowest": round(len(order) / runs[-1])}
    found = entry(
        "data.feed", len(order) / runs[0], "windows/s", "higher",
        n=len(order), baseline=base, floor=floor, goal=(">=", FEED_GOAL), params=slowest,
    )  # fmt: skip
    return [found, _loader(pack, base, floor, params)]


def _loader(pack: Pack, base: Named, floor: Named, params: Columns) -> dict[str, Any]:
    """One shuffled pass through a torch DataLoader, with presence, masks and times beside the values."""
    name, goal = "data.feed_torch", (">=", FEED_GOAL)
    try:
        from choreo_cli.dataset.dataset_torch import PoseMusicDataset, loader
    except ImportError:
        why = "torch is not installed: pip install 'choreo[train]'"
        return entry(name, None, "windows/s", "higher", floor=floor, goal=goal, params=params, why=why)
    data = PoseMusicDataset(pack, ("train", "val", "test"))

    def run() -> None:
        for _ in loader(data, BATCH):
            pass

    runs = timed(run, 3, time.perf_counter)
    return entry(
        name, len(data) / runs[0], "windows/s", "higher",
        n=len(data), baseline=base, floor=floor, goal=goal, params=params,
    )  # fmt: skip


def _wide_pack(folder: Path, rows: int, seed: int) -> Pack:
    """A pack of 25 columns; longer windows of more columns than the 11 inputs, as the goal states them."""
    columns = [f"c{k:02d}" for k in range(WINDOW[1])]
    values = np.random.default_rng(seed).standard_normal((rows, WINDOW[1]), np.float32)
    frames: Columns = {name: values[:, k] for k, name in enumerate(columns)}
    frames.update(t_us=np.arange(rows, dtype=np.int64) * STEP_US, m_mot=np.ones(rows, bool))
    items = [Item("p", "s", "t")]
    made = write_pack(
        folder / "pack", frames, [PackPair(items[0], 0, rows, None, True)], assign(items), created_by=_RUN,
        columns=columns, masks=["m_mot"], length=WINDOW[0], stride=4,
    )  # fmt: skip
    return open_pack(made.folder)


def _copying(batches: int) -> Callable[[], None]:
    """Copy as many bytes as the windows hold, batch by batch, into fresh memory."""
    block = np.ones((BATCH, *WINDOW), np.float32)

    def run() -> None:
        for _ in range(batches):
            block.copy()

    return run


def _row_groups(folder: Path, pack: Pack, order: NDArray[np.int64]) -> float:
    """Windows per second when each is read from the Parquet row group that holds its first row."""
    import pyarrow.parquet as pq

    from formats.tables import ROW_GROUP, write_table

    table = Table("choreo.bench/1", "", tuple(Column(c, "float32", nullable=True) for c in pack.columns))
    write_table(folder / "wide.parquet", table, {c: pack.x[:, k] for k, c in enumerate(pack.columns)})
    file = pq.ParquetFile(folder / "wide.parquet")
    start = time.perf_counter()
    for first in pack.starts(order).tolist():
        group = file.read_row_group(first // ROW_GROUP, use_threads=False).slice(first % ROW_GROUP, WINDOW[0])
        np.stack([group.column(k).to_numpy() for k in range(WINDOW[1])], axis=1)
    return len(order) / (time.perf_counter() - start)
