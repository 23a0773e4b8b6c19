"""What `choreo export` is given: a checkpoint wherever it lies, or for Swift a Core ML export."""

from __future__ import annotations

from pathlib import Path

from choreo_cli.generate.export_job import Packages
from choreo_cli.generate.model_files import Model, open_export, open_model
from choreo_cli.generate.open_model import EXPORT, model_folder, schema_of
from formats import export_card
from formats.checkpoint import WEIGHTS, Checkpoint
from formats.errors import FormatError


def model_of(path: Path, exported: bool = False) -> Model:
    """The model at a path.

    Args:
        path: A run, one seed of it, or a checkpoint; an export where one is allowed.
        exported: Take an export: its card without its weights, which is all that Swift needs.

    Raises:
        NoInputError, FormatError: nothing is there, another kind of model, or a damaged one.
    """
    folder = model_folder(path)
    if not schema_of(folder).startswith(EXPORT):
        return open_model(folder)
    if not exported:
        raise FormatError("an export already", file=folder, hint="name the checkpoint that it was made from")
    card, found = export_card.read(folder), open_export(folder)
    files = {WEIGHTS: card.weights["sha256"]}
    told = Checkpoint(card.recipe, card.arch, {}, card.facts, card.created_by, files, folder)
    return Model(told, found.shape, found.stats)


def packages_of(path: Path) -> Packages | None:
    """The packages of a Core ML export; None for a checkpoint.

    Raises:
        FormatError: an export for something else.
    """
    folder = model_folder(path)
    if not schema_of(folder).startswith(EXPORT):
        return None
    card = export_card.read(folder)
    if card.format != "coreml":
        hint = "choreo export coreml MODEL -o DIR"
        raise FormatError(f"an export for {card.format}: Swift runs Core ML", file=folder, hint=hint)
    return Packages({g.name: g.inputs for g in card.graphs}, card.weights["kind"])
