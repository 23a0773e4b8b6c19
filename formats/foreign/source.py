"""Open a stranger's file: regular files only, never through a link, never blocking, never more than a cap."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from formats.errors import FormatError

HEAD_BYTES = 4096
TEXT_CAP = 256 * 2**20


def open_regular(path: str | Path) -> BinaryIO:
    """Open a file for reading that must be regular; a FIFO never blocks and a link is refused.

    Raises:
        FormatError: not a regular file, or a symbolic link.
        OSError: it cannot be opened.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0))
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise FormatError("not a regular file", file=path)
    return os.fdopen(fd, "rb")


@dataclass(slots=True)
class Source:
    """A file being looked at. `name` is the file's name as found, `head` its first 4 KiB."""

    path: Path
    size: int
    head: bytes = b""
    content: bytes | None = field(default=None, repr=False)

    @classmethod
    def of(cls, path: str | Path) -> Source:
        """Open, stat and read the head of `path`."""
        with open_regular(path) as f:
            size = os.fstat(f.fileno()).st_size
            return cls(Path(path), size, f.read(HEAD_BYTES))

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def suffix(self) -> str:
        return self.path.suffix.lower()

    def open(self) -> BinaryIO:
        return open_regular(self.path)

    def read_bytes(self, cap: int = TEXT_CAP) -> bytes:
        """The whole content. Raises FormatError when it is larger than `cap`."""
        if self.content is not None:
            return self.content
        if self.size > cap:
            raise FormatError(f"{self.size} bytes is more than the {cap} a text file may have", file=self.path)
        with self.open() as f:
            data = f.read(min(self.size, cap) + 1)
        if len(data) > self.size:
            raise FormatError("grew while it was being read", file=self.path, hint="run it again when it is finished")
        return data

    def read_text(self, cap: int = TEXT_CAP) -> str:
        """The content as UTF-8 (a BOM is dropped; UTF-16 with BOM is decoded). Raises FormatError otherwise."""
        data = self.read_bytes(cap)
        encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
        try:
            return data.decode(encoding)
        except UnicodeDecodeError as e:
            raise FormatError(f"not {encoding} text at byte {e.start}", file=self.path) from e
