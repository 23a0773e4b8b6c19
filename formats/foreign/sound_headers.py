"""Lengths in the headers of WAV, MP3 and Ogg files, held against the file: decoders read cut files without a word."""

from __future__ import annotations

import struct
from typing import BinaryIO

_MAX_CHUNKS = 1000
_UNKNOWN = 0xFFFFFFFF  # written by programs that stream and never come back to the header


def wav_problems(f: BinaryIO, size: int) -> tuple[str, ...]:
    """Compare the declared data bytes with the file.

    Args:
        f: The open file; its position is moved.
        size: Bytes in the file.

    Returns:
        `code: sentence` for each contradiction; decoders read such files short without an error.
    """
    f.seek(0)
    riff = f.read(12)
    if len(riff) < 12 or riff[:4] not in (b"RIFF", b"RF64") or riff[8:] != b"WAVE":
        return ()
    at, long_size = 12, None
    for _ in range(_MAX_CHUNKS):
        f.seek(at)
        head = f.read(8)
        if len(head) < 8:
            return ("no_data: the WAV file has no data chunk",)
        name, length = head[:4], struct.unpack("<I", head[4:])[0]
        if name == b"ds64":
            body = f.read(16)
            long_size = struct.unpack("<Q", body[8:16])[0] if len(body) == 16 else None
        if name == b"data":
            declared = long_size if riff[:4] == b"RF64" and long_size is not None else length
            return _data_problems(f, at + 8, declared, size)
        at += 8 + length + length % 2
    return ("no_data: the WAV file has no data chunk among its first 1000",)


def _data_problems(f: BinaryIO, start: int, declared: int, size: int) -> tuple[str, ...]:
    present = size - start
    if declared == _UNKNOWN:
        return (f"length_unknown: the WAV header leaves the length open, {present} bytes follow",)
    if declared > present:
        return (f"truncated: the WAV header declares {declared} bytes of sound, {present} are there",)
    end = start + declared + declared % 2
    if end >= size:
        return ()
    f.seek(end)
    name = f.read(8)[:4]
    if len(name) == 4 and all(32 <= b < 127 for b in name):
        return ()
    return (f"length_contradiction: the WAV header declares {declared} bytes of sound, {present} follow",)


# MPEG audio, ISO/IEC 11172-3 and 13818-3: layer III.
_BITRATES = {
    1: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}


def mp3_frame(head: bytes, at: int = 0) -> tuple[int, int, int] | None:
    """Read a layer III frame header: (bytes in the frame, sample rate, samples), or None when there is none."""
    if len(head) < at + 4 or head[at] != 0xFF or head[at + 1] & 0xE6 != 0xE2:
        return None
    version, bitrate, rate = head[at + 1] >> 3 & 3, head[at + 2] >> 4, head[at + 2] >> 2 & 3
    if version == 1 or bitrate in (0, 15) or rate == 3:
        return None
    samples = 1152 if version == 3 else 576
    hz = _RATES[version][rate]
    kbps = _BITRATES[1 if version == 3 else 2][bitrate]
    return samples // 8 * kbps * 1000 // hz + (head[at + 2] >> 1 & 1), hz, samples


def id3_bytes(head: bytes) -> int:
    """Return the length of an ID3v2 tag at the start, 0 when there is none."""
    if head[:3] != b"ID3" or len(head) < 10:
        return 0
    a, b, c, d = head[6:10]
    return 10 + (a << 21 | b << 14 | c << 7 | d) + (10 if head[5] & 0x10 else 0)


def mp3_problems(f: BinaryIO, size: int) -> tuple[tuple[str, ...], tuple[int, int] | None]:
    """Compare an MP3's Xing or Info header with the file.

    Returns:
        (problems, (samples per channel, rate) the header declares or None without such a header).
    """
    f.seek(0)
    skip = id3_bytes(f.read(10))
    f.seek(skip)
    head = f.read(4096)
    frame = mp3_frame(head)
    if frame is None:
        return (), None
    at = next((i for i in (head.find(b"Xing", 0, 64), head.find(b"Info", 0, 64)) if i >= 0), -1)
    if at < 0 or len(head) < at + 16:
        return (), None
    flags, count, length = struct.unpack(">III", head[at + 4 : at + 16])
    if not flags & 1:
        return (), None
    declared = count * frame[2], frame[1]
    if flags & 2 and length > (size - skip) * 1.01:
        return (f"truncated: the MP3 header declares {length} bytes, {size - skip} are there",), declared
    return (), declared


_OGG_TAIL = 65_536 + 282  # the longest page is 65,307 bytes


def ogg_problems(f: BinaryIO, size: int) -> tuple[str, ...]:
    """Look whether the last Ogg page is whole and marked as the end of its stream (RFC 3533, section 6)."""
    start = max(size - _OGG_TAIL, 0)
    f.seek(start)
    tail = f.read(_OGG_TAIL)
    at = tail.rfind(b"OggS")
    if at < 0 or len(tail) < at + 27:
        return ("truncated: the Ogg file ends inside a page",)
    table = tail[at + 27 : at + 27 + tail[at + 26]]
    if len(table) < tail[at + 26] or at + 27 + len(table) + sum(table) > len(tail):
        return ("truncated: the Ogg file ends inside a page",)
    if not tail[at + 5] & 4:
        return ("truncated: the last Ogg page is not marked as the end",)
    return ()
