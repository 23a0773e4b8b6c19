"""Measure the base install: its size on disk, and the time from a clone to a finished `discover | pair`."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterable
from importlib import metadata, util
from pathlib import Path
from typing import Any

from choreo_cli.metrics.process import TOP, Program, choreo, measure
from formats.metrics import entry

SIZE_GOAL_MB = 700.0
TIME_GOAL_S = 60.0
MB = 1e6


def bench(*, install: bool = False) -> list[dict[str, Any]]:
    """Metric entries of the base install.

    Args:
        install: Also make virtual environments with pip and time the way from a clone to a paired dataset.
    """
    found = [size()]
    if install:
        with tempfile.TemporaryDirectory(prefix="choreo-bench-") as folder:
            found.append(clone_to_pair(Path(folder)))
    else:
        why = "makes two virtual environments: choreo bench data --install"
        found.append(entry("data.install_time", None, "s", "lower", goal=("<=", TIME_GOAL_S), why=why))
    return found


def size() -> dict[str, Any]:
    """Megabytes on disk of choreo's base requirements, with all that they require, without extras."""
    name, goal = "data.install_size", ("<=", SIZE_GOAL_MB)
    try:
        parts = {d.metadata["Name"]: disk_bytes(d) for d in closure("choreo")}
    except metadata.PackageNotFoundError as e:
        return entry(name, None, "MB", "lower", goal=goal, why=f"{e.name} is not installed: pip install .")
    sizes = {k: round(v / MB, 1) for k, v in sorted(parts.items(), key=lambda kv: -kv[1])}
    return entry(
        name, round(sum(parts.values()) / MB, 1), "MB", "lower", n=len(parts), goal=goal,
        params={"packages": sizes, "torch": "torch" in {k.lower() for k in parts}, "without": "the interpreter"},
    )  # fmt: skip


def closure(name: str) -> list[metadata.Distribution]:
    """A distribution and everything it requires here, extras left out except where one is asked for by name.

    Raises:
        importlib.metadata.PackageNotFoundError: one of them is not installed.
    """
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    found: dict[str, metadata.Distribution] = {}
    todo = [Requirement(name)]
    asked: set[tuple[str, tuple[str, ...]]] = set()
    while todo:
        need = todo.pop()
        key = (canonicalize_name(need.name), tuple(sorted(need.extras)))
        if key in asked:
            continue
        asked.add(key)
        dist = found.setdefault(key[0], metadata.distribution(need.name))
        for text in dist.requires or ():
            child = Requirement(text)
            if child.marker is None or any(child.marker.evaluate({"extra": e}) for e in ("", *need.extras)):
                todo.append(child)
    return [found[k] for k in sorted(found)]


def disk_bytes(dist: metadata.Distribution) -> int:
    """Blocks that a distribution's files take, with their compiled twins; links to one file count once."""
    taken: dict[tuple[int, int], int] = {}
    for path in _files(dist):
        try:
            stat = os.stat(path)
        except OSError:
            continue  # listed in the record, removed since
        taken[stat.st_dev, stat.st_ino] = stat.st_blocks * 512
    return sum(taken.values())


def _files(dist: metadata.Distribution) -> Iterable[Path]:
    for file in dist.files or ():
        path = Path(str(dist.locate_file(file)))
        yield path
        if path.suffix == ".py":
            yield Path(util.cache_from_source(str(path)))


def clone_to_pair(folder: Path) -> dict[str, Any]:
    """Wall seconds of clone, virtual environment, base install, discover and pair; the package cache is warm."""
    name, goal = "data.install_time", ("<=", TIME_GOAL_S)
    git = shutil.which("git")
    if git is None or not (TOP / ".git").exists():
        return entry(name, None, "s", "lower", goal=goal, why="choreo does not run from a git checkout")
    recordings = folder / "recordings"
    measure(choreo("synth", "sessions", "--sessions", 5, "--minutes", 1, "-o", recordings, limit_s=300))
    times = [_install_and_pair(folder / f"try{k}", git, recordings) for k in range(2)]
    warm = times[1]
    return entry(
        name, round(sum(warm.values()), 2), "s", "lower", n=1, goal=goal,
        params={
            "clock": "wall", "stages_s": {k: round(v, 2) for k, v in warm.items()},
            "first_time_s": round(sum(times[0].values()), 2),
            "installed_mb": round(tree_bytes(folder / "try1" / "venv") / MB, 1),
        },
    )  # fmt: skip


def _install_and_pair(folder: Path, git: str, recordings: Path) -> dict[str, float]:
    """Seconds of each stage. The tree that is cloned is the last commit, as a stranger would get it."""
    folder.mkdir()
    clone, venv = folder / "clone", folder / "venv"
    python, program = str(venv / "bin" / "python"), str(venv / "bin" / "choreo")
    cache = {"XDG_CACHE_HOME": str(folder / "cache")}
    inventory = folder / "inventory.json"
    stages = {
        "clone": Program([git, "clone", "-q", "--depth", "1", f"file://{TOP}", str(clone)], cwd=folder),
        "venv": Program([sys.executable, "-m", "venv", str(venv)], cwd=folder, limit_s=300),
        "install": Program([python, "-m", "pip", "install", "-q", str(clone)], cwd=folder, limit_s=900),
        "discover": Program([program, "discover", str(recordings), "-o", str(inventory)], folder, cache),
        "pair": Program([program, "pair", str(inventory), "-o", str(folder / "out")], folder, cache, limit_s=600),
    }
    return {name: measure(stage).wall_s for name, stage in stages.items()}


def tree_bytes(folder: Path) -> int:
    """Blocks of everything below a folder."""
    paths = (Path(top, name) for top, _, names in os.walk(folder) for name in names)
    taken = {(s.st_dev, s.st_ino): s.st_blocks * 512 for s in (p.lstat() for p in paths)}
    return sum(taken.values())
