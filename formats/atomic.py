"""Write whole files or nothing: temp file, fsync, rename, fsync of the folder; locks and the sweep of dead temps."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
import socket
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

LOCK_NAME = ".choreo.lock"
_TEMP = re.compile(r"^\..+\.(\d+)\.[0-9a-f]{8}\.tmp$")
_CHUNK = 1 << 20


class Locked(Exception):
    """Another process holds the folder; `holder` is what it wrote about itself."""

    def __init__(self, folder: Path, holder: str) -> None:
        super().__init__(f"{folder} is locked by {holder}")
        self.folder = folder
        self.holder = holder


def sync_fd(fd: int) -> None:
    """Flush to the medium; on macOS fsync alone only reaches the drive's cache."""
    full = getattr(fcntl, "F_FULLFSYNC", None)
    if full is not None and sys.platform == "darwin":
        fcntl.fcntl(fd, full)
    else:
        os.fsync(fd)


def sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        sync_fd(fd)
    finally:
        os.close(fd)


def _umask_mode() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def temp_name(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")


@contextmanager
def writer(path: str | Path, *, sync: bool = True) -> Iterator[BinaryIO]:
    """Yield a binary file that becomes `path` when the block ends well, and vanishes when it does not.

    A target with the same content is not touched, so that Make stops early. A device or a pipe (`/dev/null`, the
    shell's `>(...)`) is written into, never replaced.

    Args:
        path: The file to create or replace.
        sync: False for status files, which need no durability.

    Raises:
        OSError: as the system reports it; the old file is then intact.
    """
    target = Path(path)
    if _is_stream(target):
        with open(target, "wb") as stream:
            yield stream
        return
    temp = temp_name(target)
    fd = os.open(temp, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o600)
    try:
        with os.fdopen(fd, "w+b") as f:
            yield f
            f.flush()
            if sync and _same(f, target):
                os.unlink(temp)
                return
            if sync:
                sync_fd(f.fileno())
            os.fchmod(f.fileno(), _umask_mode())
        os.replace(temp, target)
        if sync:
            sync_folder(target.parent)
    except BaseException:
        with contextlib.suppress(OSError):  # renamed already, or the disk is gone: the next run sweeps what is left
            os.unlink(temp)
        raise


def _is_stream(target: Path) -> bool:
    """A device, pipe or socket, or anything in /dev: a rename over it would take it away from the whole machine."""
    try:
        mode = os.stat(target).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) or target.parent == Path("/dev")


def _same(f: BinaryIO, target: Path) -> bool:
    try:
        known = os.stat(target, follow_symlinks=False)
    except OSError:
        return False
    size = f.tell()
    if not stat.S_ISREG(known.st_mode) or known.st_size != size:
        return False
    f.seek(0)
    with open(target, "rb") as old:
        while True:
            a, b = f.read(_CHUNK), old.read(_CHUNK)
            if a != b:
                f.seek(size)
                return False
            if not a:
                return True


def write_bytes(path: str | Path, data: bytes, *, sync: bool = True) -> str:
    """Write `data` as a whole and return its sha256 (hex)."""
    with writer(path, sync=sync) as f:
        f.write(data)
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: str | Path) -> str:
    """sha256 (hex) of a file's content, read in blocks."""
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def sweep(folder: Path, *, recursive: bool = True) -> list[Path]:
    """Remove temp files whose process is dead; returns what was removed. Call under the folder's lock."""
    removed = []
    walk = os.walk(folder) if recursive else [(str(folder), [], os.listdir(folder))]
    for root, _, names in walk:
        for name in names:
            m = _TEMP.match(name)
            if m and not alive(int(m.group(1))):
                path = Path(root, name)
                os.unlink(path)
                removed.append(path)
    return removed


def alive(pid: int) -> bool:
    """Whether a process of that number is there; one that cannot be asked counts as there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


@contextmanager
def lock(folder: Path, *, wait_s: float = 0.0, argv: str = "") -> Iterator[None]:
    """Hold the folder for this process; the system frees it when the process dies.

    Raises:
        Locked: another process holds it after `wait_s` seconds.
        FileNotFoundError: there is no such folder, or its holder took it away while we waited.
    """
    deadline = time.monotonic() + wait_s
    fd = _open_lock(folder)
    try:
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise Locked(folder, _holder(fd)) from None
                time.sleep(0.05)
                continue
            if _is_there(fd, folder):
                break
            # We hold a file that was taken away (`discard`): whoever came later locks the one that is there now.
            stale, fd = fd, _open_lock(folder)
            os.close(stale)
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"pid {os.getpid()} on {socket.gethostname()}: {argv}".encode(), 0)
        yield
        os.ftruncate(fd, 0)
    finally:
        os.close(fd)


def _open_lock(folder: Path) -> int:
    return os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)


def _is_there(fd: int, folder: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(folder / LOCK_NAME))
    except FileNotFoundError:
        return False


def discard(folder: Path) -> None:
    """Remove a folder that holds nothing but its lock. Call while holding it: who waits finds that it is gone."""
    with contextlib.suppress(OSError):  # gone already, or someone has put a lock of his own there: it is his folder now
        if os.listdir(folder) == [LOCK_NAME]:
            os.unlink(folder / LOCK_NAME)
            os.rmdir(folder)


def need_free(folder: Path) -> None:
    """Raise Locked when another process holds the folder; nothing is made and nothing is held afterwards.

    For a command that would need seconds before it can take the lock itself.
    """
    try:
        fd = os.open(folder / LOCK_NAME, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except OSError:
        return  # the folder, or its lock, has never been there: taking it says what is wrong
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Locked(folder, _holder(fd)) from None
    finally:
        os.close(fd)


def _holder(fd: int) -> str:
    return os.pread(fd, 400, 0).decode("utf-8", "replace").strip() or "another run"
