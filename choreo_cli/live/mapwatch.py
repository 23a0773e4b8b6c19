"""The control map reloads when its file changes; an edit that is wrong changes nothing but the line that says so."""

from __future__ import annotations

import threading
from hashlib import sha256
from pathlib import Path

from formats import control_map
from formats.control_map import MAX_BYTES, ControlMap
from formats.errors import FormatError
from formats.foreign.source import Source

POLL_S = 0.25
SETTLE = 2
"""Polls in a row that must find the same file. An editor that empties it and writes it anew, or writes it in pieces, is
seen half way; even a map cut short can be a valid one (`rate_per_s: 10` of `100`)."""

State = tuple[int, int, str]


class MapWatch:
    """Watches one file from a thread of its own; nothing here blocks the loop.

    Args:
        path: The file.
        current: The map in force, as it was read from there; without it the file is read now.

    Raises:
        ConfigFileError, OSError: without `current`, when the file is no control map or cannot be read.
    """

    def __init__(self, path: str | Path, current: ControlMap | None = None) -> None:
        self.path = Path(path)
        self.fault: str | None = None
        """Why the file as it is now is not in force, one line with file and line; None when it is."""
        self.reloads = 0
        self._map = current if current is not None else control_map.load(self.path)
        self._fresh: ControlMap | None = None
        self._seen: State | None = None
        self._judged: State | None = None
        self._times = 0
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Poll about four times a second until `close`."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="control map", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """End the thread; may be called twice."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def changed(self) -> ControlMap | None:
        """The newest map that was not handed out yet, once; None when there is none. Never blocks."""
        if self._fresh is None or not self._lock.acquire(blocking=False):
            return None
        try:
            found, self._fresh = self._fresh, None
            return found
        finally:
            self._lock.release()

    def poll(self) -> None:
        """Look at the file once; the thread does it, and tests do. A file counts once it has stopped changing."""
        state, text = self._look()
        if state != self._seen:
            self._seen, self._times = state, 1
        else:
            self._times += 1
        if self._times < SETTLE or state == self._judged:
            return
        self._judged = state
        try:
            found = control_map.loads(self._text(text), str(self.path))
        except FormatError as e:
            self.fault = f"{e}: the map of before stays"
            return
        self.fault = None
        if found != self._map:
            self._map = found
            self.reloads += 1
            with self._lock:
                self._fresh = found

    def _watch(self) -> None:
        while not self._ended.wait(POLL_S):
            self.poll()

    def _look(self) -> tuple[State, str | Exception]:
        """What tells this content from another, and the content or why there is none."""
        try:
            source = Source.of(self.path)
            text = source.read_text(MAX_BYTES)
            return (self.path.stat().st_mtime_ns, source.size, sha256(text.encode()).hexdigest()), text
        except (OSError, FormatError) as e:
            return (0, 0, str(e)), e

    def _text(self, text: str | Exception) -> str:
        if isinstance(text, str):
            return text
        if isinstance(text, FormatError):
            raise text
        raise FormatError(f"{self.path}: {text.strerror if isinstance(text, OSError) else text}")
