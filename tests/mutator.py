"""Damage for test corpora: flips, cuts, zeroed blocks, lying length fields, spoilt numbers. Deterministic by seed."""

from __future__ import annotations

import random
import re
import struct
from collections.abc import Callable, Iterator

BLOCK = 512
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_SPOILT = (
    b"", b"nan", b"NaN", b"-inf", b"1e999", b"-1", b"0", b"99999999999999999999", b"0x1f", b"1,5", b"null", b'"a"',
    b"9" * 5000, b"-0", b"1e-320", b"[" * 300, b"true", b"\xff\xfe", b"2147483648", b"\x00",
)  # fmt: skip
_LENGTHS = (0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFC)


def flip(data: bytes, rng: random.Random, bits: int = 1) -> bytes:
    """`bits` random bits turned over."""
    out = bytearray(data)
    for _ in range(bits if out else 0):
        at = rng.randrange(len(out) * 8)
        out[at // 8] ^= 1 << (at % 8)
    return bytes(out)


def flip_at(data: bytes, bit: int) -> bytes:
    """One chosen bit turned over."""
    out = bytearray(data)
    out[bit // 8] ^= 1 << (bit % 8)
    return bytes(out)


def cut(data: bytes, rng: random.Random) -> bytes:
    """A file whose writer died: any prefix."""
    return data[: rng.randrange(len(data) + 1)]


def zero_block(data: bytes, rng: random.Random) -> bytes:
    """A sector that reads as zeros."""
    at = rng.randrange(max(1, len(data) - BLOCK))
    return data[:at] + bytes(min(BLOCK, len(data) - at)) + data[at + BLOCK :]


def length_field(data: bytes, rng: random.Random) -> bytes:
    """2, 4 or 8 bytes, mostly near the start or the end, replaced by a number that lies about a size."""
    width, code = rng.choice(((2, "H"), (4, "I"), (8, "Q")))
    near = min(len(data), 256)
    at = rng.choice((rng.randrange(near + 1), len(data) - rng.randrange(near + 1), rng.randrange(len(data) + 1)))
    at = max(0, min(at, len(data) - width))
    value = rng.choice((*_LENGTHS, len(data), len(data) * 2, 1 << 40, (1 << 64) - 1)) % (1 << (8 * width))
    return data[:at] + struct.pack(rng.choice("<>") + code, value) + data[at + width :]


def move_block(data: bytes, rng: random.Random) -> bytes:
    """A stretch repeated, dropped or moved."""
    a, b = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    b = min(b, a + 4096)
    to = rng.randrange(len(data) + 1)
    kind = rng.randrange(3)
    if kind == 0:
        return data[:b] + data[a:b] * rng.choice((1, 3)) + data[b:]
    if kind == 1:
        return data[:a] + data[b:]
    return data[:to] + data[a:b] + data[to:]


def spoil_number(data: bytes, rng: random.Random) -> bytes:
    """A number in a text replaced by something that is no number, or too much of one."""
    start = rng.randrange(len(data) + 1)
    found = _NUMBER.search(data, start) or _NUMBER.search(data)
    if found is None:
        return flip(data, rng)
    return data[: found.start()] + rng.choice(_SPOILT) + data[found.end() :]


def spoil_token(data: bytes, rng: random.Random) -> bytes:
    """A byte that carries structure swapped for another one."""
    places = [i for i in range(min(len(data), 20_000)) if data[i : i + 1] in b'{}[]",:;<>=/\n\t #&']
    if not places:
        return flip(data, rng, 8)
    at = rng.choice(places)
    return data[:at] + rng.choice((b"", b"{", b"]", b'"', b",", b"\n", b"<", b"\x00", b"\xc3", b"\\")) + data[at + 1 :]


BINARY: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    flip, flip, cut, zero_block, length_field, length_field, move_block,
)  # fmt: skip
TEXT: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    flip, cut, zero_block, move_block, spoil_number, spoil_number, spoil_token,
)  # fmt: skip


def mutants(data: bytes, n: int, seed: int, *, text: bool = False) -> Iterator[tuple[str, bytes]]:
    """Yield `n` (description, bytes): one to three kinds of damage each."""
    kinds = TEXT if text else BINARY
    for i in range(n):
        rng = random.Random(f"{seed}:{i}")
        chosen = [rng.choice(kinds) for _ in range(rng.choice((1, 1, 1, 2, 3)))]
        out = data
        for kind in chosen:
            out = kind(out, rng)
        yield f"{'+'.join(k.__name__ for k in chosen)} #{i}", out
