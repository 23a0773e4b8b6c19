"""Counter-based random numbers: any row of any stream can be drawn alone, in any order, and is always the same."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
_PER_COUNTER = 4  # Philox 4x64 yields four numbers for each step of its counter


def uniforms(seed: int, stream: str, first: int, rows: int, per_row: int) -> F64:
    """Uniform numbers in [0, 1) of consecutive rows.

    The generator is Philox 4x64 (Salmon et al., 2011) keyed by (seed, stream name); a row starts at a counter of its
    own, so `uniforms(s, n, k, 1, c)` is row k of `uniforms(s, n, 0, N, c)` whatever N is.

    Args:
        seed: Seed of the dataset, not negative.
        stream: Name of what is drawn.
        first: First row.
        rows: How many.
        per_row: Numbers of a row; part of the stream's meaning, as a row is padded to whole counters.

    Returns:
        (rows, per_row) float64.

    Raises:
        ValueError: a negative seed or row.
    """
    if seed < 0 or first < 0 or rows < 0 or per_row < 1:
        raise ValueError(f"seed {seed}, first {first}, rows {rows}, per_row {per_row}: none may be negative")
    counters = -(-per_row // _PER_COUNTER)
    bits = np.random.Philox(key=_key(seed, stream))
    bits.advance(first * counters)
    block = np.random.Generator(bits).random((rows, counters * _PER_COUNTER))
    return block[:, :per_row]


def _key(seed: int, stream: str) -> NDArray[np.uint64]:
    digest = hashlib.sha256(f"choreo.trajectory/{stream}/{seed}".encode()).digest()
    return np.frombuffer(digest[:16], "<u8").astype(np.uint64)


def normals(u: F64) -> F64:
    """Standard normals from uniforms, one for one, by the inverse of the distribution function.

    Args:
        u: Any shape, in [0, 1).

    Returns:
        The same shape; finite.
    """
    from scipy.special import ndtri

    # The middle of the 2^-53 cell that a uniform stands for: 0 would be minus infinity.
    found: F64 = ndtri(np.minimum(u + 2.0**-54, 1 - 2.0**-53))
    return found


def between(u: F64, lo: float, hi: float) -> F64:
    """Uniforms stretched to [lo, hi)."""
    return lo + (hi - lo) * u
