"""The terminal of a running performance: keys without Enter, and a few lines that redraw themselves."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from choreo_cli.runtime import Signals

WIDTH = 80
"""Of a terminal that does not say it, as a bare pseudo-terminal."""
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
        self._drawn, self._width = 0, WIDTH

    def draw(self, lines: Sequence[str]) -> None:
        """Show the lines in place of the last ones, cut at the width of the terminal."""
        if not self.on:
            return
        with suppress(OSError):  # a driver that opens may point stderr elsewhere for a moment
            self._width = max(20, os.get_terminal_size(self._stream.fileno()).columns or WIDTH)
        up = f"\x1b[{self._drawn}A" if self._drawn else HIDE
        self._stream.write(up + "".join(f"\r{line[: self._width - 1]}{CLEAR}\n" for line in lines))
        self._stream.flush()
        self._drawn = len(lines)

    def close(self) -> None:
        """Leave the last lines standing and give the cursor back."""
        if self.on and self._drawn:
            self._stream.write(SHOW)
            self._stream.flush()
            self._drawn = 0


class Stage:
    """The person beside a performance: meters and keys on a terminal, signals everywhere.

    Args:
        performance: A `live.performance.Performance`.
        signals: Noted by `runtime.deferred_signals`: the first one ends the performance in order.
        quiet: No meters and no remarks.
    """

    def __init__(self, performance: Any, signals: Signals, *, quiet: bool = False) -> None:
        self._performance, self._signals = performance, signals
        self._screen = Screen(plain=quiet)
        self._quiet = quiet
        self._keys = Keys(None)
        self._stack = ExitStack()
        self._reload = self._opened = False

    def __enter__(self) -> Stage:
        if self._screen.on:
            self._keys = self._stack.enter_context(keys())
        with suppress(ValueError):  # not the main thread: signals are another's business
            before = signal.signal(signal.SIGUSR1, self._asked)
            self._stack.callback(signal.signal, signal.SIGUSR1, before)
        return self

    def _greet(self) -> None:
        """Say once what is played and where to connect: when it is open, so that every address is the bound one."""
        if not self._opened:
            self._opened = True
            self._say(line for source in self._performance.sources for line in source.said())
            self._say(f"{p.name} listens at {url}" for p in self._performance.ports if (url := getattr(p, "url", "")))

    def _say(self, lines: Iterable[str]) -> None:
        """Remarks for the person; an address with a token in it goes nowhere else."""
        for line in () if self._quiet else lines:
            print(f"choreo run-live: {line}", file=sys.stderr)

    def _remark(self) -> None:
        """Say what came up since; where meters are drawn the newest remark stands under them."""
        waiting = self._performance.remarks
        while waiting:
            line = waiting.popleft()
            self._say(() if self._screen.on else [line])

    def __exit__(self, error: object, *_: object) -> None:
        self._screen.close()
        if error is None:  # over before it was looked at
            self._greet()
        self._say(self._performance.remarks)  # under meters that stand still now, too
        self._performance.remarks.clear()
        self._stack.close()

    def _asked(self, _number: int, _frame: object) -> None:
        self._reload = True

    def attend(self, performance: Any, progress: Callable[[int, int | None, str], None] | None = None) -> None:
        """Called ten times a second beside the loop; `progress` is told of frames played and missed."""
        from choreo_cli.live.meters import lines

        if self._signals.asked:
            performance.stop.set()
        if performance.begun:
            self._greet()
        self._remark()
        if not performance.begun:
            return
        if self._reload:
            self._reload = False
            performance.reload()
        while key := self._keys.read():
            performance.press(key)
        if progress is not None:
            played = performance.loop.summary
            progress(played.ticks, None, f"missed {played.missed}")
        if self._screen.on:
            self._screen.draw(lines(performance.view(), performance.keys))
