"""Feed files to long-lived reader children and keep count: crashes, hangs, tracebacks, memory."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parent.parent
TIMEOUT_S = 2.0
START_S = 60.0
# A busy machine stretches wall time; a hang is endless and is told from slowness by CPU time.
PATIENCE = 5.0


@dataclass
class Tally:
    """What a campaign found."""

    n: int = 0
    crashes: list[str] = field(default_factory=list)
    hangs: list[str] = field(default_factory=list)
    errors: list[tuple[str, str]] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    slowest: tuple[float, str] = (0.0, "")
    hungriest: tuple[float, str] = (0.0, "")

    def summary(self) -> str:
        return (
            f"{self.n} files: {len(self.crashes)} crashes, {len(self.hangs)} hangs, {len(self.errors)} escapes, "
            f"slowest {self.slowest[0]:.2f} s ({self.slowest[1]}), most memory {self.hungriest[0]:.0f} MB "
            f"({self.hungriest[1]}), {dict(self.outcomes.most_common(4))}"
        )


class Child:
    """One long-lived `reader_child.py`; restarted after a crash or a hang."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._buffer = b""

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> int | None:
        if self._process is None:
            return None
        self._process.kill()
        code = self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
        self._process = None
        return code

    def _start(self) -> subprocess.Popen[bytes]:
        env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(TOP), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
               "HOME": "/nonexistent", "PYTHONFAULTHANDLER": "1"}  # fmt: skip
        self._process = subprocess.Popen(
            [sys.executable, str(TOP / "tests" / "reader_child.py")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env,
        )  # fmt: skip
        self._buffer = b""
        ready = self._line(START_S)
        assert ready is not None and json.loads(ready) == {"ready": True}, "the reader child does not start"
        return self._process

    def _line(self, timeout: float) -> bytes | None:
        assert self._process is not None and self._process.stdout is not None
        fd = self._process.stdout.fileno()
        while b"\n" not in self._buffer:
            if not select.select([fd], [], [], timeout)[0]:
                return None
            block = os.read(fd, 1 << 16)
            if not block:
                return b""
            self._buffer += block
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def ask(self, path: Path, formats: Sequence[str]) -> dict[str, Any] | str:
        """The child's answer, `hang`, or `crash CODE`."""
        process = self._process or self._start()
        assert process.stdin is not None
        process.stdin.write(json.dumps([str(path), list(formats)]).encode() + b"\n")
        process.stdin.flush()
        line = self._line(TIMEOUT_S * PATIENCE)
        if line is None:
            self.stop()
            return "hang"
        if not line:
            process.wait()
            code = process.returncode
            self.stop()
            return f"crash {code}"
        answer: dict[str, Any] = json.loads(line)
        return answer


def campaign(files: Iterable[tuple[str, Path, Sequence[str]]]) -> Tally:
    """Ask one child about (name, path, formats of the original); each file is removed afterwards."""
    tally = Tally()
    with Child() as child:
        for name, path, formats in files:
            answer = child.ask(path, formats)
            tally.n += 1
            if isinstance(answer, str):
                (tally.hangs if answer == "hang" else tally.crashes).append(f"{name}: {answer}")
                _keep(path, name)
            elif answer["error"]:
                tally.errors.append((name, answer["error"]))
                _keep(path, name)
            else:
                tally.outcomes[answer["outcome"]] += 1
                tally.slowest = max(tally.slowest, (answer["seconds"], name))
                tally.hungriest = max(tally.hungriest, (answer["memory_mb"], name))
            path.unlink(missing_ok=True)
    return tally


def _keep(path: Path, name: str) -> None:
    """Keep what broke a reader, where CHOREO_KEEP says, to look at it."""
    folder = os.environ.get("CHOREO_KEEP")
    if folder and path.exists():
        safe = "".join(c if c.isalnum() or c in ".-_" else "_" for c in name)
        Path(folder, safe[-150:] + path.suffix).write_bytes(path.read_bytes())
