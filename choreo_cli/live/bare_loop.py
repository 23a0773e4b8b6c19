"""Two processes beside the loop that is measured, of the standard library only: a bare deadline loop and a receiver."""

from __future__ import annotations

import gc
import json
import socket
import struct
import time

END = b"end\0"
PACKET = b"/choreo/frame\0\0\0,ifffff\0"
_NUMBERS = struct.Struct(">i5f")


def packet(number: int) -> bytes:
    """A packet as the loop sends them, with this number."""
    return PACKET + _NUMBERS.pack(number, 0.1, 0.2, 0.3, 0.4, 0.5)


def number_of(data: bytes) -> int:
    """The number of a packet."""
    found: int = struct.unpack_from(">i", data, len(PACKET))[0]
    return found


def keep_time(port: int, period_ns: int, count: int) -> None:
    """Wait for absolute deadlines and hand one packet each to a raw socket; nothing else.

    A line on standard input says when the first one is due (monotonic ns); at the end a line of JSON on standard
    output says due, woke and sent of each. The numbers of the packets are -1, -2...

    Args:
        port: Where they go, on this machine.
        period_ns: Between deadlines.
        count: How many.
    """
    with (
        open(0, encoding="utf-8") as orders,
        open(1, "w", encoding="utf-8") as answers,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as raw,
    ):
        raw.connect(("127.0.0.1", port))
        packets = [packet(-1 - k) for k in range(count)]
        marks = [(0, 0, 0)] * count
        answers.write("ready\n")
        answers.flush()
        due = int(orders.readline())
        now = time.monotonic_ns
        gc.collect()
        gc.freeze()
        for k in range(count):
            left = due - now()
            if left > 0:
                time.sleep(left / 1e9)
            woke = now()
            raw.send(packets[k])
            marks[k] = (due, woke, now())
            due += period_ns
        answers.write(json.dumps(marks) + "\n")


def listen() -> None:
    """Receive on the socket that is standard input until `END`; then a line of JSON: number -> when it came."""
    arrived: dict[int, int] = {}
    now = time.monotonic_ns
    with socket.socket(fileno=0) as bound, open(1, "w", encoding="utf-8") as answers:
        answers.write("ready\n")
        answers.flush()
        while (data := bound.recv(4096)) != END:
            arrived[number_of(data)] = now()
        answers.write(json.dumps(arrived) + "\n")
