"""Statistics from the training rows alone, and the check that nothing of val or test reached training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.dataset.splits import SPLITS, Assignment, Item, item_leaks
from choreo_cli.dataset.windows import Stretch, Windows

Normaliser = dict[str, dict[str, Any]]


def train_rows(n: int, stretches: Sequence[Stretch], by_pair: Mapping[str, Assignment]) -> NDArray[np.bool_]:
    """(n,) rows of the pairs in train."""
    rows = np.zeros(n, bool)
    for s in stretches:
        if by_pair[s.pair_id].split == "train":
            rows[s.row_start : s.row_start + s.rows] = True
    return rows


def normaliser(x: NDArray[np.float32], rows: NDArray[np.bool_], columns: Sequence[str]) -> Normaliser:
    """Mean and standard deviation (population) of what is present in the given rows.

    Args:
        x: (N, C) values, NaN = missing.
        rows: (N,) rows to use.
        columns: C names.

    Returns:
        name -> {mean, std, n}; mean and std are None where nothing is present.
    """
    found: Normaliser = {}
    for k, name in enumerate(columns):
        values = np.asarray(x[:, k], np.float64)[rows]
        values = values[~np.isnan(values)]
        n = len(values)
        found[name] = {
            "mean": float(values.mean()) if n else None,
            "std": float(values.std()) if n else None,
            "n": n,
        }
    return found


def leak_check(
    items: Sequence[Item],
    stretches: Sequence[Stretch],
    by_pair: Mapping[str, Assignment],
    windows: Windows,
    x: NDArray[np.float32],
    columns: Sequence[str],
    stats: Normaliser,
) -> list[str]:
    """Name everything that reaches from one split into another; empty when nothing does.

    No session, song or performer in two splits; no row in windows of two splits; the normaliser is exactly that of
    the training rows.

    Args:
        items: The pairs.
        stretches: Their rows, in the same order.
        by_pair: Their splits.
        windows: Windows cut from the stretches.
        x: (N, C) values.
        columns: C names.
        stats: The normaliser that is going to be used.
    """
    found = item_leaks(items, by_pair)
    splits = np.array([by_pair[s.pair_id].split for s in stretches], dtype=np.str_)
    of_window = splits[windows.pair] if len(windows) else splits[:0]
    covered = np.zeros(len(x), np.int8)
    for split in SPLITS:
        mine = of_window == split
        edges = np.bincount(windows.row_start[mine], minlength=len(x) + 1).astype(np.int64)
        edges -= np.bincount(windows.row_start[mine] + windows.len[mine], minlength=len(x) + 1)
        covered += np.cumsum(edges[: len(x)]) > 0
    twice = np.flatnonzero(covered > 1)
    if len(twice):
        found.append(f"{len(twice)} rows are in windows of two splits, first row {int(twice[0])}")
    right = normaliser(x, train_rows(len(x), stretches, by_pair), columns)
    for name in columns:
        if stats.get(name) != right[name]:
            found.append(f"the normaliser of {name} is not that of the training rows")
    return found
