"""The order of training items: a permutation that is computed, not stored, and the seeds of every draw.

A million items or a thousand hours cost the same memory, and a run that was stopped finds its place again from
(seed, epoch, step) alone: no generator has a state that would have to be saved.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]
ROUNDS = 6
LARGEST = 1 << 62
AHEAD = 8192  # positions whose items are computed together: numpy's cost per call is then nothing per batch
_WORD = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_SHIFT_A, _SHIFT_B, _SHIFT_C = np.uint64(30), np.uint64(27), np.uint64(31)
_MUL_A, _MUL_B = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_HALF = np.uint64(32)


def mix(*words: int) -> int:
    """A seed in 0..2^63 that follows from whole numbers and their order alone.

    Each word goes through the output function of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
    """
    state = 0
    for word in words:
        state = _scramble((state + (word & _WORD) + _GOLDEN) & _WORD)
    return state >> 1


def permuted(positions: NDArray[np.integer], n: int, *key: int) -> I64:
    """Items at some positions of a random order of n items; over all positions each item comes exactly once.

    An alternating Feistel network on pairs (left, right) in 0..a, a = ceil(sqrt(n)), walked until it is below n
    (Black and Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002): at most 2 sqrt(n) of a * a values lie
    outside, so that few have to walk.

    Args:
        positions: (B,) whole numbers in 0..n.
        n: Items, 1..2^62.
        key: Whole numbers that choose the order: (seed, epoch).

    Returns:
        (B,) int64 items.

    Raises:
        ValueError: n is out of range, or a position is.
    """
    if not 1 <= n <= LARGEST:
        raise ValueError(f"an order of {n} items: need 1..2^62")
    place = np.asarray(positions)
    if place.size and (int(place.min()) < 0 or int(place.max()) >= n):
        raise ValueError(f"a position outside 0..{n}")
    side = math.isqrt(n - 1) + 1
    keys = [np.uint64(mix(*key, number)) for number in range(ROUNDS)]
    items = _network(place.astype(np.uint64), side, keys)
    outside = np.flatnonzero(items >= n)
    while outside.size:
        items[outside] = _network(items[outside], side, keys)
        outside = outside[items[outside] >= n]
    return items.astype(np.int64)


def steps_per_epoch(n: int, batch: int) -> int:
    """Batches that hold n items, none with more than `batch`."""
    return -(-n // batch)


def batches(n: int, batch: int, seed: int, epoch: int, start: int = 0) -> Iterator[I64]:
    """Items of the batches of one epoch, from batch `start` on.

    Each item comes once in an epoch. The batches differ by at most one item, so that the last is not a sliver on
    which batch statistics would mean nothing.

    Args:
        n: Training items.
        batch: Largest batch.
        seed: Seed of the run.
        epoch: Number of the epoch; every epoch has an order of its own.
        start: Batches that were taken already.

    Yields:
        (B,) int64 items.
    """
    count = steps_per_epoch(n, batch)
    together = max(1, AHEAD // batch)
    for first in range(start, count, together):
        last = min(first + together, count)
        edges = [k * n // count for k in range(first, last + 1)]
        items = permuted(np.arange(edges[0], edges[-1], dtype=np.int64), n, seed, epoch)
        for a, b in itertools.pairwise(edges):
            yield items[a - edges[0] : b - edges[0]]


def _network(values: U64, side: int, keys: list[np.uint64]) -> U64:
    """One pass: a bijection on 0..side * side, because each round adds to one half what only the other decides."""
    width = np.uint64(side)
    left, right = np.divmod(values, width)
    for key in keys:
        moved = left + _below(_scrambled(right ^ key), side)
        moved -= width * (moved >= width)
        left, right = right, moved
    return left * width + right


def _below(words: U64, side: int) -> U64:
    """Evenly spread over 0..side (at most 2^31): the upper half of a word times the side, without a division."""
    return ((words >> _HALF) * np.uint64(side)) >> _HALF


def _scrambled(words: U64) -> U64:
    words = (words ^ (words >> _SHIFT_A)) * _MUL_A
    words = (words ^ (words >> _SHIFT_B)) * _MUL_B
    return words ^ (words >> _SHIFT_C)


def _scramble(word: int) -> int:
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & _WORD
    return word ^ (word >> 31)
