"""Hostile packets by the thousand: none hangs, none raises anything but OscError, memory stays flat, the next is read."""

from __future__ import annotations

import random
import time
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from choreo_cli.live.osc import MAX_PACKET, Decoder, OscError, decode
from tests.live.osc_material import GOOD, KILLERS, Mutator
from tests.nightly import size

SECOND = 1.0


def fire(decoder: Decoder, mutator: Mutator, n: int) -> tuple[int, float]:
    """(packets refused, CPU seconds of the slowest); anything but an OscError ends the test."""
    refused, slowest = 0, 0.0
    for _ in range(n):
        packet = mutator.packet()
        begun = time.thread_time()
        try:
            decoder.decode(packet)
        except OscError:
            refused += 1
        slowest = max(slowest, time.thread_time() - begun)
    return refused, slowest


def campaign(n: int, seed: int) -> Decoder:
    """Fire n packets, a fifth of them before memory is first measured; then one good packet."""
    decoder, mutator = Decoder(), Mutator(seed)
    refused, slowest = fire(decoder, mutator, n // 5)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        more, slower = fire(decoder, mutator, n - n // 5)
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert sum(decoder.refused.values()) == refused + more > n // 3
    assert decoder.packets == n and decoder.messages > n // 20, "too few got through to try the rest"
    assert len(decoder.refused) <= 24, "reasons are few and fixed"
    # The cost of a packet is bounded by its 8 KiB; a second means it hung.
    assert max(slowest, slower) < SECOND
    assert grown < 1 << 20
    assert [m.args for m in decoder.decode(GOOD)] == [(0.5,)]
    return decoder


def test_10000_hostile_packets() -> None:
    decoder = campaign(10_000, seed=11)
    reached = {
        "bad element size",
        "float not finite",
        "string not ASCII",
        "nested too deeply",
        "bad blob size",
        "no address",
    }
    assert reached <= set(decoder.refused)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0])
def test_100000_hostile_packets(seed: int) -> None:
    campaign(size(100_000), seed)


@settings(derandomize=True, deadline=None, max_examples=1000, database=None)
@given(
    st.binary(max_size=400),
    st.sampled_from((b"", b"#bundle\0", b"/a\0\0,s\0\0", b"/a\0\0,bfs", b"#bundle\0" + bytes(8))),
)
def test_any_bytes_are_read_or_refused(tail: bytes, head: bytes) -> None:
    try:
        messages = decode(head + tail)
    except OscError as e:
        assert e.reason and len(e.reason) < 60
        return
    assert all(m.address.startswith("/") and m.address.isascii() for m in messages)


def test_the_same_answer_from_memory_and_afresh() -> None:
    decoder, mutator = Decoder(), Mutator(5)
    for _ in range(5000):
        packet = mutator.packet()
        answers = []
        for read in (decode, decoder.decode):
            try:
                answers.append(read(packet))
            except OscError as e:
                answers.append(e.reason)
        assert answers[0] == answers[1]


def test_work_is_bounded_by_the_size_of_a_packet() -> None:
    """The densest packets that fit 8 KiB: most messages, most type tags, most switches, deepest nesting."""
    smallest = b"\0\0\0\x04/a\0\0"
    many = b"#bundle\0" + bytes(8) + smallest * ((MAX_PACKET - 16) // 8)
    assert len(decode(many)) == (MAX_PACKET - 16) // 8
    switches = b"/a\0\0," + b"TF" * 4000 + b"\0" * 3
    assert len(decode(switches)[0].args) == 8000
    with pytest.raises(OscError, match="differ"):
        decode(b"/a\0\0," + b"s" + b"f" * 4000 + b"\0" * 2 + bytes(4))


def test_a_flood_of_killers_does_not_stop_the_next_good_packet() -> None:
    decoder, rnd = Decoder(), random.Random(2)
    for i in range(2000):
        with pytest.raises(OscError):
            decoder.decode(rnd.choice(list(KILLERS.values())))
        assert len(decoder.decode(GOOD)) == 1, i
    assert decoder.messages == 2000
