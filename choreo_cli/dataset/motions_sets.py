"""Several sets of motions as one: a folder whose subfolders are sets, each a manifest or a pack of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from choreo_cli.dataset import motions_read as reading
from choreo_cli.dataset.motions_pack import PAIRS, is_pack, of_pack
from choreo_cli.dataset.pack import PACK_FILE

MANIFEST = "motions.json"


def sets_under(folder: Path) -> list[Path]:
    """Subfolders that are sets, by name; empty when the folder itself is one, or holds motion files alone."""
    if any((folder / name).is_file() for name in (MANIFEST, PACK_FILE, PAIRS)):
        return []
    inside = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    return [p for p in inside if (p / MANIFEST).is_file() or is_pack(p)]


def of_sets(
    folders: list[Path], roots: Mapping[str, str]
) -> tuple[list[reading.Listed], list[dict[str, Any]]]:  # fmt: skip
    """The clips of all sets with their set's name before theirs, and the provenance of each set.

    Groups of two sets are never one, songs and performers may be: who dances in two sets is kept on one side. A root
    that several sets name is overridden for all of them.

    Raises:
        formats.errors.FormatError, NoInputError, DataError: what a set raises.
    """
    found: list[reading.Listed] = []
    inputs: list[dict[str, Any]] = []
    for folder in folders:
        listed, told = _of_set(folder, roots)
        inputs.append(told)
        found += [
            replace(i, name=f"{folder.name}/{i.name}", told={**i.told, "group": f"{folder.name}/{i.told['group']}"})
            for i in listed
        ]
    return found, inputs


def _of_set(folder: Path, roots: Mapping[str, str]) -> tuple[list[reading.Listed], dict[str, Any]]:
    from formats.manifest import decode

    file = folder / MANIFEST
    if not file.is_file():
        listed, _, sha = of_pack(folder, roots)
        return listed, {"role": "pack", "sha256": sha, "schema": "choreo.pack/1"}
    manifest = decode(file.read_bytes(), source=str(file), file=file)
    known = {r.id for r in manifest.roots}
    listed, _ = reading.of_manifest(manifest, {k: v for k, v in roots.items() if k in known})
    return listed, {"role": "motions", "sha256": manifest.sha256, "schema": manifest.schema}
