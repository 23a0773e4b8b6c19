"""M6 in numpy: how good a clip is, learned from pairs; only differences between two scores mean something."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from choreo_cli.reflex.clips import FEATURES, describe
from formats.checkpoint import Checkpoint, need, read
from formats.errors import FormatError

F32 = NDArray[np.float32]
RECIPE = "reward"
LIMIT = 4.0  # standardised statistics are clipped here


def shapes(hidden: int) -> dict[str, tuple[int, ...]]:
    """Name and shape of every array of a checkpoint."""
    n = len(FEATURES)
    return {
        "mean": (n,), "std": (n,), "first.weight": (hidden, n), "first.bias": (hidden,),
        "second.weight": (hidden, hidden), "second.bias": (hidden,), "last.weight": (1, hidden),
    }  # fmt: skip


def standardised(features: ArrayLike, mean: F32, std: F32) -> F32:
    """(n, F) statistics as the network sees them: 0 (the training mean) for what is unknown, clipped to +-4."""
    z = (np.asarray(features, np.float32) - mean) / std
    return np.asarray(np.clip(np.where(np.isnan(z), np.float32(0), z), -LIMIT, LIMIT), np.float32)


def constants(features: F32) -> tuple[F32, F32]:
    """Mean and deviation (F,) of the training clips; a statistic that is never known, or never changes, gets 1."""
    known = np.isfinite(features)
    n = np.maximum(known.sum(axis=0), 1)
    wide = np.where(known, features, 0).astype(np.float64)
    mean = wide.sum(axis=0) / n
    std = np.sqrt((np.where(known, wide - mean, 0) ** 2).sum(axis=0) / n)
    return mean.astype(np.float32), np.where(std > 1e-6, std, 1.0).astype(np.float32)


class Reward:
    """A trained reward: two hidden layers over the statistics of a clip.

    Args:
        arrays: Weights and statistics, named as in `shapes`.
        facts: The card's facts.
        sha256: Hash of the weights file.
    """

    def __init__(
        self, arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any] | None = None, sha256: str = ""
    ) -> None:
        self.arrays = {k: np.asarray(v, np.float32) for k, v in arrays.items()}
        self.facts, self.sha256 = dict(facts or {}), sha256

    @staticmethod
    def read(folder: str | Path) -> Reward:
        """The reward of a run folder.

        Raises:
            FormatError: no `reward` checkpoint, damaged, or over other statistics.
        """
        return Reward.of(read(folder, RECIPE))

    @staticmethod
    def of(model: Checkpoint) -> Reward:
        """The reward of a checkpoint. Raises FormatError when its card and its weights do not fit."""
        hidden = model.arch.get("hidden")
        if type(hidden) is not int or tuple(model.arch.get("features", ())) != FEATURES:
            raise FormatError("the model scores other statistics of a clip than this version makes", file=model.folder)
        need(model, shapes(hidden))
        return Reward(model.arrays, model.facts, model.files.get("model.safetensors", ""))

    def scores(self, features: ArrayLike) -> F32:
        """(n,) scores of (n, F) statistics (`clips.describe_all`)."""
        a = self.arrays
        h = standardised(features, a["mean"], a["std"])
        for name in ("first", "second"):
            h = np.maximum(h @ a[f"{name}.weight"].T + a[f"{name}.bias"], np.float32(0))
        return np.asarray((h @ a["last.weight"].T)[:, 0], np.float32)

    def score(self, x: ArrayLike, mask: ArrayLike) -> float:
        """Score of one clip: (n, 11) inputs, NaN = missing, and (n, 4) masks."""
        return float(self.scores(describe(x, mask)[None])[0])

    def probability(self, better: float, other: float) -> float:
        """Probability that the first of two scores is preferred (Bradley & Terry 1952)."""
        return float(1 / (1 + np.exp(-np.clip(better - other, -60, 60))))
