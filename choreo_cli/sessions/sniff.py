"""Look at one file: hash it, recognise it by content, and write down its facts; nothing may escape."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from formats.errors import FormatError
from formats.foreign import plain, registry
from formats.foreign.model import Facts
from formats.foreign.registry import Reader
from formats.foreign.source import HEAD_BYTES, Source
from formats.inventory import FORMAT, Row, plain_row, row_of

# Raised when a reader changes what it says of a file: cached facts of another version are not used.
READER_VERSION = "3"
WHOLE = 4 * 2**20  # a file up to here is read once, for its hash and for its reader
FRAME = "openpose"  # the format of one frame: a folder of them is one recording, looked at as a whole
_CHUNK = 2**20
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0)
_BLANK = b"\xef\xbb\xbf \t\r\n\x0b\x0c"
_OWN = (b'{"schema":"choreo.', b'{\n "schema": "choreo.')
_MAPPABLE = ("pose-json", "pose-jsonl", "pose-csv", "plain", "unknown", "empty", "joints-npy", "joints-npz",
             "features-npz", "c3d", "trc", "mat")  # fmt: skip
_MAP_SUFFIX = {"json": (".json",), "jsonl": (".jsonl", ".ndjson", ".json"), "csv": (".csv", ".tsv", ".txt"),
               "array": (".npy", ".npz"), "markers": (".c3d", ".trc", ".mat")}  # fmt: skip

# Which first bytes a format can have. Asking sixty readers about each of a hundred thousand small files costs more
# than reading them; a format that is not named here is always asked. A test compares with asking everyone.
_JSON = b"{["
_MAGIC: dict[str, bytes] = {
    "wav": b"R", "avi": b"R", "aiff": b"F", "flac": b"f", "ogg": b"O", "opus": b"O", "mp3": b"I\xff", "aac": b"\xff",
    "mkv": b"\x1a", "webm": b"\x1a", "midi": b"M", "mat": b"M", "smpl-npz": b"P", "features-npz": b"P",
    "humanml3d": b"\x93", "joints-npy": b"\x93", "joints-npz": b"P", "fbx": b"K",
    "garmin-fit": b"\x0c\x0e", "smpl-pkl": b"\x80(c}]", "c3d": bytes(range(2, 65)),
}  # fmt: skip
_TEXT: dict[str, bytes] = {
    **dict.fromkeys(
        ("brace-beats", "heart-json", "openpose", "dwpose", "arkit-json", "vision-json", "session-meta",
         "mediapipe-json", "playlist-json", "coco-json", "pose-jsonl", "pose-json"), _JSON),
    **dict.fromkeys(("apple-health", "rekordbox-xml", "apple-music-xml"), b"<"),
    **dict.fromkeys(("e4", "garmin-events", "garmin-acc"), b"0123456789"),
    **dict.fromkeys(("e4-ibi", "tempo-text", "onset-text", "beat-text"), b"0123456789+-.#\"' ,;"),
    "stepmania": b"#/", "trc": b"P", "bvh": b"hH\xff\xfe",
}  # fmt: skip
_TABLES = ("heart-csv", "qom-csv", "mediapipe-csv", "coco-csv", "pose-csv")  # a header line with a delimiter
_NO_NUL = (*_TABLES[:1], *_TABLES[2:], "e4", "garmin-events", "garmin-acc", "tempo-text", "onset-text", "beat-text")
# Formats known by a word anywhere or by the file's name; m3u also by a `#` at its start.
_RARE = ("m3u", "cue", "asf", "amc", "e4-tags")
_RARE_END = (".m3u", ".m3u8", ".cue", "tags.csv", "tags_s.csv")
_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
_BOXED = ("m4a", "mov", "mp4")


def look(
    place: str, name: str, size: int, mapping: dict[str, Any] | None = None, *, alone: bool = False
) -> tuple[str | None, Row]:
    """sha256 (hex) and facts of one file. A file that cannot be used has a reason; no exception leaves.

    Args:
        place: The folder.
        name: The file in it; not opened when it has become a link, a FIFO or a device.
        size: From its stat.
        mapping: With --map: how to read JSON and CSV that no reader knows better.
        alone: An OpenPose frame is a recording of its own, and not one of its folder's.
    """
    path = f"{place}/{name}"
    try:
        fd = os.open(path, _FLAGS)
        try:
            data = os.read(fd, size + 1 if size <= WHOLE else HEAD_BYTES)
            sha = hashlib.sha256(data)
            total = size
            if len(data) != size:
                if not stat.S_ISREG(os.fstat(fd).st_mode):  # it was, when its folder was listed
                    return None, _unreadable("not a regular file any more")
                total = _hash_rest(fd, sha, len(data))
        finally:
            os.close(fd)
    except OSError as e:
        return None, _unreadable(_why(e))
    except MemoryError:
        return None, _unreadable("not enough memory to read it")
    return sha.hexdigest(), _row(path, name, total, data, total == len(data), mapping, alone)


def _hash_rest(fd: int, sha: Any, done: int) -> int:
    """Hash what is left of an open file; its size."""
    while chunk := os.read(fd, _CHUNK):
        sha.update(chunk)
        done += len(chunk)
    return done


def _why(e: OSError) -> str:
    if e.errno in (errno.EACCES, errno.EPERM):
        return "cannot be read: permission denied"
    if e.errno == errno.ELOOP:
        return "a link by now, which is not followed"
    return f"cannot be read: {(e.strerror or type(e).__name__).lower()}"


def _unreadable(why: str) -> Row:
    return plain_row("other", "unreadable", why, {})


def _row(path: str, name: str, size: int, data: bytes, whole: bool, mapping: dict[str, Any] | None, alone: bool) -> Row:
    head = data[:HEAD_BYTES]
    if head.startswith(_OWN):
        return _own_document(head)
    reader = recognise(head, name, size)
    if reader.format == FRAME and not alone:
        return [FRAME]
    source = None
    if mapping is not None and reader.format in _MAPPABLE:
        source = Source(Path(path), size, head, data if whole else None)
        mapped = _mapped(source, mapping)
        if mapped is not None:
            return mapped
    if reader.format == "plain":
        if head[:4] == b"PAR1":
            return _contained(reader, Source(Path(path), size, head), _parquet)
        format, note, reason = plain.classify(head, name, size)
        return _plain(format, note, reason)
    return _contained(reader, source or Source(Path(path), size, head, data if whole else None), reader.facts)


@lru_cache(maxsize=4096)
def _plain(format: str, note: str, reason: str | None) -> Row:
    """One row for all that are alike: most files of a disk say nothing else."""
    return plain_row("other", format, reason, {"note": note})


def _contained(reader: Reader, source: Source, facts: Any) -> Row:
    """The row of a reader's facts; whatever its parser meets becomes a reason."""
    kind, format = reader.kind, reader.format
    try:
        return row_of(facts(source))
    except FormatError as e:
        where = "" if e.row is None else f" (row {e.row})"
        hint = f": {e.hint}" if e.hint else ""
        reason = f"{e.message}{where}{hint}"
    except OSError as e:
        reason = _why(e)
    except MemoryError:
        reason = "not enough memory to read it"
    except Exception as e:  # a reader's own fault must not end the listing of a disk
        reason = f"its {format} reader failed: {type(e).__name__}: {str(e)[:120]}"
    return row_of(Facts(kind, format, reason=" ".join(reason.split())))


def recognise(head: bytes, name: str, size: int) -> Reader:
    """The reader that claims a file; asks only those whose formats can begin like this."""
    first = head[:1]
    text = head if first not in _BLANK else head.lstrip(_BLANK)
    line = text[: text.find(b"\n") + 1 or None]
    table = b"," in line or b";" in line or b"\t" in line or line[:1] == b"#"
    binary = b"\0" in head[:256]
    rare = (
        any(word in head for word in (b":units", b":DEGREES", b":RADIANS", b":FULLY-SPECIFIED", b"TRACK 01 AUDIO"))
        or name.lower().endswith(_RARE_END)
    )  # fmt: skip
    for sniff, reader in _candidates(first, text[:1], head[4:8] in _BOXES, table, binary, rare):
        if sniff(head, name, size):
            return reader
    return registry.load()[-1]


@cache
def _candidates(
    first: bytes, start: bytes, boxed: bool, table: bool, binary: bool, rare: bool
) -> tuple[tuple[Any, Reader], ...]:
    """Readers of the formats that can have this first byte, this one after blanks, this first line, these bytes."""
    return tuple((r.sniff, r) for r in registry.load() if _possible(r.format, first, start, boxed, table, binary, rare))


def _possible(format: str, first: bytes, start: bytes, boxed: bool, table: bool, binary: bool, rare: bool) -> bool:
    if format in _BOXED:
        return boxed
    if (binary and format in _NO_NUL) or (not rare and format in _RARE):
        return start == b"#" and format == "m3u"
    if format in _TABLES:
        return table and start not in (b"{", b"[")
    if format in _MAGIC:
        return first != b"" and first in _MAGIC[format]
    return format not in _TEXT or (start != b"" and start in _TEXT[format])


def _own_document(head: bytes) -> Row:
    name = head.split(b'"', 4)[3].decode("ascii", "replace")
    row = plain_row("other", name, None, {"note": f"a {name} document of choreo"})
    row[13] = b'"synthetic": true' in head
    return row


def _parquet(source: Source) -> Facts:
    """Our tables: frames are what `train` reads, the rest is not a recording."""
    from formats.tables import read_metadata

    try:
        name = read_metadata(source.path).get("choreo.schema", "")
    except FormatError as e:
        return Facts("other", "parquet", reason=e.message)
    if name.startswith("choreo.frames/"):
        return Facts("frames", name, meta={"note": "ready frames: train reads them as they are"})
    return Facts("other", name or "parquet", meta={"note": f"a {name} table" if name else "a table of another program"})


def _mapped(source: Source, mapping: dict[str, Any]) -> Row | None:
    """The pose recording that the user's map finds in a file, None when it does not fit."""
    from formats.foreign.mapping import read_with_map
    from formats.foreign.pose_build import stream_facts

    if source.suffix not in _MAP_SUFFIX.get(mapping["format"], ()) or not source.size:
        return None
    try:
        kind = "motion" if mapping["format"] in ("array", "markers") else "pose"
        facts = stream_facts(read_with_map(source, mapping), kind, "mapped", {"map": mapping})
    except (FormatError, OSError, MemoryError):
        return None
    return row_of(facts)


def look_at_frames(paths: list[str]) -> Row:
    """Facts of the frames of one OpenPose folder, which are one recording."""
    from formats.foreign import openpose

    reader = next(r for r in registry.load() if r.format == FRAME)
    row = _contained(reader, Source(Path(paths[0]), 0), lambda _: openpose.facts_folder(paths))
    row[FORMAT] = openpose.FORMAT
    return row


def strict(row: Row) -> Row:
    """With --strict a doubt is a reason."""
    return row if row[11] or not row[12] else [*row[:11], row[12][0], *row[12:]]
