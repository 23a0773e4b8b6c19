"""Progress for a person (tqdm on a terminal), for a log (one line a minute) and for machines (--log-json)."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

HEARTBEAT_S = 60.0


class Progress:
    """Counts steps; shows them in the way the surroundings allow. Use as a context manager.

    Args:
        label: What is being done.
        quiet: Nothing on stderr.
        log: JSON Lines file for machines.
    """

    def __init__(self, label: str, *, quiet: bool = False, log: Path | None = None) -> None:
        self.label, self.quiet, self.log_path = label, quiet, log
        self._bar: Any = None
        self._log: Any = None
        self._done, self._last = 0, time.monotonic()
        self._total: int | None = None

    def __enter__(self) -> Progress:
        if self.log_path is not None:
            self._log = open(self.log_path, "a", encoding="utf-8")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.close()
        if self._log is not None:
            self._write("failed" if error else "done", None)
            self._log.close()

    def __call__(self, done: int, total: int | None = None, item: str | None = None) -> None:
        """Report `done` of `total`. The domain calls this; it never prints itself."""
        self._done, self._total = done, total
        if not self.quiet:
            self._show(item)
        now = time.monotonic()
        if now - self._last >= HEARTBEAT_S:
            self._last = now
            self._write("running", item)
            if not self.quiet and not _is_tty(sys.stderr):
                where = f"{done}{f' of {total}' if total else ''}{f': {item}' if item else ''}"
                sys.stderr.write(f"choreo {self.label}: {where}\n")

    def note(self, text: str) -> None:
        """One remark for the person, in any surroundings but --quiet."""
        if self.quiet:
            return
        if self._bar is not None:
            self._bar.clear()
        sys.stderr.write(f"choreo {self.label}: {text}\n")

    def _show(self, item: str | None) -> None:
        if not _is_tty(sys.stderr):
            return
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(
                total=self._total, desc=self.label, file=sys.stderr, leave=False, dynamic_ncols=True, ascii=True
            )
        if self._total is not None:
            self._bar.total = self._total
        if item is not None:
            self._bar.set_postfix_str(item, refresh=False)
        self._bar.update(self._done - self._bar.n)

    def _write(self, state: str, item: str | None) -> None:
        if self._log is None:
            return
        line = {
            "label": self.label,
            "state": state,
            "done": self._done,
            "total": self._total,
            "item": item,
            "t": time.time(),
        }
        self._log.write(json.dumps(line) + "\n")
        self._log.flush()


def _is_tty(stream: Any) -> bool:
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError, OSError):
        return False
