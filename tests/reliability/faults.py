"""Make the N-th system call of a piece of work fail, for every N, each time in a forked process of its own.

SQLite's method: N = 1, 2, ... until a run sees fewer than N calls. Run as a program it serves one scenario and prints
one JSON line per N; a clean interpreter without threads forks safely and quickly.
"""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CALLS = ("open", "write", "fsync", "replace", "rename", "unlink", "mkdir")
ERRORS = {"EIO": errno.EIO, "ENOSPC": errno.ENOSPC, "EACCES": errno.EACCES}


@dataclass
class Faults:
    """Counts calls and fails the `at`-th one with `error`, or kills the process there."""

    at: int
    error: str
    log: list[str] = field(default_factory=list)

    def step(self, name: str) -> None:
        self.log.append(name)
        if len(self.log) != self.at:
            return
        if self.error == "KILL":
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(ERRORS[self.error], os.strerror(ERRORS[self.error]))

    def install(self) -> None:
        for name in CALLS:
            setattr(os, name, self._wrapped(name, getattr(os, name)))
        os.fdopen = self._fdopen(os.fdopen)  # type: ignore[assignment]

    def _wrapped(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            # Reading cannot harm an output; only what may change the disk counts.
            if name != "open" or len(args) < 2 or args[1] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                self.step(name)
            return real(*args, **kwargs)

        return call

    def _fdopen(self, real: Callable[..., Any]) -> Callable[..., Any]:
        faults = self

        def opened(fd: int, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            f = real(fd, mode, *args, **kwargs)
            return _Counted(f, faults) if "b" in mode and ("w" in mode or "+" in mode) else f

        return opened


class _Counted:
    """A binary file whose writes are counted; half of a failing write reaches the disk."""

    def __init__(self, f: Any, faults: Faults) -> None:
        self._f, self._faults = f, faults

    def __getattr__(self, name: str) -> Any:
        return getattr(self._f, name)

    def __enter__(self) -> _Counted:
        return self

    def __exit__(self, *_: object) -> None:
        self._f.close()

    def write(self, data: Any) -> int:
        try:
            self._faults.step("write")
        except OSError:
            self._f.write(bytes(data)[: len(bytes(data)) // 2])
            self._f.flush()
            raise
        return int(self._f.write(data))


def forked(work: Callable[[], int], at: int, error: str) -> dict[str, Any]:
    """Run `work` in a child with the fault at call `at`; returns how it ended and what it said."""
    out_r, out_w = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(out_r)
        real_write, faults, code, text = os.write, Faults(at, error), 70, ""
        stderr = io.StringIO()
        sys.stderr = stderr
        try:
            faults.install()
            code = work()
        except BaseException:
            text = traceback.format_exc()
        real_write(out_w, json.dumps({"calls": faults.log, "text": text, "stderr": stderr.getvalue()}).encode())
        os._exit(code)
    os.close(out_w)
    with os.fdopen(out_r, "rb") as f:
        said = f.read()
    _, status = os.waitpid(pid, 0)
    reply: dict[str, Any] = json.loads(said) if said else {"calls": [], "text": "", "stderr": ""}
    return {**reply, "at": at, "error": error, "code": os.waitstatus_to_exitcode(status)}


# Scenarios: (prepare the folder, the work, paths of its targets). The work returns an exit code as the program would.


def _old(folder: Path) -> None:
    (folder / "bystander").write_bytes(b"never touch me")
    (folder / "target").write_bytes(b"old content" * 1000)


def _as_program(work: Callable[[], None]) -> int:
    from choreo_cli.__main__ import _explain

    try:
        work()
    except OSError as e:
        return _explain(["check"], e)
    return 0


def write_bytes_(folder: Path) -> int:
    from formats.atomic import write_bytes

    return _as_program(lambda: write_bytes(folder / "target", b"new content!" * 2000) and None)


def write_table_(folder: Path) -> int:
    import numpy as np

    from formats.columns import Column, Table
    from formats.tables import write_table

    table = Table("choreo.test/1", "", (Column("a", "int64"), Column("b", "float32", nullable=True)))
    values = {"a": np.arange(5000), "b": np.linspace(0, 1, 5000, dtype=np.float32)}
    return _as_program(lambda: write_table(folder / "target", table, values) and None)


def output_folder_(folder: Path) -> int:
    from choreo_cli import outputs, runtime

    def work() -> None:
        created_by = runtime.provenance("synth sessions", {}, [], seed=1)
        with outputs.output_folder(folder / "out", "metrics", created_by) as out:
            out.invalidate()
            out.write("data", "part/one.bin", b"1" * 5000)
            out.write("data", "two.bin", b"2" * 100)
            out.finish([], 0, ["choreo"])

    return _as_program(work)


SCENARIOS = {"bytes": write_bytes_, "table": write_table_, "folder": output_folder_}


def kill_campaign(folder: Path, kills: int, naive: bool) -> dict[str, int]:
    """Kill a process that rewrites one file again and again; count files that are neither the old nor the new whole.

    Args:
        naive: Write in place with open(), the control that has to tear.
    """
    import random
    import time

    from formats.atomic import sweep, write_bytes

    rng = random.Random(7)
    target = folder / "target"
    versions = [bytes([65 + k]) * (400_000 + 100_000 * k) for k in range(3)]
    target.write_bytes(versions[0])
    torn = litter = 0
    for _ in range(kills):
        pid = os.fork()
        if pid == 0:
            while True:
                for data in versions:
                    if naive:
                        with open(target, "wb") as f:
                            for at in range(0, len(data), 65536):
                                f.write(data[at : at + 65536])
                    else:
                        write_bytes(target, data)
        time.sleep(rng.uniform(0.001, 0.012))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        torn += target.read_bytes() not in versions
        litter += len(list(folder.glob(".*.tmp")))
        sweep(folder)
    return {"torn": torn, "kills": kills, "litter": litter, "left": len(list(folder.glob(".*.tmp")))}


def main() -> None:
    """`faults.py SCENARIO FOLDER ERROR`: one JSON line for every N; `faults.py naive|atomic FOLDER KILLS`: one line."""
    name, base, error = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    # Loaded before the forks, so that no child pays for it.
    import choreo_cli.outputs  # noqa: F401
    import formats.sealed
    import formats.tables  # noqa: F401

    if name in ("naive", "atomic"):
        base.mkdir()
        print(json.dumps(kill_campaign(base, int(error), name == "naive")))
        return
    work = SCENARIOS[name]
    warm = base / "warm"
    warm.mkdir()
    work(warm)
    for at in range(1, 200):
        folder = base / f"{name}-{error}-{at}"
        folder.mkdir(parents=True)
        _old(folder)
        result = forked(lambda folder=folder: work(folder), at, error)  # type: ignore[misc]
        result["temps"] = sorted(p.name for p in folder.rglob("*.tmp"))
        result["folder"] = str(folder)
        again = forked(lambda folder=folder: work(folder), 0, "EIO")  # type: ignore[misc]
        result["again"] = again["code"]
        result["left"] = sorted(p.name for p in folder.rglob("*.tmp"))
        print(json.dumps(result), flush=True)
        if result["code"] == 0 and len(result["calls"]) < at:
            return


if __name__ == "__main__":
    main()
