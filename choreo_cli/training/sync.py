"""Copy a run elsewhere while it trains: a folder, or another machine through rsync. Nothing is ever deleted there."""

from __future__ import annotations

import filecmp
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from choreo_cli.errors import UnavailableError, UsageError

LAST = "run.json"
TIMEOUT_S = 120.0
MOST_SKIPPED = 8
KEPT_ENV = ("PATH", "HOME", "SSH_AUTH_SOCK", "USER", "LOGNAME", "TMPDIR")
SSH = "ssh -oBatchMode=yes -oConnectTimeout=10"
# The lock is this machine's; temps vanish while they are copied.
LEFT_OUT = (".choreo.lock", ".*.tmp")
_REMOTE = re.compile(r"(?:[\w.-]+@)?[\w][\w.-]*:.+|rsync://[\w].+")


class Sync:
    """Brings `dest` up to date with a run folder; a failure is counted and told, and never ends the training.

    After a failure the next 1, 2, 4, at most 8 times are passed over, so that a host that is gone costs little.

    Args:
        folder: The run.
        dest: A folder, or `host:path` / `rsync://...` for rsync.
        env: The environment; rsync and ssh see only what they need of it.
        note: Receives a remark for the person.

    Raises:
        UsageError: the destination lies in the run or around it, or is no name of a place.
        UnavailableError: rsync is needed and not installed.
    """

    def __init__(
        self, folder: Path, dest: str, env: Mapping[str, str], note: Callable[[str], None] = lambda _: None
    ) -> None:
        self.folder, self.dest, self.note = folder, dest, note
        self.failures = 0
        self._skip = self._skipped = 0
        self._env = {**{k: env[k] for k in KEPT_ENV if k in env}, "LC_ALL": "C"}
        self._rsync = _program(env) if is_remote(dest) else ""
        if not self._rsync:
            _check_local(folder, Path(dest))

    def push(self, *, last: bool = False, timeout_s: float = TIMEOUT_S) -> bool:
        """Copy what changed; `last` copies even after failures. Returns whether the copy is up to date."""
        if not last and self._skipped < self._skip:
            self._skipped += 1
            return False
        try:
            if self._rsync:
                for command in commands(self._rsync, self.folder, self.dest):
                    _run(command, self._env, timeout_s)
            else:
                copy(self.folder, Path(self.dest))
        except (OSError, subprocess.SubprocessError) as e:
            self.failures += 1
            self._skip, self._skipped = min(MOST_SKIPPED, max(1, 2 * self._skip)), 0
            self.note(f"sync to {self.dest} failed ({self.failures}): {_reason(e)}; training goes on")
            return False
        self._skip = self._skipped = 0
        return True


def is_remote(dest: str) -> bool:
    """Whether a destination is one for rsync: `host:path`, unless it begins like a path."""
    return not dest.startswith(("/", ".", "~")) and _REMOTE.fullmatch(dest) is not None


def copy(folder: Path, dest: Path) -> list[Path]:
    """Copy the files of a run that differ, each as a whole, `run.json` after all others; returns what was written.

    Raises:
        OSError: as the system reports it; each file there is an old one or a new one.
    """
    from formats.atomic import sync_folder, writer

    written = []
    for name in _names(folder):
        source, target = folder / name, dest / name
        try:
            if target.is_file() and filecmp.cmp(source, target, shallow=False):
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(source, "rb") as f, writer(target, sync=name.name != "status.json") as out:
                shutil.copyfileobj(f, out)
        except FileNotFoundError:
            if source.exists():
                raise
            continue  # an old checkpoint that was replaced meanwhile
        written.append(target)
    if written:
        sync_folder(dest)
    return written


def commands(rsync: str, folder: Path, dest: str) -> list[list[str]]:
    """The calls of rsync that bring `dest` up to date: everything but `run.json`, then `run.json`."""
    base = [rsync, "--recursive", "--times", "--timeout=60", f"--rsh={SSH}"]
    left_out = [f"--exclude={name}" for name in LEFT_OUT]
    only_last = ["--prune-empty-dirs", "--include=*/", f"--include={LAST}", "--exclude=*"]
    places = ["--", f"{folder}/", dest.rstrip("/") + "/"]
    return [[*base, *left_out, f"--exclude={LAST}", *places], [*base, *only_last, *places]]


def _names(folder: Path) -> Iterator[Path]:
    """Files of a run relative to it: records after the data they name, `run.json` last."""
    from fnmatch import fnmatchcase

    every = [p.relative_to(folder) for p in folder.rglob("*") if p.is_file() and not p.is_symlink()]
    kept = [p for p in every if not any(fnmatchcase(p.name, pattern) for pattern in LEFT_OUT)]
    yield from sorted(kept, key=lambda p: (p.name == LAST, p.suffix == ".json", -len(p.parts), p))


def _check_local(folder: Path, dest: Path) -> None:
    if str(dest).startswith("-") or "\0" in str(dest):
        raise UsageError(f"--sync {dest} is no folder", hint="name a folder, or host:path")
    if str(dest).endswith(":") and not dest.exists():
        raise UsageError(f"--sync {dest} names no folder on that machine", hint="write host:path")
    run, there = folder.resolve(), dest.resolve()
    if there == run or there.is_relative_to(run) or run.is_relative_to(there):
        raise UsageError(f"--sync {dest} and the run {folder} lie in each other", hint="name another folder")


def _program(env: Mapping[str, str]) -> str:
    found = shutil.which("rsync", path=env.get("PATH"))
    if found is None:
        raise UnavailableError("--sync to another machine needs rsync, which is not installed", hint="install rsync")
    return str(Path(found).resolve())


def _run(command: list[str], env: Mapping[str, str], timeout_s: float) -> None:
    subprocess.run(
        command, env=dict(env), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        timeout=timeout_s, check=True,
    )  # fmt: skip


def _reason(e: OSError | subprocess.SubprocessError) -> str:
    if isinstance(e, subprocess.CalledProcessError):
        lines = e.stderr.decode("utf-8", "replace").strip().splitlines()
        return lines[0][:200] if lines else f"rsync ended with {e.returncode}"
    if isinstance(e, subprocess.TimeoutExpired):
        return f"no end after {e.timeout:g} s"
    return getattr(e, "strerror", None) or str(e)
