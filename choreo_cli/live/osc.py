"""Open Sound Control 1.0, read: every byte is checked, nothing hangs, sleeps or recurses.

Format: https://opensoundcontrol.stanford.edu/spec-1_0.html. What is refused although the standard has it: type tags
other than `ifdhsTFtb`, address patterns, text that is not ASCII, floats that are not finite. Time tags are kept as they
are and never waited for.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from functools import lru_cache
from math import isfinite
from operator import itemgetter
from typing import Any, NamedTuple

from choreo_cli.live.osc_encode import (
    ADDRESS,
    BUNDLE,
    IMMEDIATELY,
    PATTERN,
    ZEROS,
    Arg,
    Args,
    Message,
    OscError,
    encode,
    encode_bundle,
)

__all__ = ["IMMEDIATELY", "Arg", "Args", "Decoder", "Message", "OscError", "decode", "encode", "encode_bundle"]

MAX_PACKET = 8192
MAX_DEPTH = 4
# What is remembered stays below a few MB, whatever arrives.
MAX_LAYOUTS = 256
LAYOUTS_PER_SIZE = 8
LAYOUT_BYTES = 1024
LAYOUT_MESSAGES = 16
LAYOUT_TAGS = 128
TAGS = b"ifdhsTFtb"

_FORMATS = {"i": "i", "f": "f", "d": "d", "h": "q", "t": "Q", "T": "", "F": ""}
_INT = struct.Struct(">i")
_TIME = struct.Struct(">Q")


class Form(NamedTuple):
    """How arguments with certain type tags are read.

    Args:
        tags: Without the comma.
        unpack: Reads all of them in one go, None with strings and blobs.
        size: Bytes they take, 0 when strings and blobs decide.
        floats: Some may be not finite.
        switches: Some are T or F, which have no bytes.
        steps: With strings and blobs: these one by one, and the runs of other tags between them.
    """

    tags: str
    unpack: Callable[[bytes, int], Args] | None
    size: int
    floats: bool
    switches: bool
    steps: tuple[Any, ...] = ()


class BundleLayout(NamedTuple):
    """A flat bundle of numbers, read by one `unpack` and one comparison of all that is not a number.

    Args:
        unpack: Of the whole packet.
        fixed: Picks the marker, sizes, addresses and type tags out of what was unpacked.
        expected: What they must be.
        numbers: Picks all arguments.
        parts: (address, begin, end) of the arguments of each message.
    """

    unpack: Callable[[bytes], Args]
    fixed: Callable[[Args], Args]
    expected: Args
    numbers: Callable[[Args], Args]
    parts: list[tuple[str, int, int]]


# A message as it lies in its packet: its first byte, that of its arguments, and what was read.
Element = tuple[int, int, str, Form, Args]
Found = tuple[list[Message], list[Element], int]
ANY = ("/",)
# Half the cost of a call with the names of the fields.
_message: Callable[[type[Message], Args], Message] = tuple.__new__


class Decoder:
    """Packets into messages, for one thread.

    A layout that repeats (same size, addresses and type tags) is read by one `unpack_from`; that it is the same layout
    and that its numbers are finite is checked in every packet.

    Args:
        allow: Beginnings of the addresses to let through.
        layouts: How many layouts to remember; 0 reads every packet afresh.
    """

    def __init__(self, allow: Iterable[str] = ANY, layouts: int = MAX_LAYOUTS) -> None:
        self.allow = ANY if tuple(allow) == ANY else tuple(allow)
        self.packets = 0
        self.messages = 0
        self.skipped = 0
        self.refused: dict[str, int] = {}
        self._most = layouts
        self._kept = 0
        self._single: dict[int, list[tuple[int, dict[bytes, tuple[str, Form]]]]] = {}
        self._bundles: dict[int, list[BundleLayout]] = {}
        self._sizes: set[int] = set()

    def decode(self, packet: bytes) -> list[Message]:
        """Messages of a packet in order; those of a bundle that are not on the allow-list are left out and counted.

        Raises:
            OscError: The packet is not whole and sound, or nothing in it is on the allow-list. Counted by reason.
        """
        self.packets += 1
        size = len(packet)
        try:
            for start, known in self._single.get(size, ()):
                if (found := known.get(packet[:start])) is not None:
                    address, form = found
                    if form[1] is None:
                        args = _read_args(packet, start, size, form.steps)
                    else:
                        args = form[1](packet, start)
                        if form[3] and not isfinite(sum(args)):
                            break
                    self.messages += 1
                    return [_message(Message, (address, args, None))]
            for layout in self._bundles.get(size, ()):
                values = layout.unpack(packet)
                if layout.fixed(values) == layout.expected and isfinite(sum(layout.numbers(values))):
                    self.messages += len(layout.parts)
                    timetag = values[1]
                    return [_message(Message, (address, values[a:b], timetag)) for address, a, b in layout.parts]
            return self._afresh(packet)
        except OscError as e:
            self.refused[e.reason] = self.refused.get(e.reason, 0) + 1
            raise

    def facts(self) -> dict[str, Any]:
        """Counters."""
        return {
            "packets": self.packets,
            "messages": self.messages,
            "skipped": self.skipped,
            "refused": dict(sorted(self.refused.items())),
            "layouts": self._kept,
        }

    def _afresh(self, packet: bytes) -> list[Message]:
        read = _read_bundle if packet[:8] == BUNDLE else _read_single
        found, elements, skipped = read(packet, self.allow)
        if skipped:
            self.skipped += skipped
            if not found:
                raise OscError("address not allowed")
        elif self._most and elements:
            self._keep(packet, elements)
        self.messages += len(found)
        return found

    def _keep(self, packet: bytes, elements: list[Element]) -> None:
        """Remember the layout of a packet."""
        size = len(packet)
        first, start, address, form, _ = elements[0]
        bundle = first > 0
        if size > LAYOUT_BYTES or len(elements) > LAYOUT_MESSAGES:
            return
        if form.switches or (bundle and any(e[3].unpack is None or e[3].switches for e in elements)):
            return
        if bundle and size not in self._sizes:
            # A bundle's layout costs more to make than to read afresh: made when its size comes a second time.
            self._sizes.add(size)
            return
        if self._kept >= self._most:
            # Made-up addresses cannot grow the memory; the real layouts are back with their next packets.
            self._single.clear()
            self._bundles.clear()
            self._kept = 0
        self._kept += 1
        if bundle:
            layouts = self._bundles.setdefault(size, [])
            layouts.insert(0, _bundle_layout(packet, elements))
            del layouts[LAYOUTS_PER_SIZE:]
            return
        starts = self._single.setdefault(size, [])
        for at, known in starts:
            if at == start:
                known[packet[:start]] = (address, form)
                return
        starts.append((start, {packet[:start]: (address, form)}))


def decode(packet: bytes) -> list[Message]:
    """Messages of one packet, read afresh, all addresses let through.

    Raises:
        OscError: as `Decoder.decode`.
    """
    return (_read_bundle if packet[:8] == BUNDLE else _read_single)(packet, ANY)[0]


def _size_fault(size: int) -> OscError:
    return OscError("empty" if not size else "larger than 8 KiB" if size > MAX_PACKET else "size not a multiple of 4")


def _read_single(packet: bytes, allow: tuple[str, ...]) -> Found:
    size = len(packet)
    if not 0 < size <= MAX_PACKET or size & 3:
        raise _size_fault(size)
    element = _read_element(packet, 0, size, allow)
    if element is None:
        return [], [], 1
    return [_message(Message, (element[2], element[4], None))], [element], 0


def _read_bundle(packet: bytes, allow: tuple[str, ...]) -> Found:
    """Messages in order, their places when the bundle is flat, and how many are not on the allow-list."""
    if len(packet) > MAX_PACKET or len(packet) & 3:
        raise _size_fault(len(packet))
    found: list[Message] = []
    elements: list[Element] = []
    skipped, flat = 0, True
    # (next element, end, depth, time tag) of the bundles that are open: a list, so that depth costs no stack.
    todo = [(16, len(packet), 1, _timetag(packet, 8, len(packet)))]
    while todo:
        at, end, depth, timetag = todo.pop()
        while at < end:
            first, size = at + 4, _INT.unpack_from(packet, at)[0]
            at = first + size
            if size <= 0 or size % 4 or at > end:
                raise OscError("bad element size")
            if packet[first : first + 8] == BUNDLE:
                if depth == MAX_DEPTH:
                    raise OscError("nested too deeply")
                flat = False
                todo += [(at, end, depth, timetag), (first + 16, at, depth + 1, _timetag(packet, first + 8, at))]
                break
            element = _read_element(packet, first, at, allow)
            if element is None:
                skipped += 1
            else:
                elements.append(element)
                found.append(_message(Message, (element[2], element[4], timetag)))
    return found, elements if flat else [], skipped


def _timetag(packet: bytes, at: int, end: int) -> int:
    if at + 8 > end:
        raise OscError("bundle cut short")
    timetag: int = _TIME.unpack_from(packet, at)[0]
    return timetag


def _read_element(packet: bytes, first: int, end: int, allow: tuple[str, ...]) -> Element | None:
    """The message in these bytes, None when its address is not on the allow-list."""
    comma = packet.find(b"\0,", first, end) + 1
    # Old senders leave out the type tags of a message without arguments.
    stop = comma or end
    name = packet[first:stop].rstrip(b"\0")
    if packet[first] != 47 or name.translate(None, ADDRESS) or not 0 < stop - first - len(name) <= 4 or stop & 3:
        raise OscError(_address_fault(name, comma))
    address = name.decode()
    if allow is not ANY and not address.startswith(allow):
        return None
    if not comma:
        return first, end, address, _form(b""), ()
    stop = packet.find(b"\0", comma, end)
    if stop < 0:
        raise OscError("type tags without end")
    start = (stop & ~3) + 4
    if packet[stop:start] != ZEROS[start - stop]:
        raise OscError("type tags padded with other than zeros")
    form = _form(packet[comma + 1 : stop]) if stop - comma < LAYOUT_TAGS else _new_form(packet[comma + 1 : stop])
    unpack = form[1]
    if unpack is None:
        args = _read_args(packet, start, end, form.steps)
    elif start + form[2] != end:
        raise OscError("arguments and type tags differ")
    else:
        args = unpack(packet, start)
        # One sum tells of any inf or NaN; finite doubles may still overflow it.
        if form[3] and not isfinite(sum(args)) and not all(map(isfinite, args)):
            raise OscError("float not finite")
        if form[4]:
            args = _with_switches(form.tags, args)
    return first, start, address, form, args


def _address_fault(name: bytes, comma: int) -> str:
    if name[:1] != b"/":
        return "no address"
    odd = name.translate(None, ADDRESS).strip(b"\0")
    if odd:
        return "address is a pattern" if odd[0] in PATTERN else "address not printable ASCII"
    return "address padded with other than zeros" if comma else "no type tags"


def _new_form(tags: bytes) -> Form:
    """How arguments with these tags are read.

    Raises:
        OscError: A tag is not among `TAGS`.
    """
    if tags.translate(None, TAGS):
        raise OscError("type tag not supported")
    text = tags.decode()
    if "s" in text or "b" in text:
        return Form(text, None, 0, False, False, _steps(text))
    reader = struct.Struct(">" + "".join(_FORMATS[tag] for tag in text))
    return Form(text, reader.unpack_from, reader.size, "f" in text or "d" in text, "T" in text or "F" in text)


_form = lru_cache(MAX_LAYOUTS)(_new_form)


def _steps(tags: str) -> tuple[Any, ...]:
    """`s` and `b`, and a `Form` for each run of other tags."""
    steps: list[Any] = []
    run = ""
    for tag in tags + "s":
        if tag not in "sb":
            run += tag
            continue
        if run:
            steps.append(_new_form(run.encode()))
        run = ""
        steps.append(tag)
    return tuple(steps[:-1])


def _with_switches(tags: str, values: Args) -> Args:
    rest = iter(values)
    return tuple(tag == "T" if tag in "TF" else next(rest) for tag in tags)


def _bundle_layout(packet: bytes, elements: list[Element]) -> BundleLayout:
    form, index = ">8sQ", 2
    fixed, numbers, expected = [0], list[int](), [BUNDLE]
    parts = []
    for first, start, address, how, args in elements:
        expected.append(packet[first - 4 : start])
        form += f"{len(expected[-1])}s" + "".join(_FORMATS[tag] for tag in how.tags)
        fixed.append(index)
        begin, index = index + 1, index + 1 + len(args)
        numbers += range(begin, index)
        parts.append((address, begin, index))
    # With one index itemgetter gives no tuple; a number summed twice is as finite as it is.
    twice = numbers * 2
    pick: Callable[[Args], Args] = itemgetter(*twice) if twice else lambda _: ()
    return BundleLayout(struct.Struct(form).unpack, itemgetter(*fixed), tuple(expected), pick, parts)


def _read_args(packet: bytes, at: int, end: int, steps: tuple[Any, ...]) -> Args:
    """Arguments one by one, as strings and blobs need it."""
    args: list[Any] = []
    for step in steps:
        if step == "s":
            stop = packet.find(b"\0", at, end)
            if stop < 0:
                raise OscError("string without end")
            text = packet[at:stop]
            if not text.isascii():
                raise OscError("string not ASCII")
            args.append(text.decode())
            at = _padded(packet, stop + 1, end, "string")
        elif step == "b":
            first = at + 4
            size = _INT.unpack_from(packet, at)[0] if first <= end else -1
            if size < 0 or first + size > end:
                raise OscError("bad blob size")
            args.append(packet[first : first + size])
            at = _padded(packet, first + size, end, "blob")
        else:
            if at + step.size > end:
                raise OscError("arguments and type tags differ")
            values = step.unpack(packet, at)
            if step.floats and not isfinite(sum(values)) and not all(map(isfinite, values)):
                raise OscError("float not finite")
            args += _with_switches(step.tags, values) if step.switches else values
            at += step.size
    if at != end:
        raise OscError("arguments and type tags differ")
    return tuple(args)


def _padded(packet: bytes, stop: int, end: int, what: str) -> int:
    """The next multiple of 4 from `stop` on, within `end` and all zeros until there."""
    after = (stop + 3) & ~3
    if after > end or packet[stop:after] != ZEROS[after - stop]:
        raise OscError(f"{what} padded with other than zeros")
    return after
