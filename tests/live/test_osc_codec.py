"""The OSC codec: bytes as python-osc writes them, every rule of reading, and the same answer from memory as afresh."""

from __future__ import annotations

import ast
import math
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from choreo_cli.live import osc
from choreo_cli.live.osc import Decoder, Message, OscError, decode, encode, encode_bundle
from tests.live.osc_material import GOOD, KILLERS, bundle_of, cold, nested, repeated

SETTINGS = settings(derandomize=True, deadline=None, max_examples=300, database=None)
F32 = st.floats(width=32, allow_nan=False, allow_infinity=False)
TEXT = st.text(st.characters(min_codepoint=1, max_codepoint=127), max_size=20)
ARG = st.one_of(
    st.integers(-(2**63), 2**63 - 1), st.integers(-9, 9), F32, TEXT, st.booleans(), st.binary(min_size=1, max_size=20)
)
ARGS = st.lists(ARG, max_size=12)
ADDRESS = st.lists(st.text("abcXYZ019_-.:+~", min_size=1, max_size=9), min_size=1, max_size=4).map(
    lambda p: "/" + "/".join(p)
)


def reason(packet: bytes, decoder: Decoder | None = None) -> str:
    with pytest.raises(OscError) as caught:
        (decoder.decode if decoder else decode)(packet)
    return caught.value.reason


@SETTINGS
@given(ADDRESS, ARGS)
def test_a_message_has_the_bytes_of_python_osc_and_comes_back(address: str, args: list[osc.Arg]) -> None:
    from pythonosc.osc_message_builder import OscMessageBuilder

    builder = OscMessageBuilder(address)
    for arg in args:
        builder.add_arg(arg)
    packet = encode(address, args)
    assert packet == builder.build().dgram
    assert decode(packet) == [Message(address, tuple(args), None)]


@SETTINGS
@given(st.lists(st.tuples(ADDRESS, ARGS), max_size=6))
def test_a_bundle_has_the_bytes_of_python_osc_and_comes_back(content: list[tuple[str, list[osc.Arg]]]) -> None:
    from pythonosc.osc_bundle_builder import IMMEDIATELY, OscBundleBuilder
    from pythonosc.osc_message import OscMessage

    builder = OscBundleBuilder(IMMEDIATELY)
    for address, args in content:
        builder.add_content(OscMessage(encode(address, args)))
    messages = [Message(address, tuple(args), 1) for address, args in content]
    packet = encode_bundle(messages)
    assert packet == builder.build().dgram
    if len(packet) <= osc.MAX_PACKET:
        assert decode(packet) == messages


@SETTINGS
@given(st.lists(st.tuples(st.sampled_from("ifdht"), st.integers(-9, 9)), max_size=12), st.integers(0, 2**64 - 1))
def test_all_numeric_tags_are_read(pairs: list[tuple[str, int]], timetag: int) -> None:
    tags = "".join(tag for tag, _ in pairs)
    values = [abs(v) if tag == "t" else v for tag, v in pairs]
    raw = struct.pack(">" + tags.translate(str.maketrans("ht", "qQ")), *values)
    head = encode("/a", [])[:4] + ("," + tags).encode() + b"\0" * (4 - (len(tags) + 1) % 4)
    assert decode(head + raw) == [Message("/a", tuple(values), None)]
    assert decode(bundle_of(head + raw, timetag=timetag)) == [Message("/a", tuple(values), timetag)]


def test_a_repeated_layout_gives_the_same_messages_as_a_fresh_read() -> None:
    """Five rounds, so that later ones are read by the remembered layouts."""
    decoder = Decoder()
    packets = [p for kind in repeated(5, seed=3).values() for p in kind] + cold(20)
    for packet in packets * 5:
        assert decoder.decode(packet) == decode(packet)
    assert decoder.packets == 5 * len(packets) and decoder.refused == {}
    assert 20 < decoder.facts()["layouts"] <= osc.MAX_LAYOUTS


@pytest.mark.parametrize("kind", ["control", "vector", "inputs", "controls", "phone"])
def test_repeated_numbers_are_read_in_one_go(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = Decoder()
    packets = repeated(3, seed=1)[kind]
    expected = [decode(p) for p in packets]
    for packet in packets:
        decoder.decode(packet)
    monkeypatch.setattr(Decoder, "_afresh", lambda self, packet: pytest.fail("read afresh"))
    assert [decoder.decode(p) for p in packets] == expected


@pytest.mark.parametrize("kind", ["control", "vector", "inputs", "controls", "phone", "named"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_remembered_layout_still_refuses_numbers_that_are_not_finite(kind: str, bad: float) -> None:
    decoder = Decoder()
    packet = repeated(1)[kind][0]
    for _ in range(3):
        decoder.decode(packet)
    broken = packet[:-4] + struct.pack(">f", bad)
    assert reason(broken, decoder) == reason(broken) == "float not finite"


@pytest.mark.parametrize("kind", ["control", "vector", "inputs", "controls", "phone", "named"])
def test_a_remembered_layout_excuses_no_other_byte(kind: str) -> None:
    """Every bit of a packet flipped: from memory comes what comes afresh, be it messages or a refusal."""
    decoder = Decoder()
    packet = repeated(1)[kind][0]
    for _ in range(3):
        decoder.decode(packet)
    for i in range(8 * len(packet)):
        bent = bytearray(packet)
        bent[i // 8] ^= 1 << i % 8
        try:
            expected = decode(bytes(bent))
        except OscError as e:
            assert reason(bytes(bent), decoder) == e.reason
        else:
            assert decoder.decode(bytes(bent)) == expected
        decoder.decode(packet)


def test_finite_doubles_whose_sum_overflows_are_good() -> None:
    packet = b"/a\0\0,dd\0" + struct.pack(">dd", 1.7e308, 1.7e308)
    decoder = Decoder()
    for _ in range(3):
        assert decoder.decode(packet)[0].args == (1.7e308, 1.7e308)
        assert decoder.decode(bundle_of(packet))[0].args == (1.7e308, 1.7e308)


@pytest.mark.parametrize(
    ("packet", "why"),
    [
        (b"", "empty"),
        (b"/abc", "no type tags"),
        (b"/ab\0\0", "size not a multiple of 4"),
        (b"/ab\0,f\0\0" + bytes(8192), "larger than 8 KiB"),
        (b"#bundlf\0" + bytes(12), "no address"),
        (b"\0\0\0\0,f\0\0\0\0\0\0", "no address"),
        (b"/a b\0\0\0\0,\0\0\0", "address not printable ASCII"),
        (b"/a\x7f\0,\0\0\0", "address not printable ASCII"),
        (b"/\xc3\xb6\0,\0\0\0", "address not printable ASCII"),
        *[(f"/a{c}\0,\0\0\0".encode(), "address is a pattern") for c in "#*?[]{}"],
        (b"/a\0x\0\0\0\0,\0\0\0", "address padded with other than zeros"),
        (b"/a\0\0\0\0\0\0,\0\0\0", "address padded with other than zeros"),
        (b"/a\0\0ff\0\0" + bytes(8), "no type tags"),
        (b"/a\0\0,fff", "type tags without end"),
        (b"/a\0\0,f\0x\0\0\0\0", "type tags padded with other than zeros"),
        (b"/a\0\0,m\0\0\0\0\0\0", "type tag not supported"),
        (b"/a\0\0,[f]\0\0\0\0\0\0\0\0", "type tag not supported"),
        (b"/a\0\0,\xffi\0\0\0\0\0", "type tag not supported"),
        (b"/a\0\0,f\0\0", "arguments and type tags differ"),
        (b"/a\0\0,f\0\0" + bytes(8), "arguments and type tags differ"),
        (b"/a\0\0,s\0\0ab\0\0\0\0\0\0", "arguments and type tags differ"),
        (b"/a\0\0,sf\0ab\0\0", "arguments and type tags differ"),
        (b"/a\0\0,b\0\0", "bad blob size"),
        (b"/a\0\0,b\0\0\0\0\0\x05abcd", "bad blob size"),
        (b"/a\0\0,b\0\0\0\0\0\x03abcd", "blob padded with other than zeros"),
        (b"/a\0\0,s\0\0abcd", "string without end"),
        (b"/a\0\0,s\0\0a\0b\0", "string padded with other than zeros"),
        (b"/a\0\0,s\0\0\x80\0\0\0", "string not ASCII"),
        (b"#bundle\0\0\0\0\0", "bundle cut short"),
        (b"#bundle\0" + bytes(12), "bad element size"),
        (b"#bundle\0" + bytes(8) + struct.pack(">i", 6) + b"/a\0\0\0\0\0\0", "bad element size"),
        (bundle_of(b"#bundle\0"), "bundle cut short"),
        (nested(5), "nested too deeply"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_what_is_refused_and_why(packet: bytes, why: str) -> None:
    assert reason(packet) == why
    decoder = Decoder()
    assert reason(packet, decoder) == why
    assert decoder.refused == {why: 1}


@pytest.mark.parametrize("name", KILLERS)
def test_known_killers_are_refused(name: str) -> None:
    reason(KILLERS[name])


def test_four_bundles_deep_and_order_is_kept() -> None:
    assert decode(nested(4)) == [Message("/choreo/density", (0.5,), 1)]
    a, b, c, d = (encode(f"/{name}", [i]) for i, name in enumerate("abcd"))
    packet = bundle_of(a, bundle_of(b, bundle_of(c, timetag=3), timetag=2), d, timetag=1)
    assert [(m.address, m.timetag) for m in decode(packet)] == [("/a", 1), ("/b", 2), ("/c", 3), ("/d", 1)]


def test_a_time_tag_of_the_future_is_kept_and_not_waited_for() -> None:
    """python-osc's dispatcher sleeps until then; here is nothing that could wait."""
    future = (2**32 - 1) << 32
    assert decode(bundle_of(GOOD, timetag=future)) == [Message("/choreo/density", (0.5,), future)]
    for module in ("osc.py", "osc_encode.py"):
        tree = ast.parse((Path(osc.__file__).parent / module).read_text())
        named = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
        named |= {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
        assert not named & {"time", "threading", "socket", "logging", "datetime"}


def test_a_message_without_type_tags_has_no_arguments() -> None:
    assert decode(b"/button\0") == [Message("/button", (), None)]
    assert encode("/button") == b"/button\0,\0\0\0"


def test_the_allow_list_leaves_out_what_is_not_on_it() -> None:
    decoder = Decoder(allow=("/choreo/", "/wek/inputs"))
    packet = bundle_of(GOOD, b"/touch\0\0,N\0\0", encode("/wek/inputs", [1.0]), encode("/wek/outputs", [1.0]))
    for _ in range(3):
        assert [m.address for m in decoder.decode(packet)] == ["/choreo/density", "/wek/inputs"]
    assert (decoder.skipped, decoder.refused) == (6, {})
    assert reason(encode("/other", [1.0]), decoder) == "address not allowed"
    assert reason(bundle_of(encode("/other", [1.0])), decoder) == "address not allowed"
    assert decoder.refused == {"address not allowed": 2}


def test_made_up_addresses_do_not_grow_the_memory_of_layouts() -> None:
    decoder = Decoder()
    for packet in cold(3000):
        decoder.decode(packet)
        decoder.decode(bundle_of(packet))
        assert decoder.facts()["layouts"] <= osc.MAX_LAYOUTS
    assert decoder.decode(GOOD) == decode(GOOD)


@pytest.mark.parametrize(
    ("address", "args", "why"),
    [
        ("density", [], "no address"),
        ("/a b", [], "no address"),
        ("/a*", [], "no address"),
        ("/\u00f6", [], "no address"),
        ("/a", [math.nan], "float not finite"),
        ("/a", [1e39], "number out of range"),
        ("/a", [2**63], "number out of range"),
        ("/a", ["\u00f6"], "string not ASCII"),
        ("/a", ["a\0b"], "string not ASCII"),
        ("/a", [None], "no type tag for NoneType"),
    ],
)
def test_what_cannot_be_sent(address: str, args: list[osc.Arg], why: str) -> None:
    with pytest.raises(OscError, match=why):
        encode(address, args)


def test_the_edges_of_what_fits() -> None:
    whole = b"/a\0\0,b\0\0" + struct.pack(">i", osc.MAX_PACKET - 12) + bytes(osc.MAX_PACKET - 12)
    assert len(whole) == osc.MAX_PACKET and len(decode(whole)[0].args[0]) == osc.MAX_PACKET - 12
    assert decode(b"/a\0\0,b\0\0\0\0\0\0") == [Message("/a", (b"",), None)]
    assert decode(b"/a\0\0,s\0\0\0\0\0\0") == [Message("/a", ("",), None)]


def test_layouts_of_one_size_with_other_addresses_are_all_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    packets = [encode("/ab", [1.0, 2.0]), encode("/abcde", [3.0]), encode("/ba", [4.0, 5.0])]
    assert len({len(p) for p in packets}) == 1
    decoder = Decoder()
    expected = [decoder.decode(p) for p in packets]
    monkeypatch.setattr(Decoder, "_afresh", lambda self, packet: pytest.fail("read afresh"))
    assert [decoder.decode(p) for p in packets] == expected


@pytest.mark.parametrize(
    "packet",
    [encode("/a", [1.0] * 250), encode_bundle([Message("/a", (1,))] * 17), encode("/a", ["x" * 1100])],
    ids=["bytes", "messages", "text"],
)
def test_large_layouts_are_read_but_not_remembered(packet: bytes) -> None:
    decoder = Decoder()
    for _ in range(3):
        assert decoder.decode(packet) == decode(packet)
    assert decoder.facts()["layouts"] == 0
