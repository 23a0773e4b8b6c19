"""Text-to-motion metrics of the HumanML3D protocol, as pure functions of embeddings.

Guo et al., Generating Diverse and Natural 3D Human Motions from Text, CVPR 2022. Figures depend on the evaluator that
made the embeddings and on the group size (32), so both belong to the record.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import DataError
from formats.metrics import entry

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Entry = dict[str, Any]

GROUP = 32
TOP = 3
DIVERSITY_PAIRS = 300
MODALITY_PAIRS = 10
REPLICATIONS = 20


def distances(texts: F64, motions: F64) -> F64:
    """(N, M) Euclidean distances; rounding below 0 is clipped before the root."""
    squared = (texts**2).sum(1)[:, None] + (motions**2).sum(1)[None, :] - 2 * texts @ motions.T
    return np.asarray(np.sqrt(np.maximum(squared, 0.0)))


def r_precision(
    texts: F64, motions: F64, *, group: int | None = GROUP, top: int = TOP, rng: np.random.Generator | None = None
) -> F64 | None:
    """(top,) share of texts whose own motion is among the k nearest of its group.

    Args:
        texts: (N, D) embeddings; row i belongs to row i of `motions`.
        motions: (N, D).
        group: Texts of a group; what is left over is dropped. None ranks all N together.
        top: Largest k.
        rng: Shuffles before grouping; None keeps the order.

    Returns:
        None below one whole group: the figure is defined for groups of exactly that size.
    """
    _same(texts, motions)
    size = len(texts) if group is None else group
    order = np.arange(len(texts)) if rng is None else rng.permutation(len(texts))
    whole = len(texts) // size if size else 0
    if not whole:
        return None
    hits = np.zeros(top)
    for block in order[: whole * size].reshape(whole, size):
        d = distances(texts[block].astype(np.float64), motions[block].astype(np.float64))
        own = np.diagonal(d)[:, None]
        # Rank of the own motion; among equal distances it takes its place by order, as a stable sort does.
        before = (d < own) | ((d == own) & (np.arange(size)[None, :] < np.arange(size)[:, None]))
        rank = before.sum(axis=1)
        hits += (rank[:, None] < np.arange(1, top + 1)).sum(axis=0)
    return hits / (whole * size)


def mm_distance(texts: F64, motions: F64) -> float | None:
    """Mean distance of a text to its own motion; None without pairs."""
    _same(texts, motions)
    if not len(texts):
        return None
    return float(np.linalg.norm(texts.astype(np.float64) - motions.astype(np.float64), axis=1).mean())


def diversity_at(motions: F64, first: I64, second: I64) -> float:
    """Mean distance between rows `first[i]` and `second[i]`."""
    return float(np.linalg.norm(motions[first].astype(np.float64) - motions[second], axis=1).mean())


def diversity(motions: F64, rng: np.random.Generator, pairs: int = DIVERSITY_PAIRS) -> float | None:
    """Mean distance of random pairs: two index sets without repetition, drawn independently of one another.

    None when there are not more samples than pairs, as the protocol asks.
    """
    if len(motions) <= pairs:
        return None
    first, second = (rng.choice(len(motions), pairs, replace=False) for _ in range(2))
    return diversity_at(motions, first, second)


def multimodality(samples: F64, rng: np.random.Generator, pairs: int = MODALITY_PAIRS) -> float | None:
    """Mean distance of motions for one text: (texts, samples, D), `pairs` pairs of samples, the same for every text."""
    if samples.ndim != 3 or samples.shape[1] <= pairs:
        return None
    first, second = (rng.choice(samples.shape[1], pairs, replace=False) for _ in range(2))
    gaps = samples[:, first].astype(np.float64) - samples[:, second]
    return float(np.linalg.norm(gaps, axis=2).mean())


def replicated(
    measure: Callable[[np.random.Generator], float | None], seed: int, times: int = REPLICATIONS
) -> tuple[float, float] | None:
    """(mean, 1.96 sd / sqrt(times)) of a measure that draws, over `times` seeds; None when it has no value."""
    values = [measure(np.random.default_rng([seed, k])) for k in range(times)]
    if any(v is None for v in values):
        return None
    x = np.asarray(values, np.float64)
    return float(x.mean()), float(1.96 * x.std() / np.sqrt(times))


def text_entries(
    texts: F64, motions: F64, *, evaluator: str, seed: int = 0, real: F64 | None = None, samples: F64 | None = None
) -> list[Entry]:
    """Records of one set of pairs: R-Precision, MM-Dist, Diversity, and with more inputs FID and MultiModality.

    Args:
        texts: (N, D) text embeddings.
        motions: (N, D) embeddings of the motions made for them.
        evaluator: Which evaluator made the embeddings, `own:<hash>`; figures of two evaluators are never compared.
        seed: Of the 20 replications.
        real: (N', D) embeddings of real motions: FID (raw) against them, and their R-Precision as the floor when they
            belong to the same texts.
        samples: (texts, 30, D) several motions for one text.
    """
    from choreo_cli.metrics.motion_sets import frechet

    about = {"evaluator": evaluator, "protocol": "humanml3d", "replications": REPLICATIONS}
    paired = real is not None and real.shape == motions.shape
    out = []
    shuffled = motions[np.random.default_rng([seed, 99]).permutation(len(motions))]
    for k in range(1, TOP + 1):
        found = _top(texts, motions, k, seed)
        null = _top(texts, shuffled, k, seed)
        floor = _top(texts, real, k, seed) if real is not None and paired else None
        more = {**about, "group": GROUP, "chance_of_shuffled_pairs": None if null is None else null[0]}
        out.append(_record(f"r_precision@{k}", found, "1", "higher", len(texts), more,
                           why=f"fewer than {GROUP} pairs", chance=k / GROUP, floor=floor))  # fmt: skip
    near = mm_distance(texts, motions)
    out.append(
        _record("mm_dist", None if near is None else (near, 0.0), "1", "lower", len(texts), about, why="no pair")
    )
    spread = replicated(lambda rng: diversity(motions, rng), seed)
    more = {**about, "pairs": DIVERSITY_PAIRS}
    wild = None if real is None else replicated(lambda rng: diversity(real, rng), seed)
    out.append(_record("diversity", spread, "1", "higher", len(motions), more,
                       why=f"needs more than {DIVERSITY_PAIRS} motions", floor=wild))  # fmt: skip
    if real is not None:
        few = min(len(real), len(motions)) < 2
        fid = None if few else (frechet(real.astype(np.float64), motions.astype(np.float64)), 0.0)
        biased = min(len(real), len(motions)) < 2 * motions.shape[1]
        out.append(_record("fid_text", fid, "1", "lower", len(motions), {**about, "dims": motions.shape[1]},
                           why="fewer than two motions", status="edge" if biased else "ok"))  # fmt: skip
    if samples is not None:
        many = replicated(lambda rng: multimodality(samples, rng), seed)
        out.append(_record("multimodality", many, "1", "higher", len(samples), {**about, "pairs": MODALITY_PAIRS},
                           why=f"needs more than {MODALITY_PAIRS} motions for a text"))  # fmt: skip
    return out


def _top(texts: F64, motions: F64, k: int, seed: int) -> tuple[float, float] | None:
    """R-Precision at k over 20 shufflings."""

    def once(rng: np.random.Generator) -> float | None:
        found = r_precision(texts, motions, rng=rng)
        return None if found is None else float(found[k - 1])

    return replicated(once, seed)


def _record(
    name: str, found: tuple[float, float] | None, unit: str, better: str, n: int, params: dict[str, Any], *, why: str,
    chance: float | None = None, floor: tuple[float, float] | None = None, status: str = "ok",
) -> Entry:  # fmt: skip
    value = None if found is None else found[0]
    ci = None if found is None or not found[1] else (found[0] - found[1], found[0] + found[1])
    return entry(
        name, value, unit, better, n=n, ci=ci, chance=chance, floor=None if floor is None else ("real pairs", floor[0]),
        status="insufficient" if found is None else status, why=why if found is None else None, params=params,
    )  # fmt: skip


def _same(texts: F64, motions: F64) -> None:
    if texts.ndim != 2 or texts.shape != motions.shape:
        raise DataError(f"embeddings of shapes {texts.shape} and {motions.shape}, need two equal (N, D)")
