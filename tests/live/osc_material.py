"""OSC packets for tests and measurements: what sensors and this program send, and what must not hurt."""

from __future__ import annotations

import random
import struct

from choreo_cli.live.osc import Message, encode, encode_bundle

CONTROLS = ("tempo_scale", "density", "tension", "brightness", "fx_send")
PHONE = (("accel", 3), ("gravity", 3), ("gyro", 3), ("quaternion", 4))
GOOD = encode("/choreo/density", [0.5])


def bundle_of(*elements: bytes, timetag: int = 1) -> bytes:
    """A bundle without any check."""
    return b"#bundle\0" + struct.pack(">Q", timetag) + b"".join(struct.pack(">i", len(e)) + e for e in elements)


def nested(depth: int, inner: bytes = GOOD) -> bytes:
    """A message in so many bundles."""
    for _ in range(depth):
        inner = bundle_of(inner)
    return inner


def repeated(n: int, seed: int = 0) -> dict[str, list[bytes]]:
    """Packets of the same layouts with other numbers, by kind."""
    rnd = random.Random(seed)

    def numbers(k: int) -> tuple[float, ...]:
        return tuple(rnd.uniform(-1, 1) for _ in range(k))

    def phone() -> bytes:
        return encode_bundle([Message(f"/ZIGSIM/5f0c/{name}", numbers(k)) for name, k in PHONE])

    return {
        "control": [encode("/choreo/density", numbers(1)) for _ in range(n)],
        "vector": [encode("/choreo/frame", (i, *numbers(5))) for i in range(n)],
        "inputs": [encode("/choreo/inputs", numbers(11)) for _ in range(n)],
        "controls": [encode_bundle([Message(f"/choreo/{c}", numbers(1)) for c in CONTROLS]) for _ in range(n)],
        "phone": [phone() for _ in range(n)],
        "named": [encode("/ctrl", (rnd.choice(CONTROLS), *numbers(1))) for _ in range(n)],
    }


def cold(n: int, seed: int = 0) -> list[bytes]:
    """Packets of which no two have the same address."""
    rnd = random.Random(seed)
    kinds = (1, 3, 4, 6, 11)
    return [encode(f"/sensor/{i}/x", [rnd.uniform(-1, 1) for _ in range(kinds[i % 5])]) for i in range(n)]


KILLERS: dict[str, bytes] = {
    "endless loop of python-osc": b"#bundle\0" + struct.pack(">Qi", 1, -4) + b"\0\0\0\0",
    "size 0": b"#bundle\0" + struct.pack(">Qi", 1, 0),
    "size of 2 GiB": b"#bundle\0" + struct.pack(">Qi", 1, 2**31 - 4) + GOOD,
    "smallest size": b"#bundle\0" + struct.pack(">Qi", 1, -(2**31)) + GOOD,
    "element beyond the bundle": b"#bundle\0" + struct.pack(">Qi", 1, len(GOOD) + 4) + GOOD,
    "five bundles deep": nested(5),
    "four hundred bundles deep": nested(400),
    "text of bytes": b"/choreo/text\0\0\0\0,s\0\0\xff\xfe\xfd\0",
    "address of bytes": b"/ch\xc3\xb6reo\0\0\0\0,f\0\0" + struct.pack(">f", 1),
    "text without end": b"/a\0\0,s\0\0abcd",
    "blob of -1 bytes": b"/a\0\0,b\0\0" + struct.pack(">i", -1),
    "blob of 2 GiB": b"/a\0\0,b\0\0" + struct.pack(">i", 2**31 - 1) + b"abcd",
    "NaN": b"/a\0\0,f\0\0" + struct.pack(">f", float("nan")),
    "infinite double": b"/a\0\0,d\0\0" + struct.pack(">d", float("-inf")),
    "8000 type tags without data": b"/a\0\0," + b"f" * 7999 + b"\0" * 4,
    "larger than a packet may be": bundle_of(*[GOOD] * 400),
    "pattern": b"/choreo/*\0\0\0,f\0\0" + struct.pack(">f", 1),
    "nothing": b"",
    "zeros": bytes(1024),
    "bundle marker only": b"#bundle\0",
}
"""Packets that hang, crash or fill up one program or another; each must be refused."""


class Mutator:
    """Endless hostile packets: good ones and killers, bent by a seeded random generator."""

    def __init__(self, seed: int) -> None:
        self.rnd = random.Random(seed)
        kinds = repeated(4, seed)
        self.seeds = [p for packets in kinds.values() for p in packets] + cold(8, seed) + list(KILLERS.values())
        self.seeds += [nested(d) for d in (1, 2, 3, 4)]
        self.seeds += [encode("/a", [1, 2**40, "text", b"blob", True, False, 0.5]), bundle_of(GOOD, timetag=2**63)]

    def packet(self) -> bytes:
        """The next one."""
        raw = bytearray(self.rnd.choice(self.seeds))
        for _ in range(self.rnd.choice((1, 1, 2, 4, 16))):
            self._bend(raw)
        return bytes(raw[:20000])

    def _bend(self, raw: bytearray) -> None:
        rnd, n = self.rnd, len(raw)
        at = rnd.randrange(n) if n else 0
        word = at & ~3
        how = rnd.randrange(9)
        if how == 0 and n:
            raw[at] ^= 1 << rnd.randrange(8)
        elif how == 1 and n:
            raw[at] = rnd.choice((0, 0x23, 0x2C, 0x2F, 0x7F, 0x80, 0xFF, rnd.randrange(256)))
        elif how == 2:
            del raw[word:]
        elif how == 3:
            del raw[at : at + rnd.randrange(1, 9)]
        elif how == 4:
            raw[word:word] = rnd.randbytes(4 * rnd.randrange(1, 5))
        elif how == 5 and n >= word + 4:
            raw[word : word + 4] = struct.pack(">i", rnd.choice((-(2**31), -8, -4, -1, 0, 1, 4, 8, 20, n, 2**31 - 1)))
        elif how == 6 and n >= word + 4:
            raw[word : word + 4] = struct.pack(">f", rnd.choice((float("nan"), float("inf"), -float("inf"), 1e38)))
        elif how == 7:
            raw[word:word] = rnd.choice(self.seeds)
        else:
            raw[:0] = b"#bundle\0" + struct.pack(">Qi", rnd.choice((0, 1, 2**64 - 1)), n)
