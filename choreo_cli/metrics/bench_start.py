"""Measure the start of the program: help pages beside a bare typer program, heavy modules, size of the base install."""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from choreo_cli.metrics.process import Program, choreo, cpu, median, median_interval, rounds, wall
from formats.metrics import entry

GOAL_RATIO = 1.3
HEAVY = (
    "torch", "numpy", "librosa", "numba", "scipy", "pyarrow", "polars", "matplotlib", "pydantic", "rich", "pandas",
    "soundfile", "soxr", "mido", "av", "yaml",
)  # fmt: skip
# Two commands and no extras: what any typer program pays. Rich is off on both sides, which favours the baseline.
BARE = '''\
import typer

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def one(name: str = "x", count: int = typer.Option(1, help="How many.")) -> None:
    """Do one thing."""


@app.command()
def two(path: str = typer.Argument("."), quiet: bool = False) -> None:
    """Do another."""


app()
'''
_IMPORT = re.compile(r"^import time:\s+\d+ \|\s+\d+ \| +([\w.]+)\s*$", re.M)


def bench(*, lines: Sequence[Sequence[str]], count: int = 15) -> list[dict[str, Any]]:
    """Metric entries of the start of the program.

    Args:
        lines: Command lines whose help is measured: `[]` is `choreo --help`, `["synth", "sessions"]` a subcommand's.
        count: Rounds.
    """
    with tempfile.TemporaryDirectory(prefix="choreo-bench-") as folder:
        return [*help_pages(Path(folder), lines, count), heavy_modules(Path(folder), lines)]


def help_pages(folder: Path, lines: Sequence[Sequence[str]], count: int) -> list[dict[str, Any]]:
    """CPU seconds of every help page; the first entry is the slowest one's."""
    bare = folder / "bare.py"
    bare.write_text(BARE, encoding="utf-8")
    programs = [
        Program([sys.executable, "-c", "pass"]),
        Program([sys.executable, str(bare), "--help"]),
        *(choreo(*line, "--help") for line in lines),
    ]
    nothing, typer, *ours = rounds(programs, count, warm_up=1)
    base, floor = ("bare two-command typer program", median(typer)), ("python -c pass", median(nothing))
    found = []
    for line, costs in zip(lines, ours, strict=True):
        found.append(
            entry(
                ".".join(["data.start_help", *(line or ["choreo"])]), median(costs), "s", "lower", n=count,
                ci=median_interval([c.cpu_s for c in costs]), baseline=base, floor=floor,
                goal=("<=", GOAL_RATIO * base[1]),
                params={
                    "clock": "cpu", "goal_ratio": GOAL_RATIO, "times_baseline": round(median(costs) / base[1], 3),
                    "wall_s": round(median(costs, wall), 4), "least_s": round(min(map(cpu, costs)), 4),
                },
            )
        )  # fmt: skip
    worst = max(found, key=lambda e: e["value"])
    params = {**worst["params"], "slowest": worst["name"].removeprefix("data.start_help."), "pages": len(found)}
    return [{**worst, "name": "data.start_help", "params": params}, *found]


def heavy_modules(folder: Path, lines: Sequence[Sequence[str]]) -> dict[str, Any]:
    """How many heavy packages the help pages load, all of them together."""
    seen: dict[str, list[str]] = {}
    most = 0
    told = [folder / f"imports-{k}.txt" for k in range(len(lines))]
    pages = [choreo(*line, "--help").argv for line in lines]
    rounds([Program([p[0], "-X", "importtime", *p[1:]], stderr=to) for p, to in zip(pages, told, strict=True)], 1)
    for line, to in zip(lines, told, strict=True):
        loaded = imported(to.read_text(encoding="utf-8"))
        most = max(most, len(loaded))
        for name in sorted({m.split(".")[0] for m in loaded} & set(HEAVY)):
            seen.setdefault(name, []).append(" ".join(["choreo", *line]))
    return entry(
        "data.start_modules", len(seen), "packages", "lower", n=len(lines), goal=("<=", 0),
        params={"watched": list(HEAVY), "found": seen, "most_modules": most},
    )  # fmt: skip


def imported(told: str) -> set[str]:
    """Module names in the report of `python -X importtime`."""
    return set(_IMPORT.findall(told))
