"""Generated clips that an evaluation keeps: channels and what was found of them, sealed by their own digest.

Named by content (`KEY.npz`, the sha256 of the model's files, the setting, noise, conditions and versions), so that a
file is either the very clips that are asked for or not looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from formats import sealed_npz
from formats.errors import FormatError

SCHEMA = "choreo.generated/1"
SEAL = b"choreo.generated/1 sha256="
CHANNELS, TOLD, FIGURE = "channels", "told", "figure_"
Arrays = dict[str, NDArray[Any]]


def encode(arrays: Mapping[str, NDArray[Any]], figures: Mapping[str, NDArray[Any]], told: Mapping[str, Any]) -> bytes:
    """The file.

    Args:
        arrays: `channels` (n, T, 25) float32 and features (n, D) float64 by name.
        figures: (n,) float64 by name, NaN where a clip has none.
        told: JSON values: evaluations, reasons.

    Raises:
        FormatError: no channels, or numbers of clips that differ.
    """
    found = {**arrays, **{f"{FIGURE}{n}": v for n, v in figures.items()}}
    _check(found, None)
    return sealed_npz.pack({**found, TOLD: sealed_npz.text_member(told, TOLD)}, SEAL)


def decode(data: bytes, *, file: str | Path | None = None) -> tuple[Arrays, Arrays, dict[str, Any]]:
    """The reverse of `encode`: arrays, figures, told.

    Raises:
        FormatError: cut, changed, of another kind, or numbers of clips that differ.
    """
    members = sealed_npz.unpack(data, SEAL, file=file)
    told = sealed_npz.object_member(members.pop(TOLD, None), TOLD, file)
    _check(members, file)
    figures = {n.removeprefix(FIGURE): a for n, a in members.items() if n.startswith(FIGURE)}
    return {n: a for n, a in members.items() if not n.startswith(FIGURE)}, figures, told


def _check(arrays: Mapping[str, NDArray[Any]], file: str | Path | None) -> None:
    channels = arrays.get(CHANNELS)
    if channels is None or channels.ndim != 3 or channels.shape[2] != 25 or channels.dtype != np.float32:
        raise FormatError("no channels (clips, frames, 25) float32", file=file, field=CHANNELS)
    for name, array in arrays.items():
        if array.ndim < 1 or len(array) != len(channels):
            raise FormatError(f"{len(array) if array.ndim else 0} rows of {len(channels)} clips", file=file, field=name)
