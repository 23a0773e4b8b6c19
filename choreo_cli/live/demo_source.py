"""The demonstration: a bundled session and the bundled models, from a checkout as from an installed wheel."""

from __future__ import annotations

import sysconfig
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from choreo_cli.errors import NoInputError
from choreo_cli.live.replay import Replay, frames

FRAMES = "demo_frames.parquet"
SHARE = "share/choreo"
"""Where a wheel puts its part of `examples/`: under the environment, or beside the package with `--target`."""


def examples() -> Path:
    """The folder that holds `checkpoints/` and `live/`: `examples/` of a checkout, else the one a wheel brought.

    Raises:
        NoInputError: neither is there.
    """
    top = Path(__file__).resolve().parents[2]
    tried = [top / "examples", top / SHARE, *_installed()]
    for folder in tried:
        if (folder / "checkpoints" / "mapper" / "model.json").is_file() and (folder / "live" / FRAMES).is_file():
            return folder
    hint = "name --checkpoint and --source, or install choreo again"
    raise NoInputError("the demonstration is not installed", hint=hint)


def _installed() -> list[Path]:
    """Where this distribution's own files lie; a user install or a target folder is not where sysconfig says."""
    found = []
    try:
        listed = files("choreo") or []
    except PackageNotFoundError:
        listed = []
    for file in listed:
        if file.name == FRAMES:
            found.append(Path(str(file.locate())).resolve().parent.parent)
    return [*found, Path(sysconfig.get_path("data")) / SHARE]


def checkpoints() -> tuple[Path, Path]:
    """Folders of the bundled M1 and M3. Raises NoInputError."""
    folder = examples() / "checkpoints"
    return folder / "rps", folder / "mapper"


def demo_frames(*, repeats: int = 1) -> Replay:
    """The bundled session as a source. Raises NoInputError."""
    return frames(examples() / "live" / FRAMES, repeats=repeats, name="demo")


def demo(*, repeats: int = 1) -> tuple[Path, Path, Replay]:
    """M1's folder, M3's folder and the source that `run-live` plays without arguments. Raises NoInputError."""
    rps, mapper = checkpoints()
    return rps, mapper, demo_frames(repeats=repeats)
