"""The two records of a running training: its loss curves, and the heartbeat that tells others it is alive."""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from formats import status
from formats.status import Status

LOG = "log.jsonl"
STATUS = "status.json"
BEAT_S = 4.0


class Curves:
    """`log.jsonl`: one JSON object per logged step or validation, in the order of the run, without any time of day.

    A run that goes on says some steps again: `rewind` cuts off what an earlier start wrote after the checkpoint, so
    that the file of a run that was killed equals the file of one that was not.

    Args:
        path: The file; what an earlier start of the same run left there is kept until `rewind` cuts it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines = _whole_lines(path)
        self._file: BinaryIO | None = None

    def rewind(self, step: int) -> None:
        """Go on after `step` (0: begin): what lies behind it is forgotten, and the file is open from now on."""
        from formats.atomic import write_bytes

        self._lines = [line for line in self._lines if step and json.loads(line)["step"] <= step]
        self.close()
        write_bytes(self.path, b"".join(self._lines), sync=False)
        self._file = open(self.path, "ab")  # noqa: SIM115  # open as long as the run lasts

    def __call__(self, record: Mapping[str, Any]) -> None:
        """Append one record; it holds `step`, and figures that are not finite become null."""
        if self._file is None:
            self.rewind(0)
        assert self._file is not None
        line = json.dumps(_finite(dict(record)), separators=(",", ":"), allow_nan=False).encode() + b"\n"
        self._lines.append(line)
        self._file.write(line)
        self._file.flush()

    def close(self) -> bytes:
        """End the file; returns its content."""
        if self._file is not None:
            self._file.close()
            self._file = None
        return b"".join(self._lines)


def validations(log: Path) -> list[dict[str, Any]]:
    """The validations in a run's `log.jsonl`, in order and as they were written; empty without the file.

    The run may still be going on, or was killed: a line that is cut, or none of ours, is passed over.
    """
    try:
        lines = log.read_bytes().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and record.get("kind") == "validation":
            found.append(record)
    return found


def _whole_lines(path: Path) -> list[bytes]:
    """Lines of a log up to the first that is torn or none of ours."""
    found = []
    try:
        data = path.read_bytes()
    except OSError:
        return []
    for line in data.splitlines(keepends=True):
        try:
            if not line.endswith(b"\n") or not isinstance(json.loads(line)["step"], int):
                break
        except (ValueError, LookupError, TypeError):
            break
        found.append(line)
    return found


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {k: _finite(v) for k, v in value.items()}
    return [_finite(v) for v in value] if isinstance(value, list | tuple) else value


@dataclass(slots=True)
class Beat:
    """What a run says of itself now.

    Args:
        step: What it is doing, for a person.
        done: Optimiser steps done.
        total: Optimiser steps in all, None when unknown.
        loss: Last training loss.
        eta_s: Seconds left.
        message: Last remark.
    """

    step: str = "starting"
    done: int = 0
    total: int | None = None
    loss: float | None = None
    eta_s: float | None = None
    message: str | None = None


class Heartbeat:
    """Writes `status.json` every few seconds from a thread of its own, and once more whatever the end is.

    The thread shows that the process lives, also while one long step or a validation runs. A status that cannot be
    written (a full disk) never ends the work: `failures` counts them.

    Args:
        path: The file.
        command: What is running, `train rps`.
        every_s: Seconds between heartbeats.
        clock: UTC in seconds.
    """

    def __init__(
        self, path: Path, command: str, *, every_s: float = BEAT_S, clock: Callable[[], float] = time.time
    ) -> None:
        self.path, self.command, self.beat = path, command, Beat()
        self.failures = 0
        self._state = "running"
        self._every_s, self._clock = every_s, clock
        self._over = threading.Event()
        self._one = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> Heartbeat:
        self.write()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._over.set()
        self._thread.join(timeout=self._every_s)
        if isinstance(error, Exception):
            self.end("failed", " ".join(str(error).split())[:400] or type(error).__name__)
        elif error is not None:
            self.end("stopped", self.beat.message)
        elif self._state == "running":
            self.end("done", self.beat.message)

    def say(self, step: str, **facts: Any) -> None:
        """Change what is said; the next heartbeat tells it. `facts` are fields of `Beat`."""
        self.beat = replace(self.beat, step=step, **facts)

    def end(self, state: str, message: str | None = None) -> None:
        """Write a last state: `done`, `failed` or `stopped`."""
        self._state = state
        self.beat = replace(self.beat, message=message, eta_s=None)
        self.write()

    def write(self) -> None:
        """Write the file now."""
        b = self.beat
        loss = b.loss if b.loss is None or math.isfinite(b.loss) else None
        now = Status(
            self.command, self._state, os.getpid(), b.step, b.done, b.total, int(self._clock() * 1e6), b.message, loss,
            b.eta_s,
        )  # fmt: skip
        with self._one:
            try:
                status.write(self.path, now)
            except OSError:
                self.failures += 1

    def _run(self) -> None:
        while not self._over.wait(self._every_s):
            self.write()
