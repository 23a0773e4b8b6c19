"""Counts in equal bins, and the same as one line of blocks."""

from __future__ import annotations

from typing import Any

import numpy as np

BLOCKS = " ▁▂▃▄▅▆▇█"
BINS = 16


def counts(values: np.ndarray[Any, Any], lo: float, hi: float, bins: int = BINS) -> list[int]:
    """How many finite values lie in each of `bins` equal bins of [lo, hi]; outside values are left out."""
    live = values[np.isfinite(values)]
    if not len(live) or not hi - lo > 1e-9 * max(abs(lo), abs(hi)):  # too close for bins of their own
        return [len(live)] if len(live) else []
    return [int(n) for n in np.histogram(live, bins=bins, range=(lo, hi))[0]]


def line(found: list[int]) -> str:
    """One character a bin, height by the root of the count so that rare values still show."""
    top = max(found, default=0)
    if not top:
        return ""
    steps = [0 if not n else 1 + round((len(BLOCKS) - 2) * (n / top) ** 0.5) for n in found]
    return "".join(BLOCKS[s] for s in steps)
