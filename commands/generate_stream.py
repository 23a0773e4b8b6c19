"""`choreo generate --stream`: the frames of a dance to another program, while it is made."""

from __future__ import annotations

import os
import socket
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from choreo_cli.errors import CantCreateError, UnavailableError, UsageError

if TYPE_CHECKING:
    from choreo_cli.generate.generate_job import How
    from choreo_cli.generate.heard import Heard
    from choreo_cli.generate.sampling import Sampler
    from formats.motion_npz import Header

Sink = Callable[[Any, int], None]
PACES = ("auto", "real", "made")


def send(sampler: Sampler, music: Heard, how: How, to: str, pace: str, *, quiet: bool) -> None:
    """Draw a dance and hand its frames on one by one.

    Args:
        sampler: The model.
        music: What it is danced to.
        how: How.
        to: `-`, a file, or `osc:[HOST:]PORT`.
        pace: `real` waits until a frame is due, `made` does not; `auto` waits for OSC, whose receivers lose what
            comes at once.
        quiet: No remark at the end.

    Raises:
        UsageError: another pace, or no port.
        UnavailableError: the host is not known.
    """
    from choreo_cli.generate.generate_job import pieces
    from choreo_cli.runtime import deferred_signals

    if pace not in PACES:
        raise UsageError(f"--pace {pace!r}", hint=f"choose from {', '.join(PACES)}")
    osc = to.startswith("osc:")
    header, made = pieces(sampler, music, how)
    wait = _clock(header.fps) if pace == "real" or (osc and pace == "auto") else None
    with deferred_signals() as signals, _osc(to[4:], header) if osc else _lines(to, header, music.frames) as sink:
        n = 0
        for piece in made:
            for part in range(len(piece)):
                if signals.asked:
                    break
                if wait is not None:
                    wait(n)
                sink(piece[part : part + 1], n)
                n += 1
            if signals.asked:
                break
    if not quiet:
        print(f"choreo generate: {n} frames of {header.fps:g} per second to {to}", file=sys.stderr)


def _clock(fps: float) -> Callable[[int], None]:
    """Waits until frame n is due, from the first one on."""
    begin: list[float] = []

    def wait(n: int) -> None:
        now = time.monotonic()
        if not begin:
            begin.append(now)
        time.sleep(max(0.0, begin[0] + n / fps - now))

    return wait


@contextmanager
def _lines(to: str, header: Header, frames: int) -> Iterator[Sink]:
    """JSON Lines as `choreo capture stream --rows` writes them.

    The last line, which says that the dance is whole, is there only once all `frames` are: who reads a pipe cannot see
    that it was stopped. A file that cannot be finished is taken away, one that was stopped keeps its frames.
    """
    from choreo_cli.motion.capture_job import row_line, rows_head

    out: BinaryIO | None = None
    count = 0
    try:

        def sink(rows: Any, n: int) -> None:
            nonlocal out, count
            if out is None:
                out = sys.stdout.buffer if to == "-" else _created(Path(to))
                out.write(rows_head((header.yaw0, header.x0, header.z0), header.skeleton, header.fps))
            out.write(row_line(round(n * 1e6 / header.fps), rows[0]))
            out.flush()
            count += 1

        yield sink
        if out is not None and count == frames:
            out.write(b'{"end":true,"n":%d}\n' % count)
            out.flush()
        if out is not None and to != "-":
            out.close()
    except Exception:
        if out is not None and to != "-":
            _discarded(Path(to), out)
        raise


def _created(path: Path) -> BinaryIO:
    """The file, once there is a frame for it."""
    try:
        return path.open("wb")
    except OSError as e:
        raise CantCreateError(
            f"cannot create {path}: {e.strerror}", hint="name a file in a folder that is there"
        ) from None


def _discarded(path: Path, out: BinaryIO) -> None:
    """Take away what was written: the file itself, never a pipe, a device or a link."""
    with suppress(OSError, ValueError):  # closed already
        here, ours = path.lstat(), os.fstat(out.fileno())
        if stat.S_ISREG(here.st_mode) and (here.st_dev, here.st_ino) == (ours.st_dev, ours.st_ino):
            path.unlink()
    with suppress(OSError):  # what is still to be written does not fit either
        out.close()


@contextmanager
def _osc(to: str, header: Header) -> Iterator[Sink]:
    """A bundle a frame: `/choreo/pose` (66 joint coordinates), `/choreo/motion` (frame, seconds, 25 channels)."""
    from choreo_cli.live.osc_encode import Message, encode, encode_bundle

    host, port = _address(to)
    place = Place(header)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        try:
            link.connect((host, port))
        except OSError as e:
            raise UnavailableError(f"--stream osc:{to}: {e.strerror or e}", hint="name a host that is there") from None

        def out(packet: bytes) -> None:
            with suppress(ConnectionRefusedError):  # nobody listens yet: the next frame may find someone
                link.send(packet)

        out(encode("/choreo/motion/start", [float(header.fps), float(header.height_m)]))
        count = 0

        def sink(rows: Any, n: int) -> None:
            nonlocal count
            pose = [float(v) for v in place.joints(rows).reshape(-1)]
            motion = [n, n / header.fps, *(float(v) for v in rows[0])]
            out(encode_bundle([Message("/choreo/pose", tuple(pose)), Message("/choreo/motion", tuple(motion))]))
            count += 1

        yield sink
        out(encode("/choreo/motion/end", [count]))


class Place:
    """Joints of frames that come one after the other: the root is summed on from frame to frame."""

    def __init__(self, header: Header) -> None:
        self._header = header
        self._start = (header.yaw0, header.x0, header.z0)

    def joints(self, rows: Any) -> Any:
        """(N, 22, 3) metres of the next frames (N, 25)."""
        import numpy as np

        from choreo_cli.motion.choreo25 import decode_channels, integrate_root

        h = self._header
        found = decode_channels(rows, h.skeleton, h.fps, *self._start)
        yaw, root = integrate_root(np.concatenate([rows, rows[-1:]]), h.fps, *self._start)
        self._start = (float(yaw[-1]), float(root[-1, 0]), float(root[-1, 2]))
        return found


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise UsageError(f"--stream osc:{text}: no port", hint="write osc:PORT or osc:HOST:PORT")
    return host or "127.0.0.1", int(port)
