"""Measure training: time in arithmetic against a loop that does nothing else, and memory over a thousand hours."""

from __future__ import annotations

import importlib
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from choreo_cli.training.recipe import Job, Recipe
from choreo_cli.training.recipes import module_of
from formats.columns import FRAMES, INPUTS, MASKS
from formats.metrics import entry

ROWS = 180_000_000
HOUR = 180_000  # rows of an hour at 50 Hz
SESSION_ROWS = 9000
SHARE_GOAL = 0.8
MEMORY_GOAL = 1e9
STEP_US = 20_000
_MADE = {"run_id": "bench", "command": "bench train"}


def bench(
    *, rows: int = ROWS, steps: int = 400, session_rows: int = SESSION_ROWS, seed: int = 0
) -> list[dict[str, Any]]:
    """Metric entries of this package.

    Args:
        rows: Rows of the sparse pack.
        steps: Optimiser steps of each training.
        session_rows: Rows of each of the four sessions the shares are measured on.
        seed: Seed of the made-up frames.
    """
    with tempfile.TemporaryDirectory(prefix="choreo-bench-") as name:
        folder = Path(name)
        frames = made_frames(folder / "frames.parquet", session_rows, seed)
        rps = train(folder / "rps", "rps", frames, steps, seed)
        mapper = train(folder / "mapper", "mapper", frames, steps, seed, rps=folder / "rps")
        return [
            share("train.rps_share", rps, steps),
            share("train.mapper_share", mapper, steps),
            memory(folder / "pack", rows, steps, seed),
        ]


def made_frames(file: Path, rows: int, seed: int, sessions: int = 4) -> Path:
    """Frames that wander inside their bounds: what is in them does not change how fast they are trained on."""
    from formats.tables import write_table

    rng = np.random.default_rng(seed)
    n = rows * sessions
    columns: dict[str, Any] = {
        "session_id": [f"made-{k}" for k in range(sessions) for _ in range(rows)],
        "t_us": np.tile(STEP_US * np.arange(rows, dtype=np.int64), sessions),
        "beat_idx": np.tile(np.arange(rows, dtype=np.int32) // 25, sessions),
        "synthetic": np.ones(n, bool),
        **dict.fromkeys(MASKS, np.ones(n, bool)),
    }
    for k, c in enumerate(INPUTS):
        lo, hi = float(c.lo or 0), float(c.hi or 1)
        wave = 0.5 + 0.4 * np.sin(np.arange(n) * 2 * np.pi / (40 + 13 * k)) + 0.05 * rng.standard_normal(n)
        columns[c.name] = (lo + (hi - lo) * np.clip(wave, 0, 0.999)).astype(np.float32)
    columns["beat_phase"] = np.tile((np.arange(rows) % 25 / 25).astype(np.float32), sessions)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_table(file, FRAMES, columns)
    return file


def open_recipe(name: str, source: Path, steps: int, seed: int, **options: Any) -> Recipe:
    """A recipe of the table on frames or a pack, limited to `steps` optimiser steps."""
    lane = importlib.import_module(module_of(name))
    recipe: Recipe = lane.open_recipe(Job(source, None, lane.Config(steps=steps), seed, options))
    return recipe


class _Files:
    """Where a recipe puts its files, without a lock or a manifest."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.created_by = folder, dict(_MADE)

    def target(self, relative: str) -> Path:
        path = self.folder / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def add(self, role: str, relative: str, sha256: str) -> None:
        del role, relative, sha256

    def write(self, role: str, relative: str, data: bytes) -> None:
        del role
        self.target(relative).write_bytes(data)


def train(folder: Path, name: str, source: Path, steps: int, seed: int, **options: Any) -> dict[str, float]:
    """Train and write a recipe; seconds spent in each part of the loop, in all, and of the same steps alone."""
    from choreo_cli.training.loop import fit

    recipe = open_recipe(name, source, steps, seed, **options)
    beats: list[dict[str, Any]] = []
    start = time.perf_counter()
    fitted = fit(recipe, folder, identity="bench", seed=seed, beat=beats.append)
    wall = time.perf_counter() - start
    recipe.finish(fitted.model, _Files(folder))
    last = beats[-1]
    return {"wall_s": wall, "steps": fitted.steps, "floor_s": bare_steps(recipe, fitted.steps), **_seconds(last)}


def _seconds(beat: dict[str, Any]) -> dict[str, float]:
    return {k: float(v) for k, v in beat.items() if isinstance(v, int | float) and not isinstance(v, bool)}


def bare_steps(recipe: Recipe, steps: int) -> float:
    """Seconds of forward, backward and optimiser over one prepared batch: the least that training can cost."""
    import torch

    torch.manual_seed(0)
    model = recipe.model()
    model.train()
    batch = recipe.batch(np.arange(min(recipe.config.batch, recipe.n_items), dtype=np.int64), 0)
    step_of = torch.optim.Adam(model.parameters(), recipe.config.lr)
    draws = torch.Generator().manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(recipe.config.threads)
    start = time.perf_counter()
    for _ in range(steps):
        step_of.zero_grad()
        recipe.loss(model, batch, draws)[0].backward()  # type: ignore[no-untyped-call]
        step_of.step()
        recipe.after_step(model)
    spent = time.perf_counter() - start
    torch.set_num_threads(threads)
    return spent


def share(name: str, found: dict[str, float], steps: int) -> dict[str, Any]:
    """Share of the wall time of an epoch that went into arithmetic; the floor is the same steps on one batch."""
    value = found["share_step"]
    return entry(
        name, value, "1", "higher", n=int(found["steps"]),
        floor=("the same steps on one prepared batch, share of the same wall time", found["floor_s"] / found["wall_s"]),
        goal=(">=", SHARE_GOAL), params={k: round(v, 5) for k, v in sorted(found.items())} | {"asked_steps": steps},
    )  # fmt: skip


def memory(folder: Path, rows: int, steps: int, seed: int) -> dict[str, Any]:
    """Most anonymous memory of a process that trains M1 on a sparse pack; the floor is the process without it."""
    name, params = "train.memory", {"rows": rows, "steps": steps, "hours": round(rows / HOUR, 2)}
    if not Path("/proc/self/status").exists():
        return entry(name, None, "B", "lower", goal=("<=", MEMORY_GOAL), params=params, why="needs Linux: RssAnon")
    sparse_pack(folder, rows)
    trained = _watched("memory", str(folder), str(steps), str(seed))
    idle = _watched("idle")
    params["bytes"] = sum(p.stat().st_size for p in folder.iterdir())
    return entry(
        name, trained, "B", "lower", n=rows, floor=("import of torch and onnxruntime", idle),
        goal=("<=", MEMORY_GOAL), params=params,
    )  # fmt: skip


def sparse_pack(folder: Path, rows: int) -> Path:
    """A pack of `rows` frames in sessions of an hour; the values of all but the first are holes in the file.

    Times are real, because holes would say that every row is a session of its own.
    """
    import io

    from choreo_cli.dataset.pack import ARRAYS, PACK_FILE, SCHEMA
    from formats import sealed

    folder.mkdir(parents=True)
    names = [c.name for c in INPUTS]
    shapes = {"x.npy": (rows, len(names)), "mask.npy": (rows, len(MASKS)), "t_us.npy": (rows,)}
    files = {}
    for file, shape in shapes.items():
        head = io.BytesIO()
        np.lib.format.write_array_header_1_0(head, {"descr": ARRAYS[file], "fortran_order": False, "shape": shape})
        size = len(head.getvalue()) + int(np.prod(shape)) * np.dtype(ARRAYS[file]).itemsize
        with open(folder / file, "wb") as f:
            f.write(head.getvalue())
            _fill(f, file, rows)
            f.truncate(size)
        files[file] = {"sha256": "0" * 64, "bytes": size}
    stats = {n: {"mean": 0.5, "std": 0.3, "n": rows} for n in names}
    sealed_doc = {
        "schema": SCHEMA, "dataset_hash": "0" * 64, "created_by": _MADE, "columns": names, "masks": list(MASKS),
        "rows": rows, "windows": 0, "window": {"len": 64, "stride": 16, "min_valid": 0.5, "step_us": STEP_US},
        "window_counts": {}, "params": {}, "normaliser": {"split": "train", "columns": stats},
        "split": {"leaks": [], "notes": []}, "pairs": _pairs(rows), "audio": None, "synthetic": True, "files": files,
    }  # fmt: skip
    (folder / PACK_FILE).write_bytes(sealed.dumps(sealed_doc))
    return folder


def _fill(f: Any, file: str, rows: int) -> None:
    first = min(rows, HOUR)
    rng = np.random.default_rng(0)
    if file == "x.npy":
        f.write(rng.random((first, len(INPUTS))).astype("<f4").tobytes())
    elif file == "mask.npy":
        f.write(np.ones((first, len(MASKS)), bool).tobytes())
    else:
        for start in range(0, rows, HOUR):
            f.write((STEP_US * np.arange(min(HOUR, rows - start), dtype="<i8")).tobytes())


def _pairs(rows: int) -> list[dict[str, Any]]:
    starts = range(0, rows, HOUR)
    split = {len(starts) - 1: "test", len(starts) - 2: "val"} if len(starts) > 2 else {}
    return [
        {
            "pair_id": f"hour-{k:05d}", "session_id": f"hour-{k:05d}", "track_group": f"hour-{k:05d}",
            "performer": None, "group_id": f"hour-{k:05d}", "u": 0.0, "split": split.get(k, "train"),
            "row_start": start, "rows": min(HOUR, rows - start), "audio_id": None, "synthetic": True,
        }
        for k, start in enumerate(starts)
    ]  # fmt: skip


def _watched(*words: str) -> float:
    """Most RssAnon in bytes of a child of this module, looked at every 20 ms. Raises StorageError when it fails."""
    import subprocess

    from choreo_cli.errors import StorageError

    top = str(Path(__file__).resolve().parents[2])
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from choreo_cli.training.bench import child; child(*sys.argv[2:])"
    )
    p = subprocess.Popen([sys.executable, "-c", code, top, *words], stderr=subprocess.PIPE, text=True)
    most = 0.0
    while p.poll() is None:
        most = max(most, anonymous(p.pid))
        time.sleep(0.02)
    err = p.stderr.read() if p.stderr else ""
    if p.returncode:
        raise StorageError(f"training in a process of its own ended with {p.returncode}: {err.strip()[-200:]}")
    return most


def anonymous(pid: int) -> float:
    """RssAnon of a process in bytes, 0 when it is gone."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    line = next((row for row in text.splitlines() if row.startswith("RssAnon:")), "RssAnon: 0 kB")
    return 1024.0 * int(line.split()[1])


def child(what: str, *words: str) -> None:
    """What a watched process does: train on the pack, or import what training imports and leave."""
    if what == "idle":
        for name in ("torch", "onnx", "onnxruntime"):
            importlib.import_module(name)
        time.sleep(0.1)
        return
    folder, steps, seed = Path(words[0]), int(words[1]), int(words[2])
    with tempfile.TemporaryDirectory(prefix="choreo-bench-") as out:
        train(Path(out), "rps", folder, steps, seed)
