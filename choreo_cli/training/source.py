"""What a named input of a training is: a manifest to read, or something that the recipe opens by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from choreo_cli.errors import DataError, NoInputError
from formats.manifest import Manifest, resolve_roots

# Files that are opened without a manifest: a pack, a frames Parquet, preferences.
PLAIN = ("pack.json", "frames.parquet", "preferences.parquet")
STATUS = "status.json"
OTHERS = ("choreo.pairs", "choreo.sessions", "choreo.run", "choreo.inventory", "choreo.metrics", "choreo.trajectories")


def manifest_of(source: Path, reads: Sequence[str]) -> Path | None:
    """The manifest that a named input is or holds, None when it is opened without one.

    Args:
        source: A file or a folder.
        reads: Kinds of manifest that the recipe reads, the usual one first.

    Raises:
        NoInputError: nothing is there, or a run that has not ended.
        DataError: a run that has ended, where the recipe learns from something else.
    """
    if not source.exists():
        raise NoInputError(f"no file or folder {source}", hint=f"need {' or '.join(f'{kind}/1' for kind in reads)}")
    if not source.is_dir():
        return None if source.suffix == ".parquet" or source.name in PLAIN else source
    held = [source / f"{kind.partition('.')[2]}.json" for kind in (*reads, *OTHERS)]
    own, others = held[: len(reads)], held[len(reads) :]
    for file in own:
        if file.is_file():
            return file
    if any((source / name).is_file() for name in PLAIN):
        return None
    run = (source / STATUS).is_file()
    if run and (source / "run.json").is_file():
        wanted = " or ".join(kind.partition(".")[2] for kind in reads)
        raise DataError(f"{source} is a trained run, no {wanted}", hint=f"name the {wanted} to learn from")
    if run:
        raise NoInputError(
            f"the training in {source} is not finished", hint="give its own command again: it goes on from there"
        )
    return next((file for file in others if file.is_file()), None)


def root_of(manifest: Manifest, name: str, overrides: Mapping[str, str]) -> Path:
    """Where a root that a run's manifest names lies now; an override may also name one that the manifest lacks.

    Raises:
        NoInputError: neither says.
    """
    known = {r.id for r in manifest.roots}
    if name in overrides:
        return Path(overrides[name])
    if name in known:
        return resolve_roots(manifest, {k: v for k, v in overrides.items() if k in known})[name]
    raise NoInputError(f"the run does not say where its root {name} lies", hint=f"give --root {name}=DIR")


def stands_alone(module: Any, config: Any, options: Mapping[str, Any]) -> bool:
    """Whether a recipe needs no input: it makes its own material, or an option names it. Most recipes never do.

    Args:
        module: The lane's module; `needs_no_input(config, options)` is there if it may stand alone.
        config: Resolved configuration.
        options: Recipe options by name.
    """
    alone = getattr(module, "needs_no_input", None)
    return alone is not None and bool(alone(config, options))
