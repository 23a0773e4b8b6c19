"""What a whole program costs: CPU, wall time and peak memory of a child process, in interleaved rounds."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from choreo_cli.errors import StorageError

LAUNCHER = Path(__file__).with_name("launcher.py")
TOP = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Program:
    """A command line to be measured.

    Args:
        argv: Program and arguments.
        cwd: Folder it runs in; the one that holds our packages unless told.
        variables: Environment variables set for it, over those of this process.
        stdout: File that receives its output, emptied first; None throws it away.
        stderr: The same for its error output; None keeps its last line for the error that a failure raises.
        limit_s: It is ended after this many seconds.
    """

    argv: Sequence[str]
    cwd: Path = TOP
    variables: Mapping[str, str] | None = None
    stdout: Path | None = None
    stderr: Path | None = None
    limit_s: float = 120.0

    def order(self) -> dict[str, object]:
        """What the launcher needs, as JSON values."""
        return {
            "argv": list(self.argv),
            "cwd": str(self.cwd),
            "variables": dict(self.variables or {}),
            "out": str(self.stdout or os.devnull),
            "err": str(self.stderr or os.devnull),
            "limit_s": self.limit_s,
        }


@dataclass(frozen=True, slots=True)
class Cost:
    """One run of a program. A negative code is the signal that ended it."""

    cpu_s: float
    wall_s: float
    peak_bytes: int
    code: int


def choreo(*words: object, **kept: object) -> Program:
    """The program `choreo WORDS` of this very code, by the interpreter that runs now."""
    return Program([sys.executable, "-m", "choreo_cli", *map(str, words)], **kept)  # type: ignore[arg-type]


def measure(program: Program, *, ok: Sequence[int] = (0,)) -> Cost:
    """One run. Raises StorageError when it ends with a code that is not in `ok`."""
    return rounds([program], 1, ok=ok)[0][0]


def rounds(
    programs: Sequence[Program],
    count: int,
    *,
    warm_up: int = 0,
    ok: Sequence[int] = (0,),
) -> list[list[Cost]]:
    """Run every program in turn, `count` times over, so that each meets the same disturbances.

    Args:
        programs: What to run.
        count: Rounds that are kept.
        warm_up: Rounds before them that are thrown away.
        ok: Exit codes that count as a run.

    Returns:
        For each program its costs, in the order of the rounds.

    Raises:
        StorageError: a program ended with another code.
    """
    with tempfile.TemporaryDirectory(prefix="choreo-bench-") as folder:
        said = [p.stderr or Path(folder) / str(k) for k, p in enumerate(programs)]
        orders = [p.order() | {"err": str(s)} for p, s in zip(programs, said, strict=True)]
        limit = sum(p.limit_s for p in programs) * (count + warm_up) + 60
        answer = _launch({"rounds": count + warm_up, "ok": list(ok), "programs": orders}, limit)
        words = [s.read_text(encoding="utf-8", errors="replace").strip() for s in said if s.exists()]
    unit = 1 if answer["platform"] == "darwin" else 1024  # ru_maxrss: bytes on macOS, KiB elsewhere
    found = [[Cost(r["cpu_s"], r["wall_s"], r["peak"] * unit, r["code"]) for r in runs] for runs in answer["runs"]]
    for k, program in enumerate(programs):
        bad = next((r for r in found[k] if r.code not in ok), None)
        if bad is not None:
            last = words[k].rpartition("\n")[2] if k < len(words) else ""
            raise StorageError(
                f"`{' '.join(program.argv)}` ended with {bad.code}", hint=f"it said: {last}" if last else "run it alone"
            )
    return [runs[warm_up:] for runs in found]


def _launch(order: dict[str, object], limit_s: float) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(LAUNCHER)],
        input=json.dumps(order).encode(),
        capture_output=True,
        timeout=limit_s,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def cpu(cost: Cost) -> float:
    return cost.cpu_s


def wall(cost: Cost) -> float:
    return cost.wall_s


def median(costs: Sequence[Cost], key: Callable[[Cost], float] = cpu) -> float:
    """Middle value; of an even number the mean of the two in the middle."""
    ranked = sorted(map(key, costs))
    half = len(ranked) // 2
    return ranked[half] if len(ranked) % 2 else (ranked[half - 1] + ranked[half]) / 2


def median_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float] | None:
    """Interval of the median from order statistics; None when there are too few values for any.

    The k-th smallest and k-th largest of n enclose the median with probability 1 - 2 P(Binomial(n, 1/2) < k)
    (David and Nagaraja, Order Statistics, 3rd ed., section 7.1); the largest k that keeps `confidence` is taken.
    """
    ranked = sorted(values)
    n, tail, k = len(ranked), 0.0, 0
    while k < n and tail + math.comb(n, k) / 2**n <= (1 - confidence) / 2:
        tail += math.comb(n, k) / 2**n
        k += 1
    return (ranked[k - 1], ranked[n - k]) if k else None
