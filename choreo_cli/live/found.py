"""Where the two models of a performance lie, from whatever folder was named."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from choreo_cli.errors import DataError, NoInputError
from choreo_cli.reflex.from_run import parent_folder
from formats.checkpoint import CARD, read_card


def find_models(folder: Path, roots: Mapping[str, str] | None = None) -> tuple[Path, Path]:
    """The folders of M1 and M3.

    Args:
        folder: A run of `train mapper` (its `run.json` names M1), a summary over seeds (the first is taken), or a
            folder with `rps/` and `mapper/` beside each other, as in examples/checkpoints.
        roots: `--root` overrides.

    Raises:
        NoInputError: no checkpoint there, or M1 is not where the run says.
        DataError: a checkpoint of another recipe.
    """
    for name in ("", "seed-0"):
        mapper = folder / name
        if (mapper / CARD).is_file():
            recipe = read_card(mapper).get("recipe")
            if recipe != "mapper":
                raise DataError(f"{mapper} is a checkpoint of {recipe}, need mapper", hint="name a run of train mapper")
            return parent_folder(mapper, roots)[0], mapper
    rps, mapper = folder / "rps", folder / "mapper"
    if (rps / CARD).is_file() and (mapper / CARD).is_file():
        return rps, mapper
    raise NoInputError(f"no mapper in {folder}", hint="name a run of train mapper, or a folder with rps/ and mapper/")
