"""Measure discover: walking, a first run over many small files, and a second one, beside what each could cost."""

from __future__ import annotations

import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from choreo_cli.metrics.process import Cost, Program, choreo, median, rounds, wall
from choreo_cli.sessions.cache import FRESH_NS
from formats.metrics import entry

FILES = 100_000
AGAIN = 10_000
PER_FOLDER = 100
TIMES = 2.0  # the goal: at most so many times the bare loop
AGAIN_S = 0.2
# Python programs a person would write in a minute: what walking, and walking and hashing, cost by themselves.
WALK = """
import os, sys
todo = [sys.argv[1]]
while todo:
    with os.scandir(todo.pop()) as entries:
        for e in entries:
            if e.is_dir(follow_symlinks=False):
                todo.append(e.path)
            else:
                e.stat(follow_symlinks=False)
"""
BARE = (
    "import hashlib"
    + WALK
    + """\
                with open(e.path, "rb") as f:
                    hashlib.sha256(f.read()).hexdigest()
"""
)
FLOOR = (
    "import hashlib"
    + WALK.replace("                e.stat(", "                s = e.stat(")
    + """\
                fd = os.open(e.path, os.O_RDONLY)
                hashlib.sha256(os.read(fd, s.st_size + 1)).hexdigest()
                os.close(fd)
"""
)
OURS = """
import sys
from pathlib import Path
from choreo_cli.sessions.scan import walk
if len(sys.argv) > 1:
    walk({"r0": Path(sys.argv[1])})
"""


def bench(*, files: int = FILES, again: int = AGAIN, count: int = 3, seed: int = 0) -> list[dict[str, Any]]:
    """Metric entries of discover.

    Args:
        files: Small files of the large tree.
        again: Files of the tree that is listed twice.
        count: Rounds; the median counts.
        seed: Seed of the made-up content.
    """
    with tempfile.TemporaryDirectory(prefix="choreo-bench-") as name:
        folder = Path(name)
        large, small = folder / "large", folder / "small"
        make_tree(large, files, seed)
        make_tree(small, again, seed + 1)
        return [
            walking(large, files, count),
            first_run(folder, large, files, count),
            second_run(folder, small, again, count),
        ]


def make_tree(top: Path, files: int, seed: int) -> None:
    """What lies around recordings: of ten files seven notes, two thumbnails and one JSON of another program."""
    rng = random.Random(seed)
    for k in range(files):
        folder = top / f"day-{k // PER_FOLDER:04d}"
        if k % PER_FOLDER == 0:
            folder.mkdir(parents=True)
        if k % 10 < 7:
            name, data = f"note-{k:06d}.txt", f"take {k} of the rehearsal\n".encode() * rng.randint(2, 40)
        elif k % 10 < 9:
            name, data = f"thumb-{k:06d}.jpg", b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + rng.randbytes(900)
        else:
            values = ", ".join(str(rng.random()) for _ in range(12))
            name, data = f"state-{k:06d}.json", f'{{"id": {k}, "label": "x", "values": [{values}]}}\n'.encode()
        (folder / name).write_bytes(data)


def walking(tree: Path, files: int, count: int) -> dict[str, Any]:
    """CPU seconds of the walk alone against scandir and stat."""
    ours, start, bare = rounds(
        [_ours(tree), _ours(None), Program([sys.executable, "-I", "-S", "-c", WALK, str(tree)])], count, warm_up=1
    )
    value, base = median(ours) - median(start), median(bare)
    return entry(
        "data.discover_walk", round(value, 4), "s", "lower", n=files, baseline=("scandir + stat", round(base, 4)),
        floor=("scandir + stat", round(base, 4)), goal=("<=", round(TIMES * base, 4)),
        params={"times_baseline": round(value / base, 2), "clock": "CPU"},
    )  # fmt: skip


def _ours(tree: Path | None) -> Program:
    return Program([sys.executable, "-c", OURS, *([str(tree)] if tree else [])])


def first_run(folder: Path, tree: Path, files: int, count: int) -> dict[str, Any]:
    """Wall seconds of the whole program on files it never saw, cache and inventory written, against a bare loop."""
    bare = Program([sys.executable, "-I", "-S", "-c", BARE, str(tree)])
    floor = Program([sys.executable, "-I", "-S", "-c", FLOOR, str(tree)])
    runs: list[list[Cost]] = [[], [], [], []]
    for k in range(count + 1):
        caches = [folder / f"cache-{k}-{j}" for j in (0, 1)]
        programs = [
            choreo(
                "discover", tree, "-q", "-o", folder / "i.json", "--jobs", jobs, variables={"XDG_CACHE_HOME": str(c)}
            )
            for jobs, c in zip((1, 0), caches, strict=True)
        ]
        found = rounds([*programs, bare, floor], 1)
        for kept, cost in zip(runs, found, strict=True):
            kept += cost if k else []  # the first round warms the disk's cache
        for c in caches:
            shutil.rmtree(c, ignore_errors=True)
    alone, spread, base, least = runs
    params = {
        "cpu_s_one_process": round(median(alone), 3), "bare_cpu_s": round(median(base), 3),
        "wall_s_one_process": round(median(alone, wall), 3), "peak_mb": round(alone[-1].peak_bytes / 1e6, 1),
        "cores": os.cpu_count(),
    }  # fmt: skip
    value, bare_s = median(spread, wall), median(base, wall)
    return entry(
        "data.discover_first", round(value, 3), "s", "lower", n=files,
        baseline=("scandir + stat + open + read + sha256", round(bare_s, 3)),
        floor=("the same with os.open and os.read", round(median(least, wall), 3)),
        goal=("<=", round(TIMES * bare_s, 3)), params={**params, "times_baseline": round(value / bare_s, 2)},
    )  # fmt: skip


def second_run(folder: Path, tree: Path, files: int, count: int) -> dict[str, Any]:
    """Wall seconds of listing an unchanged tree again, beyond listing an empty folder, beside `git status`."""
    empty = folder / "empty"
    empty.mkdir()
    kept: dict[str, Any] = {"variables": {"XDG_CACHE_HOME": str(folder / "cache")}}
    time.sleep(FRESH_NS / 1e9 + 0.1)  # files younger than this are never trusted
    again = choreo("discover", tree, "-q", "-o", folder / "again.json", **kept)
    start = choreo("discover", empty, "-q", "-o", folder / "none.json", **kept)
    programs = [again, start]
    git = shutil.which("git")
    if git is not None:
        for words in (["init", "-q"], ["add", "-A"]):
            rounds([Program([git, *words], cwd=tree, limit_s=300)], 1)
        programs.append(Program([git, "status", "--porcelain"], cwd=tree, variables={"GIT_OPTIONAL_LOCKS": "0"}))
    runs = rounds(programs, max(3, 2 * count + 1), warm_up=2)
    value = median(runs[0], wall) - median(runs[1], wall)
    status = None if git is None else ("git status", round(median(runs[2], wall), 4))
    return entry(
        "data.discover_again", round(value, 4), "s", "lower", n=files, baseline=status, goal=("<=", AGAIN_S),
        params={
            "wall_s": round(median(runs[0], wall), 4), "start_s": round(median(runs[1], wall), 4),
            "cpu_s_beyond_start": round(median(runs[0]) - median(runs[1]), 4),
        },
    )  # fmt: skip
