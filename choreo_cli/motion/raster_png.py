"""PNG and animated PNG, written byte for byte: equal pictures give equal files."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

U8 = NDArray[np.uint8]

_START = b"\x89PNG\r\n\x1a\n"
_LEVEL = 6


def png(image: U8, texts: Mapping[str, str] | None = None) -> bytes:
    """A still picture.

    Args:
        image: (H, W, 3) uint8.
        texts: Keywords and texts that ride along.
    """
    parts = [_START, _header(image), *_texts(texts), _chunk(b"IDAT", _packed(image)), _chunk(b"IEND", b"")]
    return b"".join(parts)


def apng(frames: Iterable[U8], fps: float, texts: Mapping[str, str] | None = None) -> bytes:
    """An animation that repeats for ever; of each frame only the pixels that changed are kept, the rest is clear.

    Args:
        frames: (H, W, 3) uint8 each, alike in size; at least one.
        fps: Frame rate.
        texts: Keywords and texts that ride along.
    """
    delay = struct.pack(">HH", max(round(10_000 / fps), 1), 10_000)
    parts: list[bytes] = []
    count = number = 0
    last: U8 | None = None
    for frame in frames:
        y, x, part = (0, 0, _opaque(frame)) if last is None else _changed(last, frame)
        size = struct.pack(">IIII", part.shape[1], part.shape[0], x, y)
        # Nothing is disposed of, and each frame is laid over the one before.
        parts.append(_chunk(b"fcTL", struct.pack(">I", number) + size + delay + b"\0\1"))
        number += 1
        if last is None:
            parts.insert(0, _header(part))
            parts.append(_chunk(b"IDAT", _packed(part)))
        else:
            parts.append(_chunk(b"fdAT", struct.pack(">I", number) + _packed(part)))
            number += 1
        last, count = frame, count + 1
    if not parts:
        raise ValueError("an animation needs a frame")
    control = _chunk(b"acTL", struct.pack(">II", count, 0))
    return b"".join([_START, parts[0], control, *_texts(texts), *parts[1:], _chunk(b"IEND", b"")])


def _opaque(image: U8) -> U8:
    return np.concatenate([image, np.full((*image.shape[:2], 1), 255, np.uint8)], 2)


def _changed(before: U8, after: U8) -> tuple[int, int, U8]:
    """Corner and (h, w, 4) content of the smallest rectangle that differs, clear where nothing does."""
    differs = (before != after).any(2)
    rows, columns = np.flatnonzero(differs.any(1)), np.flatnonzero(differs.any(0))
    if len(rows) == 0:
        return 0, 0, np.zeros((1, 1, 4), np.uint8)
    y, x = int(rows[0]), int(columns[0])
    box = slice(y, int(rows[-1]) + 1), slice(x, int(columns[-1]) + 1)
    return y, x, _opaque(after[box]) * differs[box][..., None]


def _header(image: U8) -> bytes:
    colour = {3: 2, 4: 6}[image.shape[2]]
    return _chunk(b"IHDR", struct.pack(">IIBBBBB", image.shape[1], image.shape[0], 8, colour, 0, 0, 0))


def _packed(image: U8) -> bytes:
    """Rows by the filter `up` (the first by `sub`), which suits flat and slowly changing pictures, then deflate."""
    height, width, n = image.shape
    rows = np.ascontiguousarray(image).reshape(height, width * n)
    out = np.empty((height, width * n + 1), np.uint8)
    out[0, 0], out[1:, 0] = 1, 2
    out[0, 1 : n + 1] = rows[0, :n]
    out[0, n + 1 :] = rows[0, n:] - rows[0, :-n]
    out[1:, 1:] = rows[1:] - rows[:-1]
    return zlib.compress(out.tobytes(), _LEVEL)


def _texts(texts: Mapping[str, str] | None) -> list[bytes]:
    return [
        _chunk(b"iTXt", key.encode("latin-1") + b"\0\0\0\0\0" + value.encode("utf-8"))
        for key, value in (texts or {}).items()
    ]


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
