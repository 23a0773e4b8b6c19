"""The terminal of a running performance: keys without Enter, and a few lines that redraw themselves."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO

HIDE, SHOW, CLEAR = "\x1b[?25l", "\x1b[?25h", "\x1b[K"


class Keys:
    """Keys as they are pressed; `read` gives '' when there is none. Made by `keys`."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    def read(self) -> str:
        """The next key, '' when none was pressed or there is no terminal."""
        import select

        if self._descriptor is None or not select.select([self._descriptor], [], [], 0)[0]:
            return ""
        pressed = os.read(self._descriptor, 1)
        if not pressed:  # the terminal went away: there will be no more keys
            self._descriptor = None
        return pressed.decode("ascii", "ignore")


@contextmanager
def keys(stream: IO[str] | None = None) -> Iterator[Keys]:
    """Read single keys from a terminal; Ctrl-C stays a signal. What was set before is set again at the end."""
    source = sys.stdin if stream is None else stream
    if source is None or source.closed or not source.isatty():
        yield Keys(None)
        return
    import termios
    import tty

    descriptor = source.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        yield Keys(descriptor)
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


class Screen:
    """Lines on stderr that are drawn over each other.

    Args:
        stream: Where to draw; nothing is drawn unless it is a terminal.
        plain: No escape codes: nothing is drawn at all.
    """

    def __init__(self, stream: IO[str] | None = None, *, plain: bool = False) -> None:
        self._stream = sys.stderr if stream is None else stream
        dumb = os.environ.get("TERM") == "dumb"
        self.on = bool(self._stream) and self._stream.isatty() and not plain and not dumb
        self._drawn = 0

    def draw(self, lines: Sequence[str]) -> None:
        """Show the lines in place of the last ones, cut at the width of the terminal."""
        if not self.on:
            return
        width = max(20, os.get_terminal_size(self._stream.fileno()).columns)
        up = f"\x1b[{self._drawn}A" if self._drawn else HIDE
        self._stream.write(up + "".join(f"\r{line[: width - 1]}{CLEAR}\n" for line in lines))
        self._stream.flush()
        self._drawn = len(lines)

    def close(self) -> None:
        """Leave the last lines standing and give the cursor back."""
        if self.on and self._drawn:
            self._stream.write(SHOW)
            self._stream.flush()
            self._drawn = 0
