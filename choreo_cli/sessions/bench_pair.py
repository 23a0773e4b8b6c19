"""Measure discover and pair as whole programs: memory over a large tree, and time on a synthetic set."""

from __future__ import annotations

import json
import sys
import tempfile
import wave
from pathlib import Path
from typing import Any

import numpy as np

from choreo_cli.metrics.process import Cost, Program, choreo, measure, median, rounds
from formats.metrics import entry

ENTRIES = 100_000
MEMORY_GOAL_MB = 400.0
MB = 1e6
PER_FOLDER = 100
# One folder in this many holds a session that says what was played; the others are listed and refused.
PAIRED_EVERY = 20
# What the programs load on their way. A name that is missing here is counted as memory of the run, not of the import.
IMPORTS = {
    "discover": "numpy, msgspec, sqlite3, hashlib, choreo_cli.app, formats.manifest, formats.foreign.registry",
    "pair": "numpy, msgspec, scipy.signal, scipy.fft, scipy.optimize, pyarrow.parquet, soundfile, soxr, choreo_cli.app,"
    " choreo_cli.sessions.pair_job, formats.foreign.registry",
}


def bench(*, entries: int = ENTRIES, sessions: int = 5, minutes: float = 1.0, count: int = 3) -> list[dict[str, Any]]:
    """Metric entries of the two commands.

    Args:
        entries: Recordings in the large tree.
        sessions: Sessions of the synthetic set.
        minutes: Length of each.
        count: Runs over the synthetic set.
    """
    with tempfile.TemporaryDirectory(prefix="choreo-bench-") as folder:
        return [memory(Path(folder), entries), end_to_end(Path(folder), sessions, minutes, count)]


def memory(folder: Path, entries: int) -> dict[str, Any]:
    """Peak megabytes of discover and of pair over a tree of `entries` recordings, above what importing them takes."""
    tree, inventory, out = folder / "tree", folder / "inventory.json", folder / "out"
    make_tree(tree, entries)
    cache = {"XDG_CACHE_HOME": str(folder / "cache")}
    kept: dict[str, Any] = {"variables": cache, "limit_s": 550}
    ok = (0, 1, 3)
    runs: dict[str, Cost] = {
        "discover": measure(choreo("discover", tree, "-o", inventory, "--jobs", 1, "-q", **kept), ok=ok),
        "pair": measure(choreo("pair", inventory, "-o", out, "-q", **kept), ok=ok),
    }
    start = {k: measure(Program([sys.executable, "-c", f"import {IMPORTS[k]}"])).peak_bytes for k in runs}
    above = {k: (runs[k].peak_bytes - start[k]) / MB for k in runs}
    listed = inventory.read_bytes().count(b'\n{"id"')
    return entry(
        "data.memory", round(max(above.values()), 1), "MB", "lower", n=listed, goal=("<=", MEMORY_GOAL_MB),
        params={
            "above_import_mb": {k: round(v, 1) for k, v in above.items()},
            "import_mb": {k: round(v / MB, 1) for k, v in start.items()},
            "cpu_s": {k: round(c.cpu_s, 2) for k, c in runs.items()},
            "wall_s": {k: round(c.wall_s, 2) for k, c in runs.items()},
            "code": {k: c.code for k, c in runs.items()},
            "inventory_bytes": inventory.stat().st_size,
            "pairs": pairs_in(out),
        },
    )  # fmt: skip


def pairs_in(folder: Path) -> int:
    """Entries of a folder's pairs.json; 0 when nothing could be paired."""
    path = folder / "pairs.json"
    return path.read_bytes().count(b'\n{"pair_id"') if path.exists() else 0


def make_tree(tree: Path, entries: int) -> None:
    """Fill a folder with small recordings: music, beats, heart rates and, in every hundred, one session of three files.

    Contents differ from file to file, as on a disk; every file is a few hundred bytes except the music of sessions that
    can be paired (5 s).
    """
    rng = np.random.default_rng(0)
    for f in range(-(-entries // PER_FOLDER)):
        folder = tree / f"f{f:04d}"
        (folder / "take").mkdir(parents=True)
        (folder / "music").mkdir()
        paired = f % PAIRED_EVERY == 0
        _session(folder / "take", f, paired)
        for k in range(min(PER_FOLDER, entries - f * PER_FOLDER) - 3):
            stem = f"piece-{f:04d}-{k:02d}"
            if k % 3 == 0:
                _tone(folder / "music" / f"{stem}.wav", rng, 5.0 if paired and k == 0 else 0.05)
            elif k % 3 == 1:
                beats = np.cumsum(rng.uniform(0.4, 0.6, 12))
                (folder / "music" / f"{stem}.beats.txt").write_text("".join(f"{t:.3f}\n" for t in beats))
            else:
                _heart(folder / f"{stem}.csv", 1_700_000_000 + 100 * f + k)


def _session(folder: Path, f: int, paired: bool) -> None:
    start = 1_700_000_000 + 1000 * f
    track = {"track": {"title": f"piece-{f:04d}-00"}} if paired else {}
    (folder / "metadata.json").write_text(json.dumps({"session": f"take {f}", **track}))
    lines = []
    for k in range(40):
        a = 0.2 * np.sin(0.7 * k + f)
        joints = {
            "head": [0.0, 1.7, a],
            "left_wrist": [0.4, 1.1 + a, 0.1],
            "right_wrist": [-0.4, 1.1, a],
            "neck": [0, 1.5, a],
        }
        lines.append(json.dumps({"timestamp": start + k / 10, "joints": joints}))
    (folder / "poses.jsonl").write_text("\n".join(lines) + "\n")
    _heart(folder / "heart_rate.csv", start)


def _heart(path: Path, start: int) -> None:
    path.write_text("timestamp,hr\n" + "".join(f"{start + k},{80 + (start + k) % 23}\n" for k in range(6)))


def _tone(path: Path, rng: np.random.Generator, seconds: float) -> None:
    noise = rng.integers(96, 160, round(8000 * seconds), dtype=np.uint8)
    with wave.open(str(path), "wb") as f:
        f.setparams((1, 1, 8000, 0, "NONE", ""))
        f.writeframes(noise.tobytes())


def end_to_end(folder: Path, sessions: int, minutes: float, count: int) -> dict[str, Any]:
    """CPU seconds of `discover | pair` on a synthetic set, from files never seen before to a dataset."""
    recordings, inventory = folder / "recordings", folder / "set.json"
    measure(choreo("synth", "sessions", "--sessions", sessions, "--minutes", minutes, "-o", recordings, limit_s=300))
    found: list[tuple[Cost, Cost]] = []
    for k in range(count):
        cache = {"XDG_CACHE_HOME": str(folder / f"fresh{k}")}
        listing = choreo("discover", recordings, "-o", inventory, "-q", variables=cache)
        pairing = choreo("pair", inventory, "-o", folder / f"set{k}", "-q", variables=cache, limit_s=300)
        (first,), (second,) = rounds([listing, pairing], 1)
        found.append((first, second))
    listings, pairings = [a for a, _ in found], [b for _, b in found]
    both = sorted(a.cpu_s + b.cpu_s for a, b in found)[count // 2]
    return entry(
        "data.end_to_end", both, "s", "lower", n=count,
        params={
            "clock": "cpu", "sessions": sessions, "minutes": minutes, "pairs": pairs_in(folder / "set0"),
            "discover_s": round(median(listings), 3), "pair_s": round(median(pairings), 3),
            "wall_s": round(sorted(a.wall_s + b.wall_s for a, b in found)[count // 2], 3),
            "seconds_per_session_minute": round(both / (sessions * minutes), 4),
        },
    )  # fmt: skip
