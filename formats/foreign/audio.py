"""Sound files, videos and feature archives: recognised by their first bytes, described without decoding."""

from __future__ import annotations

import re
from collections.abc import Callable

from formats.foreign.containers import container_facts, video_times
from formats.foreign.features_npz import npz_facts, read_features, sniff_npz
from formats.foreign.model import Facts
from formats.foreign.registry import Reader
from formats.foreign.sound import VIDEO_EXTRA, SndfileSound, libsndfile_format, open_sound
from formats.foreign.sound_headers import mp3_problems
from formats.foreign.source import Source

_SOUND_BRANDS = (b"M4A ", b"M4B ", b"M4P ", b"F4A ")
_IMAGE_BRANDS = (b"heic", b"heix", b"hevc", b"mif1", b"msf1", b"avif", b"avis", b"crx ")
_ATOMS = (b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")


def _suffix(name: str) -> str:
    return re.sub(r".*(\.[^.]*)$", r"\1", name.lower()) if "." in name else ""


def _is_m4a(head: bytes, name: str, size: int) -> bool:
    if head[4:8] != b"ftyp" or head[8:12] in _IMAGE_BRANDS:
        return False
    return head[8:12] in _SOUND_BRANDS or _suffix(name) in (".m4a", ".m4b")


def _is_adts(head: bytes, name: str, size: int) -> bool:
    """AAC in ADTS frames (ISO/IEC 13818-7): two sync words in the distance the first header gives."""
    if len(head) < 7 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0:
        return False
    length = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    after = head[length : length + 2]
    return length >= 7 and (len(head) <= length + 2 or (after[:1] == b"\xff" and after[1] & 0xF6 == 0xF0))


def _is_mp4(head: bytes, name: str, size: int) -> bool:
    if head[4:8] == b"ftyp":
        return head[8:12] not in _IMAGE_BRANDS and head[8:12] != b"qt  "
    return False


def _is_mov(head: bytes, name: str, size: int) -> bool:
    if head[4:8] == b"ftyp":
        return head[8:12] == b"qt  "
    return head[4:8] in _ATOMS and _suffix(name) in (".mov", ".mp4", ".m4v", ".qt")


def _is_avi(head: bytes, name: str, size: int) -> bool:
    return head[:4] == b"RIFF" and head[8:12] == b"AVI "


def _is_webm(head: bytes, name: str, size: int) -> bool:
    return head[:4] == b"\x1aE\xdf\xa3" and b"webm" in head[:64]


def _is_mkv(head: bytes, name: str, size: int) -> bool:
    return head[:4] == b"\x1aE\xdf\xa3" and b"webm" not in head[:64]


def _sound_facts(source: Source) -> Facts:
    """Facts of what libsndfile decodes: header only; the numbers of a cut MP3 come from its own header frame."""
    name = libsndfile_format(source.head) or "sound"
    if name == "mp3":
        with source.open() as f:
            problems, declared = mp3_problems(f, source.size)
        if problems and declared:
            samples, rate = declared
            return Facts("audio", name, samples, (rate, 1), round(samples * 1_000_000 / rate), problems=problems)
    with SndfileSound(source) as s:
        duration_us = None if s.frames is None else round(s.frames * 1_000_000 / s.rate)
        return Facts(
            "audio", name, s.frames, (s.rate, 1), duration_us, s.channels, problems=tuple(s.problems),
            meta=_tags(s.tags()),
        )  # fmt: skip


def _tags(found: dict[str, str]) -> dict[str, str]:
    return {k: found[k][:200] for k in ("title", "artist") if found.get(k)}


def _contained(name: str, kind: str) -> Callable[[Source], Facts]:
    def facts(source: Source) -> Facts:
        try:
            return container_facts(source, name)
        except ImportError:
            return Facts(kind, name, reason=f"{name} needs the extra: {VIDEO_EXTRA}")

    return facts


def _sndfile_reader(name: str) -> Reader:
    def sniff(head: bytes, file_name: str, size: int) -> bool:
        return libsndfile_format(head) == name

    return Reader(name, "audio", sniff, _sound_facts, open_sound, 20)


READERS: tuple[Reader, ...] = (
    *(_sndfile_reader(name) for name in ("wav", "aiff", "flac", "ogg", "opus")),
    Reader("m4a", "audio", _is_m4a, _contained("m4a", "audio"), open_sound, 20),
    Reader("mov", "video", _is_mov, _contained("mov", "video"), video_times, 21),
    Reader("mp4", "video", _is_mp4, _contained("mp4", "video"), video_times, 22),
    Reader("avi", "video", _is_avi, _contained("avi", "video"), video_times, 20),
    Reader("webm", "video", _is_webm, _contained("webm", "video"), video_times, 20),
    Reader("mkv", "video", _is_mkv, _contained("mkv", "video"), video_times, 20),
    Reader("aac", "audio", _is_adts, _contained("aac", "audio"), open_sound, 30),
    _sndfile_reader("mp3"),
    Reader("features-npz", "features", sniff_npz, npz_facts, read_features, 60),
)
