"""A small trajectory set on disk, written and read back by the functions that the commands call."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from choreo_cli.outputs import OutputFolder
from choreo_cli.runtime import provenance
from choreo_cli.trajectory import sets
from formats import manifest

SEED = 11


def make_set(folder: Path, *, num: int = 20, test: int = 40, grid: int = 4, seed: int = SEED) -> sets.TrajectorySet:
    """Write a set into a folder that is made, and open it."""
    folder.mkdir(parents=True, exist_ok=True)
    asked = sets.SetOptions(num=num, test=test, grid=grid, seed=seed)
    out = OutputFolder(folder, "trajectories", provenance("synth trajectories", asdict(asked), [], seed=seed))
    made = sets.write_set(asked, folder, {})
    for name, sha in made.files.items():
        out.add("table", name, sha)
    out.finish(made.entries, 0, [])
    file = sets.set_file(folder)
    return sets.open_set(manifest.decode(file.read_bytes(), file=file))
