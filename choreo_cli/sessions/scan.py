"""Walk folders fast and safely: what is a file, what is left alone, what may never be opened."""

from __future__ import annotations

import os
import stat
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from choreo_cli.errors import NoInputError
from formats.foreign.plain import ignored

_OWN_OUTPUT = {"pairs.json": b'{"schema":"choreo.pairs/'}


class File(NamedTuple):
    """A regular file: path relative to its root, and what its stat says."""

    root: str
    path: str
    size: int
    mtime_ns: int
    inode: int


@dataclass(slots=True)
class Walked:
    """What a walk saw.

    Args:
        files: Regular files, sorted by (root, path bytes).
        ignored: Reason -> how many entries were left alone (system files, cloud placeholders).
        special: Kind -> how many links, FIFOs, sockets and devices were not opened.
        outputs: (root, path) of folders that `choreo pair` wrote.
        closed: (root, path, reason) of folders that could not be listed.
    """

    files: list[File] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)
    special: Counter[str] = field(default_factory=Counter)
    outputs: list[tuple[str, str]] = field(default_factory=list)
    closed: list[tuple[str, str, str]] = field(default_factory=list)


def walk(roots: dict[str, Path]) -> Walked:
    """List every file below the roots.

    A link is followed only when it stays inside its root and leads to a file. Nothing is opened but, in a folder with
    a pairs.json, its first bytes.

    Args:
        roots: Root id -> folder, or a single file.

    Raises:
        NoInputError: a root does not exist.
    """
    out = Walked()
    for name, top in roots.items():
        try:
            mode = os.stat(top).st_mode
        except OSError as e:
            raise NoInputError(f"{top}: {(e.strerror or 'cannot be opened').lower()}") from None
        if stat.S_ISDIR(mode):
            _walk_root(name, str(top), out)
        elif stat.S_ISREG(mode):
            s = os.stat(top)
            out.files.append(File(name, top.name, s.st_size, s.st_mtime_ns, s.st_ino))
        else:
            raise NoInputError(f"{top} is not a file or a folder")
    out.files.sort(key=lambda f: (f.root, os.fsencode(f.path)))
    return out


def _walk_root(root: str, top: str, out: Walked) -> None:
    real = os.path.realpath(top)
    todo = [("", top)]
    while todo:
        prefix, folder = todo.pop()
        try:
            with os.scandir(folder) as entries:
                listed = list(entries)
        except OSError as e:
            out.closed.append((root, prefix.rstrip("/") or ".", (e.strerror or "cannot be listed").lower()))
            continue
        if prefix and any(e.name in _OWN_OUTPUT for e in listed) and _is_output(folder):
            out.outputs.append((root, prefix.rstrip("/")))
            continue
        for e in listed:
            _take(e, root, real, prefix, out, todo)


def _take(e: os.DirEntry[str], root: str, real: str, prefix: str, out: Walked, todo: list[tuple[str, str]]) -> None:
    try:
        if e.is_symlink():
            _take_link(e, root, real, prefix, out)
            return
        s = e.stat(follow_symlinks=False)
    except OSError:
        out.special["unreadable entry"] += 1
        return
    folder = stat.S_ISDIR(s.st_mode)
    if not folder and not stat.S_ISREG(s.st_mode):
        out.special[_special(s.st_mode)] += 1
        return
    blocks = -1 if folder else getattr(s, "st_blocks", -1)
    why = ignored(e.name, 0 if folder else s.st_size, blocks, getattr(s, "st_flags", 0))
    if why is not None:
        out.ignored[why] += 1
    elif folder:
        todo.append((f"{prefix}{e.name}/", e.path))
    elif e.name != ".choreo.lock":
        out.files.append(File(root, prefix + e.name, s.st_size, s.st_mtime_ns, s.st_ino))


def _take_link(e: os.DirEntry[str], root: str, real: str, prefix: str, out: Walked) -> None:
    """Links are counted, never followed: the file behind one is found where it lies, or lies outside."""
    target = os.path.realpath(e.path)
    inside = os.path.commonpath([real, target]) == real
    out.special["link inside the root" if inside else "link out of the root"] += 1


def _is_output(folder: str) -> bool:
    from formats.errors import FormatError
    from formats.foreign.source import open_regular

    for name, start in _OWN_OUTPUT.items():
        try:
            with open_regular(os.path.join(folder, name)) as f:
                if f.read(len(start)) == start:
                    return True
        except (OSError, FormatError):
            continue
    return False


def _special(mode: int) -> str:
    for test, name in (
        (stat.S_ISFIFO, "FIFO"),
        (stat.S_ISSOCK, "socket"),
        (stat.S_ISBLK, "device"),
        (stat.S_ISCHR, "device"),
    ):
        if test(mode):
            return name
    return "special file"
