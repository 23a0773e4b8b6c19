"""Classify what is not a recording, so that every file of a disk is listed; name what is never opened."""

from __future__ import annotations

from formats.foreign.jsonpeek import peek
from formats.foreign.model import Facts
from formats.foreign.registry import Reader
from formats.foreign.source import Source

_SYSTEM_FILES = {
    ".ds_store": "Finder settings",
    "thumbs.db": "Windows thumbnails",
    "desktop.ini": "Windows folder settings",
    "ehthumbs.db": "Windows thumbnails",
    ".localized": "Finder settings",
    ".directory": "folder settings",
    "icon\r": "Finder icon",
}
_SYSTEM_FOLDERS = {
    "__macosx": "AppleDouble copies of an archive",
    ".git": "version control",
    ".hg": "version control",
    ".svn": "version control",
    ".trashes": "rubbish bin",
    ".spotlight-v100": "search index",
    ".fseventsd": "file events",
    "$recycle.bin": "rubbish bin",
    "system volume information": "Windows volume data",
    "@eadir": "NAS thumbnails",
    ".dropbox.cache": "Dropbox cache",
    ".tmp.drivedownload": "Drive cache",
    "__pycache__": "Python cache",
}
# A placeholder of a cloud folder has a size but no blocks; file systems store up to this much inside the inode.
_INLINE_BYTES = 4096
# st_flags of a file whose content is not on this Mac (sys/stat.h).
_SF_DATALESS = 0x40000000
CLOUD = "a cloud placeholder, its content is not on this disk"

_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "PNG image"),
    (b"\xff\xd8\xff", "JPEG image"),
    (b"GIF8", "GIF image"),
    (b"%PDF-", "PDF document"),
    (b"BM", "BMP image"),
    (b"PK\x03\x04", "zip archive"),
    (b"PK\x05\x06", "empty zip archive"),
    (b"\x1f\x8b", "gzip data"),
    (b"BZh", "bzip2 data"),
    (b"\xfd7zXZ\x00", "xz data"),
    (b"7z\xbc\xaf'\x1c", "7-zip archive"),
    (b"Rar!", "RAR archive"),
    (b"SQLite format 3\x00", "SQLite database"),
    (b"\x7fELF", "program"),
    (b"MZ", "Windows program"),
    (b"bplist00", "binary property list"),
    (b"\xcf\xfa\xed\xfe", "program"),
    (b"II*\x00", "TIFF image"),
    (b"MM\x00*", "TIFF image"),
    (b"8BPS", "Photoshop image"),
    (b"\x28\xb5\x2f\xfd", "zstd data"),
    (b"wOFF", "font"),
    (b"\x00\x01\x00\x00\x00", "font"),
    (b"OTTO", "font"),
    (b"\x93NUMPY", "NumPy array"),
)
_BY_BYTE: dict[bytes, list[tuple[bytes, str]]] = {}
for _magic, _what in _MAGIC:
    _BY_BYTE.setdefault(_magic[:1], []).append((_magic, _what))
_SUFFIX: dict[str, str] = {
    "md": "Markdown",
    "rst": "text",
    "html": "HTML page",
    "htm": "HTML page",
    "css": "style sheet",
    "svg": "SVG image",
    "py": "source code",
    "ipynb": "notebook",
    "js": "source code",
    "ts": "source code",
    "c": "source code",
    "h": "source code",
    "cpp": "source code",
    "swift": "source code",
    "java": "source code",
    "sh": "script",
    "m": "source code",
    "r": "source code",
    "toml": "configuration",
    "ini": "configuration",
    "cfg": "configuration",
    "yaml": "configuration",
    "yml": "configuration",
    "tex": "text",
    "bib": "bibliography",
    "log": "log",
    "srt": "subtitles",
    "vtt": "subtitles",
    "lrc": "lyrics",
    "db": "database",
    "lock": "lock file",
    "plist": "property list",
    "gitignore": "configuration",
    "choreoignore": "configuration",
}
# Suffixes that promise a recording: an empty or foreign content under such a name is a fault, not a remark.
RECORDING_SUFFIXES = frozenset(
    (
        "wav",
        "wave",
        "flac",
        "mp3",
        "ogg",
        "oga",
        "opus",
        "m4a",
        "aac",
        "aif",
        "aiff",
        "mp4",
        "mov",
        "m4v",
        "avi",
        "mkv",
        "webm",
        "bvh",
        "asf",
        "amc",
        "c3d",
        "trc",
        "fbx",
        "npz",
        "npy",
        "parquet",
        "pkl",
        "mat",
        "mid",
        "midi",
        "fit",
        "sm",
        "ssc",
        "m3u",
        "m3u8",
        "cue",
        "safetensors",
    )
)
_NOT_RECORDING = "not a recording"
_CONTROL = bytes(set(range(32)) - set(b"\t\r\n\f\x1b"))


def ignored(name: str, st_size: int, st_blocks: int, st_flags: int = 0) -> str | None:
    """Why a file or folder is left alone without being opened; None when it is to be looked at.

    Args:
        name: Name of the entry, without its folder.
        st_size, st_blocks, st_flags: From its stat; `st_blocks` -1 where the system has none, `st_flags` macOS only.
    """
    lowered = name.lower()
    if lowered in _SYSTEM_FILES:
        return _SYSTEM_FILES[lowered]
    if lowered in _SYSTEM_FOLDERS:
        return _SYSTEM_FOLDERS[lowered]
    if name.startswith("._"):
        return "AppleDouble copy of a resource fork"
    if lowered.endswith(".icloud") and name.startswith("."):
        return CLOUD
    if lowered.endswith((".part", ".crdownload", ".partial")) or (name.startswith(".") and lowered.endswith(".tmp")):
        return "an unfinished download or write"
    if st_flags & _SF_DATALESS or (st_blocks == 0 and st_size > _INLINE_BYTES):
        return CLOUD
    return None


def _suffix(name: str) -> str:
    return name.rpartition(".")[2].lower() if "." in name else ""


def is_text(head: bytes) -> bool:
    """Whether a head is UTF-8 (or UTF-16 with BOM) text without control characters."""
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return True
    if len(head.translate(None, _CONTROL)) != len(head):
        return False
    try:
        head.decode("utf-8", errors="strict")
    except UnicodeDecodeError as e:
        # A character may be cut at the end of the head.
        return len(head) >= 4096 and e.start >= len(head) - 4
    return True


def _text_note(head: bytes, name: str, suffix: str) -> str:
    first = (head if head[:1].isalnum() else head.removeprefix(b"\xef\xbb\xbf").lstrip())[:256].lower()
    if first.startswith((b"<!doctype html", b"<html")):
        return f"HTML page, {_NOT_RECORDING}"
    if first.startswith(b"<"):
        return f"XML, {_NOT_RECORDING}"
    if first[:1] in (b"{", b"["):
        found = peek(head)
        if found is not None and (found.keys or found.root == "["):
            if b'"schema"' in first and b"choreo." in first:
                return "choreo manifest, not a recording"
            return "JSON with keys of no known recording"
    lowered = name.lower()
    if b"licen" in first or lowered.startswith(("licen", "copying", "notice")):
        return "licence or notice, not a recording"
    if lowered.startswith("readme"):
        return f"text, {_NOT_RECORDING}"
    if suffix in _SUFFIX:
        return f"{_SUFFIX[suffix]}, {_NOT_RECORDING}"
    if suffix in ("csv", "tsv"):
        return "table with columns of no known recording"
    return f"text, {_NOT_RECORDING}"


def classify(head: bytes, name: str, size: int) -> tuple[str, str, str | None]:
    """What a file is that no other reader claimed.

    Returns:
        Format name, one-phrase note, and the reason why it cannot be used (None when nobody expects it to be used).
    """
    suffix = _suffix(name)
    promised = suffix in RECORDING_SUFFIXES
    log = suffix in ("json", "jsonl", "ndjson")
    if size == 0:
        return "empty", "empty file", "the file is empty" if promised or log else None
    for magic, what in _BY_BYTE.get(head[:1], ()):
        if head.startswith(magic):
            expected = log or (promised and suffix not in ("npz", "npy", "safetensors"))
            fault = f"named .{suffix} but it is {what}" if expected else None
            fault = "a zip archive without known features" if suffix == "npz" and magic[:2] == b"PK" else fault
            return "plain", f"{what}, {_NOT_RECORDING}", fault
    text = is_text(head)
    if text and suffix in ("jsonl", "ndjson"):
        hint = "keys of no known recording: `choreo inspect FILE --suggest-map` makes a map for them"
        return "plain", _text_note(head, name, suffix), hint
    if text:
        fault = f"named .{suffix} but its content is not one" if promised else None
        return "plain", _text_note(head, name, suffix), fault
    if promised or log:
        return "unknown", "unknown content", f"named .{suffix} but its content is not one, or it is damaged"
    return "unknown", "unknown content, not read", None


def _facts(source: Source) -> Facts:
    format, note, reason = classify(source.head, source.name, source.size)
    return Facts("other", format, reason=reason, meta={"note": note})


def _any(head: bytes, name: str, size: int) -> bool:
    return True


READERS: tuple[Reader, ...] = (Reader("plain", "other", _any, _facts, None, order=99),)
