"""What was seen of a file before: SQLite, keyed by path, size, mtime and inode; doubtful rows are not used."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from choreo_cli.sessions.scan import File
from choreo_cli.sessions.sniff import READER_VERSION

FRESH_NS = 2_000_000_000
_SCHEMA = """
CREATE TABLE IF NOT EXISTS seen (
  path BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER, inode INTEGER, version TEXT, sha256 TEXT, facts BLOB
) WITHOUT ROWID
"""
_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode


class Cache:
    """Facts of files seen before. A cache that cannot be opened or is damaged is no cache: everything is new.

    Args:
        folder: Where it lies; None works without.
        version: What the facts depend on besides the file.
    """

    def __init__(self, folder: Path | None, version: str = "") -> None:
        self.version = f"{READER_VERSION}:{version}"
        self.problem = ""
        self._db: sqlite3.Connection | None = None
        if folder is None:
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(folder / "discover.sqlite3", timeout=5)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=OFF")
            self._db.execute(_SCHEMA)
        except (OSError, sqlite3.Error) as e:
            self._give_up(e)

    def known(self, root: Path, files: Iterable[File]) -> dict[str, tuple[str | None, dict[str, Any]]]:
        """path -> (sha256, facts) of the files of one root that did not change since they were seen."""
        rows = self._rows(root)
        now = time.time_ns()
        found = {}
        for f in files:
            row = rows.get(os.fsencode(f.path))
            if row is None or row[:3] != (f.size, f.mtime_ns, f.inode) or row[3] != self.version:
                continue
            if now - f.mtime_ns < FRESH_NS:
                continue  # a second write within the clock's grain would not show
            found[f.path] = (row[4], _decode(row[5]))
        return found

    def _rows(self, root: Path) -> dict[bytes, tuple[Any, ...]]:
        if self._db is None:
            return {}
        start = os.fsencode(root) + b"/"
        try:
            cursor = self._db.execute(
                "SELECT path, size, mtime_ns, inode, version, sha256, facts FROM seen WHERE path >= ? AND path < ?",
                (start, start[:-1] + b"0"),
            )
            return {row[0][len(start) :]: row[1:] for row in cursor}
        except sqlite3.Error as e:
            self._give_up(e)
            return {}

    def remember(self, root: Path, seen: Iterable[tuple[File, str | None, dict[str, Any]]]) -> None:
        """Keep what was seen now, in one transaction."""
        if self._db is None:
            return
        start = os.fsencode(root) + b"/"
        rows = (
            (start + os.fsencode(f.path), f.size, f.mtime_ns, f.inode, self.version, sha, _encode(facts))
            for f, sha, facts in seen
        )
        try:
            with self._db:
                self._db.executemany("INSERT OR REPLACE INTO seen VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        except (sqlite3.Error, UnicodeEncodeError) as e:
            self._give_up(e)

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    def _give_up(self, e: Exception) -> None:
        self.problem = f"the cache is not used: {e}"
        self.close()


@contextmanager
def opened(folder: Path | None, version: str = "") -> Iterator[Cache]:
    """A cache that is closed at the end."""
    cache = Cache(folder, version)
    try:
        yield cache
    finally:
        cache.close()
