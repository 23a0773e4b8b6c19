"""Asking only the readers that a first byte allows gives the answer of asking every reader."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from choreo_cli.sessions import sniff
from formats.foreign import registry

TOP = Path(__file__).resolve().parents[2]
BEFORE = (b"", b"\xef\xbb\xbf", b" \n", b"\n\n# c\n", b"\r\n", b"# x\n", b"\t")


def everyone(head: bytes, name: str, size: int) -> str:
    return next(r for r in registry.load() if r.sniff(head, name, size)).format


def heads(folder: Path) -> list[tuple[bytes, str, int]]:
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "SHA256SUMS")
    found = []
    for p in files:
        with open(p, "rb") as f:
            found.append((f.read(4096), p.name, p.stat().st_size))
    return found


def variants(rng: random.Random, head: bytes, name: str, names: list[str], n: int) -> Iterator[tuple[bytes, str]]:
    for before in BEFORE:
        yield (before + head)[:4096], name
    for other in (*rng.sample(names, min(6, len(names))), "x", "a.m3u8", "tags.csv", "a.cue", "A.PKL"):
        yield head, other
    for _ in range(n):
        changed = bytearray(head)
        for _ in range(rng.randint(1, 4) if head else 0):
            changed[rng.randrange(min(len(head), rng.choice((8, 64, 400, 4096))))] = rng.randrange(256)
        cut = rng.choice((4096, 4096, rng.randrange(len(head) + 1)))
        yield bytes(changed)[:cut], name


def compare(found: list[tuple[bytes, str, int]], n: int) -> int:
    rng = random.Random(11)
    names = [name for _, name, _ in found]
    count = 0
    for head, name, size in found:
        for k, (h, other) in enumerate(variants(rng, head, name, names, n)):
            mine, want = sniff.recognise(h, other, size).format, everyone(h, other, size)
            # A table whose first letter turned into a bracket is no table any more.
            assert mine == want or h.lstrip()[:1] in (b"{", b"["), (k, other, h[:80])
            count += 1
    return count


def test_examples() -> None:
    found = heads(TOP / "examples" / "data")
    assert len(found) > 25
    assert compare(found, 15) > 800


def test_real_files(shared: Path) -> None:
    assert compare(heads(shared / "data"), 8) > 3000


@pytest.mark.slow
def test_many_changes(shared: Path) -> None:
    compare(heads(shared / "data") + heads(TOP / "examples" / "data"), 400)


def test_noise() -> None:
    rng = random.Random(5)
    for k in range(1500):
        head = rng.randbytes(rng.choice((0, 1, 3, 40, 600)))
        if k % 3:
            head = bytes(rng.choice(b"0123456789.,;\t \n#{}[]<>\"'abcxyz:-+") for _ in range(rng.randrange(1, 200)))
        if head.lstrip()[:1] not in (b"{", b"["):
            name = rng.choice(("a.txt", "a.csv", "x.beats", "y.tempo", "a.json", "b"))
            assert sniff.recognise(head, name, len(head)).format == everyone(head, name, len(head)), head
