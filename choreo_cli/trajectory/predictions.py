"""What a model said of every video of a split, as a table: everything that is judged later is judged from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import DataError
from choreo_cli.metrics.trajectory import Judged
from choreo_cli.trajectory.camera import to_camera
from choreo_cli.trajectory.curves import FUTURE, SHOWN
from choreo_cli.trajectory.sets import TrajectorySet
from formats import tables
from formats.trajectory import PREDICTIONS

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
FILES = {"test": "predictions.parquet", "grid": "predictions-grid.parquet"}


@dataclass(frozen=True, slots=True)
class Predictions:
    """Of N videos, in the order of the views.

    Args:
        curve_id: (N,). probabilities: (N, 4). future: (N, 4, 3) and shown (N, 16, 3) or None, camera orientation.
        facts: What the file says of itself: set, split, model.
    """

    curve_id: I64
    probabilities: F32
    future: F32
    shown: F32 | None
    facts: dict[str, str]


def write(path: Path, found: Predictions) -> str:
    """Write a table of predictions; returns its sha256."""
    n = len(found.curve_id)
    shown: Any = [None] * n if found.shown is None else found.shown.reshape(n, -1)
    columns = {
        "row": np.arange(n), "curve_id": found.curve_id, "probabilities": found.probabilities,
        "future": found.future.reshape(n, -1), "shown": shown,
    }  # fmt: skip
    return tables.write_table(path, PREDICTIONS, columns, found.facts)


def read(path: Path) -> Predictions:
    """Read a table of predictions. Raises FormatError when it is damaged."""
    data = tables.read_table(path, PREDICTIONS)
    n = data.num_rows

    def matrix(name: str, *shape: int) -> F32:
        flat: F32 = data.column(name).combine_chunks().flatten().to_numpy()
        return flat.reshape(n, *shape)

    shown = None if data.column("shown").null_count else matrix("shown", SHOWN, 3)
    facts = {k: v for k, v in tables.read_metadata(path).items() if k.startswith("choreo.") and k != "choreo.schema"}
    return Predictions(
        data.column("curve_id").to_numpy(), matrix("probabilities", 4), matrix("future", FUTURE, 3), shown, facts
    )


def judged(found: Predictions, of: TrajectorySet, split: str) -> Judged:
    """Predictions beside the truth. Raises DataError when they are of other views."""
    looks = of.looks[split]
    if len(found.curve_id) != len(looks) or not np.array_equal(found.curve_id, looks.base):
        raise DataError(f"the predictions are of other videos than the {split} views of {of.folder.name}")
    clean = of.clean(split)
    cameras = looks.cameras
    return Judged(
        looks.base, of.family(split), found.probabilities.astype(np.float64), to_camera(clean[:, SHOWN:], cameras),
        found.future.astype(np.float64), to_camera(of.shown(split), looks.cameras),
        np.linalg.norm(np.ptp(clean[:, :SHOWN], axis=1), axis=-1),
    )  # fmt: skip
