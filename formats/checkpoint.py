"""A trained model on disk: `model.safetensors` for the weights, `model.json` for everything that is not a number.

A checkpoint is a folder. `model.json` is sealed, names its files by sha256, and holds the explicit scalars the network
is built from, so that a checkpoint of another architecture is refused by name and never by a shape error.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from formats import sealed, tensors
from formats.errors import FormatError
from formats.tensors import Arrays

SCHEMA = "choreo.checkpoint/1"
CARD = "model.json"
WEIGHTS = "model.safetensors"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model as it lies on disk.

    Args:
        recipe: What it is: `rps`, `mapper`...
        arch: Explicit scalars the network is built from, JSON values.
        arrays: Weights and statistics by name; shapes and units are the recipe's.
        facts: Whatever else a user of the model must know (training mode, columns, units), JSON values.
        created_by: Provenance (protocol.md).
        files: sha256 of every file of the checkpoint but the card, by name; filled in by `write` and `read`.
        folder: Where it lies, None before it is written.
    """

    recipe: str
    arch: Mapping[str, Any]
    arrays: Arrays
    facts: Mapping[str, Any] = field(default_factory=dict)
    created_by: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None

    @property
    def sha256(self) -> str:
        """The model's identity: the hash of its weights file."""
        return self.files[WEIGHTS]


def encode(model: Checkpoint, others: Mapping[str, bytes] | None = None) -> dict[str, bytes]:
    """The files of a checkpoint by name; the card comes last and must be written last.

    Args:
        model: What to write; its `files` and `folder` are ignored.
        others: Further files of the model (`model.onnx`, `model.npz`), named by hash in the card.

    Raises:
        FormatError: a weight that is not finite, or of a type tensors cannot hold.
    """
    made = {WEIGHTS: tensors.encode(model.arrays, {"choreo.recipe": model.recipe}), **(others or {})}
    card = {
        "schema": SCHEMA,
        "recipe": model.recipe,
        "arch": dict(model.arch),
        "facts": dict(model.facts),
        "created_by": dict(model.created_by),
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in sorted(made.items())},
    }
    return {**made, CARD: sealed.dumps(card)}


def read(folder: str | Path, recipe: str | None = None) -> Checkpoint:
    """Read a checkpoint and verify its weights.

    Args:
        folder: The checkpoint's folder.
        recipe: What it must be; None takes any.

    Raises:
        FormatError: no checkpoint, another recipe, damaged, or weights that are not the ones the card names.
    """
    path = Path(folder)
    card = read_card(path)
    if recipe is not None and card["recipe"] != recipe:
        raise FormatError(f"the model is {card['recipe']}, need {recipe}", file=path / CARD)
    weights = path / WEIGHTS
    try:
        found = hashlib.sha256(weights.read_bytes()).hexdigest()
    except FileNotFoundError:
        raise FormatError("missing from the checkpoint", file=weights) from None
    if found != card["files"].get(WEIGHTS):
        raise FormatError(f"not the weights that {CARD} names: damaged or changed", file=weights)
    arrays, _ = tensors.read(weights)
    return Checkpoint(card["recipe"], card["arch"], arrays, card["facts"], card["created_by"], card["files"], path)


def read_card(folder: Path) -> dict[str, Any]:
    """The verified `model.json` of a checkpoint, without its weights.

    Args:
        folder: The checkpoint's folder, or the card itself.

    Raises:
        FormatError: see `read`.
    """
    file = folder if folder.name.endswith(".json") else folder / CARD
    try:
        card = sealed.parse(file.read_bytes(), file=file)
    except (FileNotFoundError, NotADirectoryError):
        raise FormatError("no checkpoint here", file=folder, hint=f"need a folder with {CARD} and {WEIGHTS}") from None
    if card.get("schema") != SCHEMA:
        raise FormatError(f"the file holds {card.get('schema')}, need {SCHEMA}", file=file)
    kinds = {"recipe": str, "arch": dict, "facts": dict, "created_by": dict, "files": dict}
    for key, kind in kinds.items():
        if not isinstance(card.get(key), kind):
            raise FormatError("missing or of the wrong type", file=file, field=key)
    return card


def need(model: Checkpoint, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise FormatError unless the weights are exactly `shapes`: names and shapes."""
    file = (model.folder or Path()) / WEIGHTS
    odd = sorted(set(shapes) ^ set(model.arrays))
    if odd:
        raise FormatError(f"weights of another architecture: {odd[0]!r}", file=file, field=odd[0])
    for name, shape in shapes.items():
        if model.arrays[name].shape != shape:
            raise FormatError(
                f"weights of another architecture: {model.arrays[name].shape}, need {shape}", file=file, field=name
            )
