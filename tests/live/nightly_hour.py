"""An hour of `choreo run-live` in real time, judged by what it recorded: `python -m tests.live.nightly_hour FOLDER`.

Beside it, in a process of its own, runs a bare deadline loop with the same period. The two meet the same machine: what
the bare loop misses, nobody could have kept.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.live.bench_loop import PERIOD_NS, beside, drift_ms
from choreo_cli.live.bench_memory import RSS_GOAL, long_frames, sink
from choreo_cli.report.diagnosis import LATE, diagnose
from formats import event_log
from formats.columns import LEDGER, SENT
from formats.control_map import DEFAULT
from formats.packets import CONTROLS
from formats.tables import read_table

TOP = Path(__file__).resolve().parents[2]
TICKS_A_MINUTE = 60_000_000_000 // PERIOD_NS
FIRST_NS = 3_000_000_000
SETTLE_S = 30.0
"""Left out of the growth of memory: what an interpreter takes in its first seconds is its own."""
GROWTH, CALM_MS, OUT_MS, RATIO = 2e6, 1.0, 5.0, 1.5
ROUNDING = 2e-6


@dataclass(frozen=True, slots=True)
class Row:
    """One figure: what, how much, and whether that is enough."""

    name: str
    value: Any
    goal: str
    ok: bool


def play(folder: Path, minutes: float) -> None:
    """Play and record into `folder/recorded`, look at the process once a second, keep the bare loop's times."""
    folder.mkdir(parents=True)
    frames = long_frames(folder / "frames.parquet", minutes + 0.2)
    count = round(minutes * TICKS_A_MINUTE)
    with (
        sink() as port,
        beside(f"keep_time({port}, {PERIOD_NS}, {count})", subprocess.PIPE) as bare,
        (folder / "said.txt").open("wb") as said,
        (folder / "looks.jsonl").open("w", encoding="utf-8") as looks,
    ):
        assert bare.stdin is not None and bare.stdout is not None
        words = [
            "run-live", "--source", frames, "--for", 60 * minutes, "--out", f"osc:127.0.0.1:{port}", "--out", "ws:0",
            "-q", "-o", folder / "recorded", "--events", folder / "events.jsonl", "--log-json", folder / "progress.jsonl",
        ]  # fmt: skip
        argv = [sys.executable, "-m", "choreo_cli", *map(str, words)]
        start = time.monotonic()
        with subprocess.Popen(argv, cwd=TOP, stdin=subprocess.DEVNULL, stdout=said, stderr=said) as process:
            bare.stdin.write(f"{time.monotonic_ns() + FIRST_NS}\n")
            bare.stdin.flush()
            while process.poll() is None:
                look = _look(process.pid)
                if look:
                    looks.write(json.dumps({"at": time.monotonic() - start, **look}) + "\n")
                time.sleep(1.0)
        (folder / "bare.json").write_text(bare.stdout.readline() or "[]", encoding="utf-8")
        (folder / "rc").write_text(str(process.returncode), encoding="utf-8")


def _look(pid: int) -> dict[str, int]:
    """Memory, most memory so far, threads and descriptors of a process; nothing when it is gone."""
    home = Path(f"/proc/{pid}")
    try:
        status = dict(line.split(":", 1) for line in (home / "status").read_text().splitlines())
        kilo = {k: 1024 * int(status[v].split()[0]) for k, v in (("rss", "VmRSS"), ("hwm", "VmHWM"))}
        return kilo | {"threads": int(status["Threads"]), "files": len(list((home / "fd").iterdir()))}
    except (OSError, KeyError):
        return {}


def judge(folder: Path, minutes: float) -> list[Row]:
    """Every figure of a performance that `play` kept."""
    sessions = json.loads((folder / "recorded" / "sessions.json").read_text(encoding="utf-8"))["entries"]
    home = folder / "recorded" / sessions[-1]["path"]
    bare = np.array(json.loads((folder / "bare.json").read_text(encoding="utf-8")), np.int64).reshape(-1, 3)
    table = read_table(home / "ledger.parquet", LEDGER)
    ledger = {n: table.column(n).to_numpy() for n in ("t_us", "t_frame_ns", "missed", "late_ns")}
    found = [Row("exit", int((folder / "rc").read_text()), "0", (folder / "rc").read_text() == "0")]
    found += _cadence(ledger, table, bare, minutes)
    found += _values(home, ledger)
    found += _process(folder)
    faults = [f for f in diagnose(event_log.read(home / "events.jsonl")) if f.fault != LATE]
    found.append(Row("faults in the log", "; ".join(f.sentence() for f in faults) or "none", "none", not faults))
    return found


def _cadence(ledger: dict[str, NDArray[Any]], table: Any, bare: NDArray[np.int64], minutes: float) -> Iterable[Row]:
    late, theirs = (ledger["late_ns"] + PERIOD_NS * ledger["missed"]) / 1e6, (bare[:, 1] - bare[:, 0]) / 1e6
    missed, skipped = int(ledger["missed"].sum()), int((theirs > PERIOD_NS / 1e6).sum())
    wanted = round(minutes * TICKS_A_MINUTE)
    yield Row("frames", len(late), f"{wanted} and those missed", abs(len(late) + missed - wanted) <= 2)
    yield Row("missed", missed, f"<= {skipped} of the bare loop", missed <= skipped)
    # When a tick was due is its wake less its lateness: against the grid of session time that may not wander.
    due = ledger["t_frame_ns"] - ledger["late_ns"]
    start = int((due - 1000 * ledger["t_us"]).min())
    drift = drift_ms(due, due, start)
    yield Row("drift, ms", drift, "0 to 0.1 ms", drift <= 0.1)
    ours, floor = float(np.percentile(late, 99)), float(np.percentile(theirs, 99))
    yield Row("lateness p99, ms", round(ours, 3), f"<= {RATIO} x {floor:.3f} of the bare loop", ours <= RATIO * floor)
    sent, came = (table.column(n).to_numpy(zero_copy_only=False) for n in ("t_sent_ns", "t_arrival_ns"))
    took = (sent - came) / 1e6
    took = took[np.isfinite(took)]
    goal = OUT_MS if floor <= CALM_MS else RATIO * (floor + 1)
    p99 = float(np.percentile(took, 99))
    spread = ", ".join(f"{np.percentile(took, q):.2f}" for q in (50, 95, 100))
    yield Row("arrival to sent p99, ms", round(p99, 3), f"<= {goal:.2f}; p50, p95, max: {spread}", p99 <= goal)


def _values(home: Path, ledger: dict[str, NDArray[Any]]) -> Iterable[Row]:
    table = read_table(home / "sent.parquet", SENT)
    values = np.stack([table.column(n).to_numpy() for n in CONTROLS], axis=1).astype(np.float64)
    lo, hi = (np.array([getattr(c, k) for c in DEFAULT.controls]) for k in ("min", "max"))
    outside = int((~((values >= lo - ROUNDING) & (values <= hi + ROUNDING))).sum())
    yield Row("values out of range", outside, "0", outside == 0)
    passed = np.diff(ledger["t_us"] * 1000 + ledger["late_ns"]) / 1e9
    rate = np.array([c.rate_per_s for c in DEFAULT.controls])
    fast = int((np.abs(np.diff(values, axis=0)) > rate * passed[:, None] + ROUNDING).sum())
    yield Row("steps too fast", fast, "0", fast == 0)


def _process(folder: Path) -> Iterable[Row]:
    looks = [json.loads(line) for line in (folder / "looks.jsonl").read_text(encoding="utf-8").splitlines()]
    steady = [x for x in looks if SETTLE_S <= x["at"] <= looks[-1]["at"] - 5] or looks
    rss = [x["rss"] for x in steady]
    quarter = max(1, len(rss) // 4)
    grown = max(0, max(rss[-quarter:]) - max(rss[:quarter]))
    yield Row("memory growth, bytes", grown, f"< {GROWTH:.0f}", grown < GROWTH)
    playing, most = max(rss), max(x["hwm"] for x in looks)
    yield Row(
        "memory, MB", round(most / 1e6, 1), f"< {RSS_GOAL / 1e6:.0f}; playing {playing / 1e6:.1f}", most < RSS_GOAL
    )
    for name in ("files", "threads"):
        kinds = sorted({x[name] for x in steady})
        yield Row(name, "-".join(map(str, kinds)), "constant", len(kinds) == 1)


def main() -> int:
    """Play, judge, write `FOLDER/figures.json`, print; 1 when a figure falls short."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("folder", type=Path)
    words.add_argument("--minutes", type=float, default=60.0)
    words.add_argument("--judge", action="store_true", help="a performance that was played already")
    asked = words.parse_args()
    if not asked.judge:
        play(asked.folder, asked.minutes)
    rows = judge(asked.folder, asked.minutes)
    document = {"minutes": asked.minutes, "rows": [{k: getattr(r, k) for k in Row.__slots__} for r in rows]}
    (asked.folder / "figures.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    for row in rows:
        print(f"{'ok   ' if row.ok else 'SHORT'} {row.name:<24} {row.value!s:<12} {row.goal}")
    return int(not all(r.ok for r in rows))


if __name__ == "__main__":
    sys.exit(main())
