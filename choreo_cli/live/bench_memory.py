"""Measure memory, descriptors and threads of `choreo run-live` from outside, over half an hour of frames at 100x."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from choreo_cli.errors import StorageError
from choreo_cli.live.demo_source import examples
from formats.metrics import Named, entry

MINUTES, SPEED = 30.0, 100.0
RSS_GOAL, GROWTH_GOAL = 150e6, 2e6
STEP_US = 20_000
LOOK_S = 0.05
SETTLE_S, LEAVE_S = 0.5, 0.3
"""Left out: after the first tick, and before the process has ended."""
NO_PROC = "needs Linux: /proc"
NAMES = ("rss", "growth", "files", "threads")


@dataclass(slots=True)
class Looks:
    """What was seen of a process.

    Args:
        at: Seconds since it was started.
        rss: Bytes in memory.
        descriptors: Open files and sockets.
        threads: Threads.
        stop: The event it ended with: ticks, missed.
        begun: Seconds after which its loop was running.
        ended: Seconds after which it had ended.
    """

    at: list[float] = field(default_factory=list)
    rss: list[float] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)
    stop: dict[str, Any] = field(default_factory=dict)
    begun: float = 0.0
    ended: float = float("inf")

    def steady(self, values: list[Any]) -> list[Any]:
        """Those while it was playing, without its start, its end, and the writing of tables after it."""
        return [v for v, at in zip(values, self.at, strict=True) if self.begun + SETTLE_S < at < self.ended - LEAVE_S]


def bench(*, minutes: float = MINUTES, beside: bool = True) -> list[dict[str, Any]]:
    """Metric entries of the memory of a performance.

    Args:
        minutes: Minutes of frames, played at 100x.
        beside: Also measure the bundled session, and a process that has imported torch, which take seconds.
    """
    if not Path("/proc/self/status").exists():
        return [entry(f"live.{name}", None, "B", "lower", why=NO_PROC) for name in NAMES]
    with tempfile.TemporaryDirectory(prefix="choreo-bench-") as name, sink() as port:
        folder = Path(name)
        frames = long_frames(folder / "frames.parquet", minutes)
        whole = watched(folder, ["--source", str(frames), "--speed", f"{SPEED:g}", "--out", f"osc:127.0.0.1:{port}"])
        demo = watched(folder, ["--speed", "50", "--out", f"osc:127.0.0.1:{port}"]) if beside else None
    return rows(whole, demo, minutes, imported("numpy", *(["torch"] if beside else [])))


def long_frames(file: Path, minutes: float) -> Path:
    """The bundled session end to end, with times that go on."""
    from choreo_cli.dataset.frameset import read_frames
    from formats.columns import FRAMES, INPUTS, MASKS
    from formats.tables import write_table

    found = read_frames(examples() / "live" / "demo_frames.parquet")
    n = round(minutes * 60e6 / STEP_US)
    index = np.arange(n) % len(found.x)
    x, mask = np.asarray(found.x)[index], np.asarray(found.mask)[index]
    columns: dict[str, Any] = {
        "session_id": ["long"] * n, "t_us": STEP_US * np.arange(n, dtype=np.int64),
        "beat_idx": np.cumsum(np.diff(x[:, -1], prepend=x[0, -1]) < 0).astype(np.int32), "synthetic": np.ones(n, bool),
        **{c.name: x[:, k] for k, c in enumerate(INPUTS)}, **{m: mask[:, k] for k, m in enumerate(MASKS)},
    }  # fmt: skip
    write_table(file, FRAMES, columns)
    return file


@contextlib.contextmanager
def sink() -> Iterator[int]:
    """A UDP port of this machine that is bound and never read: what is too much for it is dropped by the system."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind(("127.0.0.1", 0))
        yield int(bound.getsockname()[1])


def watched(folder: Path, words: list[str]) -> Looks:
    """`choreo run-live WORDS`, recorded, looked at from outside. Raises StorageError when it fails."""
    kept, log = folder / f"recorded-{len(list(folder.iterdir()))}", folder / "events.jsonl"
    log.unlink(missing_ok=True)
    argv = [sys.executable, "-m", "choreo_cli", "run-live", *words, "-q", "-o", str(kept), "--events", str(log)]
    looks = Looks()
    start = time.monotonic()
    top = Path(__file__).resolve().parents[2]
    with subprocess.Popen(argv, cwd=top, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            look(looks, process.pid, time.monotonic() - start)
            told = _newest(log)
            if told and not looks.begun:
                looks.begun = time.monotonic() - start
            if b'"stop"' in told:
                looks.ended = min(looks.ended, time.monotonic() - start)
            time.sleep(LOOK_S)
        said = process.stderr.read().strip() if process.stderr else ""
    if process.returncode:
        raise StorageError(f"choreo run-live ended with {process.returncode}", hint=f"it said: {said[-200:]}")
    for line in log.read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        if event.get("kind") == "stop":
            looks.stop = event
    return looks


def _newest(log: Path) -> bytes:
    """The end of the log of events; nothing before the first one, which is that the loop begins."""
    try:
        with open(log, "rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - 400))
            found = file.read()
    except OSError:
        return b""
    return found if b'"kind"' in found else b""


def look(looks: Looks, pid: int, at: float) -> None:
    """One look; nothing when the process is gone."""
    home = Path(f"/proc/{pid}")
    try:
        status = dict(line.split(":", 1) for line in (home / "status").read_text().splitlines() if ":" in line)
        files = len(list((home / "fd").iterdir()))
    except OSError:
        return
    if "VmRSS" not in status:
        return
    looks.at.append(at)
    looks.rss.append(1024.0 * int(status["VmRSS"].split()[0]))
    looks.threads.append(int(status["Threads"]))
    looks.descriptors.append(files)


def imported(*names: str) -> dict[str, float]:
    """Bytes in memory after an import in a process of its own; a package that is not installed is left out."""
    found = {}
    for name in names:
        code = f"import {name}; print(open('/proc/self/status').read())"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        line = next((row for row in done.stdout.splitlines() if row.startswith("VmRSS:")), None)
        if line is not None:
            found[name] = 1024.0 * int(line.split()[1])
    return found


def growth(looks: Looks) -> float:
    """Most memory of the last quarter of the performance beyond that of the first."""
    rss = looks.steady(looks.rss)
    quarter = max(1, len(rss) // 4)
    grown: float = max(rss[-quarter:]) - max(rss[:quarter])
    return max(0.0, grown)


def spread_of(values: list[int]) -> int:
    """Largest less least."""
    return max(values) - min(values)


def rows(whole: Looks, demo: Looks | None, minutes: float, imports: dict[str, float]) -> list[dict[str, Any]]:
    """Entries of a long performance and of the one without arguments."""
    params = {
        "minutes": minutes, "speed": SPEED, "ticks": whole.stop.get("ticks"), "missed": whole.stop.get("missed"),
        "playing": round(max(whole.steady(whole.rss), default=0)), "looks": len(whole.at), "recorded": True,
    }  # fmt: skip
    n = len(whole.steady(whole.rss))
    if not n:
        return [entry(f"live.{name}", None, "B", "lower", params=params, why="it was too short") for name in NAMES]
    base: Named | None = ("import torch", imports["torch"]) if "torch" in imports else None
    floor: Named | None = ("import numpy", imports["numpy"]) if "numpy" in imports else None
    descriptors, threads = whole.steady(whole.descriptors), whole.steady(whole.threads)
    without = params if demo is None else {**params, "demo_session": round(max(demo.rss))}
    return [
        entry("live.rss", max(whole.rss), "B", "lower", n=n, baseline=base, floor=floor,
              goal=("<=", RSS_GOAL), params=without),
        entry("live.growth", growth(whole), "B", "lower", n=n, floor=("none", 0),
              goal=("<=", GROWTH_GOAL), params=params),
        entry("live.files", spread_of(descriptors), "files", "lower", n=n, floor=("none", 0),
              goal=("<=", 0), params={"least": min(descriptors), "most": max(descriptors)}),
        entry("live.threads", spread_of(threads), "threads", "lower", n=n, floor=("none", 0),
              goal=("<=", 0), params={"least": min(threads), "most": max(threads)}),
    ]  # fmt: skip
