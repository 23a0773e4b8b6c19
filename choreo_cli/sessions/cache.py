"""What was seen before: SQLite, one row a folder; a file counts as seen while size, times and inode are the same."""

from __future__ import annotations

import os
import sqlite3
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from choreo_cli.sessions.scan import File
from choreo_cli.sessions.sniff import READER_VERSION
from formats.inventory import FORMAT, REASON, Row

FRESH_NS = 2_000_000_000
FLUSH = 500  # folders that wait for one transaction
NAME = "discover.sqlite3"
_SCHEMA = "CREATE TABLE IF NOT EXISTS folders (folder BLOB PRIMARY KEY, version TEXT, files BLOB) WITHOUT ROWID"
_BESIDE = ("amc", "humanml3d")  # formats whose file needs another one in its folder
Seen = tuple[str | None, Row]


class _Kept(msgspec.Struct, array_like=True):
    """One folder: its distinct rows; per file name, size, mtime, ctime, inode, sha256, number of the row; and the rows
    of what its files are together, by the hash over their hashes."""

    rows: list[list[Any]]
    files: list[tuple[str, int, int, int, int, str | None, int]]
    groups: dict[str, list[Any]]


_decode = msgspec.msgpack.Decoder(_Kept).decode
_encode = msgspec.msgpack.Encoder().encode


class Cache:
    """Facts of files seen before. A cache that cannot be used is no cache: everything is new, and `problem` says why.

    Reading never waits for a writer (write-ahead log); a writer that cannot get in within a second goes without.

    Args:
        folder: Where it lies; None works without.
        version: What the facts depend on besides the files.
    """

    def __init__(self, folder: Path | None, version: str = "") -> None:
        self.version = f"{READER_VERSION}:{version}"
        self.problem = ""
        self._started_ns = time.time_ns()
        self._db: sqlite3.Connection | None = None
        self._waiting: list[tuple[bytes, str, bytes]] = []
        if folder is None:
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # Autocommit: a read transaction left open would stop the log from being folded in.
            self._db = sqlite3.connect(folder / NAME, timeout=1, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.execute(_SCHEMA)
        except (OSError, sqlite3.Error) as e:
            self._give_up(e)

    def known(self, place: str, files: list[File]) -> tuple[dict[str, Seen], dict[str, Row]]:
        """What of a folder did not change: name -> (sha256, row) of its files, and the rows of its groups."""
        kept = self._kept(place)
        if kept is None:
            return {}, {}
        rows = kept.rows
        try:
            before = {f[:5]: (f[5], rows[f[6]]) for f in kept.files}
        except IndexError:
            return {}, {}
        return {f[0]: before[f] for f in files if f in before}, kept.groups

    def _kept(self, place: str) -> _Kept | None:
        if self._db is None:
            return None
        try:
            row = self._db.execute(
                "SELECT version, files FROM folders WHERE folder = ?", (os.fsencode(place),)
            ).fetchone()
            if row is None or row[0] != self.version or row[1][:4] != _checksum(row[1][4:]):
                return None  # a damaged row: its folder is looked at again and the row replaced
            return _decode(row[1][4:])
        except sqlite3.Error as e:
            self._give_up(e)
        except (msgspec.DecodeError, UnicodeDecodeError, TypeError):
            pass  # damaged, and by chance with the right checksum
        return None

    def remember(self, place: str, files: list[File], seen: dict[str, Seen], groups: dict[str, Row]) -> None:
        """Keep what is known of a folder now. A file too young for its times to tell a second write is left out."""
        if self._db is None:
            return
        numbers: dict[int, int] = {}
        rows: list[Row] = []
        kept = []
        for f in files:
            if f[0] not in seen or abs(self._started_ns - f[2]) < FRESH_NS or f[2] > self._started_ns:
                continue
            sha, row = seen[f[0]]
            if len(row) > REASON and row[FORMAT] in _BESIDE and row[REASON] is not None:
                continue  # what it lacks may be put beside it without touching it
            if id(row) not in numbers:
                numbers[id(row)] = len(rows)
                rows.append(row)
            kept.append((*f, sha, numbers[id(row)]))
        content = _encode(_Kept(rows, kept, groups))
        self._waiting.append((os.fsencode(place), self.version, _checksum(content) + content))
        if len(self._waiting) >= FLUSH:
            self.flush()

    def flush(self) -> None:
        """Write what waits, in one transaction."""
        if self._db is None or not self._waiting:
            return
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany("INSERT OR REPLACE INTO folders VALUES (?, ?, ?)", self._waiting)
            self._db.execute("COMMIT")
        except sqlite3.Error as e:
            self._give_up(e)
        self._waiting = []

    def close(self) -> None:
        self.flush()
        if self._db is not None:
            self._db.close()
            self._db = None

    def _give_up(self, e: Exception) -> None:
        self.problem = f"the cache is not used: {e}"
        if self._db is not None:
            self._db.close()
            self._db = None


def _checksum(content: bytes) -> bytes:
    """SQLite does not notice a flipped bit inside a row."""
    return zlib.crc32(content).to_bytes(4, "big")


@contextmanager
def opened(folder: Path | None, version: str = "") -> Iterator[Cache]:
    """A cache that is closed at the end."""
    cache = Cache(folder, version)
    try:
        yield cache
    finally:
        cache.close()
