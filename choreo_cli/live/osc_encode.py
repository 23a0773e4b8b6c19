"""Open Sound Control 1.0 written: the same bytes as python-osc makes.

Format: https://opensoundcontrol.stanford.edu/spec-1_0.html.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from functools import lru_cache
from math import isfinite
from typing import Any, NamedTuple

Arg = int | float | str | bytes | bool
Args = tuple[Any, ...]

IMMEDIATELY = 1
BUNDLE = b"#bundle\0"
PATTERN = b"#*,?[]{}"
ADDRESS = bytes(c for c in range(0x21, 0x7F) if c not in PATTERN)
"""What an address is made of: printable ASCII but the space and the characters of patterns."""
ZEROS = (b"", b"\0", b"\0\0", b"\0\0\0", b"\0\0\0\0")

_INT = struct.Struct(">i")
_TIME = struct.Struct(">Q")
_FLOAT = struct.Struct(">f")
_INT64 = struct.Struct(">q")


class OscError(ValueError):
    """A packet that is refused.

    Args:
        reason: Short and always the same for the same fault, so that it can be counted.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Message(NamedTuple):
    """One message.

    Args:
        address: As `/choreo/density`.
        args: int, float, str, bytes or bool; a time tag is its 64-bit integer.
        timetag: NTP time of the innermost bundle around it (32.32 bits), 1 = immediately, None outside a bundle.
    """

    address: str
    args: Args
    timetag: int | None = None


def _text(text: str) -> bytes:
    if not text.isascii() or "\0" in text:
        raise OscError("string not ASCII")
    raw = text.encode("ascii")
    return raw + ZEROS[4 - len(raw) % 4]


@lru_cache(128)
def _head(address: str, tags: str) -> bytes:
    """Bytes of an address and its type tags.

    Raises:
        OscError: The address is not one.
    """
    if not address.startswith("/") or not address.isascii() or address.encode().translate(None, ADDRESS):
        raise OscError("no address")
    return _text(address) + _text("," + tags)


def _part(value: Arg) -> tuple[str, bytes]:
    """Type tag and bytes of an argument: bool T or F, int `i` (`h` beyond 32 bits), float `f`, str `s`, bytes `b`."""
    if isinstance(value, bool):
        return "T" if value else "F", b""
    try:
        if isinstance(value, float):
            if not isfinite(value):
                raise OscError("float not finite")
            return "f", _FLOAT.pack(value)
        if isinstance(value, int):
            # The bound of python-osc: -2**31 has 32 bits and goes out as 64.
            return ("i", _INT.pack(value)) if value.bit_length() <= 31 else ("h", _INT64.pack(value))
    except (struct.error, OverflowError):
        raise OscError("number out of range") from None
    if isinstance(value, str):
        return "s", _text(value)
    if isinstance(value, bytes):
        return "b", _INT.pack(len(value)) + value + ZEROS[-len(value) % 4]
    raise OscError(f"no type tag for {type(value).__name__}")


def encode(address: str, args: Iterable[Arg] = ()) -> bytes:
    """Bytes of one message; the same as python-osc makes of it.

    Raises:
        OscError: An argument cannot be sent, or the address is not one.
    """
    parts = [_part(value) for value in args]
    return _head(address, "".join(tag for tag, _ in parts)) + b"".join(data for _, data in parts)


def encode_bundle(elements: Iterable[Message | bytes], timetag: int = IMMEDIATELY) -> bytes:
    """Bytes of one bundle of messages, or of messages and bundles that are encoded already.

    Raises:
        OscError: as `encode`.
    """
    packed = [e if isinstance(e, bytes) else encode(e.address, e.args) for e in elements]
    return BUNDLE + _TIME.pack(timetag) + b"".join(_INT.pack(len(p)) + p for p in packed)
