"""What happens in a performance, told to a file, to a person and to whoever listens; telling never waits."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from formats import event_log
from formats.columns import EVENT_KINDS

QUEUE = 4096
KEPT = 256
FLUSH_S = 0.2
BLOCK = 4096
ROOM = 16 * BLOCK
"""Kept free beside the log of a recording: on a disk that is full, the log can still say so, and end."""
LAST_ROOM = 2 * BLOCK
"""Of it, what is kept for the end."""
FULL = (errno.ENOSPC, errno.EDQUOT)
Listener = Callable[[int, str, dict[str, Any]], None]


class Events:
    """A log of `choreo.events/1` that any thread may write to.

    Lines are written by a thread of its own from a bounded queue: the newest win, what was dropped is counted and told
    in the log. A disk that is full costs lines, never a tick.

    Args:
        path: The file, an open binary stream (which stays open), or None for no log.
        listener: Called on the writing thread with time, kind and facts of each event, whether or not there is a log.
        room: Keep a hidden file of 64 KiB beside the log, and give it up bit by bit when the disk is full.
    """

    def __init__(
        self, path: Path | BinaryIO | None = None, listener: Listener | None = None, *, room: bool = False
    ) -> None:
        self.recent: deque[tuple[int, str, dict[str, Any]]] = deque(maxlen=KEPT)
        self.counts = dict.fromkeys(EVENT_KINDS, 0)
        self.dropped = self.lost = self.written = 0
        self.fault: str | None = None
        self._path, self._listener = path, listener
        self._queue: deque[tuple[int, str, dict[str, Any]]] = deque(maxlen=QUEUE)
        self._put = self._taken = 0
        self._last_us = 0
        self._lock, self._wake, self._stop = threading.Lock(), threading.Event(), threading.Event()
        self._out: Any = None
        self._own, self._size = False, 0
        self._room = room_of(path) if room and isinstance(path, Path) else None
        self._ending = False
        self._number: int | None = None
        self._open()
        self._thread: threading.Thread | None = threading.Thread(target=self._work, name="events", daemon=True)
        self._thread.start()

    @property
    def opened(self) -> bool:
        """There is a log, or none was asked for."""
        return self._out is not None or self._path is None

    @property
    def deaf(self) -> bool:
        """Nobody reads the log any more: a pipe whose reader went away, which is the reader's business."""
        return self._number in (errno.EPIPE, errno.ESHUTDOWN)

    def emit(self, kind: str, t_us: int, **facts: Any) -> None:
        """Tell one event; returns at once.

        Args:
            kind: One of `formats.columns.EVENT_KINDS`.
            t_us: Session time.
            facts: JSON values.

        Raises:
            ValueError: an unknown kind.
        """
        if kind not in self.counts:
            raise ValueError(f"no event is called {kind!r}")
        item = (t_us, kind, facts)
        with self._lock:
            self.counts[kind] += 1
            self._put += 1
            self._last_us = t_us
            self._queue.append(item)
            self.recent.append(item)
        self._wake.set()

    def close(self) -> None:
        """Write what is left and the last line; may be called twice."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._stop.set()
        self._wake.set()
        thread.join(timeout=5.0)
        if thread.is_alive():  # a pipe nobody reads: the rest is given up
            return
        self._ending = True
        self._drain()
        if self._out is not None:
            self._write(event_log.last_line(self.written))
            if self._own:
                self._try(self._out.close)
        if self._room is not None:
            with contextlib.suppress(OSError):
                self._room.unlink(missing_ok=True)

    def _open(self) -> None:
        if isinstance(self._path, Path):
            self._own = True
            path = self._path

            def begin() -> None:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._out = path.open("wb", buffering=0)
                if self._room is not None:
                    with contextlib.suppress(OSError):
                        self._room.write_bytes(os.urandom(ROOM))  # zeros would take no room on some disks

            self._try(begin)
        elif self._path is not None:
            self._out = self._path
        if self._out is not None:
            self._write(event_log.FIRST)

    def _work(self) -> None:
        while not self._stop.is_set():
            self._wake.wait()
            self._wake.clear()
            self._drain()
            # A burst is one write.
            self._stop.wait(FLUSH_S)

    def _drain(self) -> None:
        with self._lock:
            items = list(self._queue)
            self._queue.clear()
            dropped = self._put - self._taken - len(items)
            self._taken = self._put
        if dropped:
            self.dropped += dropped
            items.append((self._last_us, "error", {"where": "events", "why": f"{dropped} events were dropped"}))
        if items and self._out is not None:
            done = self._write(b"".join(event_log.event_line(*item) for item in items))
            self.written += len(items) if done else 0
            self.lost += 0 if done else len(items)
        if self._listener is not None:
            for item in items:
                self._listener(*item)

    def _write(self, data: bytes) -> bool:
        """All of it or nothing: a line that was cut in two would spoil the one after it."""
        out = self._out
        if out is None:
            return False

        def write() -> None:
            left = memoryview(data)
            while left:
                left = left[out.write(left) :]
            out.flush()

        before = self.fault
        while not self._try(write):
            if self._own:
                self._try(lambda: (out.truncate(self._size), out.seek(self._size)))
            if not self._make_room():
                return False
        self._size += len(data)
        self.fault = before
        return True

    def _make_room(self) -> bool:
        """Give a block of what is kept free to the log; False when there is none, or when room is not what it lacks."""
        if self._room is None or self._number not in FULL:
            return False
        try:
            left = self._room.stat().st_size - BLOCK
            if left < (0 if self._ending else LAST_ROOM):
                return False
            os.truncate(self._room, left)
        except OSError:
            return False
        return True

    def _try(self, action: Callable[[], Any]) -> bool:
        try:
            action()
        except (OSError, ValueError) as e:
            self._number = getattr(e, "errno", None)
            self.fault = self.fault or f"{self._path}: {getattr(e, 'strerror', None) or e}"
            return False
        return True


def room_of(log: Path) -> Path:
    """The file that keeps room for a log."""
    return log.with_name(f".{log.name}.room")
