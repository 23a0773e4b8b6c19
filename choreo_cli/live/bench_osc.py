"""Measure our OSC decoder and encoder beside python-osc, with the bare `struct` calls and a raw socket as floors.

Cold is a packet that is read afresh; first, the same with its layout remembered, where none of them ever comes again
(the worst a sender can do); known, a packet whose layout is remembered, as all but the first few of a performance are.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from choreo_cli.live.contest import F64, Spread, in_turns, spread, timed
from choreo_cli.live.osc import Decoder, Message, encode, encode_bundle
from formats.columns import CONTROL_NAMES
from formats.metrics import Named, entry

COLD_TIMES, KNOWN_TIMES = 1.5, 5.0
PER_LAYOUT = 40
US = 1e6
NO_PEER = "python-osc is not installed: pip install 'choreo[bench]'"
Packed = list[list[Message]]
Decode = Callable[[bytes], object]


def bench(*, rounds: int = 60, count: int = 5) -> list[dict[str, Any]]:
    """Metric entries of OSC; microseconds a packet.

    Args:
        rounds: Rounds in which every contestant has its turn.
        count: Passes over all packets in a turn.
    """
    known, cold = material(0), material(0, cold=True)
    peer = _peer()
    found = in_turns(contestants(known, cold, peer), rounds, count)
    took = {name: spread(v, US) for name, v in found.items()} | loopback(known, rounds * count, peer)
    equal = None if peer is None else same(known, peer) and same(cold, peer)
    return rows(took, {"packets": len(known), "equal": equal, "layouts": len(layouts("", np.random.default_rng(0)))})


def layouts(prefix: str, rng: np.random.Generator) -> Packed:
    """One packet of each kind that arrives here, as messages: several of them are a bundle."""

    def floats(n: int) -> tuple[float, ...]:
        return tuple(rng.random(n).astype(np.float32).tolist())

    sensors = (("accel", 3), ("gravity", 3), ("gyro", 3), ("quaternion", 4))
    return [
        [Message(f"{prefix}/ZIGSIM/phone/{name}", floats(n)) for name, n in sensors],
        [Message(f"{prefix}/gyrosc/rrate", floats(3))],
        [Message(f"{prefix}/wek/inputs", floats(11))],
        [Message(f"{prefix}/accxyz", floats(3))],
        [Message(f"{prefix}/choreo/{name}", floats(1)) for name in CONTROL_NAMES],
        [Message(f"{prefix}/choreo/frame", (int(rng.integers(1 << 30)), *floats(5)))],
        [Message(f"{prefix}/ctrl", ("density", *floats(1)))],
    ]


def material(seed: int, *, cold: bool = False) -> Packed:
    """Packets of all layouts, mixed.

    Args:
        seed: Of their numbers and their order.
        cold: Every packet has addresses of its own, so that none can be known from an earlier one.
    """
    rng = np.random.default_rng(seed)
    found: Packed = []
    for k in range(PER_LAYOUT):
        found += layouts(f"/p{k:03d}" if cold else "", rng)
    return [found[k] for k in rng.permutation(len(found))]


def pack(messages: Sequence[Message]) -> bytes:
    """Bytes of one packet."""
    return encode_bundle(messages) if len(messages) > 1 else encode(messages[0].address, messages[0].args)


def _peer() -> Decode | None:
    try:
        from pythonosc.osc_packet import OscPacket
    except ImportError:
        return None
    decode: Decode = OscPacket
    return decode


def same(packets: Packed, peer: Any) -> bool:
    """Whether both decoders find the same messages in all packets."""
    decoder = Decoder()
    for messages in packets:
        found = sorted((m.address, m.args) for m in decoder.decode(pack(messages)))
        theirs = sorted((t.message.address, tuple(t.message.params)) for t in peer(pack(messages)).messages)
        if found != theirs:
            return False
    return True


def contestants(known: Packed, cold: Packed, peer: Decode | None) -> dict[str, Any]:
    """Turns of everything that needs no socket; one call goes over all packets."""
    packed = {"known": [pack(m) for m in known], "cold": [pack(m) for m in cold]}
    n, decoder = len(known), Decoder()

    def over(packets: list[bytes], decode: Decode) -> Callable[[int], None]:
        def run(_: int) -> None:
            for packet in packets:
                decode(packet)

        return run

    def fresh(_: int) -> None:
        decode = Decoder().decode
        for packet in packed["cold"]:
            decode(packet)

    def encoding(_: int) -> None:
        for messages in known:
            pack(messages)

    runs: dict[str, Any] = {
        "known": timed(over(packed["known"], decoder.decode), n),
        "cold": timed(over(packed["cold"], Decoder(layouts=0).decode), n),
        "first": timed(fresh, n),
        "encode": timed(encoding, n),
        "known_floor": timed(unpacking(known), n),
        "cold_floor": timed(unpacking(cold), n),
        "encode_floor": timed(packing(known), n),
    }
    if peer is not None:
        runs["known_peer"] = timed(over(packed["known"], peer), n)
        runs["cold_peer"] = timed(over(packed["cold"], peer), n)
        runs["encode_peer"] = timed(peer_encoding(known), n)
    return runs


def _forms(packets: Packed) -> list[tuple[struct.Struct, bytes, tuple[Any, ...]]]:
    """A `Struct` that is ready, its bytes and its values, for the numbers of every packet."""
    found = []
    for messages in packets:
        values = tuple(v for m in messages for v in m.args if not isinstance(v, str))
        form = struct.Struct(">" + "".join("i" if isinstance(v, int) else "f" for v in values))
        found.append((form, form.pack(*values), values))
    return found


def unpacking(packets: Packed) -> Callable[[int], None]:
    """`unpack_from` alone: no address, no check."""
    calls = [(form.unpack_from, data) for form, data, _ in _forms(packets)]

    def run(_: int) -> None:
        for unpack, data in calls:
            unpack(data, 0)

    return run


def packing(packets: Packed) -> Callable[[int], None]:
    """`pack` alone."""
    calls = [(form.pack, values) for form, _, values in _forms(packets)]

    def run(_: int) -> None:
        for make, values in calls:
            make(*values)

    return run


def peer_encoding(packets: Packed) -> Callable[[int], None]:
    """The same packets by python-osc's builders."""
    from pythonosc.osc_bundle_builder import IMMEDIATELY, OscBundleBuilder
    from pythonosc.osc_message_builder import OscMessageBuilder

    def message(m: Message) -> Any:
        builder = OscMessageBuilder(m.address)
        for value in m.args:
            builder.add_arg(value)
        return builder.build()

    def run(_: int) -> None:
        for messages in packets:
            if len(messages) == 1:
                message(messages[0])
                continue
            bundle = OscBundleBuilder(IMMEDIATELY)
            for m in messages:
                bundle.add_content(message(m))
            bundle.build()

    return run


def loopback(packets: Packed, rounds: int, peer: Decode | None) -> dict[str, Spread]:
    """Encode, send, receive and decode one packet in one thread: ours, python-osc's, and the bytes alone."""
    ours = [pack(m) for m in packets]
    decoder = Decoder()
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as to,
    ):
        here.bind(("127.0.0.1", 0))
        here.settimeout(2.0)
        to.connect(here.getsockname())

        def through(data: bytes) -> bytes:
            to.send(data)
            return here.recv(8192)

        n = len(packets)
        runs: dict[str, Any] = {
            "loop": timed(lambda k: decoder.decode(through(pack(packets[k % n])))),
            "loop_floor": timed(lambda k: through(ours[k % n])),
        }
        if peer is not None:
            built = [peer_encoding([m]) for m in packets]

            def theirs(k: int) -> None:
                built[k % n](0)  # their bytes are ours: a test of the codec holds it
                peer(through(ours[k % n]))

            runs["loop_peer"] = timed(theirs)
        found: dict[str, F64] = in_turns(runs, max(2, rounds // 10), 100)
    return {name: spread(v, US) for name, v in found.items()}


def rows(took: dict[str, Spread], about: dict[str, Any]) -> list[dict[str, Any]]:
    """Entries from microseconds a packet."""
    bare = "struct.unpack_from alone, p50"
    return [
        _row("live.osc_cold", "cold", took, COLD_TIMES, bare, about),
        _row("live.osc_first", "first", took | _as("first", "cold", took), None, bare, about),
        _row("live.osc_known", "known", took, KNOWN_TIMES, bare, about),
        _row("live.osc_encode", "encode", took, None, "struct.pack alone, p50", about),
        _row("live.osc_loopback", "loop", took, None, "raw socket, p50", about),
    ]


def _as(name: str, other: str, took: dict[str, Spread]) -> dict[str, Spread]:
    """Floor and peer of another row, which are the same calls on the same packets."""
    return {f"{name}_{k}": took[f"{other}_{k}"] for k in ("floor", "peer") if f"{other}_{k}" in took}


def _row(
    name: str, key: str, took: dict[str, Spread], times: float | None, bare: str, about: dict[str, Any]
) -> dict[str, Any]:
    mine, theirs = took[key], took.get(f"{key}_peer")
    floor: Named = (bare, took[f"{key}_floor"].p50)
    params = {**about, **mine.facts(), "goal_times": times}
    if theirs is None:
        return entry(name, mine.p50, "us", "lower", n=mine.n, floor=floor, params=params, why=NO_PEER)
    params |= {"peer": theirs.facts(), "times_faster": round(theirs.p50 / mine.p50, 2)}
    return entry(
        name, mine.p50, "us", "lower", n=mine.n, baseline=("python-osc, p50", theirs.p50), floor=floor,
        goal=None if times is None else ("<=", theirs.p50 / times), params=params,
    )  # fmt: skip
