"""SensorPackets as a source: a file of them, or a pipe that another program writes."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from choreo_cli.live.clock import Clock, MonotonicClock
from choreo_cli.live.replay import PHASE, Replay, beat_rows
from choreo_cli.live.sample import Body, Sample
from formats import packet_log
from formats.errors import FormatError
from formats.foreign.source import Source as File
from formats.jsonstrict import loads
from formats.packets import MASK_BITS, SensorPacket, from_dict

F32 = NDArray[np.float32]
Bool = NDArray[np.bool_]
Item = tuple[int, int, F32, Bool]
"""Stamp in microseconds, arrival in nanoseconds, values, mask."""
QUEUE = 4096
MAX_LINE = 16 * 1024
AHEAD_US = 500_000  # stamps that run so far ahead of their arrival are a recording in a pipe, not a sensor
DECIDED_US = 1_000_000
JUMP_US = 1_000_000


def is_packet_lines(head: bytes) -> bool:
    """Whether a file that begins so holds packets: a packet log, or plain lines of SensorPacket."""
    first = head.lstrip()[:400]
    if first.startswith(b'{"schema":"choreo.packets/'):
        return True
    return first.startswith(b"{") and all(f'"{k}"'.encode() in first for k in ("t_us", "values", "mask"))


def row_of(packet: SensorPacket) -> tuple[F32, Bool]:
    """(11,) float32 of a packet, null as NaN, and its (4,) mask."""
    row = np.array([np.nan if v is None else v for v in packet.values], np.float32)
    return row, np.array([bool(packet.mask & bit) for bit in MASK_BITS.values()])


def packet_of(line: bytes | str, row: int | None = None, file: Path | None = None) -> SensorPacket | None:
    """The SensorPacket of a line: plain, or as a packet log writes it; None for a line of another kind.

    Raises:
        FormatError: not JSON, or a packet that breaks its contract.
    """
    item = loads(line, file=file, row=row)
    if isinstance(item, dict) and ("schema" in item or item.get("end") is True):
        return None
    if isinstance(item, dict) and set(item) == {"kind", "packet"}:
        if item["kind"] != "SensorPacket":
            return None
        item = item["packet"]
    try:
        return from_dict(SensorPacket, item)
    except FormatError as e:
        raise FormatError(e.message, file=file, row=row, field=e.field) from None


def packet_file(path: Path, *, name: str | None = None) -> Replay:
    """The SensorPackets of a file, at the sensor's times.

    Raises:
        FormatError: cut or damaged, a packet that breaks its contract (with its line), no packet, times that go back.
    """
    source = File.of(path)
    if source.head.startswith(b'{"schema":"choreo.packets/'):
        found = [p for p in packet_log.read(path) if isinstance(p, SensorPacket)]
    else:
        lines = enumerate(source.read_bytes().splitlines(), 1)
        read = [packet_of(line, row, path) for row, line in lines if line.strip()]
        found = [p for p in read if p is not None]
    if not found:
        raise FormatError("no SensorPacket in it", file=path)
    t = np.array([p.t_us for p in found], np.int64)
    if len(back := np.flatnonzero(np.diff(t) <= 0)):
        raise FormatError("times do not increase", file=path, row=int(back[0]) + 2, field="t_us")
    x, masks = (np.stack(part) for part in zip(*map(row_of, found), strict=True))
    lines_said = [f"playing {path}: {len(t)} packets, {(int(t[-1]) - int(t[0])) / 1e6:.1f} s"]
    return Replay(
        name or str(path), "inputs", t, x, beats=beat_rows(t, x[:, PHASE]), whole=True, masks=masks, lines=lines_said
    )


class PacketPipe:
    """SensorPackets, one JSON object a line, that a thread reads from a stream.

    A sensor's packets are due when they come. A recording in the pipe (`cat session.jsonl |`) comes all at once: its
    stamps run ahead of their arrival, each packet then waits for its time and the writer waits for us. Under a clock
    that is not real time it is always taken for a recording, and `poll` waits for what is due.

    Args:
        stream: Binary, read line by line.
        name: As it was named on the command line.
    """

    kinds: tuple[str, ...] = ("inputs",)
    body: Body | None = None
    audio_hz: int | None = None

    def __init__(self, stream: BinaryIO, name: str = "-") -> None:
        self.name, self.origin_us = name, 0
        self._stream = stream
        self._queue: deque[Item] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._eof = self._stop = False
        self._recording: bool | None = None
        self._wait = False
        self._first: tuple[int, int] | None = None
        self._offset_us = 0
        self._newest_us = -(2**62)
        self._counts = {"samples": 0, "drops": 0, "refused": 0, "late": 0}
        self._why = ""

    def open(self, clock: Clock, start_ns: int) -> None:
        """See `Source`."""
        self._clock, self._start_ns = clock, start_ns
        self._wait = not (isinstance(clock, MonotonicClock) and clock.speed == 1.0)
        self._recording = True if self._wait else None
        self._thread = threading.Thread(target=self._read, name="packets", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        row = 0
        while not self._stop:
            try:
                line = self._stream.readline(MAX_LINE)
            except (OSError, ValueError):  # the stream was closed under us
                line = b""
            if not line:
                break
            row += 1
            try:
                item = self.item(line, row, self._clock.now_ns()) if line.strip() else None
            except FormatError as e:
                self._counts["refused"] += 1
                self._why = self._why or str(e)
                continue
            if item is not None:
                self._put(item)
        with self._changed:
            self._eof = True
            self._changed.notify_all()

    def item(self, line: bytes, row: int, now_ns: int) -> Item | None:
        """What a line says, None when it says nothing of ours. Raises FormatError."""
        packet = packet_of(line, row)
        return None if packet is None else (packet.t_us, now_ns, *row_of(packet))

    def sample(self, t_us: int, arrival_ns: int, item: Item) -> Sample:
        """An item that is due, as a sample."""
        return Sample("inputs", t_us, arrival_ns, item[2], item[0], True, item[3])

    def _put(self, item: Item) -> None:
        with self._changed:
            while len(self._queue) >= QUEUE and not self._stop:
                if self._recording is False:
                    self._queue.popleft()
                    self._counts["drops"] += 1
                else:
                    self._changed.wait(0.1)
            self._queue.append(item)
            self._changed.notify_all()

    def poll(self, now_ns: int) -> Sequence[Sample]:
        """See `Source`."""
        now = self.origin_us + (now_ns - self._start_ns) // 1000
        found: list[Sample] = []
        with self._changed:
            while True:
                while self._queue and self._due(self._queue[0], now):
                    self._deliver(found, self._queue.popleft(), now_ns, now)
                if not self._wait or self._queue or self._eof or self._stop:
                    break
                self._changed.wait(0.1)
            self._changed.notify_all()
        return found

    def _due(self, item: Item, now: int) -> bool:
        t_us, arrival_ns = item[:2]
        if self._first is None:
            self._first = t_us, arrival_ns
            self._offset_us = (self.origin_us if self._wait else now) - t_us
        if self._recording is None:
            span = self._queue[-1][0] - self._first[0]
            passed = (self._clock.now_ns() - self._first[1]) // 1000
            if span > passed + AHEAD_US:
                self._recording = True
            elif passed > DECIDED_US:
                self._recording = False
        return self._recording is False or t_us + self._offset_us <= now

    def _deliver(self, found: list[Sample], item: Item, now_ns: int, now: int) -> None:
        t_us, arrival_ns = item[:2]
        t = t_us + self._offset_us
        if not self._recording and (t > now or now - t > JUMP_US):
            # A sensor whose clock runs ahead or jumped: what comes now was measured now.
            self._offset_us, t = now - t_us, now
        if t <= self._newest_us:
            self._counts["late"] += 1
            return
        self._newest_us = t
        self._counts["samples"] += 1
        found.append(self.sample(t, now_ns if self._wait else arrival_ns, item))

    @property
    def ended(self) -> bool:
        """See `Source`."""
        return self._eof and not self._queue

    def said(self) -> list[str]:
        """See `Source`."""
        return ["reading SensorPackets from stdin, one JSON object a line"]

    def facts(self) -> dict[str, Any]:
        """See `Source`."""
        return {**self._counts, **({"first_refused": self._why} if self._why else {})}

    def close(self) -> None:
        """See `Source`. The thread may still sit in a read of the stream; it ends with the process."""
        self._stop = True
        with self._changed:
            self._changed.notify_all()
