"""Readings for `choreo capture stream` from OSC: poses, image points, a watch, a head; times are those of arrival."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.live.clock import Clock
from choreo_cli.live.osc import Decoder, OscError
from choreo_cli.live.osc_presets import numbers
from choreo_cli.live.osc_source import LARGEST, LOOPBACK, bind_udp, listening
from choreo_cli.motion.capture_log import SHAPES, SIGMAS, CaptureHead, Heard, StreamInfo

F64 = NDArray[np.float64]

CAPACITY = 4096
ADDRESSES = {
    "/choreo/pose": ("phone", "pose", 66),
    "/choreo/accel": ("watch", "watch", 3),
    "/choreo/watch": ("watch", "watch", 7),
    "/choreo/head": ("head", "head", 3),
}
"""Address to stream, kind and how many numbers: 22 x 3 metres y up; specific force in m/s^2, then w x y z; metres."""


def osc_head(height_m: float | None, point: str) -> CaptureHead:
    """What the streams of OSC are; `point` is the wrist that wears the watch."""
    kinds = {stream: kind for stream, kind, _ in ADDRESSES.values()}
    return CaptureHead({s: StreamInfo(s, k, SIGMAS[k], point) for s, k in kinds.items()}, height_m)


class OscCapture:
    """A UDP port that gives readings; a thread receives, `poll` never blocks.

    Args:
        port: 0 takes a free one.
        host: Address of this machine to listen on.
        clock: Of the arrivals.
    """

    def __init__(self, port: int, clock: Clock, host: str = LOOPBACK) -> None:
        self._clock, self._decoder = clock, Decoder(tuple(ADDRESSES))
        self._queue: deque[Heard] = deque(maxlen=CAPACITY)
        self._refused: dict[str, int] = {}
        self.name = f"osc:{port}"
        self._socket = bind_udp(host, port, self.name)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._receive, name=self.name, daemon=True)
        self._thread.start()

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        host, port = self._socket.getsockname()[:2]
        return str(host), int(port)

    def said(self) -> list[str]:
        """For the person: where it listens."""
        return listening(self.name, *self.address)

    def poll(self) -> list[Heard]:
        """Readings since the last call, in order of arrival."""
        return [self._queue.popleft() for _ in range(len(self._queue))]

    def handle(self, packet: bytes, now_us: int) -> None:
        """Take a packet that arrived; whatever is in it, nothing is raised."""
        try:
            for message in self._decoder.decode(packet):
                stream, kind, count = ADDRESSES[message.address]
                values = np.array(numbers(message, count), np.float64)
                size = int(np.prod(SHAPES[kind]))
                attitude = values[size:] if count > size else None
                self._queue.append(Heard(stream, now_us, now_us, values[:size].reshape(SHAPES[kind]), None, attitude))
        except (OscError, KeyError) as e:
            reason = e.reason if isinstance(e, OscError) else "address not allowed"
            self._refused[reason] = self._refused.get(reason, 0) + 1

    def facts(self) -> dict[str, Any]:
        """Packets, and those refused by reason."""
        return {"packets": self._decoder.packets, "refused": dict(sorted(self._refused.items()))}

    def close(self) -> None:
        """Stop the thread and give the port back; may be called twice."""
        self._stop.set()
        self._thread.join(1.0)
        self._socket.close()

    def _receive(self) -> None:
        while not self._stop.is_set():
            try:
                packet, _ = self._socket.recvfrom(LARGEST)
            except TimeoutError:
                continue
            except OSError:
                return
            self.handle(packet, self._clock.now_ns() // 1000)
