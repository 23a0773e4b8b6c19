"""A sha256 of the whole file inside the file itself, so that a lone copy shows any flipped bit.

Where it lies: in Parquet between the last page and the footer (readers go by offsets, the bytes there are nobody's);
in safetensors as `choreo.sha256` of the metadata. It covers every other byte. JSON documents carry theirs in
`formats.sealed` and `formats.manifest`, NPZ in `formats.audio_npz`; PNG has a CRC on every chunk.
"""

from __future__ import annotations

import hashlib
import re
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

from formats.errors import FormatError
from formats.foreign.source import open_regular

MARK = b"choreo.seal.sha256="
SEAL_BYTES = len(MARK) + 64
_CHUNK = 1 << 20
_TENSOR_SEAL = re.compile(rb'"choreo\.sha256":"([0-9a-f]{64})"')
_MAX_HEADER = 100 * 2**20
PNG_START = b"\x89PNG\r\n\x1a\n"


def seal_bytes(digest: hashlib._Hash) -> bytes:
    """The seal of what `digest` has seen."""
    return MARK + digest.hexdigest().encode()


def seal_tensors(data: bytes) -> bytes:
    """A safetensors file whose metadata holds `choreo.sha256` with 64 zeros: the zeros become the digest.

    Raises:
        ValueError: the place is not there.
    """
    end = 8 + struct.unpack("<Q", data[:8])[0]
    found = _TENSOR_SEAL.search(data[:end])
    if found is None or found[1] != b"0" * 64:
        raise ValueError("the metadata has no room for the seal")
    digest = hashlib.sha256(data).hexdigest().encode()
    return data[: found.start(1)] + digest + data[found.end(1) :]


def verify(path: str | Path) -> bool:
    """Compare a file with the digest inside it.

    Returns:
        True when it has one and it matches, False when the file has none.

    Raises:
        FormatError: the content does not match.
    """
    with open_regular(path) as f:
        return verify_open(f, path)


def verify_open(f: BinaryIO, path: str | Path) -> bool:
    """As `verify`, for an open file; its position is at the start afterwards."""
    head = _read_at(f, 0, 8)
    size = f.seek(0, 2)
    if head == PNG_START:
        _png_chunks(f, size, path)
        f.seek(0)
        return True
    found = _parquet_seal(f, size) or _tensor_seal(f, size)
    if found is not None:
        start, end, want, filler = found
        if _digest_without(f, start, end, filler) != want:
            raise FormatError("the content does not match the sha256 inside it: the file is damaged", file=path)
    f.seek(0)
    return found is not None


def _digest_without(f: BinaryIO, start: int, end: int, filler: bytes) -> bytes:
    sha = hashlib.sha256()
    f.seek(0)
    left = start
    while left > 0 and (block := f.read(min(_CHUNK, left))):
        sha.update(block)
        left -= len(block)
    sha.update(filler)
    f.seek(end)
    while block := f.read(_CHUNK):
        sha.update(block)
    return sha.hexdigest().encode()


_Place = tuple[int, int, bytes, bytes]


def _read_at(f: BinaryIO, start: int, n: int) -> bytes:
    f.seek(start)
    return f.read(n)


def _parquet_seal(f: BinaryIO, size: int) -> _Place | None:
    if size < 12 + SEAL_BYTES:
        return None
    length = struct.unpack("<I", _read_at(f, size - 8, 4))[0]
    start = size - 8 - length - SEAL_BYTES
    if start < 4:
        return None
    seal = _read_at(f, start, SEAL_BYTES)
    if not seal.startswith(MARK):
        return None
    return start, start + SEAL_BYTES, seal[len(MARK) :], b""


def _tensor_seal(f: BinaryIO, size: int) -> _Place | None:
    if size < 10:
        return None
    length = struct.unpack("<Q", _read_at(f, 0, 8))[0]
    if length > min(size - 8, _MAX_HEADER) or _read_at(f, 8, 1) != b"{":
        return None
    found = _TENSOR_SEAL.search(_read_at(f, 8, length))
    return (8 + found.start(1), 8 + found.end(1), found[1], b"0" * 64) if found else None


def _png_chunks(f: BinaryIO, size: int, path: str | Path) -> None:
    """Every chunk's CRC (PNG specification 5.3), IEND last and nothing after it."""
    at, kind = 8, b""
    while at < size:
        raw = _read_at(f, at, 8)
        length = struct.unpack(">I", raw[:4])[0] if len(raw) == 8 else size
        kind = raw[4:]
        if kind == b"" or at + 12 + length > size:
            raise FormatError(f"the PNG is cut or damaged at byte {at}", file=path)
        f.seek(at + 4)
        crc, left = 0, length + 4
        while left and (block := f.read(min(_CHUNK, left))):
            crc, left = zlib.crc32(block, crc), left - len(block)
        if struct.unpack(">I", f.read(4))[0] != crc:
            raise FormatError(f"the PNG's checksum differs at byte {at}", file=path)
        at += 12 + length
        if kind == b"IEND" and at != size:
            raise FormatError(f"{size - at} bytes after the end of the PNG", file=path)
    if kind != b"IEND":
        raise FormatError("the PNG has no end", file=path)
