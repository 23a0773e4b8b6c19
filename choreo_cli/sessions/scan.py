"""Walk folders fast and safely: what is a file, what is left alone, what may never be opened."""

from __future__ import annotations

import os
import stat
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from choreo_cli.errors import NoInputError
from formats.errors import FormatError
from formats.foreign.plain import ignored

IGNORE_FILE = ".choreoignore"
LOCK = ".choreo.lock"
# name, size, mtime_ns, ctime_ns, inode: what decides whether a file is the one seen before.
File = tuple[str, int, int, int, int]
_OWN_OUTPUT = {"pairs.json": b'{"schema":"choreo.pairs/'}
_REGULAR, _FOLDER, _LINK = stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK
_SPECIAL = {stat.S_IFIFO: "FIFO", stat.S_IFSOCK: "socket", stat.S_IFBLK: "device", stat.S_IFCHR: "device"}


@dataclass(slots=True)
class Folder:
    """The regular files of one folder.

    Args:
        root: Id of its root.
        prefix: Its path relative to the root with `/` at the end, empty for the root itself.
        place: Where it lies, absolute.
        files: Its files, sorted by name.
    """

    root: str
    prefix: str
    place: str
    files: list[File]


@dataclass(slots=True)
class Walked:
    """What a walk saw. Names are `str` with surrogates where the bytes are not UTF-8.

    Args:
        folders: Folders with files, in no particular order.
        total: Files in all.
        ignored: Reason -> how many entries were left alone (system files, cloud placeholders), by root.
        special: (root, path, what, reason or None) of links, FIFOs, sockets, devices, and what could not be listed.
        outputs: (root, path) of folders that `choreo pair` wrote.
        rules: (root, prefix, file) of each `.choreoignore`.
    """

    folders: list[Folder] = field(default_factory=list)
    total: int = 0
    ignored: dict[str, Counter[str]] = field(default_factory=dict)
    special: list[tuple[str, str, str, str | None]] = field(default_factory=list)
    outputs: list[tuple[str, str]] = field(default_factory=list)
    rules: list[tuple[str, str, str]] = field(default_factory=list)


def walk(roots: dict[str, Path], only: dict[str, set[str]] | None = None) -> Walked:
    """List every file below the roots. Links are not followed, and nothing is opened but a pairs.json's first bytes.

    Args:
        roots: Root id -> folder.
        only: Root id -> the names to take of that folder, for roots that were named as files.

    Raises:
        NoInputError: a root does not exist.
    """
    out = Walked()
    for name, top in roots.items():
        out.ignored[name] = Counter()
        if only and name in only:
            _named_files(name, str(top), only[name], out)
        else:
            _walk_root(name, str(top), out)
    out.total = sum(len(f.files) for f in out.folders)
    return out


def _walk_root(root: str, top: str, out: Walked) -> None:
    todo = [("", top)]
    while todo:
        prefix, place = todo.pop()
        try:
            with os.scandir(place) as entries:
                listed = list(entries)
        except OSError as e:
            why = f"the folder cannot be listed: {(e.strerror or 'unknown error').lower()}"
            out.special.append((root, prefix.rstrip("/") or ".", "folder", why))
            continue
        files = _sort_out(root, top, prefix, listed, todo, out)
        if prefix and any(f[0] in _OWN_OUTPUT for f in files) and _is_output(place):
            out.outputs.append((root, prefix[:-1]))
            while todo and todo[-1][0].startswith(prefix):
                todo.pop()
        elif files:
            files.sort()
            out.folders.append(Folder(root, prefix, place, files))


def _sort_out(
    root: str, top: str, prefix: str, listed: list[os.DirEntry[str]], todo: list[tuple[str, str]], out: Walked
) -> list[File]:
    """The regular files of one folder; its folders go on `todo`, everything else is noted."""
    files: list[File] = []
    left = out.ignored[root]
    for e in listed:
        try:
            s = e.stat(follow_symlinks=False)
        except OSError as error:
            out.special.append((root, prefix + e.name, "entry", (error.strerror or "cannot be looked at").lower()))
            continue
        name, kind = e.name, s.st_mode & 0o170000
        if kind == _REGULAR:
            size = s.st_size
            why = ignored(name, size, getattr(s, "st_blocks", -1), getattr(s, "st_flags", 0))
            if why is not None:
                left[why] += 1
            elif name != LOCK:
                files.append((name, size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino))
                if name == IGNORE_FILE:
                    out.rules.append((root, prefix, e.path))
        elif kind == _FOLDER:
            why = ignored(name, 0, -1, 0)
            if why is not None:
                left[why] += 1
            else:
                todo.append((f"{prefix}{name}/", e.path))
        elif kind == _LINK:
            out.special.append((root, prefix + name, *_link(e.path, top)))
        else:
            out.special.append((root, prefix + name, _SPECIAL.get(kind, "special file"), None))
    return files


def _link(path: str, top: str) -> tuple[str, str | None]:
    """Links are never followed: the file behind one is found where it lies, or lies outside."""
    whole, target = os.path.realpath(top), os.path.realpath(path)
    if not os.path.lexists(target):
        return "link", "a link that leads nowhere"
    return "link", None if _inside(target, whole) else "a link that leaves the root is not followed"


def _named_files(root: str, place: str, names: set[str], out: Walked) -> None:
    files: list[File] = []
    for name in sorted(names):
        s = os.stat(os.path.join(place, name))
        files.append((name, s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino))
    out.folders.append(Folder(root, "", place, files))


def _is_output(place: str) -> bool:
    from formats.foreign.source import open_regular

    for name, start in _OWN_OUTPUT.items():
        try:
            with open_regular(os.path.join(place, name)) as f:
                if f.read(len(start)) == start:
                    return True
        except (OSError, FormatError):
            continue
    return False


def plan_roots(paths: list[Path]) -> tuple[dict[str, Path], dict[str, set[str]]]:
    """Roots `r0`, `r1`... in the order given, without those that lie inside another.

    Returns:
        Root id -> folder, and for roots named as files: root id -> names.

    Raises:
        NoInputError: a path does not exist, is neither file nor folder, or its name is not UTF-8.
    """
    folders: list[Path] = []
    files: list[Path] = []
    for path in paths:
        whole = Path(os.path.abspath(path))
        try:
            mode = os.stat(whole).st_mode
            str(whole).encode("utf-8")
        except OSError as e:
            raise NoInputError(f"{path}: {(e.strerror or 'cannot be opened').lower()}") from None
        except UnicodeEncodeError:
            raise NoInputError(f"{str(path)!r} is not UTF-8", hint="rename it, or name the folder above it") from None
        if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
            raise NoInputError(f"{path} is not a file or a folder")
        (folders if stat.S_ISDIR(mode) else files).append(whole)
    real = {p: os.path.realpath(p) for p in dict.fromkeys(folders)}
    kept = [p for p in real if not _covered(p, real)]
    roots: dict[Path, set[str] | None] = dict.fromkeys(kept)
    tops = [real[p] for p in kept]
    for p in files:
        if not any(_inside(os.path.realpath(p), top) for top in tops):
            names = roots.setdefault(p.parent, set())
            assert names is not None
            names.add(p.name)
    ids = {f"r{k}": p for k, p in enumerate(roots)}
    return ids, {k: names for k, p in ids.items() if (names := roots[p]) is not None}


def _covered(path: Path, real: dict[Path, str]) -> bool:
    """Whether another root holds this one; of two names for one folder the first stays."""
    order = list(real)
    return any(
        _inside(real[path], real[q]) and (real[path] != real[q] or order.index(q) < order.index(path))
        for q in order
        if q != path
    )


def _inside(path: str, top: str) -> bool:
    return path == top or path.startswith(top.rstrip("/") + "/")
